//! From a verdict to an answer: wrap in memory → log and take the lease in one transaction → receipt → answer.
//!
//! Nothing leaves this process before the transaction is durable and the checkpoint over it is published. A commit whose
//! outcome is not known counts as not released: the lease it may have taken is void, since the next one counts on.

use std::sync::Arc;

use audit::record::RecordBody;
use evidence::challenge::Challenge;
use evidence::digest::Sha256Digest;
use evidence::names::ItemName;
use evidence::time::UnixSeconds;
use evidence::tpm::ClockState;
use governance::artifact::{
    ARTIFACT_VERSION, Artifact, ArtifactId, ArtifactTerms, Attribution, Confirmation, EnvironmentalConditions,
    GovernanceMetadata, LeaseTerms, PolicyValidation, ReceiptReference, RuntimeBindings,
};
use governance::intent::Intent;
use governance::scope::Scope;
use policy::Denial;
use serde_bytes::ByteArray;
use wire::proto::{self, verifier_message::Message as Answer};

use crate::appraise::{NotAffirmed, Outcome, Verdict};
use crate::denials::{Judged, decision_subject};
use crate::desk::{Asked, Asks, Desk, Renewing, Request};
use crate::evidence_store::{self, BlobKind};
use crate::fault::Fault;
use crate::governance_state;
use crate::keys;
use crate::leases::{self, LeaseEnd, LeaseRefusal};
use crate::lineage::{Chain, Signed};
use crate::node_records::receipt;
use crate::nodes::{self, ClockSeen, Node, NodeRefusal, NodeStatus};
use crate::random;
use crate::refusal::Refused;
use crate::store::{NewEntry, StoreError, Transaction};
use crate::wrap;

/// A node's clock may lag ours by this much and still take its artifact.
const CLOCK_LAG_S: u64 = 5;

/// What is granted, decided and ready to be recorded.
struct Grant {
    terms: ArtifactTerms,
    terms_digest: Sha256Digest,
    verdict: Verdict,
    kept: Vec<(BlobKind, Vec<u8>)>,
    presented: Sha256Digest,
    now: UnixSeconds,
    kind: Kind,
}

enum Kind {
    First { intent_cose: Vec<u8>, keys: Vec<proto::WrappedKey> },
    Renewal,
}

/// What a grant became once committed.
struct Granted {
    artifact: Vec<u8>,
    head: Sha256Digest,
    /// Which of the logged entries is the authorization or renewal.
    position: usize,
}

impl Desk {
    /// Judges evidence for a request and answers it.
    pub async fn conclude(
        self: &Arc<Self>,
        request: Request,
        challenge: Challenge,
        cmw: Vec<u8>,
    ) -> Result<Answer, Refused> {
        let _timer = Timer::starting(self);
        let bytes = evidence::cbor::to_vec(&challenge).map_err(|error| Fault::Bug { what: error.to_string() })?;
        let digest = Sha256Digest::of(&bytes);
        let kept = vec![(BlobKind::Evidence, cmw.clone()), (BlobKind::Challenge, bytes)];
        match self.appraise(&request, (challenge, digest), cmw).await? {
            Outcome::Denied(not) => Err(self.deny_judged(&request, *not, kept).await),
            Outcome::Authentic(evidence) => self.capture(&request, evidence, kept).await,
            Outcome::Verdict(verdict) => {
                self.proven.keep_node_key(&request.node.identity.id, &verdict.node_key);
                match &request.asks {
                    Asks::Authorize(asked) => self.authorize(&request, asked, *verdict, kept).await,
                    Asks::Renew(renewing) => self.renew(&request, renewing, *verdict, kept).await,
                    Asks::Capture => {
                        Err(Fault::Bug { what: "a capture was judged for more than authenticity".to_owned() }.into())
                    }
                }
            }
        }
    }

    async fn deny_judged(
        self: &Arc<Self>,
        request: &Request,
        not: NotAffirmed,
        kept: Vec<(BlobKind, Vec<u8>)>,
    ) -> Refused {
        let judged = Judged {
            denial: not.denial,
            presented: request.head,
            subject: request.subject(),
            kept: kept.into_iter().chain(not.kept).collect(),
            evidence: Some(not.evidence),
            decision: not.decision,
            intent: request.intent_cose(),
            halt: request.denial_halts(),
        };
        self.deny(&request.node, &request.trust, judged).await
    }

