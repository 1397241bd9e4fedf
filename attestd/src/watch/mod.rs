//! The local watch: between renewals the node looks at its own machine. What it can judge itself halts at once; what only a
//! verifier can judge makes it attest at once.
//!
//! It can only shorten a lease.

mod clocks;
mod ima;
mod tee;
mod tpm;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use evidence::digest::Digest;
use governance::halt::{HaltReason, Trigger};
use tokio::time::MissedTickBehavior;

pub use clocks::Clocks;
pub use tee::TeeWatch;
pub use tpm::TpmWatch;
pub(crate) use tpm::expected;

use self::ima::ImaTail;
use crate::tpm::TpmError;

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The machine is no longer what was appraised, or no longer there.
    Halt(HaltReason),
    /// A verifier must say what this means, now.
    Attest(Trigger),
}

/// What is looked at between renewals, and how often.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The registers of a TPM, a confidential VM's too.
    pub tpm: Option<TpmWatch>,
    /// That there is a TEE, and that nobody else speaks for us with it.
    pub tee: Option<TeeWatch>,
    /// IMA measurement list.
    pub ima_log: Option<PathBuf>,
    /// From one look to the next.
    pub interval: Duration,
    /// Reads this machine's clocks.
    pub clocks: fn() -> Clocks,
}

impl Watch {
    /// Watched PCRs as they are now; none where there is no TPM.
    pub(crate) async fn pcrs(&self) -> Result<BTreeMap<u8, Digest>, TpmError> {
        match &self.tpm {
            Some(tpm) => tpm.pcrs().await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Resolves when the machine's PCRs are no longer these, or it is no longer there; what a verifier must judge
    /// meanwhile goes to `attest`. The first look is taken at once; the clocks are compared with that one.
    /// `judged_ima_bytes` is how long the IMA log was when it was last judged.
    pub(crate) async fn until_changed(
        &self,
        pcrs: BTreeMap<u8, Digest>,
        judged_ima_bytes: impl Fn() -> Option<u64>,
        mut attest: impl FnMut(Trigger),
    ) -> HaltReason {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut clocks = (self.clocks)();
        let mut tpm = self.tpm.as_ref().map(|tpm| tpm.begin(pcrs));
        let mut tee = self.tee.as_ref().map(TeeWatch::begin);
        let mut ima = self.ima_log.clone().map(ImaTail::new);
        loop {
            ticks.tick().await;
            let mut findings = vec![clocks.advance((self.clocks)())];
            if let Some(tpm) = &mut tpm {
                findings.push(tpm.look().await);
            }
            if let Some(tee) = &mut tee {
                findings.push(tee.look().await);
            }
            if let Some(tail) = ima.take() {
                let (tail, finding) = tail.look(judged_ima_bytes()).await;
                ima = Some(tail);
                findings.push(finding);
            }
            // Nothing is asked of a verifier about a machine that has to stop anyway.
            let mut triggers = Vec::new();
            for finding in findings.into_iter().flatten() {
                match finding {
                    Finding::Halt(reason) => return reason,
                    Finding::Attest(trigger) => triggers.push(trigger),
                }
            }
            for trigger in triggers {
                tracing::warn!(code = trigger.halt_code(), ?trigger, "the local watch saw what a verifier must judge");
                attest(trigger);
            }
        }
    }
}

/// Looks in a row that may fail for a reason that could pass, such as another program holding the handles.
const FAILURES_CAP: u32 = 3;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A machine that sleeps a minute from the third look on, and whose clock is set back at the sixth.
    fn shim() -> Clocks {
        static LOOKS: AtomicU64 = AtomicU64::new(0);
        let look = LOOKS.fetch_add(1, Ordering::Relaxed);
        let suspended_ms = if look < 3 { 0 } else { 60_000 };
        Clocks { wall_less_boot_s: if look < 6 { 1_000 } else { 900 }, suspended_ms }
    }

    #[tokio::test]
    async fn a_suspended_machine_attests_once_and_a_clock_set_back_ends_the_watch() {
        let interval = Duration::from_millis(1);
        let watch = Watch { tpm: None, tee: None, ima_log: None, interval, clocks: shim };
        let mut triggers = Vec::new();
        let reason = watch.until_changed(BTreeMap::new(), || None, |trigger| triggers.push(trigger)).await;
        assert_eq!(reason, HaltReason::ClockWentBack { by_s: 100 });
        assert_eq!(triggers, [Trigger::Resumed]);
    }
}
