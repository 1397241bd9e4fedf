//! Recheck of a whole log, entry by entry, against its checkpoint and its published tiles.

use std::collections::{BTreeMap, HashMap};

use evidence::{
    cose::KeySet,
    digest::Sha256Digest,
    names::{DomainName, NodeId},
};

use crate::{
    checkpoint::VerifiedCheckpoint,
    denial::AuditDenial,
    lineage::Chain,
    record::{RecordKind, VerifiedRecord},
    tile::{self, TILE_HEIGHT, TileId, TileKind},
    tlog::{CompactRange, HashReader, NodeId as TreeNode, TreeHash, leaf_hash},
};

/// An audit under way: entries are handed in by ascending index, then [`LogAudit::finish`].
pub struct LogAudit {
    domain: DomainName,
    issuer_keys: KeySet,
    tree: TreeAudit,
    index_of: HashMap<Sha256Digest, u64>,
    chains: HashMap<NodeId, Chain>,
    kinds: BTreeMap<RecordKind, u64>,
}

/// What was found of a sound log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// Entries.
    pub size: u64,
    /// Root hash over them.
    pub root: TreeHash,
    /// Records by kind.
    pub kinds: BTreeMap<RecordKind, u64>,
    /// Nodes that have a lineage.
    pub nodes: usize,
    /// Tiles and entry bundles compared.
    pub tiles: usize,
}

/// Which entry or tile failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index}: {denial}")]
pub struct EntryFailure {
    /// Its index.
    pub index: u64,
    /// Why.
    pub denial: AuditDenial,
}

/// Nodes at the levels that tiles hold: every eighth.
#[derive(Default)]
struct TileNodes(Vec<Vec<TreeHash>>);

impl TileNodes {
    fn keep(&mut self, id: TreeNode, hash: TreeHash) {
        if !id.level.is_multiple_of(TILE_HEIGHT) {
            return;
        }
        let level = usize::from(id.level / TILE_HEIGHT);
        if self.0.len() <= level {
            self.0.resize_with(level.saturating_add(1), Vec::new);
        }
        if let Some(nodes) = self.0.get_mut(level) {
            nodes.push(hash);
        }
    }
}

impl HashReader for TileNodes {
    fn node(&self, id: TreeNode) -> Option<TreeHash> {
        let level = self.0.get(usize::from(id.level / TILE_HEIGHT)).filter(|_| id.level.is_multiple_of(TILE_HEIGHT))?;
        level.get(usize::try_from(id.index).ok()?).copied()
    }
}

impl LogAudit {
    /// An audit of this domain's log. `issuer_keys` are all that ever signed for it.
    #[must_use]
    pub fn new(domain: DomainName, issuer_keys: KeySet) -> Self {
        Self {
            domain,
            issuer_keys,
            tree: TreeAudit::default(),
            index_of: HashMap::new(),
            chains: HashMap::new(),
            kinds: BTreeMap::new(),
        }
    }

    /// Takes the next entry: its signature, its form, its parents, its place in its node's chain.
    ///
    /// # Errors
    /// [`EntryFailure`].
    pub fn entry(&mut self, entry: &[u8]) -> Result<(), EntryFailure> {
        let index = self.tree.size();
        self.take(index, entry).map_err(|denial| EntryFailure { index, denial })
    }

    fn take(&mut self, index: u64, entry: &[u8]) -> Result<(), AuditDenial> {
        let record = VerifiedRecord::verify(entry, &self.domain, &self.issuer_keys)?;
        let said = record.record();
        if let Some(parent) = said.parents.iter().find(|parent| !self.index_of.contains_key(*parent)) {
            return Err(AuditDenial::ParentMissing { parent: *parent });
        }
        if let Some(node) = said.node.clone().filter(|_| Chain::holds(said)) {
            self.chains.entry(node).or_default().extend(&record)?;
        }
        let count = self.kinds.entry(said.kind()).or_default();
        *count = count.saturating_add(1);
        self.index_of.insert(record.digest(), index);
        self.tree.leaf(leaf_hash(entry))
    }

    /// Entries taken so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Root over the entries taken so far: compare it with an older checkpoint of this size on the way.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        self.tree.root()
    }

    /// Compares with the checkpoint, and every published tile with the entries, as [`TreeAudit::finish`] does.
    ///
    /// # Errors
    /// [`AuditDenial`] for the first difference.
    pub fn finish(
        self,
        checkpoint: &VerifiedCheckpoint,
        published: impl FnMut(&TileId) -> Option<Vec<u8>>,
    ) -> Result<LogReport, AuditDenial> {
        let (size, root) = (self.tree.size(), self.tree.root());
        let tiles = self.tree.finish(checkpoint, published)?;
        Ok(LogReport { size, root, kinds: self.kinds, nodes: self.chains.len(), tiles })
    }
}

/// The tree alone, of whatever log: leaves are handed in by ascending index, then [`TreeAudit::finish`].
/// Holds about 32 bytes a leaf.
pub struct TreeAudit {
    range: CompactRange,
    tiles: TileNodes,
}

impl Default for TreeAudit {
    fn default() -> Self {
        Self { range: CompactRange::empty(), tiles: TileNodes::default() }
    }
}

impl TreeAudit {
    /// Takes the next leaf.
    ///
    /// # Errors
    /// [`AuditDenial::TreeTooLarge`].
    pub fn leaf(&mut self, leaf: TreeHash) -> Result<(), AuditDenial> {
        for (id, hash) in self.range.append(leaf)? {
            self.tiles.keep(id, hash);
        }
        Ok(())
    }

    /// Leaves taken so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.range.size()
    }

    /// Root over the leaves taken so far.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        self.range.root()
    }

    /// Compares with the checkpoint, and every published tile with the leaves; how many tiles those were. `published` gives
    /// a tile's bytes by its name, none when it is absent; entry bundles are compared by the leaf hashes of what they hold.
    ///
    /// # Errors
    /// [`AuditDenial`] for the first difference.
    pub fn finish(
        &self,
        checkpoint: &VerifiedCheckpoint,
        mut published: impl FnMut(&TileId) -> Option<Vec<u8>>,
    ) -> Result<usize, AuditDenial> {
        let head = checkpoint.checkpoint();
        let (size, root) = (self.size(), self.root());
        if size != head.size {
            return Err(AuditDenial::SizeMismatch { got: size, expected: head.size });
        }
        if root != head.root {
            return Err(AuditDenial::RootMismatch { size, got: root, expected: head.root });
        }
        let ids = TileId::changed(0, size);
        for id in &ids {
            let same = published(id).is_some_and(|bytes| self.is_tile(id, &bytes));
            if !same {
                return Err(AuditDenial::TileMismatch { path: id.path() });
            }
        }
        Ok(ids.len())
    }

    fn is_tile(&self, id: &TileId, bytes: &[u8]) -> bool {
        match id.kind {
            TileKind::Hashes { .. } => tile::hash_tile(id, &self.tiles).is_ok_and(|expected| expected == bytes),
            TileKind::Entries => {
                let leaves = TileId { kind: TileKind::Hashes { level: 0 }, ..*id };
                let held = tile::read_entry_bundle(id.width, bytes).map(|entries| tile::leaves_of_bundle(&entries));
                let expected: Option<Vec<_>> = leaves.nodes().into_iter().map(|node| self.tiles.node(node)).collect();
                held.ok() == expected
            }
        }
    }
}
