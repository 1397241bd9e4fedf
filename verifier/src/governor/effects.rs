//! What a change writes, beside its log records; and the reads that mirror it.

use std::collections::BTreeMap;

use std::collections::BTreeSet;

use audit::record::{Code, LineageRecord, RECORD_VERSION, RecordBody};
use evidence::cose::{KeyId, SigningKey};
use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, ItemName, NodeId};
use evidence::tee::PlatformId;
use evidence::time::UnixSeconds;
use governance::artifact::ArtifactId;
use sqlx::Row;

use super::refusal::OrderRefusal;
use super::witnesses;
use crate::federation::table::{self, PartnerRow};
use crate::key_table;
use crate::leases::{self, LeaseEnd};
use crate::nodes::{self, Node, NodeStatus};
use crate::signatures;
use crate::store::{NewEntry, Store, StoreError, Transaction, While, signed, unix_now, unsigned};

/// Whose sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Reference,
    Policy,
}

impl Family {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Policy => "policy",
        }
    }
}

/// One write.
pub(super) enum Effect {
    /// A signature over a payload.
    Signature { payload: Sha256Digest, kid: KeyId, cose: Vec<u8> },
    /// A step in the life of a set.
    History { family: Family, payload: Sha256Digest, entry: Vec<u8> },
    /// A figure that never goes down.
    HighWater { name: &'static str, value: u64 },
    /// A revocation, as pushed to nodes.
    Revocation { kind: String, subject: String, cose: Vec<u8>, sequence: u64 },
    /// The end of one authorization.
    EndLease { artifact: ArtifactId },
    /// A node that must stop: its chain says so and its leases are over.
    Quarantine { node: NodeId, code: Code, reason: String, subject: Sha256Digest, end: LeaseEnd },
    /// A node that may come back.
    Readmit { node: NodeId, halt: Sha256Digest, statement: Sha256Digest, epoch: u64 },
    /// An EK admitted for a node id.
    AdmitEk { ek: Sha256Digest, node: NodeId, reason: String },
    /// A platform admitted for a node id.
    AdmitPlatform { platform: PlatformId, node: NodeId, reason: String },
    /// A pending node that may attest.
    Admit { node: NodeId, reason: String },
    /// A witness policy, by the sequence of the statement that orders it.
    Witnesses { sequence: u64, statement: Sha256Digest },
    /// A trust bundle of our own.
    OwnBundle { sequence: u64, payload: Sha256Digest },
    /// A partner as it is from now on.
    Partner(Box<PartnerRow>),
}

/// Where an effect takes place.
pub(super) struct Within<'c> {
    pub(super) domain: &'c DomainName,
    pub(super) issuer: &'c SigningKey,
    pub(super) now: UnixSeconds,
}

/// Writes one effect; `index` is where its change stands in the log.
pub(super) async fn apply(
    transaction: &mut Transaction<'_>,
    within: &Within<'_>,
    effect: Effect,
    index: u64,
) -> Result<(), OrderRefusal> {
    match effect {
        Effect::Signature { payload, kid, cose } => signatures::keep(transaction, &payload, kid, &cose).await?,
        Effect::History { family, payload, entry } => add_history(transaction, family, &payload, &entry).await?,
        Effect::HighWater { name, value } => raise(transaction, name, value).await?,
        Effect::Revocation { kind, subject, cose, sequence } => {
            add_revocation(transaction, &kind, &subject, &cose, sequence, index).await?;
        }
        Effect::EndLease { artifact } => leases::end(transaction, &artifact, LeaseEnd::Revoked).await?,
        Effect::Quarantine { node, code, reason, subject, end } => {
            quarantine(transaction, within, &node, code, &reason, subject, end).await?;
        }
        Effect::Readmit { node, halt, statement, epoch } => {
            readmit(transaction, within, &node, halt, statement, epoch).await?;
        }
        Effect::AdmitEk { ek, node, reason } => nodes::admit_ek(transaction, &ek, &node, &reason).await?,
        Effect::AdmitPlatform { platform, node, reason } => {
            nodes::admit_platform(transaction, &platform, &node, &reason).await?;
        }
        Effect::Witnesses { sequence, statement } => {
            let id = witnesses::id()?;
            if !add_set(transaction, witnesses::FAMILY, &id, sequence, &statement).await? {
                return Err(StoreError::Conflict { doing: "storing a witness policy" }.into());
            }
        }
        Effect::OwnBundle { sequence, payload } => key_table::note_bundle(transaction, sequence, &payload).await?,
        Effect::Partner(row) => table::keep(transaction, &row).await?,
        Effect::Admit { node, reason } => {
            let epoch = crate::governance_state::epoch(transaction).await?;
            nodes::set_status(transaction, &node, NodeStatus::Active, &reason, epoch).await?;
        }
    }
    Ok(())
}

