//! Asking a policy set: default deny, forbid wins, and an error denies.
//!
//! Cedar by itself skips a policy that errors. An erroring `forbid` would then
//! vanish, so any error in the diagnostics denies, whatever the decision was.

use std::collections::HashSet;
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Effect, Entities, Entity, EntityUid, Policy, PolicyId, Request};

use crate::claims::{Claims, Question};
use crate::denial::PolicyDenial;
use crate::schema::{Action, uid};
use crate::set::PolicySet;
use crate::shape::Shape;
use crate::value;

/// A policy that determined a decision.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Rule {
    /// Its `@id`.
    pub id: String,
    /// Its `@reason`, in the author's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its `@hint`: what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Rule {
    /// What `policy` is told as. Cedar parses an annotation's key on each look at it, so this is done at load.
    pub(crate) fn of(policy: &Policy) -> Self {
        let annotation = |key: &str| policy.annotation(key).map(str::to_owned);
        Self { id: policy.id().to_string(), reason: annotation("reason"), hint: annotation("hint") }
    }
}

/// A permission, and the rules that gave it. Only [`PolicySet::ask`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    action: Action,
    rules: Vec<Rule>,
}

impl Permitted {
    /// What was permitted.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// The rules that permitted it, by id, ascending.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn into_rules(self) -> Vec<Rule> {
        self.rules
    }
}

/// A question as Cedar takes it, fitted to the schema of one policy set.
#[derive(Debug)]
pub struct Asked {
    action: Action,
    request: Request,
    entities: Entities,
}

impl PolicySet {
    /// Asks the set.
    ///
    /// # Errors
    /// [`PolicyDenial`] unless some policy permits, none forbids and none errs.
    pub fn ask(&self, question: &Question<'_>) -> Result<Permitted, PolicyDenial> {
        self.judge(question).map_err(|mut denials| denials.swap_remove(0))
    }

    /// Asks the set; a refusal names every reason, never none.
    pub(crate) fn judge(&self, question: &Question<'_>) -> Result<Permitted, Vec<PolicyDenial>> {
        let asked = self.prepare(question).map_err(|denial| vec![denial])?;
        self.answer(&asked)
    }

    /// Builds the request with its typed context and fits it to the schema.
    ///
    /// # Errors
    /// [`PolicyDenial::RequestInvalid`] when it does not fit.
    pub fn prepare(&self, question: &Question<'_>) -> Result<Asked, PolicyDenial> {
        let action = question.action();
        let request = self.request(question).map_err(|what| self.invalid(action, what))?;
        let entities = self.entities(question).map_err(|what| self.invalid(action, what))?;
        Ok(Asked { action, request, entities })
    }

    /// Evaluates a prepared request; a refusal names every reason, never none.
    ///
    /// # Errors
    /// [`PolicyDenial`]s, at least one, unless some policy permits, none forbids and none errs.
    pub fn answer(&self, asked: &Asked) -> Result<Permitted, Vec<PolicyDenial>> {
        let action = asked.action;
        let response = Authorizer::new().is_authorized(&asked.request, self.concerned(action), &asked.entities);
        let errors: Vec<_> = response.diagnostics().errors().map(|error| self.errs(action, error)).collect();
        let mut rules: Vec<_> = response.diagnostics().reason().map(|id| self.rule(id)).collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        if response.decision() == Decision::Allow && errors.is_empty() {
            return Ok(Permitted { action, rules });
        }
        let forbidding = match response.decision() {
            Decision::Deny => rules,
            Decision::Allow => Vec::new(),
        };
        let forbids = forbidding.into_iter().map(|rule| self.forbids(action, rule));
        let denials: Vec<_> = errors.into_iter().chain(forbids).collect();
        Err(if denials.is_empty() { vec![self.permits_nothing(action)] } else { denials })
    }

    fn request(&self, question: &Question<'_>) -> Result<Request, String> {
        let principal = self.principal(question);
        let resource = self.resource(question);
        let action = self.names.action(question.action());
        // Without the schema a missing attribute would only be a diagnostic: every shape of context is fitted to it.
        let shape = Shape::of(question);
        let schema = (!self.fitting.contains(shape)).then_some(&self.schema);
        let request = value::request([principal, action, resource], question.context(), schema)?;
        if schema.is_some() {
            self.fitting.insert(shape);
        }
        Ok(request)
    }

    fn principal(&self, question: &Question<'_>) -> EntityUid {
        match question {
            Question::Attest { claims } | Question::Execute { claims, .. } | Question::Release { claims, .. } => {
                uid(&self.names.node, &claims.node)
            }
            Question::Witness { partner, .. } | Question::Federate { partner, .. } => uid(&self.names.domain, partner),
        }
    }

    fn resource(&self, question: &Question<'_>) -> EntityUid {
        match question {
            Question::Attest { claims } => uid(&self.names.domain, &claims.domain),
            Question::Execute { scope, .. } => uid(&self.names.scope, scope),
            Question::Release { key, .. } => uid(&self.names.key, key),
            Question::Witness { domain, .. } | Question::Federate { domain, .. } => uid(&self.names.domain, domain),
        }
    }

    /// Node and resource within their domain, nothing else: attributes are in the context.
    fn entities(&self, question: &Question<'_>) -> Result<Entities, String> {
        let within = |entity: EntityUid, domain: &str| {
            Entity::new_no_attrs(entity, HashSet::from([uid(&self.names.domain, domain)]))
        };
        let of = |claims: &Claims| within(uid(&self.names.node, &claims.node), &claims.domain);
        let entities = match question {
            Question::Attest { claims } => vec![of(claims)],
            Question::Execute { claims, .. } | Question::Release { claims, .. } => {
                vec![of(claims), within(self.resource(question), &claims.domain)]
            }
            Question::Witness { .. } | Question::Federate { .. } => Vec::new(),
        };
        value::entities(&entities)
    }