    async fn authorize(
        self: &Arc<Self>,
        request: &Request,
        asked: &Asked,
        verdict: Verdict,
        kept: Vec<(BlobKind, Vec<u8>)>,
    ) -> Result<Answer, Refused> {
        let now = self.now()?;
        let id = ArtifactId(random::bytes().map_err(Fault::from)?);
        let keys = self.wrap_keys(&asked.intent.scope, id, &verdict).await?;
        let terms = self.terms(request, &asked.intent, asked.digest, id, 1, &verdict, now)?;
        let kind = Kind::First { intent_cose: asked.cose.clone(), keys: keys.clone() };
        let answer = self.grant(request, terms, verdict, kept, now, kind).await?;
        self.metrics().authorizations.inc();
        Ok(Answer::Authorization(proto::Authorization { keys, ..answer }))
    }

    async fn renew(
        self: &Arc<Self>,
        request: &Request,
        renewing: &Renewing,
        verdict: Verdict,
        kept: Vec<(BlobKind, Vec<u8>)>,
    ) -> Result<Answer, Refused> {
        let now = self.now()?;
        // Counts on from what was last granted, whether or not that answer arrived: two leases never share a number.
        let seq = renewing.lease.seq.saturating_add(1);
        let asked = &renewing.intent;
        let terms = self.terms(request, &asked.intent, asked.digest, renewing.terms.id, seq, &verdict, now)?;
        let answer = self.grant(request, terms, verdict, kept, now, Kind::Renewal).await?;
        self.metrics().renewals.inc();
        Ok(Answer::Authorization(answer))
    }

    /// Wraps every key of the scope to the attested node key; still in memory, released with the answer or never.
    async fn wrap_keys(
        &self,
        scope: &Scope,
        id: ArtifactId,
        verdict: &Verdict,
    ) -> Result<Vec<proto::WrappedKey>, Fault> {
        let mut wrapped = Vec::with_capacity(scope.keys.len());
        for name in &scope.keys {
            let secret = keys::unseal(&self.parts.store, &self.parts.kek, name).await?;
            wrapped.push(wrap::to_node_key(verdict.node_key.point(), &id.0, name, &secret)?);
        }
        Ok(wrapped)
    }

    fn terms(
        &self,
        request: &Request,
        intent: &Intent,
        digest: Sha256Digest,
        id: ArtifactId,
        seq: u64,
        verdict: &Verdict,
        now: UnixSeconds,
    ) -> Result<ArtifactTerms, Fault> {
        let (lease, node) = (self.parts.lease, &request.node.identity.id);
        let lease_s = lease.duration_ms.div_ceil(1000);
        Ok(ArtifactTerms {
            issuer: self.audience().to_owned(),
            subject: self.domain().node_spiffe_id(node),
            audience: self.domain().node_spiffe_id(node),
            expires_at: now.plus(lease_s),
            not_before: now.minus(CLOCK_LAG_S),
            issued_at: now,
            id,
            confirmation: Confirmation { key: verdict.confirmation.clone() },
            version: ARTIFACT_VERSION,
            intent: digest,
            scope: intent.scope.clone(),
            bindings: RuntimeBindings {
                node: node.clone(),
                enrolment: request.node.identity.enrolment,
                evidence: verdict.evidence,
                executable: intent.workload.executable,
                measurements: verdict.measurements.clone(),
            },
            policy: PolicyValidation {
                policy_set: verdict.policy_set,
                version: verdict.policy_version,
                determining: verdict.determining.clone(),
                result: Sha256Digest::of(&verdict.result),
                reference_sets: verdict.reference_sets.clone(),
            },
            conditions: EnvironmentalConditions {
                tcb_floor: std::collections::BTreeMap::new(),
                register_digest: verdict.register_digest,
                labels: intent.scope.labels.clone(),
            },
            lease: LeaseTerms { seq, duration_ms: lease.duration_ms, renew_after_ms: lease.renew_after_ms },
            governance: GovernanceMetadata {
                domain: self.domain().clone(),
                epoch: request.trust.epoch(),
                state: request.trust.state_digest(),
            },
            attribution: Attribution {
                requester: intent.requester.clone(),
                approvers: Vec::new(),
                parent: intent.parent,
            },
        })
    }

