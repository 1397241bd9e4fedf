//! Why an appraisal ended in a refusal: the denials of every stage in one sum,
//! and the shape in which they leave the program.

use std::sync::Arc;

use evidence::{EvidenceDenial, denial::EvidenceDenialKind, ledger::CheckLedger};
use firmware_refs::{
    ReferenceDenial,
    denial::{ReferenceDenialKind, ReferenceName},
    text::Moment,
};
use governance::{GovernanceDenial, denial::GovernanceDenialKind};
use serde::Serialize;
use strum::{EnumDiscriminants, EnumIter};

use crate::engine::Rule;
use crate::schema::Action;
use crate::set::PolicyName;

/// The policy set was asked, and refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(PolicyDenialKind),
    derive(EnumIter, Hash, PartialOrd, Ord),
    doc = "The variants of [`PolicyDenial`], to enumerate them."
)]
pub enum PolicyDenial {
    /// The checks that passed are not exactly those required: one never ran, or one ran that nothing asked for.
    #[error("checks passed: {passed}; required: {required}")]
    ChecksIncomplete {
        /// Checks that passed.
        passed: CheckLedger,
        /// Checks that must.
        required: CheckLedger,
    },
    /// The policy set is over.
    #[error("policy set {set} ended at {ended}, it is {now}")]
    Expired {
        /// The set.
        set: Arc<PolicyName>,
        /// When it ended.
        ended: Moment,
        /// When it was asked.
        now: Moment,
    },
    /// What is to be judged does not fit the schema.
    #[error("claims do not fit the policy schema: {what}")]
    RequestInvalid {
        /// The set.
        set: Arc<PolicyName>,
        /// What was asked.
        action: Action,
        /// What does not fit.
        what: String,
    },
    /// No policy permits it.
    #[error("no policy of {set} permits {action}")]
    NotPermitted {
        /// The set.
        set: Arc<PolicyName>,
        /// What was asked.
        action: Action,
        /// Policies that could have permitted it, by `@id`.
        permits: Vec<String>,
    },
    /// A policy forbids it, whatever others permit.
    #[error("policy {} of {set} forbids {action}{}", .rule.id, reason(.rule))]
    Forbidden {
        /// The set.
        set: Arc<PolicyName>,
        /// What was asked.
        action: Action,
        /// The policy.
        rule: Rule,
    },
    /// A policy could not be evaluated. It might have been a `forbid`.
    #[error("policy {} of {set} could not be evaluated: {what}", .rule.id)]
    Error {
        /// The set.
        set: Arc<PolicyName>,
        /// What was asked.
        action: Action,
        /// The policy.
        rule: Rule,
        /// Why not.
        what: String,
    },
}

fn reason(rule: &Rule) -> String {
    rule.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"))
}

impl PolicyDenialKind {
    /// Stable code, `policy.<fact>`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ChecksIncomplete => "policy.checks_incomplete",
            Self::Expired => "policy.expired",
            Self::RequestInvalid => "policy.request_invalid",
            Self::NotPermitted => "policy.not_permitted",
            Self::Forbidden => "policy.forbidden",
            Self::Error => "policy.error",
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}

