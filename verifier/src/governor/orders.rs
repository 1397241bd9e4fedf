//! Orders of the policy authority: statements that a threshold of its keys
//! signed, each obeyed once, in ascending sequence.

use audit::record::{Activated, Code, RecordBody};
use evidence::cbor;
use evidence::cose::{KeySet, Purpose, verify1};
use evidence::digest::Sha256Digest;
use evidence::names::{ItemName, NodeId};
use evidence::threshold::ThresholdDenial;
use evidence::time::UnixSeconds;
use firmware_refs::lifecycle::Stage;
use firmware_refs::text::Text;
use governance::revocation::{REVOCATION_VERSION, Revocation, Revoked};
use governance::statement::{Order, Statement, VerifiedStatement};
use serde::Serialize;
use std::sync::Arc;

use super::effects::{Effect, Family};
use super::refusal::OrderRefusal;
use super::rules::STATEMENTS;
use super::sets::policy_entry;
use super::{Governor, Proposal, Rules, Said};
use crate::leases::LeaseEnd;
use crate::live::Push;

/// What obeying a statement did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obeyed {
    /// What was done, in words.
    pub effect: String,
    /// Digest of the statement.
    pub statement: Sha256Digest,
    /// The governance epoch that it began.
    pub epoch: u64,
    /// Where it stands in the log.
    pub entry: u64,
}

