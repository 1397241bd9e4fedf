//! Lineage records: every step of every execution, each naming its parents by digest.
//!
//! A record is deterministic CBOR in COSE_Sign1 by the domain's issuer key; those bytes are the log entry, and their
//! SHA-256 is the record's name. What a node said (intent, halt, end) is named by digest: the node signed that itself.
//! Records of one node form a chain: `parents[0]` is the node's newest record before this one.

use std::collections::BTreeMap;

use evidence::{
    cbor::{self, Caps},
    cose::{self, KeyId, KeySet, PublicKey, Purpose, SigningKey},
    digest::Sha256Digest,
    names::{DomainName, ItemName, NodeId},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{codec, denial::AuditDenial};

#[path = "record_body.rs"]
mod body;
pub use body::{Boot, Code, Granted, RecordBody, RecordKind, SetKind};

/// Version of the record.
pub const RECORD_VERSION: u8 = 1;
/// Longest signed record, in bytes: below what a C2SP entry can carry, and far above what any body needs.
pub const RECORD_CAP_BYTES: usize = 16 * 1024;
/// Most parents of one record.
pub const PARENTS_CAP: usize = 16;

/// Most records of other domains that one follows from.
pub const ELSEWHERE_CAP: usize = 128;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineageRecord {
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// Whose log it stands in.
    pub domain: DomainName,
    /// Which node it is about; none for what concerns the whole domain.
    pub node: Option<NodeId>,
    /// Digest of what it is about: the intent for every step of an execution, else what the body names first.
    pub subject: Sha256Digest,
    /// Records that it follows from. For a node's record the first is the node's newest one before it.
    pub parents: Vec<Sha256Digest>,
    /// Records of other domains' logs that it follows from, by domain: for the end of an execution, those by which the
    /// others authorized it last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<DomainName, Vec<Sha256Digest>>,
    /// When, by the domain's clock.
    pub at: UnixSeconds,
    /// What happened.
    pub body: RecordBody,
}

impl LineageRecord {
    /// Signs it with the domain's issuer key: the bytes are the log entry.
    ///
    /// # Errors
    /// [`AuditDenial`] when a field breaks its rule.
    pub fn sign(&self, issuer: &SigningKey) -> Result<Vec<u8>, AuditDenial> {
        self.bounded()?;
        let payload = cbor::to_vec(self).map_err(|cause| malformed(cause.to_string()))?;
        let entry = cose::sign1(Purpose::LineageRecord, &self.domain, &payload, issuer)
            .map_err(|cause| AuditDenial::SignatureInvalid { what: "lineage record", cause })?;
        capped(entry.len())?;
        Ok(entry)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        self.body.kind()
    }

    fn bounded(&self) -> Result<(), AuditDenial> {
        if self.version != RECORD_VERSION {
            return Err(malformed(format!("version {}, expected {RECORD_VERSION}", self.version)));
        }
        if self.parents.len() > PARENTS_CAP {
            return Err(malformed(format!("{} parents, at most {PARENTS_CAP}", self.parents.len())));
        }
        let named: usize = self.elsewhere.values().map(Vec::len).sum();
        if named > ELSEWHERE_CAP
            || self.elsewhere.values().any(Vec::is_empty)
            || self.elsewhere.contains_key(&self.domain)
        {
            return Err(malformed(format!(
                "{named} records of other domains, at most {ELSEWHERE_CAP}, none of its own"
            )));
        }
        if self.node.is_none() && self.kind().is_of_a_node() {
            return Err(malformed("no node".into()));
        }
        Ok(())
    }
}

/// A record that its domain signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRecord {
    record: LineageRecord,
    digest: Sha256Digest,
    signer: KeyId,
}

impl VerifiedRecord {
    /// Reads a log entry of `domain`.
    ///
    /// # Errors
    /// [`AuditDenial`] for the first rule broken.
    pub fn verify(entry: &[u8], domain: &DomainName, issuer_keys: &KeySet) -> Result<Self, AuditDenial> {
        capped(entry.len())?;
        let signed = cose::verify1(Purpose::LineageRecord, domain, entry, issuer_keys)
            .map_err(|cause| AuditDenial::SignatureInvalid { what: "lineage record", cause })?;
        let record: LineageRecord = codec::read(signed.payload(), Caps::bytes(RECORD_CAP_BYTES)).map_err(malformed)?;
        record.bounded()?;
        if record.domain != *domain {
            return Err(AuditDenial::DomainMismatch { got: record.domain, expected: domain.clone() });
        }
        Ok(Self { digest: Sha256Digest::of(entry), signer: signed.signer(), record })
    }

    /// What it says.
    #[must_use]
    pub const fn record(&self) -> &LineageRecord {
        &self.record
    }

    /// SHA-256 of the entry: its name.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Which issuer key signed.
    #[must_use]
    pub const fn signer(&self) -> KeyId {
        self.signer
    }
}

fn malformed(cause: String) -> AuditDenial {
    AuditDenial::RecordMalformed { cause }
}

fn capped(got: usize) -> Result<(), AuditDenial> {
    if got > RECORD_CAP_BYTES {
        return Err(AuditDenial::EntryTooLarge { got, cap: RECORD_CAP_BYTES });
    }
    Ok(())
}
