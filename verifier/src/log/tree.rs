//! The Merkle tree as the sequencer holds it: its right edge, and the nodes of
//! the tiles around it. Older tiles are read back from the published files.
//!
//! C2SP tlog-tiles: a tile of level L and number N holds up to 256 hashes, each
//! the root of a complete subtree of 8·L levels; it also implies the seven rows
//! of nodes above them, which proofs need.

use std::collections::BTreeMap;
use std::sync::Arc;

use audit::AuditDenial;
use audit::tlog::{self, CompactRange, HashReader, NodeId, ProofPlan, TreeHash};

/// Where a tile sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TileAt {
    pub(crate) level: u8,
    pub(crate) number: u64,
}

impl TileAt {
    /// The tile that holds a node.
    pub(crate) fn of(node: NodeId) -> Self {
        let row = u32::from(node.level % TILE_HEIGHT);
        let per_tile = u32::from(TILE_HEIGHT).saturating_sub(row);
        Self { level: node.level / TILE_HEIGHT, number: node.index >> per_tile }
    }
}

/// One tile: row r holds the roots of 2^r neighbouring hashes of its bottom row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tile {
    rows: [Vec<TreeHash>; 8],
}

impl Tile {
    /// A tile from its published bottom row, re-hashing the rows above.
    pub(crate) fn of(hashes: Vec<TreeHash>) -> Self {
        let mut tile = Self { rows: Default::default() };
        let mut row = hashes;
        for slot in &mut tile.rows {
            let pairs = row.as_chunks::<2>().0;
            let above = pairs.iter().map(|[left, right]| tlog::node_hash(left, right)).collect();
            *slot = std::mem::replace(&mut row, above);
        }
        tile
    }

    /// The hashes that are published.
    #[cfg(test)]
    fn hashes(&self) -> &[TreeHash] {
        let [bottom, ..] = &self.rows;
        bottom
    }

    fn row(&self, node: NodeId) -> Option<&Vec<TreeHash>> {
        self.rows.get(usize::from(node.level % TILE_HEIGHT))
    }

    fn node(&self, node: NodeId) -> Option<TreeHash> {
        self.row(node)?.get(position(node)?).copied()
    }

    /// Nodes arrive left to right, so a row only ever grows at its end.
    fn insert(&mut self, node: NodeId, hash: TreeHash) {
        if let Some(row) = self.rows.get_mut(usize::from(node.level % TILE_HEIGHT))
            && position(node) == Some(row.len())
        {
            row.push(hash);
        }
    }
}

/// Position of a node in its row of its tile.
fn position(node: NodeId) -> Option<usize> {
    let per_tile = TILE_HEIGHT.checked_sub(node.level % TILE_HEIGHT)?;
    let mask = (1_u64 << per_tile).checked_sub(1)?;
    usize::try_from(node.index & mask).ok()
}

/// A tree of some size. Cloning shares the tiles.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    edge: CompactRange,
    tiles: BTreeMap<TileAt, Arc<Tile>>,
}

impl Tree {
    /// The tree without entries.
    pub(crate) fn empty() -> Self {
        Self { edge: CompactRange::empty(), tiles: BTreeMap::new() }
    }

    /// Number of entries.
    pub(crate) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Root hash.
    pub(crate) fn root(&self) -> TreeHash {
        self.edge.root()
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, entry: &[u8]) -> Result<(), AuditDenial> {
        for (node, hash) in self.edge.append(tlog::leaf_hash(entry))? {
            let tile = self.tiles.entry(TileAt::of(node)).or_default();
            Arc::make_mut(tile).insert(node, hash);
        }
        Ok(())
    }

    /// Drops full tiles that no recent receipt needs.
    pub(crate) fn forget_old_tiles(&mut self) {
        let size = self.size();
        self.tiles.retain(|at, _| {
            let edge = size.checked_shr(covered_levels(*at)).unwrap_or(0);
            at.number.saturating_add(RECENT_TILES) >= edge
        });
    }

    #[cfg(test)]
    fn tile(&self, at: TileAt) -> Option<&Tile> {
        self.tiles.get(&at).map(Arc::as_ref)
    }

    /// Puts back a tile read from its file, for proofs about old entries.
    pub(crate) fn remember(&mut self, at: TileAt, tile: Tile) {
        self.tiles.insert(at, Arc::new(tile));
    }

    /// The tiles a proof needs that are not in memory.
    pub(crate) fn missing(&self, plan: &ProofPlan) -> Vec<TileAt> {
        let mut missing: Vec<_> = plan.nodes().filter(|node| self.node(*node).is_none()).map(TileAt::of).collect();
        missing.dedup();
        missing
    }
}

impl HashReader for Tree {
    fn node(&self, id: NodeId) -> Option<TreeHash> {
        self.tiles.get(&TileAt::of(id))?.node(id)
    }
}

/// How many levels of the tree a whole tile spans, from the leaves to its root.
fn covered_levels(at: TileAt) -> u32 {
    u32::from(at.level).saturating_add(1).saturating_mul(u32::from(TILE_HEIGHT))
}

/// C2SP tlog-tiles: tiles are 8 levels high.
const TILE_HEIGHT: u8 = 8;
/// Full tiles kept per level behind the edge: receipts are about recent entries.
const RECENT_TILES: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(size: u64) -> Tree {
        let mut tree = Tree::empty();
        for entry in 0..size {
            tree.push(&entry.to_be_bytes()).unwrap();
        }
        tree
    }

    #[test]
    fn every_proof_over_tile_borders_builds_and_verifies() {
        let tree = grown(700);
        for (index, size) in [(0, 700), (255, 700), (256, 700), (511, 512), (699, 700), (300, 513)] {
            let proof = ProofPlan::inclusion(index, size).unwrap().build(&tree).unwrap();
            let root = grown(size).root();
            tlog::verify_inclusion(&tlog::leaf_hash(&index.to_be_bytes()), index, size, &proof, &root).unwrap();
        }
    }

    #[test]
    fn a_tile_rebuilt_from_its_bottom_row_is_the_same() {
        let tree = grown(70_000);
        for (at, tile) in &tree.tiles {
            assert_eq!(&Tile::of(tile.hashes().to_vec()), tile.as_ref(), "{at:?}");
        }
    }

    #[test]
    fn old_tiles_are_forgotten_and_named_when_a_proof_needs_them() {
        let mut tree = grown(10_000);
        let plan = ProofPlan::inclusion(3, 10_000).unwrap();
        assert_eq!(tree.missing(&plan), []);
        let kept = tree.tile(TileAt { level: 0, number: 0 }).unwrap().clone();
        tree.forget_old_tiles();
        assert_eq!(tree.missing(&plan), [TileAt { level: 0, number: 0 }]);
        tree.remember(TileAt { level: 0, number: 0 }, kept);
        assert!(plan.build(&tree).is_ok());
    }
}
