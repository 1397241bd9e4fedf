//! Evidence of a vTPM in a confidential VM: all of a TPM's parts, and the report of the TEE that it runs in, in one
//! collection.

use std::ops::Range;

use super::evidence::{
    CERTIFICATION, CERTIFICATION_SIGNATURE, EVENT_LOG, EVENT_LOG_CAP_BYTES, IMA_LOG, NODE_KEY, PCRS, QUOTE, SIGNATURE,
    TPM_EVIDENCE_CAP_BYTES, TpmEvidence, TpmParts,
};
use crate::{
    EvidenceDenial,
    cmw::{self, Part, PartName, Slot},
    digest::Sha256Digest,
    kind::EvidenceKind,
    sev_snp::{
        cert_table::CERT_TABLE_CAP_BYTES,
        evidence::{CERTIFICATES, REPORT},
        report::REPORT_BYTES,
    },
    tdx::quote::QUOTE_CAP_BYTES,
};

/// Longest evidence of a vTPM in an SNP guest.
pub const TPM_ON_SNP_EVIDENCE_CAP_BYTES: usize = TPM_EVIDENCE_CAP_BYTES + REPORT_BYTES + CERT_TABLE_CAP_BYTES + 256;
/// Longest evidence of a vTPM in a trust domain.
pub const TPM_ON_TDX_EVIDENCE_CAP_BYTES: usize = TPM_EVIDENCE_CAP_BYTES + QUOTE_CAP_BYTES + EVENT_LOG_CAP_BYTES + 256;

/// A vTPM's evidence with the SNP report of its guest. Structure only; nothing of it is believed before
/// [`crate::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmOnSnpEvidence {
    tpm: TpmEvidence,
    report: Range<usize>,
    certificates: Option<Range<usize>>,
}

/// What a node collects; becomes [`TpmOnSnpEvidence`] by [`TpmOnSnpEvidence::assemble`].
#[derive(Clone, Copy, Debug)]
pub struct TpmOnSnpParts<'a> {
    /// Of the vTPM.
    pub tpm: TpmParts<'a>,
    /// ATTESTATION_REPORT, 1184 bytes.
    pub report: &'a [u8],
    /// The certificate table of an extended report, as the device gave it.
    pub certificates: Option<&'a [u8]>,
}

impl TpmOnSnpEvidence {
    /// Puts the parts into a collection.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`] for a part above its cap.
    pub fn assemble(parts: TpmOnSnpParts<'_>) -> Result<Self, EvidenceDenial> {
        let pcrs = parts.tpm.pcrs.to_cbor()?;
        let mut out = TpmEvidence::listed(&parts.tpm, &pcrs);
        out.push(part(&REPORT, parts.report));
        out.extend(parts.certificates.map(|certificates| part(&CERTIFICATES, certificates)));
        Self::decode(cmw::write(EvidenceKind::TpmOnSevSnp.collection_type(), &out))
    }

    /// Takes the bytes that came and finds the parts in them.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when they are not exactly such a collection, within the caps.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, EvidenceDenial> {
        let kind = EvidenceKind::TpmOnSevSnp.collection_type();
        let slots = cmw::read(&bytes, TPM_ON_SNP_EVIDENCE_CAP_BYTES)?.find(kind, &beside(REPORT, CERTIFICATES))?;
        let (slots, report, certificates) = apart(slots);
        let (report, certificates) = (report.need()?, certificates.range);
        let apart_bytes = report.len().saturating_add(certificates.as_ref().map_or(0, Range::len));
        Ok(Self { tpm: TpmEvidence::from_slots(bytes, slots, apart_bytes)?, report, certificates })
    }

    /// The vTPM's part. Its bytes and digest are those of the whole collection.
    #[must_use]
    pub const fn tpm(&self) -> &TpmEvidence {
        &self.tpm
    }

    /// The collection as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.tpm.bytes()
    }

    /// SHA-256 of [`TpmOnSnpEvidence::bytes`].
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.tpm.digest()
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> TpmOnSnpParts<'_> {
        TpmOnSnpParts {
            tpm: self.tpm.parts(),
            report: self.tpm.part(&self.report),
            certificates: self.certificates.as_ref().map(|range| self.tpm.part(range)),
        }
    }
}

