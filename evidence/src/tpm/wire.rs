//! Reading and writing the big-endian structures of the TPM (TPM2 Library Part 2 §2, UINT and TPM2B).
//!
//! The reader borrows: no field is copied, no length is believed before the bytes are there.

use crate::EvidenceDenial;

/// A cursor over the bytes of one structure.
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

    /// The denial of the field `what` at the place reached.
    pub(crate) const fn malformed(&self, what: &'static str) -> EvidenceDenial {
        EvidenceDenial::Malformed { structure: self.structure, offset: self.offset, what }
    }

    pub(crate) fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], EvidenceDenial> {
        let end = self.offset.checked_add(count).ok_or_else(|| self.malformed(what))?;
        let taken = self.bytes.get(self.offset..end).ok_or_else(|| self.malformed(what))?;
        self.offset = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], EvidenceDenial> {
        let malformed = self.malformed(what);
        self.take(what, N)?.try_into().map_err(|_| malformed)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, EvidenceDenial> {
        self.array::<1>(what).map(|[b]| b)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, EvidenceDenial> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, EvidenceDenial> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, EvidenceDenial> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// The contents of a TPM2B of at most `cap_bytes`.
    pub(crate) fn sized(&mut self, what: &'static str, cap_bytes: usize) -> Result<&'a [u8], EvidenceDenial> {
        let got_bytes = usize::from(self.u16(what)?);
        if got_bytes > cap_bytes {
            return Err(EvidenceDenial::TooLarge { part: what, got_bytes, cap_bytes });
        }
        self.take(what, got_bytes)
    }

    /// An algorithm identifier that must be this one.
    pub(crate) fn expect_algorithm(&mut self, what: &'static str, want: u16) -> Result<(), EvidenceDenial> {
        let got = self.u16(what)?;
        if got == want { Ok(()) } else { Err(EvidenceDenial::AlgorithmRefused { what, got }) }
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), EvidenceDenial> {
        match self.bytes.len().saturating_sub(self.offset) {
            0 => Ok(()),
            extra_bytes => Err(EvidenceDenial::TrailingBytes { structure: self.structure, extra_bytes }),
        }
    }
}

/// Appends a TPM2B. Contents beyond 65,535 bytes cannot occur: every caller writes fixed or capped fields.
pub(crate) fn put_sized(out: &mut Vec<u8>, contents: &[u8]) {
    out.extend_from_slice(&u16::try_from(contents.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(contents);
}

/// Appends a UINT16.
pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a UINT32.
pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}
