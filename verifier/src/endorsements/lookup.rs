//! Lookups before a judgement: facts parsed from evidence in, endorsements out, or a fault that names what is missing.
//!
//! Offered are endorsements whose window holds the time asked about, statements (revocation lists, TCB infos,
//! identities) also only up to the maximum age. Certificates that the evidence brought come first; statements are never
//! taken from evidence: a node would choose the revocation list it is judged by. Of several candidates the newest is
//! offered that the issuer at hand has signed; appraisal verifies all of it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::digest::Sha256Digest;
use futures_util::FutureExt as _;

use super::asked::{At, Csp, SnpKey, SnpSigner, TdxKey};
use super::cache::{Caches, FetchFailure, Request};
use super::document::{Document, SignedText};
use super::keeper::Keeper;
use super::key::{EndorsementKey, SnpLine};
use super::missing::{Missing, Unavailable, Why};
use super::offered::{Endorsement, SnpDocuments, TdxDocuments};
use super::recognise::{Recognised, Window};
use super::table::{self, Provenance, Source, Stored};
use super::x509;
use crate::config::EndorsementsConfig;
use crate::store::{Store, StoreError};

/// Most pairs of digests whose signature is remembered as verified.
const LINKS_CAP: usize = 16 * 1024;

/// The endorsement store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EndorsementStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    keeper: Arc<Keeper>,
    caches: Caches,
    maximum_age_s: u64,
    refresh_after_s: u64,
    links: Mutex<HashMap<(Sha256Digest, Sha256Digest), bool>>,
}

/// Whether a candidate fits the issuer at hand.
type Fits<'f> = &'f (dyn Fn(&Stored) -> bool + Sync);

impl EndorsementStore {
    /// A store over the tables, asking the configured caches; `cache_roots` are the certificates (DER) that https caches
    /// are known by.
    ///
    /// # Errors
    /// Why no TLS client can be made of those certificates.
    pub fn new(store: Store, config: &EndorsementsConfig, cache_roots: &[Vec<u8>]) -> Result<Self, String> {
        let keeper = Arc::new(Keeper::new(store, config.versions));
        let for_caches = keeper.clone();
        let keep = Arc::new(move |found: Vec<Recognised>, origin: String| {
            let keeper = for_caches.clone();
            async move {
                let kept = keeper.put(found, Source::Cache, &origin).await;
                kept.map(drop).map_err(|error| FetchFailure::NotStored { why: error.to_string() })
            }
            .boxed()
        });
        let caches = Caches::new(config, cache_roots, keep)?;
        let (maximum_age_s, refresh_after_s) = (config.maximum_age_s, config.refresh_after_s);
        Ok(Self { inner: Arc::new(Inner { keeper, caches, maximum_age_s, refresh_after_s, links: Mutex::default() }) })
    }

    /// Stores endorsements and says how many were new or obtained anew. What claims to be issued in the future is not
    /// stored: it would outlive everything genuine.
    pub async fn put(&self, found: Vec<Recognised>, source: Source, origin: &str) -> Result<u64, StoreError> {
        self.inner.keeper.put(found, source, origin).await
    }