    /// Records the grant; what comes back may be answered.
    async fn grant(
        self: &Arc<Self>,
        request: &Request,
        terms: ArtifactTerms,
        verdict: Verdict,
        mut kept: Vec<(BlobKind, Vec<u8>)>,
        now: UnixSeconds,
        kind: Kind,
    ) -> Result<proto::Authorization, Refused> {
        let terms_digest = terms.digest().map_err(|error| Fault::Bug { what: error.to_string() })?;
        kept.push((BlobKind::AttestationResult, verdict.result.clone()));
        kept.extend(verdict.kept.iter().cloned());
        let result = verdict.result.clone();
        let grant = Grant { terms, terms_digest, verdict, kept, presented: request.head, now, kind };
        let desk = self.clone();
        let committed = self
            .parts
            .store
            .write::<_, NotGranted, _>(move |transaction| {
                Box::pin(async move { grant.commit(&desk, transaction).await })
            })
            .await;
        let committed = match committed {
            Ok(committed) => committed,
            Err(NotGranted::Fault(fault)) => return Err(fault.into()),
            Err(NotGranted::Denied(denial)) => {
                // Taken back, halted or forked between judgement and commit: nothing was released.
                let judged = Judged {
                    denial: *denial,
                    presented: request.head,
                    subject: request.subject(),
                    kept: Vec::new(),
                    evidence: None,
                    decision: None,
                    intent: request.intent_cose(),
                    halt: request.denial_halts(),
                };
                return Err(self.deny(&request.node, &request.trust, judged).await);
            }
        };
        let Granted { artifact, head, position } = committed.value;
        let logged = committed.logged.get(position);
        let logged = logged.ok_or_else(|| Fault::Bug { what: "granted without a record".to_owned() })?;
        Ok(proto::Authorization {
            artifact,
            result,
            keys: Vec::new(),
            receipt: receipt(logged)?,
            lineage_head: head.0.to_vec(),
        })
    }

    async fn capture(
        self: &Arc<Self>,
        request: &Request,
        evidence: Sha256Digest,
        kept: Vec<(BlobKind, Vec<u8>)>,
    ) -> Result<Answer, Refused> {
        let (desk, now, id, presented) = (self.clone(), self.now()?, request.node.identity.id.clone(), request.head);
        let committed = self
            .parts
            .store
            .write::<_, Fault, _>(move |transaction| {
                Box::pin(async move {
                    let node = nodes::read(transaction, &id).await?;
                    for (kind, bytes) in &kept {
                        evidence_store::put(transaction, *kind, bytes).await?;
                    }
                    let parts = &desk.parts;
                    let mut chain = Chain::after(&parts.issuer, &parts.domain, &id, node.head_current, now);
                    let record = chain.next(evidence, &[], RecordBody::Capture { evidence })?;
                    let head = record.digest;
                    transaction.append(record.entry(&[id.to_string(), format!("capture:{id}")]))?;
                    nodes::advance(transaction, &id, &presented, &head).await?;
                    Ok(head)
                })
            })
            .await?;
        Ok(Answer::Recorded(crate::node_records::recorded(committed)?.to_message()))
    }
}

/// Why a verdict did not become a grant.
enum NotGranted {
    Denied(Box<Denial>),
    Fault(Fault),
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
        Self::Fault(match refusal {
            LeaseRefusal::EpochMoved { current, judged } => Fault::EpochMoved { current, judged },
            LeaseRefusal::Store(error) => error.into(),
            LeaseRefusal::Unknown(_) | LeaseRefusal::Over(..) | LeaseRefusal::OtherNode(_) => {
                Fault::Moved { what: refusal.to_string() }
            }
        })
    }
}

