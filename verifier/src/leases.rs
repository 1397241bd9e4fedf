//! Authorizations in force. The sequence is a fencing token: it is taken in the
//! transaction that logs the authorization and re-reads the epoch, so no two
//! holders can ever have the same one.

use std::collections::BTreeSet;

use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use governance::artifact::ArtifactId;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::store::{Store, StoreError, Transaction, While, WorkError, signed, unsigned};

/// An authorization's newest lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Artifact id, constant across renewals.
    pub artifact_id: ArtifactId,
    /// Who holds it.
    pub node: NodeId,
    /// Digest of the newest artifact, in the evidence store.
    pub artifact: Sha256Digest,
    /// Fencing token.
    pub seq: u64,
    /// Governance epoch it was granted under.
    pub epoch: u64,
    /// When it ends, Unix seconds, by the verifier's clock.
    pub ends_at: u64,
    /// Why it is over; nothing while it is in force.
    pub ended: Option<LeaseEnd>,
}

/// Why a lease is over, other than by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseEnd {
    /// The node says that the workload ended.
    Ended,
    /// The node says that it halted, or shows that it was started anew.
    Halted,
    /// We refused its renewal or quarantined its node, which has yet to say that it stopped.
    Stopped,
    /// We revoked the artifact or its node, which has yet to say that it stopped.
    Revoked,
    /// It ran out, and the node has not said how its execution ended: an alarm.
    Missing,
    /// It was never answered: too few witnesses cosigned.
    Void,
    /// Its node was authorized anew for the same execution, and has to say how that ends.
    Followed,
}

/// Why a lease was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    /// No such authorization.
    #[error("no authorization {0}")]
    Unknown(ArtifactId),
    /// It is over.
    #[error("authorization {0} is over")]
    Over(ArtifactId, LeaseEnd),
    /// Another node holds it.
    #[error("authorization {0} belongs to another node")]
    OtherNode(ArtifactId),
    /// The epoch moved on between judgement and release (P9).
    #[error("governance epoch is {current}, judged under {judged}")]
    EpochMoved {
        /// Epoch in force.
        current: u64,
        /// Epoch of the judgement.
        judged: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WorkError for LeaseRefusal {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Store(fault) = self { Some(fault) } else { None }
    }
}

/// Grants the first lease of an authorization, sequence 1. An earlier one of the same execution is over: a node asks anew
/// once that has ended, and says in the end how the newest did.
pub async fn open(
    transaction: &mut Transaction<'_>,
    artifact_id: &ArtifactId,
    (node, intent): (&NodeId, &Sha256Digest),
    artifact: &Sha256Digest,
    epoch: u64,
    ends_at: u64,
) -> Result<(), LeaseRefusal> {
    same_epoch(transaction.connection(), epoch).await?;
    let doing = "granting a lease";
    let followed = LeaseEnd::Followed;
    let update =
        format!("UPDATE leases SET state = $1 WHERE node_id = $2 AND intent = $3 AND state IN {}", followed.ends());
    sqlx::query(sqlx::AssertSqlSafe(update))
        .bind(name(followed))
        .bind(node.as_str())
        .bind(intent.as_bytes().to_vec())
        .execute(transaction.connection())
        .await
        .doing(doing)?;
    sqlx::query(
        "INSERT INTO leases (artifact_id, node_id, artifact, seq, epoch, ends_at, state, intent) \
         VALUES ($1, $2, $3, 1, $4, $5, $6, $7)",
    )
    .bind(artifact_id.0.to_vec())
    .bind(node.as_str())
    .bind(artifact.as_bytes().to_vec())
    .bind(signed(epoch)?)
    .bind(signed(ends_at)?)
    .bind(IN_FORCE)
    .bind(intent.as_bytes().to_vec())
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    Ok(())
}

/// The sequence that the next lease of an authorization will have. Read it in
/// the transaction that then calls [`renew`] with it.
pub async fn next_seq(
    transaction: &mut Transaction<'_>,
    artifact_id: &ArtifactId,
    node: &NodeId,
) -> Result<u64, LeaseRefusal> {
    let lease = find_in(transaction.connection(), artifact_id).await?.ok_or(LeaseRefusal::Unknown(*artifact_id))?;
    if lease.node != *node {
        return Err(LeaseRefusal::OtherNode(*artifact_id));
    }
    if let Some(end) = lease.ended {
        return Err(LeaseRefusal::Over(*artifact_id, end));
    }
    Ok(lease.seq.saturating_add(1))
}

