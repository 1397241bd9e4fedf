//! Lineage as a tree: from any record back to its node's origin, and on to everything that came of it.
//!
//! The records of a node form one chain ([`crate::lineage`]); whoever reads it wants executions. So a step of an execution
//! hangs from its intent, an intent from the grant of its parent that it names or, without one, from the enrolment, and
//! what ends everything on a node hangs from each execution that it ended.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    digest::Sha256Digest,
    names::{DomainName, NodeId},
};

use crate::{
    proof::Step,
    record::{LineageRecord, RecordBody, RecordKind},
};

/// A record and what it hangs from. Places are positions in [`Tree::leaves`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The record.
    pub step: Step,
    /// What it hangs from: nothing for an origin, several for what ended several executions.
    pub stems: Vec<usize>,
    /// What it follows from besides, in other domains' logs.
    pub also: Vec<usize>,
    /// What hangs from it, oldest first.
    pub bears: Vec<usize>,
    /// Records of other domains that it follows from and that are not here.
    pub absent: Vec<(DomainName, Sha256Digest)>,
}

/// Records, each hung where it belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    leaves: Vec<Leaf>,
}

/// One line of a drawing: a record, or several renewals with nothing between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Places of its records, oldest first; one, or the renewals.
    pub leaves: Vec<usize>,
    /// Row that it hangs from.
    pub stem: Option<usize>,
    /// How far from the origin.
    pub depth: usize,
    /// The same record stands in a row before this one, under another execution.
    pub again: bool,
}

/// What is known of a node's executions so far.
#[derive(Default)]
struct Branch {
    enrolment: Option<usize>,
    intents: BTreeMap<Sha256Digest, usize>,
    live: BTreeSet<Sha256Digest>,
    artifacts: BTreeMap<[u8; 16], usize>,
}

impl Tree {
    /// Hangs records; those of one domain may be a part of its log. Nothing is verified here.
    #[must_use]
    pub fn of(mut steps: Vec<Step>) -> Self {
        steps.sort_by(|a, b| (&a.record.domain, a.index).cmp(&(&b.record.domain, b.index)));
        steps.dedup_by(|a, b| a.digest == b.digest);
        let by_digest: BTreeMap<_, _> = steps.iter().enumerate().map(|(at, step)| (step.digest, at)).collect();
        let mut branches: BTreeMap<(DomainName, NodeId), Branch> = BTreeMap::new();
        let mut leaves: Vec<Leaf> = Vec::with_capacity(steps.len());
        for (at, step) in steps.into_iter().enumerate() {
            let record = &step.record;
            let named = record.elsewhere.iter().flat_map(|(domain, all)| all.iter().map(move |one| (domain, one)));
            let (also, absent): (Vec<_>, Vec<_>) = named.partition(|(_, digest)| by_digest.contains_key(*digest));
            let also: Vec<usize> = also.into_iter().filter_map(|(_, digest)| by_digest.get(digest).copied()).collect();
            let absent = absent.into_iter().map(|(domain, digest)| (domain.clone(), *digest)).collect();
            let stems = match &record.node {
                Some(node) => {
                    let branch = branches.entry((record.domain.clone(), node.clone())).or_default();
                    branch.hang(at, record, &by_digest, &also)
                }
                None => Vec::new(),
            };
            let also = also.into_iter().filter(|other| !stems.contains(other)).collect();
            leaves.push(Leaf { step, stems, also, bears: Vec::new(), absent });
        }
        let mut tree = Self { leaves };
        tree.bear();
        tree
    }

    /// Every record, by domain and index.
    #[must_use]
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    fn bear(&mut self) {
        let stems: Vec<_> = self.leaves.iter().map(|leaf| leaf.stems.clone()).collect();
        for (at, stems) in stems.into_iter().enumerate() {
            for stem in stems {
                if let Some(leaf) = self.leaves.get_mut(stem) {
                    leaf.bears.push(at);
                }
            }
        }
        let age: Vec<_> = self.leaves.iter().map(|leaf| (leaf.step.record.at, leaf.step.index)).collect();
        for leaf in &mut self.leaves {
            leaf.bears.sort_by_key(|at| age.get(*at).copied());
        }
    }

