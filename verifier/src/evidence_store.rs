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
    /// A passport, signed by its node.
    Passport,
    /// The record of a TPM's enrolment.
    Enrolment,
    /// The record of a TEE's enrolment.
    PlatformEnrolment,
    /// A vendor's certificate, revocation list or statement.
    Endorsement,
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
    /// A halt record, signed by its node.
    HaltRecord,
    /// An end record, signed by its node.
    EndRecord,
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
    /// A checkpoint of a partner's log, as shown to our witness.
    Checkpoint,
}

impl BlobKind {
    fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Passport => "passport",
            Self::Enrolment => "enrolment",
            Self::PlatformEnrolment => "platform-enrolment",
            Self::Endorsement => "endorsement",
            Self::Challenge => "challenge",
            Self::ReferenceSet => "reference-set",
            Self::PolicySet => "policy-set",
            Self::AttestationResult => "attestation-result",
            Self::Artifact => "artifact",
            Self::Intent => "intent",
            Self::HaltRecord => "halt-record",
            Self::EndRecord => "end-record",
            Self::TrustBundle => "trust-bundle",
            Self::GovernanceState => "governance-state",
            Self::Statement => "statement",
            Self::Anchors => "anchors",
            Self::Decision => "decision",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// Keeps bytes with this commit and names them.
pub async fn put(transaction: &mut Transaction<'_>, kind: BlobKind, bytes: &[u8]) -> Result<Sha256Digest, StoreError> {
    let digest = Sha256Digest::of(bytes);
    put_under(transaction, kind, &digest, bytes).await?;
    Ok(digest)
}

/// The bytes with this digest, re-hashed; nothing when they were never kept or
/// their retention is over.
pub async fn get(store: &Store, digest: &Sha256Digest) -> Result<Option<Vec<u8>>, StoreError> {
    match read(store, digest).await? {
        Some(bytes) if Sha256Digest::of(&bytes) != *digest => Err(mismatch(digest)),
        bytes => Ok(bytes),
    }
}

/// Keeps a statement under the digest of its payload, which is how records name what a node or an authority signed.
/// The first signature kept for a payload stays.
pub async fn put_signed(
    transaction: &mut Transaction<'_>,
    kind: BlobKind,
    cose: &[u8],
) -> Result<Sha256Digest, StoreError> {
    let digest =
        payload_digest(cose).ok_or_else(|| StoreError::Corrupt { what: "a statement without payload".to_owned() })?;
    put_under(transaction, kind, &digest, cose).await?;
    Ok(digest)
}

/// The statement over the payload with this digest.
pub async fn get_signed(store: &Store, digest: &Sha256Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let cose = read(store, digest).await?;
    match cose {
        Some(cose) if payload_digest(&cose) != Some(*digest) => Err(mismatch(digest)),
        cose => Ok(cose),
    }
}

/// Keeps the first artifact of an authorization under the digest of its terms, which is how its record names it.
pub async fn put_artifact(
    transaction: &mut Transaction<'_>,
    terms: &Sha256Digest,
    cose: &[u8],
) -> Result<(), StoreError> {
    put_under(transaction, BlobKind::Artifact, terms, cose).await
}

/// The first artifact with these terms.
pub async fn get_artifact(store: &Store, terms: &Sha256Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(cose) = read(store, terms).await? else { return Ok(None) };
    let payload = evidence::cose::claimed_payload(&cose).ok();
    let artifact = payload.and_then(|payload| governance::artifact::Artifact::decode(&payload).ok());
    match artifact.and_then(|artifact| artifact.terms().digest().ok()) {
        Some(digest) if digest == *terms => Ok(Some(cose)),
        Some(_) | None => Err(mismatch(terms)),
    }
}

async fn put_under(
    transaction: &mut Transaction<'_>,
    kind: BlobKind,
    name: &Sha256Digest,
    bytes: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO blobs (digest, kind, bytes, stored_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (digest) DO NOTHING",
    )
    .bind(name.as_bytes().to_vec())
    .bind(kind.name())
    .bind(bytes)
    .bind(unix_now())
    .execute(transaction.connection())
    .await
    .doing("storing evidence")?;
    Ok(())
}

async fn read(store: &Store, digest: &Sha256Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let doing = "reading evidence";
    let row = sqlx::query("SELECT bytes FROM blobs WHERE digest = $1")
        .bind(digest.as_bytes().to_vec())
        .fetch_optional(store.reads())
        .await
        .doing(doing)?;
    row.map(|row| row.try_get("bytes").doing(doing)).transpose()
}

fn payload_digest(cose: &[u8]) -> Option<Sha256Digest> {
    evidence::cose::claimed_payload(cose).ok().map(|payload| Sha256Digest::of(&payload))
}

fn mismatch(digest: &Sha256Digest) -> StoreError {
    StoreError::Corrupt { what: format!("stored bytes do not match {digest}") }
}
