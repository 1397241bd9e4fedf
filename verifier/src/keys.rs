//! Execution keys at rest: sealed under the key-encryption key. They leave only
//! wrapped to an attested node key ([`crate::wrap`]).

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use aws_lc_rs::rand;
use evidence::names::ItemName;
use governance::key_share::KeyShare;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::store::{Store, StoreError, Transaction, While, WorkError, signed, unix_now, unsigned};

/// The key-encryption key, held in memory while the verifier runs.
#[derive(Clone)]
pub struct KeyEncryptionKey(Arc<RandomizedNonceKey>);

/// A stored key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExecutionKey {
    /// Name that intents ask for.
    pub name: ItemName,
    /// Counted from 1, grows when the secret is replaced.
    pub version: u64,
    /// `NAME=VALUE` labels that policy can see.
    pub labels: Vec<String>,
    /// When this version was made, Unix seconds.
    pub created_at: u64,
}

/// Why a key was not stored, or not released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// No key of this name.
    #[error("no execution key is named {0}")]
    Unknown(ItemName),
    /// A label is one line of `NAME=VALUE`.
    #[error("a label is one line of at most 256 bytes")]
    BadLabel,
    /// A secret is 1 to 4096 bytes.
    #[error("a secret is 1 to 4096 bytes")]
    BadSecret,
    /// The sealed secret does not open under this key-encryption key and name.
    #[error("execution key {0} does not open under the key-encryption key")]
    Sealed(ItemName),
    /// The cryptographic library failed.
    #[error("cryptography failed while {0}")]
    Crypto(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WorkError for KeyFault {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Store(fault) = self { Some(fault) } else { None }
    }
}

impl KeyEncryptionKey {
    /// A key from its 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, KeyFault> {
        RandomizedNonceKey::new(&AES_256_GCM, bytes)
            .map(|key| Self(Arc::new(key)))
            .map_err(|_| KeyFault::Crypto("reading the key-encryption key"))
    }

    fn seal(&self, label: &[u8], name: &ItemName, secret: &[u8]) -> Result<Vec<u8>, KeyFault> {
        let mut sealed = Zeroizing::new(secret.to_vec());
        let nonce = self
            .0
            .seal_in_place_append_tag(aad(label, name), &mut *sealed)
            .map_err(|_| KeyFault::Crypto("sealing an execution key"))?;
        Ok([nonce.as_ref().as_slice(), sealed.as_slice()].concat())
    }

    fn unseal(&self, label: &[u8], name: &ItemName, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        let refused = || KeyFault::Sealed(name.clone());
        let (nonce, rest) = sealed.split_first_chunk::<12>().ok_or_else(refused)?;
        let mut opened = Zeroizing::new(rest.to_vec());
        let length = self.0.open_in_place(nonce.into(), aad(label, name), &mut opened).map_err(|_| refused())?.len();
        opened.truncate(length);
        Ok(opened)
    }
}

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyEncryptionKey(..)")
    }
}

/// Stores a secret under a name; without one, 32 random bytes. An existing name
/// gets a new version. Says which version it became.
pub async fn put(
    transaction: &mut Transaction<'_>,
    kek: &KeyEncryptionKey,
    name: &ItemName,
    secret: Option<&[u8]>,
    labels: &[String],
) -> Result<u64, KeyFault> {
    let sealed = match secret {
        Some(secret) if (1..=SECRET_CAP_BYTES).contains(&secret.len()) => kek.seal(SEAL_LABEL, name, secret)?,
        Some(_) => return Err(KeyFault::BadSecret),
        None => kek.seal(SEAL_LABEL, name, random_secret()?.as_slice())?,
    };
    store(transaction, name, sealed, labels).await
}

/// Stores a share of a split key under the key's name, labelled `split=K-of-N` for policies to see.
pub async fn put_share(
    transaction: &mut Transaction<'_>,
    kek: &KeyEncryptionKey,
    share: &KeyShare,
    labels: &[String],
) -> Result<u64, KeyFault> {
    let group = &share.header().group;
    let file = share.encode().map_err(|_| KeyFault::BadSecret)?;
    let sealed = kek.seal(SHARE_LABEL, &group.name, &file)?;
    let split = format!("split={}-of-{}", group.need, group.of());
    let labels: Vec<String> = labels.iter().cloned().chain([split]).collect();
    store(transaction, &group.name, sealed, &labels).await
}

