//! The Merkle tree of the log: hashing, growth, proofs (RFC 6962 §2.1, RFC 9162 §2.1).
//!
//! A *node* is the hash of a complete subtree: level `l`, index `n` covers the leaves `n·2^l .. (n+1)·2^l`. Nodes never
//! change once complete, so a log stores nodes and a proof is a short list of them. Nothing here reads storage: a proof
//! is planned first ([`ProofPlan::nodes`]) and built when the caller has fetched those nodes.

use evidence::digest::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::denial::AuditDenial;

/// Longest proof that a tree of 2^63 leaves can need, and so the cap for any received proof.
pub const PROOF_CAP_HASHES: usize = 64;

/// Largest tree this code speaks of. Leaves room for index arithmetic in `u64`.
pub const TREE_CAP_LEAVES: u64 = 1 << 48;

/// SHA-256 output inside the tree. Its own type so that a content digest is never taken for a tree hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash(pub [u8; 32]);

impl std::fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Display for TreeHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for TreeHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for TreeHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: [u8; 32] = serde_bytes::deserialize(deserializer)?;
        Ok(Self(bytes))
    }
}

/// Hash of an entry: SHA-256(0x00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> TreeHash {
    prefixed(&[0x00], entry, &[])
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &TreeHash, right: &TreeHash) -> TreeHash {
    prefixed(&[0x01], &left.0, &right.0)
}

/// Root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> TreeHash {
    prefixed(&[], &[], &[])
}

fn prefixed(prefix: &[u8], first: &[u8], second: &[u8]) -> TreeHash {
    TreeHash(Sha256Digest::concat(&[prefix, first, second]).0)
}

/// Names a complete subtree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId {
    /// Height: 0 is a leaf hash.
    pub level: u8,
    /// Position among the nodes of that level.
    pub index: u64,
}

/// Gives hashes of complete subtrees. `None` when the log does not hold that node.
pub trait HashReader {
    /// Hash of one complete subtree.
    fn node(&self, id: NodeId) -> Option<TreeHash>;
}

impl HashReader for std::collections::HashMap<NodeId, TreeHash> {
    fn node(&self, id: NodeId) -> Option<TreeHash> {
        self.get(&id).copied()
    }
}

impl HashReader for std::collections::BTreeMap<NodeId, TreeHash> {
    fn node(&self, id: NodeId) -> Option<TreeHash> {
        self.get(&id).copied()
    }
}

/// The right edge of a growing tree: all that is needed to append and to know the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompactRange {
    size: u64,
    /// Roots of the maximal complete subtrees, largest first: one per set bit of `size`.
    peaks: Vec<TreeHash>,
}

impl CompactRange {
    /// The tree without leaves.
    pub fn empty() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// Rebuilds the right edge of a tree of `size` leaves from stored nodes.
    pub fn read(size: u64, reader: &impl HashReader) -> Result<Self, AuditDenial> {
        bounded(size)?;
        let mut peaks = Vec::new();
        for id in complete_subtrees(0, size) {
            peaks.push(fetch(reader, id)?);
        }
        Ok(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root hash of the tree.
    pub fn root(&self) -> TreeHash {
        fold(&self.peaks).unwrap_or_else(empty_root)
    }

    /// Adds a leaf and returns every node that became complete, the leaf first.
    pub fn append(&mut self, leaf: TreeHash) -> Result<Vec<(NodeId, TreeHash)>, AuditDenial> {
        let grown = self.size.saturating_add(1);
        bounded(grown)?;
        let mut id = NodeId { level: 0, index: self.size };
        let mut hash = leaf;
        let mut complete = vec![(id, hash)];
        // Each trailing one bit of the old size is a subtree that the new leaf completes.
        while id.index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { return Err(AuditDenial::NodeMissing { id }) };
            hash = node_hash(&left, &hash);
            id = NodeId { level: id.level.saturating_add(1), index: id.index >> 1 };
            complete.push((id, hash));
        }
        self.peaks.push(hash);
        self.size = grown;
        Ok(complete)
    }
}

/// Which nodes a proof needs, and how they fold into its hashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProofPlan {
    /// One inner list per proof hash: complete subtrees, left to right, to be folded into it.
    parts: Vec<Vec<NodeId>>,
}

