//! The live judgement: fetch, then judge, off the IO threads; then the Attestation Result.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use evidence::challenge::Challenge;
use evidence::digest::{Digest, Sha256Digest};
use evidence::names::DomainName;
use evidence::register::Register;
use evidence::time::UnixSeconds;
use evidence::tpm::ClockState;
use evidence::{Endorsements, Evidence, EvidenceDenial};
use governance::node_key::NodeKey;
use governance::text::Text;
use policy::Denial;
use policy::result::{AttestationResult, Issuance, ResultFault};

use crate::decision::{Decision, build};
use crate::denials::decision_subject;
use crate::desk::Desk;
use crate::endorsements::table::Source;
use crate::endorsements::{At, Endorsement, Unendorsed};
use crate::evidence_store::BlobKind;
use crate::fault::Fault;
use crate::intake::{Asks, Request};
use crate::judge::{self, Asking, Case, Course, Execution, Judgement, Restarted};
use crate::keys;
use crate::nodes::{BootSeen, Machine, Node, ReportId};
use crate::platforms::{Held, Whose};
use crate::refusal::Refused;
use crate::trust::Trust;
use crate::wrap::HolderKey;

/// What an affirmed request is granted from.
pub(crate) struct Verdict {
    /// The Attestation Result, signed.
    pub(crate) result: Vec<u8>,
    /// Digest of the evidence.
    pub(crate) evidence: Sha256Digest,
    /// The decision's inputs, kept for replay.
    pub(crate) kept: Vec<(BlobKind, Vec<u8>)>,
    /// Anchors and vendors' documents that the commit makes durable, if they were not before.
    pub(crate) documents: Vec<Sha256Digest>,
    /// Under which its record lists the decision.
    pub(crate) decision: String,
    /// The node key that execution keys are wrapped to.
    pub(crate) node_key: HolderKey,
    /// The same as an artifact carries it.
    pub(crate) confirmation: NodeKey,
    /// Measured registers.
    pub(crate) measurements: BTreeMap<Register, Digest>,
    /// Digest over them.
    pub(crate) register_digest: Digest,
    /// TPM clock to keep, of machines that have one.
    pub(crate) clock: Option<ClockState>,
    /// REPORT_ID that the node's SNP guest showed, of machines that are one.
    pub(crate) report_id: Option<ReportId>,
    /// How its machine was started anew since last seen.
    pub(crate) restarted: Restarted,
    /// Policy set that permitted it.
    pub(crate) policy_set: Sha256Digest,
    /// Its version.
    pub(crate) policy_version: u64,
    /// Rules that permitted it.
    pub(crate) determining: Vec<Text>,
    /// Reference value sets that matched.
    pub(crate) reference_sets: Vec<Sha256Digest>,
    /// The partner's record that it rests on, where a partner judged the evidence.
    pub(crate) elsewhere: BTreeMap<DomainName, Vec<Sha256Digest>>,
    /// When the partner's authorization ends: nothing that rests on it lasts longer.
    pub(crate) until: Option<UnixSeconds>,
}

/// Judged, and refused.
pub(crate) struct NotAffirmed {
    /// The first failure.
    pub(crate) denial: Denial,
    /// Digest of the evidence as received.
    pub(crate) evidence: Sha256Digest,
    /// The decision's inputs, kept for replay and `explain`.
    pub(crate) kept: Vec<(BlobKind, Vec<u8>)>,
    /// Under which its record lists the decision.
    pub(crate) decision: Option<String>,
}

/// Outcome of an appraisal that could be made.
pub(crate) enum Outcome {
    /// Affirmed and permitted.
    Verdict(Box<Verdict>),
    /// Authentic evidence of a capture; nothing else was asked.
    Authentic(Sha256Digest),
    /// Refused.
    Denied(Box<NotAffirmed>),
}

impl Desk {
    /// The evidence store holds these from now on: a commit that kept them is durable.
    pub(crate) fn hold(&self, kept: impl IntoIterator<Item = Sha256Digest>) {
        let mut held = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= HELD_CAP {
            held.clear();
        }
        held.extend(kept);
    }

