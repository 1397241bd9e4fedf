//! One set against one machine. Every failure is reported to a sink; the sink
//! decides whether the first is enough (a verdict) or all are wanted (`explain`).

mod events;
mod snp;
mod tdx;
mod tpm;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use evidence::{
    digest::Digest,
    ledger::{CheckId, CheckLedger},
    register::Register,
};

use crate::denial::{ReferenceDenial, ReferenceName, some_of};
use crate::fields::BitRule;
use crate::observed::Observed;
use crate::set::ReferenceValueSet;

/// Receives failures; breaking ends the judgement.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(ReferenceDenial) -> ControlFlow<()>;

/// Judges `observed` by `set`. The ledger holds the checks that passed before the sink broke off.
pub(crate) fn judge(
    set: &ReferenceValueSet,
    name: &Arc<ReferenceName>,
    observed: &Observed<'_>,
    sink: Sink<'_>,
) -> CheckLedger {
    let mut tally = Tally { name, sink, failures: 0, passed: CheckLedger::EMPTY };
    let _ended: ControlFlow<()> = all(set, observed, &mut tally);
    tally.passed
}

/// A set is for one kind of machine: it says nothing about another, even one that shares a part with it.
fn all(set: &ReferenceValueSet, observed: &Observed<'_>, tally: &mut Tally<'_>) -> ControlFlow<()> {
    let (got, accepted) = (observed.kind(), set.kind());
    if got != accepted {
        return tally.fail(ReferenceDenial::KindUnknown { reference: tally.reference(), got, accepted });
    }
    // of one kind, so with the same parts; a part that were not judged would be missed in the ledger
    if let (Some(set), Some(observed)) = (set.tpm(), observed.tpm()) {
        tpm::judge(set, observed, tally)?;
    }
    if let (Some(set), Some(observed)) = (set.snp(), observed.snp()) {
        snp::judge(set, observed, tally)?;
    }
    if let (Some(set), Some(observed)) = (set.tdx(), observed.tdx()) {
        tdx::judge(set, observed, tally)?;
    }
    ControlFlow::Continue(())
}

/// What passed so far, and where failures go.
struct Tally<'s> {
    name: &'s Arc<ReferenceName>,
    sink: Sink<'s>,
    failures: usize,
    passed: CheckLedger,
}

impl Tally<'_> {
    /// Runs one check; its bit is set only if it reported nothing.
    fn step(&mut self, check: CheckId, run: impl FnOnce(&mut Self) -> ControlFlow<()>) -> ControlFlow<()> {
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

    /// Reports `denial` unless `known`.
    fn unless(&mut self, known: bool, denial: impl FnOnce(Arc<ReferenceName>) -> ReferenceDenial) -> ControlFlow<()> {
        if known { ControlFlow::Continue(()) } else { self.fail(denial(self.reference())) }
    }

    fn reference(&self) -> Arc<ReferenceName> {
        Arc::clone(self.name)
    }
}

/// A register has a value that the set knows.
fn register(register: Register, got: Digest, known: &BTreeSet<Digest>, tally: &mut Tally<'_>) -> ControlFlow<()> {
    tally.unless(known.contains(&got), |reference| ReferenceDenial::MeasurementUnknown {
        reference,
        register,
        got,
        accepted: some_of(known),
        diverges: None,
    })
}

/// Every bit of `field` is as its rule has it.
fn bits(
    field: &'static str,
    rules: &[(&'static str, u32, BitRule)],
    got: u64,
    tally: &mut Tally<'_>,
) -> ControlFlow<()> {
    for (bit, position, rule) in rules {
        let is_set = got.wrapping_shr(*position) & 1 == 1;
        if let Some(required) = rule.refuses(is_set) {
            let reference = tally.reference();
            tally.fail(ReferenceDenial::BitRefused { reference, field, bit, required })?;
        }
    }
    ControlFlow::Continue(())
}
