//! One unit of work for the writer: what to do inside the group's transaction,
//! and whom to tell after the commit.

use std::sync::Arc;

use audit::tlog::{TreeHash, leaf_hash};
use evidence::digest::Sha256Digest;
use futures_util::future::BoxFuture;
use sqlx::AnyConnection;
use tokio::sync::oneshot;

use super::error::StoreError;
use crate::log::{Logged, Published};

/// What a piece of work sees of the group commit it is part of.
///
/// It has a savepoint of its own: when it returns an error its own writes are
/// undone and the rest of the group goes on.
#[derive(Debug)]
pub struct Transaction<'g> {
    connection: &'g mut AnyConnection,
    first_index: u64,
    entries: Vec<NewEntry>,
}

/// An entry about to be logged, and the names under which it can be found. Hashed by whoever makes it: the one writer, whom
/// everybody waits for, need not.
#[derive(Debug, Clone)]
pub struct NewEntry {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Sha256Digest,
    pub(crate) leaf: TreeHash,
    pub(crate) subjects: Vec<String>,
}

impl NewEntry {
    /// `bytes` become the log entry exactly as they are (a lineage record).
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        let (digest, leaf) = (Sha256Digest::of(&bytes), leaf_hash(&bytes));
        Self { bytes, digest, leaf, subjects: Vec::new() }
    }

    /// Also lists the entry under a subject: an artifact id, a node id.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subjects.push(subject.into());
        self
    }
}

impl<'g> Transaction<'g> {
    pub(crate) fn new(connection: &'g mut AnyConnection, first_index: u64) -> Self {
        Self { connection, first_index, entries: Vec::new() }
    }

    /// The connection, inside the savepoint.
    pub fn connection(&mut self) -> &mut AnyConnection {
        self.connection
    }

    /// Logs an entry with this commit and says the index it will have.
    pub fn append(&mut self, entry: NewEntry) -> Result<u64, StoreError> {
        if entry.bytes.len() > ENTRY_CAP_BYTES {
            return Err(StoreError::EntryTooLarge { bytes: entry.bytes.len() });
        }
        let index = self.first_index.saturating_add(length(&self.entries));
        self.entries.push(entry);
        Ok(index)
    }

    pub(crate) fn into_entries(self) -> Vec<NewEntry> {
        self.entries
    }
}

/// What work left behind, told only after the commit is durable and, where it
/// logged something, the checkpoint over it is signed.
#[derive(Debug, Clone)]
pub struct Committed<T> {
    /// What the work returned.
    pub value: T,
    /// One per entry it logged, in order.
    pub logged: Vec<Logged>,
}

/// What the publisher answers with: where the entries of a piece of work stand, and the signed head over them. The caller
/// makes its receipts of it, in its own time.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    value: T,
    first: u64,
    count: u64,
    published: Arc<Published>,
}

impl<T> Answered<T> {
    /// With a receipt for each entry.
    pub(crate) fn proven(self) -> Result<Committed<T>, StoreError> {
        let logged = self.published.receipts(self.first, self.count)?;
        Ok(Committed { value: self.value, logged })
    }
}

/// What work ends with when it does not succeed: a refusal of its own, or a fault of the store that it met.
pub trait WorkError: From<StoreError> + Send + 'static {
    /// The store's fault, if it was one.
    fn store_fault(&self) -> Option<&StoreError>;
}

impl WorkError for StoreError {
    fn store_fault(&self) -> Option<&StoreError> {
        Some(self)
    }
}

/// How a piece of work ended, inside its savepoint.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Done: its writes stay.
    Accepted,
    /// Refused by itself: undo them.
    Refused,
    /// The store failed under it: undo them.
    Met(StoreError),
}

