-- What engines that share models tell one another (engine/learn/exchange), the last of each kind. It may be in a database of its own
-- (learn.share), whose other tables stay empty then. An earlier weir made this table without a migration.

CREATE TABLE IF NOT EXISTS weir_shared_model (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    kind VARCHAR(16) NOT NULL,
    model VARCHAR(500) NOT NULL,
    base VARCHAR(500) NOT NULL,
    instance VARCHAR(500) NOT NULL,
    zone VARCHAR(500) NOT NULL,
    engine VARCHAR(500) NOT NULL,
    why VARCHAR(500) NOT NULL,
    samples BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    file MEDIUMBLOB NOT NULL
) ENGINE=InnoDB CHARACTER SET utf8mb4;
