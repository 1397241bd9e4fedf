//! A structure built by offsets, as vendors' tables give them.

/// Bytes that grow as fields are put at their offsets; gaps are zero.
#[derive(Clone, Debug, Default)]
pub struct Layout(Vec<u8>);

impl Layout {
    /// All zero, `len` bytes.
    pub fn zeroed(len: usize) -> Self {
        Self(vec![0; len])
    }

    /// Puts `bytes` at `offset`, over what stands there.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        if let Some(slot) = self.0.get_mut(offset..end) {
            slot.copy_from_slice(bytes);
        }
    }

    /// What was built.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }

    /// What was built so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Corrupts evidence after it was signed: toggles the bits of `mask` in the byte at `offset`; false where there is none.
pub fn flip(bytes: &mut [u8], offset: usize, mask: u8) -> bool {
    match bytes.get_mut(offset) {
        Some(byte) => {
            *byte ^= mask;
            true
        }
        None => false,
    }
}
