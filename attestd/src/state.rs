//! The state directory: one owner at a time, private, and every file replaced as a whole.
//!
//! `DIR/{attestd.toml, record.key, enrolment.cbor, tpm/*.blob, lineage_head, halt.cbor, outbox/, run/attestd.sock}`

pub(crate) mod disk;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use evidence::cbor::{self, Caps};
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest file read from the state directory.
pub const STATE_FILE_CAP_BYTES: u64 = 1024 * 1024;

/// Why the state directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is none; it is never made implicitly.
    #[error("state directory {path} does not exist; make it with mode 0700")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Others may read or write it, or it belongs to someone else.
    #[error("{path} must belong to uid {want_uid} with mode {want_mode:o}; it has uid {got_uid}, mode {got_mode:o}")]
    NotPrivate {
        /// The directory or file.
        path: PathBuf,
        /// This process.
        want_uid: u32,
        /// The owner found.
        got_uid: u32,
        /// What is needed.
        want_mode: u32,
        /// What was found.
        got_mode: u32,
    },
    /// Another daemon holds it.
    #[error("state directory {path} is in use by another attestd")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file is larger than [`STATE_FILE_CAP_BYTES`].
    #[error("{path} has more than {STATE_FILE_CAP_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold what this version writes.
    #[error("{path} cannot be understood: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// An open, exclusively locked state directory. Dropping it releases the lock.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
    /// Lineage heads that were heard and are not in their file yet. Held while the file is read or written: the links of
    /// several domains move theirs on at once.
    heard: Mutex<Option<BTreeMap<String, Sha256Digest>>>,
}

