//! The TPM: are its registers and its clock still what was appraised?
//!
//! What is compared with are the values that the verifier appraised, where it named them.

use std::collections::BTreeMap;
use std::time::Duration;

use evidence::digest::Digest;
use evidence::tpm::attest::ClockInfo;
use evidence::tpm::pcr::PcrSelection;
use governance::halt::HaltReason;
use tokio::time::MissedTickBehavior;

use super::{FAILURES_CAP, clock_went_back, wall_less_boot_s};
use crate::tpm::{ClockBreak, KeyBlob, Tpm, TpmError};

/// What is looked at, and how often.
#[derive(Clone, Debug)]
pub struct TpmWatch {
    tpm: Tpm,
    ak: KeyBlob,
    selection: PcrSelection,
    interval: Duration,
}

/// One look at the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Watched PCRs.
    pub pcrs: BTreeMap<u8, Digest>,
    /// Its clock and counters.
    pub clock: ClockInfo,
    /// This machine's wall clock, in seconds, less the time since boot: constant while nobody sets the clock.
    pub wall_less_boot_s: i64,
}

impl TpmWatch {
    /// A watch over these PCRs by this attestation key's view of the clock.
    #[must_use]
    pub const fn new(tpm: Tpm, ak: KeyBlob, selection: PcrSelection, interval: Duration) -> Self {
        Self { tpm, ak, selection, interval }
    }

    /// Looks once.
    ///
    /// # Errors
    /// [`TpmError`].
    pub async fn look(&self) -> Result<Reading, TpmError> {
        let clock = self.tpm.clock(self.ak.clone()).await?;
        let values = self.tpm.pcrs(self.selection).await?;
        let pcrs = values.iter().map(|(pcr, value)| (pcr, *value)).collect();
        Ok(Reading { pcrs, clock, wall_less_boot_s: wall_less_boot_s() })
    }

    /// Resolves when the TPM is no longer what `appraised` says, or no longer there. The first look is taken at once;
    /// PCRs that the verifier did not appraise, and the clock, are compared with that one.
    pub(super) async fn until_changed(&self, appraised: BTreeMap<u8, Digest>) -> HaltReason {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expected: Option<Reading> = None;
        let mut failures = 0_u32;
        loop {
            ticks.tick().await;
            match self.look().await {
                Ok(reading) => {
                    failures = 0;
                    let before = expected.get_or_insert_with(|| first(&reading, &appraised));
                    if let Some(reason) = before.broken_by(&reading) {
                        return reason;
                    }
                    before.clock = reading.clock;
                    before.wall_less_boot_s = before.wall_less_boot_s.max(reading.wall_less_boot_s);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(%error, failures, "the watch could not read the TPM");
                    if is_final(&error) || failures >= FAILURES_CAP {
                        return HaltReason::DeviceLost;
                    }
                }
            }
        }
    }
}

impl Reading {
    /// What changed for the worse between this reading and a later one.
    #[must_use]
    pub fn broken_by(&self, later: &Self) -> Option<HaltReason> {
        // A reset also clears PCRs: it is named first because it is the cause.
        match ClockBreak::between(&self.clock, &later.clock) {
            Some(ClockBreak::Reset | ClockBreak::Restarted | ClockBreak::WentBack) => {
                return Some(HaltReason::TpmReset);
            }
            None => {}
        }
        if let Some(reason) = clock_went_back(self.wall_less_boot_s, later.wall_less_boot_s) {
            return Some(reason);
        }
        let differs = |(pcr, value): &(&u8, &Digest)| later.pcrs.get(pcr) != Some(value);
        self.pcrs.iter().find(differs).map(|(pcr, _)| HaltReason::PcrChanged { pcr: *pcr })
    }
}

/// What to compare with: the first reading, but with the appraised values where there are any of the same bank.
fn first(reading: &Reading, appraised: &BTreeMap<u8, Digest>) -> Reading {
    let mut expected = reading.clone();
    for (pcr, value) in &mut expected.pcrs {
        if let Some(appraised) =
            appraised.get(pcr).filter(|appraised| appraised.as_bytes().len() == value.as_bytes().len())
        {
            *value = *appraised;
        }
    }
    expected
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
        Reading { pcrs, clock, wall_less_boot_s: 1_000 }
    }

    #[test]
    fn each_change_has_its_own_reason() {
        let before = reading(b"4", CLOCK);
        assert_eq!(before.broken_by(&reading(b"4", ClockInfo { clock_ms: 2_000, ..CLOCK })), None);
        assert_eq!(before.broken_by(&reading(b"x", CLOCK)), Some(HaltReason::PcrChanged { pcr: 4 }));
        let mut missing = reading(b"4", CLOCK);
        missing.pcrs.remove(&7);
        assert_eq!(before.broken_by(&missing), Some(HaltReason::PcrChanged { pcr: 7 }));
        for clock in [
            ClockInfo { reset_count: 4, restart_count: 0, ..CLOCK },
            ClockInfo { restart_count: 2, ..CLOCK },
            ClockInfo { clock_ms: 999, ..CLOCK },
        ] {
            assert_eq!(before.broken_by(&reading(b"x", clock)), Some(HaltReason::TpmReset));
        }
        let set_back = |by: i64| Reading { wall_less_boot_s: 1_000 - by, ..reading(b"4", CLOCK) };
        assert_eq!(before.broken_by(&set_back(2)), None);
        assert_eq!(before.broken_by(&set_back(3)), Some(HaltReason::ClockWentBack { by_s: 3 }));
        assert_eq!(before.broken_by(&set_back(-500)), None);
    }

    #[test]
    fn a_pcr_that_changed_before_the_first_look_is_noticed() {
        let now = reading(b"changed", CLOCK);
        let appraised = [(4, HashAlg::Sha256.hash(&[b"4"])), (9, HashAlg::Sha256.hash(&[b"9"]))].into();
        assert_eq!(first(&now, &appraised).broken_by(&now), Some(HaltReason::PcrChanged { pcr: 4 }));
        assert_eq!(first(&now, &BTreeMap::new()).broken_by(&now), None);
    }
}
