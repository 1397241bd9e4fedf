//! What an operator may do about a node alone: let one in, and stop one. Taking a
//! stopped one back needs the policy authority ([`super::orders`]).

use audit::record::RecordBody;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tee::PlatformId;
use evidence::time::UnixSeconds;

use super::effects::Effect;
use super::orders::code;
use super::refusal::OrderRefusal;
use super::{Governor, Proposal, Said};
use crate::leases::LeaseEnd;
use crate::live::Push;
use crate::nodes::{self, Machine, NodeStatus};

/// A machine that an operator lets in for one node id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmittedMachine {
    /// SHA-256 of its EK's TPM2B_PUBLIC. No manufacturer needs to vouch for it then.
    Ek(Sha256Digest),
    /// The platform of its TEE. AMD or Intel vouches for it all the same.
    Platform(PlatformId),
}

impl AdmittedMachine {
    fn digest(&self) -> Sha256Digest {
        match self {
            Self::Ek(ek) => *ek,
            Self::Platform(platform) => nodes::platform_digest(platform),
        }
    }

    /// Its digest, if the machine that is enrolled has it.
    fn of(&self, enrolled: &Machine) -> Result<Sha256Digest, &'static str> {
        let (same, why) = match self {
            Self::Ek(ek) => (enrolled.tpm().is_some_and(|tpm| tpm.ek_digest == *ek), "is enrolled with another EK"),
            Self::Platform(platform) => {
                (enrolled.platform() == Some(platform), "is enrolled on another platform, or without a TEE")
            }
        };
        if same { Ok(self.digest()) } else { Err(why) }
    }
}

impl Governor {
    /// Admits a machine for a node id, a pending node, or both at once.
    pub async fn admit(
        &self,
        node: &NodeId,
        machine: Option<AdmittedMachine>,
        reason: &str,
        now: UnixSeconds,
    ) -> Result<u64, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let known = nodes::find(&self.0.store, node).await?;
        let refuse = |why: &str| OrderRefusal::NodeStatus { node: node.to_string(), why: why.to_owned() };
        let mut proposal = Proposal::of(rules.clone(), "node admitted");
        let subject = match (&known, &machine) {
            (Some(known), Some(machine)) => machine.of(&known.identity.machine).map_err(refuse)?,
            (Some(known), None) => known.identity.machine.digest(),
            (None, Some(machine)) => machine.digest(),
            (None, None) => {
                return Err(refuse("is not enrolled; name its EK or its platform to admit it beforehand"));
            }
        };
        match known.as_ref().map(|known| known.status) {
            Some(NodeStatus::Pending) => {
                proposal.effects.push(Effect::Admit { node: node.clone(), reason: reason.to_owned() });
            }
            Some(NodeStatus::Active) if machine.is_none() => return Err(refuse("is admitted already")),
            Some(NodeStatus::Quarantined) => return Err(refuse("is quarantined; it needs a readmission")),
            Some(NodeStatus::Active) | None => {}
        }
        let (id, reason) = (node.clone(), reason.to_owned());
        match machine {
            Some(AdmittedMachine::Ek(ek)) => {
                proposal.rules.pinned.insert(ek);
                proposal.effects.push(Effect::AdmitEk { ek, node: id, reason });
            }
            Some(AdmittedMachine::Platform(platform)) => {
                proposal.effects.push(Effect::AdmitPlatform { platform, node: id, reason });
            }
            None => {}
        }
        let body = RecordBody::Admission { machine: subject };
        proposal.records.push(Said { subject, about: vec![node.to_string()], body });
        let committed = self.enact(&mut rules, proposal, now).await?;
        Ok(committed.logged.first().map_or(committed.value.log_index, |logged| logged.index))
    }

    /// Stops a node: its leases are over, it is told to halt, and it stays out
    /// until the policy authority readmits it.
    pub async fn quarantine(&self, node: &NodeId, reason: &str, now: UnixSeconds) -> Result<u64, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let mut proposal = Proposal::of(rules.clone(), "node quarantined");
        let subject = Sha256Digest::labelled("attestd/quarantine/1", &[node.as_str().as_bytes(), reason.as_bytes()]);
        proposal.effects.push(Effect::Quarantine {
            node: node.clone(),
            code: code(BY_OPERATOR)?,
            reason: reason.to_owned(),
            subject,
            end: LeaseEnd::Stopped,
        });
        let committed = self.enact(&mut rules, proposal, now).await?;
        let push = Push::Halt { code: BY_OPERATOR.to_owned(), reason: reason.to_owned() };
        self.0.parts.live.push(node, push);
        Ok(committed.value.log_index)
    }
}

/// Code of an operator's quarantine, in the node's chain and in its halt.
const BY_OPERATOR: &str = "halt.operator";
