//! Small text forms used in authored reference values: free text, firmware
//! versions, manufacturers and dates. Each parses once, at load, so a typing
//! error is reported on the line that holds it.

use std::fmt;
use std::time::{Duration, SystemTime};

use evidence::time::UnixSeconds;
use serde::{Deserialize, Serialize};

/// Longest free text (reason, source, description) a set may carry.
pub const TEXT_CAP_BYTES: usize = 256;

/// Free text written by people: printable, one line, capped. It is shown, never compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Text from another program or a peer: what may not be shown is replaced, the rest is cut at the cap.
    #[must_use]
    pub fn lossy(text: &str) -> Self {
        let mut out = String::new();
        for c in text.chars() {
            let c = if c.is_control() || is_bidi(c) { '?' } else { c };
            if out.len().saturating_add(c.len_utf8()) > TEXT_CAP_BYTES {
                break;
            }
            out.push(c);
        }
        Self(out)
    }
}

impl TryFrom<String> for Text {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > TEXT_CAP_BYTES {
            return Err(format!("text is at most {TEXT_CAP_BYTES} bytes"));
        }
        if text.chars().any(|c| c.is_control() || is_bidi(c)) {
            return Err("text may not hold control or direction-changing characters".to_owned());
        }
        Ok(Self(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Characters that make a terminal show something else than what is stored.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A moment written as RFC 3339 in UTC (`2026-11-22T00:00:00Z`), whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(UnixSeconds);

impl Moment {
    /// Seconds since 1970.
    #[must_use]
    pub fn at(self) -> UnixSeconds {
        self.0
    }
}

impl From<UnixSeconds> for Moment {
    fn from(at: UnixSeconds) -> Self {
        Self(at)
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || "a moment is written as 2026-11-22T00:00:00Z (RFC 3339, UTC, whole seconds)".to_owned();
        let time = humantime::parse_rfc3339(&text).map_err(|_| wrong())?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| wrong())?;
        if since.subsec_nanos() != 0 || text.len() != 20 {
            return Err(wrong());
        }
        Ok(Self(UnixSeconds(since.as_secs())))
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.0.0)) {
            Some(time) => write!(f, "{}", humantime::format_rfc3339_seconds(time)),
            None => write!(f, "{} s", self.0.0),
        }
    }
}

/// A TPM manufacturer as its EK certificate names it: `id:` and the four bytes
/// of TPM_PT_MANUFACTURER in hexadecimal (TCG EK Credential Profile 2.4, §3.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Manufacturer([u8; 4]);

impl Manufacturer {
    /// From the four bytes of TPM_PT_MANUFACTURER.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<String> for Manufacturer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || "a TPM manufacturer is written as id:49464800 (eight hexadecimal digits)".to_owned();
        let digits = text.strip_prefix("id:").ok_or_else(wrong)?;
        let mut bytes = [0u8; 4];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl From<Manufacturer> for String {
    fn from(manufacturer: Manufacturer) -> Self {
        manufacturer.to_string()
    }
}

impl fmt::Display for Manufacturer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id:{}", hex::encode_upper(self.0))
    }
}

/// The Name of a TPM key (TPM 2.0 Part 1, §16): its hash algorithm and the
/// digest of its public area, in hexadecimal as `tpm2_readpublic` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(Vec<u8>);

impl KeyName {
    /// From the Name's bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl TryFrom<String> for KeyName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || "a key's Name is 000b and 64, or 000c and 96 hexadecimal digits".to_owned();
        let bytes = hex::decode(text).map_err(|_| wrong())?;
        match (bytes.as_slice(), bytes.len()) {
            ([0x00, 0x0b, ..], 34) | ([0x00, 0x0c, ..], 50) => Ok(Self(bytes)),
            _ => Err(wrong()),
        }
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// A TPM firmware version, the 64-bit firmwareVersion of TPMS_ATTEST (TPM 2.0
/// Part 2, §10.12.12) as sixteen hexadecimal digits: `2019102300163636`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FirmwareVersion(pub u64);

impl TryFrom<String> for FirmwareVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || "a firmware version is sixteen hexadecimal digits, as in 2019102300163636".to_owned();
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u64::from_str_radix(&text, 16).map(Self).map_err(|_| wrong())
    }
}

impl From<FirmwareVersion> for String {
    fn from(version: FirmwareVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_back() {
        let moment = Moment::try_from("2026-11-22T00:00:00Z".to_owned()).unwrap();
        assert_eq!(moment.at(), UnixSeconds(1_795_305_600));
        assert_eq!(moment.to_string(), "2026-11-22T00:00:00Z");
        for wrong in ["2026-11-22", "2026-11-22T00:00:00.5Z", "1969-12-31T23:59:59Z", "2026-11-22 00:00:00Z", ""] {
            assert!(Moment::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_that_deceives_a_terminal_is_refused() {
        assert!(Text::try_from("a\u{202e}b".to_owned()).is_err());
        assert!(Text::try_from("a\nb".to_owned()).is_err());
        assert_eq!(Text::lossy("a\u{1b}[2J").as_str(), "a?[2J");
        assert_eq!(Text::lossy(&"é".repeat(1000)).as_str().len(), TEXT_CAP_BYTES);
    }

    #[test]
    fn manufacturers_and_versions_read_back() {
        let maker = Manufacturer::try_from("id:49424D00".to_owned()).unwrap();
        assert_eq!(maker.to_string(), "id:49424D00");
        assert!(Manufacturer::try_from("IBM".to_owned()).is_err());
        let version = FirmwareVersion::try_from("2019102300163636".to_owned()).unwrap();
        assert_eq!(version.0, 0x2019_1023_0016_3636);
        assert_eq!(version.to_string(), "2019102300163636");
        assert!(FirmwareVersion::try_from("+019102300163636".to_owned()).is_err());
    }
}
