//! What a lineage is drawn from: the records of every node that had a part in it, as they are logged.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use audit::record::{LineageRecord, RecordBody};
use evidence::cose;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use governance::artifact::Artifact;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::evidence_store;
use crate::governor::OrderRefusal;
use crate::log::{Entry, Log};
use crate::proof::{self, RECORDS_CAP};
use crate::store::{Store, StoreError};

/// Entries of the own log, and what is said by what they name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineageExport {
    /// The entries, by index.
    pub(crate) entries: BTreeMap<u64, ByteBuf>,
    /// Indexes of those that were asked about.
    pub(crate) starts: BTreeSet<u64>,
    /// The signed intents that they name and that are still kept.
    pub(crate) intents: Vec<ByteBuf>,
}

/// Subject under which the intents of children are listed: by the node of their parent.
pub(crate) fn children_of(node: &NodeId) -> String {
    format!("children-of:{node}")
}

/// Everything about the nodes that had a part in what `id` names: the node itself, those of its ancestors and those of its
/// descendants.
///
/// # Errors
/// [`OrderRefusal`] when nothing is named so, more than [`RECORDS_CAP`] records belong to it, or the store fails.
pub(crate) async fn of(store: &Store, log: &Log, id: &str) -> Result<LineageExport, OrderRefusal> {
    let starts = starts(store, log, id).await?;
    if starts.is_empty() {
        return Err(OrderRefusal::Unknown { what: "log subject", name: id.chars().take(128).collect() });
    }
    let mut export = LineageExport { starts: starts.iter().map(|entry| entry.index).collect(), ..Default::default() };
    let (mut taken, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    let mut waiting = starts;
    while let Some(entry) = waiting.pop() {
        if export.entries.contains_key(&entry.index) {
            continue;
        }
        if export.entries.len() >= RECORDS_CAP {
            return Err(OrderRefusal::Malformed(format!("more than {RECORDS_CAP} records belong to {id}")));
        }
        let record = proof::read(&entry)?;
        if let RecordBody::Intent { intent } = &record.body
            && let Some(cose) = evidence_store::get_signed(store, intent).await?
        {
            export.intents.push(ByteBuf::from(cose));
        }
        taken.insert(entry.digest());
        export.entries.insert(entry.index, ByteBuf::from(entry.bytes));
        waiting.extend(related(log, &record, &taken, &mut nodes).await?);
    }
    Ok(export)
}

/// What a record leads to: its parents, and the first time that its node is met everything about that.
async fn related(
    log: &Log,
    record: &LineageRecord,
    taken: &BTreeSet<Sha256Digest>,
    nodes: &mut BTreeSet<NodeId>,
) -> Result<Vec<Entry>, OrderRefusal> {
    let mut found = Vec::new();
    if let Some(node) = record.node.clone().filter(|node| nodes.insert(node.clone())) {
        found.extend(log.entries_about(node.as_str()).await?);
        found.extend(log.entries_about(&children_of(&node)).await?);
    }
    // The node's record before it came with the node.
    for parent in record.parents.iter().skip(usize::from(record.node.is_some())) {
        if !taken.contains(parent) {
            found.extend(log.entry_by_digest(parent).await?);
        }
    }
    Ok(found)
}

/// The entries that an id names; an artifact's digest names the entry that grants it.
async fn starts(store: &Store, log: &Log, id: &str) -> Result<Vec<Entry>, OrderRefusal> {
    let named = proof::starts(log, id).await?;
    let Ok(digest) = Sha256Digest::from_str(id) else { return Ok(named) };
    if !named.is_empty() {
        return Ok(named);
    }
    let kept = match evidence_store::get(store, &digest).await {
        Ok(Some(kept)) => kept,
        // What is kept under the digest of its payload is no artifact's bytes.
        Ok(None) | Err(StoreError::Corrupt { .. }) => return Ok(named),
        Err(error) => return Err(error.into()),
    };
    let payload = cose::claimed_payload(&kept).ok();
    match payload.and_then(|payload| Artifact::decode(&payload).ok()) {
        Some(artifact) => Ok(log.entry_by_digest(&artifact.into_parts().1.entry).await?.into_iter().collect()),
        None => Ok(named),
    }
}
