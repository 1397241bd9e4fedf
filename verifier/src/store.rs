//! Where everything durable lives: one schema over SQLite or PostgreSQL, one
//! writer task per process, group commit.
//!
//! Rows are untrusted for integrity: whatever matters is signed, or anchored in
//! the log by digest, and is checked again when it is read.

mod database;
mod error;
mod job;
mod lease;
mod lock;
mod writer;

use futures_util::future::BoxFuture;
use sqlx::AnyPool;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};

pub use database::{Database, Engine, StoreSettings, create};
pub use error::StoreError;
pub use job::{Committed, NewEntry, Transaction, WorkError};
pub use lock::StateLock;

pub(crate) use database::{MIGRATIONS, migrate, read_settings, version as schema_version};
pub(crate) use error::While;
pub(crate) use job::Job;
pub(crate) use lease::WriterLease;
pub(crate) use writer::{Writer, read_head, signed, unsigned};

use crate::log::Logged;

/// Whether store and log can be written right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The last group was committed, signed and answered.
    Serving,
    /// The last group was not; nothing is released until one is.
    Failing(StoreError),
}

/// A handle on the store. Cheap to clone; the writer stops with the last one.
#[derive(Debug, Clone)]
pub struct Store {
    reads: AnyPool,
    jobs: mpsc::Sender<Box<dyn Job>>,
    health: watch::Receiver<Health>,
}

impl Store {
    pub(crate) fn new(reads: AnyPool, jobs: mpsc::Sender<Box<dyn Job>>, health: watch::Receiver<Health>) -> Self {
        Self { reads, jobs, health }
    }

    /// Runs `work` in a savepoint of the next group commit and answers when that
    /// commit is durable and every entry it logged has a receipt under a signed head.
    ///
    /// An error from `work` undoes its own writes and its entries. A fault of
    /// the store means the caller must act as if nothing had happened: nothing
    /// may be released on a commit whose outcome is unknown.
    pub async fn write<T, E, F>(&self, work: F) -> Result<Committed<T>, E>
    where
        T: Send + 'static,
        E: WorkError,
        F: for<'t> FnOnce(&'t mut Transaction<'_>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = job::Work::new(work, reply);
        self.jobs.send(Box::new(job)).await.map_err(|_| StoreError::Stopped)?;
        Ok(answer.await.map_err(|_| StoreError::Stopped)??.proven()?)
    }

    /// Appends entries that change no table.
    pub async fn append(&self, entries: Vec<NewEntry>) -> Result<Vec<Logged>, StoreError> {
        if let Some(entry) = entries.iter().find(|entry| entry.bytes.len() > job::ENTRY_CAP_BYTES) {
            return Err(StoreError::EntryTooLarge { bytes: entry.bytes.len() });
        }
        let (reply, answer) = oneshot::channel();
        let job = job::Append::new(entries, reply);
        self.jobs.send(Box::new(job)).await.map_err(|_| StoreError::Stopped)?;
        Ok(answer.await.map_err(|_| StoreError::Stopped)??.proven()?.logged)
    }

    /// Connections for reads.
    pub(crate) fn reads(&self) -> &AnyPool {
        &self.reads
    }

    /// Whether the last commit succeeded; changes wake a waiting reader.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }
}

/// Seconds since the epoch, as the wall clock has them.
pub(crate) fn unix_now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}
