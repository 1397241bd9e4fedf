//! `policy check`: what is wrong with a policy text, and what is merely odd.
//!
//! Errors make a set unusable. Warnings are for its author: a policy that can
//! never apply, two that say the same, a question nothing permits.

use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy, ValidationMode, Validator};
use serde::Serialize;

use crate::schema::Action;
use crate::set::{PolicyDocument, PolicyProblem, PolicySet, PolicySetError, line_of};

/// What `policy check` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The set does not load because of these.
    pub errors: Vec<PolicyProblem>,
    /// It loads, but look at these.
    pub warnings: Vec<PolicyProblem>,
}

impl CheckReport {
    /// Whether the set loads.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.errors.is_empty()
    }
}

/// Checks a policy set.
#[must_use]
pub fn check(document: &PolicyDocument) -> CheckReport {
    match PolicySet::from_document(document.clone()) {
        Ok(set) => CheckReport { errors: Vec::new(), warnings: warnings(&set) },
        Err(PolicySetError::Unusable(errors)) => CheckReport { errors, warnings: Vec::new() },
        Err(other) => {
            let what = other.to_string();
            CheckReport { errors: vec![PolicyProblem { policy: None, line: None, what }], warnings: Vec::new() }
        }
    }
}

fn warnings(set: &PolicySet) -> Vec<PolicyProblem> {
    let text = &set.document().cedar;
    let validated = Validator::new(set.schema.clone()).validate(&set.cedar, ValidationMode::Strict);
    let mut found: Vec<_> = validated
        .validation_warnings()
        .map(|warning| PolicyProblem {
            policy: Some(warning.policy_id().to_string()),
            line: line_of(warning, text),
            what: warning.to_string(),
        })
        .collect();
    found.extend(unreachable(set));
    found.extend(repeated(set));
    found.extend(shadowed(set));
    found.extend(unpermitted(set));
    found.extend(unexplained(set));
    found
}

fn about(policy: &Policy, what: String) -> PolicyProblem {
    PolicyProblem { policy: Some(policy.id().to_string()), line: None, what }
}

/// Policies whose scope fits no question of the schema.
fn unreachable(set: &PolicySet) -> Vec<PolicyProblem> {
    let never = |policy: &&Policy| policy.get_valid_request_envs(&set.schema).next().is_none();
    let what = || "its scope fits no question that is ever asked".to_owned();
    set.cedar.policies().filter(never).map(|policy| about(policy, what())).collect()
}

/// Policies that say exactly what another says.
fn repeated(set: &PolicySet) -> Vec<PolicyProblem> {
    let mut seen: BTreeMap<String, (String, Effect)> = BTreeMap::new();
    let mut found = Vec::new();
    let mut policies: Vec<_> = set.cedar.policies().collect();
    policies.sort_by_key(|policy| policy.id().to_string());
    for policy in policies {
        let Some(said) = body(policy) else { continue };
        match seen.get(&said) {
            None => {
                seen.insert(said, (policy.id().to_string(), policy.effect()));
            }
            Some((other, effect)) if *effect == policy.effect() => {
                found.push(about(policy, format!("says exactly what {other} says")));
            }
            Some((other, _)) => found.push(about(policy, format!("contradicts {other} in exactly the same words"))),
        }
    }
    found
}

/// Scope and conditions without effect and annotations, in a form that compares.
fn body(policy: &Policy) -> Option<String> {
    let mut json = policy.to_json().ok()?;
    let object = json.as_object_mut()?;
    object.remove("effect");
    object.remove("annotations");
    Some(json.to_string())
}

/// A `forbid` without conditions hides every `permit` that asks within its scope.
fn shadowed(set: &PolicySet) -> Vec<PolicyProblem> {
    let mut found = Vec::new();
    for forbid in set.cedar.policies().filter(|p| p.effect() == Effect::Forbid && !p.has_non_scope_constraint()) {
        let forbidden: Vec<_> = forbid.get_valid_request_envs(&set.schema).collect();
        let any_entity = matches!(forbid.principal_constraint(), cedar_policy::PrincipalConstraint::Any)
            && matches!(forbid.resource_constraint(), cedar_policy::ResourceConstraint::Any);
        for permit in set.cedar.policies().filter(|p| p.effect() == Effect::Permit && any_entity) {
            let mut asked = permit.get_valid_request_envs(&set.schema);
            if asked.all(|env| forbidden.iter().any(|f| f.action() == env.action())) {
                found.push(about(permit, format!("never permits anything: {} forbids it all", forbid.id())));
            }
        }
    }
    found
}

/// Questions about machines that nothing permits.
fn unpermitted(set: &PolicySet) -> Vec<PolicyProblem> {
    let permits = |action: Action| set.concerned(action).policies().any(|policy| policy.effect() == Effect::Permit);
    [Action::Attest, Action::Execute, Action::Release]
        .into_iter()
        .filter(|action| !permits(*action))
        .map(|action| PolicyProblem { policy: None, line: None, what: format!("nothing permits {action}") })
        .collect()
}

/// A `forbid` without a reason leaves the refused without one.
fn unexplained(set: &PolicySet) -> Vec<PolicyProblem> {
    let mute = |policy: &&Policy| policy.effect() == Effect::Forbid && policy.annotation("reason").is_none();
    set.cedar.policies().filter(mute).map(|p| about(p, "forbids without a @reason".to_owned())).collect()
}
