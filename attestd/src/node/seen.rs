//! What was seen of each domain's governance and log: kept before anything relies on it, and compared between domains.

use std::collections::BTreeMap;
use std::sync::Arc;

use evidence::names::DomainName;
use governance::halt::HaltReason;
use wire::bounded::OTHER_CHECKPOINTS_CAP;

use super::domain::Seen;
use super::{Node, lock};
use crate::clock::unix_now;
use crate::state::{StateDir, StateError};

/// What was seen of each domain's governance, and whether the file holds it.
pub(super) struct SeenMarks {
    newest: BTreeMap<DomainName, Seen>,
    is_kept: bool,
}

impl SeenMarks {
    pub(super) fn load(state: &StateDir) -> Result<Self, StateError> {
        Ok(Self { newest: state.read_cbor(SEEN)?.unwrap_or_default(), is_kept: true })
    }

    /// What was seen of one domain; nothing yet is the default.
    pub(super) fn of(&self, domain: &DomainName) -> Seen {
        self.newest.get(domain).cloned().unwrap_or_default()
    }

    /// Newest epoch of each domain.
    pub(super) fn epochs(&self) -> BTreeMap<DomainName, u64> {
        self.newest.iter().map(|(domain, seen)| (domain.clone(), seen.epoch)).collect()
    }
}

impl Node {
    /// What was seen of a domain's governance, durable when this returns.
    pub(super) fn remember_seen(&self, domain: &DomainName, newest: &Seen) -> Result<(), StateError> {
        self.note_seen(domain, newest);
        self.keep_seen()
    }

    /// The same, durable once [`Node::keep_heard`] returned.
    pub(super) fn note_seen(&self, domain: &DomainName, newest: &Seen) {
        let mut seen = lock(&self.seen);
        if seen.newest.get(domain) != Some(newest) {
            seen.newest.insert(domain.clone(), newest.clone());
            seen.is_kept = false;
        }
    }

    fn keep_seen(&self) -> Result<(), StateError> {
        let mut seen = lock(&self.seen);
        if !seen.is_kept {
            self.state.write_cbor(SEEN, &seen.newest)?;
            seen.is_kept = true;
        }
        Ok(())
    }

    /// Makes durable what domains said with their authorizations, one write for all of them, before anything is started on the
    /// strength of it.
    pub(super) fn keep_heard(&self) -> Result<(), StateError> {
        self.keep_seen()?;
        self.state.keep_lineage_heads()
    }

    /// Newest checkpoint of each other domain's log: what that domain shows here and what it shows to this one must be one log.
    pub(super) fn checkpoints_beside(&self, domain: &DomainName) -> Vec<Vec<u8>> {
        let seen = lock(&self.seen);
        let others = seen.newest.iter().filter(|(of, _)| *of != domain);
        let notes = others.filter_map(|(_, seen)| seen.checkpoint.as_ref().map(|note| note.clone().into_bytes()));
        let elsewhere = lock(&self.elsewhere).get(domain).map(|(_, note)| note.clone());
        elsewhere.into_iter().chain(notes).take(OTHER_CHECKPOINTS_CAP).collect()
    }

    /// Compares what one domain was shown of the others' logs with what they showed here: two trees of one size end
    /// everything. The rest is told to the domain that it is about, whose verifier knows whether it made that tree.
    pub(super) fn compare_elsewhere(self: &Arc<Self>, by: &DomainName, notes: &[Vec<u8>]) {
        for note in notes {
            for (name, known) in self.known.iter().filter(|(name, _)| *name != by) {
                let newest = lock(&self.seen).newest.get(name).and_then(|seen| seen.checkpoint.clone());
                let shown = known.shown_elsewhere(note, newest.as_deref(), unix_now());
                match shown {
                    Ok(None) => {}
                    Ok(Some(head)) => {
                        let mut elsewhere = lock(&self.elsewhere);
                        if elsewhere.get(name).is_none_or(|(size, _)| *size < head.size) {
                            elsewhere.insert(name.clone(), (head.size, note.clone()));
                        }
                    }
                    Err(denial) => {
                        tracing::error!(domain = %name, shown_to = %by, %denial, "a log shows two histories");
                        self.trip(HaltReason::LogForked { domain: name.clone() });
                    }
                }
            }
        }
    }
}

const SEEN: &str = "governance.cbor";
