//! Deterministic CBOR (RFC 8949 §4.2.1) with caps: the one encoding of everything we sign or hash.
//!
//! Writing sorts map keys by their encoded bytes and uses shortest lengths. Reading first walks the bytes
//! once, without allocating, and refuses whatever the writer would not have written: indefinite lengths,
//! longer-than-needed integers, unsorted or repeated keys, floats, `undefined`, tags, trailing bytes, and anything
//! deeper or larger than its [`Caps`]. Only then are values built.

mod items;

use ciborium::Value;
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use self::items::Items;

/// Major types (RFC 8949 §3.1).
pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
const TAG: u8 = 6;
/// Tag of a COSE_Sign1 (RFC 9052 §4.2): the only one in use, around whole messages.
const COSE_SIGN1: u64 = 18;
/// null (RFC 8949 §3.3).
pub(crate) const NULL: u8 = 0xf6;

/// Limits of one document, all checked before any value is built.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Longest document, in bytes.
    pub cap_bytes: usize,
    /// Deepest nesting of arrays, maps and tags.
    pub cap_depth: usize,
    /// Most data items in all.
    pub cap_items: usize,
}

impl Caps {
    /// Caps for a document of at most `cap_bytes`: depth 16 and 4096 items.
    #[must_use]
    pub const fn bytes(cap_bytes: usize) -> Self {
        Self { cap_bytes, cap_depth: 16, cap_items: 4096 }
    }

    /// The same caps with another limit on the number of items.
    #[must_use]
    pub const fn items(self, cap_items: usize) -> Self {
        Self { cap_items, ..self }
    }
}

/// Why bytes are not a document that we would have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Longer than the cap.
    #[error("CBOR of {got_bytes} bytes, at most {cap_bytes} allowed")]
    TooLong {
        /// Length received.
        got_bytes: usize,
        /// Length allowed.
        cap_bytes: usize,
    },
    /// Nested deeper than the cap.
    #[error("CBOR nested deeper than {cap_depth} at offset {offset}")]
    TooDeep {
        /// Depth allowed.
        cap_depth: usize,
        /// Where.
        offset: usize,
    },
    /// More items than the cap, or a length that the rest of the document cannot hold.
    #[error("CBOR with more items than allowed or present at offset {offset}")]
    TooManyItems {
        /// Where.
        offset: usize,
    },
    /// Ends within an item.
    #[error("CBOR ends early at offset {offset}")]
    Truncated {
        /// Where.
        offset: usize,
    },
    /// Bytes after the document.
    #[error("{extra_bytes} bytes after the CBOR document")]
    Trailing {
        /// How many.
        extra_bytes: usize,
    },
    /// An encoding that is not the deterministic one.
    #[error("CBOR not in deterministic form at offset {offset}: {what}")]
    NotDeterministic {
        /// Where.
        offset: usize,
        /// Which rule.
        what: &'static str,
    },
    /// Well-formed, but not of the expected shape.
    #[error("CBOR of another shape: {0}")]
    Shape(String),
    /// A value that has no deterministic form here.
    #[error("cannot be written as deterministic CBOR: {0}")]
    Unwritable(String),
}

/// Encodes `value` deterministically.
///
/// # Errors
/// [`CborError::Unwritable`] for floats and for values serde cannot represent.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    let value = Value::serialized(value).map_err(|e| CborError::Unwritable(e.to_string()))?;
    let mut out = Vec::new();
    write(&value, &mut out)?;
    Ok(out)
}

/// Decodes a `T` from bytes that must be exactly its deterministic encoding, within `caps`.
///
/// # Errors
/// The first rule that the bytes break; [`CborError::Shape`] when they are another type's.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8], caps: Caps) -> Result<T, CborError> {
    inspect(bytes, caps)?;
    if bytes.first().is_some_and(|initial| initial >> 5 == TAG) {
        return Err(CborError::NotDeterministic { offset: 0, what: "tag" });
    }
    ciborium::from_reader(bytes).map_err(|e| CborError::Shape(e.to_string()))
}

/// Checks that `bytes` are one deterministic document within `caps`, building nothing.
///
/// # Errors
/// The first rule that the bytes break.
pub fn inspect(bytes: &[u8], caps: Caps) -> Result<(), CborError> {
    if bytes.len() > caps.cap_bytes {
        return Err(CborError::TooLong { got_bytes: bytes.len(), cap_bytes: caps.cap_bytes });
    }
    let mut walk = Walk { bytes, offset: 0, items_left: caps.cap_items, caps };
    walk.item(0)?;
    let extra_bytes = bytes.len().saturating_sub(walk.offset);
    if extra_bytes > 0 { Err(CborError::Trailing { extra_bytes }) } else { Ok(()) }
}

struct Walk<'a> {
    bytes: &'a [u8],
    offset: usize,
    items_left: usize,
    caps: Caps,
}

