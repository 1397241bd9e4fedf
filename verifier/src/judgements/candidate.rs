//! A candidate that nobody activated, put in the place of what it would replace.

use evidence::anchors::TrustAnchors;
use evidence::cose::SigningKey;
use evidence::names::ItemName;
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use firmware_refs::set::ReferenceValueSet;
use firmware_refs::signed::{SignedSet, SignedSetError, sign};
use firmware_refs::text::{Moment, Text};
use firmware_refs::{InForce, ReferenceValues};
use policy::set::{PolicyDocument, PolicySet};
use serde_json::Value;
use wire::proto::backtest::Candidate as Asked;

use super::DeskJudgements;
use crate::backtest;
use crate::governor::OrderRefusal;
use crate::random;

/// How long a candidate is taken to hold from now on, in seconds: it is tried on what was, not on what comes.
const TRIED_FOR_S: u64 = 24 * 3600;

/// What would replace something that was in force.
pub(super) struct Candidate {
    change: Change,
    /// As it is told.
    pub(super) told: Value,
}

enum Change {
    /// In the place of every version of its name.
    References(Box<InForce>),
    /// In the place of the policy set.
    Policy(Box<PolicySet>),
}

impl Candidate {
    /// What would have been judged by.
    pub(super) fn in_place(&self, then: &policy::Trust) -> Result<policy::Trust, OrderRefusal> {
        let anchors: TrustAnchors = then.anchors().clone();
        let (values, policy) = match &self.change {
            Change::References(candidate) => {
                let others = then.reference_values().sets().iter().filter(|set| set.name().id != candidate.name().id);
                let sets = others.cloned().chain([(**candidate).clone()]).collect();
                (ReferenceValues::new(sets)?, then.policy().clone())
            }
            Change::Policy(policy) => (then.reference_values().clone(), (**policy).clone()),
        };
        Ok(policy::Trust::new(anchors, values, policy, then.governance()))
    }
}

impl DeskJudgements {
    /// Reads a candidate; it is taken to have been in force since `since`, whatever its own times say.
    pub(super) async fn candidate(
        &self,
        asked: &wire::proto::Backtest,
        since: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<Candidate, OrderRefusal> {
        let absent = || OrderRefusal::Malformed("a back-test without a candidate".to_owned());
        let until = now.plus(TRIED_FOR_S);
        match asked.candidate.as_ref().ok_or_else(absent)? {
            Asked::References(cbor) => {
                let set = ReferenceValueSet::from_cbor(cbor).map_err(SignedSetError::Set)?;
                self.references(&set, since, until)
            }
            Asked::ReferencesNamed(name) => {
                let (_, signed) = self.governor.find_reference(name).await?;
                self.references(signed.set(), since, until)
            }
            Asked::Policy(cedar) => {
                let document = PolicyDocument {
                    id: ItemName::new("candidate").map_err(|error| OrderRefusal::Bug(error.to_string()))?,
                    version: 1,
                    domain: self.desk.domain().clone(),
                    issued_at: Moment::from(since),
                    not_after: Moment::from(until),
                    reason: Text::lossy("back-test"),
                    cedar: cedar.clone(),
                };
                self.policy(document)
            }
            Asked::PolicyNamed(name) => {
                let listed = self.governor.list_policies().await?;
                let unknown = || OrderRefusal::Unknown { what: "policy set", name: name.clone() };
                let listed = listed.iter().rev().find(|set| set.is_named(name)).ok_or_else(unknown)?;
                let document = self.governor.policy_by_digest(&listed.digest).await?.document().clone();
                self.policy(PolicyDocument { not_after: Moment::from(until), ..document })
            }
        }
    }

    fn references(
        &self,
        set: &ReferenceValueSet,
        since: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<Candidate, OrderRefusal> {
        let domain = self.desk.domain();
        if set.domain() != domain {
            let (got, wanted) = (set.domain().clone(), domain.clone());
            return Err(SignedSetError::OtherDomain { got, wanted }.into());
        }
        let mut document = set.document().clone();
        (document.not_before, document.not_after) = (Moment::from(since), Moment::from(until));
        document.issued_at = Moment::from(since);
        let tried = ReferenceValueSet::from_document(document).map_err(SignedSetError::Set)?;
        let signed = signed_for_trial(&tried)?;
        let current = self.desk.trust()?;
        let sets = current.judging.reference_values().sets().iter();
        let replaced = sets.filter(|by| by.name().id == *set.id()).map(|by| by.name().to_string());
        let name = format!("{} version {}", set.id(), set.version());
        let told = backtest::candidate("reference values", &name, set.digest(), &replaced.collect::<Vec<_>>());
        Ok(Candidate { change: Change::References(Box::new(InForce::active(signed))), told })
    }

    fn policy(&self, document: PolicyDocument) -> Result<Candidate, OrderRefusal> {
        let set = PolicySet::from_document(document)?;
        let current = self.desk.trust()?;
        let replaced = [current.judging.policy().name().to_string()];
        let told = backtest::candidate("policy", &set.name().to_string(), set.digest(), &replaced);
        Ok(Candidate { change: Change::Policy(Box::new(set)), told })
    }
}

/// What judges must be signed, so a candidate is signed: by a key that is thrown away, under an authority that is nobody's.
fn signed_for_trial(set: &ReferenceValueSet) -> Result<SignedSet, OrderRefusal> {
    let bug = |error: &dyn std::fmt::Display| OrderRefusal::Bug(error.to_string());
    let seed = random::bytes().map_err(|error| bug(&error))?;
    let key = SigningKey::from_seed(&seed).map_err(|error| bug(&error))?;
    let nobody = Authority::new(vec![key.public().clone()], 1).map_err(|error| bug(&error))?;
    let signature = sign(set, &key).map_err(|error| bug(&error))?;
    Ok(SignedSet::open(&[signature], set.domain(), &nobody)?)
}
