//! Little-endian reader over borrowed bytes: every length is checked against what is left before it is used.

use crate::denial::EvidenceDenial;

/// A position in one structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    structure: &'static str,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, bytes, offset: 0 }
    }

    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) const fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.offset)
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.left() == 0
    }

    /// The denial that this structure is malformed here.
    pub(crate) const fn malformed(&self, what: &'static str) -> EvidenceDenial {
        EvidenceDenial::Malformed { structure: self.structure, offset: self.offset, what }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], EvidenceDenial> {
        let end = self.offset.checked_add(count).ok_or_else(|| self.malformed("length overflows"))?;
        let taken = self.bytes.get(self.offset..end).ok_or_else(|| self.malformed("ends early"))?;
        self.offset = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EvidenceDenial> {
        self.field().copied()
    }

    /// The next `N` bytes where they stand.
    pub(crate) fn field<const N: usize>(&mut self) -> Result<&'a [u8; N], EvidenceDenial> {
        let rest = self.bytes.get(self.offset..).and_then(<[u8]>::first_chunk);
        let field = rest.ok_or_else(|| self.malformed("ends early"))?;
        self.offset = self.offset.saturating_add(N);
        Ok(field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, EvidenceDenial> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, EvidenceDenial> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, EvidenceDenial> {
        self.array().map(u32::from_le_bytes)
    }

    /// A 32-bit length, as a size of this machine.
    pub(crate) fn length_u32(&mut self) -> Result<usize, EvidenceDenial> {
        let length = self.u32()?;
        usize::try_from(length).map_err(|_| self.malformed("length overflows"))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, EvidenceDenial> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 64-bit length (UINT64 or UINTN of a 64-bit firmware), as a size of this machine.
    pub(crate) fn length_u64(&mut self) -> Result<usize, EvidenceDenial> {
        let length = self.u64()?;
        usize::try_from(length).map_err(|_| self.malformed("length overflows"))
    }
}
