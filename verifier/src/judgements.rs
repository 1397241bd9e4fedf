//! Logged decisions, made again from what the log and the evidence store hold: `explain`, its replay, and proposals of
//! reference values from captured evidence; and saved evidence judged anew (`appraise`). Reads only; nothing here grants
//! anything.

mod backtest;
mod candidate;
mod captured;
mod compared;
mod endorsed;
mod held_now;
mod jwt;
mod kept;
mod known;
mod passports;
mod saved;
mod verdict;

use std::sync::Arc;

use audit::record::RecordBody;
use evidence::anchors::{AnchorSet, TrustAnchors};
use evidence::cbor::{self, Caps};
use evidence::challenge::Challenge;
use evidence::digest::Sha256Digest;
use evidence::evidence::Evidence;
use evidence::names::NodeId;
use firmware_refs::{InForce, ReferenceValues};
use governance::revocation::RevocationList;
use policy::Denial;
use policy::denial::DeniedJson;
use policy::trust::GovernanceBasis;
use serde_json::{Value, json};
use wire::proto::Backtest;

use crate::appraise::attestation_result;
use crate::decision::{Decision, TrustInputs, build};
use crate::desk::Desk;
use crate::governor::{Governor, OrderRefusal};
use crate::judge::{self, Asking, Case, Judgement};
use crate::operator::Judgements;

/// Largest kept challenge or set of anchors.
const KEPT_CAP_BYTES: usize = 4 << 20;

/// Explains and proposes, from the desk's store and log.
pub struct DeskJudgements {
    desk: Arc<Desk>,
    governor: Governor,
}

/// A decision with everything it was made from.
struct Remade {
    case: Case,
    trust: policy::Trust,
    revocations: RevocationList,
    decision: Decision,
}

impl Remade {
    fn judged(&self) -> Result<Judgement, Denial> {
        judge::judge(&self.case, &self.trust, &self.revocations)
    }
}

impl DeskJudgements {
    /// Answers for `desk`, with the sets that `governor` keeps.
    pub fn new(desk: Arc<Desk>, governor: Governor) -> Self {
        Self { desk, governor }
    }

    async fn remake(&self, decision: Decision) -> Result<Remade, OrderRefusal> {
        let trust = self.trust(&decision.trust).await?;
        let case = self.case(&decision, trust.anchors()).await?;
        let revocations = self.governor.revocations_under(&decision.trust.state).await?;
        Ok(Remade { case, trust, revocations, decision })
    }

    /// What was judged.
    async fn case(&self, decision: &Decision, anchors: &TrustAnchors) -> Result<Case, OrderRefusal> {
        let evidence =
            Evidence::decode(kept::blob(&self.desk, "evidence", &decision.evidence).await?).map_err(unreadable)?;
        let endorsements = self.endorsements(decision, &evidence, anchors).await?;
        let challenge: Challenge = cbor::from_slice(
            &kept::blob(&self.desk, "challenge", &decision.challenge).await?,
            Caps::bytes(KEPT_CAP_BYTES),
        )?;
        let asks = match &decision.asked {
            None => Asking::Nothing,
            Some(asked) => Asking::Execute(Box::new(kept::execution(&self.desk, asked).await?)),
        };
        let challenge_digest = decision.challenge;
        let (enrolment, documents, now) = (decision.enrolment, decision.endorsements.clone(), decision.now);
        Ok(Case { evidence, endorsements, enrolment, documents, challenge, challenge_digest, asks, now })
    }

    /// What was judged by then, each part found by the digest that the decision names.
    async fn trust(&self, inputs: &TrustInputs) -> Result<policy::Trust, OrderRefusal> {
        let set: AnchorSet = cbor::from_slice(
            &kept::blob(&self.desk, "trust anchors", &inputs.anchors).await?,
            Caps::bytes(KEPT_CAP_BYTES),
        )?;
        let anchors = if inputs.lab { TrustAnchors::lab_accepting_simulated(set) } else { TrustAnchors::new(set) };
        let mut sets = Vec::with_capacity(inputs.reference_sets.len());
        for in_force in &inputs.reference_sets {
            let set = self.governor.references_by_digest(&in_force.set).await?;
            sets.push(match in_force.grace_until {
                None => InForce::active(set),
                Some(until) => InForce::in_grace(set, until),
            });
        }
        let revoked = self.governor.revoked_references(inputs.revoked_sets).await;
        Ok(policy::Trust::new(
            anchors.map_err(unreadable)?,
            ReferenceValues::new(sets)?.with_revoked(&revoked),
            self.governor.policy_by_digest(&inputs.policy).await?,
            GovernanceBasis { state: inputs.state, epoch: inputs.epoch },
        ))
    }

