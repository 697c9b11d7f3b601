-- What server metrics were, a row a minute, metric and peer (docs/server-metrics.md), or several that add up: several engines ask the same
-- servers. Plain PostgreSQL: weir makes a partition a month and drops those that are too old.

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
) PARTITION BY RANGE (minute);

CREATE TABLE weir_metric_other PARTITION OF weir_metric DEFAULT;

CREATE INDEX ON weir_metric (series, minute);

CREATE VIEW weir_metrics AS
SELECT m.minute, s.pool, s.peer, s.metric, m.samples, m.mean, m.lowest, m.highest, e.instance, e.zone
FROM weir_metric m
JOIN weir_metric_series s ON s.id = m.series
JOIN weir_engine e ON e.id = m.engine;
