//! What evidence measures, by the register that holds it, for every kind of machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A measured register. As text: `pcr.4`, `rtmr.0`, or the field's name in its specification, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Register {
    /// PCR of a TPM, 0 to 23.
    Pcr(u8),
    /// MEASUREMENT of an SNP report: launch digest of the guest, SHA-384 (AMD 56860, 0x090).
    Measurement,
    /// HOST_DATA of an SNP report: 32 bytes that the host gave at launch (0x0C0).
    HostData,
    /// ID_KEY_DIGEST of an SNP report, SHA-384 (0x0E0).
    IdKeyDigest,
    /// AUTHOR_KEY_DIGEST of an SNP report, SHA-384 (0x110).
    AuthorKeyDigest,
    /// MRTD of a TD report: initial contents of the trust domain, SHA-384.
    MrTd,
    /// RTMR of a TD report, 0 to 3, SHA-384.
    Rtmr(u8),
    /// MRCONFIGID of a TD report: 48 bytes that the host gave.
    MrConfigId,
    /// MROWNER of a TD report: 48 bytes that the host gave.
    MrOwner,
    /// MROWNERCONFIG of a TD report: 48 bytes that the host gave.
    MrOwnerConfig,
    /// MRSERVICETD of a TD report: the service trust domains bound to it, SHA-384.
    MrServiceTd,
}

impl Register {
    /// The PCR, if it is one.
    #[must_use]
    pub const fn pcr(self) -> Option<u8> {
        match self {
            Self::Pcr(index) => Some(index),
            Self::Measurement
            | Self::HostData
            | Self::IdKeyDigest
            | Self::AuthorKeyDigest
            | Self::MrTd
            | Self::Rtmr(_)
            | Self::MrConfigId
            | Self::MrOwner
            | Self::MrOwnerConfig
            | Self::MrServiceTd => None,
        }
    }
}

/// Highest PCR of a TPM.
const LAST_PCR: u8 = 23;
/// Highest RTMR of a trust domain.
const LAST_RTMR: u8 = 3;

/// Registers that stand for themselves, with their names.
const NAMED: [(Register, &str); 9] = [
    (Register::Measurement, "measurement"),
    (Register::HostData, "host_data"),
    (Register::IdKeyDigest, "id_key_digest"),
    (Register::AuthorKeyDigest, "author_key_digest"),
    (Register::MrTd, "mrtd"),
    (Register::MrConfigId, "mrconfigid"),
    (Register::MrOwner, "mrowner"),
    (Register::MrOwnerConfig, "mrownerconfig"),
    (Register::MrServiceTd, "mrservicetd"),
];

/// Text that names no register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a register is written as pcr.0 to pcr.23, rtmr.0 to rtmr.3, or by the name of a report's field")]
pub struct RegisterError;

impl std::str::FromStr for Register {
    type Err = RegisterError;

    fn from_str(text: &str) -> Result<Self, RegisterError> {
        let index = |digits: &str, last: u8| digits.parse::<u8>().ok().filter(|index| *index <= last);
        let read = if let Some(digits) = text.strip_prefix("pcr.") {
            index(digits, LAST_PCR).map(Self::Pcr)
        } else if let Some(digits) = text.strip_prefix("rtmr.") {
            index(digits, LAST_RTMR).map(Self::Rtmr)
        } else {
            NAMED.iter().find(|(_, name)| *name == text).map(|(register, _)| *register)
        };
        // a leading zero or sign would be a second name of the same register
        read.filter(|register| register.to_string() == text).ok_or(RegisterError)
    }
}

impl TryFrom<String> for Register {
    type Error = RegisterError;

    fn try_from(text: String) -> Result<Self, RegisterError> {
        text.parse()
    }
}

impl From<Register> for String {
    fn from(register: Register) -> Self {
        register.to_string()
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(index) => write!(f, "pcr.{index}"),
            Self::Rtmr(index) => write!(f, "rtmr.{index}"),
            Self::Measurement => f.write_str("measurement"),
            Self::HostData => f.write_str("host_data"),
            Self::IdKeyDigest => f.write_str("id_key_digest"),
            Self::AuthorKeyDigest => f.write_str("author_key_digest"),
            Self::MrTd => f.write_str("mrtd"),
            Self::MrConfigId => f.write_str("mrconfigid"),
            Self::MrOwner => f.write_str("mrowner"),
            Self::MrOwnerConfig => f.write_str("mrownerconfig"),
            Self::MrServiceTd => f.write_str("mrservicetd"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_read_back_from_their_one_text() {
        let indexed = (0..=LAST_PCR).map(Register::Pcr).chain((0..=LAST_RTMR).map(Register::Rtmr));
        for register in indexed.chain(NAMED.map(|(register, _)| register)) {
            assert_eq!(register.to_string().parse(), Ok(register));
        }
        for text in ["", "pcr", "pcr.", "pcr.24", "pcr.04", "pcr.+4", "rtmr.4", "PCR.4", "mrtd ", "pcr.256"] {
            assert_eq!(text.parse::<Register>(), Err(RegisterError), "{text:?}");
        }
    }
}
