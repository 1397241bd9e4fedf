//! What evidence says once it is proven, by kind.

use crate::{
    cose,
    digest::Sha256Digest,
    kind::EvidenceKind,
    names::NodeId,
    sev_snp::SnpClaims,
    tee::PlatformId,
    tpm::{appraisal::TpmClaims, ek::EkEndorser},
};

/// What proven evidence says, by kind.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one of them, on the stack; a box would cost an allocation each time")]
pub enum Claims<'a> {
    /// A TPM.
    Tpm(TpmClaims<'a>),
    /// An SNP guest.
    SevSnp(SnpClaims<'a>),
    /// A vTPM in an SNP guest.
    TpmOnSevSnp(TpmClaims<'a>, SnpClaims<'a>),
}

impl<'a> Claims<'a> {
    /// The kind of evidence.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::SevSnp(_) => EvidenceKind::SevSnp,
            Self::TpmOnSevSnp(..) => EvidenceKind::TpmOnSevSnp,
        }
    }

    /// What a TPM says, of kinds that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmClaims<'a>> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) => Some(tpm),
            Self::SevSnp(_) => None,
        }
    }

    /// What an SNP report says, of kinds that have one.
    #[must_use]
    pub const fn snp(&self) -> Option<&SnpClaims<'a>> {
        match self {
            Self::SevSnp(snp) | Self::TpmOnSevSnp(_, snp) => Some(snp),
            Self::Tpm(_) => None,
        }
    }

    /// SHA-256 of the evidence as received.
    #[must_use]
    pub const fn evidence_digest(&self) -> Sha256Digest {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) => tpm.evidence_digest(),
            Self::SevSnp(snp) => snp.evidence_digest(),
        }
    }

    /// The node that enrolled.
    #[must_use]
    pub fn node_id(&self) -> &'a NodeId {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) => tpm.node_id(),
            Self::SevSnp(snp) => snp.enrolled().node_id(),
        }
    }

    /// The node's record key.
    #[must_use]
    pub fn record_key(&self) -> &'a cose::PublicKey {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) => tpm.record_key(),
            Self::SevSnp(snp) => snp.enrolled().record_key(),
        }
    }

    /// The platform of the TEE, of kinds that have one.
    #[must_use]
    pub fn platform(&self) -> Option<&'a PlatformId> {
        match self {
            Self::SevSnp(snp) | Self::TpmOnSevSnp(_, snp) => Some(snp.enrolled().platform()),
            Self::Tpm(_) => None,
        }
    }

    /// Names what was enrolled: the digest of the enrolment, or of both where there are two.
    #[must_use]
    pub fn enrolment_digest(&self) -> Sha256Digest {
        let both = |tpm: &TpmClaims<'_>, platform: Sha256Digest| {
            let tpm = tpm.enrolment_digest();
            Sha256Digest::labelled("attestd/enrolments/1", &[tpm.as_bytes(), platform.as_bytes()])
        };
        match self {
            Self::Tpm(tpm) => tpm.enrolment_digest(),
            Self::SevSnp(snp) => snp.enrolled().digest(),
            Self::TpmOnSevSnp(tpm, snp) => both(tpm, snp.enrolled().digest()),
        }
    }

    /// Whether any root that vouches for it is accepted for a lab only.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        let tpm = |tpm: &TpmClaims<'_>| matches!(tpm.endorsement().endorser(), EkEndorser::Simulated(_));
        match self {
            Self::Tpm(on_tpm) => tpm(on_tpm),
            Self::SevSnp(snp) => snp.vek().is_simulated(),
            Self::TpmOnSevSnp(on_tpm, snp) => tpm(on_tpm) || snp.vek().is_simulated(),
        }
    }
}
