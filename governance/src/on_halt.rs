//! What a halt does to an execution: its intent says so, and policies see it.

use serde::{Deserialize, Serialize};

use crate::denial::GovernanceDenial;

/// Longest grace of a drain, in milliseconds.
pub const GRACE_CAP_MS: u32 = 10_000;

/// What a halt does to an execution. None of it lets the execution outlive its lease: whoever supervises it keeps the
/// deadline that it has, and only a frozen one stands still beyond it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum OnHalt {
    /// Every process of it is killed.
    #[default]
    Kill,
    /// Every process of it stands still, for forensics, until readmission or the end of the daemon kills it.
    Freeze,
    /// SIGTERM to every process of it; what is left after the grace is killed.
    Drain {
        /// How long it may take.
        grace_ms: u32,
    },
    /// It is told that its lease is over and gets no key any more; it ends when the lease would have run out. What it has
    /// read already, nobody can take back.
    RevokeKeys,
}

impl OnHalt {
    /// Its name in intents and policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Drain { .. } => "drain",
            Self::RevokeKeys => "revoke_keys",
        }
    }

    /// How long it may take to end after a halt, where that is said in milliseconds.
    #[must_use]
    pub const fn grace_ms(self) -> u32 {
        match self {
            Self::Kill | Self::Freeze | Self::RevokeKeys => 0,
            Self::Drain { grace_ms } => grace_ms,
        }
    }

    /// Refuses a grace that no drain can have.
    ///
    /// # Errors
    /// [`GovernanceDenial::FieldInvalid`].
    pub fn bounded(self, what: &'static str) -> Result<(), GovernanceDenial> {
        match self {
            Self::Drain { grace_ms: 1..=GRACE_CAP_MS } | Self::Kill | Self::Freeze | Self::RevokeKeys => Ok(()),
            Self::Drain { .. } => {
                let rule = "a grace of 1 to 10000 ms";
                Err(GovernanceDenial::FieldInvalid { what, field: "on_halt.drain.grace_ms", rule })
            }
        }
    }
}
