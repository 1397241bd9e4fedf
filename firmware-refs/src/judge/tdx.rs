//! A TDX quote against a set (X6, X8 to X10, X12, E9).

use std::ops::ControlFlow;

use evidence::{digest::Digest, ledger::CheckId, register::Register, tdx::TcbStatus};

use super::{Tally, bits, events::Logged, register};
use crate::denial::{ReferenceDenial, some, some_of};
use crate::fields::Mask;
use crate::observed::{ObservedCcel, ObservedTdx};
use crate::set::Machines;
use crate::set::tdx::TdxReferences;
use crate::text::Text;

pub(super) fn judge(set: &TdxReferences, observed: &ObservedTdx<'_>, tally: &mut Tally<'_>) -> ControlFlow<()> {
    let judge = Judge { set, observed };
    tally.step(CheckId::X6, |tally| judge.evaluation(tally))?;
    tally.step(CheckId::X8, |tally| judge.status(tally))?;
    tally.step(CheckId::X9, |tally| judge.attributes(tally))?;
    tally.step(CheckId::X10, |tally| judge.measured(tally))?;
    tally.step(CheckId::X12, |tally| judge.platform(tally))?;
    // a relaunch is advised by a status, and no set may accept that one
    if tally.passed.contains(CheckId::X8) {
        tally.passed.pass(CheckId::X13);
    }
    if set.require_event_log || observed.event_log.is_some() {
        tally.step(CheckId::E9, |tally| judge.logged_events(tally))?;
    }
    ControlFlow::Continue(())
}

struct Judge<'s, 'a> {
    set: &'s TdxReferences,
    observed: &'s ObservedTdx<'a>,
}

impl Judge<'_, '_> {
    /// X6: the collateral is not older than the set allows.
    fn evaluation(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let (got, floor) = (self.observed.tcb_evaluation, self.set.tcb_evaluation_floor);
        tally.unless(got >= floor, |reference| ReferenceDenial::EvaluationTooOld { reference, got, floor })
    }

    /// X8: the TCB status is an accepted one, and every advisory against it is borne for now.
    fn status(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let got = self.observed.tcb_status;
        if !self.set.tcb_status.contains(&got) {
            let accepted = some(self.set.tcb_status.iter().copied());
            return tally.fail(ReferenceDenial::TcbStatusRefused { reference: tally.reference(), got, accepted });
        }
        if got == TcbStatus::UpToDate {
            return ControlFlow::Continue(());
        }
        // a status that no advisory explains is none that anybody could bear for a time
        tally.unless(!self.observed.advisories.is_empty(), |reference| ReferenceDenial::TcbStatusRefused {
            reference,
            got,
            accepted: vec![TcbStatus::UpToDate],
        })?;
        for advisory in self.observed.advisories {
            let Some(until) = self.set.advisories.get(advisory.as_str()) else {
                tally.fail(ReferenceDenial::AdvisoryRefused {
                    reference: tally.reference(),
                    got: Text::lossy(advisory),
                    accepted: some(self.set.advisories.keys()).into_iter().map(|id| Text::lossy(id)).collect(),
                })?;
                continue;
            };
            let now = self.observed.judged_at;
            tally.unless(now < until.at(), |reference| ReferenceDenial::AdvisoryExpired {
                reference,
                advisory: Text::lossy(advisory),
                until: *until,
                now: now.into(),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// X9: attributes and features of the trust domain.
    fn attributes(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        bits("tdx.attributes", &self.set.attributes, self.observed.attributes, tally)?;
        let (got, allowed) = (self.observed.xfam, self.set.xfam);
        tally.unless(got & !allowed.0 == 0, |reference| ReferenceDenial::XfamRefused {
            reference,
            got: Mask(got),
            allowed,
        })
    }

    /// X10: every register of the TD report has a known value, or is judged by its log.
    fn measured(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let (set, observed) = (self.set, self.observed);
        register(Register::MrTd, observed.mrtd, &set.mrtd, tally)?;
        register(Register::MrConfigId, observed.mrconfigid, &set.mrconfigid, tally)?;
        register(Register::MrOwner, observed.mrowner, &set.mrowner, tally)?;
        register(Register::MrOwnerConfig, observed.mrownerconfig, &set.mrownerconfig, tally)?;
        register(Register::MrServiceTd, observed.mrservicetd, &set.mrservicetd, tally)?;
        for (index, got) in (0u8..).zip(observed.rtmrs) {
            self.rtmr(index, got, tally)?;
        }
        ControlFlow::Continue(())
    }

    fn rtmr(&self, index: u8, got: Digest, tally: &mut Tally<'_>) -> ControlFlow<()> {
        // a set without a whole value judges this register by its events, which it then requires (E9)
        let Some(known) = self.set.rtmrs.get(&index).filter(|known| !known.contains(&got)) else {
            return ControlFlow::Continue(());
        };
        let log = self.observed.event_log.as_ref();
        tally.fail(ReferenceDenial::MeasurementUnknown {
            reference: tally.reference(),
            register: Register::Rtmr(index),
            got,
            accepted: some_of(known),
            diverges: log.and_then(|log| logged(log, index).diverges(self.set.events.get(&index))),
        })
    }

    /// E9: every event of the registers that are judged by their log is known.
    fn logged_events(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        let Some(log) = &self.observed.event_log else {
            return tally.fail(ReferenceDenial::EventLogAbsent { reference: tally.reference(), part: "tdx" });
        };
        self.set.events.iter().try_for_each(|(index, known)| logged(log, *index).judge(known, tally))
    }

    /// X12: the platform is listed.
    fn platform(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        match &self.set.platforms {
            Machines::Any => ControlFlow::Continue(()),
            Machines::Listed(ppid) => {
                let got = self.observed.ppid;
                tally.unless(ppid.contains(&got), |reference| ReferenceDenial::PpidNotListed { reference, got })
            }
        }
    }
}

/// One RTMR's events.
fn logged<'a>(observed: &ObservedCcel<'a>, index: u8) -> Logged<'a, 'a> {
    Logged {
        register: Register::Rtmr(index),
        events: observed.log.measured(index).collect(),
        proven: observed.log.is_proven(index),
    }
}
