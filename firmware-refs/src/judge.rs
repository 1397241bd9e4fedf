//! One set against one machine. Every failure is reported to a sink; the sink
//! decides whether the first is enough (a verdict) or all are wanted (`explain`).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use evidence::{
    digest::Digest,
    event_log::{Event, EventLog},
    ledger::{CheckId, CheckLedger},
};

use crate::denial::{Divergence, ReferenceDenial, ReferenceName, some};
use crate::document::{EventReference, Platforms};
use crate::observed::{MeasuredFile, ObservedTpm};
use crate::set::{EVIDENCE_PCRS, ImaFiles, PcrEvents, TpmReferences};
use crate::text::Text;

/// Receives failures; breaking ends the judgement.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(ReferenceDenial) -> ControlFlow<()>;

/// Judges `observed` by `set`. The ledger holds the checks that passed before the sink broke off.
pub(crate) fn judge(
    set: &TpmReferences,
    name: &ReferenceName,
    observed: &ObservedTpm<'_>,
    sink: Sink<'_>,
) -> CheckLedger {
    let mut judge = Judge { set, name, observed, sink, failures: 0, passed: CheckLedger::EMPTY };
    let _ended: ControlFlow<()> = judge.all();
    judge.passed
}

struct Judge<'s, 'a> {
    set: &'s TpmReferences,
    name: &'s ReferenceName,
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

    fn reference(&self) -> ReferenceName {
        self.name.clone()
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
                    self.fail(ReferenceDenial::AkNotListed { reference: self.reference(), got: self.observed.ak })?;
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
                diverges: self.diverges(*pcr, got),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// The first event of one PCR that the set does not know. Without event references for that PCR nothing
    /// can be said; without such an event the register was extended and the log does not say by what.
    fn diverges(&self, pcr: u8, got: Digest) -> Option<Divergence> {
        let (log, known) = (self.observed.event_log?, self.set.events.get(&pcr)?);
        let unknown = log.measured(pcr, self.set.bank).find(|(_, digest)| !known.by_digest.contains_key(digest));
        if let Some((event, digest)) = unknown {
            return Some(logged(event, digest));
        }
        if log.replay(self.set.bank).ok()?.value(pcr)? != got {
            return Some(unlogged());
        }
        missing(log, pcr, self.set, known).map(|reference| expected(reference))
    }

    /// E9: everything measured is known, by digest alone: boot events, and files where IMA's log is judged.
    fn measured(&mut self) -> ControlFlow<()> {
        match (self.observed.event_log, self.set.require_event_log) {
            (Some(log), _) => self.events(log)?,
            (None, true) => self.fail(ReferenceDenial::EventLogAbsent { reference: self.reference() })?,
            (None, false) => {}
        }
        match (&self.observed.files, &self.set.ima) {
            (Some(files), Some(known)) => files.iter().try_for_each(|file| self.file(known, *file)),
            (None, Some(_)) => self.fail(ReferenceDenial::ImaLogAbsent { reference: self.reference() }),
            (_, None) => ControlFlow::Continue(()),
        }
    }

    /// Every event of a PCR that is judged by its log is known, and every required one occurred.
    fn events(&mut self, log: &EventLog<'_>) -> ControlFlow<()> {
        let set = self.set;
        for (pcr, known) in &set.events {
            for (event, digest) in log.measured(*pcr, set.bank) {
                if !known.by_digest.contains_key(&digest) {
                    self.fail(ReferenceDenial::EventUnknown {
                        reference: self.reference(),
                        pcr: *pcr,
                        diverges: logged(event, digest),
                        accepted: some(known.by_digest.keys().copied()),
                    })?;
                }
            }
            if let Some(reference) = missing(log, *pcr, set, known) {
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
    fn file(&mut self, known: &ImaFiles, file: MeasuredFile<'_>) -> ControlFlow<()> {
        if known.excludes(file.path) {
            return ControlFlow::Continue(());
        }
        let (reference, path, got) = (self.reference(), Text::lossy(file.path), file.digest);
        match known.accepted.get(file.path) {
            None => self.fail(ReferenceDenial::FileUnknown { reference, path, got }),
            Some(digests) if !digests.contains(&got) => {
                let accepted = some(digests.iter().copied());
                self.fail(ReferenceDenial::FileChanged { reference, path, got, accepted })
            }
            Some(_) => ControlFlow::Continue(()),
        }
    }
}

/// The first required event of one PCR that the log does not hold.
fn missing<'s>(log: &EventLog<'_>, pcr: u8, set: &TpmReferences, known: &'s PcrEvents) -> Option<&'s EventReference> {
    let seen: BTreeSet<usize> =
        log.measured(pcr, set.bank).filter_map(|(_, digest)| known.by_digest.get(&digest).copied()).collect();
    known.references.iter().enumerate().find(|(at, r)| !r.optional && !seen.contains(at)).map(|(_, r)| r)
}

fn logged(event: &Event<'_>, digest: Digest) -> Divergence {
    Divergence {
        event: Some(event.index()),
        kind: Text::lossy(&event.kind().to_string()),
        description: Text::lossy(&event.description()),
        digest: Some(digest),
    }
}

fn expected(reference: &EventReference) -> Divergence {
    Divergence { event: None, kind: reference.kind.clone(), description: reference.description.clone(), digest: None }
}

fn unlogged() -> Divergence {
    Divergence {
        event: None,
        kind: Text::lossy("extension"),
        description: Text::lossy("after the last event of the log, by whoever holds the TPM"),
        digest: None,
    }
}
