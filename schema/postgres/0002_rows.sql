-- Plain PostgreSQL: weir makes the partitions ahead (days of outcomes, months of rollups) and drops those that are too old.

-- One row an attempt. kind: 0 ok, 1 refused, 2 connect time-out, 3 time-out, 4 reset, 5 failure status, 6 client abort, 7 idle race.
-- flags: 1 explored, 2 control, 4 stream, 8 local rule, 16 panic. -1 in header_ms, predicted_ms and load is "none". rate is the
-- probability with which the row was kept. The order of columns leaves no gaps between them.
CREATE TABLE weir_outcome (
    at timestamptz NOT NULL,
    bytes bigint NOT NULL,
    series integer NOT NULL,
    engine integer NOT NULL,
    status integer NOT NULL,
    flags integer NOT NULL,
    inflight integer NOT NULL,
    propensity real NOT NULL,
    header_ms real NOT NULL,
    total_ms real NOT NULL,
    weight real NOT NULL,
    predicted_ms real NOT NULL,
    load real NOT NULL,
    rate real NOT NULL,
    attempt smallint NOT NULL,
    kind smallint NOT NULL
) PARTITION BY RANGE (at);

-- One row a minute and series, or several that add up: outcomes that came late, several engines. sketch is a DDSketch of the
-- answered attempts' latencies (engine/history/sketch); p50, p90 and p99 are of this row alone, NaN when none was answered.
CREATE TABLE weir_rollup (
    minute timestamptz NOT NULL,
    attempts bigint NOT NULL,
    failures bigint NOT NULL,
    others bigint NOT NULL,
    bytes bigint NOT NULL,
    sum_ms double precision NOT NULL,
    series integer NOT NULL,
    engine integer NOT NULL,
    max_ms real NOT NULL,
    p50_ms real NOT NULL,
    p90_ms real NOT NULL,
    p99_ms real NOT NULL,
    sketch bytea NOT NULL
) PARTITION BY RANGE (minute);

-- For what fits no partition: times far off. It is emptied by age too.
CREATE TABLE weir_outcome_other PARTITION OF weir_outcome DEFAULT;

CREATE TABLE weir_rollup_other PARTITION OF weir_rollup DEFAULT;

-- Rows come in the order of time, so a few bytes for each 32 pages find a time. A B-tree would cost each insert.
CREATE INDEX ON weir_outcome USING brin (at) WITH (pages_per_range = 32);

CREATE INDEX ON weir_rollup (series, minute);

CREATE VIEW weir_outcomes AS
SELECT o.at, s.pool, s.peer, s.class, o.attempt, o.kind, o.status, o.flags, o.inflight, o.bytes, o.propensity, o.header_ms,
    o.total_ms, o.weight, o.predicted_ms, o.load, o.rate, e.instance, e.zone
FROM weir_outcome o
JOIN weir_series s ON s.id = o.series
JOIN weir_engine e ON e.id = o.engine;

CREATE VIEW weir_minutes AS
SELECT r.minute, s.pool, s.peer, s.class, r.attempts, r.failures, r.others, r.bytes, r.sum_ms, r.max_ms, r.p50_ms, r.p90_ms,
    r.p99_ms, e.instance, e.zone
FROM weir_rollup r
JOIN weir_series s ON s.id = r.series
JOIN weir_engine e ON e.id = r.engine;
