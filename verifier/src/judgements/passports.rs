//! Logged decisions that a partner's word stood behind, made again.

use audit::record::RecordBody;
use evidence::cbor::{self, Caps};
use evidence::challenge::Challenge;
use evidence::digest::Sha256Digest;
use policy::Denial;
use policy::denial::DeniedJson;
use serde_json::{Map, Value, json};

use super::{DeskJudgements, KEPT_CAP_BYTES, kept, unreadable};
use crate::decision::build;
use crate::governor::OrderRefusal;
use crate::passport::{Judgement, PassportDecision};

impl DeskJudgements {
    /// What a passport came to, by whom and by what, judged again from what was kept.
    pub(super) async fn passport_explained(
        &self,
        decision: &PassportDecision,
        body: &RecordBody,
        replay: bool,
    ) -> Result<Map<String, Value>, OrderRefusal> {
        let (judged, result, trust) = self.passport_judged(decision).await?;
        let mut told = match &judged {
            Ok(judgement) => affirmed(judgement),
            Err(denial) => json!(DeniedJson::new(std::slice::from_ref(denial))),
        };
        let Some(fields) = told.as_object_mut() else {
            return Err(OrderRefusal::Bug("a verdict that is no object".to_owned()));
        };
        fields.insert("inputs".to_owned(), inputs(decision));
        if replay {
            let (logged, again) = match (body, &judged) {
                (
                    RecordBody::Authorization { result: logged, .. } | RecordBody::Renewal { result: logged, .. },
                    Ok(_),
                ) => (logged.to_string(), result.to_string()),
                (
                    RecordBody::Authorization { result: logged, .. } | RecordBody::Renewal { result: logged, .. },
                    Err(no),
                ) => (logged.to_string(), no.code().to_owned()),
                (RecordBody::Denial { code, .. }, Err(denial)) => (code.as_str().to_owned(), denial.code().to_owned()),
                (RecordBody::Denial { code, .. }, Ok(_)) => (code.as_str().to_owned(), "affirmed".to_owned()),
                _ => return Err(OrderRefusal::Malformed("this entry is not a decision".to_owned())),
            };
            let replayed = json!({
                "same": logged == again,
                "logged": logged,
                "again": again,
                "build": build(),
                "build_then": decision.build,
                "trust": trust,
            });
            fields.insert("replay".to_owned(), replayed);
        }
        Ok(std::mem::take(fields))
    }

    /// The judgement, the result that the passport carries, and the digest of the trust that it was judged by.
    async fn passport_judged(
        &self,
        decision: &PassportDecision,
    ) -> Result<(Result<Judgement, Denial>, Sha256Digest, Sha256Digest), OrderRefusal> {
        let trust = self.trust(&decision.trust).await?;
        let cose = kept::blob(&self.desk, "passport", &decision.passport).await?;
        let passport = decision.read(&cose).map_err(unreadable)?;
        let challenge = kept::blob(&self.desk, "challenge", &decision.challenge).await?;
        let challenge: Challenge = cbor::from_slice(&challenge, Caps::bytes(KEPT_CAP_BYTES))?;
        let execution = kept::execution(&self.desk, &decision.asked).await?;
        let revocations = self.governor.revocations_under(&decision.trust.state).await?;
        let judged = decision.judge(&passport, &challenge, &execution, &trust, &revocations);
        Ok((judged, Sha256Digest::of(&passport.result), trust.digest()))
    }
}

fn affirmed(judgement: &Judgement) -> Value {
    let relied = &judgement.relied;
    json!({
        "decision": "affirmed",
        "claims": relied.claims(),
        "rules": judgement.rules,
        "registers": relied.measurements(),
        "vouched_by": {
            "domain": relied.terms().governance.domain,
            "artifact": relied.terms().id.to_string(),
            "record": relied.record(),
            "evidence": relied.terms().bindings.evidence,
            "lease_ms": relied.terms().lease.duration_ms,
        },
    })
}

fn inputs(decision: &PassportDecision) -> Value {
    json!({
        "passport": decision.passport,
        "partner": decision.partner.domain,
        "partner_state": decision.partner.state,
        "grant": decision.partner.grant,
        "challenge": decision.challenge,
        "policy": decision.trust.policy,
        "state": decision.trust.state,
        "epoch": decision.trust.epoch,
        "now": decision.now,
    })
}
