//! The rows: what was cosigned last of each log. Untrusted for integrity, as every row is; the anchors in our own log
//! say what they must at least be.

use audit::checkpoint::Checkpoint;
use sqlx::{AnyConnection, Row as _};

use crate::store::{Store, StoreError, Transaction, While, signed, unsigned};

/// What is held of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The newest checkpoint that was cosigned.
    pub(super) checkpoint: Checkpoint,
    /// When our own log last named one, Unix seconds.
    pub(super) anchored_at: u64,
}

/// Size of the newest checkpoint that we cosigned of the log with this origin, and when our own log last named one of it, in
/// Unix seconds.
///
/// # Errors
/// [`StoreError`].
pub async fn cosigned_of(store: &Store, origin: &str) -> Result<Option<(u64, u64)>, StoreError> {
    let mut connection = store.reads().acquire().await.doing("reading a witnessed checkpoint")?;
    Ok(held(&mut connection, origin).await?.map(|held| (held.checkpoint.size, held.anchored_at)))
}

/// The newest checkpoint that we cosigned of every log, as its log signed it.
///
/// # Errors
/// [`StoreError`].
pub async fn cosigned_notes(store: &Store, cap: usize) -> Result<Vec<Vec<u8>>, StoreError> {
    let doing = "reading witnessed checkpoints";
    let rows = sqlx::query("SELECT note FROM witnessed ORDER BY origin").fetch_all(store.reads()).await.doing(doing)?;
    rows.iter().take(cap).map(|row| Ok(row.try_get::<String, _>("note").doing(doing)?.into_bytes())).collect()
}

/// What is held of the log with this origin.
pub(super) async fn held(connection: &mut AnyConnection, origin: &str) -> Result<Option<Held>, StoreError> {
    let doing = "reading a witnessed checkpoint";
    let row = sqlx::query("SELECT size, root, note, anchored_at FROM witnessed WHERE origin = $1")
        .bind(origin)
        .fetch_optional(connection)
        .await
        .doing(doing)?;
    let Some(row) = row else { return Ok(None) };
    let corrupt = || StoreError::Corrupt { what: format!("the witnessed checkpoint of {origin}") };
    let note: String = row.try_get("note").doing(doing)?;
    let (size, root): (i64, Vec<u8>) = (row.try_get("size").doing(doing)?, row.try_get("root").doing(doing)?);
    let checkpoint = Checkpoint::claimed(note.as_bytes()).map_err(|_| corrupt())?;
    if checkpoint.origin != origin || checkpoint.size != unsigned(size)? || checkpoint.root.0 != root.as_slice() {
        return Err(corrupt());
    }
    Ok(Some(Held { checkpoint, anchored_at: unsigned(row.try_get("anchored_at").doing(doing)?)? }))
}

/// Puts a checkpoint in the place of the one of `before` entries, or of none.
pub(super) async fn put(
    transaction: &mut Transaction<'_>,
    next: &Held,
    note: &str,
    before: Option<u64>,
) -> Result<(), StoreError> {
    let doing = "moving a witnessed checkpoint";
    let statement = match before {
        None => "INSERT INTO witnessed (size, root, note, anchored_at, origin) VALUES ($1, $2, $3, $4, $5)",
        Some(_) => {
            "UPDATE witnessed SET size = $1, root = $2, note = $3, anchored_at = $4 WHERE origin = $5 AND size = $6"
        }
    };
    let mut query = sqlx::query(statement)
        .bind(signed(next.checkpoint.size)?)
        .bind(next.checkpoint.root.0.to_vec())
        .bind(note)
        .bind(signed(next.anchored_at)?)
        .bind(next.checkpoint.origin.as_str());
    if let Some(before) = before {
        query = query.bind(signed(before)?);
    }
    let moved = query.execute(transaction.connection()).await.doing(doing)?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict { doing }) }
}
