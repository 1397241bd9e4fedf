//! What saved evidence came to, as it is told.

use std::collections::BTreeMap;

use audit::record::{LineageRecord, RecordBody};
use evidence::EvidenceDenial;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use governance::artifact::ArtifactId;
use policy::Denial;
use policy::denial::DeniedJson;
use policy::result::trust_vector;
use serde_json::{Map, Value, json};

use crate::judge::{Case, Judgement};
use crate::trust::Trust;

/// What saved evidence came to.
pub(super) enum Verdict {
    /// Its document.
    Affirmed(Value),
    /// Every denial, the one that decides first.
    Denied(Vec<Denial>),
}

/// A logged decision as it was.
pub(super) struct Logged {
    at: UnixSeconds,
    kind: &'static str,
    pub(super) node: NodeId,
    /// Code of the denial; none: affirmed.
    pub(super) code: Option<String>,
    /// What was granted.
    pub(super) artifact: Option<ArtifactId>,
}

impl Logged {
    /// A decision about a node; nothing for any other record.
    pub(super) fn of(record: &LineageRecord) -> Option<Self> {
        let (code, artifact) = if let RecordBody::Denial { code, .. } = &record.body {
            (Some(code.as_str().to_owned()), None)
        } else if let RecordBody::Authorization { artifact, .. } | RecordBody::Renewal { artifact, .. } = &record.body {
            (None, Some(ArtifactId(artifact.into_array())))
        } else {
            return None;
        };
        Some(Self { at: record.at, kind: record.kind().name(), node: record.node.clone()?, code, artifact })
    }

    pub(super) fn to_json(&self) -> Value {
        let decision = if self.code.is_some() { "denied" } else { "affirmed" };
        json!({ "kind": self.kind, "at": self.at, "decision": decision, "code": self.code })
    }
}

impl Verdict {
    /// Denied for this, after whatever else stands against it.
    pub(super) fn denied(mut against: Vec<Denial>, denial: EvidenceDenial) -> Self {
        against.push(denial.into());
        Self::Denied(against)
    }

    /// Code of what decides; none: affirmed.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self {
            Self::Affirmed(_) => None,
            Self::Denied(denials) => denials.first().map(Denial::code),
        }
    }

    /// The whole document.
    pub(super) fn told(self, mut document: Map<String, Value>, trust: &Trust, now: UnixSeconds) -> Value {
        document.insert("judged_at".to_owned(), json!(now));
        document.insert("epoch".to_owned(), json!(trust.epoch()));
        document.insert("trust".to_owned(), json!(trust.judging.digest()));
        document.insert("grants".to_owned(), json!("nothing"));
        let verdict = match self {
            Self::Affirmed(affirmed) => affirmed,
            Self::Denied(denials) => json!(DeniedJson::new(&denials)),
        };
        if let Value::Object(fields) = verdict {
            document.extend(fields);
        }
        Value::Object(document)
    }
}

/// Claims and checks as every affirmed verdict prints them, with what was measured, and status and vector of an
/// Attestation Result. None is signed: a result is issued to a node that answered a challenge.
pub(super) fn affirmed(judgement: &Judgement, case: &Case) -> Value {
    let affirmed = &judgement.affirmed;
    let mut document = json!(affirmed.to_json());
    let vector = trust_vector(affirmed);
    if let Some(fields) = document.as_object_mut() {
        fields.insert("rules".to_owned(), json!(judgement.rules));
        fields.insert("endorsements".to_owned(), json!(case.documents));
        fields.insert("registers".to_owned(), json!(affirmed.machine().measurements));
        fields.insert("ear_status".to_owned(), json!(vector.worst().name()));
        let named: BTreeMap<_, _> = vector.named().collect();
        fields.insert("ear_trustworthiness_vector".to_owned(), json!(named));
    }
    document
}
