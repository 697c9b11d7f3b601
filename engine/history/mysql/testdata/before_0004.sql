-- The tables that 0004 changes, as they were made before it.

CREATE TABLE IF NOT EXISTS weir_outcome (
    at_ms BIGINT NOT NULL,
    series INT NOT NULL,
    engine INT NOT NULL,
    attempt SMALLINT NOT NULL,
    kind SMALLINT NOT NULL,
    status INT NOT NULL,
    flags INT NOT NULL,
    inflight INT NOT NULL,
    bytes BIGINT NOT NULL,
    propensity FLOAT NOT NULL,
    header_ms FLOAT NOT NULL,
    total_ms FLOAT NOT NULL,
    weight FLOAT NOT NULL,
    predicted_ms FLOAT NOT NULL,
    `load` FLOAT NOT NULL,
    rate FLOAT NOT NULL,
    KEY (at_ms)
) ENGINE=InnoDB
PARTITION BY RANGE (at_ms) (PARTITION later VALUES LESS THAN MAXVALUE);

CREATE TABLE IF NOT EXISTS weir_rollup (
    minute_ms BIGINT NOT NULL,
    series INT NOT NULL,
    engine INT NOT NULL,
    attempts BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    others BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    sum_ms DOUBLE NOT NULL,
    max_ms FLOAT NOT NULL,
    p50_ms FLOAT NULL,
    p90_ms FLOAT NULL,
    p99_ms FLOAT NULL,
    sketch BLOB NOT NULL,
    KEY (series, minute_ms)
) ENGINE=InnoDB
PARTITION BY RANGE (minute_ms) (PARTITION later VALUES LESS THAN MAXVALUE);

CREATE TABLE IF NOT EXISTS weir_metric (
    minute_ms BIGINT NOT NULL,
    series INT NOT NULL,
    engine INT NOT NULL,
    samples INT NOT NULL,
    mean DOUBLE NOT NULL,
    lowest DOUBLE NOT NULL,
    highest DOUBLE NOT NULL,
    KEY (series, minute_ms)
) ENGINE=InnoDB
PARTITION BY RANGE (minute_ms) (PARTITION later VALUES LESS THAN MAXVALUE);
