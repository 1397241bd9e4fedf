//! `log audit`: every entry hashed again, every published file compared with
//! what the entries say. Reads only; works beside a running verifier.

use std::path::Path;

use audit::fsck::LogAudit;
use audit::tile::{self, TILE_WIDTH, TileId, TileKind};

use super::sign::CheckpointSigner;
use super::tiles::TileFolder;
use super::{Tree, bundle_start, corrupt, entries};
use crate::store::{Database, MIGRATIONS, StoreError, read_head, schema_version};

/// What the audit saw.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditReport {
    /// Entries in the table.
    pub entries: u64,
    /// Root they hash to.
    pub root: String,
    /// Size of the newest published checkpoint.
    pub checkpoint_size: u64,
    /// Tiles and bundles compared.
    pub files: u64,
    /// What is wrong, in words; empty when the log is clean.
    pub findings: Vec<String>,
}

impl AuditReport {
    /// Whether everything agreed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Audits the log in `tiles` against the tables in `database`. With `records`,
/// each entry is also read as a lineage record: signature, parents, its place in
/// its node's chain. `progress` hears how many of how many entries are done.
pub async fn audit_whole_log(
    database: &Database,
    tiles: &Path,
    signer: &CheckpointSigner,
    records: Option<LogAudit>,
    progress: impl Fn(u64, u64),
) -> Result<AuditReport, StoreError> {
    let folder = TileFolder::at(tiles);
    let mut connection = database.connect(false).await?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match schema_version(&mut connection).await? {
        None => return Err(StoreError::Uninitialised),
        Some(found) if found > known => return Err(StoreError::SchemaNewer { found, known }),
        Some(_) => {}
    }
    // The checkpoint first: a running verifier only ever adds to the table.
    let note = folder.read_checkpoint()?;
    let (size, root) = read_head(&mut connection).await?;
    let reads = database.reads()?;
    let mut audit = Audit { folder, tree: Tree::empty(), records, files: 0, findings: Vec::new() };
    let checkpoint = match note.map(|note| signer.read(&note)) {
        Some(Ok(head)) => Some(head),
        Some(Err(fault)) => audit.find(format!("checkpoint: {fault}")),
        None => audit.find("checkpoint: missing".to_owned()),
    };
    let published = checkpoint.as_ref().map_or(0, |head| head.size);
    while audit.tree.size() < size {
        let from = audit.tree.size();
        let mut to = from.saturating_add(u64::from(TILE_WIDTH)).min(size);
        // Files are compared at the size they were published at.
        if from < published {
            to = to.min(published);
        }
        let to = to.min(bundle_start(from).saturating_add(u64::from(TILE_WIDTH)));
        match entries::range(&reads, from, to).await {
            Ok(read) if to <= published => audit.take(&read, to == published)?,
            Ok(read) => audit.hash(&read)?,
            Err(fault @ StoreError::Corrupt { .. }) => {
                audit.findings.push(fault.to_string());
                break;
            }
            Err(fault) => return Err(fault),
        }
        if let Some(head) = checkpoint.as_ref().filter(|head| head.size == to)
            && head.root != audit.tree.root()
        {
            audit.findings.push(format!("the first {to} entries do not hash to the checkpoint's root"));
        }
        audit.tree.forget_old_tiles();
        progress(to, size);
    }
    if audit.findings.is_empty() && audit.tree.root() != root {
        audit.findings.push("the entries do not hash to the stored root".to_owned());
    }
    if published > size {
        audit.findings.push(format!("the checkpoint speaks of {published} entries, the table has {size}"));
    }
    Ok(audit.report(published))
}

struct Audit {
    folder: TileFolder,
    tree: Tree,
    records: Option<LogAudit>,
    files: u64,
    findings: Vec<String>,
}

impl Audit {
    fn find<T>(&mut self, finding: String) -> Option<T> {
        self.findings.push(finding);
        None
    }

    fn hash(&mut self, read: &[Vec<u8>]) -> Result<(), StoreError> {
        for entry in read {
            self.tree.push(entry).map_err(corrupt)?;
            let broken = self.records.as_mut().and_then(|records| records.entry(entry).err());
            if let Some(failure) = broken {
                // What follows a broken record cannot be judged by it.
                self.records = None;
                self.findings.push(failure.to_string());
            }
        }
        Ok(())
    }

    /// Hashes entries that are published, and compares the files they are in.
    fn take(&mut self, read: &[Vec<u8>], last: bool) -> Result<(), StoreError> {
        let from = self.tree.size();
        self.hash(read)?;
        for id in TileId::changed(from, self.tree.size()) {
            if id.width < TILE_WIDTH && !last {
                continue;
            }
            let bytes = match id.kind {
                TileKind::Entries => tile::entry_bundle(read.iter().map(Vec::as_slice)),
                TileKind::Hashes { .. } => tile::hash_tile(&id, &self.tree),
            }
            .map_err(corrupt)?;
            self.files = self.files.saturating_add(1);
            let agrees = match self.folder.read(&id)? {
                Some(found) => Some(found == bytes),
                // The log went on after its checkpoint was read: the full tile took the place of its partial forms. It was
                // there before they went, and begins with what they held.
                None if id.width < TILE_WIDTH => {
                    self.folder.read(&TileId { width: TILE_WIDTH, ..id })?.map(|full| full.starts_with(&bytes))
                }
                None => None,
            };
            match agrees {
                Some(true) => {}
                Some(false) => self.findings.push(format!("{} differs from the entries", id.path())),
                None => self.findings.push(format!("{} is missing", id.path())),
            }
        }
        Ok(())
    }

    fn report(self, checkpoint_size: u64) -> AuditReport {
        AuditReport {
            entries: self.tree.size(),
            root: self.tree.root().to_string(),
            checkpoint_size,
            files: self.files,
            findings: self.findings,
        }
    }
}