/// Adds a line to the change table, which replicas follow.
pub(super) async fn note_change(
    transaction: &mut Transaction<'_>,
    kind: &str,
    subject: &str,
    index: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO changes (seq, kind, subject, log_idx) \
         SELECT COALESCE(MAX(seq), 0) + 1, $1, $2, $3 FROM changes",
    )
    .bind(kind)
    .bind(subject)
    .bind(signed(index)?)
    .execute(transaction.connection())
    .await
    .doing("adding a change")?;
    Ok(())
}

/// Remembers an imported set. Another set of the same version is refused.
pub(super) async fn add_set(
    transaction: &mut Transaction<'_>,
    family: &str,
    id: &ItemName,
    version: u64,
    payload: &Sha256Digest,
) -> Result<bool, StoreError> {
    let doing = "importing a set";
    sqlx::query(
        "INSERT INTO signed_sets (family, set_id, version, payload, imported_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (family, set_id, version) DO NOTHING",
    )
    .bind(family)
    .bind(id.as_str())
    .bind(signed(version)?)
    .bind(payload.as_bytes().to_vec())
    .bind(unix_now())
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    let row = sqlx::query("SELECT payload FROM signed_sets WHERE family = $1 AND set_id = $2 AND version = $3")
        .bind(family)
        .bind(id.as_str())
        .bind(signed(version)?)
        .fetch_one(transaction.connection())
        .await
        .doing(doing)?;
    let held: Vec<u8> = row.try_get("payload").doing(doing)?;
    Ok(held == payload.as_bytes())
}

pub(super) async fn add_history(
    transaction: &mut Transaction<'_>,
    family: Family,
    payload: &Sha256Digest,
    entry: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO set_history (seq, family, payload, entry) \
         SELECT COALESCE(MAX(seq), 0) + 1, $1, $2, $3 FROM set_history",
    )
    .bind(family.name())
    .bind(payload.as_bytes().to_vec())
    .bind(entry)
    .execute(transaction.connection())
    .await
    .doing("adding to a set's history")?;
    Ok(())
}

/// Every imported set of a family: id, version, payload digest.
pub(super) async fn imported(store: &Store, family: &str) -> Result<Vec<(String, u64, Sha256Digest)>, StoreError> {
    let doing = "reading imported sets";
    let rows =
        sqlx::query("SELECT set_id, version, payload FROM signed_sets WHERE family = $1 ORDER BY set_id, version")
            .bind(family)
            .fetch_all(store.reads())
            .await
            .doing(doing)?;
    rows.iter()
        .map(|row| {
            let payload: Vec<u8> = row.try_get("payload").doing(doing)?;
            Ok((
                row.try_get("set_id").doing(doing)?,
                unsigned(row.try_get("version").doing(doing)?)?,
                Sha256Digest::try_from(payload.as_slice())
                    .map_err(|_| StoreError::Corrupt { what: "digest of a set".to_owned() })?,
            ))
        })
        .collect()
}

pub(super) async fn history(store: &Store, family: Family) -> Result<Vec<Vec<u8>>, StoreError> {
    let doing = "reading the history of sets";
    let rows = sqlx::query("SELECT entry FROM set_history WHERE family = $1 ORDER BY seq")
        .bind(family.name())
        .fetch_all(store.reads())
        .await
        .doing(doing)?;
    rows.iter().map(|row| row.try_get("entry").doing(doing)).collect()
}

/// Signed revocations, in the order in which they were made.
pub(super) async fn revocations(store: &Store) -> Result<Vec<Vec<u8>>, StoreError> {
    let doing = "reading revocations";
    let rows =
        sqlx::query("SELECT cose FROM revocations ORDER BY sequence").fetch_all(store.reads()).await.doing(doing)?;
    rows.iter().map(|row| row.try_get("cose").doing(doing)).collect()
}

