//! From a verdict to an answer: wrap in memory → log and take the lease in one transaction → receipt → answer.
//!
//! Nothing leaves this process before the transaction is durable and the checkpoint over it is signed by us and cosigned
//! by as many witnesses as the domain demands. A commit whose outcome is not known, or whose head is not cosigned in time,
//! counts as not released: the lease it may have taken is void, since the next one counts on.

use std::sync::Arc;

use audit::record::RecordBody;
use evidence::challenge::Challenge;
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::{
    ARTIFACT_VERSION, ArtifactId, ArtifactTerms, Attribution, Confirmation, EnvironmentalConditions,
    GovernanceMetadata, LeaseTerms, PolicyValidation, RuntimeBindings,
};
use governance::intent::Intent;
use governance::parentage::cut_lease;
use wire::proto::{self, verifier_message::Message as Answer};

use crate::appraise::{NotAffirmed, Outcome, Verdict};
use crate::denials::Judged;
use crate::desk::{Desk, LeaseLengths};
use crate::evidence_store::{self, BlobKind};
use crate::fault::Fault;
use crate::grant::{Grant, Granted, Kind, NotGranted};
use crate::intake::{Asked, Asks, Renewing, Request};
use crate::keys::{self, Kept, KeyFault};
use crate::leases::{self, LeaseEnd};
use crate::lineage::Chain;
use crate::node_records::receipt;
use crate::nodes;
use crate::random;
use crate::refusal::Refused;
use crate::store::StoreError;
use crate::svids::Offer;
use crate::wrap;

