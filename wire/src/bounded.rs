//! Messages whose every field is bounded and well formed. What a peer sent is turned into one of these before anything
//! else looks at it; lengths are checked on the decoded message, whose total size the transport has already capped.

use evidence::{
    digest::Sha256Digest,
    names::{ItemName, NodeId},
};

pub mod demand;
pub mod enrolment;
pub mod local;
pub mod node;
pub mod verifier;

/// Longest signed intent: the record and its COSE structure, in bytes.
pub const INTENT_CAP_BYTES: usize = governance::intent::INTENT_CAP_BYTES + COSE_CAP_BYTES;
/// Longest signed artifact, in bytes.
pub const ARTIFACT_CAP_BYTES: usize = governance::artifact::ARTIFACT_CAP_BYTES + COSE_CAP_BYTES;
/// Longest signed halt or end record, in bytes.
pub const NODE_RECORD_CAP_BYTES: usize = governance::halt::HALT_CAP_BYTES + COSE_CAP_BYTES;
/// Longest Attestation Result, in bytes.
pub const RESULT_CAP_BYTES: usize = 256 * 1024;
/// Longest Evidence: quote, certificates, event log and IMA log in one CMW collection, in bytes.
pub const EVIDENCE_CAP_BYTES: usize = 10 << 20;
/// Longest signed passport, in bytes.
pub const PASSPORT_CAP_BYTES: usize = governance::passport::PASSPORT_CAP_BYTES + COSE_CAP_BYTES;
/// Longest receipt, in bytes.
pub const RECEIPT_CAP_BYTES: usize = audit::receipt::RECEIPT_CAP_BYTES;
/// Longest signed checkpoint, in bytes.
pub const CHECKPOINT_CAP_BYTES: usize = audit::note::NOTE_CAP_BYTES;
/// Longest signed governance state, in bytes.
pub const STATE_CAP_BYTES: usize = governance::governance_state::STATE_CAP_BYTES + COSE_CAP_BYTES;
/// Longest signed trust bundle, in bytes.
pub const BUNDLE_CAP_BYTES: usize = governance::trust_bundle::BUNDLE_CAP_BYTES + COSE_CAP_BYTES;
/// Longest signed statement, in bytes.
pub const STATEMENT_CAP_BYTES: usize = governance::statement::STATEMENT_CAP_BYTES + COSE_CAP_BYTES;
/// Longest signed revocation, in bytes.
pub const REVOCATION_CAP_BYTES: usize = governance::revocation::REVOCATION_CAP_BYTES + COSE_CAP_BYTES;
/// Most checkpoints of other domains' logs that a node brings.
pub const OTHER_CHECKPOINTS_CAP: usize = 32;
/// Most live artifacts in one renewal.
pub const ARTIFACTS_CAP: usize = 16;
/// Most signatures on one statement or bundle.
pub const SIGNATURES_CAP: usize = evidence::threshold::SIGNATURES_CAP;
/// Longest SPIFFE ID (SPIFFE-ID §2.3 allows 2,048 bytes; ours are made of two names), in bytes.
pub const SPIFFE_ID_CAP_BYTES: usize = 256;
/// Longest version, code or reason text, in bytes.
pub const TEXT_CAP_BYTES: usize = 256;
/// What a COSE_Sign1 of ours adds to its payload at most, in bytes.
pub const COSE_CAP_BYTES: usize = 512;

/// A field of a message breaks its rule. The value is not repeated: it is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {rule}")]
pub struct FieldDenial {
    /// Which.
    pub field: &'static str,
    /// Which rule.
    pub rule: &'static str,
}

pub(crate) const fn refuse(field: &'static str, rule: &'static str) -> FieldDenial {
    FieldDenial { field, rule }
}

/// Bytes that must be there.
pub(crate) fn bytes(field: &'static str, given: Vec<u8>, cap: usize) -> Result<Vec<u8>, FieldDenial> {
    if given.is_empty() {
        return Err(refuse(field, "absent"));
    }
    bytes_or_none(field, given, cap)
}

/// Bytes that may be empty.
pub(crate) fn bytes_or_none(field: &'static str, given: Vec<u8>, cap: usize) -> Result<Vec<u8>, FieldDenial> {
    if given.len() > cap { Err(refuse(field, "too long")) } else { Ok(given) }
}

/// A list of byte strings that must each be there.
pub(crate) fn list(
    field: &'static str,
    given: Vec<Vec<u8>>,
    counts: std::ops::RangeInclusive<usize>,
    cap: usize,
) -> Result<Vec<Vec<u8>>, FieldDenial> {
    if !counts.contains(&given.len()) {
        return Err(refuse(field, "too many or too few"));
    }
    given.into_iter().map(|item| bytes(field, item, cap)).collect()
}

pub(crate) fn digest(field: &'static str, given: &[u8]) -> Result<Sha256Digest, FieldDenial> {
    Sha256Digest::try_from(given).map_err(|_| refuse(field, "not 32 bytes"))
}

pub(crate) fn node_id(given: String) -> Result<NodeId, FieldDenial> {
    NodeId::new(given).map_err(|_| refuse("node_id", "not a node id"))
}

pub(crate) fn item_name(field: &'static str, given: String) -> Result<ItemName, FieldDenial> {
    ItemName::new(given).map_err(|_| refuse(field, "not a name"))
}

/// Short printable ASCII, possibly empty.
pub(crate) fn text(field: &'static str, given: String, cap: usize) -> Result<String, FieldDenial> {
    let printable = given.bytes().all(|b| (0x20..=0x7e).contains(&b));
    if given.len() > cap || !printable { Err(refuse(field, "not short printable text")) } else { Ok(given) }
}

pub(crate) fn spiffe_id(field: &'static str, given: String) -> Result<String, FieldDenial> {
    let given = text(field, given, SPIFFE_ID_CAP_BYTES)?;
    if given.starts_with("spiffe://") { Ok(given) } else { Err(refuse(field, "not a SPIFFE ID")) }
}
