//! Saying no, on the record. A denial becomes part of the node's lineage before the node hears of it.

use std::sync::Arc;

use audit::record::{Code, RecordBody};
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use governance::GovernanceDenial;
use governance::artifact::ArtifactId;
use policy::Denial;

use crate::desk::Desk;
use crate::evidence_store::{self, BlobKind};
use crate::fault::Fault;
use crate::leases::{self, LeaseEnd};
use crate::lineage::Chain;
use crate::nodes::{self, Node, NodeStatus};
use crate::refusal::{Denied, Refused};
use crate::store::{Committed, Transaction};
use crate::trust::Trust;

/// What was denied, and what it was judged from.
pub(crate) struct Judged {
    /// The first failure.
    pub(crate) denial: Denial,
    /// Newest record that the node knows.
    pub(crate) presented: Sha256Digest,
    /// Digest of the request: the intent, or what else the evidence had to be about.
    pub(crate) subject: Sha256Digest,
    /// What was received and judged, to be kept with the denial.
    pub(crate) kept: Vec<(BlobKind, Vec<u8>)>,
    /// Digest of the evidence, when the request got so far.
    pub(crate) evidence: Option<Sha256Digest>,
    /// Under which the record lists the decision's inputs, when there was evidence, or a passport, to decide about.
    pub(crate) decision: Option<String>,
    /// The signed intent, when one was refused.
    pub(crate) intent: Option<Vec<u8>>,
    /// The node must halt.
    pub(crate) halt: bool,
}

impl Judged {
    /// Denied before there was any evidence.
    fn early(denial: GovernanceDenial, presented: Sha256Digest, halt: bool) -> Self {
        Self {
            denial: denial.into(),
            presented,
            subject: presented,
            kept: Vec::new(),
            evidence: None,
            decision: None,
            intent: None,
            halt,
        }
    }
}

impl Desk {
    /// Denies a request that was not taken in.
    pub(crate) async fn deny_early(
        self: &Arc<Self>,
        node: &Node,
        trust: &Trust,
        head: Sha256Digest,
        denial: GovernanceDenial,
    ) -> Refused {
        // A quarantined node stays halted, and one whose history is not ours is: it lost it, or there are two of it. Any
        // other may ask again.
        use GovernanceDenial as Denial;
        let halt = matches!(denial, Denial::NodeQuarantined { .. } | Denial::LineageDiscontinuous { .. });
        self.deny(node, trust, Judged::early(denial, head, halt)).await
    }

    /// Denies a renewal that was not taken in: the node halts.
    pub(crate) async fn deny_renewal(
        self: &Arc<Self>,
        node: &Node,
        trust: &Trust,
        head: Sha256Digest,
        denial: GovernanceDenial,
    ) -> Refused {
        self.deny(node, trust, Judged::early(denial, head, true)).await
    }

    /// Records a denial, and when it halts the node its quarantine and the end of its leases with it.
    pub(crate) async fn deny(self: &Arc<Self>, node: &Node, trust: &Trust, judged: Judged) -> Refused {
        let id = node.identity.id.clone();
        // What quarantines a node happens once, and always counts.
        let quarantines = judged.halt && node.status != NodeStatus::Quarantined;
        if !quarantines && !self.denials_per_node.admits(&id) {
            return Fault::Overloaded { what: "denials of this node" }.into();
        }
        match self.record_denial(id, trust, judged).await {
            Ok(denied) => Refused::Denied(Box::new(denied)),
            Err(fault) => fault.into(),
        }
    }

    async fn record_denial(self: &Arc<Self>, id: NodeId, trust: &Trust, judged: Judged) -> Result<Denied, Fault> {
        let now = self.now()?;
        let (desk, epoch, state) = (self.clone(), trust.epoch(), trust.state_digest());
        let Judged { denial, presented, subject, kept, evidence, decision, intent, halt } = judged;
        let code = code(denial.code())?;
        let committed: Committed<(Sha256Digest, Vec<ArtifactId>)> = self
            .parts
            .store
            .write::<_, Fault, _>(move |transaction| {
                Box::pin(async move {
                    let node = nodes::read(transaction, &id).await?;
                    for (kind, bytes) in &kept {
                        evidence_store::put(transaction, *kind, bytes).await?;
                    }
                    if let Some(cose) = &intent {
                        evidence_store::put_signed(transaction, BlobKind::Intent, cose).await?;
                    }
                    let parts = &desk.parts;
                    let mut chain = Chain::after(&parts.issuer, &parts.domain, &id, node.head_current, now);
                    let subjects = [id.to_string(), subject.to_string()];
                    let body = RecordBody::Denial { code: code.clone(), evidence, result: None, state: Some(state) };
                    let record = chain.next(subject, &[], body)?;
                    let (mut head, mut over) = (record.digest, Vec::new());
                    let entry = record.entry(&subjects);
                    transaction.append(match decision {
                        Some(decision) => entry.about(decision),
                        None => entry,
                    })?;
                    if halt && node.status != NodeStatus::Quarantined {
                        let record = chain.next(subject, &[], RecordBody::Quarantine { code: code.clone() })?;
                        head = record.digest;
                        transaction.append(record.entry(&subjects))?;
                        over = leases::end_all(transaction, &id, LeaseEnd::Stopped).await?;
                        nodes::set_status(transaction, &id, NodeStatus::Quarantined, code.as_str(), epoch).await?;
                    }
                    grow(transaction, &node, presented, head).await?;
                    Ok((head, over))
                })
            })
            .await?;
        let entry = committed.logged.first().map(|logged| logged.index);
        let entry = entry.ok_or_else(|| Fault::Bug { what: "a denial was committed without its record".to_owned() })?;
        let (head, over) = committed.value;
        self.end_descendants_soon(over);
        Ok(Denied { denial, entry, head: Some(head), halt })
    }
}

/// Moves the node's lineage on: from what it showed, or, when that is no history of ours, from whatever it knows.
pub(crate) async fn grow(
    transaction: &mut Transaction<'_>,
    node: &Node,
    presented: Sha256Digest,
    head: Sha256Digest,
) -> Result<(), Fault> {
    let id = &node.identity.id;
    match node.continuity(&presented) {
        Ok(_) => nodes::advance(transaction, id, &presented, &head).await.map(drop)?,
        Err(_) => nodes::note(transaction, id, &head).await?,
    }
    Ok(())
}

/// Under which an entry lists the decision that it came from.
pub(crate) fn decision_subject(decision: Sha256Digest) -> String {
    format!("{DECISION_PREFIX}{decision}")
}

/// The same of one that was made by a passport.
pub(crate) fn passport_subject(decision: Sha256Digest) -> String {
    format!("{PASSPORT_PREFIX}{decision}")
}

/// What the subject of a decision by a passport begins with.
pub(crate) const PASSPORT_PREFIX: &str = "passport:";

/// What the subject of a decision begins with.
pub(crate) const DECISION_PREFIX: &str = "decision:";

/// A code as records carry it.
pub(crate) fn code(text: &str) -> Result<Code, Fault> {
    Code::new(text).map_err(|rule| Fault::Bug { what: format!("code {text:?}: {rule}") })
}
