-- What server metrics were (docs/server-metrics.md): those of one pool and minute in a row (engine/history/metriccodec.go). A minute has
-- several rows when values of it came late.

CREATE TABLE metric_series (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    peer TEXT NOT NULL,
    metric TEXT NOT NULL,
    UNIQUE (pool, peer, metric)
);

CREATE TABLE metrics (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    minute_ms INTEGER NOT NULL,
    data BLOB NOT NULL
);

CREATE INDEX metrics_minute ON metrics (minute_ms);

CREATE INDEX metrics_pool ON metrics (pool, minute_ms);
