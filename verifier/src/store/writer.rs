//! The one task that writes: it takes whatever is waiting, runs each piece of
//! work in a savepoint of one transaction, moves the log head by
//! compare-and-swap, commits once, and hands the group to the publisher.
//!
//! Order (fixed): durable commit, then signature, then answer; files follow.

use std::sync::LazyLock;

use sqlx::{AnyConnection, Connection, Row};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use audit::tlog::{CompactRange, TreeHash};

use super::database::Database;
use super::error::{StoreError, While};
use super::job::{Ended, Job, NewEntry, Transaction, length};
use super::lease::{RENEW_AFTER, WriterLease};
use super::{Health, unix_now};
use crate::log::{Due, Group, Publication};

/// The writer's own state; it lives in one task.
pub(crate) struct Writer {
    database: Database,
    connection: Option<AnyConnection>,
    lease: WriterLease,
    tree: CompactRange,
    /// The tree of a commit whose outcome the driver could not tell.
    unknown: Option<CompactRange>,
    groups: mpsc::Sender<Group>,
    /// How many groups were passed on and are not answered yet.
    due: watch::Sender<usize>,
    health: watch::Sender<Health>,
}

impl Writer {
    /// A writer over a recovered tree, holding its lease.
    pub(crate) fn new(
        database: Database,
        connection: AnyConnection,
        lease: WriterLease,
        tree: CompactRange,
        groups: mpsc::Sender<Group>,
        health: watch::Sender<Health>,
    ) -> Self {
        let due = watch::Sender::new(0);
        Self { database, connection: Some(connection), lease, tree, unknown: None, groups, due, health }
    }

    /// Runs until every handle on the store is gone, or the lease is lost.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut expected = 0;
        loop {
            let waiting = match timeout(RENEW_AFTER, jobs.recv()).await {
                Err(_) => Vec::new(),
                Ok(None) => break,
                Ok(Some(first)) => gather(first, &mut jobs, self.due.subscribe(), expected).await,
            };
            expected = waiting.len();
            if let Err(StoreError::LeaseLost) = self.turn(waiting).await {
                tracing::error!("writer lease lost: this process writes no more");
                break;
            }
        }
        if let Some(mut connection) = self.connection.take() {
            drop(self.lease.release(&mut connection).await);
            drop(connection.close().await);
        }
    }

    /// One group: commits it and passes it on, or tells every caller why not.
    async fn turn(&mut self, mut jobs: Vec<Box<dyn Job>>) -> Result<(), StoreError> {
        match self.commit(&mut jobs).await {
            Ok(publication) => {
                let group = Group { jobs, publication, due: Due::in_addition(&self.due) };
                if let Err(mpsc::error::SendError(group)) = self.groups.send(group).await {
                    group.fail(&StoreError::Stopped);
                }
                Ok(())
            }
            Err(fault) => {
                tracing::error!(code = fault.code(), %fault, "group commit failed");
                self.health.send_replace(Health::Failing(fault.clone()));
                for job in jobs {
                    job.finish(Err(fault.clone()));
                }
                Err(fault)
            }
        }
    }

    async fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Publication, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reconnect().await?,
        };
        let (tree, entries) = self.write_group(&mut connection, jobs).await?;
        // Only a connection that finished a group is used again: after any
        // fault its transaction state is not ours to guess.
        self.connection = Some(connection);
        let from = self.tree.size();
        self.tree = tree;
        Ok(Publication { from, size: self.tree.size(), root: self.tree.root(), entries })
    }

    async fn write_group(
        &mut self,
        connection: &mut AnyConnection,
        jobs: &mut [Box<dyn Job>],
    ) -> Result<(CompactRange, Vec<Vec<u8>>), StoreError> {
        let doing = "committing to the store";
        let now = unix_now();
        let mut transaction = connection.begin().await.doing(doing)?;
        self.lease.prove(&mut transaction, now).await?;
        let mut entries = Vec::new();
        for job in jobs {
            let first = self.tree.size().saturating_add(length(&entries));
            let added = match job.plain_entries() {
                Some(added) => added,
                None => run_in_savepoint(&mut transaction, job.as_mut(), first).await?,
            };
            job.placed(first, length(&added));
            entries.extend(added);
        }
        let mut tree = self.tree.clone();
        for entry in &entries {
            tree.append(entry.leaf).map_err(|denial| StoreError::Corrupt { what: denial.to_string() })?;
        }
        if !entries.is_empty() {
            insert_entries(&mut transaction, self.tree.size(), &entries).await?;
            move_head(&mut transaction, &self.tree, &tree).await?;
        }
        // From here until the answer the outcome may be unknown.
        self.unknown = Some(tree.clone());
        transaction.commit().await.doing(doing)?;
        self.unknown = None;
        Ok((tree, entries.into_iter().map(|entry| entry.bytes).collect()))
    }

    /// A new connection after a fault. A commit whose answer was lost either
    /// happened or did not: the stored head says which. Its callers were told
    /// "not done" and nothing was released on its strength.
    async fn reconnect(&mut self) -> Result<AnyConnection, StoreError> {
        let mut connection = self.database.connect(false).await?;
        let (size, root) = read_head(&mut connection).await?;
        let at_head = |tree: &CompactRange| tree.size() == size && tree.root() == root;
        let adopted = match self.unknown.take() {
            Some(unknown) if at_head(&unknown) => Some(unknown),
            _ if at_head(&self.tree) => None,
            other => {
                self.unknown = other;
                return Err(StoreError::Corrupt {
                    what: format!("the stored log head (size {size}) is not one this process made"),
                });
            }
        };
        if let Some(tree) = adopted {
            // The publisher reads the entries it has not seen from the table.
            self.tree = tree;
        }
        Ok(connection)
    }
}

