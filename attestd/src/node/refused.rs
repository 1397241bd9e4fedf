//! Why an execution was not authorized or not started, as its client is told.

use governance::GovernanceDenial;
use wire::bounded::verifier::{Refusal, RefusalClass};
use wire::proto;

use super::domain::AcceptDenial;
use crate::collect::{ChallengeDenial, CollectFault};
use crate::gateway::{GatewayError, ImageError};
use crate::locked::NotLocked;
use crate::tee::node_key::XWingKeyError;
use crate::tpm::TpmError;

/// A refusal: by a verifier, or by this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    class: Class,
    /// Stable code.
    pub(crate) code: String,
    /// Log index of the denial at the verifier; empty if there is none.
    pub(crate) entry: String,
    /// Whether the node must halt.
    pub(crate) halt: bool,
    /// Policy rules that denied, where rules did.
    pub(crate) rules: Vec<String>,
    /// For the node's own log.
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Judged, and the answer is no.
    Denied,
    /// Could not be judged.
    Fault,
}

impl Refused {
    pub(crate) fn denied(code: &str, what: impl std::fmt::Display) -> Self {
        Self::new(Class::Denied, code, what)
    }

    pub(crate) fn fault(code: &str, what: impl std::fmt::Display) -> Self {
        Self::new(Class::Fault, code, what)
    }

    fn new(class: Class, code: &str, what: impl std::fmt::Display) -> Self {
        Self {
            class,
            code: code.to_owned(),
            entry: String::new(),
            halt: false,
            rules: Vec::new(),
            what: what.to_string(),
        }
    }

    /// The same, by these rules.
    pub(crate) fn by(self, rules: Vec<String>) -> Self {
        Self { rules, ..self }
    }

    /// A verifier's.
    pub(crate) fn by_verifier(refusal: Refusal) -> Self {
        let class = match refusal.class {
            RefusalClass::Denied => Class::Denied,
            RefusalClass::Fault => Class::Fault,
        };
        let entry = refusal.entry.map(|index| index.to_string()).unwrap_or_default();
        let rules = refusal.rules.iter().map(|rule| rule.as_str().to_owned()).collect();
        Self { entry, halt: refusal.halt, rules, ..Self::new(class, &refusal.code, "by the verifier") }
    }

    pub(crate) fn is_denial(&self) -> bool {
        self.class == Class::Denied
    }

    /// Whether a verifier put it on record that it no longer authorizes, and that this is no fault of the node.
    pub(crate) fn withdraws(&self) -> bool {
        self.is_denial() && !self.halt && !self.entry.is_empty()
    }

    /// `denied` or `fault`.
    pub(crate) const fn class(&self) -> &'static str {
        match self.class {
            Class::Denied => "denied",
            Class::Fault => "fault",
        }
    }

    pub(crate) fn to_message(&self) -> proto::Refusal {
        proto::Refusal {
            class: self.class().to_owned(),
            code: self.code.clone(),
            entry: self.entry.clone(),
            lineage_head: Vec::new(),
            halt: self.halt,
            rules: self.rules.clone(),
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.class(), self.what)
    }
}

impl From<GovernanceDenial> for Refused {
    fn from(denial: GovernanceDenial) -> Self {
        Self::denied(denial.code(), &denial)
    }
}

impl From<AcceptDenial> for Refused {
    fn from(denial: AcceptDenial) -> Self {
        Self::denied(denial.code(), &denial)
    }
}

impl From<ChallengeDenial> for Refused {
    fn from(denial: ChallengeDenial) -> Self {
        Self::denied(denial.code(), &denial)
    }
}

impl From<CollectFault> for Refused {
    fn from(fault: CollectFault) -> Self {
        Self::fault(fault.code(), &fault)
    }
}

impl From<TpmError> for Refused {
    fn from(error: TpmError) -> Self {
        let class = if error.class() == "denied" { Class::Denied } else { Class::Fault };
        Self::new(class, error.code(), &error)
    }
}

impl From<NotLocked> for Refused {
    fn from(error: NotLocked) -> Self {
        Self::fault("fault.memory_not_locked", &error)
    }
}

impl From<XWingKeyError> for Refused {
    fn from(error: XWingKeyError) -> Self {
        let class = if error.class() == "denied" { Class::Denied } else { Class::Fault };
        Self::new(class, error.code(), &error)
    }
}

impl From<GatewayError> for Refused {
    fn from(error: GatewayError) -> Self {
        match &error {
            GatewayError::NotAuthorized(denial) => Self::denied(denial.code(), &error),
            GatewayError::Attach(_) | GatewayError::Executable(_) => Self::denied("governance.workload", &error),
            GatewayError::Image(
                ImageError::Unreadable { .. } | ImageError::Unfit { .. } | ImageError::Digest { .. },
            ) => Self::denied("governance.workload", &error),
            GatewayError::Unavailable(_) | GatewayError::Image(ImageError::Unavailable(_)) => {
                Self::fault("fault.isolation_unavailable", &error)
            }
            GatewayError::TooManyImages => Self::fault("fault.overloaded", &error),
            GatewayError::Environment(_) => Self::denied("governance.field_invalid", &error),
            GatewayError::Request { .. }
            | GatewayError::Image(ImageError::NotUnpacked { .. })
            | GatewayError::NotStarted { .. }
            | GatewayError::SupervisorLost
            | GatewayError::Control(_)
            | GatewayError::Cgroup { .. }
            | GatewayError::System(_) => Self::fault("fault.workload_not_started", &error),
        }
    }
}

impl From<crate::state::StateError> for Refused {
    fn from(error: crate::state::StateError) -> Self {
        Self::fault("fault.state_unavailable", &error)
    }
}
