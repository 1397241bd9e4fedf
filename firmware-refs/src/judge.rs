//! One set against one machine. Every failure is reported to a sink; the sink
//! decides whether the first is enough (a verdict) or all are wanted (`explain`).

use std::ops::ControlFlow;
use std::sync::Arc;

use evidence::{
    digest::{Digest, HashAlg},
    event_log::{Event, EventLog},
    ima::ImaEntry,
    ledger::{CheckId, CheckLedger},
};

use crate::denial::{Divergence, ReferenceDenial, ReferenceName, some};
use crate::document::{EventReference, Platforms};
use crate::observed::{ObservedLog, ObservedTpm};
use crate::set::{EVIDENCE_PCRS, ImaFiles, PcrEvents, TpmReferences};
use crate::text::Text;

/// Receives failures; breaking ends the judgement.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(ReferenceDenial) -> ControlFlow<()>;

/// Judges `observed` by `set`. The ledger holds the checks that passed before the sink broke off.
pub(crate) fn judge(
    set: &TpmReferences,
    name: &Arc<ReferenceName>,
    observed: &ObservedTpm<'_>,
    sink: Sink<'_>,
) -> CheckLedger {
    let mut judge = Judge { set, name, observed, sink, failures: 0, passed: CheckLedger::EMPTY };
    let _ended: ControlFlow<()> = judge.all();
    judge.passed
}

struct Judge<'s, 'a> {
    set: &'s TpmReferences,
    name: &'s Arc<ReferenceName>,
    observed: &'s ObservedTpm<'a>,
    sink: Sink<'s>,
    failures: usize,
    passed: CheckLedger,
}

impl Judge<'_, '_> {
    fn all(&mut self) -> ControlFlow<()> {
        self.step(CheckId::T9, Self::firmware)?;
        self.step(CheckId::T11, Self::resettable)?;
        self.step(CheckId::M1, Self::registers)?;
        let logs_came = self.observed.event_log.is_some() || self.observed.files.is_some();
        if self.set.require_event_log || self.set.require_ima_log || logs_came {
            self.step(CheckId::E9, Self::measured)?;
        }
        ControlFlow::Continue(())
    }

    /// Runs one check; its bit is set only if it reported nothing.
    fn step(&mut self, check: CheckId, run: fn(&mut Self) -> ControlFlow<()>) -> ControlFlow<()> {
        let before = self.failures;
        run(self)?;
        if self.failures == before {
            self.passed.pass(check);
        }
        ControlFlow::Continue(())
    }

    fn fail(&mut self, denial: ReferenceDenial) -> ControlFlow<()> {
        self.failures = self.failures.saturating_add(1);
        (self.sink)(denial)
    }

    fn reference(&self) -> Arc<ReferenceName> {
        Arc::clone(self.name)
    }

