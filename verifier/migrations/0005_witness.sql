-- The newest checkpoint that we cosigned of each log that we watch. Moved by
-- compare-and-swap on its size, before anything is signed. anchored_at: when
-- our own log last named it, Unix seconds.
CREATE TABLE witnessed (
    origin TEXT PRIMARY KEY,
    size BIGINT NOT NULL,
    root BYTEA NOT NULL,
    note TEXT NOT NULL,
    anchored_at BIGINT NOT NULL
);

-- The newest checkpoint of our own log that enough witnesses cosigned. One row.
CREATE TABLE cosigned_checkpoint (
    id BIGINT PRIMARY KEY,
    size BIGINT NOT NULL,
    note TEXT NOT NULL
)
