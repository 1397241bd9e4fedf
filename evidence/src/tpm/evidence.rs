//! The parts of one TPM evidence, in the one buffer they came in.

use std::ops::Range;

use super::pcr::PcrValues;
use crate::{
    EvidenceDenial,
    cmw::{self, Part, PartName, Slot},
    digest::Sha256Digest,
    kind::EvidenceKind,
};

/// Longest evidence apart from its logs.
pub const EVIDENCE_CAP_BYTES: usize = 64 * 1024;
/// Longest TCG event log.
pub const EVENT_LOG_CAP_BYTES: usize = 1024 * 1024;
/// Longest IMA log.
pub const IMA_LOG_CAP_BYTES: usize = 8 * 1024 * 1024;
/// Longest evidence with all its logs: what may be received at all.
pub const TPM_EVIDENCE_CAP_BYTES: usize = EVIDENCE_CAP_BYTES + EVENT_LOG_CAP_BYTES + IMA_LOG_CAP_BYTES;

pub(crate) const KIND: &str = EvidenceKind::Tpm.collection_type();

/// TPM evidence: a quote, the values it covers, the node key with its certification, and logs.
///
/// Structure only; nothing of it is believed before [`crate::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct TpmEvidence {
    bytes: Vec<u8>,
    digest: Sha256Digest,
    pcrs: PcrValues,
    quote: Range<usize>,
    signature: Range<usize>,
    node_key: Range<usize>,
    certification: Range<usize>,
    certification_signature: Range<usize>,
    event_log: Option<Range<usize>>,
    ima_log: Option<Range<usize>>,
}

/// What a node collects; becomes [`TpmEvidence`] by [`TpmEvidence::assemble`].
#[derive(Clone, Copy, Debug)]
pub struct TpmParts<'a> {
    /// TPMS_ATTEST of TPM2_Quote.
    pub quote: &'a [u8],
    /// TPMT_SIGNATURE over it.
    pub signature: &'a [u8],
    /// Values of the quoted PCRs.
    pub pcrs: &'a PcrValues,
    /// TPM2B_PUBLIC of the node key.
    pub node_key: &'a [u8],
    /// TPMS_ATTEST of TPM2_Certify of the node key by the AK.
    pub certification: &'a [u8],
    /// TPMT_SIGNATURE over it.
    pub certification_signature: &'a [u8],
    /// TCG event log, when asked for.
    pub event_log: Option<&'a [u8]>,
    /// IMA measurement list, when asked for.
    pub ima_log: Option<&'a [u8]>,
}

impl TpmEvidence {
    /// Puts the parts into a collection.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`] for a part above its cap.
    pub fn assemble(parts: TpmParts<'_>) -> Result<Self, EvidenceDenial> {
        let pcrs = parts.pcrs.to_cbor()?;
        Self::decode(cmw::write(KIND, &Self::listed(&parts, &pcrs)))
    }

    /// The parts under their names; `pcrs` is the encoding of [`TpmParts::pcrs`].
    pub(super) fn listed<'p>(parts: &TpmParts<'p>, pcrs: &'p [u8]) -> Vec<Part<'p>> {
        let mut out = Vec::new();
        let mut add = |name: &PartName, value| {
            out.push(Part { label: name.label, media_type: name.media_type, value });
        };
        add(&QUOTE, parts.quote);
        add(&SIGNATURE, parts.signature);
        add(&PCRS, pcrs);
        add(&NODE_KEY, parts.node_key);
        add(&CERTIFICATION, parts.certification);
        add(&CERTIFICATION_SIGNATURE, parts.certification_signature);
        if let Some(log) = parts.event_log {
            add(&EVENT_LOG, log);
        }
        if let Some(log) = parts.ima_log {
            add(&IMA_LOG, log);
        }
        out
    }

    /// Takes the bytes that came and finds the parts in them.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when they are not exactly such a collection, within the caps.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, EvidenceDenial> {
        let slots = cmw::read(&bytes, TPM_EVIDENCE_CAP_BYTES)?.find(KIND, &PARTS)?;
        Self::from_slots(bytes, slots, 0)
    }

    /// The TPM's part of a collection, of which `apart_bytes` are of parts that are not the TPM's.
    pub(super) fn from_slots(bytes: Vec<u8>, slots: [Slot; 8], apart_bytes: usize) -> Result<Self, EvidenceDenial> {
        let [quote, signature, pcrs, node_key, certification, certification_signature, event_log, ima_log] = slots;
        let log_bytes = [&event_log, &ima_log].into_iter().filter_map(|log| log.range.as_ref().map(Range::len));
        let small_bytes = log_bytes.fold(bytes.len(), usize::saturating_sub).saturating_sub(apart_bytes);
        if small_bytes > EVIDENCE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (small_bytes, EVIDENCE_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "evidence without its logs", got_bytes, cap_bytes });
        }
        let pcrs = PcrValues::from_cbor(bytes.get(pcrs.need()?).unwrap_or(&[]))?;
        Ok(Self {
            digest: Sha256Digest::of(&bytes),
            pcrs,
            quote: quote.need()?,
            signature: signature.need()?,
            node_key: node_key.need()?,
            certification: certification.need()?,
            certification_signature: certification_signature.need()?,
            event_log: event_log.range,
            ima_log: ima_log.range,
            bytes,
        })
    }

    pub(super) fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or(&[])
    }

    /// The collection as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`TpmEvidence::bytes`].
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> TpmParts<'_> {
        TpmParts {
            quote: self.part(&self.quote),
            signature: self.part(&self.signature),
            pcrs: &self.pcrs,
            node_key: self.part(&self.node_key),
            certification: self.part(&self.certification),
            certification_signature: self.part(&self.certification_signature),
            event_log: self.event_log.as_ref().map(|range| self.part(range)),
            ima_log: self.ima_log.as_ref().map(|range| self.part(range)),
        }
    }
}

impl std::fmt::Debug for TpmEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TpmEvidence({}, {} bytes)", self.digest, self.bytes.len())
    }
}

const fn small(label: &'static str, media_type: &'static str) -> PartName {
    PartName { label, media_type, cap_bytes: EVIDENCE_CAP_BYTES }
}

const fn log(label: &'static str, media_type: &'static str, cap_bytes: usize) -> PartName {
    PartName { label, media_type, cap_bytes }
}

pub(super) const QUOTE: PartName = small("quote", "application/vnd.attestd.tpms-attest");
pub(super) const SIGNATURE: PartName = small("quote-signature", "application/vnd.attestd.tpmt-signature");
pub(super) const PCRS: PartName = small("pcrs", "application/vnd.attestd.pcr-values+cbor");
pub(super) const NODE_KEY: PartName = small("node-key", "application/vnd.attestd.tpm2b-public");
pub(super) const CERTIFICATION: PartName = small("certification", "application/vnd.attestd.tpms-attest");
pub(super) const CERTIFICATION_SIGNATURE: PartName =
    small("certification-signature", "application/vnd.attestd.tpmt-signature");
pub(super) const EVENT_LOG: PartName = log("event-log", "application/vnd.attestd.tcg-event-log", EVENT_LOG_CAP_BYTES);
pub(super) const IMA_LOG: PartName = log("ima-log", "application/vnd.attestd.ima-log", IMA_LOG_CAP_BYTES);
/// In the order that [`TpmEvidence::decode`] takes them apart.
const PARTS: [PartName; 8] =
    [QUOTE, SIGNATURE, PCRS, NODE_KEY, CERTIFICATION, CERTIFICATION_SIGNATURE, EVENT_LOG, IMA_LOG];
