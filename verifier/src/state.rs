//! The verifier's state folder: private, made by `init` alone, never repaired or
//! filled in by anything else.
//!
//! `DIR/{verifier.toml, instance, lock, verifier.db, kek, keys/*.key, authority/*.key,
//! bundle.cose, ca.pem, tiles/, operator.sock}`

mod rotation;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use evidence::cose::SigningKey;
use zeroize::Zeroizing;

use crate::ear_key::EarKey;
use crate::es256::Es256Key;
use crate::keys::KeyEncryptionKey;

/// Signs JWT-SVIDs.
const JWT_KEY: &str = "jwt.key";
/// Largest file read from the state folder at once.
const FILE_CAP_BYTES: u64 = 1 << 20;

/// Why the state folder, or a file in it, is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is not there.
    #[error("{path} does not exist; `verifier init` makes it")]
    Missing {
        /// The file or folder.
        path: PathBuf,
    },
    /// It is there already, and never overwritten.
    #[error("{path} exists already; `verifier init` overwrites nothing")]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// The key of EARs as JWT is not there: the folder was made before there was one.
    #[error(
        "{path} does not exist: this state folder is of an earlier version; `verifier init --ear-key` adds the key to it"
    )]
    EarKeyMissing {
        /// The file.
        path: PathBuf,
    },
    /// Others may read or write it, or it is someone else's.
    #[error(
        "{path} must belong to uid {want_uid} with mode {want_mode:o}; it belongs to uid {got_uid} with mode {got_mode:o}"
    )]
    NotPrivate {
        /// The file or folder.
        path: PathBuf,
        /// This process's uid.
        want_uid: u32,
        /// Owner found.
        got_uid: u32,
        /// Mode demanded.
        want_mode: u32,
        /// Mode found.
        got_mode: u32,
    },
    /// It does not hold what it should.
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
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system gave no randomness.
    #[error("no randomness for a key")]
    Randomness,
}

/// The domain's online keys, one file each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFile {
    /// Signs artifacts, results, records and governance states.
    Issuer,
    /// Signs the log's checkpoints.
    Log,
    /// Cosigns partners' checkpoints.
    Witness,
}

impl KeyFile {
    const fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer.key",
            Self::Log => "log.key",
            Self::Witness => "witness.key",
        }
    }
}