/// The first piece of work and what comes beside it. Those who are being answered come back one by one, and one commit
/// for all of them is worth the wait for their answers; then, while fewer came than last time, another look or two.
async fn gather(
    first: Box<dyn Job>,
    jobs: &mut mpsc::Receiver<Box<dyn Job>>,
    mut due: watch::Receiver<usize>,
    expected: usize,
) -> Vec<Box<dyn Job>> {
    let mut group = vec![first];
    let mut looks = LOOKS;
    loop {
        tokio::task::yield_now().await;
        let before = group.len();
        while group.len() < GROUP_CAP
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        if group.len() == GROUP_CAP {
            return group;
        }
        let grew = group.len() > before;
        if *due.borrow_and_update() > 0 {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => group.push(job),
                    None => return group,
                },
                _ = due.changed() => {}
            }
        } else if grew {
            looks = LOOKS;
        } else if group.len() < expected && looks > 0 {
            looks = looks.saturating_sub(1);
        } else {
            return group;
        }
    }
}

async fn run_in_savepoint(
    transaction: &mut AnyConnection,
    job: &mut dyn Job,
    first: u64,
) -> Result<Vec<NewEntry>, StoreError> {
    let doing = "running a savepoint";
    let mut savepoint = transaction.begin().await.doing(doing)?;
    let mut view = Transaction::new(&mut savepoint, first);
    let ended = job.run(&mut view).await;
    let entries = view.into_entries();
    let undone = match ended {
        Ended::Accepted => {
            savepoint.commit().await.doing(doing)?;
            return Ok(entries);
        }
        Ended::Refused => savepoint.rollback().await.doing(doing),
        // SQLite ends the whole transaction on some faults, a full disk among them, and with it the savepoint
        // (sqlite.org/lang_transaction.html §3.1). Then what the work met is the group's fault, not that nothing is left
        // to go back to.
        Ended::Met(fault) => savepoint.rollback().await.map_err(|_| fault),
    };
    undone.map(|()| Vec::new())
}