impl ProofPlan {
    /// Proof that leaf `index` is in the tree of `size` leaves: PATH(m, D\[n\]), RFC 9162 §2.1.3.1.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, AuditDenial> {
        bounded(size)?;
        if index >= size {
            return Err(AuditDenial::IndexBeyondTree { index, size });
        }
        let mut ranges = Vec::new();
        let (mut low, mut high) = (0_u64, size);
        while high.saturating_sub(low) > 1 {
            let middle = low.saturating_add(split_point(high.saturating_sub(low)));
            if index < middle {
                ranges.push((middle, high));
                high = middle;
            } else {
                ranges.push((low, middle));
                low = middle;
            }
        }
        ranges.reverse();
        Ok(Self::of_ranges(&ranges))
    }

    /// Proof that the tree of `old` leaves is a prefix of the tree of `new` leaves: PROOF(m, D\[n\]), RFC 9162 §2.1.4.1.
    pub fn consistency(old: u64, new: u64) -> Result<Self, AuditDenial> {
        bounded(new)?;
        if old == 0 || old > new {
            return Err(AuditDenial::SizesNotOrdered { old, new });
        }
        let mut ranges = Vec::new();
        let (mut low, mut high, mut whole) = (0_u64, new, true);
        while old != high {
            let middle = low.saturating_add(split_point(high.saturating_sub(low)));
            if old <= middle {
                ranges.push((middle, high));
                high = middle;
            } else {
                ranges.push((low, middle));
                low = middle;
                whole = false;
            }
        }
        if !whole {
            ranges.push((low, high));
        }
        ranges.reverse();
        Ok(Self::of_ranges(&ranges))
    }

    /// How many hashes the proof has.
    pub fn hashes(&self) -> usize {
        self.parts.len()
    }

    /// Every node that must be fetched to build the proof.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.parts.iter().flatten().copied()
    }

    /// The proof, once its nodes are at hand.
    pub fn build(&self, reader: &impl HashReader) -> Result<Vec<TreeHash>, AuditDenial> {
        let mut proof = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut hashes = Vec::with_capacity(part.len());
            for id in part {
                hashes.push(fetch(reader, *id)?);
            }
            proof.push(fold(&hashes).unwrap_or_else(empty_root));
        }
        Ok(proof)
    }

    fn of_ranges(ranges: &[(u64, u64)]) -> Self {
        Self { parts: ranges.iter().map(|(low, high)| complete_subtrees(*low, *high)).collect() }
    }
}

