//! What a node is, fixed by its enrolment for good: a TPM, a TEE, or a TPM in a TEE.

use evidence::digest::Sha256Digest;
use evidence::kind::EvidenceKind;
use evidence::tee::PlatformId;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::store::{StoreError, While};

/// What proves that evidence is a node's. Its kind of evidence follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// A TPM's EK and AK.
    Tpm(TpmIdentity),
    /// The platform that runs the node's TEE; the record key tells nodes of one platform apart.
    Tee(PlatformId),
    /// A TPM and the platform that runs the TEE around it.
    TpmOn(TpmIdentity, PlatformId),
}

/// A TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmIdentity {
    /// SHA-256 of its endorsement key's TPM2B_PUBLIC.
    pub ek_digest: Sha256Digest,
    /// TPM name of its attestation key.
    pub ak_name: Vec<u8>,
}

impl Machine {
    /// The kind of evidence that the node gives, always.
    #[must_use]
    pub fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::Tee(platform) => match platform {
                PlatformId::AmdChip(_) | PlatformId::AmdVlek { .. } => EvidenceKind::SevSnp,
                PlatformId::IntelPpid(_) => EvidenceKind::Tdx,
            },
            Self::TpmOn(_, platform) => match platform {
                PlatformId::AmdChip(_) | PlatformId::AmdVlek { .. } => EvidenceKind::TpmOnSevSnp,
                PlatformId::IntelPpid(_) => EvidenceKind::TpmOnTdx,
            },
        }
    }

    /// Its TPM.
    #[must_use]
    pub fn tpm(&self) -> Option<&TpmIdentity> {
        match self {
            Self::Tpm(tpm) | Self::TpmOn(tpm, _) => Some(tpm),
            Self::Tee(_) => None,
        }
    }

    /// The platform around it.
    #[must_use]
    pub fn platform(&self) -> Option<&PlatformId> {
        match self {
            Self::Tpm(_) => None,
            Self::Tee(platform) | Self::TpmOn(_, platform) => Some(platform),
        }
    }

    /// Names it in lineage records: the EK's digest, or the digest of the platform of a machine without one.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        match self {
            Self::Tpm(tpm) | Self::TpmOn(tpm, _) => tpm.ek_digest,
            Self::Tee(platform) => platform_digest(platform),
        }
    }

    /// As it is stored: EK digest, AK name and platform, each empty where the machine has none.
    pub(super) fn columns(&self) -> (Vec<u8>, Vec<u8>, String) {
        let (ek, ak) = self.tpm().map_or_else(Default::default, |tpm| (tpm.ek_digest.0.to_vec(), tpm.ak_name.clone()));
        (ek, ak, self.platform().map(PlatformId::to_string).unwrap_or_default())
    }

    pub(super) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let bytes = |name| row.try_get::<Vec<u8>, _>(name).doing("reading a node");
        let (ek, ak_name) = (bytes("ek_digest")?, bytes("ak_name")?);
        let platform: String = row.try_get("platform").doing("reading a node")?;
        let corrupt = |column: &str| StoreError::Corrupt { what: format!("node column {column}") };
        let tpm = match (ek.as_slice(), ak_name.is_empty()) {
            ([], true) => None,
            ([], false) | (_, true) => return Err(corrupt("ak_name")),
            (ek, false) => {
                let ek_digest = Sha256Digest::try_from(ek).map_err(|_| corrupt("ek_digest"))?;
                Some(TpmIdentity { ek_digest, ak_name })
            }
        };
        let platform = match platform.as_str() {
            "" => None,
            text => Some(text.parse::<PlatformId>().map_err(|_| corrupt("platform"))?),
        };
        match (tpm, platform) {
            (Some(tpm), None) => Ok(Self::Tpm(tpm)),
            (None, Some(platform)) => Ok(Self::Tee(platform)),
            (Some(tpm), Some(platform)) => Ok(Self::TpmOn(tpm, platform)),
            (None, None) => Err(corrupt("platform")),
        }
    }
}

/// Names a platform in lineage records.
#[must_use]
pub fn platform_digest(platform: &PlatformId) -> Sha256Digest {
    Sha256Digest::labelled("attestd/platform/1", &[platform.to_string().as_bytes()])
}
