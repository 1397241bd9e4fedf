//! The nodes of this domain: who they are (immutable), whether they may attest,
//! and where their lineage stands.

mod admitted;
mod machine;

use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::kind::EvidenceKind;
use evidence::names::NodeId;
use evidence::tpm::ClockState;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

pub use self::admitted::{admit_ek, admit_platform, ek_admitted_for, platform_admitted};
pub use self::machine::{Machine, TpmIdentity, platform_digest};
use crate::store::{Store, StoreError, Transaction, While, WorkError, signed, unix_now, unsigned};

/// Whether a node may attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// Enrolled; an operator has yet to admit it.
    Pending,
    /// May attest.
    Active,
    /// Halted: refused until readmitted by a threshold-signed statement.
    Quarantined,
}

impl NodeStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Quarantined => "quarantined",
        }
    }

    fn read(name: &str) -> Result<Self, StoreError> {
        match name {
            "pending" => Ok(Self::Pending),
            "active" => Ok(Self::Active),
            "quarantined" => Ok(Self::Quarantined),
            other => Err(StoreError::Corrupt { what: format!("node status {other:?}") }),
        }
    }
}

/// What a node is, fixed by its enrolment for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Its id.
    pub id: NodeId,
    /// The machine that its evidence must come from.
    pub machine: Machine,
    /// The key that signs its records and its TLS requests.
    pub record_key: PublicKey,
    /// Digest of the enrolment record in the evidence store.
    pub enrolment: Sha256Digest,
}

/// REPORT_ID of an SNP report (AMD 56860 Table 23, 0x140): drawn anew at each launch of the guest.
pub type ReportId = [u8; 32];

/// What was last seen of a machine's boot, which later evidence goes on from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BootSeen {
    /// TPM clock; zeros for a machine without a TPM.
    pub clock: ClockSeen,
    /// REPORT_ID of its SNP guest; nothing for any other machine.
    pub report_id: Option<ReportId>,
}

/// TPM clock figures (TPMS_CLOCK_INFO), which never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClockSeen {
    /// TPM resets since the TPM was made.
    pub reset_count: u32,
    /// TPM restarts since the last reset.
    pub restart_count: u32,
    /// TPM clock in milliseconds.
    pub clock_ms: u64,
}

impl From<ClockState> for ClockSeen {
    fn from(clock: ClockState) -> Self {
        let ClockState { reset_count, restart_count, last_clock_ms } = clock;
        Self { reset_count, restart_count, clock_ms: last_clock_ms }
    }
}

/// A node as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub identity: NodeIdentity,
    /// Whether it may attest.
    pub status: NodeStatus,
    /// Why it has this status; empty for none.
    pub reason: String,
    /// Digest of the newest record of its lineage.
    pub head_current: Sha256Digest,
    /// The newest head that it has shown to know.
    pub head_acked: Sha256Digest,
    /// Heads between the two: it may have learnt of any of them, or of none.
    pub heads_unseen: Vec<Sha256Digest>,
    /// Digest of its newest halt record that we hold; zero for none.
    pub halt: Sha256Digest,
    /// Digest of the statement that readmitted it last; zero for none.
    pub readmission: Sha256Digest,
    /// What was last seen of its boot.
    pub boot: BootSeen,
    /// Governance epoch under which it was admitted last.
    pub epoch: u64,
    /// When it enrolled, Unix seconds.
    pub enrolled_at: u64,
    /// When it was heard last, Unix seconds.
    pub seen_at: u64,
}

/// Why a change to a node was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeRefusal {
    /// No such node.
    #[error("node {0} is not enrolled")]
    Unknown(NodeId),
    /// The id belongs to another machine or, of a TEE, another record key (T4): alarm, never replace.
    #[error("node {0} is enrolled as another machine")]
    OtherIdentity(NodeId),
    /// The EK is enrolled under another id.
    #[error("the EK of node {0} is enrolled under another id")]
    EkInUse(NodeId),
    /// The EK was admitted by an operator for another id.
    #[error("the EK was admitted for node {0}")]
    AdmittedForAnother(String),
    /// The head presented is neither the newest record nor the one before a
    /// lost answer.
    #[error("lineage of node {0} is discontinuous")]
    LineageDiscontinuous(NodeId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WorkError for NodeRefusal {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Store(fault) = self { Some(fault) } else { None }
    }
}

/// Whether the node knows everything we recorded about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// It presented the newest record.
    Current,
    /// It presented an earlier one: our last answer was lost, and any lease
    /// sequence in it is void; or we have since recorded what it did not ask for.
    AnswerLost,
}

