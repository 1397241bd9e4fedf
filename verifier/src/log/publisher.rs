//! After the commit: signs the head, publishes tiles and checkpoint, and only
//! then answers. Groups that queued up while the last one was being published
//! share one signature.

use std::sync::Arc;

use audit::AuditDenial;
use audit::tile::{self, TILE_WIDTH, TileId, TileKind};
use audit::tlog::TreeHash;
use sqlx::AnyPool;
use tokio::sync::{mpsc, watch};

use super::entries;
use super::sign::CheckpointSigner;
use super::tiles::TileFolder;
use super::{Fresh, Published, Tree, bundle_start};
use crate::store::{Job, StoreError};

/// What one commit added to the log.
#[derive(Debug)]
pub(crate) struct Publication {
    /// Size of the tree before it.
    pub(crate) from: u64,
    /// Size of the tree after it.
    pub(crate) size: u64,
    /// Root of the tree after it.
    pub(crate) root: TreeHash,
    /// The entries in between.
    pub(crate) entries: Vec<Vec<u8>>,
}

/// A commit and everyone who waits for it.
pub(crate) struct Group {
    pub(crate) jobs: Vec<Box<dyn Job>>,
    pub(crate) publication: Publication,
}

impl Group {
    /// Tells every caller of a fault.
    pub(crate) fn fail(self, fault: &StoreError) {
        for job in self.jobs {
            job.finish(Err(fault.clone()));
        }
    }
}

/// The publisher's own state; it lives in one task.
pub(crate) struct Publisher {
    pub(crate) folder: TileFolder,
    pub(crate) signer: CheckpointSigner,
    pub(crate) reads: AnyPool,
    pub(crate) published: watch::Sender<Published>,
    /// Entries since the last whole bundle, as published.
    pub(crate) open_bundle: Vec<Vec<u8>>,
}

impl Publisher {
    /// Runs until the writer is gone.
    pub(crate) async fn run(mut self, mut groups: mpsc::Receiver<Group>) {
        while let Some(first) = groups.recv().await {
            let mut waiting = vec![first];
            while let Ok(group) = groups.try_recv() {
                waiting.push(group);
            }
            match self.publish(&mut waiting).await {
                Ok(published) => {
                    for job in waiting.into_iter().flat_map(|group| group.jobs) {
                        job.finish(Ok(&published));
                    }
                }
                Err(fault) => {
                    tracing::error!(code = fault.code(), %fault, "publication failed");
                    waiting.into_iter().for_each(|group| group.fail(&fault));
                }
            }
        }
    }

    async fn publish(&mut self, groups: &mut [Group]) -> Result<Published, StoreError> {
        let current = self.published.borrow().clone();
        let Some((target, root)) = groups.last().map(|group| (group.publication.size, group.publication.root)) else {
            return Ok(current);
        };
        let size = current.tree.size();
        if target == size {
            return Ok(current);
        }
        let added = self.added(groups, size, target).await?;
        let mut tree = current.tree;
        for entry in &added {
            tree.push(entry).map_err(corrupt)?;
        }
        // The second computation of the same root: signing stops on a difference.
        if tree.size() != target || tree.root() != root {
            return Err(StoreError::Corrupt {
                what: format!("the published tree of {target} entries differs from the committed one"),
            });
        }
        let head = self.signer.sign(&tree)?;
        let added = Arc::new(added);
        let fresh = Fresh { first: size, entries: added.clone() };
        let bundles = self.bundles(size, &added);
        let (folder, shared, note) = (self.folder.clone(), tree.clone(), head.note.clone());
        let write = move || publish_files(&folder, size, &shared, &bundles, &note).map(|()| bundles);
        let bundles = tokio::task::spawn_blocking(write).await.map_err(|_| StoreError::Stopped)??;
        self.keep_open(target, bundles);
        tree.forget_old_tiles();
        let published = Published { tree, head, folder: self.folder.clone(), fresh };
        // Whoever reads the newest head needs no copy of what was added.
        self.published.send_replace(Published { fresh: Fresh::default(), ..published.clone() });
        Ok(published)
    }

    async fn added(&self, groups: &mut [Group], size: u64, target: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let first = groups.first().map_or(size, |group| group.publication.from);
        if first == size {
            let entries = groups.iter_mut().map(|group| std::mem::take(&mut group.publication.entries));
            return Ok(entries.flatten().collect());
        }
        // A publication failed before this one, or a commit's answer was lost:
        // what is missing is read back from the table.
        entries::range(&self.reads, size, target).await
    }

    /// Entries from the start of the bundle that was open at `size`.
    fn bundles(&self, size: u64, added: &[Vec<u8>]) -> Bundles {
        let first = bundle_start(size);
        let mut entries = self.open_bundle.clone();
        entries.extend_from_slice(added);
        Bundles { first, entries }
    }

    fn keep_open(&mut self, size: u64, mut bundles: Bundles) {
        let open = usize::try_from(size.saturating_sub(bundle_start(size))).unwrap_or(0);
        let closed = bundles.entries.len().saturating_sub(open);
        self.open_bundle = bundles.entries.split_off(closed);
    }
}

/// Entries from index `first` on, which starts a bundle.
pub(crate) struct Bundles {
    pub(crate) first: u64,
    pub(crate) entries: Vec<Vec<u8>>,
}

impl Bundles {
    fn encode(&self, id: &TileId) -> Result<Vec<u8>, StoreError> {
        let skipped = (id.index.saturating_mul(u64::from(TILE_WIDTH))).checked_sub(self.first);
        let part = skipped
            .and_then(|skipped| usize::try_from(skipped).ok())
            .and_then(|skipped| self.entries.get(skipped..))
            .and_then(|rest| rest.get(..usize::from(id.width)))
            .ok_or_else(|| StoreError::Corrupt { what: format!("no entries for {}", id.path()) })?;
        tile::entry_bundle(part.iter().map(Vec::as_slice)).map_err(corrupt)
    }
}

/// Tiles first, the checkpoint over them last.
pub(crate) fn publish_files(
    folder: &TileFolder,
    from: u64,
    tree: &Tree,
    bundles: &Bundles,
    note: &str,
) -> Result<(), StoreError> {
    for id in TileId::changed(from, tree.size()) {
        let bytes = match id.kind {
            TileKind::Entries => bundles.encode(&id)?,
            TileKind::Hashes { .. } => tile::hash_tile(&id, tree).map_err(corrupt)?,
        };
        folder.write(&id, &bytes)?;
    }
    folder.write_checkpoint(note)
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({} jobs)", self.jobs.len())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the argument of map_err")]
fn corrupt(denial: AuditDenial) -> StoreError {
    StoreError::Corrupt { what: denial.to_string() }
}