    /// Places of the records that an id names: a log index, a record, intent or other subject by digest, a node by name;
    /// by an artifact's id the intent that it authorizes, where it is here.
    #[must_use]
    pub fn about(&self, id: &str) -> BTreeSet<usize> {
        let index = id.parse::<u64>().ok();
        let digest = id.parse::<Sha256Digest>().ok();
        let artifact = hex::decode(id).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let named = |leaf: &Leaf| {
            let record = &leaf.step.record;
            index == Some(leaf.step.index)
                || digest.is_some_and(|digest| digest == leaf.step.digest || digest == record.subject)
                || record.node.as_ref().is_some_and(|node| node.as_str() == id)
        };
        let of_artifact = |at: usize, leaf: &Leaf| match names_artifact(&leaf.step.record.body) {
            Some(of) if Some(of) == artifact => leaf.stems.first().copied().or(Some(at)),
            Some(_) | None => None,
        };
        let leaves = self.leaves.iter().enumerate();
        leaves.filter_map(|(at, leaf)| if named(leaf) { Some(at) } else { of_artifact(at, leaf) }).collect()
    }

    /// These records, everything that they came of and everything that came of them.
    #[must_use]
    pub fn lineage(&self, starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut taken = self.reached(starts, |leaf| &leaf.stems);
        taken.extend(self.reached(starts, |leaf| &leaf.bears));
        taken
    }

    fn reached(&self, starts: &BTreeSet<usize>, next: impl Fn(&Leaf) -> &Vec<usize>) -> BTreeSet<usize> {
        let mut taken = BTreeSet::new();
        let mut waiting: Vec<usize> = starts.iter().copied().collect();
        while let Some(at) = waiting.pop() {
            if taken.insert(at) {
                waiting.extend(self.leaves.get(at).into_iter().flat_map(|leaf| next(leaf).iter().copied()));
            }
        }
        taken
    }

    /// The drawing of some of the records, origins first, each followed by what hangs from it.
    #[must_use]
    pub fn rows(&self, taken: &BTreeSet<usize>) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut drawn = BTreeSet::new();
        let is_root =
            |at: &&usize| self.leaves.get(**at).is_some_and(|leaf| !leaf.stems.iter().any(|stem| taken.contains(stem)));
        // (places, row it hangs from, depth); the last is drawn next.
        let mut waiting: Vec<(Vec<usize>, Option<usize>, usize)> =
            taken.iter().rev().filter(is_root).map(|at| (vec![*at], None, 0)).collect();
        while let Some((places, stem, depth)) = waiting.pop() {
            let again = places.iter().filter(|at| drawn.insert(**at)).count() == 0;
            let row = rows.len();
            if !again {
                let below = places.iter().filter_map(|at| self.leaves.get(*at)).flat_map(|leaf| &leaf.bears);
                let below = self.gathered(below.copied().filter(|at| taken.contains(at)));
                waiting.extend(below.into_iter().rev().map(|places| (places, Some(row), depth.saturating_add(1))));
            }
            rows.push(Row { leaves: places, stem, depth, again });
        }
        rows
    }

    /// Renewals of one execution with nothing between them and nothing hanging from them share a row.
    fn gathered(&self, below: impl Iterator<Item = usize>) -> Vec<Vec<usize>> {
        let mut gathered: Vec<Vec<usize>> = Vec::new();
        let plain = |at: usize| {
            let leaf = self.leaves.get(at)?;
            let record = &leaf.step.record;
            (record.kind() == RecordKind::Renewal && leaf.bears.is_empty())
                .then(|| (record.domain.clone(), names_artifact(&record.body)))
        };
        for at in below {
            let joins = gathered.last().and_then(|row| row.last()).is_some_and(|before| {
                let (before, this) = (plain(*before), plain(at));
                before.is_some() && before == this
            });
            match gathered.last_mut().filter(|_| joins) {
                Some(row) => row.push(at),
                None => gathered.push(vec![at]),
            }
        }
        gathered
    }
}

