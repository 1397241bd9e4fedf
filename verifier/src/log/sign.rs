//! The log key at work: one checkpoint per published size, never two roots for
//! one size, since every signature is made over the committed head alone.

use std::sync::{Arc, PoisonError, RwLock};

use audit::checkpoint::{Checkpoint, LogIdentity, VerifiedCheckpoint};
use audit::tlog::TreeHash;
use evidence::cose::{Alg, PublicKey, SigningKey};
use evidence::time::UnixSeconds;

use super::{Tree, corrupt};
use crate::store::StoreError;

/// Signs and reads this log's checkpoints. Clones share the key, which another may take the place of.
#[derive(Clone)]
pub struct CheckpointSigner {
    origin: Arc<str>,
    keys: Arc<RwLock<Keys>>,
}

#[derive(Clone)]
struct Keys {
    active: Arc<SigningKey>,
    /// Every key that ever signed, or is announced.
    log: Arc<LogIdentity>,
}

impl CheckpointSigner {
    /// The signer of the log with this origin line.
    pub fn new(origin: &str, key: Arc<SigningKey>) -> Result<Self, StoreError> {
        let log = Arc::new(LogIdentity::new(origin, [key.public()]).map_err(corrupt)?);
        Ok(Self { origin: Arc::from(origin), keys: Arc::new(RwLock::new(Keys { active: key, log })) })
    }

    /// Origin line and keys, as our own checkpoints are read by: also by keys that were retired since.
    #[must_use]
    pub fn identity(&self) -> Arc<LogIdentity> {
        self.now().log
    }

    /// The key that signs now.
    #[must_use]
    pub fn signing(&self) -> Arc<SigningKey> {
        self.now().active
    }

    /// Reads checkpoints by these keys as well. One that cannot sign notes never signed any.
    pub(crate) fn learn<'k>(&self, keys: impl Iterator<Item = &'k PublicKey>) {
        let mut known: Vec<PublicKey> = self.identity().keys().iter().map(|key| key.key().clone()).collect();
        for key in keys.filter(|key| key.alg() == Alg::Ed25519) {
            if !known.contains(key) {
                known.push(key.clone());
            }
        }
        if let Ok(log) = LogIdentity::new(&self.origin, &known) {
            self.keys.write().unwrap_or_else(PoisonError::into_inner).log = Arc::new(log);
        }
    }

    /// Signs with another key from now on, which was announced and so is known.
    pub(crate) fn activate(&self, key: SigningKey) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).active = Arc::new(key);
    }

    fn now(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn sign(&self, tree: &Tree) -> Result<SignedHead, StoreError> {
        let checkpoint = Checkpoint { origin: self.origin.to_string(), size: tree.size(), root: tree.root() };
        let note = checkpoint.sign(&self.signing()).map_err(corrupt)?;
        Ok(SignedHead { note, size: tree.size(), root: tree.root() })
    }

    /// Reads a checkpoint of our own. Cosignatures are left aside here: our own
    /// word for what we once signed is what counts.
    pub(crate) fn read(&self, note: &str) -> Result<SignedHead, StoreError> {
        let verified = self.verified(note)?;
        let head = verified.checkpoint();
        Ok(SignedHead { note: note.to_owned(), size: head.size, root: head.root })
    }

    pub(crate) fn verified(&self, note: &str) -> Result<VerifiedCheckpoint, StoreError> {
        VerifiedCheckpoint::verify(note.as_bytes(), &self.identity(), &[], UnixSeconds(0)).map_err(corrupt)
    }
}

impl std::fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CheckpointSigner({})", self.origin)
    }
}

/// A head and the note signed over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedHead {
    pub(crate) note: String,
    pub(crate) size: u64,
    pub(crate) root: TreeHash,
}