/// Checks that `leaf` is leaf `index` of the tree with this `size` and `root` (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(
    leaf: &TreeHash,
    index: u64,
    size: u64,
    proof: &[TreeHash],
    root: &TreeHash,
) -> Result<(), AuditDenial> {
    bounded(size)?;
    if index >= size {
        return Err(AuditDenial::IndexBeyondTree { index, size });
    }
    let wrong = AuditDenial::InclusionProofWrong { index, size };
    let (mut fn_, mut sn) = (index, size.saturating_sub(1));
    let mut hash = *leaf;
    for step in proof {
        if sn == 0 {
            return Err(wrong);
        }
        if fn_ & 1 == 1 || fn_ == sn {
            hash = node_hash(step, &hash);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    if sn == 0 && hash == *root { Ok(()) } else { Err(wrong) }
}

/// Checks that the tree (`old`, `old_root`) is a prefix of the tree (`new`, `new_root`) (RFC 9162 §2.1.4.2).
pub fn verify_consistency(
    old: u64,
    old_root: &TreeHash,
    new: u64,
    new_root: &TreeHash,
    proof: &[TreeHash],
) -> Result<(), AuditDenial> {
    bounded(new)?;
    if old == 0 || old > new {
        return Err(AuditDenial::SizesNotOrdered { old, new });
    }
    let wrong = AuditDenial::ConsistencyProofWrong { old, new };
    if old == new {
        return if proof.is_empty() && old_root == new_root { Ok(()) } else { Err(wrong) };
    }
    match grown(old, old_root, new, proof) {
        Some(roots) if roots == (*old_root, *new_root) => Ok(()),
        Some(_) | None => Err(wrong),
    }
}

/// The size to ask a consistency proof from in order to learn which root a larger tree has at `size`: a proof from a power of
/// two leaves its root out.
#[must_use]
pub const fn proof_base(size: u64) -> u64 {
    if size > 2 && size.is_power_of_two() { size.saturating_sub(1) } else { size }
}

/// The root at `size` that the tree (`new`, `new_root`) commits to, by a consistency proof from [`proof_base`] of it. Nothing
/// where the proof does not lead to that tree, which says nothing of it, and for the sizes 1 and 2.
#[must_use]
pub fn committed_root(size: u64, new: u64, new_root: &TreeHash, proof: &[TreeHash]) -> Option<TreeHash> {
    let base = proof_base(size);
    if bounded(new).is_err() || base.is_power_of_two() || base == 0 || size >= new {
        return None;
    }
    // From such a base every hash is in the proof, the old root among what follows from it.
    let (old, is) = grown(base, new_root, new, proof)?;
    if is != *new_root {
        return None;
    }
    if base == size {
        return Some(old);
    }
    // The proof within the complete subtree of `size` leaves comes first.
    let within = ProofPlan::consistency(base, size).ok()?.parts.len();
    grown(base, new_root, size, proof.get(..within)?).map(|(_, root)| root)
}

/// The old and the new root that a consistency proof leads to; nothing when it has another length.
fn grown(old: u64, old_root: &TreeHash, new: u64, proof: &[TreeHash]) -> Option<(TreeHash, TreeHash)> {
    // A complete old tree is itself the first node of the path.
    let mut steps = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { steps.next() };
    let first = first?;
    let (mut fn_, mut sn) = (old.saturating_sub(1), new.saturating_sub(1));
    while fn_ & 1 == 1 {
        fn_ >>= 1;
        sn >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in steps {
        if sn == 0 {
            return None;
        }
        if fn_ & 1 == 1 || fn_ == sn {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            while fn_ & 1 == 0 && fn_ != 0 {
                fn_ >>= 1;
                sn >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    (sn == 0).then_some((old_hash, new_hash))
}

/// Largest power of two smaller than `n`, for `n` ≥ 2: where RFC 6962 splits a tree of `n` leaves.
fn split_point(n: u64) -> u64 {
    1_u64 << n.saturating_sub(1).checked_ilog2().unwrap_or(0)
}

/// The maximal complete subtrees of `low..high`, left to right. `low` is aligned, as every range of a proof is.
fn complete_subtrees(low: u64, high: u64) -> Vec<NodeId> {
    let mut ids = Vec::new();
    let mut at = low;
    while at < high {
        let room = high.saturating_sub(at).checked_ilog2().unwrap_or(0);
        let level = if at == 0 { room } else { room.min(at.trailing_zeros()) };
        ids.push(NodeId { level: u8::try_from(level).unwrap_or(u8::MAX), index: at >> level });
        at = at.saturating_add(1_u64 << level);
    }
    ids
}

/// Root over maximal complete subtrees, folded from the right. `None` for no subtree.
fn fold(hashes: &[TreeHash]) -> Option<TreeHash> {
    hashes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right))
}

fn fetch(reader: &impl HashReader, id: NodeId) -> Result<TreeHash, AuditDenial> {
    reader.node(id).ok_or(AuditDenial::NodeMissing { id })
}

fn bounded(size: u64) -> Result<(), AuditDenial> {
    if size > TREE_CAP_LEAVES {
        return Err(AuditDenial::TreeTooLarge { size, cap: TREE_CAP_LEAVES });
    }
    Ok(())
}

#[cfg(test)]
#[path = "tlog_tests.rs"]
mod tests;