impl Node {
    /// Judges a lineage head that the node presented.
    pub fn continuity(&self, presented: &Sha256Digest) -> Result<Continuity, NodeRefusal> {
        if *presented == self.head_current {
            Ok(Continuity::Current)
        } else if *presented == self.head_acked || self.heads_unseen.contains(presented) {
            Ok(Continuity::AnswerLost)
        } else {
            Err(NodeRefusal::LineageDiscontinuous(self.identity.id.clone()))
        }
    }
}

/// A node by id.
pub async fn find(store: &Store, id: &NodeId) -> Result<Option<Node>, StoreError> {
    let row =
        sqlx::query(SELECT_BY_ID).bind(id.as_str()).fetch_optional(store.reads()).await.doing("reading a node")?;
    row.as_ref().map(read_row).transpose()
}

/// All nodes, by id.
pub async fn list(store: &Store) -> Result<Vec<Node>, StoreError> {
    let rows =
        sqlx::query("SELECT * FROM nodes ORDER BY node_id").fetch_all(store.reads()).await.doing("reading nodes")?;
    rows.iter().map(read_row).collect()
}

/// The node, inside a commit.
pub async fn read(transaction: &mut Transaction<'_>, id: &NodeId) -> Result<Node, NodeRefusal> {
    find_in(transaction.connection(), id).await?.ok_or_else(|| NodeRefusal::Unknown(id.clone()))
}

/// Stores a proven enrolment. The same identity again only refreshes its
/// enrolment record; any other machine under the same id is refused.
pub async fn enrol(
    transaction: &mut Transaction<'_>,
    identity: &NodeIdentity,
    boot: BootSeen,
    status: NodeStatus,
    head: &Sha256Digest,
    epoch: u64,
) -> Result<(), NodeRefusal> {
    let doing = "storing an enrolment";
    let connection = transaction.connection();
    if let Some(known) = find_in(connection, &identity.id).await? {
        // A TPM vouches for the record key each time; without one, the key is what tells nodes of a platform apart.
        let same_key = known.identity.record_key == identity.record_key || identity.machine.tpm().is_some();
        if known.identity.machine != identity.machine || !same_key {
            return Err(NodeRefusal::OtherIdentity(identity.id.clone()));
        }
        return refresh(connection, identity, boot.report_id, head).await;
    }
    if let Some(tpm) = identity.machine.tpm() {
        let taken = sqlx::query("SELECT node_id FROM nodes WHERE ek_digest = $1")
            .bind(tpm.ek_digest.as_bytes().to_vec())
            .fetch_optional(&mut *connection)
            .await
            .doing(doing)?;
        if taken.is_some() {
            return Err(NodeRefusal::EkInUse(identity.id.clone()));
        }
    }
    insert(connection, identity, boot, status, head, epoch).await
}

