-- Tables of the history in MySQL and MariaDB. Each statement may be run again: these servers do not undo DDL.
--
-- n and the keys with it are those of 0004, which gives them to tables that were made before. New tables have them from the beginning:
-- there are servers that refuse a table without a primary key (sql_require_primary_key, innodb_force_primary_key).

CREATE TABLE IF NOT EXISTS weir_engine (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    instance VARCHAR(128) NOT NULL,
    zone VARCHAR(128) NOT NULL,
    UNIQUE KEY (instance, zone)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What outcomes and rollups are about. class '' stands for all classes together and is in rollups only.
CREATE TABLE IF NOT EXISTS weir_series (
    id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    pool VARCHAR(64) NOT NULL,
    peer VARCHAR(256) NOT NULL,
    class VARCHAR(256) NOT NULL,
    UNIQUE KEY (pool, peer, class)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The batches that are stored, so that one that is sent again is stored once.
CREATE TABLE IF NOT EXISTS weir_batch (
    writer VARCHAR(64) NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (writer, seq),
    KEY (at_ms)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS weir_event (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    engine INT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    pool VARCHAR(64) NOT NULL,
    subject VARCHAR(256) NOT NULL,
    from_state VARCHAR(256) NOT NULL,
    to_state VARCHAR(256) NOT NULL,
    detail TEXT NOT NULL,
    KEY (at_ms)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row an attempt; at_ms is Unix milliseconds. kind: 0 ok, 1 refused, 2 connect time-out, 3 time-out, 4 reset, 5 failure status,
-- 6 client abort, 7 idle race. flags: 1 explored, 2 control, 4 stream, 8 local rule, 16 panic. -1 in header_ms, predicted_ms and
-- load is "none". rate is the probability with which the row was kept. weir cuts the table into days.
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
    n BIGINT UNSIGNED NOT NULL DEFAULT (UUID_SHORT()),
    PRIMARY KEY (at_ms, n)
) ENGINE=InnoDB
PARTITION BY RANGE (at_ms) (PARTITION later VALUES LESS THAN MAXVALUE);

-- One row a minute and series, or several that add up. sketch is a DDSketch of the answered attempts' latencies
-- (engine/history/sketch); the quantiles are of this row alone, NULL when none was answered. weir cuts the table into months.
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
    n BIGINT UNSIGNED NOT NULL DEFAULT (UUID_SHORT()),
    PRIMARY KEY (series, minute_ms, n)
) ENGINE=InnoDB
PARTITION BY RANGE (minute_ms) (PARTITION later VALUES LESS THAN MAXVALUE);

CREATE OR REPLACE VIEW weir_outcomes AS
SELECT FROM_UNIXTIME(o.at_ms / 1000) AS at, s.pool, s.peer, s.class, o.attempt, o.kind, o.status, o.flags, o.inflight, o.bytes,
    o.propensity, o.header_ms, o.total_ms, o.weight, o.predicted_ms, o.`load`, o.rate, e.instance, e.zone
FROM weir_outcome o
JOIN weir_series s ON s.id = o.series
JOIN weir_engine e ON e.id = o.engine;

CREATE OR REPLACE VIEW weir_minutes AS
SELECT FROM_UNIXTIME(r.minute_ms / 1000) AS minute, s.pool, s.peer, s.class, r.attempts, r.failures, r.others, r.bytes, r.sum_ms,
    r.max_ms, r.p50_ms, r.p90_ms, r.p99_ms, e.instance, e.zone
FROM weir_rollup r
JOIN weir_series s ON s.id = r.series
JOIN weir_engine e ON e.id = r.engine;
