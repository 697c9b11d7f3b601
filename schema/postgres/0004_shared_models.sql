-- What engines that share models tell one another (engine/learn/exchange), the last of each kind. It may be in a database of its own
-- (learn.share), whose other tables stay empty then. An earlier weir made this table without a migration.

CREATE TABLE IF NOT EXISTS weir_shared_model (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    model text NOT NULL,
    base text NOT NULL,
    instance text NOT NULL,
    zone text NOT NULL,
    engine text NOT NULL,
    why text NOT NULL,
    samples bigint NOT NULL,
    at_ms bigint NOT NULL,
    file bytea NOT NULL
);