impl Branch {
    /// Where the next record of a node hangs.
    fn hang(
        &mut self,
        at: usize,
        record: &LineageRecord,
        by_digest: &BTreeMap<Sha256Digest, usize>,
        also: &[usize],
    ) -> Vec<usize> {
        let origin: Vec<usize> = self.enrolment.into_iter().collect();
        let of_intent = |branch: &Self| branch.intents.get(&record.subject).map(|at| vec![*at]);
        match &record.body {
            RecordBody::Enrolment { .. } => {
                *self = Self { enrolment: Some(at), ..Self::default() };
                Vec::new()
            }
            RecordBody::Intent { intent } => {
                self.intents.insert(*intent, at);
                // The first parent is the node's record before; any other is by what the parent was granted.
                let parents = record.parents.iter().skip(1).filter_map(|parent| by_digest.get(parent).copied());
                let parents: Vec<usize> = parents.chain(also.iter().copied()).collect();
                if parents.is_empty() { origin } else { parents }
            }
            RecordBody::Authorization { artifact, .. } => {
                self.live.insert(record.subject);
                self.artifacts.insert(artifact.into_array(), at);
                of_intent(self).unwrap_or(origin)
            }
            RecordBody::Release { .. }
            | RecordBody::JwtSvid { .. }
            | RecordBody::Renewal { .. }
            | RecordBody::Denial { .. } => of_intent(self).unwrap_or(origin),
            RecordBody::End { .. } => {
                self.live.remove(&record.subject);
                of_intent(self).unwrap_or(origin)
            }
            RecordBody::Alarm { artifact, .. } => {
                self.artifacts.get(&artifact.into_array()).map_or(origin, |granted| vec![*granted])
            }
            RecordBody::Halt { .. } | RecordBody::Quarantine { .. } | RecordBody::Restart { .. } => {
                let ended: Vec<usize> = std::mem::take(&mut self.live)
                    .iter()
                    .filter_map(|intent| self.intents.get(intent).copied())
                    .collect();
                if ended.is_empty() { origin } else { ended }
            }
            RecordBody::Admission { .. } => Vec::new(),
            RecordBody::Capture { .. }
            | RecordBody::Readmission { .. }
            | RecordBody::Staging { .. }
            | RecordBody::Activation { .. }
            | RecordBody::Supersession { .. }
            | RecordBody::GovernanceState { .. }
            | RecordBody::Revocation { .. }
            | RecordBody::Federation { .. } => origin,
        }
    }
}

/// The artifact id that a record is about.
const fn names_artifact(body: &RecordBody) -> Option<[u8; 16]> {
    match body {
        RecordBody::Authorization { artifact, .. }
        | RecordBody::Renewal { artifact, .. }
        | RecordBody::Release { artifact, .. }
        | RecordBody::JwtSvid { artifact, .. }
        | RecordBody::Alarm { artifact, .. } => Some(artifact.into_array()),
        RecordBody::Enrolment { .. }
        | RecordBody::Admission { .. }
        | RecordBody::Capture { .. }
        | RecordBody::Intent { .. }
        | RecordBody::Denial { .. }
        | RecordBody::Halt { .. }
        | RecordBody::End { .. }
        | RecordBody::Quarantine { .. }
        | RecordBody::Restart { .. }
        | RecordBody::Readmission { .. }
        | RecordBody::Staging { .. }
        | RecordBody::Activation { .. }
        | RecordBody::Supersession { .. }
        | RecordBody::GovernanceState { .. }
        | RecordBody::Revocation { .. }
        | RecordBody::Federation { .. } => None,
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