impl PolicyDenial {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        PolicyDenialKind::from(self).code()
    }

    /// The policy that determined it, where one did.
    #[must_use]
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Forbidden { rule, .. } | Self::Error { rule, .. } => Some(rule),
            Self::ChecksIncomplete { .. }
            | Self::Expired { .. }
            | Self::RequestInvalid { .. }
            | Self::NotPermitted { .. } => None,
        }
    }

    fn set(&self) -> Option<&Arc<PolicyName>> {
        match self {
            Self::ChecksIncomplete { .. } => None,
            Self::Expired { set, .. }
            | Self::RequestInvalid { set, .. }
            | Self::NotPermitted { set, .. }
            | Self::Forbidden { set, .. }
            | Self::Error { set, .. } => Some(set),
        }
    }

    fn failure(&self) -> Failure {
        let action = |action: &Action| format!("policy.{action}");
        let (claim, got, accepted, hint) = match self {
            Self::ChecksIncomplete { passed, required } => {
                let unasked = required.missing(*passed);
                let got = format!("not passed: {}; not asked for: {unasked}", passed.missing(*required));
                let hint = "the evidence lacks a part that the challenge required".to_owned();
                ("checks".to_owned(), got, vec![required.to_string()], Some(hint))
            }
            Self::Expired { ended, now, .. } => (
                "policy.validity".to_owned(),
                now.to_string(),
                vec![format!("before {ended}")],
                Some("activate a newer version of the policy set".to_owned()),
            ),
            Self::RequestInvalid { action: a, what, .. } => (action(a), what.clone(), Vec::new(), None),
            Self::NotPermitted { action: a, permits, .. } => {
                let hint = match permits.as_slice() {
                    [] => format!("the policy set has no permit for {a}"),
                    permits => format!("no condition was met of: {}", permits.join(", ")),
                };
                (action(a), "not permitted".to_owned(), permits.clone(), Some(hint))
            }
            Self::Forbidden { action: a, rule, .. } => {
                let got = format!("forbidden by {}{}", rule.id, reason(rule));
                (action(a), got, Vec::new(), rule.hint.clone())
            }
            Self::Error { action: a, rule, what, .. } => {
                let hint = rule.hint.clone().or_else(|| Some(format!("mend policy {}", rule.id)));
                (action(a), format!("error in {}: {what}", rule.id), Vec::new(), hint)
            }
        };
        let reference = self.set().map(ReferenceText::of_policy);
        Failure { code: self.code(), claim, got, accepted, reference, hint }
    }
}

/// Which stage refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DenialClass {
    /// Not authentic, or no answer to our challenge.
    Evidence,
    /// Not as known.
    Reference,
    /// Not within what was authorized, or by whom.
    Governance,
    /// Not allowed today.
    Policy,
}

impl DenialClass {
    /// Its name: the part of every code before the dot.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Reference => "reference",
            Self::Governance => "governance",
            Self::Policy => "policy",
        }
    }
}

/// We judged, and said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Not authentic, or no answer to our challenge.
    #[error(transparent)]
    Evidence(#[from] EvidenceDenial),
    /// Not as known.
    #[error(transparent)]
    Reference(#[from] ReferenceDenial),
    /// Not within what was authorized, or by whom.
    #[error(transparent)]
    Governance(#[from] GovernanceDenial),
    /// Not allowed today.
    #[error(transparent)]
    Policy(#[from] PolicyDenial),
}

/// One failure as it leaves the program (DESIGN.md §12). The node is told the code alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Stable code.
    pub code: &'static str,
    /// Path of the claim.
    pub claim: String,
    /// What it was.
    pub got: String,
    /// What would have been accepted.
    pub accepted: Vec<String>,
    /// By which signed data.
    pub reference: Option<ReferenceText>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The signed data that judged: a reference value set or a policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReferenceText {
    /// Name of the set.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// Key ids of who signed it.
    pub signer: String,
}

impl ReferenceText {
    pub(crate) fn of_values(name: &ReferenceName) -> Self {
        Self { id: name.id.to_string(), version: name.version, signer: name.signer() }
    }

    pub(crate) fn of_policy(name: &Arc<PolicyName>) -> Self {
        let signers: Vec<_> = name.signers.iter().map(ToString::to_string).collect();
        Self { id: name.id.to_string(), version: name.version, signer: signers.join(" ") }
    }
}

/// A refusal as JSON: `{"decision":"denied","failures":[...]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeniedJson {
    decision: &'static str,
    failures: Vec<Failure>,
}

impl DeniedJson {
    /// The document for `denials`, in their order.
    #[must_use]
    pub fn new(denials: &[Denial]) -> Self {
        Self { decision: "denied", failures: denials.iter().map(Denial::failure).collect() }
    }
}

impl Denial {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Evidence(denial) => denial.code(),
            Self::Reference(denial) => denial.code(),
            Self::Governance(denial) => denial.code(),
            Self::Policy(denial) => denial.code(),
        }
    }

    /// Which stage refused.
    #[must_use]
    pub const fn class(&self) -> DenialClass {
        match self {
            Self::Evidence(_) => DenialClass::Evidence,
            Self::Reference(_) => DenialClass::Reference,
            Self::Governance(_) => DenialClass::Governance,
            Self::Policy(_) => DenialClass::Policy,
        }
    }

    /// The failure as it leaves the program.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::Evidence(denial) => evidence_failure(denial),
            Self::Reference(denial) => Failure {
                code: denial.code(),
                claim: denial.claim(),
                got: denial.got(),
                accepted: denial.accepted(),
                reference: denial.reference().map(ReferenceText::of_values),
                hint: Some(denial.hint().to_owned()),
            },
            Self::Governance(denial) => Failure {
                code: denial.code(),
                claim: "governance".to_owned(),
                got: denial.to_string(),
                accepted: Vec::new(),
                reference: None,
                hint: Some(GovernanceDenialKind::from(denial).hint().to_owned()),
            },
            Self::Policy(denial) => denial.failure(),
        }
    }

    /// Every code of every stage, in their order.
    #[must_use]
    pub fn all_codes() -> Vec<&'static str> {
        let evidence = EvidenceDenialKind::all().map(EvidenceDenialKind::code);
        let reference = ReferenceDenialKind::all().map(ReferenceDenialKind::code);
        let governance = GovernanceDenialKind::all().map(GovernanceDenialKind::code);
        let policy = PolicyDenialKind::all().map(PolicyDenialKind::code);
        evidence.chain(reference).chain(governance).chain(policy).collect()
    }
}

