//! Steps in the life of signed sets, as orders take them: each is a line of the
//! set's history and a record in the log, both before it has any effect.

use audit::record::{RecordBody, SetKind};
use evidence::cbor;
use evidence::digest::Sha256Digest;
use evidence::names::ItemName;
use firmware_refs::RevokedSet;
use firmware_refs::lifecycle::{HistoryEntry, Ordered, Stage};
use policy::set::PolicySet;

use super::effects::{Effect, Family};
use super::refusal::OrderRefusal;
use super::sets::policy_entry;
use super::{Governor, Proposal, Rules, Said};

impl Governor {
    pub(super) fn activate_references(
        &self,
        rules: &Rules,
        (name, version): (&ItemName, u64),
        set: Sha256Digest,
        grace_s: u64,
        ordered: &Ordered,
    ) -> Result<Proposal, OrderRefusal> {
        let mut next = rules.clone();
        if next.named(set)? != (name.clone(), version) {
            return Err(OrderRefusal::Unknown { what: "reference value set", name: format!("{name} {version} {set}") });
        }
        self.admit_signers(rules, set)?;
        let steps = next.lifecycle.activate(name, version, grace_s, ordered)?;
        taken(Proposal::of(next, "references activated"), Family::Reference, steps)
    }

    /// The proposal, and the names of the replaced set and of the other.
    pub(super) fn supersede_references(
        &self,
        rules: &Rules,
        set: Sha256Digest,
        by: Sha256Digest,
        grace_s: u64,
        ordered: &Ordered,
    ) -> Result<(Proposal, [String; 2]), OrderRefusal> {
        let mut next = rules.clone();
        let ((old, old_version), (new, new_version)) = (next.named(set)?, next.named(by)?);
        self.admit_signers(rules, by)?;
        let steps = next.lifecycle.supersede((&old, old_version), (&new, new_version), grace_s, ordered)?;
        let proposal = taken(Proposal::of(next, "references superseded"), Family::Reference, steps)?;
        Ok((proposal, [format!("{old} version {old_version}"), format!("{new} version {new_version}")]))
    }

    fn admit_signers(&self, rules: &Rules, set: Sha256Digest) -> Result<(), OrderRefusal> {
        let held = rules.references.get(&set).ok_or_else(|| unknown(set))?;
        self.0.parts.reference_signers.suffice(held, self.threshold())
    }
}

impl Rules {
    /// Name and version of a reference value set that enough keys signed.
    fn named(&self, set: Sha256Digest) -> Result<(ItemName, u64), OrderRefusal> {
        let held = self.references.get(&set).ok_or_else(|| unknown(set))?.set();
        Ok((held.id().clone(), held.version()))
    }
}

pub(super) fn activate_policy(
    rules: &Rules,
    version: u64,
    set: Sha256Digest,
    ordered: &Ordered,
) -> Result<Proposal, OrderRefusal> {
    let mut next = rules.clone();
    let Some(policy) = next.policies.get(&set).filter(|held| held.name().version == version).cloned() else {
        return Err(OrderRefusal::Unknown { what: "policy set", name: format!("{version} {set}") });
    };
    if version <= next.policy_high_water {
        let active = next.policy_high_water;
        return Err(OrderRefusal::PolicyStep(format!(
            "version {version} is not above {active}, the highest ever activated"
        )));
    }
    let now = ordered.at;
    if policy.not_after() <= now {
        return Err(OrderRefusal::PolicyStep(format!("version {version} ended at {}", policy.not_after())));
    }
    let policy_step =
        |set: &PolicySet, stage| policy_entry(set, stage, ordered.reason.clone(), Some(ordered.statement), now);
    let mut steps = vec![policy_step(&policy, Stage::Active { since: now })];
    if let Some(active) = next.policy_active.and_then(|active| next.policies.get(&active)) {
        let stage = Stage::Superseded { since: now, by: set, grace_until: now };
        steps.push(policy_step(active, stage));
    }
    next.policy_active = Some(set);
    next.policy_high_water = version;
    taken(Proposal::of(next, "policy activated"), Family::Policy, steps)
}

/// A revoked set matches nothing, for ever. Its revocation is logged as every revocation is.
pub(super) fn withdraw(rules: &mut Rules, set: Sha256Digest, ordered: &Ordered) -> Result<Effect, OrderRefusal> {
    let (id, version) = rules.named(set)?;
    let step = rules.lifecycle.revoke(&id, version, ordered)?;
    rules.note_revoked(&step);
    Ok(Effect::History { family: Family::Reference, payload: set, entry: cbor::to_vec(&step)? })
}

/// Adds steps, in their order, to what a proposal writes and logs.
fn taken(mut proposal: Proposal, family: Family, steps: Vec<HistoryEntry>) -> Result<Proposal, OrderRefusal> {
    for step in steps {
        proposal.records.extend(said(family, &step));
        let (payload, entry) = (step.digest, cbor::to_vec(&step)?);
        proposal.effects.push(Effect::History { family, payload, entry });
    }
    Ok(proposal)
}

/// The record of a step. A revocation has one of its own.
pub(super) fn said(family: Family, step: &HistoryEntry) -> Option<Said> {
    let what = match family {
        Family::Reference => SetKind::References,
        Family::Policy => SetKind::Policy,
    };
    let (version, set) = (step.version, step.digest);
    let body = match (step.stage, step.statement) {
        (Stage::Staged, _) => RecordBody::Staging { what, version, set },
        (Stage::Active { .. }, Some(statement)) => RecordBody::Activation { what, version, set, statement },
        (Stage::Superseded { by, .. }, Some(statement)) => {
            RecordBody::Supersession { what, version, set, by, statement }
        }
        (Stage::Active { .. } | Stage::Superseded { .. } | Stage::Revoked { .. }, _) => return None,
    };
    let about = [Some(set.to_string()), Some(step.id.to_string()), step.statement.map(|digest| digest.to_string())];
    Some(Said { subject: set, about: about.into_iter().flatten().collect(), body })
}

fn unknown(set: Sha256Digest) -> OrderRefusal {
    OrderRefusal::Unknown { what: "reference value set", name: set.to_string() }
}

impl Rules {
    /// Remembers a revoked set, so that machines which it describes are told.
    pub(super) fn note_revoked(&mut self, step: &HistoryEntry) {
        if let (Stage::Revoked { since }, Some(statement), Some(set)) =
            (step.stage, step.statement, self.references.get(&step.digest))
        {
            self.revoked_sets.push(RevokedSet::new(set.clone(), since, step.reason.clone(), statement));
        }
    }
}
