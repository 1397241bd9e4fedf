//! EKs and platforms that operators let in.

use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tee::PlatformId;
use sqlx::{AnyConnection, Row};

use super::NodeRefusal;
use crate::store::{Store, StoreError, Transaction, While, unix_now};

/// Lets an EK in that no manufacturer's chain vouches for, for one node id.
pub async fn admit_ek(
    transaction: &mut Transaction<'_>,
    ek_digest: &Sha256Digest,
    id: &NodeId,
    reason: &str,
) -> Result<(), NodeRefusal> {
    let doing = "admitting an EK";
    if let Some(other) = admitted_for(transaction.connection(), ek_digest).await? {
        return match other == id.as_str() {
            true => Ok(()),
            false => Err(NodeRefusal::AdmittedForAnother(other)),
        };
    }
    sqlx::query(
        "INSERT INTO admitted_eks (ek_digest, node_id, reason, admitted_at) \
         VALUES ($1, $2, $3, $4)",
    )
    .bind(ek_digest.as_bytes().to_vec())
    .bind(id.as_str())
    .bind(reason)
    .bind(unix_now())
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    Ok(())
}

/// The node id for which an operator admitted this EK.
pub async fn ek_admitted_for(store: &Store, ek_digest: &Sha256Digest) -> Result<Option<String>, StoreError> {
    let mut connection = store.reads().acquire().await.doing("reading admitted EKs")?;
    admitted_for(&mut connection, ek_digest).await
}

async fn admitted_for(connection: &mut AnyConnection, ek_digest: &Sha256Digest) -> Result<Option<String>, StoreError> {
    let doing = "reading admitted EKs";
    let row = sqlx::query("SELECT node_id FROM admitted_eks WHERE ek_digest = $1")
        .bind(ek_digest.as_bytes().to_vec())
        .fetch_optional(connection)
        .await
        .doing(doing)?;
    row.map(|row| row.try_get("node_id").doing(doing)).transpose()
}

/// Lets a node of this id in on this platform. One platform may run many nodes, and a node has one platform.
pub async fn admit_platform(
    transaction: &mut Transaction<'_>,
    platform: &PlatformId,
    id: &NodeId,
    reason: &str,
) -> Result<(), NodeRefusal> {
    sqlx::query(
        "INSERT INTO admitted_platforms (node_id, platform, reason, admitted_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (node_id, platform) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(platform.to_string())
    .bind(reason)
    .bind(unix_now())
    .execute(transaction.connection())
    .await
    .doing("admitting a platform")?;
    Ok(())
}

/// Whether an operator admitted a node of this id on this platform.
pub async fn platform_admitted(store: &Store, platform: &PlatformId, id: &NodeId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT reason FROM admitted_platforms WHERE node_id = $1 AND platform = $2")
        .bind(id.as_str())
        .bind(platform.to_string())
        .fetch_optional(store.reads())
        .await
        .doing("reading admitted platforms")?;
    Ok(row.is_some())
}