/// A vTPM's evidence with the TDX quote of its trust domain. Structure only; nothing of it is believed before
/// [`crate::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmOnTdxEvidence {
    tpm: TpmEvidence,
    quote: Range<usize>,
    ccel: Option<Range<usize>>,
}

/// What a node collects; becomes [`TpmOnTdxEvidence`] by [`TpmOnTdxEvidence::assemble`].
#[derive(Clone, Copy, Debug)]
pub struct TpmOnTdxParts<'a> {
    /// Of the vTPM.
    pub tpm: TpmParts<'a>,
    /// TDX quote, without padding.
    pub quote: &'a [u8],
    /// CCEL event log, when asked for.
    pub ccel: Option<&'a [u8]>,
}

impl TpmOnTdxEvidence {
    /// Puts the parts into a collection.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`] for a part above its cap.
    pub fn assemble(parts: TpmOnTdxParts<'_>) -> Result<Self, EvidenceDenial> {
        let pcrs = parts.tpm.pcrs.to_cbor()?;
        let mut out = TpmEvidence::listed(&parts.tpm, &pcrs);
        out.push(part(&TD_QUOTE, parts.quote));
        out.extend(parts.ccel.map(|ccel| part(&CCEL, ccel)));
        Self::decode(cmw::write(EvidenceKind::TpmOnTdx.collection_type(), &out))
    }

    /// Takes the bytes that came and finds the parts in them.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when they are not exactly such a collection, within the caps.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, EvidenceDenial> {
        let kind = EvidenceKind::TpmOnTdx.collection_type();
        let slots = cmw::read(&bytes, TPM_ON_TDX_EVIDENCE_CAP_BYTES)?.find(kind, &beside(TD_QUOTE, CCEL))?;
        let (slots, quote, ccel) = apart(slots);
        let (quote, ccel) = (quote.need()?, ccel.range);
        let apart_bytes = quote.len().saturating_add(ccel.as_ref().map_or(0, Range::len));
        Ok(Self { tpm: TpmEvidence::from_slots(bytes, slots, apart_bytes)?, quote, ccel })
    }

    /// The vTPM's part. Its bytes and digest are those of the whole collection.
    #[must_use]
    pub const fn tpm(&self) -> &TpmEvidence {
        &self.tpm
    }

    /// The collection as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.tpm.bytes()
    }

    /// SHA-256 of [`TpmOnTdxEvidence::bytes`].
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.tpm.digest()
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> TpmOnTdxParts<'_> {
        TpmOnTdxParts {
            tpm: self.tpm.parts(),
            quote: self.tpm.part(&self.quote),
            ccel: self.ccel.as_ref().map(|range| self.tpm.part(range)),
        }
    }
}

fn part<'p>(name: &PartName, value: &'p [u8]) -> Part<'p> {
    Part { label: name.label, media_type: name.media_type, value }
}

/// The TPM's parts and two more.
const fn beside(one: PartName, other: PartName) -> [PartName; 10] {
    let (c, cs) = (CERTIFICATION, CERTIFICATION_SIGNATURE);
    [QUOTE, SIGNATURE, PCRS, NODE_KEY, c, cs, EVENT_LOG, IMA_LOG, one, other]
}

fn apart(slots: [Slot; 10]) -> ([Slot; 8], Slot, Slot) {
    let [quote, signature, pcrs, node_key, c, cs, event_log, ima_log, one, other] = slots;
    ([quote, signature, pcrs, node_key, c, cs, event_log, ima_log], one, other)
}

/// `quote` is the TPM's.
const TD_QUOTE: PartName =
    PartName { label: "td-quote", media_type: "application/vnd.attestd.tdx-quote", cap_bytes: QUOTE_CAP_BYTES };
const CCEL: PartName =
    PartName { label: "ccel", media_type: "application/vnd.attestd.tcg-event-log", cap_bytes: EVENT_LOG_CAP_BYTES };
