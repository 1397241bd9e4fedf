//! Secrets in pages of their own: locked into RAM, so that they never reach swap, and zeroized when dropped.
//!
//! This process leaves no core file (`supervise::forbid_core_dumps`), which is the other way for memory to reach a disk.

use region::LockGuard;
use zeroize::Zeroize as _;

/// Longest secret, in bytes: the longest wrapped execution key (`wire::bounded::verifier::SEALED_CAP_BYTES`).
pub const LOCKED_CAP_BYTES: usize = 2 * PAGE_BYTES;
const PAGE_BYTES: usize = 4096;

/// A secret's memory cannot be locked: it might be written to swap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("locking the memory of a secret: {why}; raise the limit of locked memory (RLIMIT_MEMLOCK)")]
pub struct NotLocked {
    /// What the system said.
    pub why: String,
}

#[repr(align(4096))]
struct Pages([u8; LOCKED_CAP_BYTES]);

/// A secret. Not cloned: there is one copy of it. Pages are what is locked, and unlocking one must not unlock a
/// neighbour's, so each secret has its own.
pub struct Locked {
    /// Before the pages, so that they are unlocked while they still are ours.
    _guard: LockGuard,
    pages: Box<Pages>,
    length: usize,
}

impl Locked {
    /// So many zeros, to be overwritten.
    ///
    /// # Errors
    /// [`NotLocked`], also for more than [`LOCKED_CAP_BYTES`].
    pub fn zeros(length: usize) -> Result<Self, NotLocked> {
        if length > LOCKED_CAP_BYTES {
            return Err(NotLocked { why: format!("{length} bytes, at most {LOCKED_CAP_BYTES} fit") });
        }
        let pages = Box::new(Pages([0; LOCKED_CAP_BYTES]));
        let guard = region::lock(pages.0.as_ptr(), LOCKED_CAP_BYTES);
        let guard = guard.map_err(|error| NotLocked { why: error.to_string() })?;
        Ok(Self { _guard: guard, pages, length })
    }

    /// A copy of these bytes, which stay where they are.
    ///
    /// # Errors
    /// As [`Locked::zeros`].
    pub fn copy_of(bytes: &[u8]) -> Result<Self, NotLocked> {
        let mut locked = Self::zeros(bytes.len())?;
        locked.as_mut_slice().copy_from_slice(bytes);
        Ok(locked)
    }

    /// The secret.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.pages.0.get(..self.length).unwrap_or_default()
    }

    /// The secret, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.pages.0.get_mut(..self.length).unwrap_or_default()
    }

    /// Forgets what is behind `length`.
    pub fn truncate(&mut self, length: usize) {
        self.as_mut_slice().get_mut(length..).unwrap_or_default().zeroize();
        self.length = self.length.min(length);
    }

    fn wipe(&mut self) {
        self.pages.0.zeroize();
    }
}

/// Overwrites the stack below the caller: what a cipher that has just returned left of a secret in frames of its own.
#[inline(never)]
pub(crate) fn scrub_stack() {
    let mut frame = [0_u8; SCRUBBED_BYTES];
    std::hint::black_box(&mut frame);
}

/// Deeper than ciphers and their callees go; a thread's stack has 2 MiB.
const SCRUBBED_BYTES: usize = 128 * 1024;

impl Drop for Locked {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl PartialEq for Locked {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.as_slice(), other.as_slice()).is_ok()
    }
}

impl std::fmt::Debug for Locked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locked").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_locked_not_shown_and_wiped() {
        let mut secret = Locked::copy_of(b"execution key").unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        let locked_kib: usize = locked.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(locked_kib >= LOCKED_CAP_BYTES / 1024, "{status}");
        assert_eq!(secret.pages.0.as_ptr().addr() % PAGE_BYTES, 0, "pages of its own");
        assert_eq!(secret, Locked::copy_of(b"execution key").unwrap());
        assert!(!format!("{secret:?}").contains("key"));
        secret.truncate(9);
        assert_eq!((secret.as_slice(), &secret.pages.0[9..13]), (b"execution".as_slice(), [0; 4].as_slice()));
        secret.wipe();
        assert!(secret.pages.0.iter().all(|byte| *byte == 0));
        assert!(Locked::zeros(LOCKED_CAP_BYTES + 1).is_err());
    }
}
