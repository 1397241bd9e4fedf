//! Successors of the domain's online keys in the state folder: `keys/ROLE.next.key`, for the CA beside `ca.next.der`.
//!
//! They are made by an operator's order alone. An activation is one rename; what the key before was, by its public half,
//! stays in `keys/ROLE.previous.pub`, so that a checkpoint that it signed is known after a crash.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use evidence::cose::{PublicKey, SigningKey};
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use zeroize::Zeroizing;

use super::{
    JWT_KEY, KeyFile, StateError, StateFolder, fresh_signing_key, io, make_es256, malformed, read_capped, read_es256,
    read_secret, read_signing_key, write_new, write_signing_key,
};
use crate::ca::CertificateAuthority;
use crate::es256::Es256Key;

impl StateFolder {
    /// The successor of a key, once it was prepared.
    pub fn next_key(&self, key: KeyFile) -> Result<Option<SigningKey>, StateError> {
        present(read_signing_key(&self.next_path(key.name())))
    }

    /// The successor of a key, made now unless it was before.
    pub(crate) fn prepare_key(&self, key: KeyFile) -> Result<SigningKey, StateError> {
        if let Some(prepared) = self.next_key(key)? {
            return Ok(prepared);
        }
        let made = fresh_signing_key()?;
        write_signing_key(&self.next_path(key.name()), &made)?;
        Ok(made)
    }

    /// Puts the successor in the place of its predecessor, durably.
    pub(crate) fn activate_key(&self, key: KeyFile) -> Result<SigningKey, StateError> {
        let path = self.next_path(key.name());
        let next = read_signing_key(&path)?;
        let before = self.key(key)?;
        replace(&self.previous_path(key), hex::encode(before.public().cose_key()).as_bytes())?;
        rename(&path, &self.join("keys").join(key.name()))?;
        Ok(next)
    }

    /// What signed before the active key, if anything did.
    pub fn previous_key(&self, key: KeyFile) -> Result<Option<PublicKey>, StateError> {
        let path = self.previous_path(key);
        let Some(text) = present(read_capped(&path))? else { return Ok(None) };
        let key = hex::decode(text.as_slice()).ok().and_then(|bytes| PublicKey::from_cose_key(&bytes).ok());
        key.map(Some).ok_or_else(|| malformed(&path, "not a COSE_Key in hex"))
    }

    /// The certificate authority: certificate (DER) and private key (PKCS#8 DER).
    pub fn certificate_authority(&self) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), StateError> {
        let (certificate, next) = (self.join("ca.der"), self.join("ca.next.der"));
        if next.exists() && !self.next_path(CA_KEY).exists() {
            // A crash came between the two renames of an activation.
            rename(&next, &certificate)?;
            self.show_authority()?;
        }
        Ok((read_capped(&certificate)?.to_vec(), read_secret(&self.join("keys").join(CA_KEY))?))
    }

    /// The certificate of the CA's successor (DER), once it was prepared.
    pub fn next_authority(&self) -> Result<Option<Vec<u8>>, StateError> {
        Ok(present(read_capped(&self.join("ca.next.der")))?.map(|der| der.to_vec()))
    }

    /// The certificate of the CA's successor (DER), made now unless it was before.
    pub(crate) fn prepare_authority(&self, domain: &DomainName, now: UnixSeconds) -> Result<Vec<u8>, StateError> {
        if let Some(prepared) = self.next_authority()? {
            return Ok(prepared);
        }
        let (path, key_path) = (self.join("ca.next.der"), self.next_path(CA_KEY));
        let made = CertificateAuthority::create(domain, now);
        let (certificate, key) = made.map_err(|error| malformed(&path, error.to_string()))?;
        if key_path.exists() {
            // A crash came before its certificate was written: nobody knows of this key.
            fs::remove_file(&key_path).map_err(io("removing", &key_path))?;
        }
        write_new(&key_path, &key, 0o600)?;
        write_new(&path, &certificate, 0o644)?;
        Ok(certificate)
    }

    /// Puts the CA's successor in the place of its predecessor, durably.
    pub(crate) fn activate_authority(&self, domain: &DomainName) -> Result<CertificateAuthority, StateError> {
        let (path, key_path) = (self.join("ca.next.der"), self.next_path(CA_KEY));
        let (certificate, key) = (read_capped(&path)?, read_secret(&key_path)?);
        let opened = CertificateAuthority::open(domain.clone(), &certificate, &key);
        let opened = opened.map_err(|error| malformed(&path, error.to_string()))?;
        rename(&key_path, &self.join("keys").join(CA_KEY))?;
        rename(&path, &self.join("ca.der"))?;
        self.show_authority()?;
        Ok(opened)
    }

    /// The successor of the key of JWT-SVIDs, once it was prepared.
    pub fn next_jwt_key(&self) -> Result<Option<Es256Key>, StateError> {
        read_es256(&self.next_path(JWT_KEY))
    }

    /// The successor of the key of JWT-SVIDs, made now unless it was before.
    pub(crate) fn prepare_jwt_key(&self) -> Result<Es256Key, StateError> {
        self.next_jwt_key()?.map_or_else(|| make_es256(&self.next_path(JWT_KEY)), Ok)
    }

    /// Puts the successor in the place of its predecessor, where there is one, durably.
    pub(crate) fn activate_jwt_key(&self) -> Result<Es256Key, StateError> {
        let path = self.next_path(JWT_KEY);
        let next = self.next_jwt_key()?.ok_or_else(|| StateError::Missing { path: path.clone() })?;
        rename(&path, &self.join("keys").join(JWT_KEY))?;
        Ok(next)
    }

    /// Writes `ca.pem`, which operators hand to new nodes.
    fn show_authority(&self) -> Result<(), StateError> {
        let certificate = read_capped(&self.join("ca.der"))?;
        replace(&self.join("ca.pem"), &crate::enrolment::pem(&certificate))
    }

    fn next_path(&self, name: &str) -> PathBuf {
        let stem = name.strip_suffix(".key").unwrap_or(name);
        self.join("keys").join(format!("{stem}.next.key"))
    }

    fn previous_path(&self, key: KeyFile) -> PathBuf {
        let stem = key.name().strip_suffix(".key").unwrap_or(key.name());
        self.join("keys").join(format!("{stem}.previous.pub"))
    }
}

