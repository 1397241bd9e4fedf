//! Saved evidence, judged by what is trusted now: the evidence of a logged decision, or a file that a node's owner made.
//!
//! Reads only. Nothing is granted, logged or remembered: whether a node may do something is decided on evidence that
//! answers a challenge of this moment, never on what is found here.

use std::sync::Arc;

use evidence::cbor::{self, Caps};
use evidence::challenge::{CHALLENGE_TTL_S, Challenge, Demands};
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use evidence::tpm::attest::Attest;
use evidence::tpm::{ClockState, TpmEvidence};
use evidence::{Endorsements, Evidence};
use governance::artifact::ArtifactId;
use governance::revocation::Revoked;
use policy::Denial;
use serde_json::{Map, Value, json};
use wire::protocol::inspection;

use super::held_now::Unheld;
use super::verdict::{Logged, Verdict, affirmed};
use super::{KEPT_CAP_BYTES, failures, kept, unreadable};
use crate::decision::Decision;
use crate::desk::Desk;
use crate::endorsements::{Endorsement, Unendorsed};
use crate::fault::Fault;
use crate::governor::OrderRefusal;
use crate::judge::{self, Asking, Case, Execution};
use crate::keys;
use crate::nodes;
use crate::platforms::Held;
use crate::trust::Trust;

impl Desk {
    /// Judges the evidence of a logged decision by what is trusted now: anchors, reference values, policies, vendors'
    /// documents, labels and revocations. It is judged as an answer to its own challenge, re-timed, and against the boot
    /// that its node had last shown then, so that what refuses it is never its age.
    ///
    /// # Errors
    /// [`OrderRefusal`]: `order.*` for an entry that is no decision about evidence, a fault where none can be made anew.
    pub async fn appraise_entry(self: &Arc<Self>, index: u64) -> Result<Value, OrderRefusal> {
        let (entry, verified) = kept::record(self, index).await?;
        let logged = Logged::of(verified.record())
            .ok_or_else(|| OrderRefusal::Malformed(format!("log entry {index} is not a decision about a node")))?;
        let decision = kept::decision(self, &entry).await?.ok_or_else(|| {
            let what = "was refused without a judgement of evidence: there is nothing to appraise";
            OrderRefusal::Malformed(format!("log entry {index} {what}"))
        })?;
        let (trust, now) = (self.trust()?, self.now()?);
        let verdict = self.anew(&logged, decision, &trust, now).await.map_err(not_kept)?;
        let mut document = Map::new();
        document.insert("entry".to_owned(), json!(index));
        document.insert("node".to_owned(), json!(logged.node));
        document.insert("logged".to_owned(), logged.to_json());
        document.insert("differs".to_owned(), json!(verdict.code() != logged.code.as_deref()));
        Ok(verdict.told(document, &trust, now))
    }

    /// Judges a file of evidence that `attestd evidence` wrote of a node for `nonce`, by what is known of the node and
    /// trusted now. It answers no challenge of ours: how fresh it is, only whoever chose the nonce knows. Within the boot
    /// that the node last showed, evidence may be older than the newest; of a boot before that it is refused.
    ///
    /// # Errors
    /// [`OrderRefusal`]: `order.unknown` for a node that is not enrolled, a fault where no judgement can be made.
    pub async fn appraise_file(
        self: &Arc<Self>,
        node: &NodeId,
        nonce: [u8; 32],
        cmw: Vec<u8>,
    ) -> Result<Value, OrderRefusal> {
        let unknown = || OrderRefusal::Unknown { what: "node", name: node.to_string() };
        let known = nodes::find(&self.parts.store, node).await?.ok_or_else(unknown)?;
        let (trust, now) = (self.trust()?, self.now()?);
        let digest = Sha256Digest::of(&cmw);
        let verdict = self.file(&known, nonce, cmw, &trust, now).await?;
        let mut document = Map::new();
        document.insert("node".to_owned(), json!(node));
        document.insert("status".to_owned(), json!(known.status));
        document.insert("evidence".to_owned(), json!(digest));
        document.insert("nonce".to_owned(), json!(hex::encode(nonce)));
        document.insert("freshness".to_owned(), json!(FRESHNESS));
        Ok(verdict.told(document, &trust, now))
    }

