//! Reading a document item by item, in place.

use std::ops::Range;

use super::TEXT;
use crate::EvidenceDenial;

/// Items of a document that [`super::inspect`] found well-formed, one after the other: only shapes can be wrong.
///
/// For what is read too often to build values of first.
pub(crate) struct Items<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Items<'a> {
    /// The items of `bytes`, a document of `structure`.
    pub(crate) const fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, bytes, offset: 0 }
    }

    pub(crate) const fn malformed(&self, what: &'static str) -> EvidenceDenial {
        EvidenceDenial::Malformed { structure: self.structure, offset: self.offset, what }
    }

    /// Where the next `len` bytes stand.
    pub(crate) fn span(&mut self, len: usize) -> Result<Range<usize>, EvidenceDenial> {
        let end = self.offset.checked_add(len).filter(|end| *end <= self.bytes.len());
        let span = self.offset..end.ok_or_else(|| self.malformed("a shorter item"))?;
        self.offset = span.end;
        Ok(span)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], EvidenceDenial> {
        let span = self.span(len)?;
        Ok(self.bytes.get(span).unwrap_or(&[]))
    }

    /// Argument of the next item (a length, a number of items, or the number itself), which must be of this major type.
    pub(crate) fn expect(&mut self, major: u8, what: &'static str) -> Result<usize, EvidenceDenial> {
        let wrong = self.malformed(what);
        let initial = self.take(1)?.first().copied().unwrap_or_default();
        if initial >> 5 != major {
            return Err(wrong);
        }
        let width = match initial & 0x1f {
            info @ 0..=23 => return Ok(usize::from(info)),
            24 => 1,
            25 => 2,
            26 => 4,
            _ => 8,
        };
        let value = self.take(width)?.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
        usize::try_from(value).map_err(|_| wrong)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, EvidenceDenial> {
        let len = self.expect(TEXT, what)?;
        let wrong = self.malformed(what);
        std::str::from_utf8(self.take(len)?).map_err(|_| wrong)
    }
}