pub(super) async fn high_water(store: &Store, name: &str) -> Result<u64, StoreError> {
    let doing = "reading a high-water mark";
    let row = sqlx::query("SELECT value FROM high_water WHERE name = $1")
        .bind(name)
        .fetch_optional(store.reads())
        .await
        .doing(doing)?;
    row.map_or(Ok(0), |row| unsigned(row.try_get("value").doing(doing)?))
}

pub(super) async fn pinned_eks(store: &Store) -> Result<BTreeSet<Sha256Digest>, StoreError> {
    let doing = "reading admitted EKs";
    let rows = sqlx::query("SELECT ek_digest FROM admitted_eks").fetch_all(store.reads()).await.doing(doing)?;
    rows.iter()
        .map(|row| {
            let digest: Vec<u8> = row.try_get("ek_digest").doing(doing)?;
            Sha256Digest::try_from(digest.as_slice())
                .map_err(|_| StoreError::Corrupt { what: "digest of an admitted EK".to_owned() })
        })
        .collect()
}

async fn raise(transaction: &mut Transaction<'_>, name: &str, value: u64) -> Result<(), StoreError> {
    let doing = "raising a high-water mark";
    let raised = sqlx::query(
        "INSERT INTO high_water (name, value) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE high_water.value < excluded.value",
    )
    .bind(name)
    .bind(signed(value)?)
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    if raised.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict { doing }) }
}

async fn add_revocation(
    transaction: &mut Transaction<'_>,
    kind: &str,
    subject: &str,
    cose: &[u8],
    sequence: u64,
    index: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO revocations (kind, subject, cose, sequence, log_idx) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (kind, subject) DO NOTHING",
    )
    .bind(kind)
    .bind(subject)
    .bind(cose)
    .bind(signed(sequence)?)
    .bind(signed(index)?)
    .execute(transaction.connection())
    .await
    .doing("storing a revocation")?;
    Ok(())
}

pub(super) async fn quarantine(
    transaction: &mut Transaction<'_>,
    within: &Within<'_>,
    id: &NodeId,
    code: Code,
    reason: &str,
    subject: Sha256Digest,
    end: LeaseEnd,
) -> Result<(), OrderRefusal> {
    let node = nodes::read(transaction, id).await?;
    leases::end_all(transaction, id, end).await?;
    if node.status == NodeStatus::Quarantined {
        return Ok(());
    }
    grow(transaction, within, &node, subject, RecordBody::Quarantine { code }).await?;
    let epoch = crate::governance_state::epoch(transaction).await?;
    Ok(nodes::set_status(transaction, id, NodeStatus::Quarantined, reason, epoch).await?)
}

async fn readmit(
    transaction: &mut Transaction<'_>,
    within: &Within<'_>,
    id: &NodeId,
    halt: Sha256Digest,
    statement: Sha256Digest,
    epoch: u64,
) -> Result<(), OrderRefusal> {
    let node = nodes::read(transaction, id).await?;
    let refuse = |why: String| OrderRefusal::NodeStatus { node: id.to_string(), why };
    if node.status != NodeStatus::Quarantined {
        return Err(refuse("is not quarantined".to_owned()));
    }
    if node.halt != halt {
        return Err(refuse(format!("the statement answers halt {halt}, the node's is {}", node.halt)));
    }
    if epoch <= node.epoch {
        return Err(refuse(format!("epoch {epoch} is not after {}, in which it was quarantined", node.epoch)));
    }
    grow(transaction, within, &node, statement, RecordBody::Readmission { statement, halt, epoch }).await?;
    // Who orders this has looked at the machine: whatever it still owed us is not waited for.
    leases::end_all(transaction, id, LeaseEnd::Halted).await?;
    Ok(nodes::readmit(transaction, id, &statement, epoch).await?)
}

/// Adds a record that the node did not ask for to its chain.
async fn grow(
    transaction: &mut Transaction<'_>,
    within: &Within<'_>,
    node: &Node,
    subject: Sha256Digest,
    body: RecordBody,
) -> Result<(), OrderRefusal> {
    let id = &node.identity.id;
    let record = LineageRecord {
        version: RECORD_VERSION,
        domain: within.domain.clone(),
        node: Some(id.clone()),
        subject,
        parents: vec![node.head_current],
        elsewhere: BTreeMap::new(),
        at: within.now,
        body,
    };
    let entry = record.sign(within.issuer)?;
    let head = Sha256Digest::of(&entry);
    transaction.append(NewEntry::new(entry).about(id.to_string()).about(subject.to_string()))?;
    Ok(nodes::note(transaction, id, &head).await?)
}
