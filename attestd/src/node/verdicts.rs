//! What the domains say to one intent, heard together: nothing begins on a part of it while the rest may still come, and
//! domains that contradict each other are never outvoted.

use std::collections::{BTreeMap, BTreeSet};

use evidence::names::DomainName;
use governance::GovernanceDenial;
use governance::artifact::{ArtifactTerms, LIST_CAP};
use governance::halt::HaltReason;
use governance::lease::LeaseEvent;
use governance::text::Text;

use super::refused::Refused;

/// What was heard, and what waits for the rest.
#[derive(Debug)]
pub(crate) struct Verdicts {
    unheard: BTreeSet<DomainName>,
    /// Permissions first, so that those that deny are told before: none after the conclusion.
    waiting: Option<Waiting>,
    permits: BTreeMap<DomainName, String>,
    forbids: BTreeMap<DomainName, String>,
}

#[derive(Debug, Default)]
struct Waiting {
    granted: Vec<LeaseEvent>,
    refused: Vec<LeaseEvent>,
    /// When it is over with waiting, milliseconds since boot; not before anything was granted.
    until_ms: Option<u64>,
}

impl Verdicts {
    pub(crate) fn of(named: &BTreeSet<DomainName>) -> Self {
        let (permits, forbids) = (BTreeMap::new(), BTreeMap::new());
        Self { unheard: named.clone(), waiting: Some(Waiting::default()), permits, forbids }
    }

    /// A domain permitted, and by which rules.
    pub(crate) fn permitted(&mut self, domain: &DomainName, terms: &ArtifactTerms, now_ms: u64) {
        let rules: Vec<&str> = terms.policy.determining.iter().map(|rule| rule.as_str()).collect();
        self.permits.insert(domain.clone(), rules.join(" "));
        if let Some(waiting) = &mut self.waiting {
            // A third of the lease is left to it then, and a renewal is due.
            let patience_ms = (terms.lease.duration_ms / 3).min(PATIENCE_CAP_MS);
            let until_ms = now_ms.saturating_add(patience_ms);
            waiting.until_ms = Some(waiting.until_ms.map_or(until_ms, |earlier| earlier.min(until_ms)));
        }
    }

    /// A domain refused, or could not judge. Only a rule that forbids is a word against it.
    pub(crate) fn refused(&mut self, domain: &DomainName, refused: &Refused) {
        if !refused.is_denial() {
            return;
        }
        self.permits.remove(domain);
        if refused.code == FORBIDDEN {
            self.forbids.insert(domain.clone(), refused.rules.join(" "));
        }
    }

    /// What the lease is to hear of it: at once after the conclusion, else with everything else.
    pub(crate) fn hear(&mut self, domain: &DomainName, event: LeaseEvent) -> Option<LeaseEvent> {
        self.unheard.remove(domain);
        let Some(waiting) = &mut self.waiting else { return Some(event) };
        let to = if matches!(event, LeaseEvent::Granted(..)) { &mut waiting.granted } else { &mut waiting.refused };
        to.push(event);
        None
    }

    /// When to look again, milliseconds since boot.
    pub(crate) fn wake_at_ms(&self) -> Option<u64> {
        self.waiting.as_ref().and_then(|waiting| waiting.until_ms)
    }

    /// Everything that waited, once everybody was heard or waiting is over.
    pub(crate) fn conclude(&mut self, now_ms: u64) -> Option<Vec<LeaseEvent>> {
        let over = self.wake_at_ms().is_some_and(|until_ms| until_ms <= now_ms);
        if !over && !self.unheard.is_empty() {
            return None;
        }
        let Waiting { granted, refused, .. } = self.waiting.take()?;
        Some(refused.into_iter().chain(granted).collect())
    }

    /// One domain permits what another forbids.
    pub(crate) fn conflict(&self) -> Option<Conflict> {
        let (forbidding, forbids) = self.forbids.iter().next()?;
        let (permitting, permits) = self.permits.iter().find(|(domain, _)| *domain != forbidding)?;
        Some(Conflict {
            permitting: permitting.clone(),
            permits: permits.clone(),
            forbidding: forbidding.clone(),
            forbids: forbids.clone(),
        })
    }
}

