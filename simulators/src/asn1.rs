//! A writer of DER, and only that: the simulators share no encoder with the readers under test, so that a misread
//! tag or length shows. Contents are joined as they are; nothing is sorted or checked.

use der::{DateTime, oid::ObjectIdentifier};

use crate::SimulatorError;

/// One tag, its definite length in the shortest form, and `content`.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    if let Ok(short @ 0..=0x7f) = u8::try_from(content.len()) {
        out.push(short);
    } else {
        let length: Vec<u8> = content.len().to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.push(u8::try_from(length.len()).unwrap_or(u8::MAX) | 0x80);
        out.extend(length);
    }
    out.extend_from_slice(content);
    out
}

/// SEQUENCE of `parts`, each already DER.
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// SET of `parts`, each already DER.
pub fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

/// A constructed context-specific tag `[number]` around `content`.
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// INTEGER of an unsigned big-endian number: leading zeros dropped, one put back where the top bit is set.
pub fn unsigned(big_endian: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = big_endian.iter().copied().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|top| top & 0x80 != 0) {
        content.insert(0, 0);
    }
    tlv(0x02, &content)
}

/// INTEGER of a small unsigned number.
pub fn small(number: u64) -> Vec<u8> {
    unsigned(&number.to_be_bytes())
}

/// OBJECT IDENTIFIER.
pub fn oid(identifier: ObjectIdentifier) -> Vec<u8> {
    tlv(0x06, identifier.as_bytes())
}

/// OCTET STRING.
pub fn octets(content: &[u8]) -> Vec<u8> {
    tlv(0x04, content)
}

/// BIT STRING of whole bytes.
pub fn bits(content: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], content].concat())
}

/// BOOLEAN.
pub fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xff } else { 0 }])
}

/// NULL.
pub fn null() -> Vec<u8> {
    tlv(0x05, &[])
}

/// UTF8String.
pub fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// PrintableString.
pub fn printable(text: &str) -> Vec<u8> {
    tlv(0x13, text.as_bytes())
}

/// IA5String.
pub fn ia5(text: &str) -> Vec<u8> {
    tlv(0x16, text.as_bytes())
}

/// `unix_s` as `2026-11-22T05:15:00Z`.
pub fn iso_time(unix_s: u64) -> Result<String, SimulatorError> {
    DateTime::from_unix_duration(std::time::Duration::from_secs(unix_s))
        .map(|time| time.to_string())
        .map_err(|_| SimulatorError::Time(unix_s))
}

/// UTCTime until 2049 and GeneralizedTime from then on (RFC 5280, 4.1.2.5).
pub fn time(unix_s: u64) -> Result<Vec<u8>, SimulatorError> {
    let digits: String = iso_time(unix_s)?.chars().filter(|c| c.is_ascii_digit()).collect();
    let (century, rest) = digits.split_at(2);
    match century {
        "20" if rest < "50" => Ok(tlv(0x17, format!("{rest}Z").as_bytes())),
        "19" => Ok(tlv(0x17, format!("{rest}Z").as_bytes())),
        _ => Ok(tlv(0x18, format!("{digits}Z").as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        assert_eq!(tlv(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(tlv(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(tlv(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn numbers_are_unsigned() {
        assert_eq!(small(0), [2, 1, 0]);
        assert_eq!(small(0x7f), [2, 1, 0x7f]);
        assert_eq!(small(0xdb), [2, 2, 0, 0xdb]);
        assert_eq!(unsigned(&[0, 0, 0x80, 1]), [2, 3, 0, 0x80, 1]);
    }

    #[test]
    fn times_are_utc_until_2049() {
        assert_eq!(time(1_795_324_500).unwrap(), b"\x17\x0d261122051500Z");
        assert_eq!(time(2_524_608_000).unwrap(), b"\x18\x0f20500101000000Z");
        assert_eq!(iso_time(1_795_324_500).unwrap(), "2026-11-22T05:15:00Z");
    }
}
