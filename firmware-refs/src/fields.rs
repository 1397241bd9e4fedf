//! Small forms of hardware fields in authored reference values: byte strings, bit masks, rules for bits, firmware
//! builds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Exactly `N` bytes, as lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> TryFrom<String> for Hex<N> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; N];
        match hex::decode_to_slice(&text, &mut bytes) {
            Ok(()) if !text.bytes().any(|b| b.is_ascii_uppercase()) => Ok(Self(bytes)),
            Ok(()) | Err(_) => Err(format!("{} lower-case hexadecimal digits", N.saturating_mul(2))),
        }
    }
}

impl<const N: usize> From<Hex<N>> for String {
    fn from(bytes: Hex<N>) -> Self {
        bytes.to_string()
    }
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A 64-bit mask, as `0x` and sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mask(pub u64);

impl TryFrom<String> for Mask {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || "a mask is written as 0x and sixteen hexadecimal digits".to_owned();
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 16).ok_or_else(wrong)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u64::from_str_radix(digits, 16).map(Self).map_err(|_| wrong())
    }
}

impl From<Mask> for String {
    fn from(mask: Mask) -> Self {
        mask.to_string()
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// What one bit must be. `any` is a choice that the author writes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BitRule {
    /// It must be 1.
    Required,
    /// It must be 0.
    Forbidden,
    /// It may be either.
    Any,
}

impl BitRule {
    /// What the bit must be, if that matters and `got` is something else.
    #[must_use]
    pub const fn refuses(self, got: bool) -> Option<bool> {
        match (self, got) {
            (Self::Required, false) => Some(true),
            (Self::Forbidden, true) => Some(false),
            (Self::Required, true) | (Self::Forbidden, false) | (Self::Any, _) => None,
        }
    }
}

/// Version of the SEV firmware, `major.minor.build` (AMD 56860, CURRENT_BUILD and its neighbours, 0x1E8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SevFirmware {
    /// ABI major version.
    pub major: u8,
    /// ABI minor version.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

impl From<evidence::sev_snp::report::FirmwareVersion> for SevFirmware {
    fn from(version: evidence::sev_snp::report::FirmwareVersion) -> Self {
        let evidence::sev_snp::report::FirmwareVersion { major, minor, build } = version;
        Self { major, minor, build }
    }
}

impl TryFrom<String> for SevFirmware {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || "SEV firmware is written as major.minor.build, each 0 to 255, as in 1.55.22".to_owned();
        let mut numbers = text.split('.').map(|number| number.parse::<u8>());
        let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(build)), None) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(wrong());
        };
        let read = Self { major, minor, build };
        if read.to_string() == text { Ok(read) } else { Err(wrong()) }
    }
}

impl From<SevFirmware> for String {
    fn from(version: SevFirmware) -> Self {
        version.to_string()
    }
}

impl fmt::Display for SevFirmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Products as they are written: AMD's name for each.
pub(crate) mod product {
    use evidence::sev_snp::Product;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(product: &Product, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(product.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Product, D::Error> {
        let text = String::deserialize(deserializer)?;
        let named = Product::ALL.into_iter().find(|product| product.name() == text);
        named.ok_or_else(|| D::Error::custom("a product is Milan, Genoa, Bergamo, Siena or Turin"))
    }
}

/// TCB statuses as they are written: Intel's name for each.
pub(crate) mod tcb_statuses {
    use evidence::tdx::TcbStatus;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(statuses: &[TcbStatus], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(statuses.iter().map(|status| status.name()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TcbStatus>, D::Error> {
        let named = |text: String| {
            TcbStatus::from_name(&text).ok_or_else(|| D::Error::custom("not a TCB status by Intel's name"))
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_read_back_and_others_are_refused() {
        assert_eq!(Hex::<2>::try_from("0aff".to_owned()), Ok(Hex([0x0a, 0xff])));
        for wrong in ["0AFF", "0af", "0aff00", ""] {
            assert!(Hex::<2>::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert_eq!(Mask::try_from("0x0000000000000003".to_owned()), Ok(Mask(3)));
        assert_eq!(Mask(3).to_string(), "0x0000000000000003");
        for wrong in ["3", "0x3", "0x00000000000000031", "0x+000000000000003"] {
            assert!(Mask::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        let version = SevFirmware { major: 1, minor: 55, build: 22 };
        assert_eq!(SevFirmware::try_from("1.55.22".to_owned()), Ok(version));
        for wrong in ["1.55", "1.55.22.1", "1.55.256", "01.55.22", "1.55.+2"] {
            assert!(SevFirmware::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_refuses_only_the_other_value() {
        assert_eq!((BitRule::Required.refuses(false), BitRule::Required.refuses(true)), (Some(true), None));
        assert_eq!((BitRule::Forbidden.refuses(true), BitRule::Forbidden.refuses(false)), (Some(false), None));
        assert_eq!((BitRule::Any.refuses(true), BitRule::Any.refuses(false)), (None, None));
    }
}
