//! Opening the log. A start after a clean stop, a crash at any point, and a
//! restored backup all take this path: hash every entry again, compare with the
//! stored head and with the newest checkpoint that was published, finish what a
//! crash left undone, refuse what has gone back.

use std::path::PathBuf;
use std::sync::Arc;

use audit::tile::{self, TILE_WIDTH, TileId, TileKind};
use audit::tlog::{CompactRange, leaf_hash};
use sqlx::{AnyConnection, AnyPool};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::publisher::Publisher;
use super::shelf::{Bundles, Shelf, publish_files};
use super::sign::{CheckpointSigner, SignedHead};
use super::tiles::TileFolder;
use super::{Fresh, Log, Published, Tree, corrupt, entries};
use crate::store::{
    Database, Health, MIGRATIONS, Store, StoreError, StoreSettings, Writer, WriterLease, migrate, read_head,
    read_settings, unix_now,
};

/// What opening a store and its log needs.
#[derive(Debug)]
pub struct OpenOptions {
    /// Where the tables are.
    pub database: Database,
    /// The state folder's own name, which the store remembers.
    pub instance: String,
    /// A fresh random name for this process.
    pub holder: String,
    /// Where tiles and checkpoint are published.
    pub tiles: PathBuf,
    /// The log key.
    pub signer: CheckpointSigner,
}

/// An open store with its log.
#[derive(Debug)]
pub struct Opened {
    /// The tables.
    pub store: Store,
    /// The log.
    pub log: Log,
    /// What the store was made for.
    pub settings: StoreSettings,
    /// The two tasks behind them.
    pub tasks: Tasks,
}

/// The writer and the publisher.
#[derive(Debug)]
pub struct Tasks {
    writer: JoinHandle<()>,
    publisher: JoinHandle<()>,
}

impl Tasks {
    /// Waits until everything accepted is committed, published and answered,
    /// and the writer lease is let go. They end when the last handle on store
    /// and log is dropped, or when the lease is lost.
    pub async fn ended(self) {
        // A task that panicked has ended too; its callers were told "stopped".
        drop(self.writer.await);
        drop(self.publisher.await);
    }
}

impl Opened {
    /// Drops the handles and waits for the tasks to end.
    pub async fn close(self) {
        let Self { store, log, settings: _, tasks } = self;
        drop((store, log));
        tasks.ended().await;
    }
}

/// Opens store and log and starts their two tasks. The caller holds the state
/// folder's lock.
pub async fn open(options: OpenOptions) -> Result<Opened, StoreError> {
    let OpenOptions { database, instance, holder, tiles, signer } = options;
    let checkpoints = signer.clone();
    let folder = TileFolder::at(&tiles);
    let mut connection = database.connect(false).await?;
    migrate(&mut connection, MIGRATIONS).await?;
    let settings = read_settings(&mut connection).await?;
    let lease = WriterLease::wanted(&instance, holder);
    lease.take(&mut connection, unix_now()).await?;
    let reads = database.reads()?;
    let recovered = recover(&mut connection, &reads, &folder, &signer).await?;

    let edge = recovered.edge;
    let (jobs, waiting) = mpsc::channel(JOB_QUEUE);
    let (groups, committed) = mpsc::channel(GROUP_QUEUE);
    let (health, health_seen) = watch::channel(Health::Serving);
    let (published, published_seen) = watch::channel(recovered.published);
    let shelf = Shelf::new(folder, reads.clone(), edge.size(), recovered.open_bundle);
    let publisher = Publisher { signer, reads: reads.clone(), published, shelf, health: health.clone() };
    let writer = Writer::new(database, connection, lease, edge, groups, health);
    let tasks = Tasks { writer: tokio::spawn(writer.run(waiting)), publisher: tokio::spawn(publisher.run(committed)) };
    let store = Store::new(reads, jobs, health_seen);
    let log = Log::new(store.clone(), published_seen, checkpoints);
    Ok(Opened { store, log, settings, tasks })
}

struct Recovered {
    edge: CompactRange,
    published: Published,
    open_bundle: Vec<Arc<Vec<u8>>>,
}

async fn recover(
    connection: &mut AnyConnection,
    reads: &AnyPool,
    folder: &TileFolder,
    signer: &CheckpointSigner,
) -> Result<Recovered, StoreError> {
    let (size, root) = read_head(connection).await?;
    let newest = newest_published(folder, signer, size)?;
    let mut replay = Replay::run(reads, folder, size, newest.as_ref(), Files::Compare).await?;
    if replay.tree.root() != root {
        return Err(StoreError::Corrupt { what: format!("the {size} log entries do not hash to the stored root") });
    }
    // Only entries that hash to what was signed may replace a published file.
    if replay.stale > 0 {
        tracing::warn!(files = replay.stale, "published tiles missing or different: derived again");
        replay = Replay::run(reads, folder, size, newest.as_ref(), Files::Derive).await?;
    }
    let head = match newest {
        Some(head) if head.size == size => head,
        // A crash came between commit and signature, or before the first one.
        _ => publish_now(folder, signer, &replay)?,
    };
    replay.tree.forget_old_tiles();
    let Replay { tree, edge, open, .. } = replay;
    Ok(Recovered {
        edge,
        published: Published { tree, head, folder: folder.clone(), fresh: Fresh::default() },
        open_bundle: open,
    })
}