/// A state folder that passed its checks.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// An existing folder, private to this user.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        private(path, 0o700)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Makes the folder. One that exists may only be an empty, private one.
    pub fn create(path: &Path) -> Result<Self, StateError> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                private(path, 0o700)?;
                let mut inside = fs::read_dir(path).map_err(io("reading", path))?;
                if inside.next().is_some() {
                    return Err(StateError::Exists { path: path.to_owned() });
                }
            }
            Err(error) => return Err(io("making", path)(error)),
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The configuration.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.join("verifier.toml")
    }

    /// The published log.
    #[must_use]
    pub fn tiles(&self) -> PathBuf {
        self.join("tiles")
    }

    /// Where operators speak to a running verifier.
    #[must_use]
    pub fn operator_socket(&self) -> PathBuf {
        self.join("operator.sock")
    }

    /// The random name that the store knows this folder by.
    pub fn instance(&self) -> Result<String, StateError> {
        let path = self.join("instance");
        let text = read_capped(&path)?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| malformed(&path, "not text"))?;
        Ok(text.trim().to_owned())
    }

    /// One of the domain's online keys.
    pub fn key(&self, key: KeyFile) -> Result<SigningKey, StateError> {
        read_signing_key(&self.join("keys").join(key.name()))
    }

    /// The key of EARs as JWT.
    pub fn ear_key(&self) -> Result<EarKey, StateError> {
        let path = self.ear_key_path();
        let document = match read_secret(&path) {
            Err(StateError::Missing { path }) => return Err(StateError::EarKeyMissing { path }),
            read => read?,
        };
        EarKey::from_pkcs8(&document).map_err(|error| malformed(&path, error.to_string()))
    }

    /// Makes the key of EARs as JWT; one that is there is never replaced. Returns its file.
    pub fn make_ear_key(&self) -> Result<PathBuf, StateError> {
        let path = self.ear_key_path();
        write_new(&path, &Es256Key::generate().map_err(|_| StateError::Randomness)?, 0o600)?;
        Ok(path)
    }

    fn ear_key_path(&self) -> PathBuf {
        self.join("keys").join("ear.key")
    }

    /// The key of JWT-SVIDs; none in a folder from before there was one, until one is activated.
    pub fn jwt_key(&self) -> Result<Option<Es256Key>, StateError> {
        read_es256(&self.join("keys").join(JWT_KEY))
    }

    /// Makes the key of JWT-SVIDs that a domain is founded with.
    pub(crate) fn make_jwt_key(&self) -> Result<Es256Key, StateError> {
        make_es256(&self.join("keys").join(JWT_KEY))
    }

    /// The key-encryption key.
    pub fn key_encryption_key(&self) -> Result<KeyEncryptionKey, StateError> {
        let path = self.join("kek");
        let bytes = read_secret(&path)?;
        let key = <&[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| malformed(&path, "not 32 bytes"))?;
        KeyEncryptionKey::new(key).map_err(|fault| malformed(&path, fault.to_string()))
    }

    /// The domain's trust bundle: one COSE_Sign1 per authority key, as `init` stored them.
    pub fn trust_bundle(&self) -> Result<Vec<Vec<u8>>, StateError> {
        let path = self.join("bundle.cose");
        let bytes = read_capped(&path)?;
        evidence::cbor::from_slice::<Vec<serde_bytes::ByteBuf>>(&bytes, evidence::cbor::Caps::bytes(bytes.len()))
            .map(|signatures| signatures.into_iter().map(serde_bytes::ByteBuf::into_vec).collect())
            .map_err(|error| malformed(&path, error.to_string()))
    }

    pub(crate) fn write_key(&self, key: KeyFile, signing: &SigningKey) -> Result<(), StateError> {
        write_signing_key(&self.join("keys").join(key.name()), signing)
    }

    pub(crate) fn make(&self, folder: &str) -> Result<PathBuf, StateError> {
        let path = self.join(folder);
        DirBuilder::new().mode(0o700).create(&path).map_err(io("making", &path))?;
        Ok(path)
    }
}

/// An ES256 key in a private file, if that is there.
fn read_es256(path: &Path) -> Result<Option<Es256Key>, StateError> {
    let document = match read_secret(path) {
        Err(StateError::Missing { .. }) => return Ok(None),
        read => read?,
    };
    Es256Key::from_pkcs8(&document).map(Some).map_err(|error| malformed(path, error.to_string()))
}

/// A fresh ES256 key, in a new private file.
fn make_es256(path: &Path) -> Result<Es256Key, StateError> {
    let document = Es256Key::generate().map_err(|_| StateError::Randomness)?;
    write_new(path, &document, 0o600)?;
    Es256Key::from_pkcs8(&document).map_err(|error| malformed(path, error.to_string()))
}

/// A fresh Ed25519 key from the system's randomness.
pub fn fresh_signing_key() -> Result<SigningKey, StateError> {
    let seed = fresh_secret()?;
    SigningKey::from_seed(&seed).map_err(|_| StateError::Randomness)
}

/// 32 fresh random bytes.
pub fn fresh_secret() -> Result<Zeroizing<[u8; 32]>, StateError> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(secret.as_mut()).map_err(|_| StateError::Randomness)?;
    Ok(secret)
}

/// Reads an Ed25519 key (PKCS#8 DER) from a private file.
pub fn read_signing_key(path: &Path) -> Result<SigningKey, StateError> {
    let document = read_secret(path)?;
    SigningKey::from_pkcs8(&document).map_err(|denial| malformed(path, denial.to_string()))
}