impl<'a> Walk<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CborError> {
        let truncated = CborError::Truncated { offset: self.offset };
        let end = self.offset.checked_add(count).ok_or_else(|| truncated.clone())?;
        let taken = self.bytes.get(self.offset..end).ok_or(truncated)?;
        self.offset = end;
        Ok(taken)
    }

    fn irregular(&self, what: &'static str) -> CborError {
        CborError::NotDeterministic { offset: self.offset, what }
    }

    /// Major type and argument of the next head (RFC 8949 §3).
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let initial = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (initial >> 5, initial & 0x1f);
        let width = match info {
            0..=23 => return Ok((major, u64::from(info))),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            28..=30 => return Err(self.irregular("reserved additional information")),
            _ => return Err(self.irregular("indefinite length")),
        };
        let argument = self.take(width)?.iter().fold(0u64, |acc, b| (acc << 8) | u64::from(*b));
        let shortest = match width {
            1 => argument >= 24,
            2 => argument > 0xff,
            4 => argument > 0xffff,
            _ => argument > 0xffff_ffff,
        };
        if major == 7 {
            return Err(self.irregular("float or two-byte simple value"));
        }
        if shortest { Ok((major, argument)) } else { Err(self.irregular("argument not in its shortest form")) }
    }

    fn item(&mut self, depth: usize) -> Result<(), CborError> {
        let offset = self.offset;
        self.items_left = self.items_left.checked_sub(1).ok_or(CborError::TooManyItems { offset })?;
        let (major, argument) = self.head()?;
        if (4..=6).contains(&major) && depth >= self.caps.cap_depth {
            return Err(CborError::TooDeep { cap_depth: self.caps.cap_depth, offset });
        }
        let count = usize::try_from(argument).map_err(|_| CborError::TooManyItems { offset });
        match major {
            0 | 1 => Ok(()),
            2 => self.take(count?).map(|_| ()),
            3 => {
                let text = self.take(count?)?;
                std::str::from_utf8(text).map(|_| ()).map_err(|_| self.irregular("text that is not UTF-8"))
            }
            4 => self.fits(count?, 1, offset)?.try_for_each(|_| self.item(depth.saturating_add(1))),
            5 => self.map(count?, depth, offset),
            TAG if depth == 0 && argument == COSE_SIGN1 => self.item(depth.saturating_add(1)),
            // readers of values would skip it: the same value in other bytes
            TAG => Err(self.irregular("tag")),
            _ if (20..=22).contains(&argument) => Ok(()),
            _ => Err(self.irregular("simple value other than false, true, null")),
        }
    }

    /// Refuses a count that the remaining bytes cannot hold, so that no loop runs on a peer's number alone.
    fn fits(&self, count: usize, bytes_each: usize, offset: usize) -> Result<std::ops::Range<usize>, CborError> {
        let left = self.bytes.len().saturating_sub(self.offset);
        if count.saturating_mul(bytes_each) > left { Err(CborError::TooManyItems { offset }) } else { Ok(0..count) }
    }

    fn map(&mut self, count: usize, depth: usize, offset: usize) -> Result<(), CborError> {
        let mut previous: Option<&[u8]> = None;
        for _ in self.fits(count, 2, offset)? {
            let start = self.offset;
            self.item(depth.saturating_add(1))?;
            let key = self.bytes.get(start..self.offset).unwrap_or(&[]);
            if previous.is_some_and(|p| p >= key) {
                return Err(self.irregular("map keys not sorted or repeated"));
            }
            previous = Some(key);
            self.item(depth.saturating_add(1))?;
        }
        Ok(())
    }
}

pub(crate) fn write_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    let (info, width) = match argument {
        0..=23 => (bytes[7], 0),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major | info);
    out.extend(bytes.iter().skip(8usize.saturating_sub(width)));
}

