//! What nodes say at the end: halt and end records, signed by their record keys, logged by us.

use std::sync::Arc;

use audit::record::RecordBody;
use evidence::cose::KeySet;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use governance::end::EndRecord;
use governance::halt::HaltRecord;

use crate::denials::{code, grow};
use crate::desk::{Desk, Recorded};
use crate::evidence_store::{self, BlobKind};
use crate::fault::Fault;
use crate::leases::{self, LeaseEnd};
use crate::lineage::Chain;
use crate::nodes::{self, Node, NodeStatus};
use crate::refusal::Refused;
use crate::store::Committed;

impl Desk {
    /// Takes a halt record: every lease of the node is over, and the node is quarantined until readmitted.
    ///
    /// Accepted from a node in any state: a node that lost its TPM, its leases or our trust can still say that it
    /// stopped. The same record again is answered with the receipt of the first time.
    pub async fn halted(self: &Arc<Self>, id: &NodeId, cose: Vec<u8>) -> Result<Recorded, Refused> {
        let node = self.node(id).await?;
        let keys = KeySet::new([&node.identity.record_key]);
        let record = HaltRecord::verify(&cose, &self.parts.domain, id, &keys).map_err(Refused::unproven)?;
        let digest = record.digest().map_err(Refused::unproven)?;
        if let Some(recorded) = self.recorded_before(&node, digest).await? {
            return Ok(recorded);
        }
        let code = code(record.reason.code())?;
        let body = RecordBody::Halt { halt: digest, code: code.clone() };
        let (presented, authorizations) = (record.lineage_head, record.authorizations);
        let epoch = self.trust().map_or(node.epoch, |trust| trust.epoch());
        let (desk, id, now) = (self.clone(), id.clone(), self.now()?);
        let committed = self.parts.store.write::<_, Fault, _>(move |transaction| {
            Box::pin(async move {
                let node = nodes::read(transaction, &id).await?;
                let parts = &desk.parts;
                evidence_store::put_signed(transaction, BlobKind::HaltRecord, &cose).await?;
                let chain = Chain::after(&parts.issuer, &parts.domain, &id, node.head_current, now);
                let mut chain = chain.follows(&authorizations);
                let signed = chain.next(digest, &[], body)?;
                let head = signed.digest;
                transaction.append(signed.entry(&[id.to_string(), digest.to_string()]))?;
                let over = leases::end_all(transaction, &id, LeaseEnd::Halted).await?;
                nodes::set_halt(transaction, &id, &digest).await?;
                if node.status != NodeStatus::Quarantined {
                    nodes::set_status(transaction, &id, NodeStatus::Quarantined, code.as_str(), epoch).await?;
                }
                grow(transaction, &node, presented, head).await?;
                Ok((head, over))
            })
        });
        let Committed { value: (head, over), logged } = committed.await?;
        self.end_descendants_soon(over);
        let recorded = recorded(Committed { value: head, logged })?;
        self.live().halted(&node.identity.id);
        self.metrics().halts.inc();
        Ok(recorded)
    }

    /// Takes an end record: the executions it names are over; the node may start others.
    pub async fn ended(self: &Arc<Self>, id: &NodeId, cose: Vec<u8>) -> Result<Recorded, Refused> {
        let node = self.node(id).await?;
        let keys = KeySet::new([&node.identity.record_key]);
        let record = EndRecord::verify(&cose, &self.parts.domain, id, &keys).map_err(Refused::unproven)?;
        let digest = record.digest().map_err(Refused::unproven)?;
        if let Some(recorded) = self.recorded_before(&node, digest).await? {
            return Ok(recorded);
        }
        let (presented, authorizations) = (record.lineage_head, record.authorizations.clone());
        let mut ended = Vec::new();
        for artifact in &record.artifacts {
            let terms = self.artifact_terms(*artifact).await?;
            // What is not this node's, or not ours, is not ended by it.
            ended.extend(terms.filter(|terms| terms.bindings.node == *id).map(|terms| terms.id));
        }
        let (desk, id, now, over) = (self.clone(), id.clone(), self.now()?, ended.clone());
        let committed = self.parts.store.write::<_, Fault, _>(move |transaction| {
            Box::pin(async move {
                let node = nodes::read(transaction, &id).await?;
                let parts = &desk.parts;
                evidence_store::put_signed(transaction, BlobKind::EndRecord, &cose).await?;
                let chain = Chain::after(&parts.issuer, &parts.domain, &id, node.head_current, now);
                let mut chain = chain.follows(&authorizations);
                let signed = chain.next(record.intent, &[], RecordBody::End { end: digest })?;
                let head = signed.digest;
                let mut subjects = vec![id.to_string(), digest.to_string(), record.intent.to_string()];
                for artifact in &ended {
                    leases::end(transaction, artifact, LeaseEnd::Ended).await?;
                    subjects.push(artifact.to_string());
                }
                transaction.append(signed.entry(&subjects))?;
                grow(transaction, &node, presented, head).await?;
                Ok(head)
            })
        });
        let committed = committed.await?;
        self.end_descendants_soon(over);
        Ok(recorded(committed)?)
    }

    /// The receipt of a record that was logged before: its answer was lost, and the node says it again.
    async fn recorded_before(&self, node: &Node, digest: Sha256Digest) -> Result<Option<Recorded>, Fault> {
        let entries = self.parts.log.entries_about(&digest.to_string()).await?;
        let Some(entry) = entries.first() else { return Ok(None) };
        let logged = self.parts.log.prove(entry)?;
        Ok(Some(Recorded { index: logged.index, receipt: receipt(&logged)?, head: node.head_current }))
    }
}

pub(crate) fn recorded(committed: Committed<Sha256Digest>) -> Result<Recorded, Fault> {
    let logged =
        committed.logged.first().ok_or_else(|| Fault::Bug { what: "committed without its record".to_owned() })?;
    Ok(Recorded { index: logged.index, receipt: receipt(logged)?, head: committed.value })
}

/// A receipt as it travels.
pub(crate) fn receipt(logged: &crate::log::Logged) -> Result<Vec<u8>, Fault> {
    logged.receipt.encode().map_err(|error| Fault::Bug { what: error.to_string() })
}
