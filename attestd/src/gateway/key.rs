//! An execution key on its way to a workload.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::locked::Locked;

/// An execution key in this process's memory: locked, zeroized when dropped, never shown, never copied.
pub struct ExecutionKey {
    name: String,
    material: Locked,
}

impl ExecutionKey {
    /// A key by its scope's name.
    #[must_use]
    pub const fn new(name: String, material: Locked) -> Self {
        Self { name, material }
    }

    /// The scope's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the key into sealed memory of the kernel's; this process's copy is zeroized before the call returns.
    pub(crate) fn seal(self) -> io::Result<SealedKey> {
        // NOEXEC_SEAL needs Linux 6.3; the key stays as unwritable without it.
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create("attestd-key", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| rustix::fs::memfd_create("attestd-key", flags))?;
        let mut written = 0;
        while let Some(rest) = self.material.as_slice().get(written..).filter(|rest| !rest.is_empty()) {
            let offset = u64::try_from(written).map_err(io::Error::other)?;
            // pwrite leaves the offset, which the workload inherits, at the start.
            written = written.saturating_add(rustix::io::pwrite(&descriptor, rest, offset)?);
        }
        rustix::fs::fcntl_add_seals(&descriptor, seals())?;
        let variable = key_variable(&self.name);
        let name = self.name;
        Ok(SealedKey { name, variable, descriptor })
    }
}

/// A key that nobody can change any more, to be inherited by its workload.
#[derive(Debug)]
pub(crate) struct SealedKey {
    /// The scope's name.
    pub(crate) name: String,
    /// `ATTESTD_KEY_FD_<NAME>`.
    pub(crate) variable: String,
    pub(crate) descriptor: OwnedFd,
}

impl SealedKey {
    /// The same memory by another descriptor, to be read from its start.
    pub(crate) fn again(&self) -> io::Result<OwnedFd> {
        // Opened anew: a duplicate would share the offset with whoever reads (open(2)).
        std::fs::File::open(format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())).map(OwnedFd::from)
    }
}

/// All of them: the content, the length and the seals themselves are final (memfd_create(2), fcntl(2)).
const fn seals() -> SealFlags {
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL)
}

/// The variable that tells a workload which descriptor holds the key: letters and digits upper-case, the rest `_`.
#[must_use]
pub fn key_variable(name: &str) -> String {
    let name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    format!("ATTESTD_KEY_FD_{}", name.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_sealed_key_reads_back_and_cannot_be_changed() {
        let key = ExecutionKey::new("db-key".to_owned(), Locked::copy_of(&[7; 32]).unwrap());
        let sealed = key.seal().unwrap();
        assert_eq!(sealed.variable, "ATTESTD_KEY_FD_DB_KEY");
        let mut read = [0; 64];
        assert_eq!(rustix::io::read(&sealed.descriptor, &mut read).unwrap(), 32);
        assert_eq!(read[..32], [7; 32]);
        let again = sealed.again().unwrap();
        assert_eq!(rustix::io::read(&again, &mut read).unwrap(), 32, "from its start");
        assert_eq!(rustix::io::pwrite(&again, &[0], 0), Err(Errno::BADF), "to be read only");
        assert_eq!(rustix::io::pwrite(&sealed.descriptor, &[0], 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&sealed.descriptor, 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&sealed.descriptor, 64), Err(Errno::PERM));
        assert_eq!(rustix::fs::fcntl_add_seals(&sealed.descriptor, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
        assert!(rustix::fs::fcntl_get_seals(&sealed.descriptor).unwrap().contains(seals()));
    }
}