impl Governor {
    /// Obeys one statement: `signatures` are over the same payload, by distinct
    /// keys, at least the threshold of them.
    pub async fn obey(&self, signatures: &[Vec<u8>], now: UnixSeconds) -> Result<Obeyed, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let parts = &self.0.parts;
        let sequence_min = rules.statement_sequence.saturating_add(1);
        let verified = Statement::verify(signatures, &parts.domain, &parts.authority, sequence_min, now)?;
        let (effect, mut proposal) = self.propose(&rules, &verified, now)?;
        let statement = verified.digest();
        proposal.rules.statement_sequence = verified.statement().sequence;
        proposal.effects.push(Effect::HighWater { name: STATEMENTS, value: verified.statement().sequence });
        let keys = KeySet::new(parts.authority.keys());
        for cose in signatures {
            let signed = verify1(Purpose::Statement, &parts.domain, cose, &keys).map_err(ThresholdDenial::Cose)?;
            let (kid, cose) = (signed.signer(), cose.clone());
            proposal.effects.push(Effect::Signature { payload: statement, kid, cose });
        }
        let halted = match &verified.statement().order {
            Order::Revoke(Revoked::Node(node)) => Some(node.clone()),
            Order::ActivateReferences { .. }
            | Order::ActivatePolicy { .. }
            | Order::Readmit { .. }
            | Order::Revoke(_) => None,
        };
        let committed = self.enact(&mut rules, proposal, now).await?;
        if let Some(node) = halted {
            let (code, reason) = (REVOKED.to_owned(), verified.statement().reason.to_string());
            parts.live.push(&node, Push::Halt { code, reason });
        }
        let entry = committed.logged.first().map_or(committed.value.log_index, |logged| logged.index);
        Ok(Obeyed { effect, statement, epoch: committed.value.epoch, entry })
    }

    fn propose(
        &self,
        rules: &Rules,
        verified: &VerifiedStatement,
        now: UnixSeconds,
    ) -> Result<(String, Proposal), OrderRefusal> {
        let statement = verified.statement();
        let reason = Text::lossy(statement.reason.as_str());
        let digest = verified.digest();
        match &statement.order {
            Order::ActivateReferences { name, version, set } => {
                let proposal = self.activate_references(rules, name, *version, *set, &reason, digest, now)?;
                Ok((format!("reference values {name} version {version} active"), proposal))
            }
            Order::ActivatePolicy { version, set } => {
                let proposal = activate_policy(rules, *version, *set, reason, digest, now)?;
                Ok((format!("policy version {version} active"), proposal))
            }
            Order::Readmit { node, halt, epoch } => {
                let proposal = readmit(rules, node, *halt, digest, *epoch);
                Ok((format!("node {node} readmitted"), proposal))
            }
            Order::Revoke(revoked) => {
                let proposal = self.revoke(rules, revoked, statement, digest, now)?;
                Ok((format!("{} {} revoked", revoked.kind(), revoked.subject()), proposal))
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one order")]
    fn activate_references(
        &self,
        rules: &Rules,
        name: &ItemName,
        version: u64,
        set: Sha256Digest,
        reason: &Text,
        statement: Sha256Digest,
        now: UnixSeconds,
    ) -> Result<Proposal, OrderRefusal> {
        let mut next = rules.clone();
        let same =
            next.references.get(&set).is_some_and(|held| held.set().id() == name && held.set().version() == version);
        if !same {
            return Err(OrderRefusal::Unknown { what: "reference value set", name: format!("{name} {version} {set}") });
        }
        let steps = next.lifecycle.activate(name, version, self.0.parts.reference_grace_s, reason, now)?;
        let mut proposal = Proposal::of(next, "references activated");
        for step in steps {
            let (family, payload, entry) = (Family::Reference, step.digest, cbor::to_vec(&step)?);
            proposal.effects.push(Effect::History { family, payload, entry });
        }
        let body = RecordBody::Activation { what: Activated::References, version, set, statement };
        proposal.records.push(Said { subject: set, about: vec![set.to_string(), name.to_string()], body });
        Ok(proposal)
    }

    fn revoke(
        &self,
        rules: &Rules,
        revoked: &Revoked,
        statement: &Statement,
        digest: Sha256Digest,
        now: UnixSeconds,
    ) -> Result<Proposal, OrderRefusal> {
        // Revoking it again would only repeat the first.
        rules.revocations.admits(revoked)?;
        let parts = &self.0.parts;
        let mut next = rules.clone();
        next.revocation_sequence = next.revocation_sequence.saturating_add(1);
        next.revocations.revoke(revoked.clone(), statement.reason.clone());
        let sequence = next.revocation_sequence;
        let revocation = Revocation {
            version: REVOCATION_VERSION,
            domain: parts.domain.clone(),
            sequence,
            revoked: revoked.clone(),
            reason: statement.reason.clone(),
            issued_at: now,
        };
        let cose = revocation.sign(&parts.issuer)?;
        let mut effects = Vec::new();
        match revoked {
            Revoked::Artifact(artifact) => effects.push(Effect::EndLease { artifact: *artifact }),
            Revoked::Node(node) => effects.push(Effect::Quarantine {
                node: node.clone(),
                code: code(REVOKED)?,
                reason: statement.reason.to_string(),
                subject: digest,
                end: LeaseEnd::Revoked,
            }),
            Revoked::ReferenceSet(set) => withdraw(&mut next, *set, statement, now, &mut effects)?,
            // The next renewal that depends on one of these is denied.
            Revoked::Key(_) | Revoked::Measurement(_) => {}
        }
        let mut proposal = Proposal::of(next, "revoked");
        proposal.effects = effects;
        let (kind, subject) = (revoked.kind().to_string(), revoked.subject());
        let body = RecordBody::Revocation { revocation: payload_digest(&cose)?, statement: Some(digest) };
        proposal.records.push(Said { subject: digest, about: vec![subject.clone(), digest.to_string()], body });
        proposal.pushes.push(Push::Revocation(Arc::from(cose.as_slice())));
        proposal.effects.push(Effect::Revocation { kind, subject, cose, sequence });
        Ok(proposal)
    }
}

fn activate_policy(
    rules: &Rules,
    version: u64,
    set: Sha256Digest,
    reason: Text,
    statement: Sha256Digest,
    now: UnixSeconds,
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
    if policy.not_after() <= now {
        return Err(OrderRefusal::PolicyStep(format!("version {version} ended at {}", policy.not_after())));
    }
    let mut steps = Vec::new();
    if let Some(active) = next.policy_active.and_then(|active| next.policies.get(&active)) {
        let stage = Stage::Superseded { since: now, by: version, grace_until: now };
        steps.push(policy_entry(active, stage, reason.clone(), now));
    }
    steps.push(policy_entry(&policy, Stage::Active { since: now }, reason, now));
    next.policy_active = Some(set);
    next.policy_high_water = version;
    let mut proposal = Proposal::of(next, "policy activated");
    for step in steps {
        let (family, payload, entry) = (Family::Policy, step.digest, cbor::to_vec(&step)?);
        proposal.effects.push(Effect::History { family, payload, entry });
    }
    let body = RecordBody::Activation { what: Activated::Policy, version, set, statement };
    proposal.records.push(Said { subject: set, about: vec![set.to_string()], body });
    Ok(proposal)
}

fn readmit(rules: &Rules, node: &NodeId, halt: Sha256Digest, statement: Sha256Digest, epoch: u64) -> Proposal {
    let mut proposal = Proposal::of(rules.clone(), "node readmitted");
    proposal.effects.push(Effect::Readmit { node: node.clone(), halt, statement, epoch });
    proposal
}

/// A revoked set matches nothing, for ever.
fn withdraw(
    rules: &mut Rules,
    set: Sha256Digest,
    statement: &Statement,
    now: UnixSeconds,
    effects: &mut Vec<Effect>,
) -> Result<(), OrderRefusal> {
    let Some(held) = rules.references.get(&set) else {
        return Err(OrderRefusal::Unknown { what: "reference value set", name: set.to_string() });
    };
    let (id, version) = (held.set().id().clone(), held.set().version());
    let reason = Text::lossy(statement.reason.as_str());
    let step = rules.lifecycle.revoke(&id, version, &reason, now)?;
    let (family, entry) = (Family::Reference, cbor::to_vec(&step)?);
    effects.push(Effect::History { family, payload: set, entry });
    Ok(())
}

pub(super) fn code(text: &str) -> Result<Code, OrderRefusal> {
    Code::new(text).map_err(|rule| OrderRefusal::Bug(rule.to_owned()))
}

fn payload_digest(cose: &[u8]) -> Result<Sha256Digest, OrderRefusal> {
    let payload = evidence::cose::claimed_payload(cose).map_err(ThresholdDenial::Cose)?;
    Ok(Sha256Digest::of(&payload))
}

/// Code of the halt that a revoked node is told.
const REVOKED: &str = "governance.revoked";
