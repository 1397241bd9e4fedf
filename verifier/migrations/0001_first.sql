-- One schema for SQLite and PostgreSQL: BIGINT, TEXT and BYTEA only, no
-- defaults that read a clock, no triggers. Times are Unix seconds.

-- What must not change for the life of a store: domain, instance.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Who may write. One row; every group commit proves it still holds it.
CREATE TABLE writer_lease (
    id BIGINT PRIMARY KEY,
    instance TEXT NOT NULL,
    holder TEXT NOT NULL,
    renewed_at BIGINT NOT NULL
);

-- Content-addressed bytes: evidence, enrolments, reference and policy sets,
-- challenges, results, statements. Key: SHA-256 of the bytes.
CREATE TABLE blobs (
    digest BYTEA PRIMARY KEY,
    kind TEXT NOT NULL,
    bytes BYTEA NOT NULL,
    stored_at BIGINT NOT NULL
);

-- The log: entries in order, and the head that each commit moves by
-- compare-and-swap on its size.
CREATE TABLE log_entries (
    idx BIGINT PRIMARY KEY,
    digest BYTEA NOT NULL,
    bytes BYTEA NOT NULL
);
CREATE INDEX log_entries_by_digest ON log_entries (digest);
CREATE TABLE log_head (
    id BIGINT PRIMARY KEY,
    size BIGINT NOT NULL,
    root BYTEA NOT NULL
);

-- Which entries speak of what: artifact id, node id, set id.
CREATE TABLE log_subjects (
    subject TEXT NOT NULL,
    idx BIGINT NOT NULL,
    PRIMARY KEY (subject, idx)
);

CREATE TABLE nodes (
    node_id TEXT PRIMARY KEY,
    ek_digest BYTEA NOT NULL,
    ak_name BYTEA NOT NULL,
    record_key BYTEA NOT NULL,
    enrolment BYTEA NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    head_current BYTEA NOT NULL,
    head_acked BYTEA NOT NULL,
    heads_unseen BYTEA NOT NULL,
    halt BYTEA NOT NULL,
    readmission BYTEA NOT NULL,
    reset_count BIGINT NOT NULL,
    restart_count BIGINT NOT NULL,
    clock_ms BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

-- An EK may name at most one node, and a node at most one EK.
CREATE UNIQUE INDEX nodes_by_ek ON nodes (ek_digest);

-- Endorsement keys that an operator admitted by hand.
CREATE TABLE admitted_eks (
    ek_digest BYTEA PRIMARY KEY,
    node_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    admitted_at BIGINT NOT NULL
);

-- Authorizations in force. seq is the fencing token of the newest lease.
CREATE TABLE leases (
    artifact_id BYTEA PRIMARY KEY,
    node_id TEXT NOT NULL,
    artifact BYTEA NOT NULL,
    seq BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    state TEXT NOT NULL
);
CREATE INDEX leases_by_node ON leases (node_id);

-- Execution keys, sealed under the key-encryption key.
CREATE TABLE execution_keys (
    name TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    labels TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Signatures over one payload, which is named by its SHA-256: reference and
-- policy sets, statements, trust bundles. A threshold needs several.
CREATE TABLE signatures (
    payload BYTEA NOT NULL,
    kid TEXT NOT NULL,
    cose BYTEA NOT NULL,
    stored_at BIGINT NOT NULL,
    PRIMARY KEY (payload, kid)
);

-- Every version of every set that was imported. family is "reference" or
-- "policy"; the bytes are in signatures.
CREATE TABLE signed_sets (
    family TEXT NOT NULL,
    set_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    imported_at BIGINT NOT NULL,
    PRIMARY KEY (family, set_id, version)
);

-- What happened to them, in order: deterministic CBOR of a history entry.
CREATE TABLE set_history (
    seq BIGINT PRIMARY KEY,
    family TEXT NOT NULL,
    payload BYTEA NOT NULL,
    entry BYTEA NOT NULL
);

-- Revocations, each with the signed record that is pushed to nodes, and the
-- domain's governance states, each with its lineage record.
CREATE TABLE revocations (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    cose BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    log_idx BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
);
CREATE TABLE governance_states (
    epoch BIGINT PRIMARY KEY,
    digest BYTEA NOT NULL,
    cose BYTEA NOT NULL,
    record BYTEA NOT NULL,
    log_idx BIGINT NOT NULL
);

-- Followed by every replica, in order.
CREATE TABLE changes (
    seq BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    log_idx BIGINT NOT NULL
);

-- Figures that never go down.
CREATE TABLE high_water (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
)
