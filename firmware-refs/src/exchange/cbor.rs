//! CBOR as producers of CoRIM write it, read within bounds.
//!
//! The strict reader of [`evidence::cbor`] reads what we write ourselves: it refuses tags and unsorted map keys, and
//! genuine CoRIM files have both (draft-ietf-rats-corim asks for neither the absence of tags nor deterministic
//! encoding). This reader takes tags, floats and map keys in any order, and still refuses what has two spellings or no
//! bound: longer-than-needed arguments, indefinite lengths, repeated keys, trailing bytes, and whatever is deeper or
//! has more items than the caps, which are spent before anything is allocated.

use std::collections::BTreeSet;

use super::denial::ImportDenial;

/// Deepest nesting of one document.
const DEPTH_CAP: usize = 24;
/// Most items of one file, all embedded documents together.
const ITEMS_CAP: usize = 600_000;

/// Items that may still be read of one file.
#[derive(Debug)]
pub(super) struct Budget {
    items_left: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { items_left: ITEMS_CAP }
    }
}

/// One data item, and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) offset: usize,
    pub(super) kind: Kind<'a>,
}

/// Keys and values of a map, in its order.
pub(super) type Pairs<'a> = Vec<(Item<'a>, Item<'a>)>;

#[derive(Clone, Debug)]
pub(super) enum Kind<'a> {
    Int(i128),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Item<'a>>),
    Map(Pairs<'a>),
    Tag(u64, Box<Item<'a>>),
    /// A float or a simple value: never interpreted.
    Opaque,
}

impl<'a> Item<'a> {
    pub(super) fn wrong(&self, what: &str) -> ImportDenial {
        ImportDenial::malformed(self.offset, what)
    }

    pub(super) const fn int(&self) -> Option<i128> {
        if let Kind::Int(int) = self.kind { Some(int) } else { None }
    }

    pub(super) const fn bytes(&self) -> Option<&'a [u8]> {
        if let Kind::Bytes(bytes) = self.kind { Some(bytes) } else { None }
    }

    pub(super) const fn text(&self) -> Option<&'a str> {
        if let Kind::Text(text) = self.kind { Some(text) } else { None }
    }

    pub(super) fn array(&self, what: &str) -> Result<&[Self], ImportDenial> {
        if let Kind::Array(items) = &self.kind { Ok(items) } else { Err(self.wrong(what)) }
    }

    pub(super) fn map(&self, what: &str) -> Result<&[(Self, Self)], ImportDenial> {
        if let Kind::Map(pairs) = &self.kind { Ok(pairs) } else { Err(self.wrong(what)) }
    }

    /// What the tag `number` is around.
    pub(super) fn tagged(&self, number: u64) -> Option<&Self> {
        let Kind::Tag(tag, inner) = &self.kind else { return None };
        (*tag == number).then_some(inner)
    }

    /// The value under an integer label of a map; `None` in anything but a map.
    pub(super) fn get(&self, label: i128) -> Option<&Self> {
        let Kind::Map(pairs) = &self.kind else { return None };
        pairs.iter().find(|(key, _)| key.int() == Some(label)).map(|(_, value)| value)
    }
}

/// Reads one document that fills `bytes`.
pub(super) fn read<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Item<'a>, ImportDenial> {
    let mut reader = Reader { bytes, offset: 0, budget };
    let item = reader.item(0)?;
    let end = reader.offset;
    if end == bytes.len() { Ok(item) } else { Err(ImportDenial::malformed(end, "bytes after the document")) }
}

struct Reader<'a, 'b> {
    bytes: &'a [u8],
    offset: usize,
    budget: &'b mut Budget,
}

