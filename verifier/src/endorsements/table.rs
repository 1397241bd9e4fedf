//! The rows. A cache: whatever is read is hashed and recognised again, and verified by whoever judges with it.

use evidence::digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::key::EndorsementKey;
use super::recognise::Recognised;
use crate::store::{Store, StoreError, Transaction, While, signed, unsigned};

/// Most rows of one key that a lookup looks at, newest first.
const CANDIDATES_CAP: i64 = 16;

/// Where an endorsement came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Evidence that was judged authentic with it.
    Evidence,
    /// Files that an operator imported.
    Directory,
    /// A bundle that an operator imported.
    Bundle,
    /// The configured cache.
    Cache,
}

impl Source {
    /// Stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Directory => "directory",
            Self::Bundle => "bundle",
            Self::Cache => "cache",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Evidence, Self::Directory, Self::Bundle, Self::Cache].into_iter().find(|source| source.name() == name)
    }
}

/// How an endorsement was come by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// What it came from.
    pub source: Source,
    /// Which: the cache's URL, a bundle's signer; may be empty. For an operator's eyes.
    pub origin: String,
    /// When, in seconds since the epoch.
    pub obtained_at: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The endorsement.
    pub endorsement: Recognised,
    /// How it was come by.
    pub provenance: Provenance,
}

/// Keeps an endorsement; of one key the newest `versions` stay. One that is there already is marked as obtained anew.
pub async fn put(
    transaction: &mut Transaction<'_>,
    endorsement: &Recognised,
    provenance: &Provenance,
    versions: u32,
) -> Result<(), StoreError> {
    let doing = "storing an endorsement";
    let Recognised { key, window, digest, bytes } = endorsement;
    let (kind, fields) = (key.kind(), key.fields());
    sqlx::query(
        "INSERT INTO endorsements (kind, fields, digest, document, issued_at, ends_at, obtained_at, source, origin) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (kind, fields, digest) DO UPDATE SET \
         obtained_at = excluded.obtained_at, source = excluded.source, origin = excluded.origin",
    )
    .bind(kind)
    .bind(fields.as_slice())
    .bind(digest.as_bytes().to_vec())
    .bind(bytes.as_slice())
    .bind(signed(window.issued_at)?)
    .bind(signed(window.ends_at)?)
    .bind(signed(provenance.obtained_at)?)
    .bind(provenance.source.name())
    .bind(provenance.origin.as_str())
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    sqlx::query(
        "DELETE FROM endorsements WHERE kind = $1 AND fields = $2 AND digest NOT IN \
         (SELECT digest FROM endorsements WHERE kind = $3 AND fields = $4 \
          ORDER BY issued_at DESC, obtained_at DESC, digest DESC LIMIT $5)",
    )
    .bind(kind)
    .bind(fields.as_slice())
    .bind(kind)
    .bind(fields.as_slice())
    .bind(i64::from(versions))
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    Ok(())
}

/// Removes one endorsement, wherever it stands.
pub async fn remove(transaction: &mut Transaction<'_>, digest: &Sha256Digest) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM endorsements WHERE digest = $1")
        .bind(digest.as_bytes().to_vec())
        .execute(transaction.connection())
        .await
        .doing("removing an endorsement")?;
    Ok(())
}

/// The endorsements of `key`, newest first; at most 16.
pub async fn find(store: &Store, key: &EndorsementKey) -> Result<Vec<Stored>, StoreError> {
    let doing = "reading endorsements";
    let rows = sqlx::query(
        "SELECT kind, fields, digest, document, obtained_at, source, origin FROM endorsements \
         WHERE kind = $1 AND fields = $2 ORDER BY issued_at DESC, obtained_at DESC, digest DESC LIMIT $3",
    )
    .bind(key.kind())
    .bind(key.fields())
    .bind(CANDIDATES_CAP)
    .fetch_all(store.reads())
    .await
    .doing(doing)?;
    rows.iter().filter_map(|row| usable(row).transpose()).collect()
}

