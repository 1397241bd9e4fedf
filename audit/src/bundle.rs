//! Proof bundle: one file with everything that a stranger needs to check what was decided, but for the keys to trust.

use std::collections::BTreeMap;

use evidence::{
    cbor::{self, Caps},
    cose::Purpose,
    names::DomainName,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{codec, denial::AuditDenial, tlog::TreeHash};

/// Version of the form.
pub const BUNDLE_VERSION: u8 = 1;
/// Longest bundle, in bytes.
pub const BUNDLE_CAP_BYTES: usize = 64 << 20;
/// Most CBOR items in a bundle.
pub const BUNDLE_CAP_ITEMS: usize = 4 << 20;
/// Most domains in a bundle.
pub const DOMAINS_CAP: usize = 16;
/// Most trust bundles of one domain.
pub const TRUST_BUNDLES_CAP: usize = 64;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofBundle {
    /// [`BUNDLE_VERSION`].
    pub version: u8,
    /// One part per domain, by name.
    pub domains: Vec<DomainProof>,
    /// What the records name by digest.
    pub attachments: Vec<Attachment>,
}

/// One domain's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainProof {
    /// Which.
    pub domain: DomainName,
    /// Its trust bundles over the time of the records: each a list of signatures over one payload.
    pub trust_bundles: Vec<Vec<ByteBuf>>,
    /// The one checkpoint that all its records are proved against, cosignatures included.
    pub checkpoint: String,
    /// Its records, by index.
    pub records: Vec<LoggedRecord>,
}

/// A log entry and its inclusion proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedRecord {
    /// Index in the log.
    pub index: u64,
    /// The entry.
    pub entry: ByteBuf,
    /// Inclusion proof against the domain's checkpoint.
    pub proof: Vec<TreeHash>,
}

/// What an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentKind {
    /// Intent, by the node.
    Intent,
    /// Artifact, by the issuer.
    Artifact,
    /// Attestation Result, by the issuer.
    Result,
    /// Halt record, by the node.
    Halt,
    /// End record, by the node.
    End,
    /// Readmission, by a threshold of the policy authority.
    Readmission,
    /// Passport, by the node.
    Passport,
}

impl AttachmentKind {
    /// What its signature must have been made for.
    #[must_use]
    pub const fn purpose(self) -> Purpose {
        match self {
            Self::Intent => Purpose::Intent,
            Self::Artifact => Purpose::Artifact,
            Self::Result => Purpose::AttestationResult,
            Self::Halt => Purpose::HaltRecord,
            Self::End => Purpose::EndRecord,
            Self::Readmission => Purpose::Statement,
            Self::Passport => Purpose::Passport,
        }
    }

    /// Name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Artifact => "artifact",
            Self::Result => "attestation result",
            Self::Halt => "halt record",
            Self::End => "end record",
            Self::Readmission => "readmission",
            Self::Passport => "passport",
        }
    }
}

/// Something signed that a record names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// In whose domain it was signed.
    pub domain: DomainName,
    /// What it is.
    pub kind: AttachmentKind,
    /// COSE_Sign1: one, or for a readmission as many as the threshold needs.
    pub signatures: Vec<ByteBuf>,
}

impl ProofBundle {
    /// A bundle of these parts.
    #[must_use]
    pub const fn new(domains: Vec<DomainProof>, attachments: Vec<Attachment>) -> Self {
        Self { version: BUNDLE_VERSION, domains, attachments }
    }

    /// One bundle of several, each of other domains. Nothing in them is verified.
    ///
    /// # Errors
    /// [`AuditDenial::ProofMalformed`] when a domain is in two of them, or they are of too many.
    pub fn merged(bundles: Vec<Self>) -> Result<Self, AuditDenial> {
        let (mut domains, mut attachments) = (BTreeMap::new(), Vec::new());
        for bundle in bundles {
            for proof in bundle.domains {
                if let Some(twice) = domains.insert(proof.domain.clone(), proof) {
                    return Err(malformed(format!("{} is in two of them", twice.domain)));
                }
            }
            attachments.extend(bundle.attachments);
        }
        if domains.len() > DOMAINS_CAP {
            return Err(malformed(format!("{} domains, 1 to {DOMAINS_CAP} allowed", domains.len())));
        }
        Ok(Self::new(domains.into_values().collect(), attachments))
    }

    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// [`AuditDenial::ProofMalformed`] when it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, AuditDenial> {
        let bytes = cbor::to_vec(self).map_err(|cause| malformed(cause.to_string()))?;
        if bytes.len() > BUNDLE_CAP_BYTES {
            return Err(malformed(format!("{} bytes, at most {BUNDLE_CAP_BYTES} allowed", bytes.len())));
        }
        Ok(bytes)
    }

    /// Reads a bundle; nothing in it is verified.
    ///
    /// # Errors
    /// [`AuditDenial::ProofMalformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AuditDenial> {
        let caps = Caps::bytes(BUNDLE_CAP_BYTES).items(BUNDLE_CAP_ITEMS);
        let bundle: Self = codec::read(bytes, caps).map_err(malformed)?;
        if bundle.version != BUNDLE_VERSION {
            return Err(malformed(format!("version {}, expected {BUNDLE_VERSION}", bundle.version)));
        }
        if bundle.domains.is_empty() || bundle.domains.len() > DOMAINS_CAP {
            return Err(malformed(format!("{} domains, 1 to {DOMAINS_CAP} allowed", bundle.domains.len())));
        }
        if bundle.domains.iter().any(|d| d.trust_bundles.is_empty() || d.trust_bundles.len() > TRUST_BUNDLES_CAP) {
            return Err(malformed(format!("1 to {TRUST_BUNDLES_CAP} trust bundles a domain")));
        }
        if bundle.domains.iter().any(|d| d.records.is_empty()) {
            return Err(malformed("a domain without records".into()));
        }
        let ascending = |pair: &[DomainProof]| matches!(pair, [a, b] if a.domain < b.domain);
        if !bundle.domains.windows(2).all(ascending) {
            return Err(malformed("domains not ascending, or one twice".into()));
        }
        Ok(bundle)
    }
}

fn malformed(cause: String) -> AuditDenial {
    AuditDenial::ProofMalformed { cause }
}
