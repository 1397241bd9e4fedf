//! The domain's transparency log: a C2SP tlog-tiles log sequenced by the store's
//! writer. The table is the source of truth; after each commit its head is signed,
//! and tiles and checkpoint are published from it.

mod check;
mod entries;
mod publisher;
mod recovery;
mod shelf;
mod sign;
mod tiles;
mod tree;

use audit::AuditDenial;
use audit::checkpoint::LogIdentity;
use audit::receipt::Receipt;
use audit::tile;
use audit::tlog::{self, ProofPlan, TreeHash, verify_consistency};
use evidence::digest::Sha256Digest;
use std::sync::Arc;
use tokio::sync::watch;

pub use check::{AuditReport, audit_whole_log};
pub use entries::Entry;
pub use recovery::{OpenOptions, Opened, open};
pub use sign::CheckpointSigner;

pub(crate) use publisher::{Due, Group, Publication};
pub(crate) use sign::SignedHead;
pub(crate) use tree::Tree;

use tiles::TileFolder;
use tree::Tile;

use crate::store::{NewEntry, Store, StoreError};

/// An entry that is durable and under a signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its position, counted from 0.
    pub index: u64,
    /// The entry, its inclusion proof and the checkpoint that leads to.
    pub receipt: Receipt,
}

/// A signed state of the log.
#[derive(Clone)]
pub(crate) struct Published {
    tree: Tree,
    head: SignedHead,
    folder: TileFolder,
    /// The entries that this head added.
    fresh: Fresh,
}

/// Entries just logged, from index `first` on.
#[derive(Clone, Default)]
pub(crate) struct Fresh {
    first: u64,
    entries: Arc<Vec<Arc<Vec<u8>>>>,
}

impl Fresh {
    fn at(&self, index: u64) -> Option<&[u8]> {
        let entry = self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)?;
        Some(entry)
    }
}

impl Published {
    /// Receipts for `count` entries from index `first` on, all of them fresh.
    pub(crate) fn receipts(&self, first: u64, count: u64) -> Result<Vec<Logged>, StoreError> {
        let indices = first..first.saturating_add(count);
        indices
            .map(|index| {
                let entry = self.fresh.at(index).ok_or_else(|| StoreError::Corrupt {
                    what: format!("entry {index} was not part of its own publication"),
                })?;
                self.receipt(index, entry.to_vec())
            })
            .collect()
    }

    /// Inclusion proof of an entry, checked before it is given out.
    pub(crate) fn prove(&self, entry: &Entry) -> Result<Vec<TreeHash>, StoreError> {
        let plan = ProofPlan::inclusion(entry.index, self.tree.size()).map_err(corrupt)?;
        let proof = self.build(&plan)?;
        let leaf = tlog::leaf_hash(&entry.bytes);
        tlog::verify_inclusion(&leaf, entry.index, self.head.size, &proof, &self.head.root).map_err(corrupt)?;
        Ok(proof)
    }

    fn receipt(&self, index: u64, entry: Vec<u8>) -> Result<Logged, StoreError> {
        let plan = ProofPlan::inclusion(index, self.tree.size()).map_err(corrupt)?;
        let receipt = Receipt::new(entry, index, self.build(&plan)?, self.head.note.clone());
        Ok(Logged { index, receipt })
    }

    /// A proof; tiles no longer in memory are read from their files and must
    /// still hash to this tree's root, which the caller of a proof can check.
    fn build(&self, plan: &ProofPlan) -> Result<Vec<TreeHash>, StoreError> {
        let missing = self.tree.missing(plan);
        if missing.is_empty() {
            return plan.build(&self.tree).map_err(corrupt);
        }
        let mut tree = self.tree.clone();
        for at in missing {
            let hashes = self
                .folder
                .read_full_tile(at.level, at.number)?
                .ok_or_else(|| StoreError::Corrupt { what: format!("tile {}/{} is missing", at.level, at.number) })?;
            tree.remember(at, Tile::of(hashes));
        }
        plan.build(&tree).map_err(corrupt)
    }
}

/// A handle on the log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    store: Store,
    published: watch::Receiver<Published>,
    signer: CheckpointSigner,
}

/// What somebody else's copy of one of our checkpoints says about our log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is of this log, and this log goes on from it.
    Prefix,
    /// We signed it, and our log is shorter: it was rolled back.
    Ahead {
        /// Its size.
        size: u64,
    },
    /// We signed it, and our log is another one.
    Forked {
        /// Its size.
        size: u64,
    },
    /// We never signed it.
    NotOurs,
}

impl Log {
    pub(crate) fn new(store: Store, published: watch::Receiver<Published>, signer: CheckpointSigner) -> Self {
        Self { store, published, signer }
    }

    /// Compares a checkpoint that somebody saw with what our log is now.
    pub fn compare(&self, note: &str) -> Result<Seen, StoreError> {
        let Ok(seen) = self.signer.read(note) else { return Ok(Seen::NotOurs) };
        let published = self.published.borrow().clone();
        let (size, ours) = (seen.size, published.tree.size());
        if size > ours {
            return Ok(Seen::Ahead { size });
        }
        if size == 0 {
            return Ok(Seen::Prefix);
        }
        let proof = published.build(&ProofPlan::consistency(size, ours).map_err(corrupt)?)?;
        match verify_consistency(size, &seen.root, ours, &published.head.root, &proof) {
            Ok(()) => Ok(Seen::Prefix),
            Err(_) => Ok(Seen::Forked { size }),
        }
    }