async fn insert(
    connection: &mut AnyConnection,
    identity: &NodeIdentity,
    boot: BootSeen,
    status: NodeStatus,
    head: &Sha256Digest,
    epoch: u64,
) -> Result<(), NodeRefusal> {
    let (now, clock) = (unix_now(), boot.clock);
    let (ek_digest, ak_name, platform) = identity.machine.columns();
    sqlx::query(
        "INSERT INTO nodes (node_id, ek_digest, ak_name, platform, record_key, enrolment, status, reason, \
         head_current, head_acked, heads_unseen, halt, readmission, reset_count, restart_count, \
         clock_ms, report_id, epoch, enrolled_at, seen_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, '', $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    )
    .bind(identity.id.as_str())
    .bind(ek_digest)
    .bind(ak_name)
    .bind(platform)
    .bind(identity.record_key.cose_key().to_vec())
    .bind(identity.enrolment.as_bytes().to_vec())
    .bind(status.name())
    .bind(head.as_bytes().to_vec())
    .bind(head.as_bytes().to_vec())
    .bind(Vec::<u8>::new())
    .bind(Sha256Digest::ZERO.0.to_vec())
    .bind(Sha256Digest::ZERO.0.to_vec())
    .bind(i64::from(clock.reset_count))
    .bind(i64::from(clock.restart_count))
    .bind(signed(clock.clock_ms)?)
    .bind(boot.report_id.map_or_else(Vec::new, |id| id.to_vec()))
    .bind(signed(epoch)?)
    .bind(now)
    .bind(now)
    .execute(connection)
    .await
    .doing("storing an enrolment")?;
    Ok(())
}

/// Moves a node's lineage on: `presented` is what it showed, `head` the record
/// just logged about it. Compare-and-swap, so that two streams of one node (a
/// clone) cannot both go on.
pub async fn advance(
    transaction: &mut Transaction<'_>,
    id: &NodeId,
    presented: &Sha256Digest,
    head: &Sha256Digest,
) -> Result<Continuity, NodeRefusal> {
    let node = read(transaction, id).await?;
    let continuity = node.continuity(presented)?;
    let moved = sqlx::query(
        "UPDATE nodes SET head_current = $1, head_acked = $2, heads_unseen = $3, seen_at = $4 \
         WHERE node_id = $5 AND head_current = $6",
    )
    .bind(head.as_bytes().to_vec())
    .bind(presented.as_bytes().to_vec())
    .bind(Vec::<u8>::new())
    .bind(unix_now())
    .bind(id.as_str())
    .bind(node.head_current.as_bytes().to_vec())
    .execute(transaction.connection())
    .await
    .doing("moving a lineage head")?;
    match moved.rows_affected() {
        1 => Ok(continuity),
        _ => Err(NodeRefusal::LineageDiscontinuous(id.clone())),
    }
}

/// Records a fact that the node did not ask for (a quarantine, a readmission):
/// its chain grows, and it may go on from whatever it knew before.
pub async fn note(transaction: &mut Transaction<'_>, id: &NodeId, head: &Sha256Digest) -> Result<(), NodeRefusal> {
    let node = read(transaction, id).await?;
    let skipped = node.heads_unseen.len().saturating_add(1).saturating_sub(UNSEEN_CAP);
    let known = node.heads_unseen.iter().chain([&node.head_current]);
    let unseen: Vec<u8> = known.skip(skipped).flat_map(|head| head.0).collect();
    let done = sqlx::query("UPDATE nodes SET head_current = $1, heads_unseen = $2 WHERE node_id = $3")
        .bind(head.as_bytes().to_vec())
        .bind(unseen)
        .bind(id.as_str())
        .execute(transaction.connection())
        .await
        .doing("moving a lineage head")?;
    one(done.rows_affected(), id)
}

/// Remembers the halt record that a readmission must answer.
pub async fn set_halt(transaction: &mut Transaction<'_>, id: &NodeId, halt: &Sha256Digest) -> Result<(), NodeRefusal> {
    let done = sqlx::query("UPDATE nodes SET halt = $1 WHERE node_id = $2")
        .bind(halt.as_bytes().to_vec())
        .bind(id.as_str())
        .execute(transaction.connection())
        .await
        .doing("remembering a halt record")?;
    one(done.rows_affected(), id)
}

/// Lets a node attest again, by the statement with this digest. The halt it
/// answers is over.
pub async fn readmit(
    transaction: &mut Transaction<'_>,
    id: &NodeId,
    statement: &Sha256Digest,
    epoch: u64,
) -> Result<(), NodeRefusal> {
    let done = sqlx::query(
        "UPDATE nodes SET status = $1, reason = '', epoch = $2, readmission = $3, halt = $4 WHERE node_id = $5",
    )
    .bind(NodeStatus::Active.name())
    .bind(signed(epoch)?)
    .bind(statement.as_bytes().to_vec())
    .bind(Sha256Digest::ZERO.0.to_vec())
    .bind(id.as_str())
    .execute(transaction.connection())
    .await
    .doing("readmitting a node")?;
    one(done.rows_affected(), id)
}

/// Remembers the TPM clock of an appraised quote. Figures that went back match
/// no row: the caller has denied them before (T8), this is the second lock.
pub async fn see_clock(transaction: &mut Transaction<'_>, id: &NodeId, clock: ClockSeen) -> Result<(), NodeRefusal> {
    let done = sqlx::query(
        "UPDATE nodes SET reset_count = $1, restart_count = $2, clock_ms = $3 WHERE node_id = $4 \
         AND (reset_count < $5 OR (reset_count = $6 AND restart_count <= $7 AND clock_ms <= $8))",
    )
    .bind(i64::from(clock.reset_count))
    .bind(i64::from(clock.restart_count))
    .bind(signed(clock.clock_ms)?)
    .bind(id.as_str())
    .bind(i64::from(clock.reset_count))
    .bind(i64::from(clock.reset_count))
    .bind(i64::from(clock.restart_count))
    .bind(signed(clock.clock_ms)?)
    .execute(transaction.connection())
    .await
    .doing("storing a TPM clock")?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(NodeRefusal::Store(StoreError::Conflict { doing: "storing a TPM clock" })),
    }
}

/// Changes whether a node may attest.
pub async fn set_status(
    transaction: &mut Transaction<'_>,
    id: &NodeId,
    status: NodeStatus,
    reason: &str,
    epoch: u64,
) -> Result<(), NodeRefusal> {
    let done = sqlx::query("UPDATE nodes SET status = $1, reason = $2, epoch = $3 WHERE node_id = $4")
        .bind(status.name())
        .bind(reason)
        .bind(signed(epoch)?)
        .bind(id.as_str())
        .execute(transaction.connection())
        .await
        .doing("changing a node's status")?;
    one(done.rows_affected(), id)
}

