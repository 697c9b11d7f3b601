-- For dashboards that speak SQL: per minute and hour, kept up to date by TimescaleDB, and real-time for what is newer. Counts and
-- means are estimates from kept outcomes, each weighted by 1/rate; weir's own answers come from weir_rollup, which counts all.

CREATE MATERIALIZED VIEW weir_outcome_minute WITH (timescaledb.continuous) AS
SELECT time_bucket(INTERVAL '1 minute', at) AS minute, series,
    sum(1 / rate) AS attempts,
    sum(CASE WHEN kind BETWEEN 1 AND 5 THEN 1 / rate ELSE 0 END) AS failures,
    sum(CASE WHEN kind = 0 THEN 1 / rate ELSE 0 END) AS answered,
    sum(CASE WHEN kind = 0 THEN total_ms / rate ELSE 0 END) AS sum_ms,
    max(CASE WHEN kind = 0 THEN total_ms END) AS max_ms
FROM weir_outcome
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy('weir_outcome_minute', start_offset => INTERVAL '1 day', end_offset => INTERVAL '2 minutes',
    schedule_interval => INTERVAL '1 minute');

-- class '' of weir_series has the sums over classes: do not add them up again.
CREATE MATERIALIZED VIEW weir_hour WITH (timescaledb.continuous) AS
SELECT time_bucket(INTERVAL '1 hour', minute) AS hour, series,
    sum(attempts) AS attempts, sum(failures) AS failures, sum(others) AS others, sum(bytes) AS bytes, sum(sum_ms) AS sum_ms,
    max(max_ms) AS max_ms
FROM weir_rollup
GROUP BY 1, 2
WITH NO DATA;

SELECT add_continuous_aggregate_policy('weir_hour', start_offset => INTERVAL '7 days', end_offset => INTERVAL '1 hour',
    schedule_interval => INTERVAL '15 minutes');
