-- Nodes may be TEEs: their platform stands beside, or instead of, an EK and AK. Columns that a machine has nothing for
-- are empty. report_id: what the node's SNP guest drew at its launch.
CREATE TABLE nodes_2 (
    node_id TEXT PRIMARY KEY,
    ek_digest BYTEA NOT NULL,
    ak_name BYTEA NOT NULL,
    platform TEXT NOT NULL,
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
    report_id BYTEA NOT NULL,
    epoch BIGINT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
INSERT INTO nodes_2
    SELECT node_id, ek_digest, ak_name, '', record_key, enrolment, status, reason, head_current, head_acked,
           heads_unseen, halt, readmission, reset_count, restart_count, clock_ms, substr(ek_digest, 1, 0), epoch,
           enrolled_at, seen_at
    FROM nodes;
DROP TABLE nodes;
ALTER TABLE nodes_2 RENAME TO nodes;

-- An EK may name at most one node, and a node at most one EK. A platform may run many nodes.
CREATE UNIQUE INDEX nodes_by_ek ON nodes (ek_digest) WHERE length(ek_digest) > 0;

-- Platforms on which an operator admitted a node of this id.
CREATE TABLE admitted_platforms (
    node_id TEXT NOT NULL,
    platform TEXT NOT NULL,
    reason TEXT NOT NULL,
    admitted_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, platform)
)
