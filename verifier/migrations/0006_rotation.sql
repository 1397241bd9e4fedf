-- The domain's own trust bundles since the founding one, by the digest of what
-- was signed; the signatures stand in their own table.
CREATE TABLE own_bundles (
    sequence BIGINT PRIMARY KEY,
    payload BYTEA NOT NULL
);

-- When a key of the domain began to sign, Unix seconds. Those that the domain
-- was founded with have no row.
CREATE TABLE key_activations (
    kid TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    activated_at BIGINT NOT NULL
);

-- The newest client certificate that each node was given: under which CA
-- (SHA-256 of its certificate), and until when, Unix seconds.
CREATE TABLE node_certificates (
    node_id TEXT PRIMARY KEY,
    authority TEXT NOT NULL,
    not_after BIGINT NOT NULL
)
