//! This machine's clocks: was the wall clock set back, did the machine sleep?

use governance::halt::{HaltReason, Trigger};

use super::Finding;
use crate::clock::{boottime_ms, monotonic_ms, unix_now};

/// One reading of the three clocks, as what tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The wall clock, in seconds, less the time since boot: constant while nobody sets the clock.
    pub wall_less_boot_s: i64,
    /// How long this machine was suspended since it booted, in milliseconds (CLOCK_BOOTTIME less CLOCK_MONOTONIC).
    pub suspended_ms: u64,
}

impl Clocks {
    /// Reads them now.
    #[must_use]
    pub fn read() -> Self {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut suspended_ms = 0;
        for _ in 0..ATTEMPTS {
            let (before, boot, after) = (monotonic_ms(), boottime_ms(), monotonic_ms());
            suspended_ms = boot.saturating_sub(after);
            if after.saturating_sub(before) <= SAME_MOMENT_MS {
                break; // else we were interrupted in between, and the difference says nothing
            }
        }
        let wall_less_boot_s = signed(unix_now().0).saturating_sub(signed(boottime_ms() / 1_000));
        Self { wall_less_boot_s, suspended_ms }
    }

    /// What happened since the last reading, which `now` takes the place of.
    pub(super) fn advance(&mut self, now: Self) -> Option<Finding> {
        let back_s = u64::try_from(self.wall_less_boot_s.saturating_sub(now.wall_less_boot_s)).unwrap_or(0);
        let slept_ms = now.suspended_ms.saturating_sub(self.suspended_ms);
        self.wall_less_boot_s = self.wall_less_boot_s.max(now.wall_less_boot_s);
        self.suspended_ms = self.suspended_ms.max(now.suspended_ms);
        if back_s > CLOCK_BACK_TOLERANCE_S {
            return Some(Finding::Halt(HaltReason::ClockWentBack { by_s: back_s }));
        }
        (slept_ms > SUSPEND_TOLERANCE_MS).then_some(Finding::Attest(Trigger::Resumed))
    }
}

/// The wall clock may be set back by this much (SECURITY.md P8).
const CLOCK_BACK_TOLERANCE_S: u64 = 2;
/// No machine falls asleep and wakes up within this.
const SUSPEND_TOLERANCE_MS: u64 = 100;
/// Two readings this close are of one moment.
const SAME_MOMENT_MS: u64 = 5;
const ATTEMPTS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Clocks = Clocks { wall_less_boot_s: 1_000, suspended_ms: 50 };

    #[test]
    fn a_clock_set_back_halts_and_one_set_forward_does_not() {
        let set = |by_s: i64| {
            let mut clocks = FIRST;
            clocks.advance(Clocks { wall_less_boot_s: 1_000 + by_s, ..FIRST })
        };
        assert_eq!(set(-2), None);
        assert_eq!(set(-3), Some(Finding::Halt(HaltReason::ClockWentBack { by_s: 3 })));
        assert_eq!(set(500), None);
        // What was set forward before counts: back to where it was is back.
        let mut clocks = FIRST;
        assert_eq!(clocks.advance(Clocks { wall_less_boot_s: 1_500, ..FIRST }), None);
        assert_eq!(clocks.advance(FIRST), Some(Finding::Halt(HaltReason::ClockWentBack { by_s: 500 })));
        // And slowly is no better than at once.
        let mut clocks = FIRST;
        let steps = [999, 998, 997].map(|wall_less_boot_s| clocks.advance(Clocks { wall_less_boot_s, ..FIRST }));
        assert!(steps[..2].iter().all(Option::is_none) && steps[2].is_some(), "{steps:?}");
    }

    #[test]
    fn a_machine_that_slept_attests_at_once_and_only_once() {
        let mut clocks = FIRST;
        let slept = Clocks { suspended_ms: 60_050, ..FIRST };
        assert_eq!(clocks.advance(slept), Some(Finding::Attest(Trigger::Resumed)));
        assert_eq!(clocks.advance(slept), None);
        assert_eq!(clocks.advance(Clocks { suspended_ms: 60_051, ..slept }), None, "readings are not of one instant");
    }

    #[test]
    fn two_readings_in_a_row_find_nothing() {
        let mut clocks = Clocks::read();
        for _ in 0..100 {
            assert_eq!(clocks.advance(Clocks::read()), None);
        }
    }
}
