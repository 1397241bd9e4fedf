//! The verifier's wall clock, which never goes back unnoticed (SECURITY.md P8).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use evidence::time::UnixSeconds;
use thiserror::Error;

/// Wall time may step back this far (a slewing time daemon) and is then held at its highest value.
const STEP_BACK_TOLERATED_S: u64 = 2;

/// Judging needs the time, and the wall clock contradicts what we have already seen or signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("wall clock says {wall}, but {seen} has already been")]
pub struct ClockWentBack {
    /// What the clock says now.
    pub wall: UnixSeconds,
    /// The latest time seen: by this process, or by what it has logged.
    pub seen: UnixSeconds,
}

/// Wall time, at least as late as everything it has said and everything already logged.
#[derive(Debug)]
pub struct Clock {
    seen: AtomicU64,
}

impl Clock {
    /// Starts not earlier than `floor`: the latest time found in durable state.
    pub fn starting_at(floor: UnixSeconds) -> Self {
        Self { seen: AtomicU64::new(floor.0) }
    }

    /// The time, or the reason why there is none to judge by.
    pub fn now(&self) -> Result<UnixSeconds, ClockWentBack> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.at(UnixSeconds(wall))
    }

    fn at(&self, wall: UnixSeconds) -> Result<UnixSeconds, ClockWentBack> {
        let seen = self.seen.fetch_max(wall.0, Ordering::AcqRel).max(wall.0);
        if wall.plus(STEP_BACK_TOLERATED_S).0 < seen {
            return Err(ClockWentBack { wall, seen: UnixSeconds(seen) });
        }
        Ok(UnixSeconds(seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_is_a_fault_and_a_small_step_is_held() {
        let clock = Clock::starting_at(UnixSeconds(100));
        assert_eq!(clock.at(UnixSeconds(97)), Err(ClockWentBack { wall: UnixSeconds(97), seen: UnixSeconds(100) }));
        assert_eq!(clock.at(UnixSeconds(98)), Ok(UnixSeconds(100)));
        assert_eq!(clock.at(UnixSeconds(200)), Ok(UnixSeconds(200)));
        assert_eq!(clock.at(UnixSeconds(199)), Ok(UnixSeconds(200)));
        assert!(clock.at(UnixSeconds(197)).is_err());
    }
}
