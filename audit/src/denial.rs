//! Why a log, a record, a receipt or a proof bundle was refused: one variant a fact, both sides in it.

use evidence::{cose::CoseDenial, names::DomainName, time::UnixSeconds};
use strum::{EnumDiscriminants, EnumIter};

use crate::tlog;

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
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}
