//! C2SP tlog-tiles: paths, hash tiles of height 8, entry bundles.
//!
//! A tile is named, never addressed by a caller's string: [`TileId::parse`] accepts exactly the paths that
//! [`TileId::path`] prints, so a served directory cannot be left.

use crate::denial::AuditDenial;
use crate::tlog::{HashReader, NodeId, TREE_CAP_LEAVES, TreeHash, leaf_hash, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u8 = 8;

/// Bytes of one entry at most: its length prefix is a `u16`.
pub const ENTRY_CAP_BYTES: usize = 65_535;

/// Bytes of one entry bundle at most.
pub const BUNDLE_CAP_BYTES: usize = 256 * (ENTRY_CAP_BYTES + 2);

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TileKind {
    /// Hashes of one tile level (0 = leaf hashes).
    Hashes {
        /// Tile level: each is [`TILE_HEIGHT`] tree levels.
        level: u8,
    },
    /// Log entries.
    Entries,
}

/// Names one tile or entry bundle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TileId {
    /// What it holds.
    pub kind: TileKind,
    /// Position in its level.
    pub index: u64,
    /// 1 to 255 for a partial tile, [`TILE_WIDTH`] for a full one.
    pub width: u16,
}

impl TileId {
    /// Path below the log's prefix: `tile/0/x001/234.p/17`.
    pub fn path(&self) -> String {
        let mut path = match self.kind {
            TileKind::Hashes { level } => format!("tile/{level}/"),
            TileKind::Entries => "tile/entries/".to_owned(),
        };
        let digits = format!("{:03}", self.index);
        let lead = digits.len() % 3;
        let padded = if lead == 0 { digits } else { format!("{}{digits}", "0".repeat(3_usize.saturating_sub(lead))) };
        let groups = padded.len() / 3;
        for (at, digit) in padded.chars().enumerate() {
            if at % 3 == 0 {
                if at > 0 {
                    path.push('/');
                }
                if at / 3 < groups.saturating_sub(1) {
                    path.push('x');
                }
            }
            path.push(digit);
        }
        if self.width < TILE_WIDTH {
            path.push_str(&format!(".p/{}", self.width));
        }
        path
    }

    /// Reads a path; only the canonical spelling is accepted.
    pub fn parse(path: &str) -> Result<Self, AuditDenial> {
        Self::read(path).filter(|id| id.path() == path).ok_or(AuditDenial::TilePathMalformed)
    }

    fn read(path: &str) -> Option<Self> {
        if path.len() > PATH_CAP_BYTES {
            return None;
        }
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes { level: level.parse().ok().filter(|level| *level < 64)? },
        };
        let (number, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((number, width)) => (number, width.parse().ok().filter(|w| (1..TILE_WIDTH).contains(w))?),
        };
        let digits: String = number.chars().filter(|c| !matches!(c, 'x' | '/')).collect();
        let index = digits.parse().ok().filter(|index| *index < TREE_CAP_LEAVES)?;
        Some(Self { kind, index, width })
    }

    /// Every tile and bundle that exists, changed or grew when a log goes from `old` to `new` leaves.
    pub fn changed(old: u64, new: u64) -> Vec<Self> {
        let mut ids = Vec::new();
        let mut push = |kind, old: u64, new: u64| {
            if new == old {
                return;
            }
            for index in (old >> TILE_HEIGHT)..=(new.saturating_sub(1) >> TILE_HEIGHT) {
                let width = new.saturating_sub(index << TILE_HEIGHT).min(u64::from(TILE_WIDTH));
                ids.push(Self { kind, index, width: u16::try_from(width).unwrap_or(TILE_WIDTH) });
            }
        };
        push(TileKind::Entries, old, new);
        let (mut level, mut old, mut new) = (0_u8, old, new);
        while new > 0 {
            push(TileKind::Hashes { level }, old, new);
            old >>= TILE_HEIGHT;
            new >>= TILE_HEIGHT;
            level = level.saturating_add(1);
        }
        ids
    }

    /// The nodes whose hashes, in order, are this tile's bytes. Empty for an entry bundle.
    pub fn nodes(&self) -> Vec<NodeId> {
        let TileKind::Hashes { level } = self.kind else { return Vec::new() };
        let level = level.saturating_mul(TILE_HEIGHT);
        let first = self.index << TILE_HEIGHT;
        (0..u64::from(self.width)).map(|at| NodeId { level, index: first.saturating_add(at) }).collect()
    }

    /// The tile of the log with `size` leaves from which the node can be computed.
    pub fn holding(node: NodeId, size: u64) -> Result<Self, AuditDenial> {
        let missing = AuditDenial::NodeMissing { id: node };
        let level = node.level / TILE_HEIGHT;
        let inner = node.level % TILE_HEIGHT;
        let Some(first) = node.index.checked_shl(u32::from(inner)).filter(|first| first >> inner == node.index) else {
            return Err(missing);
        };
        let last = first.saturating_add(1_u64 << inner);
        let present = size.checked_shr(u32::from(level.saturating_mul(TILE_HEIGHT))).unwrap_or(0);
        if last > present {
            return Err(missing);
        }
        let index = first >> TILE_HEIGHT;
        let width = present.saturating_sub(index << TILE_HEIGHT).min(u64::from(TILE_WIDTH));
        Ok(Self {
            kind: TileKind::Hashes { level },
            index,
            width: u16::try_from(width).map_err(|_| AuditDenial::TilePathMalformed)?,
        })
    }
}

