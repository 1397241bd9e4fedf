//! The domain's own governance states: which epoch is in force. An epoch never
//! goes back (I4), and every release re-reads it in its own transaction.

use evidence::digest::Sha256Digest;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::store::{Store, StoreError, Transaction, While, signed, unsigned};

/// A governance state that is or was in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateInForce {
    /// Its epoch.
    pub epoch: u64,
    /// Digest of the state.
    pub digest: Sha256Digest,
    /// The signed state.
    pub cose: Vec<u8>,
    /// Digest of its lineage record.
    pub record: Sha256Digest,
    /// Where that was logged.
    pub log_index: u64,
}

/// The newest state.
pub async fn newest(store: &Store) -> Result<Option<StateInForce>, StoreError> {
    let mut connection = store.reads().acquire().await.doing("reading the governance state")?;
    newest_in(&mut connection).await
}

/// The state with this digest, whichever is in force now.
pub async fn by_digest(store: &Store, digest: &Sha256Digest) -> Result<Option<StateInForce>, StoreError> {
    let doing = "reading a governance state";
    let row = sqlx::query("SELECT * FROM governance_states WHERE digest = $1")
        .bind(digest.as_bytes().to_vec())
        .fetch_optional(store.reads())
        .await
        .doing(doing)?;
    row.map(|row| read(&row)).transpose()
}

/// Brings a new state into force. Its epoch must be the next one.
pub async fn advance(transaction: &mut Transaction<'_>, next: &StateInForce) -> Result<(), StoreError> {
    let doing = "advancing the governance epoch";
    let current = epoch_in(transaction.connection()).await?;
    if next.epoch != current.saturating_add(1) {
        return Err(StoreError::Conflict { doing });
    }
    sqlx::query("INSERT INTO governance_states (epoch, digest, cose, record, log_idx) VALUES ($1, $2, $3, $4, $5)")
        .bind(signed(next.epoch)?)
        .bind(next.digest.as_bytes().to_vec())
        .bind(next.cose.as_slice())
        .bind(next.record.as_bytes().to_vec())
        .bind(signed(next.log_index)?)
        .execute(transaction.connection())
        .await
        .doing(doing)?;
    Ok(())
}

/// The epoch that a log entry belongs to: the one that it began, or else the one in which it was logged.
pub async fn epoch_at(store: &Store, index: u64, began: bool) -> Result<u64, StoreError> {
    let doing = "reading the epoch of a log entry";
    let query = if began {
        "SELECT MIN(epoch) AS epoch FROM governance_states WHERE log_idx > $1"
    } else {
        "SELECT MAX(epoch) AS epoch FROM governance_states WHERE log_idx < $1"
    };
    let row = sqlx::query(query).bind(signed(index)?).fetch_one(store.reads()).await.doing(doing)?;
    let epoch: Option<i64> = row.try_get("epoch").doing(doing)?;
    epoch.map_or(Ok(0), unsigned)
}

/// The epoch in force, inside a commit; 0 before the first state.
pub async fn epoch(transaction: &mut Transaction<'_>) -> Result<u64, StoreError> {
    epoch_in(transaction.connection()).await
}

pub(crate) async fn epoch_in(connection: &mut AnyConnection) -> Result<u64, StoreError> {
    let doing = "reading the governance epoch";
    let row =
        sqlx::query("SELECT MAX(epoch) AS epoch FROM governance_states").fetch_one(connection).await.doing(doing)?;
    let epoch: Option<i64> = row.try_get("epoch").doing(doing)?;
    epoch.map_or(Ok(0), unsigned)
}

/// The newest state, inside a commit.
pub(crate) async fn newest_within(transaction: &mut Transaction<'_>) -> Result<Option<StateInForce>, StoreError> {
    newest_in(transaction.connection()).await
}

/// The state of an epoch.
pub async fn at_epoch(store: &Store, epoch: u64) -> Result<Option<StateInForce>, StoreError> {
    Ok(range(store, epoch, epoch).await?.pop())
}

/// The states of these epochs, ascending. The caller bounds how many.
pub async fn range(store: &Store, first: u64, last: u64) -> Result<Vec<StateInForce>, StoreError> {
    let rows = sqlx::query("SELECT * FROM governance_states WHERE epoch >= $1 AND epoch <= $2 ORDER BY epoch")
        .bind(signed(first)?)
        .bind(signed(last)?)
        .fetch_all(store.reads())
        .await
        .doing("reading governance states")?;
    rows.iter().map(read).collect()
}

async fn newest_in(connection: &mut AnyConnection) -> Result<Option<StateInForce>, StoreError> {
    let doing = "reading the governance state";
    let row = sqlx::query("SELECT * FROM governance_states ORDER BY epoch DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .doing(doing)?;
    row.map(|row| read(&row)).transpose()
}

fn read(row: &AnyRow) -> Result<StateInForce, StoreError> {
    let doing = "reading a governance state";
    let digest = |name| {
        let bytes: Vec<u8> = row.try_get(name).doing(doing)?;
        Sha256Digest::try_from(bytes.as_slice())
            .map_err(|_| StoreError::Corrupt { what: format!("governance state column {name}") })
    };
    Ok(StateInForce {
        epoch: unsigned(row.try_get("epoch").doing(doing)?)?,
        digest: digest("digest")?,
        cose: row.try_get("cose").doing(doing)?,
        record: digest("record")?,
        log_index: unsigned(row.try_get("log_idx").doing(doing)?)?,
    })
}