impl Grant {
    /// Everything that must be true together: the epoch is the one judged under, the node may still attest and its history
    /// goes on from where it said, its clock goes on, the lease number is new, the records are in the log.
    async fn commit(self, desk: &Desk, transaction: &mut Transaction<'_>) -> Result<Granted, NotGranted> {
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
        if let Some(restarted) = &self.verdict.restarted {
            self.restart(transaction, &mut chain, &node, restarted).await?;
            before = before.saturating_add(1);
        }
        let clock = self.verdict.clock;
        let seen = ClockSeen {
            reset_count: clock.reset_count,
            restart_count: clock.restart_count,
            clock_ms: clock.last_clock_ms,
        };
        nodes::see_clock(transaction, id, seen).await?;
        let (record, index) = match &self.kind {
            Kind::First { intent_cose, .. } => {
                self.intent(transaction, &mut chain, intent_cose).await?;
                before = before.saturating_add(1);
                self.step(transaction, &mut chain)?
            }
            Kind::Renewal => self.step(transaction, &mut chain)?,
        };
        let receipt = ReceiptReference { index, entry: record };
        // Signed here so that it is kept with what it carries out; it leaves with the receipt, which comes after the commit.
        let artifact = Artifact::issue(self.terms.clone(), receipt, &desk.parts.issuer)
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
    ) -> Result<(), NotGranted> {
        let intent = self.terms.intent;
        evidence_store::put_signed(transaction, BlobKind::Intent, cose).await?;
        let also: Vec<_> = self.terms.attribution.parent.into_iter().collect();
        let record = chain.next(intent, &also, RecordBody::Intent { intent })?;
        transaction.append(self.entry(record))?;
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
        let (state, lease_seq) = (self.terms.governance.state, self.terms.lease.seq);
        let body = match self.kind {
            Kind::First { .. } => RecordBody::Authorization { artifact, terms, result, evidence, state, lease_seq },
            Kind::Renewal => RecordBody::Renewal { artifact, terms, result, evidence, state, lease_seq },
        };
        let record = chain.next(self.terms.intent, &[], body)?;
        let digest = record.digest;
        let index = transaction.append(self.entry(record).about(decision_subject(self.verdict.decision)))?;
        Ok((digest, index))
    }

    async fn lease(&self, transaction: &mut Transaction<'_>, artifact: &[u8]) -> Result<(), NotGranted> {
        let digest = evidence_store::put(transaction, BlobKind::Artifact, artifact).await?;
        let (terms, ends_at) = (&self.terms, self.terms.expires_at.0);
        match self.kind {
            Kind::First { .. } => {
                evidence_store::put_artifact(transaction, &self.terms_digest, artifact).await?;
                leases::open(transaction, &terms.id, &terms.bindings.node, &digest, terms.governance.epoch, ends_at)
                    .await?;
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
        let names: Vec<ItemName> = self.terms.scope.keys.iter().cloned().collect();
        let body = RecordBody::Release { artifact: ByteArray::new(self.terms.id.0), keys: names };
        let record = chain.next(self.terms.intent, &[], body)?;
        let head = record.digest;
        transaction.append(self.entry(record))?;
        Ok(head)
    }

    /// The TPM was reset or restarted since we last saw it: whatever the node held before is over, on the record (T8).
    async fn restart(
        &self,
        transaction: &mut Transaction<'_>,
        chain: &mut Chain<'_>,
        node: &Node,
        restarted: &ClockState,
    ) -> Result<(), NotGranted> {
        let (reset_count, restart_count) = (restarted.reset_count, restarted.restart_count);
        let evidence = self.verdict.evidence;
        let record = chain.next(evidence, &[], RecordBody::Restart { evidence, reset_count, restart_count })?;
        transaction.append(record.entry(&[node.identity.id.to_string()]))?;
        leases::end_all(transaction, &node.identity.id, LeaseEnd::Halted).await?;
        Ok(())
    }
}

fn still_admissible(node: &Node, presented: Sha256Digest) -> Result<(), NotGranted> {
    use governance::GovernanceDenial as G;
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

/// Observes how long an answer took, whatever it was.
struct Timer<'d> {
    desk: &'d Desk,
    started: std::time::Instant,
}

impl<'d> Timer<'d> {
    fn starting(desk: &'d Desk) -> Self {
        Self { desk, started: std::time::Instant::now() }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.desk.metrics().answer.observe(self.started.elapsed().as_secs_f64());
    }
}
