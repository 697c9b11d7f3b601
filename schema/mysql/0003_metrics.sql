-- What server metrics were, a row a minute, metric and peer (docs/server-metrics.md), or several that add up: several engines ask the same
-- servers. weir cuts the table into months. n and its key: see 0001.

CREATE TABLE IF NOT EXISTS weir_metric_series (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    pool VARCHAR(64) NOT NULL,
    peer VARCHAR(256) NOT NULL,
    metric VARCHAR(256) NOT NULL,
    UNIQUE KEY (pool, peer, metric)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS weir_metric (
    minute_ms BIGINT NOT NULL,
    series INT NOT NULL,
    engine INT NOT NULL,
    samples INT NOT NULL,
    mean DOUBLE NOT NULL,
    lowest DOUBLE NOT NULL,
    highest DOUBLE NOT NULL,
    n BIGINT UNSIGNED NOT NULL DEFAULT (UUID_SHORT()),
    PRIMARY KEY (series, minute_ms, n)
) ENGINE=InnoDB
PARTITION BY RANGE (minute_ms) (PARTITION later VALUES LESS THAN MAXVALUE);

CREATE OR REPLACE VIEW weir_metrics AS
SELECT FROM_UNIXTIME(m.minute_ms / 1000) AS minute, s.pool, s.peer, s.metric, m.samples, m.mean, m.lowest, m.highest, e.instance, e.zone
FROM weir_metric m
JOIN weir_metric_series s ON s.id = m.series
JOIN weir_engine e ON e.id = m.engine;
