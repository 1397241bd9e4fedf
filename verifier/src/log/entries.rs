//! Log entries read back from the table, each checked against its digest.

use evidence::digest::Sha256Digest;
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row};

use crate::store::{StoreError, While, signed, unsigned};

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position, counted from 0.
    pub index: u64,
    /// The logged bytes: a lineage record.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Digest of the bytes: how other records name this one as a parent.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(&self.bytes)
    }
}

/// The bytes of entries `from..to`; one missing is a corrupt store.
pub(crate) async fn range(reads: &AnyPool, from: u64, to: u64) -> Result<Vec<Vec<u8>>, StoreError> {
    let rows = sqlx::query("SELECT idx, digest, bytes FROM log_entries WHERE idx >= $1 AND idx < $2 ORDER BY idx")
        .bind(signed(from)?)
        .bind(signed(to)?)
        .fetch_all(reads)
        .await
        .doing("reading log entries")?;
    let mut expected = from;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let entry = read(&row)?;
        if entry.index != expected {
            return Err(missing(expected));
        }
        expected = expected.saturating_add(1);
        entries.push(entry.bytes);
    }
    if expected == to { Ok(entries) } else { Err(missing(expected)) }
}

/// One entry; nothing beyond the end of the log.
pub(crate) async fn at(reads: &AnyPool, index: u64) -> Result<Option<Entry>, StoreError> {
    let row = sqlx::query("SELECT idx, digest, bytes FROM log_entries WHERE idx = $1")
        .bind(signed(index)?)
        .fetch_optional(reads)
        .await
        .doing("reading a log entry")?;
    row.as_ref().map(read).transpose()
}

/// The first entry with these bytes' digest.
pub(crate) async fn by_digest(reads: &AnyPool, digest: &Sha256Digest) -> Result<Option<Entry>, StoreError> {
    let row = sqlx::query("SELECT idx, digest, bytes FROM log_entries WHERE digest = $1 ORDER BY idx LIMIT 1")
        .bind(digest.as_bytes().to_vec())
        .fetch_optional(reads)
        .await
        .doing("reading a log entry")?;
    row.as_ref().map(read).transpose()
}

/// Every entry listed under a subject, oldest first.
pub(crate) async fn about(reads: &AnyPool, subject: &str) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query(
        "SELECT e.idx AS idx, e.digest AS digest, e.bytes AS bytes \
         FROM log_subjects s JOIN log_entries e ON e.idx = s.idx \
         WHERE s.subject = $1 ORDER BY e.idx",
    )
    .bind(subject)
    .fetch_all(reads)
    .await
    .doing("reading log entries")?;
    rows.iter().map(read).collect()
}

/// The newest entries listed under a subject, newest first.
pub(crate) async fn newest_about(reads: &AnyPool, subject: &str, count: u32) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query(
        "SELECT e.idx AS idx, e.digest AS digest, e.bytes AS bytes \
         FROM log_subjects s JOIN log_entries e ON e.idx = s.idx \
         WHERE s.subject = $1 ORDER BY e.idx DESC LIMIT $2",
    )
    .bind(subject)
    .bind(i64::from(count))
    .fetch_all(reads)
    .await
    .doing("reading log entries")?;
    rows.iter().map(read).collect()
}

/// Every subject that an entry is listed under.
pub(crate) async fn subjects(reads: &AnyPool, index: u64) -> Result<Vec<String>, StoreError> {
    let doing = "reading a log entry's subjects";
    let rows = sqlx::query("SELECT subject FROM log_subjects WHERE idx = $1 ORDER BY subject")
        .bind(signed(index)?)
        .fetch_all(reads)
        .await
        .doing(doing)?;
    rows.iter().map(|row| row.try_get("subject").doing(doing)).collect()
}

fn read(row: &AnyRow) -> Result<Entry, StoreError> {
    let doing = "reading a log entry";
    let index: i64 = row.try_get("idx").doing(doing)?;
    let digest: Vec<u8> = row.try_get("digest").doing(doing)?;
    let bytes: Vec<u8> = row.try_get("bytes").doing(doing)?;
    let entry = Entry { index: unsigned(index)?, bytes };
    if entry.digest().as_bytes().as_slice() == digest.as_slice() {
        Ok(entry)
    } else {
        Err(StoreError::Corrupt { what: format!("log entry {index} does not match its digest") })
    }
}

fn missing(index: u64) -> StoreError {
    StoreError::Corrupt { what: format!("log entry {index} is missing") }
}
