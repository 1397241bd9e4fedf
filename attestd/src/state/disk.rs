//! The calls that change what the state directory holds, one by one: a crash can come between any two of them, and tests
//! let one come there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes a file that only we may read; there must be none.
pub(super) fn create(path: &Path) -> io::Result<File> {
    step()?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes it whole; a crash may tear it.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    step()?;
    file.write_all(rest)
}

/// What was written survives a power cut.
pub(super) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_all()
}

/// The new file takes the old one's place.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    std::fs::rename(from, to)
}

/// Removes a file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    std::fs::remove_file(path)
}

/// Makes a rename or removal in `dir` survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    step()?;
    File::open(dir).and_then(|dir| dir.sync_all())
}

#[cfg(not(test))]
const fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use crash::step;

/// A crash on this thread, as told: from the given call on nothing happens any more.
#[cfg(test)]
pub(crate) mod crash {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static CALLS_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// After so many calls; none: never.
    pub(crate) fn after(calls: Option<u32>) {
        CALLS_LEFT.set(calls);
    }

    pub(super) fn step() -> io::Result<()> {
        match CALLS_LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("crashed")),
            Some(left) => {
                CALLS_LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
