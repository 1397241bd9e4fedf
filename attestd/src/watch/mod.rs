//! The local watch: between renewals the node looks at its own TPM or TEE, and halts at once when it is no longer what was
//! appraised.
//!
//! It can only shorten a lease.

mod tee;
mod tpm;

use std::collections::BTreeMap;

use evidence::digest::Digest;
use governance::halt::HaltReason;

pub use tee::TeeWatch;
pub use tpm::{Reading, TpmWatch};

use crate::clock::{boottime_ms, unix_now};

/// What is looked at between renewals.
#[derive(Clone, Debug)]
pub enum Watch {
    /// The registers of a TPM, a confidential VM's too.
    Tpm(TpmWatch),
    /// That there is a TEE.
    Tee(TeeWatch),
}

impl Watch {
    /// Resolves when the machine is no longer what `appraised` says, or no longer there. The first look is taken at once;
    /// PCRs that the verifier did not appraise, and the clock, are compared with that one.
    pub async fn until_changed(&self, appraised: BTreeMap<u8, Digest>) -> HaltReason {
        match self {
            Self::Tpm(watch) => watch.until_changed(appraised).await,
            Self::Tee(watch) => watch.until_changed().await,
        }
    }
}

/// This machine's wall clock, in seconds, less the time since boot: constant while nobody sets the clock.
fn wall_less_boot_s() -> i64 {
    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    signed(unix_now().0).saturating_sub(signed(boottime_ms() / 1_000))
}

/// Whether the wall clock was set back between two readings of [`wall_less_boot_s`].
fn clock_went_back(before_s: i64, now_s: i64) -> Option<HaltReason> {
    let by_s = u64::try_from(before_s.saturating_sub(now_s)).ok()?;
    (by_s > CLOCK_BACK_TOLERANCE_S).then_some(HaltReason::ClockWentBack { by_s })
}

/// Looks in a row that may fail for a reason that could pass, such as another program holding the handles.
const FAILURES_CAP: u32 = 3;
/// The wall clock may be set back by this much (SECURITY.md P8).
const CLOCK_BACK_TOLERANCE_S: u64 = 2;
