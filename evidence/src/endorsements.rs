//! What the verifier holds about the machine that evidence is from, by kind. Fetched before judging.

use crate::{kind::EvidenceKind, sev_snp::SnpEndorsement, tdx::TdxEndorsement, tpm::TpmEndorsement};

/// What the verifier holds, by the kind of evidence it is for.
#[derive(Clone, Debug)]
pub enum Endorsements {
    /// For a TPM.
    Tpm(TpmEndorsement),
    /// For an SNP guest.
    SevSnp(SnpEndorsement),
    /// For a trust domain.
    Tdx(TdxEndorsement),
    /// For a vTPM in an SNP guest; both of one node.
    TpmOnSevSnp(TpmEndorsement, SnpEndorsement),
    /// For a vTPM in a trust domain; both of one node.
    TpmOnTdx(TpmEndorsement, TdxEndorsement),
}

impl Endorsements {
    /// The kind of evidence that they are for.
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

    /// What is held about an SNP guest, for kinds that are one.
    #[must_use]
    pub const fn snp(&self) -> Option<&SnpEndorsement> {
        match self {
            Self::SevSnp(snp) | Self::TpmOnSevSnp(_, snp) => Some(snp),
            Self::Tpm(_) | Self::Tdx(_) | Self::TpmOnTdx(..) => None,
        }
    }

    /// What is held about a TPM, for kinds that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmEndorsement> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) | Self::TpmOnTdx(tpm, _) => Some(tpm),
            Self::SevSnp(_) | Self::Tdx(_) => None,
        }
    }
}
