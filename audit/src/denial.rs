//! Why a log, a record, a receipt or a proof bundle was refused: one variant a fact, both sides in it.

use evidence::{
    cose::CoseDenial, digest::Sha256Digest, names::DomainName, threshold::ThresholdDenial, time::UnixSeconds,
};
use strum::{EnumDiscriminants, EnumIter};

use crate::{
    record::RecordKind,
    tlog::{self, TreeHash},
};

/// It was judged, and refused. `code` is stable; text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(AuditDenialKind),
    derive(EnumIter, Hash, PartialOrd, Ord),
    doc = "The variants of [`AuditDenial`], to enumerate them."
)]
#[allow(missing_docs, reason = "field names say which side they are; units stand in the name")]
pub enum AuditDenial {
    /// A tree larger than this code speaks of.
    #[error("tree of {size} leaves, at most {cap} supported")]
    TreeTooLarge { size: u64, cap: u64 },
    /// An index that the tree does not have.
    #[error("index {index} in a tree of {size} leaves")]
    IndexBeyondTree { index: u64, size: u64 },
    /// A consistency proof between sizes that have none.
    #[error("no consistency proof from size {old} to size {new}")]
    SizesNotOrdered { old: u64, new: u64 },
    /// A subtree hash that the log should hold and does not.
    #[error("node at level {}, index {} is not held", .id.level, .id.index)]
    NodeMissing { id: tlog::NodeId },
    /// The inclusion proof does not lead to the root.
    #[error("inclusion proof of entry {index} does not lead to the root of {size} entries")]
    InclusionProofWrong { index: u64, size: u64 },
    /// The consistency proof does not lead from one root to the other.
    #[error("consistency proof from {old} to {new} entries does not hold: the log was rewritten or forked")]
    ConsistencyProofWrong { old: u64, new: u64 },
    /// Not a canonical tile path.
    #[error("not a tile path")]
    TilePathMalformed,
    /// A hash tile of the wrong length.
    #[error("hash tile of {got} bytes, expected {expected}")]
    TileLength { got: usize, expected: usize },
    /// An entry bundle that does not hold exactly its entries.
    #[error("entry bundle of {got} entries or with bytes left over, expected {expected}")]
    BundleMalformed { got: usize, expected: usize },
    /// An entry longer than a bundle can carry.
    #[error("log entry of {got} bytes, at most {cap} allowed")]
    EntryTooLarge { got: usize, cap: usize },
    /// A key that cannot sign notes, or its text form.
    #[error("not a note key: {what}")]
    NoteKey { what: &'static str },
    /// Not a signed note in its only spelling.
    #[error("not a signed note: {what}")]
    NoteMalformed { what: &'static str },
    /// A signature that claims to be of a known key and is not, or stands twice.
    #[error("signature of {name} on the note does not verify or stands twice")]
    NoteSignature { name: String },
    /// Not a checkpoint.
    #[error("not a checkpoint: {what}")]
    CheckpointMalformed { what: &'static str },
    /// A checkpoint of another log.
    #[error("checkpoint of log {got}, expected {expected}")]
    OriginMismatch { got: String, expected: String },
    /// A checkpoint that its log did not sign.
    #[error("checkpoint is not signed by a key of log {origin}")]
    NotSignedByLog { origin: String },
    /// Too few witnesses cosigned.
    #[error("{got} of the {needed} cosignatures needed")]
    QuorumNotMet { got: usize, needed: usize },
    /// Dated after now.
    #[error("{what} is dated {at}, judged at {now}")]
    FromTheFuture { what: &'static str, at: UnixSeconds, now: UnixSeconds },
    /// No signature by an accepted key over these bytes for this purpose and domain.
    #[error("{what} is not signed by an accepted key: {cause}")]
    SignatureInvalid { what: &'static str, cause: CoseDenial },
    /// Not a lineage record.
    #[error("lineage record malformed: {cause}")]
    RecordMalformed { cause: String },
    /// A record of another domain.
    #[error("record of domain {got}, expected {expected}")]
    DomainMismatch { got: DomainName, expected: DomainName },
    /// Not a receipt.
    #[error("receipt malformed: {cause}")]
    ReceiptMalformed { cause: String },
    /// A record does not follow its node's newest one.
    #[error("record follows {got}, the newest of its node is {expected}")]
    LineageBroken { got: Sha256Digest, expected: Sha256Digest },
    /// A record of this kind may not stand here.
    #[error("{kind} out of order: {rule}")]
    LineageOrder { kind: RecordKind, rule: &'static str },
    /// A parent is not logged before its child.
    #[error("parent {parent} is not logged before it")]
    ParentMissing { parent: Sha256Digest },
    /// Signed by a key outside the time in which it counts.
    #[error("key {kid} does not count at {at}")]
    KeyOutOfTime { kid: String, at: UnixSeconds },
    /// Not a proof bundle.
    #[error("proof bundle malformed: {cause}")]
    ProofMalformed { cause: String },
    /// A domain that nobody vouched for beforehand.
    #[error("no key of domain {domain} is pinned")]
    DomainNotPinned { domain: DomainName },
    /// Not enough distinct keys of the authority signed.
    #[error("{what} lacks the authority's signatures: {cause}")]
    ThresholdNotMet { what: &'static str, cause: ThresholdDenial },
    /// A signed payload is not of its type.
    #[error("{what} cannot be read: {cause}")]
    PayloadUnreadable { what: &'static str, cause: String },
    /// Signatures on a checkpoint by keys that the file does not explain.
    #[error("{count} signatures on the checkpoint by unknown keys")]
    UnknownSigners { count: usize },
    /// An attachment that no record names, or that stands twice.
    #[error("{what} is named by no record, or stands twice")]
    AttachmentStray { what: &'static str },
    /// A record without the statement that it names.
    #[error("the {what} that the record names is absent")]
    AttachmentMissing { what: &'static str },
    /// An attachment says something else than its record.
    #[error("{what} does not agree with its record: {field}")]
    AttachmentMismatch { what: &'static str, field: &'static str },
    /// The log does not hold as many entries as its checkpoint says.
    #[error("{got} entries, the checkpoint says {expected}")]
    SizeMismatch { got: u64, expected: u64 },
    /// The entries do not hash to the root in the checkpoint.
    #[error("{size} entries hash to {got}, the checkpoint says {expected}")]
    RootMismatch { size: u64, got: TreeHash, expected: TreeHash },
    /// A published tile is absent, or not what the entries hash to.
    #[error("tile {path} is absent or differs from the entries")]
    TileMismatch { path: String },
}

impl AuditDenial {
    /// Stable code, `audit.<fact>`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        AuditDenialKind::from(self).code()
    }
}

impl AuditDenialKind {
    /// Stable code of this kind of denial.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TreeTooLarge => "audit.tree_too_large",
            Self::IndexBeyondTree => "audit.index_beyond_tree",
            Self::SizesNotOrdered => "audit.sizes_not_ordered",
            Self::NodeMissing => "audit.node_missing",
            Self::InclusionProofWrong => "audit.inclusion_proof_wrong",
            Self::ConsistencyProofWrong => "audit.consistency_proof_wrong",
            Self::TilePathMalformed => "audit.tile_path_malformed",
            Self::TileLength => "audit.tile_length",
            Self::BundleMalformed => "audit.bundle_malformed",
            Self::EntryTooLarge => "audit.entry_too_large",
            Self::NoteKey => "audit.note_key",
            Self::NoteMalformed => "audit.note_malformed",
            Self::NoteSignature => "audit.note_signature",
            Self::CheckpointMalformed => "audit.checkpoint_malformed",
            Self::OriginMismatch => "audit.origin_mismatch",
            Self::NotSignedByLog => "audit.not_signed_by_log",
            Self::QuorumNotMet => "audit.quorum_not_met",
            Self::FromTheFuture => "audit.from_the_future",
            Self::SignatureInvalid => "audit.signature_invalid",
            Self::RecordMalformed => "audit.record_malformed",
            Self::DomainMismatch => "audit.domain_mismatch",
            Self::ReceiptMalformed => "audit.receipt_malformed",
            Self::LineageBroken => "audit.lineage_broken",
            Self::LineageOrder => "audit.lineage_order",
            Self::ParentMissing => "audit.parent_missing",
            Self::KeyOutOfTime => "audit.key_out_of_time",
            Self::ProofMalformed => "audit.proof_malformed",
            Self::DomainNotPinned => "audit.domain_not_pinned",
            Self::ThresholdNotMet => "audit.threshold_not_met",
            Self::PayloadUnreadable => "audit.payload_unreadable",
            Self::UnknownSigners => "audit.unknown_signers",
            Self::AttachmentStray => "audit.attachment_stray",
            Self::AttachmentMissing => "audit.attachment_missing",
            Self::AttachmentMismatch => "audit.attachment_mismatch",
            Self::SizeMismatch => "audit.size_mismatch",
            Self::RootMismatch => "audit.root_mismatch",
            Self::TileMismatch => "audit.tile_mismatch",
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}

#[cfg(test)]
#[path = "denial_tests.rs"]
mod tests;
