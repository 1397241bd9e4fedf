//! The parts of one SNP evidence, in the one buffer they came in.

use std::ops::Range;

use super::{cert_table::CERT_TABLE_CAP_BYTES, report::REPORT_BYTES};
use crate::{
    EvidenceDenial,
    cmw::{self, Part, PartName},
    digest::Sha256Digest,
    kind::EvidenceKind,
    node_key::XWingPublicKey,
};

/// Longest SNP evidence: what may be received at all.
pub const SNP_EVIDENCE_CAP_BYTES: usize = 64 * 1024;

const KIND: &str = EvidenceKind::SevSnp.collection_type();

/// SNP evidence: a report, the node key, and the certificates that the host gave.
///
/// Structure only; nothing of it is believed before [`crate::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct SnpEvidence {
    bytes: Vec<u8>,
    digest: Sha256Digest,
    node_key: XWingPublicKey,
    report: Range<usize>,
    certificates: Option<Range<usize>>,
}

/// What a node collects; becomes [`SnpEvidence`] by [`SnpEvidence::assemble`].
#[derive(Clone, Copy, Debug)]
pub struct SnpParts<'a> {
    /// ATTESTATION_REPORT, 1184 bytes.
    pub report: &'a [u8],
    /// The certificate table of an extended report, as the device gave it.
    pub certificates: Option<&'a [u8]>,
    /// Deterministic COSE_Key of the node key.
    pub node_key: &'a [u8],
}

impl SnpEvidence {
    /// Puts the parts into a collection.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`] for a part above its cap; what [`XWingPublicKey::from_cose_key`] finds.
    pub fn assemble(parts: SnpParts<'_>) -> Result<Self, EvidenceDenial> {
        let part = |name: &PartName, value| Part { label: name.label, media_type: name.media_type, value };
        let mut out = vec![part(&REPORT, parts.report), part(&NODE_KEY, parts.node_key)];
        out.extend(parts.certificates.map(|certificates| part(&CERTIFICATES, certificates)));
        Self::decode(cmw::write(KIND, &out))
    }

    /// Takes the bytes that came and finds the parts in them.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when they are not exactly such a collection, within the caps.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, EvidenceDenial> {
        let collection = cmw::read(&bytes, SNP_EVIDENCE_CAP_BYTES)?;
        let [report, certificates, node_key] = collection.find(KIND, &[REPORT, CERTIFICATES, NODE_KEY])?;
        let key = node_key.need()?;
        Ok(Self {
            digest: Sha256Digest::of(&bytes),
            node_key: XWingPublicKey::from_cose_key(bytes.get(key).unwrap_or(&[]))?,
            report: report.need()?,
            certificates: certificates.range,
            bytes,
        })
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or(&[])
    }

    /// The collection as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`SnpEvidence::bytes`].
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The node key.
    #[must_use]
    pub const fn node_key(&self) -> &XWingPublicKey {
        &self.node_key
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> SnpParts<'_> {
        SnpParts {
            report: self.part(&self.report),
            certificates: self.certificates.as_ref().map(|range| self.part(range)),
            node_key: self.node_key.cose_key(),
        }
    }
}

impl std::fmt::Debug for SnpEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnpEvidence({}, {} bytes)", self.digest, self.bytes.len())
    }
}

/// Longest COSE_Key of a node key.
const NODE_KEY_CAP_BYTES: usize = 2048;

pub(crate) const REPORT: PartName =
    PartName { label: "report", media_type: "application/vnd.attestd.snp-report", cap_bytes: REPORT_BYTES };
pub(crate) const CERTIFICATES: PartName = PartName {
    label: "certificates",
    media_type: "application/vnd.attestd.snp-certificate-table",
    cap_bytes: CERT_TABLE_CAP_BYTES,
};
const NODE_KEY: PartName =
    PartName { label: "node-key", media_type: "application/cose-key", cap_bytes: NODE_KEY_CAP_BYTES };