async fn store(
    transaction: &mut Transaction<'_>,
    name: &ItemName,
    sealed: Vec<u8>,
    labels: &[String],
) -> Result<u64, KeyFault> {
    let doing = "storing an execution key";
    if labels.iter().any(|label| label.len() > LABEL_CAP_BYTES || label.chars().any(char::is_control)) {
        return Err(KeyFault::BadLabel);
    }
    let row = sqlx::query("SELECT version FROM execution_keys WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(transaction.connection())
        .await
        .doing(doing)?;
    let known = match row {
        Some(row) => unsigned(row.try_get("version").doing(doing)?)?,
        None => 0,
    };
    let version = known.saturating_add(1);
    sqlx::query(
        "INSERT INTO execution_keys (name, version, sealed, labels, created_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET \
         version = excluded.version, sealed = excluded.sealed, labels = excluded.labels, \
         created_at = excluded.created_at",
    )
    .bind(name.as_str())
    .bind(signed(version)?)
    .bind(sealed)
    .bind(labels.join("\n"))
    .bind(unix_now())
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    Ok(version)
}

/// The keys, by name, without their secrets.
pub async fn list(store: &Store) -> Result<Vec<ExecutionKey>, StoreError> {
    let rows = sqlx::query("SELECT * FROM execution_keys ORDER BY name")
        .fetch_all(store.reads())
        .await
        .doing("reading execution keys")?;
    rows.iter().map(read_row).collect()
}

/// One key without its secret.
pub async fn find(store: &Store, name: &ItemName) -> Result<Option<ExecutionKey>, StoreError> {
    let row = sqlx::query("SELECT * FROM execution_keys WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(store.reads())
        .await
        .doing("reading an execution key")?;
    row.as_ref().map(read_row).transpose()
}

/// What is kept of a key, in memory that is wiped when it is dropped.
pub enum Kept {
    /// All of it.
    Whole(Zeroizing<Vec<u8>>),
    /// One share.
    Share(KeyShare),
}

/// A whole key or a share. Under which label it opens, says which: both are sealed for their purpose.
pub async fn kept(store: &Store, kek: &KeyEncryptionKey, name: &ItemName) -> Result<Kept, KeyFault> {
    let sealed = sealed(store, name).await?;
    if let Ok(whole) = kek.unseal(SEAL_LABEL, name, &sealed) {
        return Ok(Kept::Whole(whole));
    }
    let file = kek.unseal(SHARE_LABEL, name, &sealed)?;
    KeyShare::decode(&file).map(Kept::Share).map_err(|_| KeyFault::Sealed(name.clone()))
}

/// A secret, in memory that is wiped when it is dropped.
pub async fn unseal(store: &Store, kek: &KeyEncryptionKey, name: &ItemName) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
    kek.unseal(SEAL_LABEL, name, &sealed(store, name).await?)
}

async fn sealed(store: &Store, name: &ItemName) -> Result<Vec<u8>, KeyFault> {
    let doing = "reading an execution key";
    let row = sqlx::query("SELECT sealed FROM execution_keys WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(store.reads())
        .await
        .doing(doing)?
        .ok_or_else(|| KeyFault::Unknown(name.clone()))?;
    Ok(row.try_get("sealed").doing(doing)?)
}

fn random_secret() -> Result<Zeroizing<[u8; 32]>, KeyFault> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(secret.as_mut()).map_err(|_| KeyFault::Crypto("drawing an execution key"))?;
    Ok(secret)
}

fn aad(label: &[u8], name: &ItemName) -> Aad<Vec<u8>> {
    Aad::from([label, name.as_str().as_bytes()].concat())
}

fn read_row(row: &AnyRow) -> Result<ExecutionKey, StoreError> {
    let doing = "reading an execution key";
    let labels: String = row.try_get("labels").doing(doing)?;
    Ok(ExecutionKey {
        name: ItemName::new(row.try_get::<String, _>("name").doing(doing)?)
            .map_err(|_| StoreError::Corrupt { what: "execution key name".to_owned() })?,
        version: unsigned(row.try_get("version").doing(doing)?)?,
        labels: labels.lines().map(str::to_owned).collect(),
        created_at: unsigned(row.try_get("created_at").doing(doing)?)?,
    })
}

/// First part of the AAD under the key-encryption key; the name follows, whose
/// charset cannot contain the slash that ends this.
const SEAL_LABEL: &[u8] = b"attestd/kek/1/";
/// The same for shares of split keys.
const SHARE_LABEL: &[u8] = b"attestd/kek-share/1/";
const SECRET_CAP_BYTES: usize = 4096;
const LABEL_CAP_BYTES: usize = 256;