/// Grants the next lease: compare-and-swap from `seq` − 1 to `seq`.
pub async fn renew(
    transaction: &mut Transaction<'_>,
    artifact_id: &ArtifactId,
    artifact: &Sha256Digest,
    seq: u64,
    epoch: u64,
    ends_at: u64,
) -> Result<(), LeaseRefusal> {
    same_epoch(transaction.connection(), epoch).await?;
    let done = sqlx::query(
        "UPDATE leases SET artifact = $1, seq = $2, epoch = $3, ends_at = $4 \
         WHERE artifact_id = $5 AND seq = $6 AND state = $7",
    )
    .bind(artifact.as_bytes().to_vec())
    .bind(signed(seq)?)
    .bind(signed(epoch)?)
    .bind(signed(ends_at)?)
    .bind(artifact_id.0.to_vec())
    .bind(signed(seq.saturating_sub(1))?)
    .bind(IN_FORCE)
    .execute(transaction.connection())
    .await
    .doing("renewing a lease")?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(LeaseRefusal::Unknown(*artifact_id)),
    }
}

impl LeaseEnd {
    /// Which states a lease may be in to be ended so. Our own word ends what is in force; an alarm also stands for what we
    /// ended ourselves without hearing of it; the node's word settles all of these.
    const fn ends(self) -> &'static str {
        match self {
            Self::Stopped | Self::Revoked | Self::Void => "('in force')",
            Self::Missing => "('in force', 'stopped', 'revoked')",
            // What we ended, its node has yet to answer for, whatever it was granted since.
            Self::Followed => "('in force', 'missing')",
            Self::Ended | Self::Halted => "('in force', 'stopped', 'revoked', 'missing')",
        }
    }
}

/// Ends an authorization for good. Ending it twice keeps the first reason, unless the node has only now said how.
pub async fn end(transaction: &mut Transaction<'_>, artifact_id: &ArtifactId, end: LeaseEnd) -> Result<(), StoreError> {
    let update = format!("UPDATE leases SET state = $1 WHERE artifact_id = $2 AND state IN {}", end.ends());
    sqlx::query(sqlx::AssertSqlSafe(update))
        .bind(name(end))
        .bind(artifact_id.0.to_vec())
        .execute(transaction.connection())
        .await
        .doing("ending a lease")?;
    Ok(())
}

/// Ends every authorization of a node, as [`end`] does each, and says which of them were in force.
pub async fn end_all(
    transaction: &mut Transaction<'_>,
    node: &NodeId,
    end: LeaseEnd,
) -> Result<Vec<ArtifactId>, StoreError> {
    let doing = "ending leases";
    let rows = sqlx::query("SELECT * FROM leases WHERE node_id = $1 AND state = $2")
        .bind(node.as_str())
        .bind(IN_FORCE)
        .fetch_all(transaction.connection())
        .await
        .doing(doing)?;
    let update = format!("UPDATE leases SET state = $1 WHERE node_id = $2 AND state IN {}", end.ends());
    sqlx::query(sqlx::AssertSqlSafe(update))
        .bind(name(end))
        .bind(node.as_str())
        .execute(transaction.connection())
        .await
        .doing(doing)?;
    rows.iter().map(|row| read_row(row).map(|lease| lease.artifact_id)).collect()
}

/// An authorization by artifact id.
pub async fn find(store: &Store, artifact_id: &ArtifactId) -> Result<Option<Lease>, StoreError> {
    let mut connection = store.reads().acquire().await.doing("reading a lease")?;
    find_in(&mut connection, artifact_id).await
}

/// Authorizations of a node, over or not.
pub async fn of_node(store: &Store, node: &NodeId) -> Result<Vec<Lease>, StoreError> {
    let rows = sqlx::query("SELECT * FROM leases WHERE node_id = $1 ORDER BY ends_at")
        .bind(node.as_str())
        .fetch_all(store.reads())
        .await
        .doing("reading leases")?;
    rows.iter().map(read_row).collect()
}

