//! Partners in the store. Rows are not trusted for integrity: the newest log entry about a partner names the digest of what
//! is remembered of it. The head of a partner's log stands beside it and is moved by compare-and-swap.

use std::sync::Arc;

use audit::record::VerifiedRecord;
use audit::tlog::TreeHash;
use evidence::cbor::{self, Caps};
use evidence::cose::KeySet;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::partner::{LogHead, Partner};
use serde_bytes::ByteBuf;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::partners::{HeldPartner, Partners, carries};
use crate::log::Log;
use crate::store::{Store, StoreError, Transaction, While, signed, unsigned};

/// A row to be written.
#[derive(Clone, Debug)]
pub(crate) struct PartnerRow {
    pub(crate) domain: DomainName,
    /// Encoded `PartnerMemory`.
    pub(crate) memory: Vec<u8>,
    /// Digest of it, for the log.
    pub(crate) digest: Sha256Digest,
    bundle: Vec<u8>,
    state: Vec<u8>,
    head: Option<LogHead>,
}

impl PartnerRow {
    /// The row of a partner as it is now.
    pub(crate) fn of(held: &HeldPartner) -> Result<Self, governance::GovernanceDenial> {
        let (memory, digest) = held.partner.memory()?.encode()?;
        let bundle: Vec<_> = held.bundle.iter().cloned().map(ByteBuf::from).collect();
        let bundle = cbor::to_vec(&bundle).map_err(|error| governance::GovernanceDenial::Malformed {
            what: "trust bundle",
            cause: error.to_string(),
        })?;
        let (domain, state) = (held.partner.domain().clone(), held.state.to_vec());
        Ok(Self { domain, memory, digest, bundle, state, head: held.partner.head() })
    }
}

/// What entries about a partner are listed under.
pub(crate) fn subject(domain: &DomainName) -> String {
    format!("partner:{domain}")
}

/// Writes a partner's row. One that is trusted anew starts with whatever head it has now.
pub(crate) async fn keep(transaction: &mut Transaction<'_>, row: &PartnerRow) -> Result<(), StoreError> {
    let (size, root) = head_columns(row.head)?;
    sqlx::query(
        "INSERT INTO partners (domain, memory, bundle, state, head_size, head_root) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (domain) DO UPDATE SET memory = excluded.memory, bundle = excluded.bundle, \
         state = excluded.state, head_size = excluded.head_size, head_root = excluded.head_root",
    )
    .bind(row.domain.as_str())
    .bind(row.memory.as_slice())
    .bind(row.bundle.as_slice())
    .bind(row.state.as_slice())
    .bind(size)
    .bind(root)
    .execute(transaction.connection())
    .await
    .doing("storing a partner")?;
    Ok(())
}

/// Moves the head of a partner's log forward.
pub(crate) async fn mark(
    transaction: &mut Transaction<'_>,
    domain: &DomainName,
    head: LogHead,
) -> Result<(), StoreError> {
    let doing = "moving a partner's log head";
    let (size, root) = head_columns(Some(head))?;
    let moved = sqlx::query("UPDATE partners SET head_size = $1, head_root = $2 WHERE domain = $3 AND head_size <= $1")
        .bind(size)
        .bind(root)
        .bind(domain.as_str())
        .execute(transaction.connection())
        .await
        .doing(doing)?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict { doing }) }
}

/// Every partner, as the log says it was remembered.
pub(crate) async fn load(
    store: &Store,
    log: &Log,
    domain: &DomainName,
    issuer_keys: &KeySet,
    now: UnixSeconds,
) -> Result<Partners, StoreError> {
    let doing = "reading partners";
    let rows = sqlx::query("SELECT * FROM partners ORDER BY domain").fetch_all(store.reads()).await.doing(doing)?;
    let mut partners = Partners::default();
    for row in &rows {
        let name: String = row.try_get("domain").doing(doing)?;
        let corrupt = |what: String| StoreError::Corrupt { what: format!("partner {name}: {what}") };
        let partner = DomainName::new(name.as_str()).map_err(|error| corrupt(error.to_string()))?;
        let newest = log.newest_about(&subject(&partner), 1).await?;
        let entry = newest.first().ok_or_else(|| corrupt("no log entry names it".to_owned()))?;
        let record = VerifiedRecord::verify(&entry.bytes, domain, issuer_keys);
        let logged = record.map_err(|denial| corrupt(denial.to_string()))?.record().subject;
        let held = read(row, logged, now).map_err(|error| match error {
            Unreadable::Store(fault) => fault,
            Unreadable::Memory(what) => corrupt(what),
        })?;
        if *held.partner.domain() != partner {
            return Err(corrupt("its memory is of another domain".to_owned()));
        }
        partners = partners.with(held);
    }
    Ok(partners)
}

enum Unreadable {
    Store(StoreError),
    Memory(String),
}

impl From<StoreError> for Unreadable {
    fn from(fault: StoreError) -> Self {
        Self::Store(fault)
    }
}

fn read(row: &AnyRow, logged: Sha256Digest, now: UnixSeconds) -> Result<HeldPartner, Unreadable> {
    let doing = "reading a partner";
    let bytes = |name| row.try_get::<Vec<u8>, _>(name).doing(doing);
    let head = match unsigned(row.try_get("head_size").doing(doing)?)? {
        0 => None,
        size => {
            let root = Sha256Digest::try_from(bytes("head_root")?.as_slice());
            Some(LogHead { size, root: root.map_err(|_| Unreadable::Memory("its log head".to_owned()))? })
        }
    };
    let partner = Partner::recall(&bytes("memory")?, logged, head, now);
    let partner = partner.map_err(|denial| Unreadable::Memory(denial.to_string()))?;
    let bundle = bytes("bundle")?;
    let signatures: Vec<ByteBuf> = cbor::from_slice(&bundle, Caps::bytes(bundle.len()))
        .map_err(|error| Unreadable::Memory(format!("its bundle: {error}")))?;
    let bundle: Vec<_> = signatures.into_iter().map(ByteBuf::into_vec).collect();
    if bundle.is_empty() || !bundle.iter().all(|cose| carries(cose, partner.bundle().digest())) {
        return Err(Unreadable::Memory("its bundle is not the one that its memory names".to_owned()));
    }
    let bundle = Arc::new(bundle);
    Ok(HeldPartner { partner, bundle, state: Arc::new(bytes("state")?) })
}

fn head_columns(head: Option<LogHead>) -> Result<(i64, Vec<u8>), StoreError> {
    let head = head.unwrap_or(LogHead { size: 0, root: Sha256Digest(audit::tlog::empty_root().0) });
    Ok((signed(head.size)?, head.root.as_bytes().to_vec()))
}

/// A head of the log in the terms of the partner machine.
pub(crate) const fn head_of(size: u64, root: TreeHash) -> LogHead {
    LogHead { size, root: Sha256Digest(root.0) }
}
