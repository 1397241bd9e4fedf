//! A challenge: what the verifier demands of one evidence, once.

use serde::{Deserialize, Serialize};

use crate::{
    digest::{HashAlg, Sha256Digest},
    kind::EvidenceKind,
    time::UnixSeconds,
};

/// Longest time a challenge may be answered, in seconds.
pub const CHALLENGE_TTL_S: u64 = 10;

/// What one piece of evidence must answer, all of it chosen or observed by the verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// 256 random bits, used once.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 32],
    /// TLS 1.3 exporter value of the connection that the challenge was sent on.
    #[serde(with = "serde_bytes")]
    pub channel: [u8; 32],
    /// The verifier's SPIFFE ID.
    pub audience: String,
    /// The verifier's governance epoch.
    pub epoch: u64,
    /// Digest of the intent (first time) or of the sorted live artifact digests (renewal).
    pub subject: Sha256Digest,
    /// Newest record of the node's lineage, as the node named it and the verifier accepted it.
    pub lineage_head: Sha256Digest,
    /// When it was sent.
    pub issued_at: UnixSeconds,
    /// When it ends, at most [`CHALLENGE_TTL_S`] later.
    pub expires_at: UnixSeconds,
    /// What must come, by the kind of evidence.
    pub demands: Demands,
}

/// What evidence must come with. The verifier chooses the kind with it: evidence of another kind is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Demands {
    /// A TPM quote.
    Tpm(TpmDemands),
    /// An SNP report; nothing of it is a choice.
    SevSnp,
    /// A TDX quote.
    Tdx(TdxDemands),
    /// A vTPM's quote with the SNP report that its AK is bound to.
    TpmOnSevSnp(TpmDemands),
    /// A vTPM's quote with the TDX quote that its AK is bound to.
    TpmOnTdx(TpmOnTdxDemands),
}

impl Demands {
    /// The kind of evidence that is demanded.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::SevSnp => EvidenceKind::SevSnp,
            Self::Tdx(_) => EvidenceKind::Tdx,
            Self::TpmOnSevSnp(_) => EvidenceKind::TpmOnSevSnp,
            Self::TpmOnTdx(_) => EvidenceKind::TpmOnTdx,
        }
    }

    /// What is demanded of the TPM, of kinds that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmDemands> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm) | Self::TpmOnTdx(TpmOnTdxDemands { tpm, .. }) => Some(tpm),
            Self::SevSnp | Self::Tdx(_) => None,
        }
    }

    /// The same, to be changed.
    pub const fn tpm_mut(&mut self) -> Option<&mut TpmDemands> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm) | Self::TpmOnTdx(TpmOnTdxDemands { tpm, .. }) => Some(tpm),
            Self::SevSnp | Self::Tdx(_) => None,
        }
    }
}

/// What is demanded of a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmDemands {
    /// Bank that must be quoted.
    pub pcr_bank: HashAlg,
    /// PCRs that must be quoted, ascending, neither more nor fewer.
    pub pcrs: Vec<u8>,
    /// PCRs of the node key's PolicyPCR, ascending.
    pub node_key_pcrs: Vec<u8>,
    /// Whether the TCG event log must come with the quote.
    pub event_log: bool,
    /// Whether the IMA log must come with the quote.
    pub ima_log: bool,
}

/// What is demanded of a TDX guest without a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxDemands {
    /// Whether the CCEL event log must come with the quote.
    pub event_log: bool,
}

/// What is demanded of a vTPM in a TDX guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmOnTdxDemands {
    /// Of the vTPM.
    pub tpm: TpmDemands,
    /// Whether the CCEL event log must come with the TDX quote.
    pub ccel: bool,
}
