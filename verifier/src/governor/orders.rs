//! Orders of the policy authority: statements that a threshold of its keys
//! signed, each obeyed once, in ascending sequence.

use std::time::Duration;

use audit::record::{Code, RecordBody};
use evidence::cose::{KeySet, Purpose, verify1};
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::threshold::ThresholdDenial;
use evidence::time::UnixSeconds;
use firmware_refs::lifecycle::Ordered;
use firmware_refs::text::Text;
use governance::revocation::{REVOCATION_VERSION, Revocation, Revoked};
use governance::statement::{Order, Statement, VerifiedStatement};
use serde::Serialize;
use std::sync::Arc;

use super::effects::Effect;
use super::refusal::OrderRefusal;
use super::rules::STATEMENTS;
use super::steps::{activate_policy, withdraw};
use super::{Governor, Proposal, Rules, Said};
use crate::leases::LeaseEnd;
use crate::live::{Heard, Push};

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
    /// Who followed a revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Heard>,
}

impl Governor {
    /// Obeys one statement: `signatures` are over the same payload, by distinct
    /// keys, at least the threshold of them.
    pub async fn obey(&self, signatures: &[Vec<u8>], now: UnixSeconds) -> Result<Obeyed, OrderRefusal> {
        self.obey_with(signatures, &[], now).await
    }

    /// As [`Self::obey`]; `bundle` is the first bundle of the domain that the statement orders to trust.
    pub async fn obey_with(
        &self,
        signatures: &[Vec<u8>],
        bundle: &[Vec<u8>],
        now: UnixSeconds,
    ) -> Result<Obeyed, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let _partners = self.0.partner_turn.lock().await;
        let parts = &self.0.parts;
        let sequence_min = rules.statement_sequence.saturating_add(1);
        let verified = Statement::verify(signatures, &parts.domain, &parts.authority, sequence_min, now)?;
        let (effect, mut proposal) = self.propose(&rules, &verified, signatures, bundle, now)?;
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
            | Order::SupersedeReferences { .. }
            | Order::ActivatePolicy { .. }
            | Order::Readmit { .. }
            | Order::Revoke(_)
            | Order::TrustDomain(_)
            | Order::UntrustDomain { .. }
            | Order::CountWitnesses(_) => None,
        };
        let revocation = proposal.pushes.iter().find_map(|push| match push {
            Push::Revocation(cose) => Some(Sha256Digest::of(cose)),
            Push::Halt { .. }
            | Push::Checkpoint(_)
            | Push::TrustBundle(_)
            | Push::ClientCertificate(_)
            | Push::ParentOver { .. }
            | Push::WitnessPolicy(_) => None,
        });
        let listening = parts.live.listen();
        let told = parts.live.connected();
        let committed = self.enact(&mut rules, proposal, now).await?;
        if let Some(node) = halted {
            let (code, reason) = (REVOKED.to_owned(), verified.statement().reason.to_string());
            parts.live.push(&node, Push::Halt { code, reason });
        }
        let entry = committed.logged.first().map_or(committed.value.log_index, |logged| logged.index);
        // It is in force; only the answer waits, and nothing else for it.
        drop((rules, _partners));
        let nodes = match revocation {
            Some(revocation) => Some(listening.until_followed(revocation, told, FOLLOWED_WITHIN).await),
            None => None,
        };
        Ok(Obeyed { effect, statement, epoch: committed.value.epoch, entry, nodes })
    }

    fn propose(
        &self,
        rules: &Rules,
        verified: &VerifiedStatement,
        signatures: &[Vec<u8>],
        bundle: &[Vec<u8>],
        now: UnixSeconds,
    ) -> Result<(String, Proposal), OrderRefusal> {
        let statement = verified.statement();
        let digest = verified.digest();
        let ordered = Ordered { statement: digest, reason: Text::lossy(statement.reason.as_str()), at: now };
        match &statement.order {
            Order::ActivateReferences { name, version, set, grace_s } => {
                let proposal = self.activate_references(rules, (name, *version), *set, *grace_s, &ordered)?;
                Ok((format!("reference values {name} version {version} active"), proposal))
            }
            Order::SupersedeReferences { set, by, grace_s } => {
                let (proposal, [old, new]) = self.supersede_references(rules, *set, *by, *grace_s, &ordered)?;
                Ok((format!("reference values {old} superseded by {new}"), proposal))
            }
            Order::ActivatePolicy { version, set } => {
                let proposal = activate_policy(rules, *version, *set, &ordered)?;
                Ok((format!("policy version {version} active"), proposal))
            }
            Order::Readmit { node, halt, epoch } => {
                let proposal = readmit(rules, node, *halt, digest, *epoch);
                Ok((format!("node {node} readmitted"), proposal))
            }
            Order::Revoke(revoked) => {
                let proposal = self.revoke(rules, revoked, statement, &ordered)?;
                Ok((format!("{} {} revoked", revoked.kind(), revoked.subject()), proposal))
            }
            Order::TrustDomain(trusted) => {
                let proposal = self.trust_domain(rules, trusted, bundle, digest, now)?;
                Ok((format!("domain {} trusted", trusted.domain), proposal))
            }
            Order::UntrustDomain { domain } => {
                let proposal = self.untrust_domain(rules, domain, digest, now)?;
                Ok((format!("domain {domain} no longer trusted"), proposal))
            }
            Order::CountWitnesses(policy) => {
                let proposal = super::witnesses::counted(rules, verified, policy, signatures)?;
                Ok((format!("nodes count the cosignatures of {} witnesses", policy.quorum), proposal))
            }
        }
    }

    fn revoke(
        &self,
        rules: &Rules,
        revoked: &Revoked,
        statement: &Statement,
        ordered: &Ordered,
    ) -> Result<Proposal, OrderRefusal> {
        // Revoking it again would only repeat the first.
        rules.revocations.admits(revoked)?;
        let (parts, digest) = (&self.0.parts, ordered.statement);
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
            issued_at: ordered.at,
        };
        let cose = revocation.sign(&parts.issuer.signing())?;
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
            Revoked::ReferenceSet(set) => effects.push(withdraw(&mut next, *set, ordered)?),
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

fn readmit(rules: &Rules, node: &NodeId, halt: Sha256Digest, statement: Sha256Digest, epoch: u64) -> Proposal {
    let mut proposal = Proposal::of(rules.clone(), "node readmitted");
    proposal.effects.push(Effect::Readmit { node: node.clone(), halt, statement, epoch });
    proposal
}

pub(super) fn code(text: &str) -> Result<Code, OrderRefusal> {
    Code::new(text).map_err(|rule| OrderRefusal::Bug(rule.to_owned()))
}

fn payload_digest(cose: &[u8]) -> Result<Sha256Digest, OrderRefusal> {
    let payload = evidence::cose::claimed_payload(cose).map_err(ThresholdDenial::Cose)?;
    Ok(Sha256Digest::of(&payload))
}

/// How long the answer to a revocation waits for the nodes that were told.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(3);
/// Code of the halt that a revoked node is told.
const REVOKED: &str = "governance.revoked";