/// Two verdicts on one intent that cannot both stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) permitting: DomainName,
    pub(crate) permits: String,
    pub(crate) forbidding: DomainName,
    pub(crate) forbids: String,
}

impl Conflict {
    /// What it makes of an execution that runs.
    pub(crate) fn halt(&self) -> HaltReason {
        let rules = |ids: &str| ids.split(' ').filter_map(|id| Text::new(id).ok()).take(LIST_CAP).collect();
        HaltReason::PolicyConflict {
            permitting: self.permitting.clone(),
            permits: rules(&self.permits),
            forbidding: self.forbidding.clone(),
            forbids: rules(&self.forbids),
        }
    }

    /// As the client is told.
    pub(crate) fn refusal(&self) -> Refused {
        let Self { permitting, permits, forbidding, forbids } = self.clone();
        let rules = vec![format!("{permitting}: {permits}"), format!("{forbidding}: {forbids}")];
        let denial = GovernanceDenial::PolicyConflict { permitting, permits, forbidding, forbids };
        Refused::denied(denial.code(), &denial).by(rules)
    }
}

/// What a verifier says when a rule forbids, whatever others permit (`policy::PolicyDenial::Forbidden`).
const FORBIDDEN: &str = "policy.forbidden";
/// A domain that says nothing holds the others up no longer than this.
const PATIENCE_CAP_MS: u64 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> DomainName {
        DomainName::new(name).unwrap()
    }

    fn heard(verdicts: &mut Verdicts, name: &str, refused: &Refused) -> Option<LeaseEvent> {
        verdicts.refused(&domain(name), refused);
        verdicts.hear(&domain(name), LeaseEvent::Unanswered(domain(name)))
    }

    fn forbidden() -> Refused {
        Refused::denied(FORBIDDEN, "by the verifier").by(vec!["never".to_owned()])
    }

    #[test]
    fn nothing_is_concluded_before_everybody_was_heard_or_waiting_is_over() {
        let named = BTreeSet::from([domain("a.example"), domain("b.example")]);
        let mut verdicts = Verdicts::of(&named);
        assert_eq!(verdicts.conclude(u64::MAX), None, "nobody was heard, and nothing was granted");
        assert_eq!(heard(&mut verdicts, "a.example", &Refused::fault("fault.x", "")), None);
        assert_eq!(verdicts.conclude(u64::MAX), None);
        assert_eq!(heard(&mut verdicts, "b.example", &Refused::fault("fault.x", "")), None);
        assert_eq!(verdicts.conclude(0).map(|heard| heard.len()), Some(2));
        assert_eq!(verdicts.conclude(0), None, "once");
        assert!(heard(&mut verdicts, "b.example", &Refused::fault("fault.x", "")).is_some(), "from then on at once");
    }

    #[test]
    fn a_rule_that_forbids_contradicts_whoever_else_permits_and_nothing_less_does() {
        let named = BTreeSet::from([domain("a.example"), domain("b.example")]);
        let mut verdicts = Verdicts::of(&named);
        verdicts.permits.insert(domain("a.example"), "yes also".to_owned());
        for no_word_against in [Refused::denied("policy.not_permitted", ""), Refused::fault(FORBIDDEN, "")] {
            heard(&mut verdicts, "b.example", &no_word_against);
            assert_eq!(verdicts.conflict(), None);
        }
        heard(&mut verdicts, "b.example", &forbidden());
        let conflict = verdicts.conflict().unwrap();
        let refusal = conflict.refusal();
        assert_eq!((refusal.code.as_str(), refusal.class()), ("policy.conflict", "denied"));
        assert_eq!(refusal.rules, ["a.example: yes also", "b.example: never"]);
        assert_eq!(conflict.halt().code(), "halt.policy_conflict");
        // Who took its permission back contradicts nobody.
        heard(&mut verdicts, "a.example", &Refused::denied("governance.revoked", ""));
        assert_eq!(verdicts.conflict(), None);
    }
}
