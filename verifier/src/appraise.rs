//! The live judgement: fetch, then judge, off the IO threads; then the Attestation Result.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use evidence::challenge::Challenge;
use evidence::digest::{Digest, Sha256Digest};
use evidence::evidence::Evidence;
use evidence::names::DomainName;
use evidence::node_key::AttestedNodeKey;
use evidence::register::Register;
use evidence::tpm::ClockState;
use governance::node_key::NodeKey;
use governance::text::Text;
use policy::result::{AttestationResult, Issuance, ResultFault};
use policy::{Affirmed, Denial};

use crate::decision::{Decision, build};
use crate::desk::Desk;
use crate::endorsements::Unendorsed;
use crate::evidence_store::BlobKind;
use crate::fault::Fault;
use crate::intake::{Asks, Request};
use crate::judge::{self, Asking, Case, Execution, Judgement};
use crate::keys;
use crate::trust::Trust;

/// What an affirmed request is granted from.
pub(crate) struct Verdict {
    /// The Attestation Result, signed.
    pub(crate) result: Vec<u8>,
    /// Digest of the evidence.
    pub(crate) evidence: Sha256Digest,
    /// The decision's inputs, kept for replay.
    pub(crate) kept: Vec<(BlobKind, Vec<u8>)>,
    /// Name under which the decision is listed.
    pub(crate) decision: Sha256Digest,
    /// The attested node key.
    pub(crate) node_key: AttestedNodeKey,
    /// The same as an artifact carries it.
    pub(crate) confirmation: NodeKey,
    /// Measured registers.
    pub(crate) measurements: BTreeMap<Register, Digest>,
    /// Digest over them.
    pub(crate) register_digest: Digest,
    /// TPM clock to keep, of kinds that have one.
    pub(crate) clock: Option<ClockState>,
    /// Set when the TPM was restarted since last seen.
    pub(crate) restarted: Option<ClockState>,
    /// Policy set that permitted it.
    pub(crate) policy_set: Sha256Digest,
    /// Its version.
    pub(crate) policy_version: u64,
    /// Rules that permitted it.
    pub(crate) determining: Vec<Text>,
    /// Reference value sets that matched.
    pub(crate) reference_sets: Vec<Sha256Digest>,
}

/// Judged, and refused.
pub(crate) struct NotAffirmed {
    /// The first failure.
    pub(crate) denial: Denial,
    /// Digest of the evidence as received.
    pub(crate) evidence: Sha256Digest,
    /// The decision's inputs, kept for replay and `explain`.
    pub(crate) kept: Vec<(BlobKind, Vec<u8>)>,
    /// Name under which the decision is listed.
    pub(crate) decision: Option<Sha256Digest>,
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
    /// The evidence store holds these anchors from now on: a commit that kept them is durable.
    pub(crate) fn hold_anchors(&self, anchors: Sha256Digest) {
        *self.anchors_kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(anchors);
    }

    fn holds_anchors(&self, anchors: Sha256Digest) -> bool {
        *self.anchors_kept.lock().unwrap_or_else(PoisonError::into_inner) == Some(anchors)
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
        let anchors = request.trust.anchors();
        let endorsements = match self.proven.endorsements(&self.parts.store, &request.node, anchors, now).await {
            Ok(endorsements) => endorsements,
            Err(Unendorsed::Denied(denial)) => return denied(denial.into()),
            Err(Unendorsed::Fault(fault)) => return Err(fault),
        };
        let (challenge, challenge_digest) = challenge;
        let asks = self.asking(request).await?;
        let case = Case { evidence, endorsements, challenge, challenge_digest, asks, now };
        self.judged(request, case).await
    }

    /// What the policies are asked; keys with the labels that they have now.
    async fn asking(&self, request: &Request) -> Result<Asking, Fault> {
        let (asked, first) = match &request.asks {
            Asks::Capture => return Ok(Asking::Nothing),
            Asks::Authorize(asked) => (&**asked, true),
            Asks::Renew(renewing) => (&renewing.intent, false),
        };
        let mut with_labels = Vec::new();
        for name in asked.intent.scope.keys.iter().filter(|_| first) {
            let Some(key) = keys::find(&self.parts.store, name).await? else {
                return Err(Fault::KeyUnavailable { what: format!("no execution key is named {name}") });
            };
            with_labels.push((name.clone(), key.labels));
        }
        Ok(Asking::Execute(Box::new(Execution {
            intent: asked.intent.clone(),
            intent_digest: asked.digest,
            keys: with_labels,
            renewal: !first,
        })))
    }

