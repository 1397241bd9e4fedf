//! The log key at work: one checkpoint per published size, never two roots for
//! one size, since every signature is made over the committed head alone.

use std::sync::Arc;

use audit::tlog::{self, TreeHash};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;

use super::{Entry, Receipt, Tree, corrupt};
use crate::store::StoreError;

/// Signs and reads this log's checkpoints.
#[derive(Clone)]
pub struct CheckpointSigner {
    origin: String,
    key: Arc<SigningKey>,
}

impl CheckpointSigner {
    /// The signer of the log with this origin line.
    #[must_use]
    pub fn new(origin: impl Into<String>, key: Arc<SigningKey>) -> Self {
        Self { origin: origin.into(), key }
    }

    pub(crate) fn sign(&self, tree: &Tree) -> Result<SignedHead, StoreError> {
        let body = format!("{}\n{}\n{}\n", self.origin, tree.size(), BASE64.encode(tree.root().0));
        let signature = [self.key_hash().as_slice(), &self.key.sign_raw(body.as_bytes())].concat();
        let note = format!("{body}\n\u{2014} {} {}\n", self.origin, BASE64.encode(signature));
        Ok(SignedHead { note, size: tree.size(), root: tree.root() })
    }

    pub(crate) fn read(&self, note: &str) -> Result<SignedHead, StoreError> {
        self.parse(note).ok_or_else(|| StoreError::Corrupt {
            what: "the published checkpoint is not signed by the log key".to_owned(),
        })
    }

    fn parse(&self, note: &str) -> Option<SignedHead> {
        let (text, signature) = note.rsplit_once("\n\n")?;
        let body = format!("{text}\n");
        let encoded = signature.strip_prefix(&format!("\u{2014} {} ", self.origin))?.strip_suffix('\n')?;
        let decoded = BASE64.decode(encoded).ok()?;
        let (hash, signature) = decoded.split_first_chunk::<4>()?;
        if *hash != self.key_hash() || !self.key.public().verifies(body.as_bytes(), signature) {
            return None;
        }
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?.parse().ok()?, lines.next()?);
        let root = <[u8; 32]>::try_from(BASE64.decode(root).ok()?).ok()?;
        (origin == self.origin).then(|| SignedHead { note: note.to_owned(), size, root: TreeHash(root) })
    }

    /// C2SP signed-note: the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key).
    fn key_hash(&self) -> [u8; 4] {
        let parts = [self.origin.as_bytes(), b"\n\x01", self.key.public().raw()];
        let Sha256Digest([a, b, c, d, ..]) = Sha256Digest::concat(&parts);
        [a, b, c, d]
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

impl SignedHead {
    pub(crate) fn receipt(&self, index: u64, proof: Vec<TreeHash>) -> Receipt {
        Receipt { index, proof, checkpoint: self.note.clone() }
    }

    /// Checks a receipt against the entry it is for.
    pub(crate) fn confirm(&self, entry: &Entry, receipt: &Receipt) -> Result<(), StoreError> {
        let leaf = tlog::leaf_hash(&entry.bytes);
        tlog::verify_inclusion(&leaf, entry.index, self.size, &receipt.proof, &self.root).map_err(corrupt)
    }
}
