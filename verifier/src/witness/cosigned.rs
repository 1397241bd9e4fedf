//! The newest head of our log with enough cosignatures, and waiting for one.

use std::sync::Arc;
use std::time::Duration;

use audit::checkpoint::Checkpoint;
use audit::note::NoteKey;
use sqlx::Row as _;
use tokio::sync::watch;

use super::cosigners::Cosigners;
use super::needed::Needed;
use crate::fault::Fault;
use crate::log::{Entry, Log, Logged, SignedHead};
use crate::store::{Store, StoreError, While, signed};

/// A head of our log that witnesses cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignedHead {
    pub(crate) head: SignedHead,
    pub(super) witnesses: Vec<NoteKey>,
}

impl CosignedHead {
    /// The checkpoint with its cosignature lines.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.head.note
    }

    /// Number of entries under it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// The keys that cosigned it, one of each witness.
    #[must_use]
    pub fn witnesses(&self) -> &[NoteKey] {
        &self.witnesses
    }
}

/// Longest that an answer waits for its quorum.
pub const QUORUM_WITHIN: Duration = Duration::from_secs(5);

/// How many witnesses must have cosigned before anything is released, and what they have.
#[derive(Debug, Clone)]
pub struct Quorum {
    needed: Needed,
    within: Duration,
    newest: watch::Receiver<Option<Arc<CosignedHead>>>,
    cosigners: Cosigners,
}

impl Quorum {
    /// `needed` of those whose cosignatures are in `newest`, waited for `within`. 0 is a lab's.
    #[must_use]
    pub fn of(needed: impl Into<Needed>, within: Duration, newest: watch::Receiver<Option<Arc<CosignedHead>>>) -> Self {
        Self { needed: needed.into(), within, newest, cosigners: Cosigners::default() }
    }

    /// The same, of these witnesses.
    #[must_use]
    pub fn among(self, cosigners: Cosigners) -> Self {
        Self { cosigners, ..self }
    }

    /// What each witness last did.
    #[must_use]
    pub const fn cosigners(&self) -> &Cosigners {
        &self.cosigners
    }

    /// How many must cosign, and how many of these do not now.
    #[must_use]
    pub fn missing(&self) -> (usize, usize) {
        let needed = self.needed.count();
        (needed, needed.saturating_sub(self.cosigners.cosigning()))
    }

    /// The newest head with enough cosignatures, once there is one.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<CosignedHead>> {
        self.newest.borrow().clone()
    }

    /// As [`Self::newest`], once this process has counted its witnesses.
    #[must_use]
    pub fn counted(&self) -> Option<Arc<CosignedHead>> {
        self.newest().filter(|cosigned| !cosigned.witnesses.is_empty())
    }

    /// The receipt that an entry is answered with: under a head that enough witnesses cosigned.
    ///
    /// # Errors
    /// [`Fault::WitnessQuorum`] when there is none in time; then nothing may be released.
    pub async fn receipt(&self, log: &Log, logged: &Logged) -> Result<Logged, Fault> {
        let needed = self.needed.count();
        if needed == 0 {
            return Ok(logged.clone());
        }
        let mut newest = self.newest.clone();
        let over = |cosigned: &Option<Arc<CosignedHead>>| {
            cosigned.as_ref().is_some_and(|cosigned| cosigned.head.size > logged.index)
        };
        let missing = || Fault::WitnessQuorum { needed };
        let waited = tokio::time::timeout(self.within, newest.wait_for(over)).await;
        let cosigned = waited.ok().and_then(Result::ok).and_then(|cosigned| cosigned.clone()).ok_or_else(missing)?;
        if cosigned.witnesses.len() < needed {
            return Err(missing());
        }
        let entry = Entry { index: logged.index, bytes: logged.receipt.entry.to_vec() };
        Ok(log.prove_under(&entry, &cosigned.head)?)
    }
}

/// The newest cosigned checkpoint that was stored. Its witnesses are not counted again: it is published, and nothing is
/// released under it.
///
/// # Errors
/// [`StoreError::RolledBack`] when it speaks of more entries than our log has.
pub async fn stored(store: &Store, log: &Log) -> Result<Option<CosignedHead>, StoreError> {
    let doing = "reading the cosigned checkpoint";
    let row = sqlx::query("SELECT note FROM cosigned_checkpoint WHERE id = 1");
    let Some(row) = row.fetch_optional(store.reads()).await.doing(doing)? else { return Ok(None) };
    let note: String = row.try_get("note").doing(doing)?;
    let checkpoint = Checkpoint::claimed(note.as_bytes())
        .map_err(|_| StoreError::Corrupt { what: "the cosigned checkpoint".to_owned() })?;
    if checkpoint.size > log.size() {
        let what = "log size".to_owned();
        return Err(StoreError::RolledBack { what, found: log.size(), published: checkpoint.size });
    }
    Ok(Some(CosignedHead {
        head: SignedHead { note, size: checkpoint.size, root: checkpoint.root },
        witnesses: Vec::new(),
    }))
}

/// Stores what is newest, again and again. Nobody waits for it: witnesses hold what they cosigned.
pub(super) async fn keep(store: Store, mut newest: watch::Receiver<Option<Arc<CosignedHead>>>) {
    while newest.changed().await.is_ok() {
        let Some(cosigned) = newest.borrow_and_update().clone() else { continue };
        let kept = store.write::<_, StoreError, _>(move |transaction| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO cosigned_checkpoint (id, size, note) VALUES (1, $1, $2) \
                     ON CONFLICT (id) DO UPDATE SET size = excluded.size, note = excluded.note \
                     WHERE excluded.size >= cosigned_checkpoint.size",
                )
                .bind(signed(cosigned.head.size)?)
                .bind(cosigned.head.note.as_str())
                .execute(transaction.connection())
                .await
                .doing("storing the cosigned checkpoint")?;
                Ok(())
            })
        });
        if let Err(fault) = kept.await {
            tracing::warn!(code = fault.code(), %fault, "the cosigned checkpoint is not stored");
        }
        tokio::time::sleep(KEEP_EVERY).await;
    }
}

/// Shortest time between two of them.
const KEEP_EVERY: Duration = Duration::from_secs(1);