    fn rule(&self, id: &PolicyId) -> Rule {
        self.rules.get(id).cloned().unwrap_or_else(|| Rule { id: id.to_string(), reason: None, hint: None })
    }

    fn invalid(&self, action: Action, what: String) -> PolicyDenial {
        PolicyDenial::RequestInvalid { set: Arc::clone(&self.name), action, what }
    }

    fn errs(&self, action: Action, error: &cedar_policy::AuthorizationError) -> PolicyDenial {
        let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
        let rule = self.rule(error.policy_id());
        PolicyDenial::Error { set: Arc::clone(&self.name), action, rule, what: error.inner().to_string() }
    }

    fn forbids(&self, action: Action, rule: Rule) -> PolicyDenial {
        PolicyDenial::Forbidden { set: Arc::clone(&self.name), action, rule }
    }

    fn permits_nothing(&self, action: Action) -> PolicyDenial {
        let could = self.concerned(action).policies().filter(|policy| policy.effect() == Effect::Permit);
        let mut permits: Vec<_> = could.map(|policy| policy.id().to_string()).collect();
        permits.sort_unstable();
        PolicyDenial::NotPermitted { set: Arc::clone(&self.name), action, permits }
    }
}

impl Question<'_> {
    /// What is asked.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::Attest { .. } => Action::Attest,
            Self::Execute { .. } => Action::Execute,
            Self::Release { .. } => Action::Release,
            Self::Witness { .. } => Action::Witness,
            Self::Federate { .. } => Action::Federate,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::testdata::{claims, intent, set_of};

    fn attest() -> Question<'static> {
        Question::Attest { claims: Cow::Owned(claims()) }
    }

    fn codes(set: &PolicySet, question: &Question<'_>) -> Vec<&'static str> {
        set.judge(question).map_or_else(|denials| denials.iter().map(PolicyDenial::code).collect(), |_| vec![])
    }

    #[test]
    fn what_nothing_permits_is_denied() {
        let set = set_of("@id(\"other\") permit (principal, action == Action::\"release\", resource);");
        assert_eq!(codes(&set, &attest()), ["policy.not_permitted"]);
    }

    #[test]
    fn forbid_wins_and_brings_its_reason_and_hint() {
        let set = set_of(
            "@id(\"yes\") permit (principal, action, resource);
             @id(\"no\") @reason(\"because\") @hint(\"do this\") forbid (principal is Node, action, resource)
             when { context.claims.node == \"n1\" };",
        );
        let denial = set.ask(&attest()).unwrap_err();
        let rule = denial.rule().unwrap();
        assert_eq!(
            (rule.id.as_str(), rule.reason.as_deref(), rule.hint.as_deref()),
            ("no", Some("because"), Some("do this"))
        );
        assert_eq!(denial.code(), "policy.forbidden");
        let other = Question::Attest { claims: Cow::Owned(Claims { node: "n2".into(), ..claims() }) };
        assert_eq!(set.ask(&other).unwrap().rules()[0].id, "yes");
    }

    #[test]
    fn an_erring_forbid_denies_though_a_permit_permits() {
        // Integer overflow is the one error that strict validation cannot exclude.
        let set = set_of(
            "@id(\"yes\") permit (principal, action, resource);
             @id(\"no\") forbid (principal, action == Action::\"attest\", resource)
             when { context.claims.now + 9223372036854775807 < 0 };",
        );
        let denial = set.ask(&attest()).unwrap_err();
        assert_eq!(denial.code(), "policy.error");
        assert_eq!(denial.rule().unwrap().id, "no");
    }

    #[test]
    fn an_erring_permit_denies_too() {
        let set = set_of(
            "@id(\"yes\") permit (principal, action, resource);
             @id(\"broken\") permit (principal, action == Action::\"attest\", resource)
             when { context.claims.now + 9223372036854775807 < 0 };",
        );
        assert_eq!(codes(&set, &attest()), ["policy.error"]);
    }

    #[test]
    fn claims_that_do_not_fit_the_schema_deny() {
        let set = set_of("@id(\"yes\") permit (principal, action, resource);");
        let mut request = attest();
        assert_eq!(codes(&set, &request), Vec::<&str>::new());
        // A resource of a type that the action does not apply to: the schema refuses the request itself.
        request = Question::Release {
            claims: Cow::Owned(claims()),
            intent: Cow::Owned(intent()),
            key: "k".into(),
            labels: vec![],
        };
        assert!(set.ask(&request).is_ok());
        let context = cedar_policy::Context::empty();
        let bare = Request::new(
            set.principal(&attest()),
            set.names.action(Action::Attest),
            set.resource(&attest()),
            context,
            Some(&set.schema),
        );
        assert!(bare.is_err(), "a request without its claims must not be buildable");
    }

    #[test]
    fn a_node_is_within_its_domain_and_no_other() {
        let set = set_of("@id(\"ours\") permit (principal in Domain::\"lab.example\", action, resource);");
        assert!(set.ask(&attest()).is_ok());
        let foreign = Question::Attest { claims: Cow::Owned(Claims { domain: "b.example".into(), ..claims() }) };
        assert_eq!(codes(&set, &foreign), ["policy.not_permitted"]);
    }
}
