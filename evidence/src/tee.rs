//! The identity of a TEE node: which platform it was enrolled on, and the key that signs its records.

use serde::{Deserialize, Serialize};

use crate::{cose, digest::Sha256Digest, names::NodeId};

/// Longest CSP_ID, in bytes.
pub const CSP_ID_CAP_BYTES: usize = 64;

/// The CSP_ID of a VLEK certificate (AMD 57230, extension 1.3.6.1.4.1.3704.1.5): printable ASCII, at most
/// [`CSP_ID_CAP_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CspId(String);

impl CspId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CspId {
    type Error = PlatformIdError;

    fn try_from(text: String) -> Result<Self, PlatformIdError> {
        let printable = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if printable && !text.is_empty() && text.len() <= CSP_ID_CAP_BYTES {
            Ok(Self(text))
        } else {
            Err(PlatformIdError)
        }
    }
}

impl From<CspId> for String {
    fn from(id: CspId) -> Self {
        id.0
    }
}

impl std::fmt::Display for CspId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The platform that signs a TEE node's evidence, as far as the evidence names it.
///
/// As text: `amd-chip:` and 128 hexadecimal digits, `amd-vlek:` and the CSP_ID, or `intel-ppid:` and 32 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PlatformId {
    /// CHIP_ID of an SNP report (AMD 56860, 0x1A0), equal to the VCEK's HWID.
    AmdChip(Box<[u8; 64]>),
    /// A machine of the cloud provider that the VLEK was issued to: any of them.
    AmdVlek {
        /// The provider.
        csp_id: CspId,
    },
    /// PPID of the PCK certificate (Intel SGX PCK certificate specification, extension 1.2.840.113741.1.13.1.1).
    IntelPpid([u8; 16]),
}

/// Text that names no platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a platform is written as amd-chip: and 128 hexadecimal digits, amd-vlek: and up to 64 printable characters, or \
     intel-ppid: and 32 hexadecimal digits"
)]
pub struct PlatformIdError;

const AMD_CHIP: &str = "amd-chip:";
const AMD_VLEK: &str = "amd-vlek:";
const INTEL_PPID: &str = "intel-ppid:";

impl std::str::FromStr for PlatformId {
    type Err = PlatformIdError;

    fn from_str(text: &str) -> Result<Self, PlatformIdError> {
        let id = if let Some(digits) = text.strip_prefix(AMD_CHIP) {
            let mut chip = Box::new([0u8; 64]);
            hex::decode_to_slice(digits, chip.as_mut()).map_err(|_| PlatformIdError)?;
            Self::AmdChip(chip)
        } else if let Some(csp_id) = text.strip_prefix(AMD_VLEK) {
            Self::AmdVlek { csp_id: CspId::try_from(csp_id.to_owned())? }
        } else {
            let digits = text.strip_prefix(INTEL_PPID).ok_or(PlatformIdError)?;
            let mut ppid = [0u8; 16];
            hex::decode_to_slice(digits, &mut ppid).map_err(|_| PlatformIdError)?;
            Self::IntelPpid(ppid)
        };
        // upper-case digits would be a second name of the same platform
        if id.to_string() == text { Ok(id) } else { Err(PlatformIdError) }
    }
}

impl TryFrom<String> for PlatformId {
    type Error = PlatformIdError;

    fn try_from(text: String) -> Result<Self, PlatformIdError> {
        text.parse()
    }
}

impl From<PlatformId> for String {
    fn from(id: PlatformId) -> Self {
        id.to_string()
    }
}

impl std::fmt::Display for PlatformId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AmdChip(chip) => write!(f, "{AMD_CHIP}{}", hex::encode(chip.as_ref())),
            Self::AmdVlek { csp_id } => write!(f, "{AMD_VLEK}{csp_id}"),
            Self::IntelPpid(ppid) => write!(f, "{INTEL_PPID}{}", hex::encode(ppid)),
        }
    }
}

/// A TEE node as it enrolled: its name, platform and record key, which never change for that name. Many nodes may
/// share one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledPlatform {
    node_id: NodeId,
    platform: PlatformId,
    record_key: cose::PublicKey,
    digest: Sha256Digest,
}

impl EnrolledPlatform {
    /// The identity that evidence of `platform`, bound to [`enrolment_subject`], proved.
    #[must_use]
    pub fn new(node_id: NodeId, platform: PlatformId, record_key: cose::PublicKey) -> Self {
        let named = platform.to_string();
        let parts: [&[u8]; 3] = [node_id.as_str().as_bytes(), named.as_bytes(), record_key.cose_key()];
        let digest = Sha256Digest::labelled("attestd/enrolled-platform/1", &parts);
        Self { node_id, platform, record_key, digest }
    }

    /// The node's name in the domain.
    #[must_use]
    pub const fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    /// Its platform.
    #[must_use]
    pub const fn platform(&self) -> &PlatformId {
        &self.platform
    }

    /// The key that signs its intents and halt records.
    #[must_use]
    pub const fn record_key(&self) -> &cose::PublicKey {
        &self.record_key
    }

    /// SHA-256 over name, platform and record key, each with its length: names this identity in results.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }
}

/// Subject of the challenge that a TEE node answers to enrol: SHA-256 over the label, its name and its record key
/// (COSE_Key), each with its length. Ties the record key to the evidence.
#[must_use]
pub fn enrolment_subject(node_id: &NodeId, record_key: &cose::PublicKey) -> Sha256Digest {
    Sha256Digest::labelled("attestd/tee-enrolment/1", &[node_id.as_str().as_bytes(), record_key.cose_key()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cose::SigningKey;

    #[test]
    fn platforms_read_back_from_their_one_text() {
        let csp_id = CspId::try_from("A Cloud".to_owned()).unwrap();
        for id in [
            PlatformId::AmdChip(Box::new([0xab; 64])),
            PlatformId::AmdVlek { csp_id },
            PlatformId::IntelPpid([0xcd; 16]),
        ] {
            assert_eq!(id.to_string().parse(), Ok(id.clone()));
        }
        let ppid = "cd".repeat(16);
        let wrong = [
            String::new(),
            format!("intel-ppid:{}", ppid.to_uppercase()),
            format!("intel-ppid:{ppid}cd"),
            format!("amd-chip:{ppid}"),
            "amd-vlek:".to_owned(),
            "amd-vlek:a\nb".to_owned(),
            format!("amd-vlek:{}", "a".repeat(CSP_ID_CAP_BYTES + 1)),
            ppid,
        ];
        for text in wrong {
            assert_eq!(text.parse::<PlatformId>(), Err(PlatformIdError), "{text}");
        }
    }

    #[test]
    fn every_part_of_an_identity_changes_its_digest() {
        let key = |seed| SigningKey::from_seed(&[seed; 32]).unwrap().public().clone();
        let node = |name| NodeId::new(name).unwrap();
        let base = EnrolledPlatform::new(node("a"), PlatformId::IntelPpid([1; 16]), key(1));
        for other in [
            EnrolledPlatform::new(node("b"), PlatformId::IntelPpid([1; 16]), key(1)),
            EnrolledPlatform::new(node("a"), PlatformId::IntelPpid([2; 16]), key(1)),
            EnrolledPlatform::new(node("a"), PlatformId::IntelPpid([1; 16]), key(2)),
        ] {
            assert_ne!(other.digest(), base.digest());
        }
        assert_ne!(enrolment_subject(&node("a"), &key(1)), enrolment_subject(&node("a"), &key(2)));
        assert_ne!(enrolment_subject(&node("a"), &key(1)), enrolment_subject(&node("b"), &key(1)));
    }
}
