//! Secrets in pages of their own: locked into RAM, so that they never reach swap, left out of core files and of forked
//! processes (madvise(2), MADV_DONTDUMP and MADV_DONTFORK), and zeroized when dropped.
//!
//! This process leaves no core file at all (`supervise::forbid_core_dumps`); the pages are left out of one that a debugger or
//! the kernel's crash dump makes regardless.

use memmap2::{Advice, MmapMut};
use zeroize::Zeroize as _;

/// Longest secret, in bytes: the longest wrapped execution key (`wire::bounded::verifier::SEALED_CAP_BYTES`).
pub const LOCKED_CAP_BYTES: usize = 2 * PAGE_BYTES;
const PAGE_BYTES: usize = 4096;

/// A secret's memory cannot be had, locked or kept out of dumps: it might be written to a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("locking the memory of a secret: {why}; raise the limit of locked memory (RLIMIT_MEMLOCK)")]
pub struct NotLocked {
    /// What the system said.
    pub why: String,
}

/// A secret. Not cloned: there is one copy of it. Pages are what is locked, and unlocking one must not unlock a
/// neighbour's, so each secret has a mapping of its own, which unlocks itself when it goes.
pub struct Locked {
    pages: MmapMut,
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
        let pages = MmapMut::map_anon(LOCKED_CAP_BYTES).and_then(|pages| {
            pages.lock()?;
            pages.advise(Advice::DontDump)?;
            pages.advise(Advice::DontFork)?;
            Ok(pages)
        });
        Ok(Self { pages: pages.map_err(|error| NotLocked { why: error.to_string() })?, length })
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
        self.pages.get(..self.length).unwrap_or_default()
    }

    /// The secret, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.pages.get_mut(..self.length).unwrap_or_default()
    }

    /// Forgets what is behind `length`.
    pub fn truncate(&mut self, length: usize) {
        self.as_mut_slice().get_mut(length..).unwrap_or_default().zeroize();
        self.length = self.length.min(length);
    }

    fn wipe(&mut self) {
        self.pages.zeroize();
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
    use std::collections::BTreeSet;

    /// What the kernel says of the mapping that holds this address: `VmFlags` of proc_pid_smaps(5).
    fn flags_at(address: usize) -> BTreeSet<String> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines();
        let holds = |line: &str| {
            let (from, to) = line.split_once(' ')?.0.split_once('-')?;
            let bounds = usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?;
            bounds.contains(&address).then_some(())
        };
        lines.find(|line| holds(line).is_some()).unwrap();
        let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        flags.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_secret_is_locked_left_out_of_dumps_and_forks_not_shown_and_wiped() {
        let mut secret = Locked::copy_of(b"execution key").unwrap();
        let address = secret.pages.as_ptr().addr();
        assert_eq!(address % PAGE_BYTES, 0, "pages of its own");
        for flag in ["lo", "dd", "dc"] {
            assert!(flags_at(address).contains(flag), "{flag}: {:?}", flags_at(address));
            assert!(flags_at(address + LOCKED_CAP_BYTES - 1).contains(flag), "{flag} of the last byte");
        }
        let elsewhere = vec![0_u8; 16 * LOCKED_CAP_BYTES];
        assert!(!flags_at(elsewhere.as_ptr().addr()).contains("dd"), "the flags tell secrets from other memory");
        assert_eq!(secret, Locked::copy_of(b"execution key").unwrap());
        assert!(!format!("{secret:?}").contains("key"));
        secret.truncate(9);
        assert_eq!((secret.as_slice(), &secret.pages[9..13]), (b"execution".as_slice(), [0; 4].as_slice()));
        secret.wipe();
        assert!(secret.pages.iter().all(|byte| *byte == 0));
        assert!(Locked::zeros(LOCKED_CAP_BYTES + 1).is_err());
    }
}
