//! Texts that Intel signs: JSON whose fields are numbers, hexadecimal of fixed length, and dates. Read after the
//! signature over the text as received; fields that the schema does not name are Intel's to add and decide nothing.

use std::borrow::Cow;

use der::DateTime;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{EvidenceDenial, time::UnixSeconds};

/// Longest signed text.
pub(super) const TEXT_CAP_BYTES: usize = 256 * 1024;
/// Most levels, identities or advisories in one list.
pub(super) const LIST_CAP: usize = 256;

/// Reads all of `text` as one document.
pub(super) fn read<'a, T: Deserialize<'a>>(structure: &'static str, text: &'a str) -> Result<T, EvidenceDenial> {
    serde_json::from_str(text).map_err(|error| EvidenceDenial::Malformed {
        structure,
        offset: error.column(),
        what: "JSON of its schema",
    })
}

/// Exactly `N` bytes in hexadecimal, of either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hex<const N: usize>(pub(super) [u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(D::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// An instant in the one form that Intel writes: `2025-06-19T10:32:27Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant(pub(super) UnixSeconds);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let date: DateTime = text.parse().map_err(D::Error::custom)?;
        Ok(Self(UnixSeconds(date.unix_duration().as_secs())))
    }
}

/// A list of at most [`LIST_CAP`] entries.
pub(super) fn capped<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.len() > LIST_CAP { Err(D::Error::custom("too many entries")) } else { Ok(list) }
}
