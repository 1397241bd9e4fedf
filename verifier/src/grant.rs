//! A grant becoming true: every record, the node's clock and lineage, the lease and the kept inputs in one transaction
//! that re-reads the epoch. Either all of it is durable, or none of it happened.

use audit::record::{Boot, RecordBody};
use evidence::digest::Sha256Digest;
use evidence::names::ItemName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::{Artifact, ArtifactTerms, ReceiptReference};
use policy::Denial;
use serde_bytes::ByteArray;
use wire::proto;

use crate::appraise::Verdict;
use crate::descent::Descent;
use crate::desk::Desk;
use crate::evidence_store::{self, BlobKind};
use crate::fault::Fault;
use crate::governance_state;
use crate::leases::{self, LeaseEnd, LeaseRefusal};
use crate::lineage::{Chain, Signed};
use crate::nodes::{self, Node, NodeRefusal, NodeStatus};
use crate::store::{NewEntry, StoreError, Transaction, WorkError};

/// What is granted, decided and ready to be recorded.
pub(crate) struct Grant {
    pub(crate) terms: ArtifactTerms,
    pub(crate) terms_digest: Sha256Digest,
    /// Digest of the X509-SVID that goes with it.
    pub(crate) svid: Sha256Digest,
    pub(crate) verdict: Verdict,
    pub(crate) kept: Vec<(BlobKind, Vec<u8>)>,
    pub(crate) presented: Sha256Digest,
    pub(crate) now: UnixSeconds,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    First {
        intent_cose: Vec<u8>,
        keys: Vec<proto::WrappedKey>,
        /// What it descends from; none for an execution without parent.
        descent: Option<Descent>,
    },
    Renewal,
}

/// What a grant became once committed.
pub(crate) struct Granted {
    pub(crate) artifact: Vec<u8>,
    pub(crate) head: Sha256Digest,
    /// Which of the logged entries is the authorization or renewal.
    pub(crate) position: usize,
}

/// Why a verdict did not become a grant.
pub(crate) enum NotGranted {
    Denied(Box<Denial>),
    Fault(Fault),
}

impl WorkError for NotGranted {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Fault(fault) = self { fault.store_fault() } else { None }
    }
}

impl From<Fault> for NotGranted {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for NotGranted {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<NodeRefusal> for NotGranted {
    fn from(refusal: NodeRefusal) -> Self {
        Self::Fault(refusal.into())
    }
}

impl From<LeaseRefusal> for NotGranted {
    fn from(refusal: LeaseRefusal) -> Self {
        Self::Fault(refusal.into())
    }
}

impl Grant {
    /// Everything that must be true together: the epoch is the one judged under, the node may still attest and its history
    /// goes on from where it said, its clock goes on, the lease number is new, the records are in the log.
    pub(crate) async fn commit(self, desk: &Desk, transaction: &mut Transaction<'_>) -> Result<Granted, NotGranted> {
        let epoch = self.terms.governance.epoch;
        let current = governance_state::epoch(transaction).await?;
        if current != epoch {
            return Err(Fault::EpochMoved { current, judged: epoch }.into());
        }
        let node = nodes::read(transaction, &self.terms.bindings.node).await?;
        still_admissible(&node, self.presented)?;
        for (kind, bytes) in &self.kept {
            evidence_store::put(transaction, *kind, bytes).await?;
        }
        let id = &node.identity.id;
        let mut chain = Chain::after(&desk.parts.issuer, &desk.parts.domain, id, node.head_current, self.now);
        let mut before = 0_usize;
        before = before.saturating_add(self.restart(transaction, &mut chain, &node).await?);
        if let Some(clock) = self.verdict.clock {
            nodes::see_clock(transaction, id, clock.into()).await?;
        }
        if let Some(report_id) = self.verdict.report_id {
            nodes::see_report_id(transaction, id, report_id, self.verdict.restarted.guest).await?;
        }
        let (record, index) = match &self.kind {
            Kind::First { intent_cose, descent, .. } => {
                self.intent(transaction, &mut chain, intent_cose, descent.as_ref()).await?;
                before = before.saturating_add(1);
                self.step(transaction, &mut chain)?
            }
            Kind::Renewal => self.step(transaction, &mut chain)?,
        };
        let receipt = ReceiptReference { index, entry: record };
        // Signed here so that it is kept with what it carries out; it leaves with the receipt, which comes after the commit.
        let artifact = Artifact::issue(self.terms.clone(), receipt, &desk.parts.issuer.signing())
            .map_err(|error| Fault::Bug { what: error.to_string() })?;
        self.lease(transaction, &artifact).await?;
        let head = self.release(transaction, &mut chain, record)?;
        nodes::advance(transaction, id, &self.presented, &head).await?;
        Ok(Granted { artifact, head, position: before })
    }

    fn subjects(&self) -> Vec<String> {
        let (node, intent, id) = (&self.terms.bindings.node, self.terms.intent, self.terms.id);
        vec![node.to_string(), intent.to_string(), id.to_string()]
    }

    fn entry(&self, record: Signed) -> NewEntry {
        record.entry(&self.subjects())
    }

