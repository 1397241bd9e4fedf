//! The executable of a workload: opened once, hashed, and run from that very descriptor.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::{Mode, OFlags};

use crate::supervise::attach::{AttachError, Attached};

/// An open executable and the SHA-256 of its content when it was opened.
///
/// A script's interpreter and a program's shared libraries are the machine's, measured with it; the digest is the file's.
#[derive(Debug)]
pub struct Executable {
    file: File,
    path: PathBuf,
    digest: [u8; 32],
}

impl Executable {
    /// Finds `program` as a shell would (by `search_path` if it holds no slash), opens and hashes it.
    pub fn open(program: &str, search_path: &str, working_directory: &Path) -> Result<Self, ExecutableError> {
        let path = find(program, search_path, working_directory)
            .ok_or_else(|| ExecutableError::NotFound { program: program.to_owned() })?;
        let unreadable = |source| ExecutableError::Unreadable { path: path.clone(), source };
        let file = open_file(&path).map_err(unreadable)?;
        let digest = hash(&file).map_err(unreadable)?;
        Ok(Self { file, path, digest })
    }

    /// The executable of an image, as it was opened there.
    pub(crate) fn unpacked(file: File, path: PathBuf) -> Result<Self, ExecutableError> {
        let digest = hash(&file).map_err(|source| ExecutableError::Unreadable { path: path.clone(), source })?;
        Ok(Self { file, path, digest })
    }

    /// What every process of a cgroup runs.
    pub(crate) fn of(attached: &Attached) -> Result<Self, AttachError> {
        let (pid, path, digest) = attached.executable(None)?;
        let unreadable = |error: io::Error| AttachError::Unfit { path: path.clone(), what: error.to_string() };
        let file = File::open(format!("/proc/{pid}/exe")).map_err(unreadable)?;
        // The process may have executed something else since it was looked at; what counts is looked at again.
        let now = hash(&file).map_err(unreadable)?;
        if now != digest {
            return Err(AttachError::Executable { pid, got: now, expected: digest });
        }
        Ok(Self { file, path, digest })
    }

    /// SHA-256 of the file when it was opened.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Where it was found.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Hashes the descriptor again: the file may have been written in place since. While it runs it cannot be
    /// (ETXTBSY, execve(2)), so a second call after the start settles what was started.
    pub(crate) fn verify_unchanged(&self) -> Result<(), ExecutableError> {
        let now = hash(&self.file).map_err(|source| ExecutableError::Unreadable { path: self.path.clone(), source })?;
        if now == self.digest {
            Ok(())
        } else {
            Err(ExecutableError::Changed { path: self.path.clone(), got: now, authorized: self.digest })
        }
    }
}

/// The path of `program`, as a shell would find it.
pub(crate) fn find(program: &str, search_path: &str, working_directory: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(working_directory.join(program));
    }
    let candidates = search_path.split(':').filter(|folder| folder.starts_with('/'));
    candidates.map(|folder| Path::new(folder).join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Opens a regular file, and waits for nobody: a named pipe would have whoever opens it wait for a writer (fifo(7)).
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("is no regular file")) }
}

pub(crate) fn hash(file: &File) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0_u64;
    loop {
        let count = file.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        context.update(buffer.get(..count).unwrap_or_default());
        offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }
    <[u8; 32]>::try_from(context.finish().as_ref()).map_err(io::Error::other)
}

/// Why an executable cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    /// No such program on the search path.
    #[error("{program:?} is not on the search path")]
    NotFound {
        /// As asked for.
        program: String,
    },
    /// It cannot be opened or read.
    #[error("read {}: {source}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no longer what was authorized.
    #[error("{} is now {}, authorized was {}", path.display(), hex::encode(got), hex::encode(authorized))]
    Changed {
        /// Its path.
        path: PathBuf,
        /// SHA-256 now.
        got: [u8; 32],
        /// SHA-256 authorized.
        authorized: [u8; 32],
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn finds_hashes_and_notices_a_change_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        std::fs::write(&path, "abc").unwrap();
        let executable = Executable::open("./tool", "", folder.path()).unwrap();
        assert_eq!(
            hex::encode(executable.digest()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        executable.verify_unchanged().unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"d").unwrap();
        assert!(matches!(executable.verify_unchanged(), Err(ExecutableError::Changed { .. })));
    }

    #[test]
    fn a_replaced_file_is_not_what_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        std::fs::write(&path, "abc").unwrap();
        let executable = Executable::open(path.to_str().unwrap(), "", Path::new("/")).unwrap();
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        std::fs::write(&path, "evil").unwrap();
        executable.verify_unchanged().unwrap();
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o755), 0).unwrap();
        let refused = Executable::open(path.to_str().unwrap(), "", Path::new("/"));
        assert!(matches!(refused, Err(ExecutableError::Unreadable { .. })));
    }

    #[test]
    fn searches_absolute_folders_only() {
        assert!(Executable::open("sh", "/usr/bin:/bin", Path::new("/")).unwrap().path().ends_with("sh"));
        assert!(matches!(Executable::open("sh", ".:usr/bin", Path::new("/")), Err(ExecutableError::NotFound { .. })));
        assert!(matches!(Executable::open("/", "", Path::new("/")), Err(ExecutableError::Unreadable { .. })));
    }
}