/// Remembers the boot that an SNP guest runs in. Another REPORT_ID than the one last seen is only taken when the caller
/// has ended everything that ran before (S13); else it matches no row, as the second lock.
pub async fn see_report_id(
    transaction: &mut Transaction<'_>,
    id: &NodeId,
    report_id: ReportId,
    rebooted: bool,
) -> Result<(), NodeRefusal> {
    let doing = "storing a REPORT_ID";
    let query = match rebooted {
        true => sqlx::query("UPDATE nodes SET report_id = $1 WHERE node_id = $2 AND report_id <> $3"),
        false => sqlx::query("UPDATE nodes SET report_id = $1 WHERE node_id = $2 AND report_id = $3"),
    };
    let (report_id, id) = (report_id.to_vec(), id.as_str());
    let done = query.bind(report_id.clone()).bind(id).bind(report_id).execute(transaction.connection()).await;
    match done.doing(doing)?.rows_affected() {
        1 => Ok(()),
        _ => Err(NodeRefusal::Store(StoreError::Conflict { doing })),
    }
}

async fn refresh(
    connection: &mut AnyConnection,
    identity: &NodeIdentity,
    report_id: Option<ReportId>,
    head: &Sha256Digest,
) -> Result<(), NodeRefusal> {
    sqlx::query(
        "UPDATE nodes SET record_key = $1, enrolment = $2, head_current = $3, head_acked = $4, \
         heads_unseen = $5, seen_at = $6, report_id = $7 WHERE node_id = $8",
    )
    .bind(identity.record_key.cose_key().to_vec())
    .bind(identity.enrolment.as_bytes().to_vec())
    .bind(head.as_bytes().to_vec())
    .bind(head.as_bytes().to_vec())
    .bind(Vec::<u8>::new())
    .bind(unix_now())
    .bind(report_id.map_or_else(Vec::new, |id| id.to_vec()))
    .bind(identity.id.as_str())
    .execute(connection)
    .await
    .doing("storing an enrolment")?;
    Ok(())
}

async fn find_in(connection: &mut AnyConnection, id: &NodeId) -> Result<Option<Node>, StoreError> {
    let row = sqlx::query(SELECT_BY_ID).bind(id.as_str()).fetch_optional(connection).await.doing("reading a node")?;
    row.as_ref().map(read_row).transpose()
}

fn one(rows: u64, id: &NodeId) -> Result<(), NodeRefusal> {
    if rows == 1 { Ok(()) } else { Err(NodeRefusal::Unknown(id.clone())) }
}

fn read_row(row: &AnyRow) -> Result<Node, StoreError> {
    let text = |name| row.try_get::<String, _>(name).doing("reading a node");
    let bytes = |name| row.try_get::<Vec<u8>, _>(name).doing("reading a node");
    let figure = |name| row.try_get::<i64, _>(name).doing("reading a node").and_then(unsigned);
    let digest = |name| Sha256Digest::try_from(bytes(name)?.as_slice()).map_err(|_| corrupt(name));
    let small = |name| figure(name).and_then(|n| u32::try_from(n).map_err(|_| corrupt(name)));
    let machine = Machine::read(row)?;
    let report_id = match (bytes("report_id")?.as_slice(), machine.kind()) {
        ([], EvidenceKind::Tpm | EvidenceKind::Tdx | EvidenceKind::TpmOnTdx) => None,
        (id, EvidenceKind::SevSnp | EvidenceKind::TpmOnSevSnp) => {
            Some(ReportId::try_from(id).map_err(|_| corrupt("report_id"))?)
        }
        _ => return Err(corrupt("report_id")),
    };
    Ok(Node {
        identity: NodeIdentity {
            id: NodeId::new(text("node_id")?).map_err(|_| corrupt("node_id"))?,
            machine,
            record_key: PublicKey::from_cose_key(&bytes("record_key")?).map_err(|_| corrupt("record_key"))?,
            enrolment: digest("enrolment")?,
        },
        status: NodeStatus::read(&text("status")?)?,
        reason: text("reason")?,
        head_current: digest("head_current")?,
        head_acked: digest("head_acked")?,
        heads_unseen: bytes("heads_unseen")?.as_chunks::<32>().0.iter().copied().map(Sha256Digest).collect(),
        halt: digest("halt")?,
        readmission: digest("readmission")?,
        boot: BootSeen {
            clock: ClockSeen {
                reset_count: small("reset_count")?,
                restart_count: small("restart_count")?,
                clock_ms: figure("clock_ms")?,
            },
            report_id,
        },
        epoch: figure("epoch")?,
        enrolled_at: figure("enrolled_at")?,
        seen_at: figure("seen_at")?,
    })
}

fn corrupt(column: &str) -> StoreError {
    StoreError::Corrupt { what: format!("node column {column}") }
}

const SELECT_BY_ID: &str = "SELECT * FROM nodes WHERE node_id = $1";
/// Heads kept for a node that says nothing while we record things about it.
const UNSEEN_CAP: usize = 16;