    fn holds(&self, kept: Sha256Digest) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).contains(&kept)
    }

    /// Judges evidence for a request.
    pub(crate) async fn appraise(
        self: &Arc<Self>,
        request: &Request,
        challenge: (Challenge, Sha256Digest),
        cmw: Vec<u8>,
    ) -> Result<Outcome, Fault> {
        let digest = Sha256Digest::of(&cmw);
        let denied = |denial: Denial| {
            Ok(Outcome::Denied(Box::new(NotAffirmed { denial, evidence: digest, kept: Vec::new(), decision: None })))
        };
        let evidence = match Evidence::decode(cmw) {
            Ok(evidence) => evidence,
            Err(denial) => return denied(denial.into()),
        };
        let now = self.now()?;
        let Held { endorsements, documents } = match self.held_for(&request.node, &request.trust, &evidence, now).await
        {
            Ok(held) => held,
            Err(Unendorsed::Denied(denial)) => return denied(denial.into()),
            Err(Unendorsed::Fault(fault)) => return Err(fault),
        };
        let (challenge, challenge_digest) = challenge;
        let (asks, enrolment) = (self.asking(request).await?, request.node.identity.enrolment);
        let used = documents.iter().map(Endorsement::used).collect();
        let case = Case { evidence, endorsements, enrolment, documents: used, challenge, challenge_digest, asks, now };
        self.judged(request, case, documents).await
    }

    /// Everything that evidence of the node is judged by: evidence of another kind than it enrolled as is not its own.
    pub(crate) async fn held_for(
        &self,
        node: &Node,
        trust: &Trust,
        evidence: &Evidence,
        now: UnixSeconds,
    ) -> Result<Held, Unendorsed> {
        let (anchors, store) = (trust.anchors(), &self.parts.store);
        let kind = node.identity.machine.kind();
        if evidence.kind() != kind {
            return Err(Unendorsed::Denied(EvidenceDenial::KindUnexpected { got: evidence.kind(), demanded: kind }));
        }
        let whole = node.identity.enrolment;
        match &node.identity.machine {
            Machine::Tpm(_) => {
                let tpm = self.proven.endorsement(store, node, whole, anchors, now).await?;
                Ok(Held { endorsements: Endorsements::Tpm(tpm), documents: Vec::new() })
            }
            Machine::Tee(_) | Machine::TpmOn(..) => {
                let (enrolled, of_tpm) = self.platforms.of_node(store, node).await?;
                let tpm = match of_tpm {
                    Some(enrolment) => Some(self.proven.endorsement(store, node, enrolment, anchors, now).await?),
                    None => None,
                };
                let whose = Whose::Node(enrolled, node.boot);
                self.platforms.held(evidence, kind, whose, tpm, anchors, At::Now(now)).await.map(|(held, _)| held)
            }
        }
    }

    /// The boot that a stranger's evidence shows, judged off the IO threads.
    pub(crate) async fn boot_of(
        &self,
        evidence: Evidence,
        endorsements: Endorsements,
        challenge: Challenge,
        trust: Arc<Trust>,
        now: UnixSeconds,
    ) -> Result<BootSeen, Refused> {
        let place = self.appraisals.acquire().await.map_err(|_| Fault::ShuttingDown)?;
        let judged =
            tokio::task::spawn_blocking(move || judge::boot(&evidence, &endorsements, &challenge, &trust.judging, now));
        let judged = judged.await;
        drop(place);
        judged.map_err(|error| Fault::Bug { what: format!("appraisal: {error}") })?.map_err(Refused::unproven)
    }

    /// What the policies are asked; keys with the labels that they have now.
    pub(crate) async fn asking(&self, request: &Request) -> Result<Asking, Fault> {
        let (asked, released, course) = match &request.asks {
            Asks::Capture => return Ok(Asking::Nothing),
            Asks::Authorize(asked) => (&**asked, Some(&asked.intent.scope.keys), Course::Begins),
            Asks::Renew(renewing) => {
                let node_key = renewing.terms.confirmation.key.digest();
                (&renewing.intent, None, Course::GoesOn { node_key })
            }
        };
        let mut with_labels = Vec::new();
        for name in released.into_iter().flatten() {
            let Some(key) = keys::find(&self.parts.store, name).await? else {
                if asked.intent.domains.named().len() > 1 {
                    continue; // another of the intent's domains may have it
                }
                return Err(Fault::KeyUnavailable { what: format!("no execution key is named {name}") });
            };
            with_labels.push((name.clone(), key.labels));
        }
        Ok(Asking::Execute(Box::new(Execution {
            intent: asked.intent.clone(),
            intent_digest: asked.digest,
            keys: with_labels,
            course,
        })))
    }

    async fn judged(
        self: &Arc<Self>,
        request: &Request,
        case: Case,
        documents: Vec<Endorsement>,
    ) -> Result<Outcome, Fault> {
        let place = self.appraisals.acquire().await.map_err(|_| Fault::ShuttingDown)?;
        let (desk, trust) = (self.clone(), request.trust.clone());
        let brought = self.brought(&documents);
        let capture = matches!(request.asks, Asks::Capture);
        let outcome = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let outcome = if capture {
                judge::authentic(&case, &trust.judging)
                    .map(Outcome::Authentic)
                    .or_else(|denial| refused(&desk, &case, &trust, documents, denial.into()))
            } else {
                match judge::judge(&case, &trust.judging, trust.revocations()) {
                    Ok(judgement) => desk
                        .verdict(&case, &trust, &judgement, documents)
                        .map(|verdict| Outcome::Verdict(Box::new(verdict))),
                    Err(denial) => refused(&desk, &case, &trust, documents, denial),
                }
            };
            desk.metrics().appraisal.observe(started.elapsed().as_secs_f64());
            outcome
        })
        .await;
        drop(place);
        // A panic in a judgement is our bug: it releases nothing and ends nothing but this request.
        let outcome = outcome.map_err(|error| Fault::Bug { what: format!("appraisal: {error}") })??;
        match outcome {
            Outcome::Verdict(_) | Outcome::Authentic(_) => self.keep_brought(&brought).await,
            Outcome::Denied(_) => {}
        }
        Ok(outcome)
    }

    /// Certificates that the evidence brought, and that no commit has kept since this process started.
    fn brought(&self, documents: &[Endorsement]) -> Vec<Endorsement> {
        let brought = documents.iter().filter(|document| document.provenance.source == Source::Evidence);
        brought.filter(|document| !self.holds(document.digest)).cloned().collect()
    }

    /// Certificates that proved evidence are there for the next, which may come without them. The endorsement store is a
    /// cache: that it cannot be written hinders no answer.
    async fn keep_brought(&self, brought: &[Endorsement]) {
        if brought.is_empty() {
            return;
        }
        match self.parts.endorsements.keep_brought(brought).await {
            Ok(kept) => tracing::debug!(kept, "certificates kept that evidence brought"),
            Err(error) => tracing::warn!(%error, "certificates that evidence brought were not kept"),
        }
    }

    fn verdict(
        &self,
        case: &Case,
        trust: &Trust,
        judgement: &Judgement,
        documents: Vec<Endorsement>,
    ) -> Result<Verdict, Fault> {
        let bug = |what: String| Fault::Bug { what };
        let (affirmed, decision) = (&judgement.affirmed, Decision::of(case, trust).to_kept()?);
        let (machine, basis) = (affirmed.machine(), affirmed.basis());
        let result = attestation_result(judgement, case, &trust.judging, &self.parts.domain)
            .and_then(|result| result.to_cwt(&self.parts.issuer.signing()))
            .map_err(|error| bug(error.to_string()))?;
        let determining = judgement.rules.iter().map(|rule| Text::new(rule.id.clone()));
        Ok(Verdict {
            result,
            evidence: basis.evidence,
            decision: decision_subject(Sha256Digest::of(&decision)),
            documents: std::iter::once(trust.anchors().digest())
                .chain(documents.iter().map(|document| document.digest))
                .collect(),
            kept: kept(decision, trust, documents, self)?,
            confirmation: NodeKey::from_cose_key(machine.node_key.cose_key())
                .map_err(|error| bug(error.to_string()))?,
            node_key: HolderKey::Attested(machine.node_key.clone()),
            measurements: machine.measurements.clone(),
            register_digest: machine.register_digest,
            clock: machine.tpm.as_ref().map(|tpm| tpm.clock),
            report_id: machine.report_id,
            restarted: judgement.restarted,
            policy_set: basis.policy_set,
            policy_version: basis.policy.version,
            determining: determining.collect::<Result<_, _>>().map_err(|error| bug(error.to_string()))?,
            reference_sets: vec![basis.reference_set],
            elsewhere: BTreeMap::new(),
            until: None,
        })
    }
}