impl StateDir {
    /// Opens and locks `path`.
    ///
    /// # Errors
    /// [`StateError::Missing`], [`StateError::NotPrivate`], [`StateError::InUse`] or an IO error.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(StateError::Missing { path: path.to_owned() }),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(StateError::Missing { path: path.to_owned() });
            }
            Err(source) => return Err(io_error("looking at", path)(source)),
        }
        let path = path.canonicalize().map_err(io_error("resolving", path))?;
        require_private(&path, 0o700)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io_error("opening", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StateError::InUse { path }),
            Err(errno) => return Err(io_error("locking", &lock_path)(errno.into())),
        }
        for sub in ["tpm", "outbox", "run"] {
            let sub = path.join(sub);
            match DirBuilder::new().mode(0o700).create(&sub) {
                Ok(()) => {}
                Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => require_private(&sub, 0o700)?,
                Err(source) => return Err(io_error("making", &sub)(source)),
            }
        }
        Ok(Self { path, _lock: lock, heard: Mutex::default() })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Where local clients reach the daemon.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        socket_path(&self.path)
    }

    /// Where the processes of running executions reach the daemon.
    #[must_use]
    pub fn workload_socket_path(&self) -> PathBuf {
        workload_socket_path(&self.path)
    }

    /// The same socket, by the name that a SPIFFE client is told.
    ///
    /// gRPC's C core (and so Python's) sends a socket's path, percent-encoded, as `:authority`. There a percent sign may
    /// stand in what precedes an at sign alone (RFC 3986 §3.2), and a server that reads the field closes the stream at any other.
    #[must_use]
    pub fn spiffe_socket_path(&self) -> PathBuf {
        self.path.join("run").join("spiffe@workload.sock")
    }

    /// Where the processes of running executions ask for their keys.
    #[must_use]
    pub fn keys_socket_path(&self) -> PathBuf {
        self.path.join("run").join("keys.sock")
    }

    /// Reads `name` whole, `None` if it does not exist.
    ///
    /// # Errors
    /// [`StateError::TooLarge`] or an IO error.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("opening", &path)(source)),
        };
        let mut bytes = Vec::new();
        let cap = STATE_FILE_CAP_BYTES;
        file.take(cap.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error("reading", &path))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > cap {
            return Err(StateError::TooLarge { path });
        }
        Ok(Some(bytes))
    }

    /// Reads a file that holds a secret; refuses one that others could have read.
    ///
    /// # Errors
    /// [`StateError::NotPrivate`] and as [`StateDir::read`].
    pub fn read_secret(&self, name: &str) -> Result<Option<zeroize::Zeroizing<Vec<u8>>>, StateError> {
        let bytes = self.read(name)?.map(zeroize::Zeroizing::new);
        if bytes.is_some() {
            require_private(&self.path.join(name), 0o600)?;
        }
        Ok(bytes)
    }

    /// Replaces `name` as a whole: after a crash it holds the old or the new bytes, and after `Ok` the new ones.
    ///
    /// # Errors
    /// An IO error; the old contents then stand.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        let dir = path.parent().unwrap_or(&self.path).to_owned();
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // A leftover of a crashed write holds nothing that was promised to anyone.
        match disk::remove(&temporary) {
            Ok(()) => {}
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("removing", &temporary)(source)),
        }
        let mut file = disk::create(&temporary).map_err(io_error("making", &temporary))?;
        disk::write(&mut file, bytes).map_err(io_error("writing", &temporary))?;
        disk::sync(&file).map_err(io_error("syncing", &temporary))?;
        disk::rename(&temporary, &path).map_err(io_error("replacing", &path))?;
        disk::sync_dir(&dir).map_err(io_error("syncing directory", &dir))
    }

    /// Removes `name`, durably; absent is fine.
    ///
    /// # Errors
    /// An IO error.
    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        match disk::remove(&path) {
            Ok(()) => {
                let dir = path.parent().unwrap_or(&self.path);
                disk::sync_dir(dir).map_err(io_error("syncing directory", dir))
            }
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(io_error("removing", &path)(source)),
        }
    }

    /// Reads `name` as deterministic CBOR.
    ///
    /// # Errors
    /// [`StateError::Malformed`] and as [`StateDir::read`].
    pub fn read_cbor<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let malformed = |e: cbor::CborError| StateError::Malformed { path: self.path.join(name), why: e.to_string() };
        cbor::from_slice(&bytes, Caps::bytes(bytes.len())).map(Some).map_err(malformed)
    }

    /// Replaces `name` with deterministic CBOR.
    ///
    /// # Errors
    /// As [`StateDir::write`].
    pub fn write_cbor<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), StateError> {
        let malformed = |e: cbor::CborError| StateError::Malformed { path: self.path.join(name), why: e.to_string() };
        self.write(name, &cbor::to_vec(value).map_err(malformed)?)
    }

    /// The newest lineage record of this node that `domain` told us of; zero before enrolment. What is answered is durable.
    ///
    /// # Errors
    /// As [`StateDir::read_cbor`] and [`StateDir::write_cbor`].
    pub fn lineage_head(&self, domain: &DomainName) -> Result<Sha256Digest, StateError> {
        self.keep_lineage_heads()?;
        Ok(self.lineage_heads()?.remove(domain.as_str()).unwrap_or(Sha256Digest::ZERO))
    }

    /// Remembers the newest lineage record; it is durable once [`StateDir::keep_lineage_heads`] or
    /// [`StateDir::lineage_head`] returned, one write for all domains that were heard in the meantime.
    ///
    /// # Errors
    /// As [`StateDir::read_cbor`].
    pub fn hear_lineage_head(&self, domain: &DomainName, head: Sha256Digest) -> Result<(), StateError> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *heard {
            Some(heads) => drop(heads.insert(domain.as_str().to_owned(), head)),
            None => {
                let mut heads = self.lineage_heads()?;
                if heads.insert(domain.as_str().to_owned(), head) != Some(head) {
                    *heard = Some(heads);
                }
            }
        }
        Ok(())
    }

    /// Makes every lineage head durable that was heard, before anything that depends on one is sent or started.
    ///
    /// # Errors
    /// As [`StateDir::write_cbor`]; what was heard is tried again the next time.
    pub fn keep_lineage_heads(&self) -> Result<(), StateError> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heads) = &*heard {
            self.write_cbor(LINEAGE_HEAD, heads)?;
            *heard = None;
        }
        Ok(())
    }

    fn lineage_heads(&self) -> Result<BTreeMap<String, Sha256Digest>, StateError> {
        Ok(self.read_cbor(LINEAGE_HEAD)?.unwrap_or_default())
    }
}

