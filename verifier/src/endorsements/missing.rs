//! What a judgement cannot be made without, and how it is come by: the fault `endorsements_unavailable`.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use super::cache::FetchFailure;
use super::key::{EndorsementKey, SnpLevels, SnpLine};
use crate::fault::Fault;
use crate::store::StoreError;

/// Why an endorsement is not at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    NotStored,
    /// The newest one does not speak of the time judged at.
    NotCurrent {
        /// First second it speaks of.
        issued_at: u64,
        /// Last second it speaks of.
        ends_at: u64,
        /// Time judged at.
        at: u64,
    },
    /// The newest one was issued too long ago.
    TooOld {
        /// Its age in seconds.
        age_s: u64,
        /// The configured maximum in seconds.
        maximum_age_s: u64,
    },
    /// None is signed by the issuer at hand.
    NotOfIssuer,
    /// Several service providers have one, and the evidence does not say whose.
    SeveralProviders,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStored => f.write_str("is not stored"),
            Self::NotCurrent { issued_at, ends_at, at } => {
                write!(f, "speaks from {} to {}, not at {}", date(*issued_at), date(*ends_at), date(*at))
            }
            Self::TooOld { age_s, maximum_age_s } => {
                write!(f, "is {age_s} s old, at most {maximum_age_s} s is judged by")
            }
            Self::NotOfIssuer => f.write_str("is not stored as signed by the issuer at hand"),
            Self::SeveralProviders => f.write_str("is stored for several providers, and must come with the evidence"),
        }
    }
}

fn date(seconds: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.map_or_else(|| seconds.to_string(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// One endorsement that is not at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it would be about, in words.
    pub what: String,
    /// Why it is not at hand.
    pub why: Why,
    /// What the cache said, where one was asked.
    pub asked: Option<FetchFailure>,
}

impl Missing {
    pub(super) fn new(key: &EndorsementKey, why: Why) -> Self {
        Self { what: key.to_string(), why, asked: None }
    }

    pub(super) fn vlek(line: SnpLine, tcb: [u8; 8], why: Why) -> Self {
        Self { what: format!("VLEK of {line} at TCB ({})", SnpLevels::of(line, tcb)), why, asked: None }
    }

    pub(super) fn after(self, failure: FetchFailure) -> Self {
        Self { asked: Some(failure), ..self }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.why)?;
        self.asked.as_ref().map_or(Ok(()), |failure| write!(f, " ({failure})"))
    }
}

/// A lookup that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// These are missing.
    #[error("{}; import with: verifier endorsements import FILE|DIR", listed(.0))]
    Missing(Vec<Missing>),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn listed(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Unavailable {
    pub(super) fn of(missing: impl IntoIterator<Item = Option<Missing>>) -> Self {
        Self::Missing(missing.into_iter().flatten().collect())
    }
}

impl From<Unavailable> for Fault {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Missing(_) => Self::EndorsementsUnavailable { what: unavailable.to_string() },
            Unavailable::Store(error) => error.into(),
        }
    }
}
