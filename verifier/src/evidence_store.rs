//! Content-addressed bytes: what a verdict was made from, kept so that it can be
//! made again. Read back, bytes must still match their digest.

use evidence::digest::Sha256Digest;
use sqlx::Row;

use crate::store::{Store, StoreError, Transaction, While, unix_now};

/// What some bytes are. Part of the row for an operator's eyes; nothing is
/// decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobKind {
    /// Evidence as received: the CMW collection.
    Evidence,
    /// The record of a TPM's enrolment.
    Enrolment,
    /// A challenge, as bound.
    Challenge,
    /// A signed reference value set.
    ReferenceSet,
    /// A signed policy set.
    PolicySet,
    /// A signed Attestation Result.
    AttestationResult,
    /// A signed authorization artifact.
    Artifact,
    /// A signed intent.
    Intent,
    /// A signed trust bundle.
    TrustBundle,
    /// A signed governance state.
    GovernanceState,
    /// One signature of a threshold-signed statement.
    Statement,
    /// The trust anchors in force at a decision.
    Anchors,
    /// The inputs of one decision, by digest.
    Decision,
}

impl BlobKind {
    fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Enrolment => "enrolment",
            Self::Challenge => "challenge",
            Self::ReferenceSet => "reference-set",
            Self::PolicySet => "policy-set",
            Self::AttestationResult => "attestation-result",
            Self::Artifact => "artifact",
            Self::Intent => "intent",
            Self::TrustBundle => "trust-bundle",
            Self::GovernanceState => "governance-state",
            Self::Statement => "statement",
            Self::Anchors => "anchors",
            Self::Decision => "decision",
        }
    }
}

/// Keeps bytes with this commit and names them.
pub async fn put(transaction: &mut Transaction<'_>, kind: BlobKind, bytes: &[u8]) -> Result<Sha256Digest, StoreError> {
    let digest = Sha256Digest::of(bytes);
    sqlx::query(
        "INSERT INTO blobs (digest, kind, bytes, stored_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (digest) DO NOTHING",
    )
    .bind(digest.as_bytes().to_vec())
    .bind(kind.name())
    .bind(bytes)
    .bind(unix_now())
    .execute(transaction.connection())
    .await
    .doing("storing evidence")?;
    Ok(digest)
}

/// The bytes with this digest, re-hashed; nothing when they were never kept or
/// their retention is over.
pub async fn get(store: &Store, digest: &Sha256Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let doing = "reading evidence";
    let row = sqlx::query("SELECT bytes FROM blobs WHERE digest = $1")
        .bind(digest.as_bytes().to_vec())
        .fetch_optional(store.reads())
        .await
        .doing(doing)?;
    let Some(row) = row else { return Ok(None) };
    let bytes: Vec<u8> = row.try_get("bytes").doing(doing)?;
    if Sha256Digest::of(&bytes) == *digest {
        Ok(Some(bytes))
    } else {
        Err(StoreError::Corrupt { what: format!("stored bytes do not match {digest}") })
    }
}
