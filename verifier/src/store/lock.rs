//! The lock file of a state folder: held by the process that serves it, dropped
//! by the kernel when that process ends, however it ends.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::{StoreError, While};

/// Proof that this process alone uses the state folder.
#[derive(Debug)]
pub struct StateLock {
    // Closing the file lets go of the lock.
    _file: File,
}

impl StateLock {
    /// Takes the lock of a state folder, or names the process that holds it.
    pub fn take(state: &Path) -> Result<Self, StoreError> {
        let doing = "locking the state folder";
        let path = state.join("lock");
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).doing(doing)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0).doing(doing)?;
                file.rewind().doing(doing)?;
                // For the reader of an error message only; a full disk is no
                // reason not to hold the lock.
                drop(write!(file, "{}", std::process::id()));
                Ok(Self { _file: file })
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                drop(Read::by_ref(&mut file).take(16).read_to_string(&mut holder));
                let digits: String = holder.chars().filter(char::is_ascii_digit).collect();
                Err(StoreError::InUse { holder: format!("process {digits}") })
            }
            Err(error) => Err(StoreError::from_io(doing, &error.into())),
        }
    }
}
