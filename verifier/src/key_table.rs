//! What the tables say of the domain's own keys: its bundles, when keys began to sign, and who has certificates under
//! which CA. A bundle counts by its signatures alone; the others are our own word.

use std::collections::BTreeMap;

use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use governance::rotation::OnlineRole;
use sqlx::{AnyPool, Row};

use crate::store::{StoreError, Transaction, While, signed, unsigned};

/// Remembers a bundle of our own.
pub(crate) async fn note_bundle(
    transaction: &mut Transaction<'_>,
    sequence: u64,
    payload: &Sha256Digest,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO own_bundles (sequence, payload) VALUES ($1, $2) ON CONFLICT (sequence) DO NOTHING")
        .bind(signed(sequence)?)
        .bind(payload.as_bytes().to_vec())
        .execute(transaction.connection())
        .await
        .doing("storing a trust bundle's sequence")?;
    Ok(())
}

/// Digests of our own bundles after the founding one, by sequence.
pub(crate) async fn bundles(reads: &AnyPool) -> Result<Vec<Sha256Digest>, StoreError> {
    let doing = "reading the own trust bundles";
    let rows = sqlx::query("SELECT payload FROM own_bundles ORDER BY sequence").fetch_all(reads).await.doing(doing)?;
    rows.iter()
        .map(|row| {
            let payload: Vec<u8> = row.try_get("payload").doing(doing)?;
            Sha256Digest::try_from(payload.as_slice())
                .map_err(|_| StoreError::Corrupt { what: "digest of a trust bundle".to_owned() })
        })
        .collect()
}

/// Remembers when a key began to sign.
pub(crate) async fn note_activation(
    transaction: &mut Transaction<'_>,
    role: OnlineRole,
    kid: &str,
    at: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO key_activations (kid, role, activated_at) VALUES ($1, $2, $3) \
         ON CONFLICT (kid) DO UPDATE SET activated_at = excluded.activated_at",
    )
    .bind(kid)
    .bind(role.name())
    .bind(signed(at.0)?)
    .execute(transaction.connection())
    .await
    .doing("storing a key's activation")?;
    Ok(())
}

/// When keys began to sign, by what they are called.
pub(crate) async fn activations(reads: &AnyPool) -> Result<BTreeMap<String, UnixSeconds>, StoreError> {
    let doing = "reading when keys began to sign";
    let rows = sqlx::query("SELECT kid, activated_at FROM key_activations").fetch_all(reads).await.doing(doing)?;
    rows.iter()
        .map(|row| {
            let at = unsigned(row.try_get("activated_at").doing(doing)?)?;
            Ok((row.try_get("kid").doing(doing)?, UnixSeconds(at)))
        })
        .collect()
}

/// Remembers the newest certificate of a node.
pub(crate) async fn note_certificate(
    transaction: &mut Transaction<'_>,
    node: &NodeId,
    authority: &str,
    not_after: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO node_certificates (node_id, authority, not_after) VALUES ($1, $2, $3) \
         ON CONFLICT (node_id) DO UPDATE SET authority = excluded.authority, not_after = excluded.not_after",
    )
    .bind(node.as_str())
    .bind(authority)
    .bind(signed(not_after.0)?)
    .execute(transaction.connection())
    .await
    .doing("storing a node's certificate")?;
    Ok(())
}

/// Until when nodes have certificates under each CA.
pub(crate) async fn certified_until(reads: &AnyPool) -> Result<BTreeMap<String, UnixSeconds>, StoreError> {
    let doing = "reading the nodes' certificates";
    let rows = sqlx::query("SELECT authority, MAX(not_after) AS until FROM node_certificates GROUP BY authority")
        .fetch_all(reads)
        .await
        .doing(doing)?;
    rows.iter()
        .map(|row| {
            let until = unsigned(row.try_get("until").doing(doing)?)?;
            Ok((row.try_get("authority").doing(doing)?, UnixSeconds(until)))
        })
        .collect()
}