fn refused(
    desk: &Desk,
    case: &Case,
    trust: &Trust,
    documents: Vec<Endorsement>,
    denial: Denial,
) -> Result<Outcome, Fault> {
    let decision = Decision::of(case, trust).to_kept()?;
    let name = Sha256Digest::of(&decision);
    Ok(Outcome::Denied(Box::new(NotAffirmed {
        denial,
        evidence: case.evidence.digest(),
        kept: kept(decision, trust, documents, desk)?,
        decision: Some(decision_subject(name)),
    })))
}

/// What the decision names and the evidence store may not hold yet: itself, the anchors as data, vendors' documents.
fn kept(
    decision: Vec<u8>,
    trust: &Trust,
    documents: Vec<Endorsement>,
    desk: &Desk,
) -> Result<Vec<(BlobKind, Vec<u8>)>, Fault> {
    let mut kept = vec![(BlobKind::Decision, decision)];
    if !desk.holds(trust.anchors().digest()) {
        let set = evidence::cbor::to_vec(trust.anchors().set());
        kept.push((BlobKind::Anchors, set.map_err(|error| Fault::Bug { what: error.to_string() })?));
    }
    let unheld = documents.into_iter().filter(|document| !desk.holds(document.digest));
    kept.extend(unheld.map(|document| (BlobKind::Endorsement, document.bytes)));
    Ok(kept)
}

/// The Attestation Result of a verdict: what the node, and whoever it shows it to, may rely on while the lease is short.
pub(crate) fn attestation_result(
    judgement: &Judgement,
    case: &Case,
    trust: &policy::Trust,
    domain: &DomainName,
) -> Result<AttestationResult, ResultFault> {
    let affirmed = &judgement.affirmed;
    let issuance = Issuance {
        audience: domain.node_spiffe_id(&affirmed.machine().node),
        developer: env!("CARGO_PKG_NAME").to_owned(),
        build: build(),
        lifetime_s: RESULT_LIFETIME_S,
    };
    AttestationResult::new(affirmed, &case.documents, trust, &issuance)
}

/// A result speaks of one moment; whoever relies on it later than this asks for a newer one.
const RESULT_LIFETIME_S: u64 = 300;
/// Digests of kept anchors and documents that are remembered as kept.
const HELD_CAP: usize = 16 * 1024;