impl<'a> Reader<'a, '_> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ImportDenial> {
        let truncated = ImportDenial::Truncated { offset: self.offset };
        let end = self.offset.checked_add(count).ok_or_else(|| truncated.clone())?;
        let taken = self.bytes.get(self.offset..end).ok_or(truncated)?;
        self.offset = end;
        Ok(taken)
    }

    /// Major type and argument of the next head (RFC 8949 §3).
    fn head(&mut self) -> Result<(u8, u64), ImportDenial> {
        let at = self.offset;
        let initial = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (initial >> 5, initial & 0x1f);
        let width = match info {
            0..=23 => return Ok((major, u64::from(info))),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            28..=30 => return Err(ImportDenial::malformed(at, "reserved additional information")),
            _ => return Err(ImportDenial::malformed(at, "indefinite length")),
        };
        let argument = self.take(width)?.iter().fold(0u64, |all, byte| (all << 8) | u64::from(*byte));
        let shortest = match width {
            1 => argument >= 24,
            2 => argument > 0xff,
            4 => argument > 0xffff,
            _ => argument > 0xffff_ffff,
        };
        if shortest || major == 7 {
            Ok((major, argument))
        } else {
            Err(ImportDenial::malformed(at, "argument not in its shortest form"))
        }
    }

    fn item(&mut self, depth: usize) -> Result<Item<'a>, ImportDenial> {
        let offset = self.offset;
        let left = self.budget.items_left.checked_sub(1);
        self.budget.items_left = left.ok_or(ImportDenial::TooMany { what: "CBOR items", cap: ITEMS_CAP })?;
        let (major, argument) = self.head()?;
        if (4..=6).contains(&major) && depth >= DEPTH_CAP {
            return Err(ImportDenial::TooMany { what: "levels of CBOR", cap: DEPTH_CAP });
        }
        let inner = depth.saturating_add(1);
        let kind = match major {
            0 => Kind::Int(i128::from(argument)),
            1 => Kind::Int(!i128::from(argument)),
            2 => Kind::Bytes(self.string(argument)?),
            3 => {
                let text = std::str::from_utf8(self.string(argument)?);
                Kind::Text(text.map_err(|_| ImportDenial::malformed(offset, "text that is not UTF-8"))?)
            }
            4 => {
                let count = self.count(argument, 1)?;
                Kind::Array((0..count).map(|_| self.item(inner)).collect::<Result<_, _>>()?)
            }
            5 => Kind::Map(self.pairs(argument, inner)?),
            6 => Kind::Tag(argument, Box::new(self.item(inner)?)),
            _ => Kind::Opaque,
        };
        Ok(Item { offset, kind })
    }

    fn string(&mut self, length: u64) -> Result<&'a [u8], ImportDenial> {
        let truncated = ImportDenial::Truncated { offset: self.offset };
        self.take(usize::try_from(length).map_err(|_| truncated)?)
    }

    /// A count that the remaining bytes and items can hold.
    fn count(&self, argument: u64, bytes_each: usize) -> Result<usize, ImportDenial> {
        let left = self.bytes.len().saturating_sub(self.offset);
        let count = usize::try_from(argument).unwrap_or(usize::MAX);
        if count.saturating_mul(bytes_each) > left {
            return Err(ImportDenial::Truncated { offset: self.bytes.len() });
        }
        if count > self.budget.items_left {
            return Err(ImportDenial::TooMany { what: "CBOR items", cap: ITEMS_CAP });
        }
        Ok(count)
    }

    fn pairs(&mut self, argument: u64, depth: usize) -> Result<Pairs<'a>, ImportDenial> {
        let count = self.count(argument, 2)?;
        let mut pairs = Vec::new();
        let mut keys = BTreeSet::new();
        for _ in 0..count {
            let start = self.offset;
            let key = self.item(depth)?;
            // One spelling a value, so that equal keys are equal bytes.
            if !keys.insert(self.bytes.get(start..self.offset)) {
                return Err(ImportDenial::malformed(start, "a map key stands twice"));
            }
            pairs.push((key, self.item(depth)?));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(hexed: &str) -> Result<String, ImportDenial> {
        let bytes = hex::decode(hexed).unwrap();
        read(&bytes, &mut Budget::default()).map(|item| format!("{:?}", item.kind))
    }

    #[test]
    fn tags_floats_and_any_order_of_keys_are_read() {
        for hexed in ["d901f5a0", "a202010102", "fb3ff0000000000000", "f7", "a1d82500f6", "3bffffffffffffffff"] {
            assert!(of(hexed).is_ok(), "{hexed}");
        }
    }

    #[test]
    fn one_defect_and_a_document_is_refused() {
        for (hexed, code) in [
            ("1817", "import.malformed"),
            ("9f01ff", "import.malformed"),
            ("5f4101ff", "import.malformed"),
            ("a201000101", "import.malformed"),
            ("61ff", "import.malformed"),
            ("0101", "import.malformed"),
            ("1c", "import.malformed"),
            ("", "import.truncated"),
            ("42ff", "import.truncated"),
            ("9bffffffffffffffff", "import.truncated"),
            ("bb00000000ffffffff", "import.malformed"),
            ("bb0000000100000000", "import.truncated"),
            ("5bffffffffffffffff", "import.truncated"),
            (&format!("{}00", "81".repeat(25)), "import.too_many"),
            (&format!("{}00", "c1".repeat(25)), "import.too_many"),
        ] {
            assert_eq!(of(hexed).unwrap_err().code(), code, "{hexed}");
        }
        assert!(of(&format!("{}00", "81".repeat(24))).is_ok());
    }

    #[test]
    fn items_are_counted_over_all_documents_of_a_file() {
        let mut budget = Budget { items_left: 4 };
        assert!(read(&[0x82, 0, 0], &mut budget).is_ok());
        assert_eq!(read(&[0x82, 0, 0], &mut budget).unwrap_err().code(), "import.too_many");
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = read(&bytes, &mut Budget::default());
        }
    }
}
