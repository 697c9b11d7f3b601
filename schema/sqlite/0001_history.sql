-- The embedded history. Outcomes are kept a batch a row, compressed (engine/history/codec.go): a seventh of the space of a row
-- each, and twenty million of them are read again in the time of one query. `weir history export` writes them out one by one.

-- The batches that are stored, so that none is stored twice.
CREATE TABLE batch (
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (writer, seq)
) WITHOUT ROWID;

CREATE INDEX batch_at ON batch (at_ms);

-- class '' in a series stands for all classes together.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    peer TEXT NOT NULL,
    class TEXT NOT NULL,
    UNIQUE (pool, peer, class)
);

CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    zone TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    data BLOB NOT NULL
);

CREATE INDEX outcomes_from ON outcomes (from_ms);

-- The rollups of one pool and minute: those of peers and those of peers' classes apart, since most questions want the first only.
-- A minute has several rows when outcomes of it came late.
CREATE TABLE rollups (
    id INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    minute_ms INTEGER NOT NULL,
    peers BLOB NOT NULL,
    classes BLOB NOT NULL
);

CREATE INDEX rollups_minute ON rollups (minute_ms);

CREATE INDEX rollups_pool ON rollups (pool, minute_ms);

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    instance TEXT NOT NULL,
    zone TEXT NOT NULL,
    kind TEXT NOT NULL,
    pool TEXT NOT NULL,
    subject TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX events_at ON events (at_ms);
