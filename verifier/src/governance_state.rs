//! The domain's own governance state: which epoch is in force. An epoch never
//! goes back (I4), and every release re-reads it in its own transaction.

use evidence::digest::Sha256Digest;
use sqlx::{AnyConnection, Row};

use crate::store::{Store, StoreError, Transaction, While, signed, unsigned};

/// A governance state that is or was in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateInForce {
    /// Its epoch.
    pub epoch: u64,
    /// Digest of the signed state, in the evidence store.
    pub digest: Sha256Digest,
    /// Where it was logged.
    pub log_index: u64,
}

/// The newest state.
pub async fn newest(store: &Store) -> Result<Option<StateInForce>, StoreError> {
    let mut connection = store.reads().acquire().await.doing("reading the governance state")?;
    newest_in(&mut connection).await
}

/// Brings a new state into force. Its epoch must be the next one.
pub async fn advance(transaction: &mut Transaction<'_>, next: &StateInForce) -> Result<(), StoreError> {
    let doing = "advancing the governance epoch";
    let current = epoch_in(transaction.connection()).await?;
    if next.epoch != current.saturating_add(1) {
        return Err(StoreError::Conflict { doing });
    }
    sqlx::query("INSERT INTO governance_states (epoch, digest, log_idx) VALUES ($1, $2, $3)")
        .bind(signed(next.epoch)?)
        .bind(next.digest.as_bytes().to_vec())
        .bind(signed(next.log_index)?)
        .execute(transaction.connection())
        .await
        .doing(doing)?;
    Ok(())
}

/// The epoch in force, inside a commit; 0 before the first state.
pub async fn epoch(transaction: &mut Transaction<'_>) -> Result<u64, StoreError> {
    epoch_in(transaction.connection()).await
}

pub(crate) async fn epoch_in(connection: &mut AnyConnection) -> Result<u64, StoreError> {
    Ok(newest_in(connection).await?.map_or(0, |state| state.epoch))
}

async fn newest_in(connection: &mut AnyConnection) -> Result<Option<StateInForce>, StoreError> {
    let doing = "reading the governance state";
    let row = sqlx::query("SELECT epoch, digest, log_idx FROM governance_states ORDER BY epoch DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .doing(doing)?;
    let Some(row) = row else { return Ok(None) };
    let digest: Vec<u8> = row.try_get("digest").doing(doing)?;
    Ok(Some(StateInForce {
        epoch: unsigned(row.try_get("epoch").doing(doing)?)?,
        digest: Sha256Digest::try_from(digest.as_slice())
            .map_err(|_| StoreError::Corrupt { what: "governance state digest".to_owned() })?,
        log_index: unsigned(row.try_get("log_idx").doing(doing)?)?,
    }))
}
