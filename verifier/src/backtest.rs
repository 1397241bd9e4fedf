//! What a candidate would have changed, as the service tells it page by page and the command line adds it up.

use std::collections::BTreeSet;

use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use policy::denial::Failure;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Most rows of each list: what comes beyond is counted, not listed.
const ROWS_CAP: usize = 10_000;

/// A page of logged decisions, newest first, judged again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Page {
    /// The candidate.
    pub candidate: Value,
    /// Time of the oldest entry that was looked at.
    pub reached: Option<UnixSeconds>,
    /// Where the next page ends; nothing when there is no more.
    pub next: Option<u64>,
    /// What came of it.
    pub found: Found,
}

/// What came of decisions that were made again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// How many of each.
    pub totals: Totals,
    /// What would be denied and was permitted.
    pub breaks: Vec<Break>,
    /// What would be permitted and was denied.
    pub mends: Vec<Mend>,
    /// What could not be judged.
    pub unjudged: Vec<Unjudged>,
}

/// How many decisions there were of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Decisions about nodes.
    pub decisions: u64,
    /// Permitted then and with the candidate.
    pub still_permitted: u64,
    /// Permitted then, denied with the candidate.
    pub broken: u64,
    /// Denied then and with the candidate, whatever the reason.
    pub still_denied: u64,
    /// Denied then, permitted with the candidate.
    pub mended: u64,
    /// Permitted then, and not to be judged again.
    pub permitted_unjudged: u64,
    /// Denied then, and not to be judged again.
    pub denied_unjudged: u64,
    /// Denied then without looking at evidence, or for what no candidate changes (a revocation, a halted node).
    pub denied_otherwise: u64,
    /// Rows beyond the cap of a list.
    pub unlisted: u64,
}

/// One reason for which a node would be denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    /// Whom.
    pub node: NodeId,
    /// Code of the denial.
    pub code: String,
    /// Path of the claim.
    pub claim: String,
    /// What it was.
    pub got: String,
    /// What would have been accepted.
    pub accepted: Vec<String>,
    /// By which set.
    pub reference: Value,
    /// What to do about it.
    pub hint: Option<String>,
    /// The decisions that it would have met.
    #[serde(flatten)]
    pub at: Entries,
}

/// A node that would be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mend {
    /// Whom.
    pub node: NodeId,
    /// Code of the denial then.
    pub code: String,
    /// The decisions that would have been others.
    #[serde(flatten)]
    pub at: Entries,
}

/// Why decisions could not be judged again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unjudged {
    /// Why.
    pub why: String,
    /// Which.
    #[serde(flatten)]
    pub at: Entries,
}

/// Some decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// How many.
    pub decisions: u64,
    /// Log index of the oldest.
    pub first_entry: u64,
    /// Log index of the newest.
    pub last_entry: u64,
}

impl Entries {
    /// One decision.
    #[must_use]
    pub fn one(index: u64) -> Self {
        Self { decisions: 1, first_entry: index, last_entry: index }
    }

    fn add(&mut self, other: Self) {
        self.decisions = self.decisions.saturating_add(other.decisions);
        self.first_entry = self.first_entry.min(other.first_entry);
        self.last_entry = self.last_entry.max(other.last_entry);
    }
}

impl Break {
    /// A failure of one decision.
    pub(crate) fn of(node: &NodeId, failure: Failure, index: u64) -> Self {
        let Failure { code, claim, got, accepted, reference, hint } = failure;
        let (node, code, reference) = (node.clone(), code.to_owned(), json!(reference));
        Self { node, code, claim, got, accepted, reference, hint, at: Entries::one(index) }
    }
}

impl Totals {
    fn add(&mut self, other: Self) {
        let sums = [
            (&mut self.decisions, other.decisions),
            (&mut self.still_permitted, other.still_permitted),
            (&mut self.broken, other.broken),
            (&mut self.still_denied, other.still_denied),
            (&mut self.mended, other.mended),
            (&mut self.permitted_unjudged, other.permitted_unjudged),
            (&mut self.denied_unjudged, other.denied_unjudged),
            (&mut self.denied_otherwise, other.denied_otherwise),
            (&mut self.unlisted, other.unlisted),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Found {
    /// Adds what another page found: one row for one node and reason, however many decisions it met.
    pub fn add(&mut self, other: Self) {
        self.totals.add(other.totals);
        let unlisted = &mut self.totals.unlisted;
        let same = |a: &Break, b: &Break| (&a.node, &a.code, &a.claim, &a.got) == (&b.node, &b.code, &b.claim, &b.got);
        merge(&mut self.breaks, other.breaks, same, |row| &mut row.at, unlisted);
        let same = |a: &Mend, b: &Mend| (&a.node, &a.code) == (&b.node, &b.code);
        merge(&mut self.mends, other.mends, same, |row| &mut row.at, unlisted);
        merge(&mut self.unjudged, other.unjudged, |a, b| a.why == b.why, |row| &mut row.at, unlisted);
    }

    /// How many nodes would be denied.
    #[must_use]
    pub fn nodes_broken(&self) -> usize {
        self.breaks.iter().map(|row| &row.node).collect::<BTreeSet<_>>().len()
    }
}

fn merge<T>(
    rows: &mut Vec<T>,
    more: Vec<T>,
    same: impl Fn(&T, &T) -> bool,
    at: impl Fn(&mut T) -> &mut Entries,
    unlisted: &mut u64,
) {
    for mut row in more {
        let entries = *at(&mut row);
        if let Some(known) = rows.iter_mut().find(|known| same(known, &row)) {
            at(known).add(entries);
        } else if rows.len() < ROWS_CAP {
            rows.push(row);
        } else {
            *unlisted = unlisted.saturating_add(1);
        }
    }
}

/// A candidate as it is told.
pub(crate) fn candidate(kind: &'static str, name: &str, digest: Sha256Digest, replaces: &[String]) -> Value {
    json!({ "kind": kind, "name": name, "digest": digest, "in_place_of": replaces })
}