    /// T9: which TPM it is, and whether its firmware is known to be broken.
    fn firmware(&mut self) -> ControlFlow<()> {
        match &self.set.platforms {
            Platforms::Enrolled => {}
            Platforms::Listed { ek, ak } => {
                if !ek.contains(&self.observed.ek) {
                    self.fail(ReferenceDenial::EkNotListed { reference: self.reference(), got: self.observed.ek })?;
                }
                if ak.as_ref().is_some_and(|ak| !ak.contains(&self.observed.ak)) {
                    self.fail(ReferenceDenial::AkNotListed {
                        reference: self.reference(),
                        got: self.observed.ak.clone(),
                    })?;
                }
            }
        }
        let (manufacturer, got) = (self.observed.manufacturer, self.observed.firmware);
        match self.set.floors.get(&manufacturer) {
            None => self.fail(ReferenceDenial::ManufacturerUnknown {
                reference: self.reference(),
                got: manufacturer,
                accepted: some(self.set.floors.keys().copied()),
            })?,
            Some(floor) if got < *floor => self.fail(ReferenceDenial::FirmwareTooOld {
                reference: self.reference(),
                manufacturer,
                got,
                floor: *floor,
            })?,
            Some(_) => {}
        }
        for deny in self.set.deny.iter().filter(|d| d.manufacturer == manufacturer && (d.from..=d.to).contains(&got)) {
            self.fail(ReferenceDenial::FirmwareDenied {
                reference: self.reference(),
                manufacturer,
                got,
                advisory: deny.advisory.clone(),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// T11: no register that can be reset is evidence.
    fn resettable(&mut self) -> ControlFlow<()> {
        for (pcr, _) in self.observed.pcrs.iter().filter(|(pcr, _)| !EVIDENCE_PCRS.contains(pcr)) {
            self.fail(ReferenceDenial::PcrResettable { pcr: *pcr })?;
        }
        ControlFlow::Continue(())
    }

    /// M1: every required register was quoted, in the set's bank, and whole values are known ones.
    fn registers(&mut self) -> ControlFlow<()> {
        if self.observed.bank != self.set.bank {
            let (got, accepted) = (self.observed.bank, self.set.bank);
            self.fail(ReferenceDenial::Bank { reference: self.reference(), got, accepted })?;
        }
        for pcr in &self.set.pcrs {
            let Some(got) = self.observed.pcr(*pcr) else {
                self.fail(ReferenceDenial::PcrAbsent { reference: self.reference(), pcr: *pcr })?;
                continue;
            };
            let Some(known) = self.set.values.get(pcr).filter(|known| !known.contains(&got)) else { continue };
            self.fail(ReferenceDenial::PcrUnknown {
                reference: self.reference(),
                pcr: *pcr,
                got,
                accepted: some(known.iter().copied()),
                diverges: self.diverges(*pcr),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// The first event of one PCR that the set does not know. An extension that the log does not hold comes after
    /// all that it holds; without event references for the PCR nothing else can be said.
    fn diverges(&self, pcr: u8) -> Option<Box<Divergence>> {
        let observed = self.observed.event_log?;
        let walked = self.set.events.get(&pcr).map(|known| walk(observed.log, pcr, self.set, known));
        if let Some((event, digest)) = walked.as_ref().and_then(|walked| walked.unknown.first()) {
            return Some(logged(event, *digest));
        }
        if !observed.proven.contains(pcr) {
            return Some(unlogged(observed.log, pcr, self.set.bank));
        }
        walked.and_then(|walked| walked.missing).map(expected)
    }

    /// E9: everything measured is known, by digest alone: boot events, and files where IMA's log is judged.
    fn measured(&mut self) -> ControlFlow<()> {
        match (self.observed.event_log, self.set.require_event_log) {
            (Some(observed), _) => self.events(observed)?,
            (None, true) => self.fail(ReferenceDenial::EventLogAbsent { reference: self.reference() })?,
            (None, false) => {}
        }
        match (self.observed.files, &self.set.ima) {
            (Some(files), Some(known)) => files.iter().try_for_each(|file| self.file(known, file)),
            (None, Some(_)) => self.fail(ReferenceDenial::ImaLogAbsent { reference: self.reference() }),
            (_, None) => ControlFlow::Continue(()),
        }
    }

    /// In every PCR that is judged by its log, the log is the whole story, every event is known, and every
    /// required one occurred.
    fn events(&mut self, observed: ObservedLog<'_>) -> ControlFlow<()> {
        let set = self.set;
        for (pcr, known) in &set.events {
            let walked = walk(observed.log, *pcr, set, known);
            let is_unlogged = walked.unknown.is_empty() && !observed.proven.contains(*pcr);
            let unknown = walked.unknown.iter().map(|(event, digest)| logged(event, *digest));
            for diverges in unknown.chain(is_unlogged.then(|| unlogged(observed.log, *pcr, set.bank))) {
                let accepted = some(known.by_digest.keys().copied());
                self.fail(ReferenceDenial::EventUnknown {
                    reference: self.reference(),
                    pcr: *pcr,
                    diverges,
                    accepted,
                })?;
            }
            if let Some(reference) = walked.missing {
                self.fail(ReferenceDenial::EventMissing {
                    reference: self.reference(),
                    pcr: *pcr,
                    missing: expected(reference),
                    accepted: some(reference.accept.iter().map(|a| a.digest)),
                })?;
            }
        }
        ControlFlow::Continue(())
    }

    /// A file that IMA measured is named by the set and has contents that it knows.
    fn file(&mut self, known: &ImaFiles, entry: &ImaEntry<'_>) -> ControlFlow<()> {
        // boot_aggregate is no file: E8 compared it with the boot registers.
        let path = std::str::from_utf8(entry.path()).unwrap_or_default();
        if entry.is_boot_aggregate() || known.excludes(path) {
            return ControlFlow::Continue(());
        }
        let accepted = known.accepted.get(path);
        let digest = entry.known_file_digest();
        if let (Some(digest), Some(digests)) = (digest, accepted)
            && digests.contains(&digest)
        {
            return ControlFlow::Continue(());
        }
        let (reference, path) = (self.reference(), Text::lossy(&entry.path_escaped()));
        let got = Text::lossy(&entry.file_digest());
        match accepted {
            None => self.fail(ReferenceDenial::FileUnknown { reference, path, got }),
            Some(digests) => {
                let accepted = some(digests.iter().copied());
                self.fail(ReferenceDenial::FileChanged { reference, path, got, accepted })
            }
        }
    }
}

/// What a walk along one register's events found.
struct Walked<'s, 'e> {
    /// Events that the set does not know, in order.
    unknown: Vec<(&'e Event<'e>, Digest)>,
    /// The first required event that did not occur.
    missing: Option<&'s EventReference>,
}

fn walk<'s, 'e>(log: &'e EventLog<'e>, pcr: u8, set: &TpmReferences, known: &'s PcrEvents) -> Walked<'s, 'e> {
    let mut unknown = Vec::new();
    let mut seen = vec![false; known.references.len()];
    for (event, digest) in log.measured(pcr, set.bank) {
        match known.by_digest.get(&digest).and_then(|at| seen.get_mut(*at)) {
            Some(seen) => *seen = true,
            None => unknown.push((event, digest)),
        }
    }
    let missing = known.references.iter().zip(seen).find(|(r, seen)| !r.optional && !seen).map(|(r, _)| r);
    Walked { unknown, missing }
}

fn logged(event: &Event<'_>, digest: Digest) -> Box<Divergence> {
    Box::new(Divergence {
        event: Some(event.index()),
        kind: Text::lossy(&event.kind().to_string()),
        description: Text::lossy(&event.description()),
        digest: Some(digest),
    })
}

fn expected(reference: &EventReference) -> Box<Divergence> {
    Box::new(Divergence {
        event: None,
        kind: reference.kind.clone(),
        description: reference.description.clone(),
        digest: None,
    })
}

/// An extension that is not in the log: it came after the last event there.
fn unlogged(log: &EventLog<'_>, pcr: u8, bank: HashAlg) -> Box<Divergence> {
    let after = log.measured(pcr, bank).last().map_or_else(
        || "nothing is logged for this PCR".to_owned(),
        |(event, _)| format!("after event {} {} {}", event.index(), event.kind(), event.description()),
    );
    let kind = Text::lossy("extension that is not in the log");
    Box::new(Divergence { event: None, kind, description: Text::lossy(&after), digest: None })
}