    /// Stores the certificates that evidence brought, after it was judged authentic with them.
    pub async fn keep_brought<'e>(&self, used: impl IntoIterator<Item = &'e Endorsement>) -> Result<u64, StoreError> {
        let brought = used.into_iter().filter(|endorsement| endorsement.provenance.source == Source::Evidence);
        let mut found = Vec::new();
        for endorsement in brought {
            let known = self.inner.keeper.rows(&endorsement.key).await?;
            if !known.iter().any(|row| row.endorsement.digest == endorsement.digest) {
                let Endorsement { key, window, digest, bytes, .. } = endorsement.clone();
                found.push(Recognised { key, window, digest, bytes });
            }
        }
        if found.is_empty() { Ok(0) } else { self.put(found, Source::Evidence, "").await }
    }

    /// Forgets an endorsement that appraisal refused, so that a better one can take its place.
    pub async fn forget(&self, digest: Sha256Digest) -> Result<(), StoreError> {
        self.inner.keeper.forget(digest).await
    }

    /// The tables.
    pub(crate) fn store(&self) -> &Store {
        self.inner.keeper.store()
    }

    /// Everything an SNP report of `key` is judged by. `brought` are certificates (DER) that came with the evidence;
    /// what of them is about something else is left aside.
    pub async fn snp(&self, key: &SnpKey, brought: &[&[u8]], at: At) -> Result<SnpDocuments, Unavailable> {
        let brought = recognised(brought);
        let asking = Asking { inner: &self.inner, brought: &brought, at };
        let leaf = asking.leaf(key).await?;
        let intermediate_key = match key.signer {
            SnpSigner::Vcek { .. } => EndorsementKey::Ask(key.line),
            SnpSigner::Vlek { .. } => EndorsementKey::Asvk(key.line),
        };
        let links = &*self.inner;
        let leaf_der = leaf.as_ref().map(|leaf| (leaf.digest, leaf.bytes.clone()));
        let signs_leaf =
            |row: &Stored| leaf_der.as_ref().map_or(true, |(digest, der)| links.linked(*digest, der, &row.endorsement));
        let intermediate = asking.find(&intermediate_key, &signs_leaf).await?;
        let signs_intermediate = |row: &Stored| {
            intermediate.as_ref().map_or(true, |below| links.linked(below.digest, &below.bytes, &row.endorsement))
        };
        let root = asking.find(&EndorsementKey::Ark(key.line), &signs_intermediate).await?;
        let crl = asking.find(&EndorsementKey::SnpCrl(key.line), &|row| links.under(row, root.as_ref())).await?;
        match (leaf, intermediate, root, crl) {
            (Ok(leaf), Ok(intermediate), Ok(root), Ok(crl)) => Ok(SnpDocuments { leaf, intermediate, root, crl }),
            (leaf, intermediate, root, crl) => {
                Err(Unavailable::of([leaf.err(), intermediate.err(), root.err(), crl.err()]))
            }
        }
    }

    /// Everything a TD quote of `key` is judged by; `brought` are certificates (DER) of the quote's PCK chain.
    pub async fn tdx(&self, key: TdxKey, brought: &[&[u8]], at: At) -> Result<TdxDocuments, Unavailable> {
        let brought = recognised(brought);
        let asking = Asking { inner: &self.inner, brought: &brought, at };
        let links = &*self.inner;
        let root = asking.find(&EndorsementKey::IntelRoot, &|_| true).await?;
        let under_root = |row: &Stored| links.under(row, root.as_ref());
        let pck_ca = asking.find(&EndorsementKey::PckCa(key.ca), &under_root).await?;
        let root_crl = asking.find(&EndorsementKey::RootCaCrl, &under_root).await?;
        let pck_crl = asking.find(&EndorsementKey::PckCrl(key.ca), &|row| links.under(row, pck_ca.as_ref())).await?;
        let stated = |row: &Stored| links.stated(row, root.as_ref());
        let tcb_info = asking.find(&EndorsementKey::TcbInfo { fmspc: key.fmspc }, &stated).await?;
        let qe_identity = asking.find(&EndorsementKey::QeIdentity, &stated).await?;
        match (tcb_info, qe_identity, root, root_crl, pck_ca, pck_crl) {
            (Ok(tcb_info), Ok(qe_identity), Ok(root), Ok(root_crl), Ok(pck_ca), Ok(pck_crl)) => {
                Ok(TdxDocuments { tcb_info, qe_identity, root, root_crl, pck_ca, pck_crl })
            }
            (tcb_info, qe_identity, root, root_crl, pck_ca, pck_crl) => Err(Unavailable::of([
                tcb_info.err(),
                qe_identity.err(),
                root.err(),
                root_crl.err(),
                pck_ca.err(),
                pck_crl.err(),
            ])),
        }
    }
}

/// Certificates that can be told; lists and statements from evidence are left aside.
fn recognised(brought: &[&[u8]]) -> Vec<Recognised> {
    let read = brought.iter().filter_map(|der| Recognised::from_document(der).ok());
    read.filter(|endorsement| !endorsement.key.is_statement()).collect()
}

/// One lookup.
struct Asking<'a> {
    inner: &'a Inner,
    brought: &'a [Recognised],
    at: At,
}

type Found = Result<Endorsement, Missing>;