/// What may not be there yet.
fn present<T>(read: Result<T, StateError>) -> Result<Option<T>, StateError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(StateError::Missing { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Puts new content in the place of a file that is no secret, all of it or nothing.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        fs::remove_file(&beside).map_err(io("removing", &beside))?;
    }
    write_new(&beside, bytes, 0o644)?;
    rename(&beside, path)
}

/// Renames within one folder, durably.
fn rename(from: &Path, to: &Path) -> Result<(), StateError> {
    fs::rename(from, to).map_err(io("renaming", from))?;
    let folder = to.parent().unwrap_or(to);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("syncing", folder))
}

const CA_KEY: &str = "ca.key";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::state::fresh_secret;

    fn folder() -> (tempfile::TempDir, StateFolder, DomainName) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::create(&folder.path().join("state")).unwrap();
        state.make("keys").unwrap();
        let domain = DomainName::new("a.example").unwrap();
        state.write_key(KeyFile::Log, &SigningKey::from_seed(&fresh_secret().unwrap()).unwrap()).unwrap();
        let (certificate, key) = CertificateAuthority::create(&domain, UnixSeconds(1_790_000_000)).unwrap();
        write_new(&state.join("keys/ca.key"), &key, 0o600).unwrap();
        write_new(&state.join("ca.der"), &certificate, 0o644).unwrap();
        (folder, state, domain)
    }

    #[test]
    fn a_successor_is_made_once_private_and_takes_the_place_of_its_predecessor() {
        let (_folder, state, _) = folder();
        let first = state.key(KeyFile::Log).unwrap();
        assert!(matches!(state.activate_key(KeyFile::Log), Err(StateError::Missing { .. })));
        assert!(state.next_key(KeyFile::Log).unwrap().is_none() && state.previous_key(KeyFile::Log).unwrap().is_none());
        let made = state.prepare_key(KeyFile::Log).unwrap();
        assert_eq!(state.prepare_key(KeyFile::Log).unwrap().public(), made.public());
        assert_eq!(fs::metadata(state.join("keys/log.next.key")).unwrap().mode() & 0o777, 0o600);
        state.activate_key(KeyFile::Log).unwrap();
        assert_eq!(state.key(KeyFile::Log).unwrap().public(), made.public());
        assert_eq!(state.previous_key(KeyFile::Log).unwrap().as_ref(), Some(first.public()));
        assert!(state.next_key(KeyFile::Log).unwrap().is_none());
    }

    #[test]
    fn a_folder_from_before_there_were_jwt_keys_gets_its_first_by_a_rotation() {
        let (_folder, state, _) = folder();
        assert!(state.jwt_key().unwrap().is_none() && state.next_jwt_key().unwrap().is_none());
        assert!(matches!(state.activate_jwt_key(), Err(StateError::Missing { .. })));
        for _ in 0..2 {
            let made = state.prepare_jwt_key().unwrap();
            assert_eq!(state.prepare_jwt_key().unwrap().public(), made.public());
            assert_eq!(fs::metadata(state.join("keys/jwt.next.key")).unwrap().mode() & 0o777, 0o600);
            assert_eq!(state.activate_jwt_key().unwrap().public(), made.public());
            assert_eq!(state.jwt_key().unwrap().unwrap().public(), made.public());
            assert!(state.next_jwt_key().unwrap().is_none());
        }
    }

    #[test]
    fn an_authority_whose_activation_was_cut_short_is_whole_at_the_next_start() {
        let (_folder, state, domain) = folder();
        let now = UnixSeconds(1_790_000_000);
        let next = state.prepare_authority(&domain, now).unwrap();
        assert_eq!(state.prepare_authority(&domain, now).unwrap(), next);
        let (before, _) = state.certificate_authority().unwrap();
        assert_ne!(before, next);
        // Killed after the first rename.
        fs::rename(state.join("keys/ca.next.key"), state.join("keys/ca.key")).unwrap();
        let (certificate, key) = state.certificate_authority().unwrap();
        assert_eq!(certificate, next);
        CertificateAuthority::open(domain.clone(), &certificate, &key).unwrap();
        let third = state.prepare_authority(&domain, now).unwrap();
        state.activate_authority(&domain).unwrap();
        assert_eq!(state.certificate_authority().unwrap().0, third);
        assert!(state.next_authority().unwrap().is_none());
    }
}
