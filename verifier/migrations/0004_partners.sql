-- Partner domains. memory is deterministic CBOR; the newest log entry about the partner names its digest. head is the
-- newest seen head of the partner's log: it never goes back. bundle is a CBOR array of COSE_Sign1, state one COSE_Sign1,
-- empty before the first.
CREATE TABLE partners (
    domain TEXT PRIMARY KEY,
    memory BYTEA NOT NULL,
    bundle BYTEA NOT NULL,
    state BYTEA NOT NULL,
    head_size BIGINT NOT NULL,
    head_root BYTEA NOT NULL
);
