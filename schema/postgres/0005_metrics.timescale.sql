-- What server metrics were, a row a minute, metric and peer (docs/server-metrics.md), or several that add up: several engines ask the same
-- servers. TimescaleDB: chunks of a week, compressed after two, dropped by weir's retention.

CREATE TABLE weir_metric_series (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pool text NOT NULL,
    peer text NOT NULL,
    metric text NOT NULL,
    UNIQUE (pool, peer, metric)
);

CREATE TABLE weir_metric (
    minute timestamptz NOT NULL,
    mean double precision NOT NULL,
    lowest double precision NOT NULL,
    highest double precision NOT NULL,
    series integer NOT NULL,
    engine integer NOT NULL,
    samples integer NOT NULL
);

SELECT create_hypertable('weir_metric', 'minute', chunk_time_interval => INTERVAL '7 days', create_default_indexes => false);

CREATE INDEX ON weir_metric (series, minute);

ALTER TABLE weir_metric SET (timescaledb.compress, timescaledb.compress_segmentby = 'series', timescaledb.compress_orderby = 'minute');

SELECT add_compression_policy('weir_metric', INTERVAL '14 days');

CREATE VIEW weir_metrics AS
SELECT m.minute, s.pool, s.peer, s.metric, m.samples, m.mean, m.lowest, m.highest, e.instance, e.zone
FROM weir_metric m
JOIN weir_metric_series s ON s.id = m.series
JOIN weir_engine e ON e.id = m.engine;
