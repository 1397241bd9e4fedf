//! The TEE: is there still one to ask?

use std::time::Duration;

use governance::halt::HaltReason;
use tokio::time::MissedTickBehavior;

use super::{FAILURES_CAP, clock_went_back, wall_less_boot_s};
use crate::tee::Tee;

/// A look at the TEE from time to time. What a TEE measured before it started does not change while it runs; what a guest
/// measures into a TD's registers shows at the next renewal.
#[derive(Clone, Debug)]
pub struct TeeWatch {
    tee: Tee,
    interval: Duration,
}

impl TeeWatch {
    /// A watch that looks this often.
    #[must_use]
    pub const fn new(tee: Tee, interval: Duration) -> Self {
        Self { tee, interval }
    }

    /// Resolves when the TEE is not there any more, or the clock went back.
    pub(super) async fn until_changed(&self) -> HaltReason {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failures, mut newest_s) = (0_u32, wall_less_boot_s());
        loop {
            ticks.tick().await;
            match self.tee.probe().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(%error, failures, "the watch could not reach the TEE");
                    if error.is_final() || failures >= FAILURES_CAP {
                        return HaltReason::DeviceLost;
                    }
                }
            }
            let now_s = wall_less_boot_s();
            if let Some(reason) = clock_went_back(newest_s, now_s) {
                return reason;
            }
            newest_s = newest_s.max(now_s);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::tee::reports::RawReport;
    use crate::tee::{TeeError, TeeKind, TeeReports};

    /// Fails from the given look on, as told.
    struct Failing {
        looks: Arc<AtomicU32>,
        from: u32,
        until: u32,
        error: TeeError,
    }

    impl TeeReports for Failing {
        fn report(&mut self, _data: &[u8; 64]) -> Result<RawReport, TeeError> {
            Err(TeeError::Raced)
        }
        fn probe(&mut self) -> Result<(), TeeError> {
            let look = self.looks.fetch_add(1, Ordering::Relaxed);
            if (self.from..self.until).contains(&look) { Err(self.error.clone()) } else { Ok(()) }
        }
    }

    async fn halted_after(from: u32, until: u32, error: TeeError) -> (HaltReason, u32) {
        let looks = Arc::new(AtomicU32::new(0));
        let source = Failing { looks: Arc::clone(&looks), from, until, error };
        let tee = Tee::start(TeeKind::SevSnp, source, Duration::from_secs(60)).unwrap();
        let reason = TeeWatch::new(tee, Duration::from_millis(1)).until_changed().await;
        (reason, looks.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_lost_tee_halts_at_once_and_a_failing_one_after_three_looks() {
        let lost = || TeeError::Lost { place: "there".to_owned(), why: "gone".to_owned() };
        assert_eq!(halted_after(2, u32::MAX, lost()).await, (HaltReason::DeviceLost, 3));
        let refused = || TeeError::NotPermitted { place: "there".to_owned() };
        assert_eq!(halted_after(2, u32::MAX, refused()).await, (HaltReason::DeviceLost, 5));
    }
}
