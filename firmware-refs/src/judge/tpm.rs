//! A TPM's registers, logs and identity against a set.

use std::ops::ControlFlow;

use evidence::{
    ima::{ImaEntry, Template},
    ledger::CheckId,
    register::Register,
};

use super::{Tally, events::Logged};
use crate::denial::{Divergence, ReferenceDenial, some, some_of};
use crate::observed::{ObservedLog, ObservedTpm};
use crate::set::{EVIDENCE_PCRS, ImaFiles, KnownTpms, TpmReferences};
use crate::text::Text;

pub(super) fn judge(set: &TpmReferences, observed: &ObservedTpm<'_>, tally: &mut Tally<'_>) -> ControlFlow<()> {
    let judge = Judge { set, observed };
    tally.step(CheckId::T9, |tally| judge.firmware(tally))?;
    tally.step(CheckId::T11, |tally| judge.resettable(tally))?;
    tally.step(CheckId::M1, |tally| judge.registers(tally))?;
    let logs_came = observed.event_log.is_some() || observed.files.is_some();
    if set.require_event_log || set.require_ima_log || logs_came {
        tally.step(CheckId::E9, |tally| judge.measured(tally))?;
    }
    ControlFlow::Continue(())
}

struct Judge<'s, 'a> {
    set: &'s TpmReferences,
    observed: &'s ObservedTpm<'a>,
}

impl Judge<'_, '_> {
    /// T9: which TPM it is, and whether its firmware is known to be broken.
    fn firmware(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        match &self.set.platforms {
            KnownTpms::Enrolled => {}
            KnownTpms::Listed { ek, ak } => {
                if !ek.contains(&self.observed.ek) {
                    tally.fail(ReferenceDenial::EkNotListed { reference: tally.reference(), got: self.observed.ek })?;
                }
                if ak.as_ref().is_some_and(|ak| !ak.contains(&self.observed.ak)) {
                    tally.fail(ReferenceDenial::AkNotListed {
                        reference: tally.reference(),
                        got: self.observed.ak.clone(),
                    })?;
                }
            }
        }
        let (manufacturer, got) = (self.observed.manufacturer, self.observed.firmware);
        match self.set.floors.get(&manufacturer) {
            None => tally.fail(ReferenceDenial::ManufacturerUnknown {
                reference: tally.reference(),
                got: manufacturer,
                accepted: some(self.set.floors.keys().copied()),
            })?,
            Some(floor) if got < *floor => tally.fail(ReferenceDenial::FirmwareTooOld {
                reference: tally.reference(),
                manufacturer,
                got,
                floor: *floor,
            })?,
            Some(_) => {}
        }
        for deny in self.set.deny.iter().filter(|d| d.manufacturer == manufacturer && (d.from..=d.to).contains(&got)) {
            tally.fail(ReferenceDenial::FirmwareDenied {
                reference: tally.reference(),
                manufacturer,
                got,
                advisory: deny.advisory.clone(),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// T11: no register that can be reset is evidence.
    fn resettable(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        for (pcr, _) in self.observed.pcrs.iter().filter(|(pcr, _)| !EVIDENCE_PCRS.contains(pcr)) {
            tally.fail(ReferenceDenial::PcrResettable { pcr: *pcr })?;
        }
        ControlFlow::Continue(())
    }

    /// M1: every required register was quoted, in the set's bank, and whole values are known ones.
    fn registers(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        if self.observed.bank != self.set.bank {
            let (got, accepted) = (self.observed.bank, self.set.bank);
            tally.fail(ReferenceDenial::Bank { reference: tally.reference(), got, accepted })?;
        }
        for pcr in &self.set.pcrs {
            let Some(got) = self.observed.pcr(*pcr) else {
                tally.fail(ReferenceDenial::PcrAbsent { reference: tally.reference(), pcr: *pcr })?;
                continue;
            };
            let Some(known) = self.set.values.get(pcr).filter(|known| !known.contains(&got)) else { continue };
            tally.fail(ReferenceDenial::PcrUnknown {
                reference: tally.reference(),
                pcr: *pcr,
                got,
                accepted: some_of(known),
                diverges: self.diverges(*pcr),
            })?;
        }
        ControlFlow::Continue(())
    }

    /// The first event of one PCR that the set does not know.
    fn diverges(&self, pcr: u8) -> Option<Box<Divergence>> {
        self.logged(self.observed.event_log?, pcr).diverges(self.set.events.get(&pcr))
    }

    fn logged<'o>(&self, observed: ObservedLog<'o>, pcr: u8) -> Logged<'o, 'o> {
        Logged {
            register: Register::Pcr(pcr),
            events: observed.log.measured(pcr, self.set.bank).collect(),
            proven: observed.proven.contains(pcr),
        }
    }

    /// E9: everything measured is known, by digest alone: boot events, and files where IMA's log is judged.
    fn measured(&self, tally: &mut Tally<'_>) -> ControlFlow<()> {
        match (self.observed.event_log, self.set.require_event_log) {
            (Some(observed), _) => self.events(observed, tally)?,
            (None, true) => {
                tally.fail(ReferenceDenial::EventLogAbsent { reference: tally.reference(), part: "tpm" })?
            }
            (None, false) => {}
        }
        match (self.observed.files, &self.set.ima) {
            (Some(files), Some(known)) => files.iter().try_for_each(|file| file_known(known, file, tally)),
            (None, Some(_)) => tally.fail(ReferenceDenial::ImaLogAbsent { reference: tally.reference() }),
            (_, None) => ControlFlow::Continue(()),
        }
    }

    /// In every PCR that is judged by its log, the log is the whole story, every event is known, and every
    /// required one occurred.
    fn events(&self, observed: ObservedLog<'_>, tally: &mut Tally<'_>) -> ControlFlow<()> {
        self.set.events.iter().try_for_each(|(pcr, known)| self.logged(observed, *pcr).judge(known, tally))
    }
}

/// A file or buffer that IMA measured is named by the set and has contents that it knows.
fn file_known(known: &ImaFiles, entry: &ImaEntry<'_>, tally: &mut Tally<'_>) -> ControlFlow<()> {
    // boot_aggregate is no file: E8 compared it with the boot registers.
    let path = std::str::from_utf8(entry.path()).unwrap_or_default();
    let is_buffer = entry.template() == Template::ImaBuf;
    if entry.is_boot_aggregate() || (!is_buffer && known.excludes(path)) {
        return ControlFlow::Continue(());
    }
    let accepted = if is_buffer { known.buffers.get(path) } else { known.accepted.get(path) };
    let digest = entry.known_file_digest();
    if let (Some(digest), Some(digests)) = (digest, accepted)
        && digests.contains(&digest)
    {
        return ControlFlow::Continue(());
    }
    let (reference, path) = (tally.reference(), Text::lossy(&entry.path_escaped()));
    let got = Text::lossy(&entry.file_digest());
    match accepted {
        None => tally.fail(ReferenceDenial::FileUnknown { reference, path, got }),
        Some(digests) => {
            let accepted = some(digests.iter().copied());
            tally.fail(ReferenceDenial::FileChanged { reference, path, got, accepted })
        }
    }
}