/// Longest canonical path: `tile/63/` and six groups, `.p/255`.
const PATH_CAP_BYTES: usize = 64;

/// Bytes of a hash tile, from the nodes of the log.
pub fn hash_tile(id: &TileId, reader: &impl HashReader) -> Result<Vec<u8>, AuditDenial> {
    let mut bytes = Vec::with_capacity(usize::from(id.width).saturating_mul(32));
    for node in id.nodes() {
        bytes.extend_from_slice(&reader.node(node).ok_or(AuditDenial::NodeMissing { id: node })?.0);
    }
    Ok(bytes)
}

/// Reads a hash tile: exactly `width` hashes, nothing after them.
pub fn read_hash_tile(id: &TileId, bytes: &[u8]) -> Result<Vec<TreeHash>, AuditDenial> {
    let expected = usize::from(id.width).saturating_mul(32);
    if bytes.len() != expected {
        return Err(AuditDenial::TileLength { got: bytes.len(), expected });
    }
    let (hashes, _) = bytes.as_chunks::<32>();
    Ok(hashes.iter().copied().map(TreeHash).collect())
}

/// A node computed from the hashes of the tile that [`TileId::holding`] names.
pub fn node_in_tile(node: NodeId, tile: &[TreeHash]) -> Result<TreeHash, AuditDenial> {
    let inner = node.level % TILE_HEIGHT;
    let width = 1_usize << inner;
    let first = usize::try_from((node.index << inner) & 0xff).unwrap_or(usize::MAX);
    let missing = AuditDenial::NodeMissing { id: node };
    let Some(part) = tile.get(first..first.saturating_add(width)) else { return Err(missing) };
    let mut level: Vec<TreeHash> = part.to_vec();
    while level.len() > 1 {
        level = level.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    level.first().copied().ok_or(missing)
}

/// Bytes of an entry bundle: each entry behind its big-endian `u16` length.
pub fn entry_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, AuditDenial> {
    let mut bytes = Vec::new();
    for entry in entries {
        let Ok(length) = u16::try_from(entry.len()) else {
            return Err(AuditDenial::EntryTooLarge { got: entry.len(), cap: ENTRY_CAP_BYTES });
        };
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// Reads an entry bundle of exactly `width` entries, nothing after them.
pub fn read_entry_bundle(width: u16, bytes: &[u8]) -> Result<Vec<&[u8]>, AuditDenial> {
    let mut entries = Vec::with_capacity(usize::from(width.min(TILE_WIDTH)));
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((entry, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { break };
        entries.push(entry);
        rest = after;
        if entries.len() > usize::from(width) {
            break;
        }
    }
    if !rest.is_empty() || entries.len() != usize::from(width) {
        return Err(AuditDenial::BundleMalformed { got: entries.len(), expected: usize::from(width) });
    }
    Ok(entries)
}

/// Leaf hashes of the entries of a bundle.
pub fn leaves_of_bundle(entries: &[&[u8]]) -> Vec<TreeHash> {
    entries.iter().map(|entry| leaf_hash(entry)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::tlog::{CompactRange, ProofPlan};

    #[test]
    fn paths_of_the_specification() {
        let id = |level, index, width| TileId { kind: TileKind::Hashes { level }, index, width };
        assert_eq!(id(0, 1_234_067, 256).path(), "tile/0/x001/x234/067");
        assert_eq!(id(2, 0, 1).path(), "tile/2/000.p/1");
        assert_eq!(id(63, 1_000, 255).path(), "tile/63/x001/000.p/255");
        let bundle = TileId { kind: TileKind::Entries, index: 273, width: 112 };
        assert_eq!(bundle.path(), "tile/entries/273.p/112");
        for id in [id(0, 1_234_067, 256), id(2, 0, 1), id(63, 999_999, 255), bundle] {
            assert_eq!(TileId::parse(&id.path()).unwrap(), id);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for path in [
            "",
            "tile/",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/../000",
            "tile/0/x000/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/1/",
            "/tile/0/000",
            "tile/0/001/000",
            "tile/entries/+01",
            "tile/data/000",
        ] {
            assert!(matches!(TileId::parse(path), Err(AuditDenial::TilePathMalformed)), "{path}");
        }
    }

    #[test]
    fn a_tree_of_70_000_has_the_tiles_of_the_specification() {
        let ids = TileId::changed(0, 70_000);
        let count = |level, full: bool| {
            ids.iter().filter(|id| id.kind == TileKind::Hashes { level } && (id.width == 256) == full).count()
        };
        assert_eq!((count(0, true), count(0, false)), (273, 1));
        assert_eq!((count(1, true), count(1, false)), (1, 1));
        assert_eq!((count(2, true), count(2, false)), (0, 1));
        assert!(ids.contains(&TileId { kind: TileKind::Hashes { level: 0 }, index: 273, width: 112 }));
        assert!(ids.contains(&TileId { kind: TileKind::Hashes { level: 1 }, index: 1, width: 17 }));
        assert_eq!(TileId::changed(70_000, 70_000), []);
    }

    #[test]
    fn nodes_and_proofs_come_back_out_of_tiles() {
        let (mut range, mut nodes) = (CompactRange::empty(), HashMap::new());
        for i in 0..70_000_u64 {
            nodes.extend(range.append(leaf_hash(&i.to_be_bytes())).unwrap());
        }
        let tiles: HashMap<TileId, Vec<TreeHash>> = TileId::changed(0, range.size())
            .into_iter()
            .filter(|id| id.kind != TileKind::Entries)
            .map(|id| (id, read_hash_tile(&id, &hash_tile(&id, &nodes).unwrap()).unwrap()))
            .collect();
        for index in [0, 1, 255, 256, 65_535, 65_536, 69_999] {
            let plan = ProofPlan::inclusion(index, range.size()).unwrap();
            let from_tiles: HashMap<NodeId, TreeHash> = plan
                .nodes()
                .map(|id| (id, node_in_tile(id, &tiles[&TileId::holding(id, range.size()).unwrap()]).unwrap()))
                .collect();
            assert_eq!(plan.build(&from_tiles).unwrap(), plan.build(&nodes).unwrap());
        }
        let beyond = NodeId { level: 17, index: 0 };
        assert!(TileId::holding(beyond, range.size()).is_err());
    }

    #[test]
    fn bundles_hold_exactly_their_entries() {
        let entries: [&[u8]; 3] = [b"", b"one", &[7; 300]];
        let bytes = entry_bundle(entries).unwrap();
        assert_eq!(read_entry_bundle(3, &bytes).unwrap(), entries);
        assert!(read_entry_bundle(2, &bytes).is_err());
        assert!(read_entry_bundle(4, &bytes).is_err());
        assert!(read_entry_bundle(3, &bytes[..bytes.len() - 1]).is_err());
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(read_entry_bundle(3, &longer).is_err());
        let large = vec![0; ENTRY_CAP_BYTES + 1];
        assert!(matches!(entry_bundle([large.as_slice()]), Err(AuditDenial::EntryTooLarge { .. })));
    }
}
