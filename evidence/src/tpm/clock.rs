//! Continuity of one TPM's time and counters (T8).

use serde::{Deserialize, Serialize};

use super::attest::ClockInfo;
use crate::EvidenceDenial;

/// What the verifier last accepted from one AK. Counters of different AKs are not comparable: the TPM obfuscates
/// them per key outside the platform and endorsement hierarchies (TPM2 Library Part 2, TPMS_CLOCK_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockState {
    /// TPM resets at the baseline: of the enrolment, or of the last logged restart.
    pub reset_count: u32,
    /// TPM restarts and resumes at the baseline.
    pub restart_count: u32,
    /// Clock of the newest accepted statement, in milliseconds.
    pub last_clock_ms: u64,
}

impl ClockState {
    /// The state after accepting a statement with this clock.
    #[must_use]
    pub const fn at(clock: ClockInfo) -> Self {
        Self { reset_count: clock.reset_count, restart_count: clock.restart_count, last_clock_ms: clock.clock_ms }
    }

    /// Judges a statement: safe, same boot as the baseline, strictly later than the last.
    ///
    /// # Errors
    /// [`EvidenceDenial::ClockUnsafe`], [`EvidenceDenial::TpmRestarted`] when counters are higher (a restart that
    /// was not logged), [`EvidenceDenial::TpmRolledBack`] when counters or clock are lower or the clock stands
    /// still: a clone, a replay or a restored state.
    pub const fn accept(&self, clock: ClockInfo) -> Result<Self, EvidenceDenial> {
        if !clock.safe {
            return Err(EvidenceDenial::ClockUnsafe { clock_ms: clock.clock_ms });
        }
        let next = Self::at(clock);
        if next.boot() < self.boot() {
            return Err(EvidenceDenial::TpmRolledBack { got: next, last: *self });
        }
        if next.boot() > self.boot() {
            return Err(EvidenceDenial::TpmRestarted { got: next, baseline: *self });
        }
        if next.last_clock_ms <= self.last_clock_ms {
            return Err(EvidenceDenial::TpmRolledBack { got: next, last: *self });
        }
        Ok(next)
    }

    /// The state after a restart that was logged: counters moved to those of `clock`. `None` when they did not
    /// grow, or the clock went back.
    #[must_use]
    pub const fn after_logged_restart(&self, clock: ClockInfo) -> Option<Self> {
        let next = Self::at(clock);
        if clock.safe && next.boot() > self.boot() && clock.clock_ms >= self.last_clock_ms {
            // the statement that showed the restart has still to be accepted, strictly later than this
            Some(Self { last_clock_ms: self.last_clock_ms, ..next })
        } else {
            None
        }
    }

    /// Resets above restarts: orders the boots of one TPM. A reset sets restartCount to zero.
    const fn boot(&self) -> u64 {
        let [a, b, c, d] = self.reset_count.to_be_bytes();
        let [e, f, g, h] = self.restart_count.to_be_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl std::fmt::Display for ClockState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "reset {} restart {} clock {} ms", self.reset_count, self.restart_count, self.last_clock_ms)
    }
}