async fn insert_entries(connection: &mut AnyConnection, first: u64, entries: &[NewEntry]) -> Result<(), StoreError> {
    let doing = "inserting log entries";
    let numbered: Vec<(i64, &NewEntry)> =
        (first..).zip(entries).map(|(index, entry)| Ok((signed(index)?, entry))).collect::<Result<_, StoreError>>()?;
    for (statement, batch) in batches(&INSERT_ENTRIES, &numbered) {
        let mut query = sqlx::query(statement);
        for (index, entry) in batch {
            query = query.bind(index).bind(&entry.digest.as_bytes()[..]).bind(entry.bytes.as_slice());
        }
        query.execute(&mut *connection).await.doing(doing)?;
    }
    let listed = numbered.iter().flat_map(|(index, entry)| entry.subjects.iter().map(move |subject| (*index, subject)));
    for (statement, batch) in batches(&INSERT_SUBJECTS, &listed.collect::<Vec<_>>()) {
        let mut query = sqlx::query(statement);
        for (index, subject) in batch {
            query = query.bind(subject.as_str()).bind(index);
        }
        query.execute(&mut *connection).await.doing(doing)?;
    }
    Ok(())
}

/// Statements that insert that many rows, longest first.
type Inserts = [(usize, String); 6];

static INSERT_ENTRIES: LazyLock<Inserts> =
    LazyLock::new(|| inserts("INSERT INTO log_entries (idx, digest, bytes) VALUES", 3, ""));
static INSERT_SUBJECTS: LazyLock<Inserts> = LazyLock::new(|| {
    inserts("INSERT INTO log_subjects (subject, idx) VALUES", 2, " ON CONFLICT (subject, idx) DO NOTHING")
});

/// Rows go in batches of fixed sizes, so that few statements are prepared.
fn inserts(head: &str, columns: usize, tail: &str) -> Inserts {
    let row = |row: usize| {
        let first = row.saturating_mul(columns);
        let places: Vec<_> = (1..=columns).map(|column| format!("${}", first.saturating_add(column))).collect();
        format!("({})", places.join(", "))
    };
    [64, 16, 8, 4, 2, 1].map(|rows| {
        let values: Vec<_> = (0..rows).map(row).collect();
        (rows, format!("{head} {}{tail}", values.join(", ")))
    })
}

/// All rows, each batch with the statement that inserts it.
fn batches<'a, R>(inserts: &'static Inserts, mut rest: &'a [R]) -> impl Iterator<Item = (&'static str, &'a [R])> {
    std::iter::from_fn(move || {
        let (rows, statement) = inserts.iter().find(|(rows, _)| *rows <= rest.len())?;
        let (batch, after) = rest.split_at_checked(*rows)?;
        rest = after;
        Some((statement.as_str(), batch))
    })
}

async fn move_head(connection: &mut AnyConnection, old: &CompactRange, new: &CompactRange) -> Result<(), StoreError> {
    let doing = "moving the log head";
    let moved = sqlx::query("UPDATE log_head SET size = $1, root = $2 WHERE id = 1 AND size = $3")
        .bind(signed(new.size())?)
        .bind(new.root().0.to_vec())
        .bind(signed(old.size())?)
        .execute(connection)
        .await
        .doing(doing)?;
    if moved.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict { doing }) }
}

/// The stored log head.
pub(crate) async fn read_head(connection: &mut AnyConnection) -> Result<(u64, TreeHash), StoreError> {
    let doing = "reading the log head";
    let row = sqlx::query("SELECT size, root FROM log_head WHERE id = 1").fetch_one(connection).await.doing(doing)?;
    let size: i64 = row.try_get("size").doing(doing)?;
    let root: Vec<u8> = row.try_get("root").doing(doing)?;
    let root = <[u8; 32]>::try_from(root)
        .map_err(|_| StoreError::Corrupt { what: "the stored log root is not 32 bytes".to_owned() })?;
    Ok((unsigned(size)?, TreeHash(root)))
}

/// Figures are BIGINT in both engines; ours fit or the store is corrupt.
pub(crate) fn signed(figure: u64) -> Result<i64, StoreError> {
    i64::try_from(figure).map_err(|_| StoreError::Corrupt { what: format!("{figure} does not fit a BIGINT") })
}

/// The other way.
pub(crate) fn unsigned(figure: i64) -> Result<u64, StoreError> {
    u64::try_from(figure).map_err(|_| StoreError::Corrupt { what: format!("a stored figure is negative: {figure}") })
}

/// Most pieces of work in one commit: bounds the memory of a group.
const GROUP_CAP: usize = 256;
/// How often the writer looks again for those who were answered last, each time after everything else that is ready ran.
const LOOKS: u32 = 32;
