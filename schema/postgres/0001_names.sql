-- Tables of the history. People may read them; weir_outcomes (0002) joins the names.

CREATE TABLE weir_engine (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance text NOT NULL,
    zone text NOT NULL,
    UNIQUE (instance, zone)
);

-- What outcomes and rollups are about. class '' stands for all classes together and is in rollups only.
CREATE TABLE weir_series (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pool text NOT NULL,
    peer text NOT NULL,
    class text NOT NULL,
    UNIQUE (pool, peer, class)
);

-- The batches that are stored, so that one that is sent again is stored once.
CREATE TABLE weir_batch (
    writer text NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (writer, seq)
);

CREATE INDEX ON weir_batch (at);

CREATE TABLE weir_event (
    at timestamptz NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    engine integer NOT NULL REFERENCES weir_engine,
    kind text NOT NULL,
    pool text NOT NULL,
    subject text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    detail text NOT NULL
);

CREATE INDEX ON weir_event (at);
