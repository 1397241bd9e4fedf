//! What an operator may do about a node alone: let one in, and stop one. Taking a
//! stopped one back needs the policy authority ([`super::orders`]).

use audit::record::RecordBody;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;

use super::effects::Effect;
use super::orders::code;
use super::refusal::OrderRefusal;
use super::{Governor, Proposal, Said};
use crate::leases::LeaseEnd;
use crate::live::Push;
use crate::nodes::{self, NodeStatus};

impl Governor {
    /// Admits an EK for a node id, a pending node, or both at once.
    pub async fn admit(
        &self,
        node: &NodeId,
        ek: Option<Sha256Digest>,
        reason: &str,
        now: UnixSeconds,
    ) -> Result<u64, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let known = nodes::find(&self.0.store, node).await?;
        let refuse = |why: &str| OrderRefusal::NodeStatus { node: node.to_string(), why: why.to_owned() };
        let mut proposal = Proposal::of(rules.clone(), "node admitted");
        let subject = match (&known, ek) {
            (Some(known), Some(ek)) if known.identity.ek_digest != ek => {
                return Err(refuse("is enrolled with another EK"));
            }
            (Some(known), _) => known.identity.ek_digest,
            (None, Some(ek)) => ek,
            (None, None) => return Err(refuse("is not enrolled; name its EK to admit it beforehand")),
        };
        match known.as_ref().map(|known| known.status) {
            Some(NodeStatus::Pending) => {
                proposal.effects.push(Effect::Admit { node: node.clone(), reason: reason.to_owned() });
            }
            Some(NodeStatus::Active) if ek.is_none() => return Err(refuse("is admitted already")),
            Some(NodeStatus::Quarantined) => return Err(refuse("is quarantined; it needs a readmission")),
            Some(NodeStatus::Active) | None => {}
        }
        if let Some(ek) = ek {
            let (node, reason) = (node.clone(), reason.to_owned());
            proposal.rules.pinned.insert(ek);
            proposal.effects.push(Effect::AdmitEk { ek, node, reason });
        }
        let body = RecordBody::Admission { ek: subject };
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
            end: LeaseEnd::Halted,
        });
        let committed = self.enact(&mut rules, proposal, now).await?;
        let push = Push::Halt { code: BY_OPERATOR.to_owned(), reason: reason.to_owned() };
        self.0.parts.live.push(node, push);
        Ok(committed.value.log_index)
    }
}

/// Code of an operator's quarantine, in the node's chain and in its halt.
const BY_OPERATOR: &str = "halt.operator";
