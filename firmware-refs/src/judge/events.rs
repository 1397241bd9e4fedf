//! One register's event log against the events that a set knows (E9), for PCRs and RTMRs alike.

use std::ops::ControlFlow;

use evidence::{digest::Digest, event_log::Event, register::Register};

use super::Tally;
use crate::denial::{Divergence, ReferenceDenial, some};
use crate::set::{KnownEvent, RegisterEvents};
use crate::text::Text;

/// The events of one register, and whether they lead to its value.
pub(super) struct Logged<'e, 'l> {
    pub(super) register: Register,
    pub(super) events: Vec<(&'e Event<'l>, Digest)>,
    pub(super) proven: bool,
}

impl Logged<'_, '_> {
    /// The log is the whole story, every event is known, and every required one occurred.
    pub(super) fn judge(&self, known: &RegisterEvents, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let walked = self.walk(known);
        let is_unlogged = walked.unknown.is_empty() && !self.proven;
        let unknown = walked.unknown.iter().map(|(event, digest)| logged(event, *digest));
        for diverges in unknown.chain(is_unlogged.then(|| self.unlogged())) {
            let (register, accepted) = (self.register, known.some.clone());
            tally.fail(ReferenceDenial::EventUnknown { reference: tally.reference(), register, diverges, accepted })?;
        }
        if let Some(event) = walked.missing {
            tally.fail(ReferenceDenial::EventMissing {
                reference: tally.reference(),
                register: self.register,
                missing: expected(event),
                accepted: some(event.accept.iter().copied()),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// The first event that the set does not know. An extension that the log does not hold comes after all that it
    /// holds; without event references for the register nothing else can be said.
    pub(super) fn diverges(&self, known: Option<&RegisterEvents>) -> Option<Box<Divergence>> {
        let walked = known.map(|known| self.walk(known));
        if let Some((event, digest)) = walked.as_ref().and_then(|walked| walked.unknown.first()) {
            return Some(logged(event, *digest));
        }
        if !self.proven {
            return Some(self.unlogged());
        }
        walked.and_then(|walked| walked.missing).map(expected)
    }

    fn walk<'s>(&self, known: &'s RegisterEvents) -> Walked<'s, '_> {
        let mut unknown = Vec::new();
        // as long as the log, however many events the set knows
        let mut seen = Vec::with_capacity(self.events.len());
        for (event, digest) in &self.events {
            match known.by_digest.get(digest) {
                Some(at) => seen.push(*at),
                None => unknown.push((*event, *digest)),
            }
        }
        seen.sort_unstable();
        let is_missing = |at: &&usize| seen.binary_search(at).is_err();
        let missing = known.required.iter().find(is_missing).and_then(|at| known.events.get(*at));
        Walked { unknown, missing }
    }

    /// An extension that is not in the log: it came after the last event there.
    fn unlogged(&self) -> Box<Divergence> {
        let after = self.events.last().map_or_else(
            || "nothing is logged for this register".to_owned(),
            |(event, _)| format!("after event {} {} {}", event.index(), event.kind(), event.description()),
        );
        let kind = Text::lossy("extension that is not in the log");
        Box::new(Divergence { event: None, kind, description: Text::lossy(&after), digest: None })
    }
}

/// What a walk along one register's events found.
struct Walked<'s, 'e> {
    /// Events that the set does not know, in order.
    unknown: Vec<(&'e Event<'e>, Digest)>,
    /// The first required event that did not occur.
    missing: Option<&'s KnownEvent>,
}

fn logged(event: &Event<'_>, digest: Digest) -> Box<Divergence> {
    Box::new(Divergence {
        event: Some(event.index()),
        kind: Text::lossy(&event.kind().to_string()),
        description: Text::lossy(&event.description()),
        digest: Some(digest),
    })
}

fn expected(event: &KnownEvent) -> Box<Divergence> {
    Box::new(Divergence { event: None, kind: event.kind.clone(), description: event.description.clone(), digest: None })
}