    async fn anew(
        &self,
        logged: &Logged,
        decision: Decision,
        trust: &Arc<Trust>,
        now: UnixSeconds,
    ) -> Result<Verdict, OrderRefusal> {
        let evidence = Evidence::decode(kept::blob(self, "evidence", &decision.evidence).await?).map_err(unreadable)?;
        let then: Challenge =
            cbor::from_slice(&kept::blob(self, "challenge", &decision.challenge).await?, Caps::bytes(KEPT_CAP_BYTES))?;
        let challenge = retimed(then, now);
        let asks = match &decision.asked {
            None => Asking::Nothing,
            Some(asked) => {
                let execution = kept::execution(self, asked).await?;
                Asking::Execute(Box::new(self.labelled_now(execution).await?))
            }
        };
        let against = revoked(trust, &logged.node, logged.artifact, &asks);
        let held = self.held_now(&decision, challenge.demands.kind(), &evidence, trust, now).await;
        let (endorsements, documents) = match held {
            Ok(held) => held,
            Err(Unheld::Denied(denial)) => return Ok(Verdict::denied(against, denial)),
            Err(Unheld::Refused(refusal)) => return Err(refusal),
        };
        let (enrolment, challenge_digest) = (decision.enrolment, digest_of(&challenge)?);
        let case = Case { evidence, endorsements, enrolment, documents, challenge, challenge_digest, asks, now };
        Ok(self.judged_anew(case, trust, against).await?)
    }

    async fn file(
        &self,
        node: &nodes::Node,
        nonce: [u8; 32],
        cmw: Vec<u8>,
        trust: &Arc<Trust>,
        now: UnixSeconds,
    ) -> Result<Verdict, OrderRefusal> {
        let asks = Asking::Nothing;
        let against = revoked(trust, &node.identity.id, None, &asks);
        let evidence = match Evidence::decode(cmw) {
            Ok(evidence) => evidence,
            Err(denial) => return Ok(Verdict::denied(against, denial)),
        };
        let Held { mut endorsements, documents } = match self.held_for(node, trust, &evidence, now).await {
            Ok(held) => held,
            Err(Unendorsed::Denied(denial)) => return Ok(Verdict::denied(against, denial)),
            Err(Unendorsed::Fault(fault)) => return Err(fault.into()),
        };
        within_boot(&mut endorsements, &evidence);
        let challenge = inspection(nonce, demands(trust, &evidence), now);
        let (enrolment, challenge_digest) = (node.identity.enrolment, digest_of(&challenge)?);
        let documents = documents.iter().map(Endorsement::used).collect();
        let case = Case { evidence, endorsements, enrolment, documents, challenge, challenge_digest, asks, now };
        Ok(self.judged_anew(case, trust, against).await?)
    }

    /// Off the IO threads, in one of the places of live appraisals.
    async fn judged_anew(&self, case: Case, trust: &Arc<Trust>, against: Vec<Denial>) -> Result<Verdict, Fault> {
        let place = self.appraisals.acquire().await.map_err(|_| Fault::ShuttingDown)?;
        let trust = trust.clone();
        let judged = tokio::task::spawn_blocking(move || verdict(&case, &trust, against)).await;
        drop(place);
        judged.map_err(|error| Fault::Bug { what: format!("appraisal: {error}") })
    }

    /// The execution with the labels that its keys have now.
    async fn labelled_now(&self, execution: Execution) -> Result<Execution, OrderRefusal> {
        let mut with_labels = Vec::with_capacity(execution.keys.len());
        for (name, _) in &execution.keys {
            let gone = || Fault::KeyUnavailable { what: format!("no execution key is named {name} any more") };
            let key = keys::find(&self.parts.store, name).await?.ok_or_else(gone)?;
            with_labels.push((name.clone(), key.labels));
        }
        Ok(Execution { keys: with_labels, ..execution })
    }
}

/// The same challenge, as if it had just been sent. Evidence is bound to what it asks, never to its times.
fn retimed(then: Challenge, now: UnixSeconds) -> Challenge {
    Challenge { issued_at: now, expires_at: now.plus(CHALLENGE_TTL_S), ..then }
}

fn verdict(case: &Case, trust: &Trust, mut against: Vec<Denial>) -> Verdict {
    match judge::judge(case, &trust.judging, trust.revocations()) {
        Ok(judgement) if against.is_empty() => return Verdict::Affirmed(affirmed(&judgement, case)),
        Ok(_) => {}
        Err(deciding) => against.extend(failures(case, &trust.judging, deciding)),
    }
    Verdict::Denied(against)
}

