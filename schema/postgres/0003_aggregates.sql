-- The same for plain PostgreSQL: computed when asked for. weir_hour is read from weir_rollup, which is sixty times smaller than
-- the outcomes.

CREATE VIEW weir_outcome_minute AS
SELECT date_trunc('minute', at) AS minute, series,
    sum(1 / rate) AS attempts,
    sum(CASE WHEN kind BETWEEN 1 AND 5 THEN 1 / rate ELSE 0 END) AS failures,
    sum(CASE WHEN kind = 0 THEN 1 / rate ELSE 0 END) AS answered,
    sum(CASE WHEN kind = 0 THEN total_ms / rate ELSE 0 END) AS sum_ms,
    max(CASE WHEN kind = 0 THEN total_ms END) AS max_ms
FROM weir_outcome
GROUP BY 1, 2;

CREATE VIEW weir_hour AS
SELECT date_trunc('hour', minute) AS hour, series,
    sum(attempts) AS attempts, sum(failures) AS failures, sum(others) AS others, sum(bytes) AS bytes, sum(sum_ms) AS sum_ms,
    max(max_ms) AS max_ms
FROM weir_rollup
GROUP BY 1, 2;
