//! The witness: one checkpoint of each watched log, which only ever moves on.
//!
//! judge → compare and swap, durably → cosign. Killed in between, it answers the same request again from what it holds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use audit::checkpoint::Checkpoint;
use audit::record::{Code, RecordBody};
use audit::tlog::TreeHash;
use audit::witness::{self, AddCheckpoint, WitnessRefusal};
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use tokio::sync::watch;

use super::WitnessedLog;
use super::anchor::{self, ANCHOR_EVERY_S};
use super::table::{self, Held};
use crate::clock::ClockWentBack;
use crate::evidence_store::{self, BlobKind};
use crate::fault::Fault;
use crate::lineage::Chain;
use crate::log::Log;
use crate::online_keys::{ActiveKey, Issuer};
use crate::store::{Store, StoreError, Transaction, WorkError};

/// What a witness is made of.
#[derive(Clone)]
pub struct KeeperParts {
    /// Our domain: the witness is named after it.
    pub domain: DomainName,
    /// Cosigns.
    pub key: ActiveKey,
    /// Signs our own records.
    pub issuer: Issuer,
    /// The tables.
    pub store: Store,
    /// Our own log, where what was cosigned is anchored.
    pub log: Log,
    /// Which logs are watched.
    pub watched: watch::Receiver<Arc<Vec<WitnessedLog>>>,
    /// Time.
    pub now: Arc<dyn Fn() -> Result<UnixSeconds, ClockWentBack> + Send + Sync>,
    /// Hears of every log that is found to show two histories, after the record of it is durable.
    pub forked: Arc<dyn Fn(&Fork) + Send + Sync>,
}

/// Two trees of one size, both signed by one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Whose log.
    pub domain: DomainName,
    /// Its origin.
    pub origin: String,
    /// Size of both trees.
    pub size: u64,
    /// Root of the one that was shown.
    pub got: TreeHash,
    /// Root of the one that is held.
    pub held: TreeHash,
    /// The note that was shown; what was held before is in the log's own anchors.
    pub shown: String,
}

/// Why nothing was cosigned.
#[derive(Debug, thiserror::Error)]
pub enum NotCosigned {
    /// It was judged.
    #[error(transparent)]
    Refused(#[from] WitnessRefusal),
    /// It could not be.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl NotCosigned {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Fault(fault) => fault.code(),
        }
    }
}

impl From<StoreError> for NotCosigned {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl WorkError for NotCosigned {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Fault(fault) = self { fault.store_fault() } else { None }
    }
}

/// The witness of one domain.
pub struct Keeper {
    parts: KeeperParts,
    name: String,
    /// Origins whose fork was recorded by this process.
    told: Mutex<BTreeSet<String>>,
}

impl Keeper {
    /// Opens the witness.
    ///
    /// # Errors
    /// [`StoreError::RolledBack`] when what it holds is behind what its domain's log says it cosigned.
    pub async fn open(parts: KeeperParts) -> Result<Arc<Self>, StoreError> {
        anchor::refuse_rollback(&parts.store, &parts.log).await?;
        let name = audit::proof::witness_name(&parts.domain);
        Ok(Arc::new(Self { parts, name, told: Mutex::default() }))
    }

    /// Its name in cosignatures.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Answers the body of an add-checkpoint request: one cosignature line.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub async fn add(self: &Arc<Self>, body: &[u8]) -> Result<String, NotCosigned> {
        let request = AddCheckpoint::parse(body)?;
        let origin = request.claimed()?.origin;
        let watched = self.parts.watched.borrow().clone();
        let watched = watched.iter().find(|watched| watched.log.origin() == origin);
        let watched = watched.ok_or(WitnessRefusal::UnknownLog)?.clone();
        let shown = request.signed_by(&watched.log)?;
        let now = (self.parts.now)().map_err(Fault::from)?;
        let note = request.note.clone();
        match self.persist(request, shown.clone(), watched.domain.clone(), now).await {
            Ok(()) => {}
            Err(NotCosigned::Refused(WitnessRefusal::Forked { size, got, held })) => {
                self.tell(Fork { domain: watched.domain, origin, size, got, held, shown: note }, now).await?;
                return Err(WitnessRefusal::Forked { size, got, held }.into());
            }
            Err(other) => return Err(other),
        }
        let line = witness::answer(&note, &self.name, &self.parts.key.signing(), now);
        Ok(line.map_err(|denial| Fault::Bug { what: denial.to_string() })?)
    }

    /// Judged against what is held and put in its place, in one transaction: of two requests that start at one size, one
    /// finds another size.
    async fn persist(
        self: &Arc<Self>,
        request: AddCheckpoint,
        shown: Checkpoint,
        partner: DomainName,
        now: UnixSeconds,
    ) -> Result<(), NotCosigned> {
        let keeper = self.clone();
        let committed = self.parts.store.write::<_, NotCosigned, _>(move |transaction| {
            Box::pin(async move {
                let held = table::held(transaction.connection(), &shown.origin).await?;
                witness::judge(&request, &shown, held.as_ref().map(|held| &held.checkpoint))?;
                let before = held.as_ref().map(|held| held.checkpoint.size);
                if before == Some(shown.size) {
                    return Ok(());
                }
                let anchored_at = held.map_or(0, |held| held.anchored_at);
                let due = anchored_at.saturating_add(ANCHOR_EVERY_S) <= now.0;
                if due {
                    let entry = anchor::subject(&shown.origin);
                    keeper.record(transaction, &partner, &request.note, anchor::code()?, entry, now).await?;
                }
                let anchored_at = if due { now.0 } else { anchored_at };
                table::put(transaction, &Held { checkpoint: shown, anchored_at }, &request.note, before).await?;
                Ok(())
            })
        });
        committed.await.map(drop)
    }

    /// Keeps a note, and logs that it was seen and what was concluded.
    async fn record(
        &self,
        transaction: &mut Transaction<'_>,
        partner: &DomainName,
        note: &str,
        code: Code,
        subject: String,
        now: UnixSeconds,
    ) -> Result<(), NotCosigned> {
        let state = evidence_store::put(transaction, BlobKind::Checkpoint, note.as_bytes()).await?;
        let mut chain = Chain::stranger(&self.parts.issuer, &self.parts.domain, now);
        let body = RecordBody::Federation { partner: partner.clone(), state, code };
        transaction.append(chain.next(Sha256Digest::of(subject.as_bytes()), &[], body)?.entry(&[subject]))?;
        Ok(())
    }

    /// The proof that a log forked is kept, once, and told.
    async fn tell(self: &Arc<Self>, fork: Fork, now: UnixSeconds) -> Result<(), NotCosigned> {
        tracing::error!(log = %fork.origin, size = fork.size, "ALARM: a log signed two trees of one size");
        let subject = format!("forked:{}", fork.origin);
        if !self.told(&fork.origin) && self.parts.log.newest_about(&subject, 1).await?.is_empty() {
            let (keeper, of) = (self.clone(), fork.clone());
            let code = Code::new("witness.log_forked").map_err(|rule| Fault::Bug { what: rule.to_owned() })?;
            self.parts
                .store
                .write::<_, NotCosigned, _>(move |transaction| {
                    Box::pin(async move { keeper.record(transaction, &of.domain, &of.shown, code, subject, now).await })
                })
                .await?;
        }
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(fork.origin.clone());
        (self.parts.forked)(&fork);
        Ok(())
    }

    fn told(&self, origin: &str) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).contains(origin)
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keeper({})", self.name)
    }
}