/// Writes an Ed25519 key (PKCS#8 DER) into a new private file.
pub fn write_signing_key(path: &Path, key: &SigningKey) -> Result<(), StateError> {
    let document = key.to_pkcs8().map_err(|denial| malformed(path, denial.to_string()))?;
    write_new(path, &document, 0o600)
}

/// Reads a secret; one that others may read is refused.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, StateError> {
    private(path, 0o600)?;
    read_capped(path)
}

/// Writes a file that must not exist yet, durably.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(StateError::Exists { path: path.to_owned() });
        }
        other => other.map_err(io("making", path))?,
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("writing", path))
}

/// Writes a file in the place of the one that is there, durably; whoever reads meanwhile finds one of the two.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    write_new(&beside, bytes, 0o644)?;
    fs::rename(&beside, path).map_err(io("renaming", &beside))
}

fn read_capped(path: &Path) -> Result<Zeroizing<Vec<u8>>, StateError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StateError::Missing { path: path.to_owned() });
        }
        other => other.map_err(io("opening", path))?,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_CAP_BYTES).read_to_end(&mut bytes).map_err(io("reading", path))?;
    Ok(bytes)
}

fn private(path: &Path, want_mode: u32) -> Result<(), StateError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StateError::Missing { path: path.to_owned() });
        }
        other => other.map_err(io("looking at", path))?,
    };
    let want_uid = rustix::process::geteuid().as_raw();
    let (got_uid, got_mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if got_uid == want_uid && got_mode == want_mode {
        Ok(())
    } else {
        Err(StateError::NotPrivate { path: path.to_owned(), want_uid, got_uid, want_mode, got_mode })
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { doing, path, source }
}

fn malformed(path: &Path, why: impl Into<String>) -> StateError {
    StateError::Malformed { path: path.to_owned(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.key");
        let key = fresh_signing_key().unwrap();
        write_signing_key(&path, &key).unwrap();
        assert_eq!(read_signing_key(&path).unwrap().public(), key.public());
        assert!(matches!(write_signing_key(&path, &key), Err(StateError::Exists { .. })));
        for mode in [0o644, 0o640, 0o660, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read_signing_key(&path), Err(StateError::NotPrivate { .. })), "{mode:o}");
        }
        assert!(matches!(read_secret(&folder.path().join("none")), Err(StateError::Missing { .. })));
    }

    #[test]
    fn the_key_of_results_as_jwt_is_made_once_and_where_it_is_missing_the_answer_says_how() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::create(&folder.path().join("state")).unwrap();
        state.make("keys").unwrap();
        let missing = state.ear_key().unwrap_err();
        assert!(matches!(missing, StateError::EarKeyMissing { .. }));
        assert!(missing.to_string().contains("verifier init --ear-key"), "{missing}");
        let path = state.make_ear_key().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let kid = state.ear_key().unwrap().kid().to_owned();
        assert!(matches!(state.make_ear_key(), Err(StateError::Exists { .. })));
        assert_eq!(state.ear_key().unwrap().kid(), kid);
        fs::write(&path, b"no key").unwrap();
        assert!(matches!(state.ear_key(), Err(StateError::Malformed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(state.ear_key(), Err(StateError::NotPrivate { .. })));
    }

    #[test]
    fn only_an_empty_private_folder_becomes_a_state_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        StateFolder::create(&path).unwrap();
        StateFolder::create(&path).unwrap();
        StateFolder::open(&path).unwrap();
        fs::write(path.join("x"), "").unwrap();
        assert!(matches!(StateFolder::create(&path), Err(StateError::Exists { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(StateFolder::open(&path), Err(StateError::NotPrivate { .. })));
        assert!(matches!(StateFolder::open(&folder.path().join("none")), Err(StateError::Missing { .. })));
    }
}