/// Where local clients of the daemon with state directory `state` reach it.
#[must_use]
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("run").join("attestd.sock")
}

/// Where the processes of running executions reach it.
#[must_use]
pub fn workload_socket_path(state: &Path) -> PathBuf {
    state.join("run").join("workload.sock")
}

const LINEAGE_HEAD: &str = "lineage_head";

fn require_private(path: &Path, want_mode: u32) -> Result<(), StateError> {
    let found = std::fs::metadata(path).map_err(io_error("looking at", path))?;
    let want_uid = rustix::process::geteuid().as_raw();
    let got_mode = found.mode() & 0o7777;
    if found.uid() == want_uid && got_mode == want_mode {
        return Ok(());
    }
    Err(StateError::NotPrivate { path: path.to_owned(), want_uid, got_uid: found.uid(), want_mode, got_mode })
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn private_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    #[test]
    fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let dir = private_dir();
        let first = StateDir::open(dir.path()).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::InUse { .. })));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn missing_and_public_directories_are_refused() {
        let dir = private_dir();
        assert!(matches!(StateDir::open(&dir.path().join("none")), Err(StateError::Missing { .. })));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(StateDir::open(dir.path()), Err(StateError::NotPrivate { got_mode: 0o755, .. })));
    }

    #[test]
    fn files_are_replaced_whole_and_secrets_must_be_private() {
        let dir = private_dir();
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.read("record.key").unwrap(), None);
        std::fs::write(state.join("record.key.new"), b"torn").unwrap();
        state.write("record.key", b"one").unwrap();
        state.write("record.key", b"two").unwrap();
        assert_eq!(state.read_secret("record.key").unwrap().unwrap().as_slice(), b"two");
        assert!(!state.join("record.key.new").exists());
        std::fs::set_permissions(state.join("record.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(state.read_secret("record.key"), Err(StateError::NotPrivate { want_mode: 0o600, .. })));
        state.remove("record.key").unwrap();
        state.remove("record.key").unwrap();
    }

    #[test]
    fn lineage_heads_are_kept_per_domain() {
        let dir = private_dir();
        let state = StateDir::open(dir.path()).unwrap();
        let (a, b) = (DomainName::new("a.example").unwrap(), DomainName::new("b.example").unwrap());
        assert_eq!(state.lineage_head(&a).unwrap(), Sha256Digest::ZERO);
        state.hear_lineage_head(&a, Sha256Digest::of(b"1")).unwrap();
        state.hear_lineage_head(&b, Sha256Digest::of(b"2")).unwrap();
        assert!(!state.join(LINEAGE_HEAD).exists(), "both go into one write");
        assert_eq!(state.lineage_head(&a).unwrap(), Sha256Digest::of(b"1"));
        drop(state);
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(
            state.lineage_head(&b).unwrap(),
            Sha256Digest::of(b"2"),
            "who was answered about one has both on disk"
        );
        std::fs::write(state.join(LINEAGE_HEAD), b"\xff").unwrap();
        assert!(matches!(state.lineage_head(&a), Err(StateError::Malformed { .. })));
    }

    #[test]
    fn domains_that_move_their_lineage_on_at_once_lose_none_of_it() {
        let dir = private_dir();
        let state = StateDir::open(dir.path()).unwrap();
        let domains = ["a.example", "b.example", "c.example"].map(|name| DomainName::new(name).unwrap());
        std::thread::scope(|scope| {
            for domain in &domains {
                let state = &state;
                scope.spawn(move || {
                    for step in 0_u8..50 {
                        let head = Sha256Digest::of(&[step]);
                        state.hear_lineage_head(domain, head).unwrap();
                        assert_eq!(state.lineage_head(domain).unwrap(), head);
                    }
                });
            }
        });
    }

    #[test]
    fn an_oversized_file_is_not_read() {
        let dir = private_dir();
        let state = StateDir::open(dir.path()).unwrap();
        File::create(state.join("halt.cbor")).unwrap().set_len(STATE_FILE_CAP_BYTES + 1).unwrap();
        assert!(matches!(state.read("halt.cbor"), Err(StateError::TooLarge { .. })));
    }
}