/// A node's clock may lag ours by this much and still take its artifact.
pub(crate) const CLOCK_LAG_S: u64 = 5;

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
                if let Some(key) = verdict.node_key.certified() {
                    self.proven.keep_node_key(&request.node.identity.id, key);
                }
                self.granted(&request, *verdict, kept).await
            }
        }
    }

    /// Grants what was asked, now that it is affirmed or vouched for.
    pub(crate) async fn granted(
        self: &Arc<Self>,
        request: &Request,
        verdict: Verdict,
        kept: Vec<(BlobKind, Vec<u8>)>,
    ) -> Result<Answer, Refused> {
        match &request.asks {
            Asks::Authorize(asked) => self.authorize(request, asked, verdict, kept).await,
            Asks::Renew(renewing) => self.renew(request, renewing, verdict, kept).await,
            Asks::Capture => {
                Err(Fault::Bug { what: "a capture was judged for more than authenticity".to_owned() }.into())
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
        mut kept: Vec<(BlobKind, Vec<u8>)>,
    ) -> Result<Answer, Refused> {
        let now = self.now()?;
        let id = ArtifactId(random::bytes().map_err(Fault::from)?);
        let keys = self.wrap_keys(&asked.intent, id, &verdict).await?;
        let lease = match self.lease(request, verdict.until, now) {
            Ok(lease) => lease,
            Err(denial) => return Err(self.deny_early(&request.node, &request.trust, request.head, denial).await),
        };
        let terms = self.terms(request, asked, id, lease.counted(1), &verdict, now);
        let descent = request.descent.clone();
        let given = descent.iter().flat_map(|descent| &descent.kept);
        kept.extend(given.map(|artifact| (BlobKind::Artifact, artifact.clone())));
        let kind = Kind::First { intent_cose: asked.cose.clone(), keys: keys.clone(), descent };
        let offer = self.offer(asked, terms, now)?;
        let answer = self.grant(request, offer, verdict, kept, now, kind).await?;
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
        let lease = match self.lease(request, verdict.until, now) {
            Ok(lease) => lease,
            // Its parent is about to end; the node ends it, and goes on.
            Err(denial) => return Err(self.deny_early(&request.node, &request.trust, request.head, denial).await),
        };
        let terms = self.terms(request, asked, renewing.terms.id, lease.counted(seq), &verdict, now);
        let offer = self.offer(asked, terms, now)?;
        let answer = self.grant(request, offer, verdict, kept, now, Kind::Renewal).await?;
        self.metrics().renewals.inc();
        Ok(Answer::Authorization(answer))
    }

    /// Wraps every key of the scope, or what this domain has of it, to the attested node key; still in memory, released with the answer or never.
    async fn wrap_keys(
        &self,
        intent: &Intent,
        id: ArtifactId,
        verdict: &Verdict,
    ) -> Result<Vec<proto::WrappedKey>, Fault> {
        let mut wrapped = Vec::with_capacity(intent.scope.keys.len());
        for name in &intent.scope.keys {
            let recipient = (&verdict.node_key).into();
            wrapped.push(match keys::kept(&self.parts.store, &self.parts.kek, name).await {
                Ok(Kept::Whole(secret)) => wrap::to_node_key(recipient, &id.0, name, &secret)?,
                Ok(Kept::Share(share)) => wrap::share_to_node_key(recipient, &id.0, &share)?,
                // Another of the intent's domains may have it.
                Err(KeyFault::Unknown(_)) if intent.domains.named().len() > 1 => continue,
                Err(fault) => return Err(fault.into()),
            });
        }
        Ok(wrapped)
    }

    /// How long: as configured, or what is left of the parent's lease, or of the partner's that vouches for it.
    fn lease(
        &self,
        request: &Request,
        until: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<LeaseLengths, GovernanceDenial> {
        let LeaseLengths { mut duration_ms, mut renew_after_ms } = self.parts.lease;
        if let Some(descent) = &request.descent {
            (duration_ms, renew_after_ms) = descent.parentage.cut(duration_ms, renew_after_ms, now)?;
        }
        if let Some(expires_at) = until {
            let what = "artifact of the partner that vouches";
            (duration_ms, renew_after_ms) = cut_lease(expires_at, duration_ms, renew_after_ms, now)
                .ok_or(GovernanceDenial::Expired { what, expires_at, now })?;
        }
        Ok(LeaseLengths { duration_ms, renew_after_ms })
    }

    fn terms(
        &self,
        request: &Request,
        asked: &Asked,
        id: ArtifactId,
        lease: LeaseTerms,
        verdict: &Verdict,
        now: UnixSeconds,
    ) -> ArtifactTerms {
        let (node, intent) = (&request.node.identity.id, &asked.intent);
        let lease_s = lease.duration_ms.div_ceil(1000);
        let ancestors =
            request.descent.as_ref().map_or_else(Vec::new, |descent| descent.parentage.ancestors().to_vec());
        ArtifactTerms {
            issuer: self.audience().to_owned(),
            subject: self.domain().node_spiffe_id(node),
            audience: self.domain().node_spiffe_id(node),
            expires_at: now.plus(lease_s),
            not_before: now.minus(CLOCK_LAG_S),
            issued_at: now,
            id,
            confirmation: Confirmation { key: verdict.confirmation.clone() },
            version: ARTIFACT_VERSION,
            intent: asked.digest,
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
            lease,
            governance: GovernanceMetadata {
                domain: self.domain().clone(),
                epoch: request.trust.epoch(),
                state: request.trust.state_digest(),
            },
            attribution: Attribution { requester: intent.requester.clone(), approvers: Vec::new(), ancestors },
        }
    }

    /// Records the grant; what comes back may be answered.
    async fn grant(
        self: &Arc<Self>,
        request: &Request,
        Offer { terms, svid }: Offer,
        verdict: Verdict,
        mut kept: Vec<(BlobKind, Vec<u8>)>,
        now: UnixSeconds,
        kind: Kind,
    ) -> Result<proto::Authorization, Refused> {
        let terms_digest = terms.digest().map_err(|error| Fault::Bug { what: error.to_string() })?;
        kept.push((BlobKind::AttestationResult, verdict.result.clone()));
        kept.extend(verdict.kept.iter().cloned());
        let result = verdict.result.clone();
        let held: Vec<_> = verdict.documents.clone();
        // A renewal that is not answered leaves the lease before it, whose next number is a new one.
        let void = matches!(kind, Kind::First { .. }).then_some(terms.id);
        let svid_digest = Sha256Digest::of(&svid);
        let grant = Grant { terms, terms_digest, svid: svid_digest, verdict, kept, presented: request.head, now, kind };
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
        self.hold(held);
        let Granted { artifact, head, position } = committed.value;
        let logged = committed.logged.get(position);
        let logged = logged.ok_or_else(|| Fault::Bug { what: "granted without a record".to_owned() })?;
        let receipt = match self.parts.quorum.receipt(&self.parts.log, logged).await {
            Ok(logged) => receipt(&logged)?,
            Err(fault) => return Err(self.void(void, fault).await.into()),
        };
        let (lineage_head, partners) = (head.0.to_vec(), self.partners_keys(now));
        Ok(proto::Authorization { artifact, result, keys: Vec::new(), receipt, lineage_head, svid, partners })
    }

    /// A first authorization that is not answered never was in force; its node owes no word of how it ended.
    async fn void(&self, artifact: Option<ArtifactId>, fault: Fault) -> Fault {
        let Some(artifact) = artifact else { return fault };
        let ended = self.parts.store.write::<_, StoreError, _>(move |transaction| {
            Box::pin(async move { leases::end(transaction, &artifact, LeaseEnd::Void).await })
        });
        if let Err(error) = ended.await {
            tracing::warn!(code = error.code(), %error, %artifact, "a lease that nobody holds runs out by itself");
        }
        fault
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
