//! Signatures over one payload by several keys, gathered one at a time: reference
//! and policy sets, statements. Whether they suffice is judged when they are read.

use evidence::cose::{self, KeyId};
use evidence::digest::Sha256Digest;
use sqlx::{AnyConnection, Row};

use crate::store::{Store, StoreError, Transaction, While, unix_now};

/// Keeps a signature by `kid` over the payload with this digest. The first one
/// of each key stays.
pub(crate) async fn keep(
    transaction: &mut Transaction<'_>,
    payload: &Sha256Digest,
    kid: KeyId,
    cose: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO signatures (payload, kid, cose, stored_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (payload, kid) DO NOTHING",
    )
    .bind(payload.as_bytes().to_vec())
    .bind(kid.to_string())
    .bind(cose)
    .bind(unix_now())
    .execute(transaction.connection())
    .await
    .doing("storing a signature")?;
    Ok(())
}

/// All signatures kept over the payload with this digest, by key id.
pub async fn over(store: &Store, payload: &Sha256Digest) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut connection = store.reads().acquire().await.doing("reading signatures")?;
    over_in(&mut connection, payload).await
}

pub(crate) async fn over_in(
    connection: &mut AnyConnection,
    payload: &Sha256Digest,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let doing = "reading signatures";
    let rows = sqlx::query("SELECT cose FROM signatures WHERE payload = $1 ORDER BY kid")
        .bind(payload.as_bytes().to_vec())
        .fetch_all(connection)
        .await
        .doing(doing)?;
    let mut signatures = Vec::with_capacity(rows.len());
    for row in rows {
        let cose: Vec<u8> = row.try_get("cose").doing(doing)?;
        if cose::claimed_payload(&cose).map(|claimed| Sha256Digest::of(&claimed)) != Ok(*payload) {
            return Err(StoreError::Corrupt { what: format!("a stored signature is not over {payload}") });
        }
        signatures.push(cose);
    }
    Ok(signatures)
}