/// Leases that ended before `ends_before` and whose node has not said how, oldest first, a batch of them: those that were
/// not renewed, and those that we ended.
pub async fn overdue(store: &Store, ends_before: u64) -> Result<Vec<Lease>, StoreError> {
    let query = format!(
        "SELECT * FROM leases WHERE state IN {} AND ends_at < $1 ORDER BY ends_at LIMIT 64",
        LeaseEnd::Missing.ends()
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(signed(ends_before)?)
        .fetch_all(store.reads())
        .await
        .doing("reading overdue leases")?;
    rows.iter().map(read_row).collect()
}

/// How many leases ran out without a word from their node.
pub async fn count_missing(store: &Store) -> Result<i64, StoreError> {
    let doing = "counting missing halt records";
    let row = sqlx::query("SELECT COUNT(*) AS missing FROM leases WHERE state = $1")
        .bind(MISSING)
        .fetch_one(store.reads())
        .await
        .doing(doing)?;
    row.try_get("missing").doing(doing)
}

/// Nodes that owe us a halt or end record: those with an alarm.
pub async fn nodes_missing(store: &Store) -> Result<BTreeSet<String>, StoreError> {
    let doing = "reading missing halt records";
    let rows = sqlx::query("SELECT DISTINCT node_id FROM leases WHERE state = $1")
        .bind(MISSING)
        .fetch_all(store.reads())
        .await
        .doing(doing)?;
    rows.iter().map(|row| row.try_get("node_id").doing(doing)).collect()
}

async fn find_in(connection: &mut AnyConnection, artifact_id: &ArtifactId) -> Result<Option<Lease>, StoreError> {
    let row = sqlx::query("SELECT * FROM leases WHERE artifact_id = $1")
        .bind(artifact_id.0.to_vec())
        .fetch_optional(connection)
        .await
        .doing("reading a lease")?;
    row.as_ref().map(read_row).transpose()
}

async fn same_epoch(connection: &mut AnyConnection, judged: u64) -> Result<(), LeaseRefusal> {
    let current = crate::governance_state::epoch_in(connection).await?;
    if current == judged { Ok(()) } else { Err(LeaseRefusal::EpochMoved { current, judged }) }
}

fn read_row(row: &AnyRow) -> Result<Lease, StoreError> {
    let text = |name| row.try_get::<String, _>(name).doing("reading a lease");
    let figure = |name| row.try_get::<i64, _>(name).doing("reading a lease").and_then(unsigned);
    let bytes = |name| row.try_get::<Vec<u8>, _>(name).doing("reading a lease");
    let digest = |name| Sha256Digest::try_from(bytes(name)?.as_slice()).map_err(|_| corrupt(name));
    Ok(Lease {
        artifact_id: ArtifactId(<[u8; 16]>::try_from(bytes("artifact_id")?).map_err(|_| corrupt("artifact_id"))?),
        node: NodeId::new(text("node_id")?).map_err(|_| corrupt("node_id"))?,
        artifact: digest("artifact")?,
        seq: figure("seq")?,
        epoch: figure("epoch")?,
        ends_at: figure("ends_at")?,
        ended: read_end(&text("state")?)?,
    })
}

fn name(end: LeaseEnd) -> &'static str {
    match end {
        LeaseEnd::Ended => "ended",
        LeaseEnd::Halted => "halted",
        LeaseEnd::Stopped => "stopped",
        LeaseEnd::Revoked => "revoked",
        LeaseEnd::Missing => MISSING,
        LeaseEnd::Void => "void",
        LeaseEnd::Followed => "followed",
    }
}

fn read_end(state: &str) -> Result<Option<LeaseEnd>, StoreError> {
    match state {
        IN_FORCE => Ok(None),
        "ended" => Ok(Some(LeaseEnd::Ended)),
        "halted" => Ok(Some(LeaseEnd::Halted)),
        "stopped" => Ok(Some(LeaseEnd::Stopped)),
        "revoked" => Ok(Some(LeaseEnd::Revoked)),
        MISSING => Ok(Some(LeaseEnd::Missing)),
        "void" => Ok(Some(LeaseEnd::Void)),
        "followed" => Ok(Some(LeaseEnd::Followed)),
        _ => Err(corrupt("state")),
    }
}

fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt { what: format!("lease column {column}") }
}

const IN_FORCE: &str = "in force";
const MISSING: &str = "missing";