    /// Made again, the result must hash to what the log says, byte for byte.
    fn replayed(&self, remade: &Remade, body: &RecordBody) -> Result<Value, OrderRefusal> {
        let now_build = build();
        let judged = remade.judged();
        let (logged, again) = match (body, &judged) {
            (RecordBody::Authorization { result, .. } | RecordBody::Renewal { result, .. }, Ok(judgement)) => {
                let made = attestation_result(judgement, &remade.case, &remade.trust, self.desk.domain())
                    .and_then(|made| made.to_cwt(&self.desk.parts.issuer.signing()))
                    .map_err(|error| OrderRefusal::Bug(error.to_string()))?;
                (result.to_string(), Sha256Digest::of(&made).to_string())
            }
            (RecordBody::Authorization { result, .. } | RecordBody::Renewal { result, .. }, Err(denial)) => {
                (result.to_string(), denial.code().to_owned())
            }
            (RecordBody::Denial { code, .. }, Err(denial)) => (code.as_str().to_owned(), denial.code().to_owned()),
            (RecordBody::Denial { code, .. }, Ok(_)) => (code.as_str().to_owned(), "affirmed".to_owned()),
            _ => return Err(OrderRefusal::Malformed("this entry is not a decision".to_owned())),
        };
        Ok(json!({
            "same": logged == again,
            "logged": logged,
            "again": again,
            "build": now_build,
            "build_then": remade.decision.build,
            "trust": remade.trust.digest(),
        }))
    }
}

/// Every failure of a refused case, the one that decided first.
fn failures(case: &Case, trust: &policy::Trust, deciding: Denial) -> Vec<Denial> {
    let mut all = policy::explain::explain(&case.evidence, &case.endorsements, &case.challenge, trust, case.now);
    if all.first().map(Denial::code) != Some(deciding.code()) {
        all.insert(0, deciding);
    }
    all
}

#[tonic::async_trait]
impl Judgements for DeskJudgements {
    async fn explain(&self, index: u64, replay: bool) -> Result<Value, OrderRefusal> {
        let (entry, verified) = kept::record(&self.desk, index).await?;
        let record = verified.record();
        let mut document = json!({
            "entry": index,
            "kind": record.kind().name(),
            "node": record.node,
            "at": record.at,
            "subject": record.subject,
            "parents": record.parents,
        });
        if let (Some(decision), Some(fields)) =
            (kept::passport_decision(&self.desk, &entry).await?, document.as_object_mut())
        {
            fields.extend(self.passport_explained(&decision, &record.body, replay).await?);
            return Ok(document);
        }
        let Some(decision) = kept::decision(&self.desk, &entry).await? else {
            if let (RecordBody::Denial { code, .. }, Some(fields)) = (&record.body, document.as_object_mut()) {
                fields.insert("decision".to_owned(), json!("denied"));
                fields.insert("failures".to_owned(), json!([{"code": code.as_str(), "hint": EARLY}]));
            }
            return Ok(document);
        };
        let remade = self.remake(decision).await?;
        let verdict = match remade.judged() {
            Ok(judgement) => json!({"decision": "affirmed", "checks": checks(&judgement)}),
            Err(deciding) => {
                let failures = failures(&remade.case, &remade.trust, deciding);
                let denied = json!(DeniedJson::new(&failures));
                match self.known(&remade, &failures, record.node.as_ref(), index).await? {
                    Some(known) => known.told_with(denied),
                    None => denied,
                }
            }
        };
        if let (Some(fields), Value::Object(more)) = (document.as_object_mut(), verdict) {
            fields.extend(more);
            fields.insert("inputs".to_owned(), inputs(&remade.decision));
            if replay {
                fields.insert("replay".to_owned(), self.replayed(&remade, &record.body)?);
            }
        }
        Ok(document)
    }

    async fn result_jwt(&self, index: u64) -> Result<Value, OrderRefusal> {
        self.desk.result_jwt(index).await
    }

    async fn appraise_entry(&self, index: u64) -> Result<Value, OrderRefusal> {
        self.desk.appraise_entry(index).await
    }

    async fn appraise_file(&self, node: &NodeId, nonce: [u8; 32], cmw: Vec<u8>) -> Result<Value, OrderRefusal> {
        self.desk.appraise_file(node, nonce, cmw).await
    }

    async fn capture(&self, node: &NodeId, entry: Option<u64>) -> Result<(Value, String), OrderRefusal> {
        self.proposed(node, entry).await
    }

    async fn compare(&self, node: &NodeId, set: &str) -> Result<Value, OrderRefusal> {
        self.held_against(node, set).await
    }

    async fn backtest(&self, asked: Backtest) -> Result<Value, OrderRefusal> {
        self.tried(asked).await
    }
}

fn checks(judgement: &Judgement) -> Vec<&'static str> {
    judgement.affirmed.ledger().checks().map(evidence::ledger::CheckId::name).collect()
}

fn inputs(decision: &Decision) -> Value {
    json!({
        "evidence": decision.evidence,
        "enrolment": decision.enrolment,
        "endorsements": decision.endorsements,
        "challenge": decision.challenge,
        "anchors": decision.trust.anchors,
        "policy": decision.trust.policy,
        "reference_sets": decision.trust.reference_sets.iter().map(|set| set.set).collect::<Vec<_>>(),
        "state": decision.trust.state,
        "epoch": decision.trust.epoch,
        "now": decision.now,
    })
}

fn unreadable(error: impl std::fmt::Display) -> OrderRefusal {
    OrderRefusal::Malformed(format!("what the decision was made from no longer reads: {error}"))
}

/// What is said of a refusal that no decision about evidence stands behind.
const EARLY: &str = "refused for what this domain holds of the node, or has revoked, whatever its evidence says; the node's \
                     state and lineage are in `verifier node show`";
