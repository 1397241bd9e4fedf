//! The TEE: is there still one to ask, and does nobody else speak for us with it?

use governance::halt::{HaltReason, Trigger};

use super::{FAILURES_CAP, Finding};
use crate::tee::{Tee, TeeError};

/// A look at the TEE from time to time. What a TEE measured before it started does not change while it runs; what a guest
/// measures into a TD's registers shows at the next renewal.
#[derive(Clone, Debug)]
pub struct TeeWatch {
    tee: Tee,
}

/// A watch since its first look.
pub(super) struct TeeLooks<'a> {
    tee: &'a Tee,
    failures: u32,
}

impl TeeWatch {
    /// A watch over this TEE.
    #[must_use]
    pub const fn new(tee: Tee) -> Self {
        Self { tee }
    }

    pub(super) const fn begin(&self) -> TeeLooks<'_> {
        TeeLooks { tee: &self.tee, failures: 0 }
    }
}

impl TeeLooks<'_> {
    pub(super) async fn look(&mut self) -> Option<Finding> {
        match self.tee.probe().await {
            Ok(()) => {
                self.failures = 0;
                None
            }
            Err(error @ TeeError::Disturbed { .. }) => {
                self.failures = 0;
                tracing::warn!(%error, "the watch's own request for reports was touched");
                Some(Finding::Attest(Trigger::TeeDisturbed))
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(%error, failures = self.failures, "the watch could not reach the TEE");
                (error.is_final() || self.failures >= FAILURES_CAP).then_some(Finding::Halt(HaltReason::DeviceLost))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

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

    async fn found_after(from: u32, until: u32, error: TeeError) -> (Finding, u32) {
        let looks = Arc::new(AtomicU32::new(0));
        let source = Failing { looks: Arc::clone(&looks), from, until, error };
        let watch = TeeWatch::new(Tee::start(TeeKind::SevSnp, source, Duration::from_secs(60)).unwrap());
        let mut begun = watch.begin();
        loop {
            if let Some(finding) = begun.look().await {
                return (finding, looks.load(Ordering::Relaxed));
            }
        }
    }

    const LOST: Finding = Finding::Halt(HaltReason::DeviceLost);

    #[tokio::test]
    async fn a_lost_tee_halts_at_once_and_a_failing_one_after_three_looks() {
        let lost = || TeeError::Lost { place: "there".to_owned(), why: "gone".to_owned() };
        assert_eq!(found_after(2, u32::MAX, lost()).await, (LOST, 3));
        let refused = || TeeError::NotPermitted { place: "there".to_owned() };
        assert_eq!(found_after(2, u32::MAX, refused()).await, (LOST, 5));
    }

    #[tokio::test]
    async fn a_request_of_ours_that_another_program_touched_is_for_a_verifier_to_judge() {
        let disturbed = TeeError::Disturbed { place: "there".to_owned(), why: "generation 2, left at 0".to_owned() };
        assert_eq!(found_after(1, 2, disturbed).await, (Finding::Attest(Trigger::TeeDisturbed), 2));
    }
}