/// A unit of work as the writer sees it.
pub(crate) trait Job: Send {
    /// Entries of a job that touches no table; nothing when it must run.
    fn plain_entries(&mut self) -> Option<Vec<NewEntry>>;
    /// Runs inside a savepoint.
    fn run<'t>(&'t mut self, transaction: &'t mut Transaction<'_>) -> BoxFuture<'t, Ended>;
    /// Learns which indices its entries got.
    fn placed(&mut self, first: u64, count: u64);
    /// Tells the caller.
    fn finish(self: Box<Self>, outcome: Result<&Arc<Published>, StoreError>);
}

/// Work with its own types for answer and refusal.
pub(crate) struct Work<T, E, F> {
    work: Option<F>,
    outcome: Option<Result<T, E>>,
    first: u64,
    count: u64,
    reply: oneshot::Sender<Result<Answered<T>, E>>,
}

impl<T, E, F> Work<T, E, F> {
    pub(crate) fn new(work: F, reply: oneshot::Sender<Result<Answered<T>, E>>) -> Self {
        Self { work: Some(work), outcome: None, first: 0, count: 0, reply }
    }
}

impl<T, E, F> Job for Work<T, E, F>
where
    T: Send + 'static,
    E: WorkError,
    F: for<'t> FnOnce(&'t mut Transaction<'_>) -> BoxFuture<'t, Result<T, E>> + Send + 'static,
{
    fn plain_entries(&mut self) -> Option<Vec<NewEntry>> {
        None
    }

    fn run<'t>(&'t mut self, transaction: &'t mut Transaction<'_>) -> BoxFuture<'t, Ended> {
        Box::pin(async move {
            let outcome = match self.work.take() {
                Some(work) => work(transaction).await,
                None => Err(StoreError::Stopped.into()),
            };
            let ended = match outcome.as_ref().map_err(WorkError::store_fault) {
                Ok(_) => Ended::Accepted,
                Err(None) => Ended::Refused,
                Err(Some(fault)) => Ended::Met(fault.clone()),
            };
            self.outcome = Some(outcome);
            ended
        })
    }

    fn placed(&mut self, first: u64, count: u64) {
        self.first = first;
        self.count = count;
    }

    fn finish(self: Box<Self>, outcome: Result<&Arc<Published>, StoreError>) {
        let answer = match (outcome, self.outcome) {
            (Err(fault), _) => Err(fault.into()),
            (Ok(_), None) => Err(StoreError::Stopped.into()),
            (Ok(_), Some(Err(refused))) => Err(refused),
            (Ok(published), Some(Ok(value))) => {
                Ok(Answered { value, first: self.first, count: self.count, published: published.clone() })
            }
        };
        // A caller that went away does not undo a commit.
        drop(self.reply.send(answer));
    }
}

/// Entries alone: no table, no savepoint.
pub(crate) struct Append {
    entries: Option<Vec<NewEntry>>,
    first: u64,
    count: u64,
    reply: oneshot::Sender<Result<Answered<()>, StoreError>>,
}

impl Append {
    pub(crate) fn new(entries: Vec<NewEntry>, reply: oneshot::Sender<Result<Answered<()>, StoreError>>) -> Self {
        Self { entries: Some(entries), first: 0, count: 0, reply }
    }
}

impl Job for Append {
    fn plain_entries(&mut self) -> Option<Vec<NewEntry>> {
        self.entries.take()
    }

    fn run<'t>(&'t mut self, _: &'t mut Transaction<'_>) -> BoxFuture<'t, Ended> {
        Box::pin(std::future::ready(Ended::Accepted))
    }

    fn placed(&mut self, first: u64, count: u64) {
        self.first = first;
        self.count = count;
    }

    fn finish(self: Box<Self>, outcome: Result<&Arc<Published>, StoreError>) {
        let (first, count) = (self.first, self.count);
        let answer = outcome.map(|published| Answered { value: (), first, count, published: published.clone() });
        drop(self.reply.send(answer));
    }
}

pub(crate) fn length<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// C2SP tlog-tiles: entry bundles give each entry a 16-bit length.
pub(crate) const ENTRY_CAP_BYTES: usize = 65_535;
