//! Conceptual Message Wrapper collections (RFC 9999, CBOR form): how evidence travels.
//!
//! A map from label to `[media type, bytes]`, with the collection's own type under `__cmwc_t`. Parts are found as
//! ranges of the one buffer that came; nothing is copied.

use std::ops::Range;

use crate::{
    EvidenceDenial,
    cbor::{self, ARRAY, BYTES, Caps, Items, MAP, TEXT},
};

/// Key of the collection's type.
const COLLECTION_TYPE: &str = "__cmwc_t";

/// One part, to be written.
pub(crate) struct Part<'a> {
    pub(crate) label: &'a str,
    pub(crate) media_type: &'a str,
    pub(crate) value: &'a [u8],
}

/// A collection that was read: its type, and each part's label, media type and place.
pub(crate) struct Collection<'a> {
    pub(crate) kind: &'a str,
    pub(crate) parts: Vec<(&'a str, &'a str, Range<usize>)>,
}

/// A part that a kind of evidence has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartName {
    pub(crate) label: &'static str,
    pub(crate) media_type: &'static str,
    pub(crate) cap_bytes: usize,
}

/// Where a part is, if it came.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    label: &'static str,
    pub(crate) range: Option<Range<usize>>,
}

impl Slot {
    /// The place of a part that must have come.
    pub(crate) fn need(&self) -> Result<Range<usize>, EvidenceDenial> {
        self.range.clone().ok_or(EvidenceDenial::Missing { part: self.label })
    }
}

impl Collection<'_> {
    /// Finds the parts of `names`, in their order, and nothing else.
    pub(crate) fn find<const N: usize>(&self, kind: &str, names: &[PartName; N]) -> Result<[Slot; N], EvidenceDenial> {
        if self.kind != kind {
            return Err(EvidenceDenial::UnexpectedPart { part: "a collection of unknown kind" });
        }
        let mut found = names.map(|name| Slot { label: name.label, range: None });
        for (label, media_type, range) in &self.parts {
            let named = names.iter().zip(&mut found).find(|(name, _)| name.label == *label);
            let (name, slot) = named.ok_or(EvidenceDenial::UnexpectedPart { part: "a part of unknown label" })?;
            if name.media_type != *media_type {
                return Err(EvidenceDenial::UnexpectedPart { part: "a part of another media type" });
            }
            if range.len() > name.cap_bytes {
                let (got_bytes, cap_bytes) = (range.len(), name.cap_bytes);
                return Err(EvidenceDenial::TooLarge { part: name.label, got_bytes, cap_bytes });
            }
            slot.range = Some(range.clone());
        }
        Ok(found)
    }
}

/// Writes a collection deterministically.
pub(crate) fn write(kind: &str, parts: &[Part<'_>]) -> Vec<u8> {
    let mut entries: Vec<(Vec<u8>, Option<&Part<'_>>)> =
        parts.iter().map(|part| (text(part.label), Some(part))).collect();
    entries.push((text(COLLECTION_TYPE), None));
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let size: usize = parts.iter().fold(256, |size, part| size.saturating_add(part.value.len()).saturating_add(128));
    let mut out = Vec::with_capacity(size);
    head(MAP, entries.len(), &mut out);
    for (key, part) in entries {
        out.extend_from_slice(&key);
        match part {
            None => out.extend_from_slice(&text(kind)),
            Some(part) => {
                head(ARRAY, 2, &mut out);
                out.extend_from_slice(&text(part.media_type));
                head(BYTES, part.value.len(), &mut out);
                out.extend_from_slice(part.value);
            }
        }
    }
    out
}

/// The type that a collection says it has, to know which reader to give it to. What else it is, that reader judges.
pub(crate) fn kind(bytes: &[u8]) -> Result<&str, EvidenceDenial> {
    let mut walk = Items::new("CMW collection", bytes);
    for _ in 0..walk.expect(MAP, "a map")? {
        if walk.text("a text label")? == COLLECTION_TYPE {
            return walk.text("a collection type");
        }
        if walk.expect(ARRAY, "an array")? != 2 {
            return Err(walk.malformed("an array of media type and bytes"));
        }
        walk.text("a media type")?;
        let len = walk.expect(BYTES, "a byte string")?;
        walk.span(len)?;
    }
    Err(EvidenceDenial::Missing { part: COLLECTION_TYPE })
}

/// Reads a collection that must be deterministic CBOR of at most `cap_bytes`.
pub(crate) fn read(bytes: &[u8], cap_bytes: usize) -> Result<Collection<'_>, EvidenceDenial> {
    cbor::inspect(bytes, Caps { cap_bytes, cap_depth: 2, cap_items: 128 })?;
    let mut walk = Items::new("CMW collection", bytes);
    let mut kind = None;
    let mut parts = Vec::new();
    for _ in 0..walk.expect(MAP, "a map")? {
        let label = walk.text("a text label")?;
        if label == COLLECTION_TYPE {
            kind = Some(walk.text("a collection type")?);
            continue;
        }
        if walk.expect(ARRAY, "an array")? != 2 {
            return Err(walk.malformed("an array of media type and bytes"));
        }
        let media_type = walk.text("a media type")?;
        let len = walk.expect(BYTES, "a byte string")?;
        parts.push((label, media_type, walk.span(len)?));
    }
    let kind = kind.ok_or(EvidenceDenial::Missing { part: COLLECTION_TYPE })?;
    Ok(Collection { kind, parts })
}

fn text(value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len().saturating_add(3));
    head(TEXT, value.len(), &mut out);
    out.extend_from_slice(value.as_bytes());
    out
}

fn head(major: u8, length: usize, out: &mut Vec<u8>) {
    cbor::write_length(major, length, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_in_place_and_the_form_is_strict() {
        let big = vec![7u8; 70_000];
        let parts = [
            Part { label: "zz", media_type: "application/a", value: b"one" },
            Part { label: "b", media_type: "application/b", value: &big },
        ];
        let bytes = write("tag:x", &parts);
        let collection = read(&bytes, 1 << 20).unwrap();
        assert_eq!(collection.kind, "tag:x");
        assert_eq!(collection.parts.len(), 2);
        for (label, media_type, range) in &collection.parts {
            let want = parts.iter().find(|p| p.label == *label).unwrap();
            assert_eq!((want.media_type, want.value), (*media_type, &bytes[range.clone()]));
        }
        assert!(read(&bytes, 70_000).is_err());
        for cut in [0, 1, 5, 20, bytes.len() - 1] {
            assert!(read(&bytes[..cut], 1 << 20).is_err());
        }
        assert!(read(&write("tag:x", &[]), 100).unwrap().parts.is_empty());
        for hexed in ["a0", "80", "a16161826162f6", "a1616182616200", "a161618161 62", "a16161f6", "a10182616240"] {
            assert!(read(&hex::decode(hexed.replace(' ', "")).unwrap(), 100).is_err(), "{hexed}");
        }
    }
}
