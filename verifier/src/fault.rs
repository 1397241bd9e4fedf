//! Faults: we could not judge, so nothing is released. Never to be confused with a denial.

use thiserror::Error;

use crate::ca::CaError;
use crate::clock::ClockWentBack;
use crate::keys::KeyFault;
use crate::leases::LeaseRefusal;
use crate::nodes::NodeRefusal;
use crate::random::NoRandomness;
use crate::store::{StoreError, WorkError};
use crate::wrap::WrapError;

/// Why no judgement could be made, or none could be made good.
#[derive(Debug, Error)]
pub enum Fault {
    /// The store did not commit, or did not answer; the outcome counts as "not released" (SECURITY.md P25).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no time to judge by.
    #[error(transparent)]
    Clock(#[from] ClockWentBack),
    /// There is no randomness for a nonce or a key.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Something the judgement is made by is not there: reference values, policies, anchors, a governance state.
    #[error("nothing to judge by: {what}")]
    TrustUnavailable {
        /// What is missing.
        what: String,
    },
    /// The enrolment that the evidence would be judged by cannot be read.
    #[error("endorsements unavailable: {what}")]
    EndorsementsUnavailable {
        /// What is missing.
        what: String,
    },
    /// What a logged decision was made from is no longer kept: it cannot be judged anew.
    #[error("not kept any more: {what}")]
    NotKept {
        /// What is missing.
        what: String,
    },
    /// An execution key cannot be opened or wrapped.
    #[error("execution key unavailable: {what}")]
    KeyUnavailable {
        /// What happened.
        what: String,
    },
    /// Governance moved on between judgement and release: ask again.
    #[error("governance epoch moved to {current} while judging under {judged}")]
    EpochMoved {
        /// Epoch in force.
        current: u64,
        /// Epoch judged under.
        judged: u64,
    },
    /// The node's stored state moved on between judgement and commit: ask again.
    #[error("the node's state moved on while judging: {what}")]
    Moved {
        /// What had changed.
        what: String,
    },
    /// Too few witnesses cosigned the log in time; nothing was released.
    #[error("fewer than {needed} witnesses cosigned the log in time")]
    WitnessQuorum {
        /// How many must.
        needed: usize,
    },
    /// The domain has no key for JWT-SVIDs yet: its state folder was made before there was one.
    #[error("no key signs JWT-SVIDs here: make one (verifier keys rotate --role jwt --prepare, then --activate)")]
    JwtKeyAbsent,
    /// A challenge was not answered in time; it is gone.
    #[error("the challenge was not answered in time")]
    ChallengeUnanswered,
    /// Too much at once from this peer, or in all.
    #[error("overloaded: {what}")]
    Overloaded {
        /// What ran out.
        what: &'static str,
    },
    /// The service is stopping.
    #[error("the verifier is shutting down")]
    ShuttingDown,
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// An impossible state.
    #[error("bug: {what}")]
    Bug {
        /// What was thought impossible.
        what: String,
    },
}

impl WorkError for Fault {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Store(fault) = self { Some(fault) } else { None }
    }
}

impl Fault {
    /// Stable code, `fault.<fact>`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Clock(_) => "fault.clock_went_back",
            Self::Randomness(_) => "fault.randomness_unavailable",
            Self::TrustUnavailable { .. } => "fault.trust_unavailable",
            Self::EndorsementsUnavailable { .. } => "fault.endorsements_unavailable",
            Self::NotKept { .. } => "fault.not_kept",
            Self::KeyUnavailable { .. } => "fault.key_unavailable",
            Self::EpochMoved { .. } => "fault.epoch_moved",
            Self::Moved { .. } => "fault.state_moved",
            Self::WitnessQuorum { .. } => "fault.witness_quorum",
            Self::JwtKeyAbsent => "fault.jwt_key_absent",
            Self::ChallengeUnanswered => "fault.challenge_unanswered",
            Self::Overloaded { .. } => "fault.overloaded",
            Self::ShuttingDown => "fault.shutting_down",
            Self::Certificate(_) => "fault.certificate",
            Self::Bug { .. } => "fault.bug",
        }
    }
}

impl From<WrapError> for Fault {
    fn from(error: WrapError) -> Self {
        Self::KeyUnavailable { what: error.to_string() }
    }
}

impl From<NodeRefusal> for Fault {
    fn from(refusal: NodeRefusal) -> Self {
        match refusal {
            NodeRefusal::Store(error) => error.into(),
            NodeRefusal::Unknown(_)
            | NodeRefusal::OtherIdentity(_)
            | NodeRefusal::EkInUse(_)
            | NodeRefusal::AdmittedForAnother(_)
            | NodeRefusal::LineageDiscontinuous(_) => Self::Moved { what: refusal.to_string() },
        }
    }
}

impl From<LeaseRefusal> for Fault {
    fn from(refusal: LeaseRefusal) -> Self {
        match refusal {
            LeaseRefusal::EpochMoved { current, judged } => Self::EpochMoved { current, judged },
            LeaseRefusal::Store(error) => error.into(),
            LeaseRefusal::Unknown(_) | LeaseRefusal::Over(..) | LeaseRefusal::OtherNode(_) => {
                Self::Moved { what: refusal.to_string() }
            }
        }
    }
}

impl From<KeyFault> for Fault {
    fn from(fault: KeyFault) -> Self {
        match fault {
            KeyFault::Store(error) => error.into(),
            KeyFault::Unknown(_)
            | KeyFault::BadLabel
            | KeyFault::BadSecret
            | KeyFault::Sealed(_)
            | KeyFault::Crypto(_) => Self::KeyUnavailable { what: fault.to_string() },
        }
    }
}