    async fn judged(self: &Arc<Self>, request: &Request, case: Case) -> Result<Outcome, Fault> {
        let place = self.appraisals.acquire().await.map_err(|_| Fault::ShuttingDown)?;
        let (desk, trust) = (self.clone(), request.trust.clone());
        let capture = matches!(request.asks, Asks::Capture);
        let outcome = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let outcome = if capture {
                judge::authentic(&case, &trust.judging)
                    .map(Outcome::Authentic)
                    .or_else(|denial| refused(&desk, &case, &trust, denial.into()))
            } else {
                match judge::judge(&case, &trust.judging) {
                    Ok(judgement) => {
                        desk.verdict(&case, &trust, &judgement).map(|verdict| Outcome::Verdict(Box::new(verdict)))
                    }
                    Err(denial) => refused(&desk, &case, &trust, denial),
                }
            };
            desk.metrics().appraisal.observe(started.elapsed().as_secs_f64());
            outcome
        })
        .await;
        drop(place);
        // A panic in a judgement is our bug: it releases nothing and ends nothing but this request.
        outcome.map_err(|error| Fault::Bug { what: format!("appraisal: {error}") })?
    }

    fn verdict(&self, case: &Case, trust: &Trust, judgement: &Judgement) -> Result<Verdict, Fault> {
        let bug = |what: String| Fault::Bug { what };
        let (affirmed, decision) = (&judgement.affirmed, Decision::of(case, trust)?.to_kept()?);
        let (machine, basis) = (affirmed.machine(), affirmed.basis());
        let result = attestation_result(affirmed, &trust.judging, &self.parts.domain)
            .and_then(|result| result.to_cwt(&self.parts.issuer))
            .map_err(|error| bug(error.to_string()))?;
        let determining = judgement.rules.iter().map(|rule| Text::new(rule.id.clone()));
        Ok(Verdict {
            result,
            evidence: basis.evidence,
            decision: Sha256Digest::of(&decision),
            kept: kept(decision, trust, self)?,
            confirmation: NodeKey::from_cose_key(machine.node_key.cose_key())
                .map_err(|error| bug(error.to_string()))?,
            node_key: machine.node_key.clone(),
            measurements: machine.measurements.clone(),
            register_digest: machine.register_digest,
            clock: machine.tpm.as_ref().map(|tpm| tpm.clock),
            restarted: judgement.restarted,
            policy_set: basis.policy_set,
            policy_version: basis.policy.version,
            determining: determining.collect::<Result<_, _>>().map_err(|error| bug(error.to_string()))?,
            reference_sets: vec![basis.reference_set],
        })
    }
}

fn refused(desk: &Desk, case: &Case, trust: &Trust, denial: Denial) -> Result<Outcome, Fault> {
    let decision = Decision::of(case, trust)?.to_kept()?;
    let name = Sha256Digest::of(&decision);
    Ok(Outcome::Denied(Box::new(NotAffirmed {
        denial,
        evidence: case.evidence.digest(),
        kept: kept(decision, trust, desk)?,
        decision: Some(name),
    })))
}

/// What the decision names and the evidence store may not hold yet: itself, and the anchors as data.
fn kept(decision: Vec<u8>, trust: &Trust, desk: &Desk) -> Result<Vec<(BlobKind, Vec<u8>)>, Fault> {
    let mut kept = vec![(BlobKind::Decision, decision)];
    if !desk.holds_anchors(trust.anchors().digest()) {
        let set = evidence::cbor::to_vec(trust.anchors().set());
        kept.push((BlobKind::Anchors, set.map_err(|error| Fault::Bug { what: error.to_string() })?));
    }
    Ok(kept)
}

/// The Attestation Result of a verdict: what the node, and whoever it shows it to, may rely on while the lease is short.
pub(crate) fn attestation_result(
    affirmed: &Affirmed,
    trust: &policy::Trust,
    domain: &DomainName,
) -> Result<AttestationResult, ResultFault> {
    let issuance = Issuance {
        audience: domain.node_spiffe_id(&affirmed.machine().node),
        developer: env!("CARGO_PKG_NAME").to_owned(),
        build: build(),
        lifetime_s: RESULT_LIFETIME_S,
    };
    AttestationResult::new(affirmed, trust, &issuance)
}

/// A result speaks of one moment; whoever relies on it later than this asks for a newer one.
const RESULT_LIFETIME_S: u64 = 300;