impl Asking<'_> {
    async fn leaf(&self, key: &SnpKey) -> Result<Found, StoreError> {
        let SnpKey { line, tcb, signer } = key;
        match signer {
            SnpSigner::Vcek { chip_id } => {
                self.find(&EndorsementKey::Vcek { line: *line, chip_id: *chip_id, tcb: *tcb }, &|_| true).await
            }
            SnpSigner::Vlek { csp: Csp::Named(csp) } => {
                self.find(&EndorsementKey::Vlek { line: *line, tcb: *tcb, csp: csp.clone() }, &|_| true).await
            }
            SnpSigner::Vlek { csp: Csp::Unknown } => self.any_vlek(*line, *tcb).await,
        }
    }

    /// The VLEK that evidence brought, or the one stored when all that are stored are one provider's.
    async fn any_vlek(&self, line: SnpLine, tcb: [u8; 8]) -> Result<Found, StoreError> {
        let about = |found: &EndorsementKey| matches!(found, EndorsementKey::Vlek { line: l, tcb: t, .. } if *l == line && *t == tcb);
        if let Some(brought) = self.brought.iter().find(|brought| about(&brought.key)) {
            return self.find(&brought.key, &|_| true).await;
        }
        let rows = table::find_vleks(self.inner.keeper.store(), &EndorsementKey::vlek_prefix(line, &tcb)).await?;
        let Some(first) = rows.first() else { return Ok(Err(Missing::vlek(line, tcb, Why::NotStored))) };
        if rows.iter().any(|row| row.endorsement.key != first.endorsement.key) {
            return Ok(Err(Missing::vlek(line, tcb, Why::SeveralProviders)));
        }
        self.find(&first.endorsement.key, &|_| true).await
    }

    async fn find(&self, key: &EndorsementKey, fits: Fits<'_>) -> Result<Found, StoreError> {
        if let Some(found) = self.brought(key, fits) {
            return Ok(Ok(found));
        }
        let rows = self.inner.keeper.rows(key).await?;
        let chosen = self.choose(&rows, fits);
        let At::Now(now) = self.at else { return Ok(chosen.map_err(|why| Missing::new(key, why))) };
        let Some(request) = Request::of(key).filter(|request| self.inner.caches.can(request)) else {
            return Ok(chosen.map_err(|why| Missing::new(key, why)));
        };
        match chosen {
            Ok(found) => {
                let since = now.0.saturating_sub(found.provenance.obtained_at);
                if key.is_statement() && since > self.inner.refresh_after_s {
                    self.refresh(request);
                }
                Ok(Ok(found))
            }
            Err(why) => {
                if let Err(failure) = self.inner.caches.fetch(&request).await {
                    return Ok(Err(Missing::new(key, why).after(failure)));
                }
                let rows = self.inner.keeper.rows(key).await?;
                Ok(self.choose(&rows, fits).map_err(|why| Missing::new(key, why)))
            }
        }
    }

    /// In the background: what is at hand may still be judged by.
    fn refresh(&self, request: Request) {
        let caches = self.inner.caches.clone();
        tokio::spawn(async move {
            if let Err(failure) = caches.fetch(&request).await {
                tracing::debug!(?request, %failure, "an endorsement was not refreshed");
            }
        });
    }

    fn brought(&self, key: &EndorsementKey, fits: Fits<'_>) -> Option<Endorsement> {
        let provenance = Provenance { source: Source::Evidence, origin: String::new(), obtained_at: self.at.seconds() };
        let about = self.brought.iter().filter(|brought| brought.key == *key);
        let rows: Vec<_> =
            about.map(|brought| Stored { endorsement: brought.clone(), provenance: provenance.clone() }).collect();
        self.choose(&rows, fits).ok()
    }

    fn choose(&self, rows: &[Stored], fits: Fits<'_>) -> Result<Endorsement, Why> {
        let at = self.at.seconds();
        let mut why = Why::NotStored;
        for row in rows {
            let Window { issued_at, ends_at } = row.endorsement.window;
            let age_s = at.saturating_sub(issued_at);
            let hindrance = if at < issued_at || at > ends_at {
                Why::NotCurrent { issued_at, ends_at, at }
            } else if row.endorsement.key.is_statement() && age_s > self.inner.maximum_age_s {
                Why::TooOld { age_s, maximum_age_s: self.inner.maximum_age_s }
            } else if !fits(row) {
                Why::NotOfIssuer
            } else {
                match row.offered(age_s) {
                    Some(endorsement) => return Ok(endorsement),
                    None => Why::NotStored,
                }
            };
            // rows come newest first: the newest one's hindrance is told
            if why == Why::NotStored {
                why = hindrance;
            }
        }
        Err(why)
    }
}

impl Inner {
    /// Whether `issuer` signed the certificate or list `der`.
    fn linked(&self, digest: Sha256Digest, der: &[u8], issuer: &Recognised) -> bool {
        self.remembered((digest, issuer.digest), || x509::is_signed_by(der, &issuer.bytes))
    }

    /// Whether a row's certificate or list is signed by `issuer`. Without one at hand there is nothing to hold it
    /// against, and the lookup fails for want of the issuer.
    fn under(&self, row: &Stored, issuer: Result<&Endorsement, &Missing>) -> bool {
        let signed = &row.endorsement;
        issuer.map_or(true, |issuer| {
            self.remembered((signed.digest, issuer.digest), || x509::is_signed_by(&signed.bytes, &issuer.bytes))
        })
    }

    /// Whether a row's statement is signed by its own signer, and the signer's certificate by `root`.
    fn stated(&self, row: &Stored, root: Result<&Endorsement, &Missing>) -> bool {
        let Ok(root) = root else { return true };
        self.remembered((row.endorsement.digest, root.digest), || {
            let Ok(Document::Signed(SignedText { text, signature, chain })) =
                Document::from_bytes(&row.endorsement.bytes)
            else {
                return false;
            };
            chain.first().is_some_and(|signer| {
                x509::has_signed(signer, text.as_bytes(), &signature) && x509::is_signed_by(signer, &root.bytes)
            })
        })
    }

    fn remembered(&self, pair: (Sha256Digest, Sha256Digest), verify: impl FnOnce() -> bool) -> bool {
        if let Some(known) = self.links().get(&pair) {
            return *known;
        }
        let linked = verify();
        let mut links = self.links();
        if links.len() >= LINKS_CAP {
            links.clear();
        }
        links.insert(pair, linked);
        linked
    }

    fn links(&self) -> MutexGuard<'_, HashMap<(Sha256Digest, Sha256Digest), bool>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