/// What stands against a node, an artifact or keys, whatever the evidence says.
fn revoked(trust: &Trust, node: &NodeId, artifact: Option<ArtifactId>, asks: &Asking) -> Vec<Denial> {
    let keys = match asks {
        Asking::Nothing => Vec::new(),
        Asking::Execute(execution) => execution.intent.scope.keys.iter().cloned().map(Revoked::Key).collect(),
    };
    let things = artifact.map(Revoked::Artifact).into_iter().chain([Revoked::Node(node.clone())]).chain(keys);
    things.filter_map(|thing| trust.revocations().admits(&thing).err()).map(Denial::from).collect()
}

/// What today's reference values demand, and whatever else came: a log that nobody demands is judged too, not left out.
fn demands(trust: &Trust, evidence: &Evidence) -> Demands {
    let mut demands = trust.demands(evidence.kind());
    if let (Some(tpm), Some(came)) = (demands.tpm_mut(), evidence.tpm().map(TpmEvidence::parts)) {
        tpm.event_log |= came.event_log.is_some();
        tpm.ima_log |= came.ima_log.is_some();
    }
    match &mut demands {
        Demands::Tdx(tdx) => tdx.event_log |= evidence.cc_event_log().is_some(),
        Demands::TpmOnTdx(both) => both.ccel |= evidence.cc_event_log().is_some(),
        Demands::Tpm(_) | Demands::SevSnp | Demands::TpmOnSevSnp(_) => {}
    }
    demands
}

/// Lets a quote be older than the newest of the same boot: the clock is held to strictly before it, counters are not
/// touched. What the quote says of itself is not proven yet, but it can only lower the clock within the boot that the
/// node last showed.
fn within_boot(endorsements: &mut Endorsements, evidence: &Evidence) {
    let held = match endorsements {
        Endorsements::Tpm(tpm) | Endorsements::TpmOnSevSnp(tpm, _) | Endorsements::TpmOnTdx(tpm, _) => tpm,
        Endorsements::SevSnp(_) | Endorsements::Tdx(_) => return,
    };
    let quote = evidence.tpm().and_then(|tpm| Attest::read(tpm.parts().quote).ok());
    let Some(shown) = quote.map(|quote| ClockState::at(quote.clock)) else { return };
    if (shown.reset_count, shown.restart_count) == (held.clock.reset_count, held.clock.restart_count) {
        let before = shown.last_clock_ms.saturating_sub(1);
        held.clock.last_clock_ms = held.clock.last_clock_ms.min(before);
    }
}

fn digest_of(challenge: &Challenge) -> Result<Sha256Digest, OrderRefusal> {
    Ok(Sha256Digest::of(&cbor::to_vec(challenge)?))
}

/// The entry is a decision: that it cannot be made anew is nobody's mistake, and no judgement.
fn not_kept(refusal: OrderRefusal) -> OrderRefusal {
    if matches!(refusal, OrderRefusal::Unknown { .. } | OrderRefusal::Malformed(_)) {
        return Fault::NotKept { what: refusal.to_string() }.into();
    }
    refusal
}

/// Said of every file.
const FRESHNESS: &str = "only what the nonce says to whoever chose it: this answers no challenge of this domain's";

#[cfg(test)]
mod tests {
    use evidence::binding::Binding;
    use evidence::cose::SigningKey;

    use super::*;

    #[test]
    fn a_challenge_of_long_ago_is_answered_by_the_same_evidence_now() {
        let then = inspection([7; 32], Demands::SevSnp, UnixSeconds(100));
        let anew = retimed(then.clone(), UnixSeconds(1_000_000));
        assert!(anew.issued_at <= UnixSeconds(1_000_000) && UnixSeconds(1_000_000) < anew.expires_at);
        let key = SigningKey::from_seed(&[9; 32]).unwrap().public().cose_key().to_vec();
        let bound = |challenge| Binding::answering(challenge, &key, None).report_data().unwrap();
        assert_eq!(bound(&anew), bound(&then));
        assert_eq!((anew.demands, anew.nonce), (then.demands, then.nonce));
    }
}