    async fn intent(
        &self,
        transaction: &mut Transaction<'_>,
        chain: &mut Chain<'_>,
        cose: &[u8],
        descent: Option<&Descent>,
    ) -> Result<(), NotGranted> {
        let intent = self.terms.intent;
        evidence_store::put_signed(transaction, BlobKind::Intent, cose).await?;
        let records = descent.map_or(&[][..], |descent| &descent.records);
        if let Some(descent) = descent {
            chain.follow(&descent.elsewhere);
        }
        let record = chain.next(intent, records, RecordBody::Intent { intent })?;
        let under = descent.map_or_else(Vec::new, Descent::subjects);
        transaction.append(under.into_iter().fold(self.entry(record), NewEntry::about))?;
        Ok(())
    }

    /// The record that grants: its digest and index.
    fn step(
        &self,
        transaction: &mut Transaction<'_>,
        chain: &mut Chain<'_>,
    ) -> Result<(Sha256Digest, u64), NotGranted> {
        let artifact = ByteArray::new(self.terms.id.0);
        let (terms, result, evidence) = (self.terms_digest, self.terms.policy.result, self.verdict.evidence);
        let (state, lease_seq, svid) = (self.terms.governance.state, self.terms.lease.seq, self.svid);
        let body = match self.kind {
            Kind::First { .. } => {
                RecordBody::Authorization { artifact, terms, result, evidence, state, lease_seq, svid }
            }
            Kind::Renewal => RecordBody::Renewal { artifact, terms, result, evidence, state, lease_seq, svid },
        };
        chain.follow(&self.verdict.elsewhere);
        let record = chain.next(self.terms.intent, &[], body)?;
        let digest = record.digest;
        let index = transaction.append(self.entry(record).about(self.verdict.decision.clone()))?;
        Ok((digest, index))
    }

    async fn lease(&self, transaction: &mut Transaction<'_>, artifact: &[u8]) -> Result<(), NotGranted> {
        let digest = evidence_store::put(transaction, BlobKind::Artifact, artifact).await?;
        let (terms, ends_at) = (&self.terms, self.terms.expires_at.0);
        match self.kind {
            Kind::First { .. } => {
                evidence_store::put_artifact(transaction, &self.terms_digest, artifact).await?;
                let execution = (&terms.bindings.node, &terms.intent);
                leases::open(transaction, &terms.id, execution, &digest, terms.governance.epoch, ends_at).await?;
            }
            Kind::Renewal => {
                leases::renew(transaction, &terms.id, &digest, terms.lease.seq, terms.governance.epoch, ends_at)
                    .await?;
            }
        }
        Ok(())
    }

    /// Which keys go with the answer; the newest record of the node's lineage.
    fn release(
        &self,
        transaction: &mut Transaction<'_>,
        chain: &mut Chain<'_>,
        newest: Sha256Digest,
    ) -> Result<Sha256Digest, NotGranted> {
        let Kind::First { keys, .. } = &self.kind else { return Ok(newest) };
        if keys.is_empty() {
            return Ok(newest);
        }
        let released = |name: &&ItemName| keys.iter().any(|key| key.name == name.as_str());
        let names: Vec<ItemName> = self.terms.scope.keys.iter().filter(released).cloned().collect();
        let body = RecordBody::Release { artifact: ByteArray::new(self.terms.id.0), keys: names };
        let record = chain.next(self.terms.intent, &[], body)?;
        let head = record.digest;
        transaction.append(self.entry(record))?;
        Ok(head)
    }

    /// The machine was started anew since we last saw it: whatever the node held before is over, on the record (T8,
    /// S13). How many records say so.
    async fn restart(
        &self,
        transaction: &mut Transaction<'_>,
        chain: &mut Chain<'_>,
        node: &Node,
    ) -> Result<usize, NotGranted> {
        let restarted = self.verdict.restarted;
        let tpm =
            restarted.tpm.map(|clock| Boot::Tpm { reset_count: clock.reset_count, restart_count: clock.restart_count });
        let guest = self.verdict.report_id.filter(|_| restarted.guest);
        let guest = guest.map(|report_id| Boot::SevSnp { report_id: ByteArray::new(report_id) });
        let mut records = 0_usize;
        let evidence = self.verdict.evidence;
        for boot in tpm.into_iter().chain(guest) {
            let record = chain.next(evidence, &[], RecordBody::Restart { evidence, boot })?;
            transaction.append(record.entry(&[node.identity.id.to_string()]))?;
            records = records.saturating_add(1);
        }
        if records > 0 {
            leases::end_all(transaction, &node.identity.id, LeaseEnd::Halted).await?;
        }
        Ok(records)
    }
}

fn still_admissible(node: &Node, presented: Sha256Digest) -> Result<(), NotGranted> {
    use GovernanceDenial as G;
    let id = node.identity.id.clone();
    let denied = |denial: G| Err(NotGranted::Denied(Box::new(denial.into())));
    match node.status {
        NodeStatus::Active => {}
        NodeStatus::Pending => return denied(G::NodePending { node: id }),
        NodeStatus::Quarantined => return denied(G::NodeQuarantined { node: id, reason: node.reason.clone() }),
    }
    if node.continuity(&presented).is_err() {
        return denied(G::LineageDiscontinuous {
            got: presented,
            current: node.head_current,
            acknowledged: node.head_acked,
        });
    }
    Ok(())
}
