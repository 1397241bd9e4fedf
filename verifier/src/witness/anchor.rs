//! What a witness cosigned, named in its own log: at the first checkpoint of a log, and then at most every
//! [`ANCHOR_EVERY_S`].
//!
//! Our own log cannot go back unnoticed: its published checkpoint, every node and every witness remember it. A table of
//! witnessed checkpoints that was lost, or put back from a backup, is behind its anchors, and then this witness does not
//! start: a witness without memory would cosign a second history. Its domain gets a new witness key instead, which
//! nobody has a cosignature of.

use audit::checkpoint::Checkpoint;
use audit::record::{Code, LineageRecord, RecordBody};
use evidence::cbor::{self, Caps};
use evidence::digest::Sha256Digest;
use sqlx::Row as _;

use super::table;
use crate::evidence_store;
use crate::log::Log;
use crate::store::{Store, StoreError, While};

/// Longest time between a cosigned checkpoint and an anchor, while a log grows, in seconds. Not shorter: an anchor makes
/// our own log grow, whose witnesses anchor that.
pub(super) const ANCHOR_EVERY_S: u64 = 600;
/// What an anchor is listed under, before the origin.
const SUBJECT: &str = "witnessed:";

/// What the anchors of a log are listed under.
pub(super) fn subject(origin: &str) -> String {
    format!("{SUBJECT}{origin}")
}

/// What an anchor says was concluded.
pub(super) fn code() -> Result<Code, StoreError> {
    Code::new("witness.cosigned").map_err(|rule| StoreError::Corrupt { what: rule.to_owned() })
}

/// Refuses a table that is behind what our own log says of it.
pub(super) async fn refuse_rollback(store: &Store, log: &Log) -> Result<(), StoreError> {
    let doing = "reading the anchors of witnessed logs";
    let rows = sqlx::query("SELECT DISTINCT subject FROM log_subjects WHERE subject LIKE $1")
        .bind(subject("%"))
        .fetch_all(store.reads())
        .await
        .doing(doing)?;
    for row in rows {
        let subject: String = row.try_get("subject").doing(doing)?;
        if let Some(anchored) = newest(store, log, &subject).await? {
            compare(store, &anchored).await?;
        }
    }
    Ok(())
}

async fn compare(store: &Store, anchored: &Checkpoint) -> Result<(), StoreError> {
    let mut connection = store.reads().acquire().await.doing("reading a witnessed checkpoint")?;
    let held = table::held(&mut connection, &anchored.origin).await?.map(|held| held.checkpoint);
    let found = held.as_ref().map_or(0, |held| held.size);
    let other = held.is_some_and(|held| held.size == anchored.size && held.root != anchored.root);
    if found < anchored.size {
        let what = format!("witnessed size of {}", anchored.origin);
        return Err(StoreError::RolledBack { what, found, published: anchored.size });
    }
    if other {
        let what = format!("the witnessed tree of {} is not the one that was cosigned", anchored.origin);
        return Err(StoreError::Corrupt { what });
    }
    Ok(())
}

/// The checkpoint that the newest anchor names.
async fn newest(store: &Store, log: &Log, subject: &str) -> Result<Option<Checkpoint>, StoreError> {
    let Some(entry) = log.newest_about(subject, 1).await?.into_iter().next() else { return Ok(None) };
    let corrupt = || StoreError::Corrupt { what: format!("log entry {} is no anchor of {subject}", entry.index) };
    let note = match evidence_store::get(store, &named(&entry.bytes).ok_or_else(corrupt)?).await? {
        Some(note) => note,
        None => return Err(corrupt()),
    };
    Checkpoint::claimed(&note).map(Some).map_err(|_| corrupt())
}

fn named(entry: &[u8]) -> Option<Sha256Digest> {
    let payload = evidence::cose::claimed_payload(entry).ok()?;
    let record: LineageRecord = cbor::from_slice(&payload, Caps::bytes(payload.len())).ok()?;
    if let RecordBody::Federation { state, .. } = record.body { Some(state) } else { None }
}