pub(crate) fn write_length(major: u8, length: usize, out: &mut Vec<u8>) {
    write_head(major, u64::try_from(length).unwrap_or(u64::MAX), out);
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CborError> {
    match value {
        Value::Integer(i) => {
            let i = i128::from(*i);
            let (major, argument) = if i < 0 { (1, !i) } else { (0, i) };
            write_head(major, u64::try_from(argument).map_err(|e| CborError::Unwritable(e.to_string()))?, out);
        }
        Value::Bytes(bytes) => {
            write_length(BYTES, bytes.len(), out);
            out.extend_from_slice(bytes);
        }
        Value::Text(text) => {
            write_length(TEXT, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            write_length(ARRAY, items.len(), out);
            items.iter().try_for_each(|item| write(item, out))?;
        }
        Value::Map(pairs) => write_map(pairs, out)?,
        Value::Tag(tag, inner) => {
            write_head(6, *tag, out);
            write(inner, out)?;
        }
        Value::Bool(b) => out.push(if *b { 0xf5 } else { 0xf4 }),
        Value::Null => out.push(NULL),
        other @ (Value::Float(_) | _) => return Err(CborError::Unwritable(format!("{other:?}"))),
    }
    Ok(())
}

fn write_map(pairs: &[(Value, Value)], out: &mut Vec<u8>) -> Result<(), CborError> {
    let mut encoded = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let mut key_bytes = Vec::new();
        write(key, &mut key_bytes)?;
        encoded.push((key_bytes, value));
    }
    encoded.sort_by(|a, b| a.0.cmp(&b.0));
    if encoded.windows(2).any(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return Err(CborError::Unwritable("a map key stands twice".into()));
    }
    write_length(MAP, encoded.len(), out);
    for (key, value) in encoded {
        out.extend_from_slice(&key);
        write(value, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    const CAPS: Caps = Caps::bytes(4096);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        zebra: u64,
        ant: Option<String>,
        #[serde(with = "serde_bytes")]
        bee: Vec<u8>,
        negative: i32,
    }

    fn sample() -> Sample {
        Sample { zebra: 70_000, ant: None, bee: vec![1, 2], negative: -300 }
    }

    #[test]
    fn keys_are_sorted_by_their_encoding_and_the_document_round_trips() {
        let bytes = to_vec(&sample()).unwrap();
        assert_eq!(hex::encode(&bytes), "a463616e74f663626565420102657a656272611a00011170686e6567617469766539012b");
        assert_eq!(from_slice::<Sample>(&bytes, CAPS).unwrap(), sample());
    }

    #[test]
    fn what_the_writer_would_not_write_is_refused() {
        for (hexed, why) in [
            ("1817", "17 would do"),
            ("190017", "17 would do"),
            ("1a00000017", "17 would do"),
            ("1b0000000000000017", "17 would do"),
            ("5f4101ff", "indefinite bytes"),
            ("9f01ff", "indefinite array"),
            ("bf6161f5ff", "indefinite map"),
            ("a2616201616101", "unsorted"),
            ("a2616101616101", "repeated"),
            ("c24105", "bignum of a small number"),
            ("c105", "tag that readers skip"),
            ("d2d280", "tag twice"),
            ("81d280", "tag within"),
            ("f7", "undefined"),
            ("f800", "two-byte simple"),
            ("fb3ff0000000000000", "float"),
            ("f93c00", "half float"),
            ("1c", "reserved"),
            ("61ff", "not UTF-8"),
            ("0101", "trailing"),
            ("42ff", "truncated"),
            ("9bffffffffffffffff", "more items than bytes"),
            ("bb00000000ffffffff", "more pairs than bytes"),
            ("5bffffffffffffffff", "longer than all"),
            ("", "empty"),
        ] {
            assert!(inspect(&hex::decode(hexed).unwrap(), CAPS).is_err(), "{hexed}: {why}");
        }
    }

    #[test]
    fn depth_items_and_length_are_capped() {
        let deep = [vec![0x81; 16], vec![0x00]].concat();
        assert!(inspect(&deep, CAPS).is_ok());
        let deeper = [vec![0x81; 17], vec![0x00]].concat();
        assert!(matches!(inspect(&deeper, CAPS), Err(CborError::TooDeep { .. })));
        let tags = [vec![0xd2; 100_000], vec![0x00]].concat();
        assert!(inspect(&tags, Caps::bytes(1 << 20)).is_err());
        assert!(matches!(inspect(&[0x82, 0, 0], CAPS.items(2)), Err(CborError::TooManyItems { .. })));
        assert!(matches!(inspect(&[0; 9], Caps::bytes(8)), Err(CborError::TooLong { .. })));
    }

    #[test]
    fn unknown_fields_and_other_shapes_are_refused() {
        let other = to_vec(&std::collections::BTreeMap::from([("zebra", 1u64)])).unwrap();
        assert!(matches!(from_slice::<Sample>(&other, CAPS), Err(CborError::Shape(_))));
        assert!(to_vec(&1.5f64).is_err());
    }

    #[test]
    fn a_number_has_one_encoding() {
        assert_eq!(from_slice::<u64>(&[0x05], CAPS), Ok(5));
        for other in [&[0xc2, 0x41, 0x05][..], &[0xc1, 0x05], &[0xd2, 0x05]] {
            assert!(from_slice::<u64>(other, CAPS).is_err(), "{other:02x?}");
        }
        assert!(inspect(&[0xd2, 0x80], CAPS).is_ok(), "the tag of a signed message");
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_accepted_bytes_are_the_only_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if inspect(&bytes, CAPS).is_ok() {
                let value: Value = ciborium::from_reader(bytes.as_slice()).unwrap();
                prop_assert_eq!(to_vec(&value).unwrap(), bytes);
            }
        }
    }
}
