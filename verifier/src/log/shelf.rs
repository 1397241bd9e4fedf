//! The published files, written behind the signed head.
//!
//! Whoever was answered holds a receipt under a signed head; tiles and
//! checkpoint follow within [`PACE`], many heads in one publication when many
//! are signed. When they cannot be written, or fall further behind than
//! [`LAG_CAP`] or [`HELD_CAP`], nothing more is answered until they are.

use std::future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use audit::tile::{self, TILE_WIDTH, TileId, TileKind};
use sqlx::AnyPool;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::tiles::TileFolder;
use super::{Tree, bundle_start, corrupt, entries};
use crate::store::StoreError;

/// The folder, what is in it, and what is to be.
pub(crate) struct Shelf {
    folder: TileFolder,
    reads: AnyPool,
    /// Size of the tree that the files lead to.
    on_disk: u64,
    /// Entries up to the newest signed head, at least from the bundle on that is open on disk.
    held: Bundles,
    /// The newest signed head, until a publication of it begins.
    waiting: Option<Head>,
    under_way: Option<JoinHandle<(Head, Result<(), StoreError>)>>,
    /// When the last publication began.
    begun: Option<Instant>,
    /// Why it failed.
    failing: Option<StoreError>,
}

struct Head {
    tree: Tree,
    note: String,
    /// When the first head was signed that waits with it.
    since: Instant,
}

impl Shelf {
    /// Files that lead to a tree of `size` entries; the last ones, `open`, are in no whole bundle yet.
    pub(crate) fn new(folder: TileFolder, reads: AnyPool, size: u64, open: Vec<Arc<Vec<u8>>>) -> Self {
        let held = Bundles { first: bundle_start(size), entries: open };
        Self { folder, reads, on_disk: size, held, waiting: None, under_way: None, begun: None, failing: None }
    }

    /// Where the files are.
    pub(crate) const fn folder(&self) -> &TileFolder {
        &self.folder
    }

    /// Takes a signed head and the entries that it added, to be published.
    pub(crate) fn put(&mut self, added: &[Arc<Vec<u8>>], tree: Tree, note: String) {
        self.held.entries.extend_from_slice(added);
        let since = self.waiting.as_ref().map_or_else(Instant::now, |head| head.since);
        self.waiting = Some(Head { tree, note, since });
    }

    /// Whether anyone may be answered: publications succeed and are not far behind. Waits while they are.
    pub(crate) async fn keeps_up(&mut self) -> Result<(), StoreError> {
        while self.is_far_behind() && self.failing.is_none() {
            self.turn(Duration::ZERO).await;
        }
        self.failing.clone().map_or(Ok(()), Err)
    }

    /// The next thing to do for the files; never ends when there is nothing. May be dropped and called again.
    pub(crate) async fn go_on(&mut self) {
        self.turn(PACE).await;
    }

    /// Whether the last publication failed.
    pub(crate) const fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// Publishes whatever waits.
    pub(crate) async fn finish(&mut self) -> Result<(), StoreError> {
        self.failing = None;
        while self.under_way.is_some() || self.waiting.is_some() {
            self.turn(Duration::ZERO).await;
            if let Some(fault) = &self.failing {
                return Err(fault.clone());
            }
        }
        Ok(())
    }

    fn is_far_behind(&self) -> bool {
        let old = self.waiting.as_ref().is_some_and(|head| head.since.elapsed() > LAG_CAP);
        old || self.held.entries.len() > HELD_CAP
    }

    async fn turn(&mut self, pace: Duration) {
        if let Some(under_way) = &mut self.under_way {
            let ended = under_way.await;
            self.under_way = None;
            match ended {
                Ok((head, Ok(()))) => self.published(head.tree.size()),
                Ok((head, Err(fault))) => {
                    self.waiting.get_or_insert(head);
                    self.failed(fault);
                }
                Err(_) => self.failed(StoreError::Stopped),
            }
        } else if self.waiting.is_some() {
            let pace = match self.held.entries.len() {
                _ if self.failing.is_some() => RETRY,
                // Begun now it runs beside what is answered; at the cap all would wait for it.
                much if much > HELD_CAP / 3 => Duration::ZERO,
                _ => pace,
            };
            if let Some(next) = self.begun.and_then(|begun| begun.checked_add(pace)) {
                sleep_until(next).await;
            }
            if let Err(fault) = self.begin().await {
                self.failed(fault);
            }
        } else {
            future::pending().await
        }
    }

    fn published(&mut self, size: u64) {
        self.on_disk = size;
        self.held.forget_before(bundle_start(size));
        self.failing = None;
    }

    fn failed(&mut self, fault: StoreError) {
        tracing::error!(code = fault.code(), %fault, "publication failed: nothing is answered until one succeeds");
        if self.held.entries.len() > HELD_CAP {
            // They are in the table.
            self.held.forget_before(self.held.end());
        }
        self.failing = Some(fault);
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        self.begun = Some(Instant::now());
        let Some(target) = self.waiting.as_ref().map(|head| head.tree.size()) else { return Ok(()) };
        let first = bundle_start(self.on_disk);
        if self.held.first > first || self.held.end() < target {
            let read = entries::range(&self.reads, first, target).await?;
            self.held = Bundles { first, entries: read.into_iter().map(Arc::new).collect() };
        }
        let Some(head) = self.waiting.take() else { return Ok(()) };
        let (folder, from, bundles) = (self.folder.clone(), self.on_disk, self.held.clone());
        let write = move || {
            // Whatever becomes of it, the head comes back, to be published at the next attempt.
            let written =
                catch_unwind(AssertUnwindSafe(|| publish_files(&folder, from, &head.tree, &bundles, &head.note)));
            (head, written.unwrap_or(Err(StoreError::Stopped)))
        };
        self.under_way = Some(tokio::task::spawn_blocking(write));
        Ok(())
    }
}

/// Entries from index `first` on, which starts a bundle. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Bundles {
    pub(crate) first: u64,
    pub(crate) entries: Vec<Arc<Vec<u8>>>,
}

impl Bundles {
    fn end(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.entries.len()).unwrap_or(u64::MAX))
    }

    fn forget_before(&mut self, first: u64) {
        let before = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries.drain(..before.min(self.entries.len()));
        self.first = self.first.max(first);
    }

    fn encode(&self, id: &TileId) -> Result<Vec<u8>, StoreError> {
        let skipped = (id.index.saturating_mul(u64::from(TILE_WIDTH))).checked_sub(self.first);
        let part = skipped
            .and_then(|skipped| usize::try_from(skipped).ok())
            .and_then(|skipped| self.entries.get(skipped..))
            .and_then(|rest| rest.get(..usize::from(id.width)))
            .ok_or_else(|| StoreError::Corrupt { what: format!("no entries for {}", id.path()) })?;
        tile::entry_bundle(part.iter().map(|entry| entry.as_slice())).map_err(corrupt)
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

/// Shortest time between the beginnings of two publications, unless a third of [`HELD_CAP`] waits.
const PACE: Duration = Duration::from_millis(100);
/// Time between two attempts while publications fail.
const RETRY: Duration = Duration::from_millis(500);
/// Longest that a signed head waits for its publication to begin while others are answered.
const LAG_CAP: Duration = Duration::from_secs(1);
/// Most entries that wait in memory. The tree keeps that many leaves too: proofs read older tiles from their files.
const HELD_CAP: usize = 3072;