    /// Appends entries and answers when they are durable, under a signed
    /// checkpoint, and published. To log and change tables in one commit, use
    /// [`Store::write`].
    pub async fn append(&self, entries: Vec<NewEntry>) -> Result<Vec<Logged>, StoreError> {
        self.store.append(entries).await
    }

    /// Number of entries under the newest checkpoint.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.published.borrow().tree.size()
    }

    /// Root hash over them.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        self.published.borrow().head.root
    }

    /// The newest checkpoint, a signed note.
    #[must_use]
    pub fn checkpoint(&self) -> String {
        self.published.borrow().head.note.clone()
    }

    /// Receipt of an entry under the newest checkpoint, checked before it is
    /// given out.
    pub fn prove(&self, entry: &Entry) -> Result<Logged, StoreError> {
        let published = self.published.borrow().clone();
        let proof = published.prove(entry)?;
        let receipt = Receipt::new(entry.bytes.clone(), entry.index, proof, published.head.note);
        Ok(Logged { index: entry.index, receipt })
    }

    /// Proof that the log of `old` entries is a prefix of the newest one.
    pub fn prove_growth(&self, old: u64) -> Result<Vec<TreeHash>, StoreError> {
        let published = self.published.borrow().clone();
        let plan = ProofPlan::consistency(old, published.tree.size()).map_err(corrupt)?;
        published.build(&plan)
    }

    /// Receipt of an entry under the newest checkpoint, and proof that the log of `old` entries is a prefix of it; no
    /// proof for a log that is not shorter, or empty.
    pub fn prove_since(&self, entry: &Entry, old: u64) -> Result<(Logged, Vec<TreeHash>), StoreError> {
        let published = self.published.borrow().clone();
        let proof = published.prove(entry)?;
        let size = published.tree.size();
        let growth = match old {
            old if old == 0 || old >= size => Vec::new(),
            old => published.build(&ProofPlan::consistency(old, size).map_err(corrupt)?)?,
        };
        let receipt = Receipt::new(entry.bytes.clone(), entry.index, proof, published.head.note);
        Ok((Logged { index: entry.index, receipt }, growth))
    }

    /// Proof that the log of `old` entries is a prefix of the one of `new`, neither larger than the newest one.
    pub fn prove_between(&self, old: u64, new: u64) -> Result<Vec<TreeHash>, StoreError> {
        self.published.borrow().clone().build(&ProofPlan::consistency(old, new).map_err(corrupt)?)
    }

    /// Receipt of an entry under a checkpoint of ours that others cosigned, checked before it is given out.
    pub(crate) fn prove_under(&self, entry: &Entry, head: &SignedHead) -> Result<Logged, StoreError> {
        let plan = ProofPlan::inclusion(entry.index, head.size).map_err(corrupt)?;
        let proof = self.published.borrow().clone().build(&plan)?;
        let leaf = tlog::leaf_hash(&entry.bytes);
        tlog::verify_inclusion(&leaf, entry.index, head.size, &proof, &head.root).map_err(corrupt)?;
        let receipt = Receipt::new(entry.bytes.clone(), entry.index, proof, head.note.clone());
        Ok(Logged { index: entry.index, receipt })
    }

    /// The newest signed head.
    pub(crate) fn head(&self) -> SignedHead {
        self.published.borrow().head.clone()
    }

    /// Origin of this log, and every key that ever signed for it.
    #[must_use]
    pub fn identity(&self) -> Arc<LogIdentity> {
        self.signer.identity()
    }

    /// Signs its checkpoints.
    #[must_use]
    pub fn signer(&self) -> &CheckpointSigner {
        &self.signer
    }

    /// The entry at an index.
    pub async fn entry(&self, index: u64) -> Result<Option<Entry>, StoreError> {
        entries::at(self.store.reads(), index).await
    }

    /// The bytes of entries `from..to`. The caller bounds how many.
    pub async fn range(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        entries::range(self.store.reads(), from, to).await
    }

    /// The entry with this digest, as records name their parents.
    pub async fn entry_by_digest(&self, digest: &Sha256Digest) -> Result<Option<Entry>, StoreError> {
        entries::by_digest(self.store.reads(), digest).await
    }

    /// Entries listed under a subject, oldest first.
    pub async fn entries_about(&self, subject: &str) -> Result<Vec<Entry>, StoreError> {
        entries::about(self.store.reads(), subject).await
    }

    /// At most `count` entries listed under a subject, newest first.
    pub async fn newest_about(&self, subject: &str, count: u32) -> Result<Vec<Entry>, StoreError> {
        entries::newest_about(self.store.reads(), subject, count).await
    }

    /// Every subject that an entry is listed under.
    pub async fn subjects_of(&self, index: u64) -> Result<Vec<String>, StoreError> {
        entries::subjects(self.store.reads(), index).await
    }

    /// Wakes when a new checkpoint is published.
    pub async fn grown(&mut self) -> Result<(), StoreError> {
        self.published.changed().await.map_err(|_| StoreError::Stopped)
    }
}

/// Index of the first entry of the bundle that holds an index.
fn bundle_start(index: u64) -> u64 {
    index >> tile::TILE_HEIGHT << tile::TILE_HEIGHT
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Published({} entries)", self.head.size)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn corrupt(denial: AuditDenial) -> StoreError {
    StoreError::Corrupt { what: denial.to_string() }
}