/// The VLEKs of a line at a TCB, of whatever service provider; newest first, at most 16.
pub async fn find_vleks(store: &Store, prefix: &[u8]) -> Result<Vec<Stored>, StoreError> {
    let doing = "reading endorsements";
    // CSP ids are printable ASCII: 0xff is above all of them
    let above = [prefix, &[0xff]].concat();
    let rows = sqlx::query(
        "SELECT kind, fields, digest, document, obtained_at, source, origin FROM endorsements \
         WHERE kind = 'vlek' AND fields > $1 AND fields < $2 \
         ORDER BY issued_at DESC, obtained_at DESC, digest DESC LIMIT $3",
    )
    .bind(prefix)
    .bind(above)
    .bind(CANDIDATES_CAP)
    .fetch_all(store.reads())
    .await
    .doing(doing)?;
    rows.iter().filter_map(|row| usable(row).transpose()).collect()
}

/// A page of everything, in the order of keys, and where the next one starts.
pub async fn page(store: &Store, after: &Place, rows: u32, cap_bytes: usize) -> Result<Page, StoreError> {
    let doing = "reading endorsements";
    let mut connection = store.reads().acquire().await.doing(doing)?;
    let found = page_rows(&mut connection, after, rows).await?;
    let mut page = Page { rows: Vec::new(), next: None };
    let mut bytes = 0_usize;
    for row in &found {
        let place = Place::of(row)?;
        bytes = bytes.saturating_add(row.try_get::<Vec<u8>, _>("document").doing(doing)?.len());
        if bytes > cap_bytes && page.next.is_some() {
            break;
        }
        page.next = Some(place);
        page.rows.extend(usable(row)?);
    }
    Ok(page)
}

async fn page_rows(connection: &mut AnyConnection, after: &Place, rows: u32) -> Result<Vec<AnyRow>, StoreError> {
    sqlx::query(
        "SELECT kind, fields, digest, document, obtained_at, source, origin FROM endorsements \
         WHERE (kind, fields, digest) > ($1, $2, $3) ORDER BY kind, fields, digest LIMIT $4",
    )
    .bind(after.kind.as_str())
    .bind(after.fields.to_vec())
    .bind(after.digest.to_vec())
    .bind(i64::from(rows))
    .fetch_all(connection)
    .await
    .doing("reading endorsements")
}

/// A page of rows.
#[derive(Debug)]
pub struct Page {
    /// Its rows.
    pub rows: Vec<Stored>,
    /// The place of its last row; nothing at the end.
    pub next: Option<Place>,
}

/// A place in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    kind: String,
    fields: ByteBuf,
    digest: ByteBuf,
}

impl Place {
    fn of(row: &AnyRow) -> Result<Self, StoreError> {
        let doing = "reading endorsements";
        Ok(Self {
            kind: row.try_get("kind").doing(doing)?,
            fields: ByteBuf::from(row.try_get::<Vec<u8>, _>("fields").doing(doing)?),
            digest: ByteBuf::from(row.try_get::<Vec<u8>, _>("digest").doing(doing)?),
        })
    }
}

/// A row whose document is what the row says. One that is not was tampered with or damaged: as good as absent.
fn usable(row: &AnyRow) -> Result<Option<Stored>, StoreError> {
    let doing = "reading endorsements";
    let document: Vec<u8> = row.try_get("document").doing(doing)?;
    let digest: Vec<u8> = row.try_get("digest").doing(doing)?;
    let kind: String = row.try_get("kind").doing(doing)?;
    let fields: Vec<u8> = row.try_get("fields").doing(doing)?;
    let source: String = row.try_get("source").doing(doing)?;
    let recognised = Recognised::from_document(&document).ok().filter(|found| {
        found.digest.as_bytes().as_slice() == digest && found.key.kind() == kind && found.key.fields() == fields
    });
    let (Some(endorsement), Some(source)) = (recognised, Source::of(&source)) else {
        tracing::warn!(kind, digest = hex::encode(&digest), "a stored endorsement does not match its row; not used");
        return Ok(None);
    };
    let provenance = Provenance {
        source,
        origin: row.try_get("origin").doing(doing)?,
        obtained_at: unsigned(row.try_get("obtained_at").doing(doing)?)?,
    };
    Ok(Some(Stored { endorsement, provenance }))
}
