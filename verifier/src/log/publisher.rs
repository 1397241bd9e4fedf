//! After the commit: signs the head and answers; the files follow. Groups that
//! queued up share one signature.

use std::sync::Arc;

use audit::tlog::TreeHash;
use sqlx::AnyPool;
use tokio::sync::{mpsc, watch};

use super::shelf::Shelf;
use super::sign::CheckpointSigner;
use super::{Fresh, Published, corrupt, entries};
use crate::store::{Health, Job, StoreError};

/// What one commit added to the log.
#[derive(Debug)]
pub(crate) struct Publication {
    /// Size of the tree before it.
    pub(crate) from: u64,
    /// Size of the tree after it.
    pub(crate) size: u64,
    /// Root of the tree after it.
    pub(crate) root: TreeHash,
    /// The entries in between.
    pub(crate) entries: Vec<Vec<u8>>,
}

/// A commit and everyone who waits for it.
pub(crate) struct Group {
    pub(crate) jobs: Vec<Box<dyn Job>>,
    pub(crate) publication: Publication,
    /// Dropped when the last of them is answered.
    pub(crate) due: Due,
}

/// Counts the groups that wait for their answer, as long as it lives.
#[derive(Debug)]
pub(crate) struct Due(watch::Sender<usize>);

impl Due {
    /// One more.
    pub(crate) fn in_addition(groups: &watch::Sender<usize>) -> Self {
        groups.send_modify(|due| *due = due.saturating_add(1));
        Self(groups.clone())
    }
}

impl Drop for Due {
    fn drop(&mut self) {
        self.0.send_modify(|due| *due = due.saturating_sub(1));
    }
}

impl Group {
    /// Tells every caller of a fault.
    pub(crate) fn fail(self, fault: &StoreError) {
        for job in self.jobs {
            job.finish(Err(fault.clone()));
        }
    }
}

/// The publisher's own state; it lives in one task.
pub(crate) struct Publisher {
    pub(crate) signer: CheckpointSigner,
    pub(crate) reads: AnyPool,
    pub(crate) published: watch::Sender<Published>,
    pub(crate) shelf: Shelf,
    pub(crate) health: watch::Sender<Health>,
}

impl Publisher {
    /// Runs until the writer is gone, and everything signed is on disk.
    pub(crate) async fn run(mut self, mut groups: mpsc::Receiver<Group>) {
        loop {
            tokio::select! {
                group = groups.recv() => match group {
                    Some(first) => self.answer(first, &mut groups).await,
                    None => break,
                },
                () = self.shelf.go_on() => {}
            }
        }
        if let Err(fault) = self.shelf.finish().await {
            tracing::error!(code = fault.code(), %fault, "the last publication failed: the next start makes it again");
        }
    }

    async fn answer(&mut self, first: Group, groups: &mut mpsc::Receiver<Group>) {
        let mut waiting = vec![first];
        while let Ok(group) = groups.try_recv() {
            waiting.push(group);
        }
        let outcome = match self.sign(&mut waiting).await {
            Ok(signed) => self.shelf.keeps_up().await.map(|()| Arc::new(signed)),
            Err(fault) => Err(fault),
        };
        match outcome {
            Ok(signed) => {
                self.health.send_if_modified(|health| std::mem::replace(health, Health::Serving) != Health::Serving);
                for Group { jobs, due, .. } in waiting {
                    jobs.into_iter().for_each(|job| job.finish(Ok(&signed)));
                    drop(due);
                }
            }
            Err(fault) => {
                tracing::error!(code = fault.code(), %fault, "a committed group is not answered");
                self.health.send_replace(Health::Failing(fault.clone()));
                waiting.into_iter().for_each(|group| group.fail(&fault));
            }
        }
    }

    async fn sign(&mut self, groups: &mut [Group]) -> Result<Published, StoreError> {
        let current = self.published.borrow().clone();
        let Some((target, root)) = groups.last().map(|group| (group.publication.size, group.publication.root)) else {
            return Ok(current);
        };
        let size = current.tree.size();
        if target == size {
            return Ok(current);
        }
        let added: Vec<_> = self.added(groups, size, target).await?.into_iter().map(Arc::new).collect();
        let mut tree = current.tree;
        for entry in &added {
            tree.push(entry).map_err(corrupt)?;
        }
        // The second computation of the same root: signing stops on a difference.
        if tree.size() != target || tree.root() != root {
            return Err(StoreError::Corrupt {
                what: format!("the signed tree of {target} entries differs from the committed one"),
            });
        }
        let head = self.signer.sign(&tree)?;
        self.shelf.put(&added, tree.clone(), head.note.clone());
        if !self.shelf.is_failing() {
            // Their files are there, or will be before the tree outgrows what it keeps.
            tree.forget_old_tiles();
        }
        let fresh = Fresh { first: size, entries: Arc::new(added) };
        let signed = Published { tree, head, folder: self.shelf.folder().clone(), fresh };
        // Whoever reads the newest head needs no copy of what was added.
        self.published.send_replace(Published { fresh: Fresh::default(), ..signed.clone() });
        Ok(signed)
    }

    async fn added(&self, groups: &mut [Group], size: u64, target: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let first = groups.first().map_or(size, |group| group.publication.from);
        if first == size {
            let entries = groups.iter_mut().map(|group| std::mem::take(&mut group.publication.entries));
            return Ok(entries.flatten().collect());
        }
        // A signature failed before this one, or a commit's answer was lost:
        // what is missing is read back from the table.
        entries::range(&self.reads, size, target).await
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({} jobs)", self.jobs.len())
    }
}