/// Evidence denials say both sides in their text; where one is about a claim that people look for by name, it is
/// taken apart.
fn evidence_failure(denial: &EvidenceDenial) -> Failure {
    let mut failure = Failure {
        code: denial.code(),
        claim: "evidence".to_owned(),
        got: denial.to_string(),
        accepted: Vec::new(),
        reference: None,
        hint: Some(EvidenceDenialKind::from(denial).hint().to_owned()),
    };
    let mut about = |claim: String, got: String, accepted: String| {
        (failure.claim, failure.got, failure.accepted) = (claim, got, vec![accepted]);
    };
    if let EvidenceDenial::ReplayMismatch { pcr, got, quoted } = denial {
        about(format!("tpm.pcr.{pcr}"), quoted.to_string(), format!("{got} (where the event log leads)"));
    } else if let EvidenceDenial::RtmrReplayMismatch { rtmr, got, quoted } = denial {
        about(format!("tdx.rtmr.{rtmr}"), quoted.to_string(), format!("{got} (where the event log leads)"));
    } else if let EvidenceDenial::BindingMismatch { got, expected } = denial {
        about("binding".to_owned(), got.clone(), expected.clone());
    } else if let EvidenceDenial::PcrSelection { got, required } = denial {
        about("tpm.quote.pcrs".to_owned(), got.clone(), required.clone());
    } else if let EvidenceDenial::PcrDigestMismatch { got, quoted } = denial {
        about("tpm.pcrs".to_owned(), got.clone(), quoted.clone());
    } else if let EvidenceDenial::ChallengeExpired { expires_at, now } = denial {
        about("challenge".to_owned(), now.to_string(), format!("until {expires_at}"));
    } else if let EvidenceDenial::TpmRestarted { got, baseline } = denial {
        about("tpm.clock".to_owned(), got.to_string(), baseline.to_string());
    } else if let EvidenceDenial::TpmRolledBack { got, last } = denial {
        about("tpm.clock".to_owned(), got.to_string(), format!("later than {last}"));
    } else if let EvidenceDenial::SnpReportId { got, baseline } = denial {
        about("snp.report_id".to_owned(), got.clone(), baseline.clone());
    } else if let EvidenceDenial::PlatformMismatch { got, enrolled } = denial {
        about("platform".to_owned(), got.to_string(), enrolled.to_string());
    }
    failure
}
