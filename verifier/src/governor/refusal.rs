//! Why an operator's order was not carried out.

use audit::AuditDenial;
use evidence::names::ItemName;
use evidence::threshold::ThresholdDenial;
use firmware_refs::lifecycle::LifecycleError;
use firmware_refs::signed::SignedSetError;
use firmware_refs::values::ValuesError;
use governance::GovernanceDenial;
use policy::set::PolicySetError;

use crate::anchors::AnchorsFault;
use crate::clock::ClockWentBack;
use crate::fault::Fault;
use crate::keys::KeyFault;
use crate::nodes::NodeRefusal;
use crate::state::StateError;
use crate::store::{StoreError, WorkError};

/// Refused, or not possible; nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum OrderRefusal {
    /// Judged, and refused.
    #[error(transparent)]
    Governance(#[from] GovernanceDenial),
    /// Signatures that do not carry what they are over.
    #[error(transparent)]
    Signatures(#[from] ThresholdDenial),
    /// A reference value set that is none.
    #[error(transparent)]
    ReferenceSet(#[from] SignedSetError),
    /// A signature by a key that may not speak for the environment of the set.
    #[error("{signer} may not sign reference values of environment {environment}; these may: {allowed}")]
    SignerNotAllowed {
        /// Environment of the set.
        environment: ItemName,
        /// Who signed.
        signer: String,
        /// Who may.
        allowed: String,
    },
    /// Too few of a set's signers may speak for its environment.
    #[error("{got} of the signers may sign reference values of environment {environment}, {threshold} must")]
    TooFewAllowedSigners {
        /// Environment of the set.
        environment: ItemName,
        /// How many may.
        got: usize,
        /// How many must.
        threshold: u8,
    },
    /// Nobody may speak for the environment of the set.
    #[error("environment {environment} is not listed in references.signers: nobody may sign values for it")]
    EnvironmentUnlisted {
        /// Environment of the set.
        environment: ItemName,
    },
    /// A step that a reference value set cannot take.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// Reference value sets that cannot be in force together.
    #[error(transparent)]
    Values(#[from] ValuesError),
    /// A policy set that is none.
    #[error(transparent)]
    PolicySet(#[from] PolicySetError),
    /// A policy version at or below one that was active, or not imported.
    #[error("policy set: {0}")]
    PolicyStep(String),
    /// A node that is not there, or not as the order says.
    #[error(transparent)]
    Node(#[from] NodeRefusal),
    /// A node whose status the order does not fit.
    #[error("node {node}: {why}")]
    NodeStatus {
        /// Which.
        node: String,
        /// Why.
        why: String,
    },
    /// Trust anchors that cannot be used.
    #[error(transparent)]
    Anchors(#[from] AnchorsFault),
    /// An execution key that cannot be stored.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// Nothing of that name.
    #[error("{what} {name} is not known")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// A request that is none.
    #[error("{0}")]
    Malformed(String),
    /// A record of our own that broke its rules: a defect of this program.
    #[error("bug: {0}")]
    Bug(String),
    /// No judgement could be made.
    #[error(transparent)]
    NotJudged(#[from] Fault),
    /// A key of the domain's own cannot be read or made.
    #[error(transparent)]
    KeyFile(#[from] StateError),
    /// No time to judge by.
    #[error(transparent)]
    Clock(#[from] ClockWentBack),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WorkError for OrderRefusal {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Store(fault) | Self::Node(NodeRefusal::Store(fault)) | Self::Key(KeyFault::Store(fault)) = self {
            return Some(fault);
        }
        if let Self::NotJudged(fault) = self { fault.store_fault() } else { None }
    }
}

impl From<AuditDenial> for OrderRefusal {
    fn from(denial: AuditDenial) -> Self {
        Self::Bug(denial.to_string())
    }
}

impl From<evidence::cbor::CborError> for OrderRefusal {
    fn from(error: evidence::cbor::CborError) -> Self {
        Self::Bug(error.to_string())
    }
}

impl OrderRefusal {
    /// "denied" when it was judged, "fault" when it could not be.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Store(_)
            | Self::NotJudged(_)
            | Self::Clock(_)
            | Self::KeyFile(_)
            | Self::Bug(_)
            | Self::Anchors(_)
            | Self::Node(NodeRefusal::Store(_))
            | Self::Key(KeyFault::Store(_) | KeyFault::Crypto(_) | KeyFault::Sealed(_)) => "fault",
            Self::Governance(_)
            | Self::Signatures(_)
            | Self::ReferenceSet(_)
            | Self::SignerNotAllowed { .. }
            | Self::TooFewAllowedSigners { .. }
            | Self::EnvironmentUnlisted { .. }
            | Self::Lifecycle(_)
            | Self::Values(_)
            | Self::PolicySet(_)
            | Self::PolicyStep(_)
            | Self::Node(_)
            | Self::NodeStatus { .. }
            | Self::Key(_)
            | Self::Unknown { .. }
            | Self::Malformed(_) => "denied",
        }
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Governance(denial) => denial.code(),
            Self::Signatures(_) => "order.signatures",
            Self::ReferenceSet(_) => "order.reference_set",
            Self::SignerNotAllowed { .. } | Self::TooFewAllowedSigners { .. } => "order.signer_not_allowed",
            Self::EnvironmentUnlisted { .. } => "order.environment_unlisted",
            Self::Lifecycle(_) => "order.lifecycle",
            Self::Values(_) => "order.reference_values",
            Self::PolicySet(_) => "order.policy_set",
            Self::PolicyStep(_) => "order.policy_step",
            Self::Node(NodeRefusal::Store(fault)) | Self::Key(KeyFault::Store(fault)) | Self::Store(fault) => {
                fault.code()
            }
            Self::Node(_) | Self::NodeStatus { .. } => "order.node",
            Self::Anchors(_) => "fault.anchors",
            Self::Key(KeyFault::Crypto(_) | KeyFault::Sealed(_)) => "fault.key_unavailable",
            Self::Key(KeyFault::Unknown(_) | KeyFault::BadLabel | KeyFault::BadSecret) => "order.key",
            Self::Unknown { .. } => "order.unknown",
            Self::Malformed(_) => "order.malformed",
            Self::Bug(_) => "fault.bug",
            Self::NotJudged(fault) => fault.code(),
            Self::KeyFile(_) => "fault.key_unavailable",
            Self::Clock(_) => "fault.clock_went_back",
        }
    }
}
