//! What evidence says once it is proven, by kind.

use crate::{
    cose,
    digest::Sha256Digest,
    kind::EvidenceKind,
    names::NodeId,
    sev_snp::SnpClaims,
    tdx::TdxClaims,
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
    /// A trust domain.
    Tdx(TdxClaims<'a>),
    /// A vTPM in an SNP guest.
    TpmOnSevSnp(TpmClaims<'a>, SnpClaims<'a>),
    /// A vTPM in a trust domain.
    TpmOnTdx(TpmClaims<'a>, TdxClaims<'a>),
}

impl<'a> Claims<'a> {
    /// The kind of evidence.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::SevSnp(_) => EvidenceKind::SevSnp,
            Self::Tdx(_) => EvidenceKind::Tdx,
            Self::TpmOnSevSnp(..) => EvidenceKind::TpmOnSevSnp,
            Self::TpmOnTdx(..) => EvidenceKind::TpmOnTdx,
        }
    }

    /// What a TPM says, of kinds that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmClaims<'a>> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) | Self::TpmOnTdx(tpm, _) => Some(tpm),
            Self::SevSnp(_) | Self::Tdx(_) => None,
        }
    }

    /// What an SNP report says, of kinds that have one.
    #[must_use]
    pub const fn snp(&self) -> Option<&SnpClaims<'a>> {
        match self {
            Self::SevSnp(snp) | Self::TpmOnSevSnp(_, snp) => Some(snp),
            Self::Tpm(_) | Self::Tdx(_) | Self::TpmOnTdx(..) => None,
        }
    }

    /// What a TDX quote says, of kinds that have one.
    #[must_use]
    pub const fn tdx(&self) -> Option<&TdxClaims<'a>> {
        match self {
            Self::Tdx(tdx) | Self::TpmOnTdx(_, tdx) => Some(tdx),
            Self::Tpm(_) | Self::SevSnp(_) | Self::TpmOnSevSnp(..) => None,
        }
    }

    /// SHA-256 of the evidence as received.
    #[must_use]
    pub const fn evidence_digest(&self) -> Sha256Digest {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) | Self::TpmOnTdx(tpm, _) => tpm.evidence_digest(),
            Self::SevSnp(snp) => snp.evidence_digest(),
            Self::Tdx(tdx) => tdx.evidence_digest(),
        }
    }

    /// The node that enrolled.
    #[must_use]
    pub fn node_id(&self) -> &'a NodeId {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) | Self::TpmOnTdx(tpm, _) => tpm.node_id(),
            Self::SevSnp(snp) => snp.enrolled().node_id(),
            Self::Tdx(tdx) => tdx.enrolled().node_id(),
        }
    }

    /// The node's record key.
    #[must_use]
    pub fn record_key(&self) -> &'a cose::PublicKey {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) | Self::TpmOnTdx(tpm, _) => tpm.record_key(),
            Self::SevSnp(snp) => snp.enrolled().record_key(),
            Self::Tdx(tdx) => tdx.enrolled().record_key(),
        }
    }

    /// The platform of the TEE, of kinds that have one.
    #[must_use]
    pub fn platform(&self) -> Option<&'a PlatformId> {
        match self {
            Self::SevSnp(snp) | Self::TpmOnSevSnp(_, snp) => Some(snp.enrolled().platform()),
            Self::Tdx(tdx) | Self::TpmOnTdx(_, tdx) => Some(tdx.enrolled().platform()),
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
            Self::Tdx(tdx) => tdx.enrolled().digest(),
            Self::TpmOnSevSnp(tpm, snp) => both(tpm, snp.enrolled().digest()),
            Self::TpmOnTdx(tpm, tdx) => both(tpm, tdx.enrolled().digest()),
        }
    }

    /// Whether any root that vouches for it is accepted for a lab only.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        let tpm = |tpm: &TpmClaims<'_>| matches!(tpm.endorsement().endorser(), EkEndorser::Simulated(_));
        match self {
            Self::Tpm(on_tpm) => tpm(on_tpm),
            Self::SevSnp(snp) => snp.vek().is_simulated(),
            Self::Tdx(tdx) => tdx.is_simulated(),
            Self::TpmOnSevSnp(on_tpm, snp) => tpm(on_tpm) || snp.vek().is_simulated(),
            Self::TpmOnTdx(on_tpm, tdx) => tpm(on_tpm) || tdx.is_simulated(),
        }
    }
}
