//! Reading structures at offsets that the artifact itself states.

use super::ArtifactError;

/// A structure's bytes, with its name and place for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Structure<'a> {
    name: &'static str,
    /// Where it begins in the artifact.
    base: usize,
    bytes: &'a [u8],
}

impl<'a> Structure<'a> {
    pub(crate) const fn new(name: &'static str, base: usize, bytes: &'a [u8]) -> Self {
        Self { name, base, bytes }
    }

    pub(crate) const fn malformed(&self, offset: usize, what: &'static str) -> ArtifactError {
        ArtifactError::Malformed { structure: self.name, offset: self.base.saturating_add(offset), what }
    }

    /// A structure inside this one.
    pub(crate) fn part(&self, name: &'static str, offset: usize, length: usize) -> Result<Self, ArtifactError> {
        let bytes = self.take(offset, length).map_err(|_| ArtifactError::Malformed {
            structure: name,
            offset: self.base.saturating_add(offset),
            what: "lies outside the image",
        })?;
        Ok(Self { name, base: self.base.saturating_add(offset), bytes })
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn take(&self, offset: usize, length: usize) -> Result<&'a [u8], ArtifactError> {
        offset
            .checked_add(length)
            .and_then(|end| self.bytes.get(offset..end))
            .ok_or_else(|| self.malformed(offset, "ends early"))
    }

    pub(crate) fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], ArtifactError> {
        self.take(offset, N)?.first_chunk().copied().ok_or_else(|| self.malformed(offset, "ends early"))
    }

    pub(crate) fn u16(&self, offset: usize) -> Result<u16, ArtifactError> {
        self.array(offset).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&self, offset: usize) -> Result<u32, ArtifactError> {
        self.array(offset).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, offset: usize) -> Result<u64, ArtifactError> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// A 32-bit offset or length, as a size of this machine.
    pub(crate) fn size_u32(&self, offset: usize) -> Result<usize, ArtifactError> {
        usize::try_from(self.u32(offset)?).map_err(|_| self.malformed(offset, "is too large"))
    }
}
