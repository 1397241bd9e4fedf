//! The log key at work: one checkpoint per published size, never two roots for
//! one size, since every signature is made over the committed head alone.

use std::sync::Arc;

use audit::checkpoint::{Checkpoint, LogIdentity, VerifiedCheckpoint};
use audit::tlog::TreeHash;
use evidence::cose::SigningKey;
use evidence::time::UnixSeconds;

use super::{Tree, corrupt};
use crate::store::StoreError;

/// Signs and reads this log's checkpoints.
#[derive(Clone)]
pub struct CheckpointSigner {
    log: LogIdentity,
    key: Arc<SigningKey>,
}

impl CheckpointSigner {
    /// The signer of the log with this origin line.
    pub fn new(origin: &str, key: Arc<SigningKey>) -> Result<Self, StoreError> {
        let log = LogIdentity::new(origin, [key.public()]).map_err(corrupt)?;
        Ok(Self { log, key })
    }

    /// Origin line and key, as anyone needs them to check what this signs.
    #[must_use]
    pub fn identity(&self) -> &LogIdentity {
        &self.log
    }

    pub(crate) fn sign(&self, tree: &Tree) -> Result<SignedHead, StoreError> {
        let checkpoint = Checkpoint { origin: self.log.origin().to_owned(), size: tree.size(), root: tree.root() };
        let note = checkpoint.sign(&self.key).map_err(corrupt)?;
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
        VerifiedCheckpoint::verify(note.as_bytes(), &self.log, &[], UnixSeconds(0)).map_err(corrupt)
    }
}

impl std::fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CheckpointSigner({})", self.log.origin())
    }
}

/// A head and the note signed over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedHead {
    pub(crate) note: String,
    pub(crate) size: u64,
    pub(crate) root: TreeHash,
}