/// The newest checkpoint on disk. The store may be ahead of it, by what a crash
/// kept from being published; it may never be behind (P9, P14).
fn newest_published(
    folder: &TileFolder,
    signer: &CheckpointSigner,
    size: u64,
) -> Result<Option<SignedHead>, StoreError> {
    let Some(note) = folder.read_checkpoint()? else {
        // Nothing was answered before the first checkpoint: `init` publishes
        // one, so only a log without entries may lack it.
        return match size {
            0 => Ok(None),
            _ => Err(StoreError::Corrupt {
                what: format!("the log has {size} entries, but its published checkpoint is missing"),
            }),
        };
    };
    let head = signer.read(&note)?;
    if head.size > size {
        return Err(StoreError::RolledBack { what: "log size".to_owned(), found: size, published: head.size });
    }
    Ok(Some(head))
}

fn publish_now(folder: &TileFolder, signer: &CheckpointSigner, replay: &Replay) -> Result<SignedHead, StoreError> {
    let head = signer.sign(&replay.tree)?;
    let open = u64::try_from(replay.open.len()).unwrap_or(0);
    let first = replay.tree.size().saturating_sub(open);
    // Whole bundles and tiles were put in place by the replay.
    let bundles = Bundles { first, entries: replay.open.clone() };
    publish_files(folder, first, &replay.tree, &bundles, &head.note)?;
    Ok(head)
}

/// What a replay does with the published files it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    Compare,
    Derive,
}

/// The log, hashed again from its entries.
struct Replay {
    tree: Tree,
    edge: CompactRange,
    /// Entries of the bundle that is not whole yet.
    open: Vec<Arc<Vec<u8>>>,
    /// Files that were not what the entries say.
    stale: u64,
}

impl Replay {
    async fn run(
        reads: &AnyPool,
        folder: &TileFolder,
        size: u64,
        newest: Option<&SignedHead>,
        files: Files,
    ) -> Result<Self, StoreError> {
        let mut replay = Self { tree: Tree::empty(), edge: CompactRange::empty(), open: Vec::new(), stale: 0 };
        while replay.tree.size() < size {
            let from = replay.tree.size();
            let to = from.saturating_add(u64::from(TILE_WIDTH)).min(size);
            let read = entries::range(reads, from, to).await?;
            for entry in &read {
                replay.tree.push(entry).map_err(corrupt)?;
                replay.edge.append(leaf_hash(entry)).map_err(corrupt)?;
            }
            replay.pass_files(folder, from, &read, to == size, files)?;
            if let Some(head) = newest {
                replay.compare(head)?;
            }
            replay.tree.forget_old_tiles();
            let whole = read.len() == usize::from(TILE_WIDTH);
            replay.open = if whole { Vec::new() } else { read.into_iter().map(Arc::new).collect() };
        }
        Ok(replay)
    }

    fn pass_files(
        &mut self,
        folder: &TileFolder,
        from: u64,
        read: &[Vec<u8>],
        last: bool,
        files: Files,
    ) -> Result<(), StoreError> {
        for id in TileId::changed(from, self.tree.size()) {
            if id.width < TILE_WIDTH && !last {
                // Partial for now; a later bundle completes it.
                continue;
            }
            let bytes = match id.kind {
                TileKind::Entries => tile::entry_bundle(read.iter().map(Vec::as_slice)),
                TileKind::Hashes { .. } => tile::hash_tile(&id, &self.tree),
            }
            .map_err(corrupt)?;
            if folder.read(&id)?.as_deref() != Some(bytes.as_slice()) {
                self.stale = self.stale.saturating_add(1);
                if files == Files::Derive {
                    folder.write(&id, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// When the replay passes the size of the published checkpoint, its root
    /// must be the one that was published.
    fn compare(&self, head: &SignedHead) -> Result<(), StoreError> {
        let size = self.tree.size();
        if head.size > size || size.saturating_sub(head.size) >= u64::from(TILE_WIDTH) {
            return Ok(());
        }
        let agrees = if head.size == size {
            self.tree.root() == head.root
        } else {
            CompactRange::read(head.size, &self.tree).map_err(corrupt)?.root() == head.root
        };
        if agrees {
            Ok(())
        } else {
            Err(StoreError::Corrupt {
                what: format!("the log's first {} entries are not the ones its checkpoint was signed over", head.size),
            })
        }
    }
}

/// Pieces of work that may wait for the writer before callers wait to queue.
const JOB_QUEUE: usize = 1024;
/// Commits that may wait for publication before the writer waits.
const GROUP_QUEUE: usize = 4;
