-- Hardware vendors' certificates, revocation lists and collateral: a cache,
-- verified again at each use. fields: what it is about, as fixed-size parsed
-- fields. digest: SHA-256 of document. Times are Unix seconds.
CREATE TABLE endorsements (
    kind TEXT NOT NULL,
    fields BYTEA NOT NULL,
    digest BYTEA NOT NULL,
    document BYTEA NOT NULL,
    issued_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    obtained_at BIGINT NOT NULL,
    source TEXT NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (kind, fields, digest)
);
CREATE INDEX endorsements_by_digest ON endorsements (digest)
