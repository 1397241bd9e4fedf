//! How a partner stands, and what of it is for good.

use serde::{Deserialize, Serialize};

use crate::denial::GovernanceDenial;

/// What was concluded for good: only an operator who trusts anew undoes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Trusted,
    /// Two things were signed under one number.
    Forked,
    /// Something older than what was seen came as the newest.
    RolledBack,
    /// An operator took the trust back.
    Untrusted,
}

/// How a partner stands at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// What it says counts.
    Fresh,
    /// It was not seen for too long, or what is held of it has expired.
    Stale,
    /// Its newest state names another bundle than the one that it serves.
    Inconsistent,
    /// It signed two histories.
    Forked,
    /// It went back in time.
    RolledBack,
    /// An operator took the trust back.
    Untrusted,
}

impl Standing {
    /// Its name in tables, records and alarms.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Inconsistent => "inconsistent",
            Self::Forked => "forked",
            Self::RolledBack => "rolled_back",
            Self::Untrusted => "untrusted",
        }
    }
}

/// What a refusal says of the partner for good. Whatever is not proof of a second or older history says nothing.
pub(super) const fn verdict_of(denial: &GovernanceDenial) -> Verdict {
    use GovernanceDenial as Denial;
    if matches!(denial, Denial::StateForked { .. } | Denial::BundleForked { .. } | Denial::LogForked { .. }) {
        return Verdict::Forked;
    }
    if matches!(denial, Denial::StateRolledBack { .. } | Denial::BundleRolledBack { .. } | Denial::LogRolledBack { .. })
    {
        return Verdict::RolledBack;
    }
    Verdict::Trusted
}
