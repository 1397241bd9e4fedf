//! The TPM: are its registers and its clock still what was appraised?
//!
//! What is compared with are the values that the verifier appraised, where it named them, and else what they were before
//! anybody was asked to appraise them.

use std::collections::BTreeMap;

use evidence::digest::Digest;
use evidence::tpm::attest::ClockInfo;
use evidence::tpm::pcr::PcrSelection;
use governance::halt::HaltReason;

use super::{FAILURES_CAP, Finding};
use crate::tpm::{ClockBreak, KeyBlob, Tpm, TpmError};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct TpmWatch {
    tpm: Tpm,
    ak: KeyBlob,
    selection: PcrSelection,
}

/// One look at the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    /// Watched PCRs.
    pcrs: BTreeMap<u8, Digest>,
    /// Its clock and counters.
    clock: ClockInfo,
}

/// A watch since its first look.
pub(super) struct TpmLooks<'a> {
    watch: &'a TpmWatch,
    pcrs: BTreeMap<u8, Digest>,
    clock: Option<ClockInfo>,
    failures: u32,
}

impl TpmWatch {
    /// A watch over these PCRs by this attestation key's view of the clock.
    #[must_use]
    pub const fn new(tpm: Tpm, ak: KeyBlob, selection: PcrSelection) -> Self {
        Self { tpm, ak, selection }
    }

    /// Looks once.
    async fn look(&self) -> Result<Reading, TpmError> {
        let clock = self.tpm.clock(self.ak.clone()).await?;
        Ok(Reading { pcrs: self.pcrs().await?, clock })
    }

    /// Watched PCRs as they are now.
    pub(super) async fn pcrs(&self) -> Result<BTreeMap<u8, Digest>, TpmError> {
        let values = self.tpm.pcrs(self.selection).await?;
        Ok(values.iter().map(|(pcr, value)| (pcr, *value)).collect())
    }

    pub(super) const fn begin(&self, pcrs: BTreeMap<u8, Digest>) -> TpmLooks<'_> {
        TpmLooks { watch: self, pcrs, clock: None, failures: 0 }
    }
}

impl TpmLooks<'_> {
    pub(super) async fn look(&mut self) -> Option<Finding> {
        match self.watch.look().await {
            Ok(reading) => {
                self.failures = 0;
                let clock = self.clock.replace(reading.clock).unwrap_or(reading.clock);
                broken(&self.pcrs, &clock, &reading).map(Finding::Halt)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(%error, failures = self.failures, "the watch could not read the TPM");
                (is_final(&error) || self.failures >= FAILURES_CAP).then_some(Finding::Halt(HaltReason::DeviceLost))
            }
        }
    }
}

/// What changed for the worse between these values and a later reading.
fn broken(pcrs: &BTreeMap<u8, Digest>, clock: &ClockInfo, later: &Reading) -> Option<HaltReason> {
    // A reset also clears PCRs: it is named first because it is the cause.
    match ClockBreak::between(clock, &later.clock) {
        Some(ClockBreak::Reset) => return Some(HaltReason::TpmReset),
        Some(ClockBreak::Restarted) => return Some(HaltReason::TpmRestarted),
        Some(ClockBreak::WentBack) => return Some(HaltReason::TpmRolledBack),
        Some(ClockBreak::Unsafe) => return Some(HaltReason::TpmClockUnsafe),
        None => {}
    }
    let differs = |(pcr, value): &(&u8, &Digest)| later.pcrs.get(pcr) != Some(value);
    pcrs.iter().find(differs).map(|(pcr, _)| HaltReason::PcrChanged { pcr: *pcr })
}

/// What watched PCRs must be: what was appraised of them, where it is of the same bank, or what they were `before`.
pub(crate) fn expected(
    mut before: BTreeMap<u8, Digest>,
    appraised: impl IntoIterator<Item = (u8, Digest)>,
) -> BTreeMap<u8, Digest> {
    for (pcr, value) in appraised {
        if let Some(held) = before.get_mut(&pcr)
            && held.as_bytes().len() == value.as_bytes().len()
        {
            *held = value;
        }
    }
    before
}

/// Errors after which the TPM may be another one, or none.
fn is_final(error: &TpmError) -> bool {
    match error {
        TpmError::Hung { .. }
        | TpmError::Unreachable { .. }
        | TpmError::KeyLost { .. }
        | TpmError::BankAbsent { .. }
        | TpmError::Ended => true,
        TpmError::HandlesExhausted { .. }
        | TpmError::Lockout { .. }
        | TpmError::PolicyNotMet { .. }
        | TpmError::PcrsUnstable { .. }
        | TpmError::Refused { .. }
        | TpmError::Malformed { .. }
        | TpmError::NotLocked(_)
        | TpmError::NotForThisKey => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::digest::HashAlg;

    const CLOCK: ClockInfo = ClockInfo { clock_ms: 1_000, reset_count: 3, restart_count: 1, safe: true };

    fn reading(pcr4: &[u8], clock: ClockInfo) -> Reading {
        let pcrs = [(4, HashAlg::Sha256.hash(&[pcr4])), (7, HashAlg::Sha256.hash(&[b"7"]))].into();
        Reading { pcrs, clock }
    }

    #[test]
    fn each_change_has_its_own_reason() {
        let before = reading(b"4", CLOCK);
        let broken_by = |later: &Reading| broken(&before.pcrs, &before.clock, later);
        assert_eq!(broken_by(&reading(b"4", ClockInfo { clock_ms: 2_000, ..CLOCK })), None);
        assert_eq!(broken_by(&reading(b"x", CLOCK)), Some(HaltReason::PcrChanged { pcr: 4 }));
        let mut missing = reading(b"4", CLOCK);
        missing.pcrs.remove(&7);
        assert_eq!(broken_by(&missing), Some(HaltReason::PcrChanged { pcr: 7 }));
        for (clock, reason) in [
            (ClockInfo { reset_count: 4, restart_count: 0, ..CLOCK }, HaltReason::TpmReset),
            (ClockInfo { restart_count: 2, ..CLOCK }, HaltReason::TpmRestarted),
            (ClockInfo { clock_ms: 999, ..CLOCK }, HaltReason::TpmRolledBack),
            (ClockInfo { reset_count: 2, ..CLOCK }, HaltReason::TpmRolledBack),
            (ClockInfo { safe: false, ..CLOCK }, HaltReason::TpmClockUnsafe),
        ] {
            assert_eq!(broken_by(&reading(b"x", clock)), Some(reason));
        }
    }

    #[test]
    fn a_pcr_that_changed_before_the_first_look_is_noticed_whether_or_not_it_was_appraised() {
        let (before, now) = (reading(b"4", CLOCK), reading(b"changed", CLOCK));
        let changed = Some(HaltReason::PcrChanged { pcr: 4 });
        assert_eq!(broken(&expected(before.pcrs.clone(), []), &CLOCK, &now), changed);
        // What was appraised is what counts; of a PCR that is not watched it says nothing.
        let appraised = [(4, HashAlg::Sha256.hash(&[b"4"])), (9, HashAlg::Sha256.hash(&[b"9"]))];
        assert_eq!(broken(&expected(now.pcrs.clone(), appraised), &CLOCK, &now), changed);
        // Of another bank, nothing either.
        let other_bank = expected(before.pcrs.clone(), [(4, HashAlg::Sha384.hash(&[b"changed"]))]);
        assert_eq!(other_bank, before.pcrs);
    }
}
