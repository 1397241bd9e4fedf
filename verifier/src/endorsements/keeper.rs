//! The rows of endorsements and their copy in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::digest::Sha256Digest;
use futures_util::FutureExt as _;

use super::key::EndorsementKey;
use super::recognise::Recognised;
use super::table::{self, Provenance, Source, Stored};
use crate::store::{Store, StoreError, Transaction, unix_now};

/// Most keys whose rows are kept in memory.
const KEPT_CAP: usize = 8 * 1024;
/// What is issued later than this from now is not stored: clocks differ, but not by more.
const AHEAD_S: u64 = 24 * 3600;

/// The rows and their copy in memory.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Store,
    versions: u32,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Moves with each write, so that a read that began before it is not kept.
    generation: u64,
    rows: HashMap<EndorsementKey, Arc<[Stored]>>,
}

impl Keeper {
    pub(super) fn new(store: Store, versions: u32) -> Self {
        Self { store, versions, kept: Mutex::default() }
    }

    /// The tables.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Stores what is not issued in the future, and says how many that were.
    pub(super) async fn put(&self, found: Vec<Recognised>, source: Source, origin: &str) -> Result<u64, StoreError> {
        let now = u64::try_from(unix_now()).unwrap_or_default();
        let storable = |endorsement: &Recognised| endorsement.window.issued_at <= now.saturating_add(AHEAD_S);
        let found: Vec<_> = found.into_iter().filter(storable).collect();
        let keys: Vec<_> = found.iter().map(|endorsement| endorsement.key.clone()).collect();
        let (versions, count) = (self.versions, u64::try_from(found.len()).unwrap_or(u64::MAX));
        let provenance = Provenance { source, origin: origin.to_owned(), obtained_at: now };
        let putting = self.store.write(move |transaction: &mut Transaction<'_>| {
            async move {
                for endorsement in &found {
                    table::put(transaction, endorsement, &provenance, versions).await?;
                }
                Ok::<_, StoreError>(())
            }
            .boxed()
        });
        putting.await?;
        keys.iter().for_each(|key| self.changed(Some(key)));
        Ok(count)
    }

    /// The rows of `key`, newest first.
    pub(super) async fn rows(&self, key: &EndorsementKey) -> Result<Arc<[Stored]>, StoreError> {
        let generation = {
            let kept = self.kept();
            if let Some(rows) = kept.rows.get(key) {
                return Ok(rows.clone());
            }
            kept.generation
        };
        let rows: Arc<[Stored]> = table::find(&self.store, key).await?.into();
        let mut kept = self.kept();
        // what is absent is not kept: anyone's evidence can ask for it
        if !rows.is_empty() && kept.generation == generation {
            if kept.rows.len() >= KEPT_CAP {
                kept.rows.clear();
            }
            kept.rows.insert(key.clone(), rows.clone());
        }
        Ok(rows)
    }

    /// Removes one endorsement.
    pub(super) async fn forget(&self, digest: Sha256Digest) -> Result<(), StoreError> {
        let removing = self.store.write(move |transaction: &mut Transaction<'_>| {
            async move { table::remove(transaction, &digest).await }.boxed()
        });
        removing.await?;
        self.changed(None);
        Ok(())
    }

    fn changed(&self, key: Option<&EndorsementKey>) {
        let mut kept = self.kept();
        kept.generation = kept.generation.wrapping_add(1);
        match key {
            Some(key) => drop(kept.rows.remove(key)),
            None => kept.rows.clear(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
