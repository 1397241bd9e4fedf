//! What the log and the evidence store still hold of a decision.

use audit::record::VerifiedRecord;
use evidence::digest::Sha256Digest;
use governance::intent::Intent;

use super::unreadable;
use crate::decision::{AskedFor, Decision};
use crate::denials::{DECISION_PREFIX, PASSPORT_PREFIX};
use crate::desk::Desk;
use crate::evidence_store;
use crate::governor::OrderRefusal;
use crate::judge::Execution;
use crate::log::Entry;
use crate::passport::PassportDecision;

/// Kept bytes; `what` they are, for whoever hears that they are gone.
pub(super) async fn blob(desk: &Desk, what: &'static str, digest: &Sha256Digest) -> Result<Vec<u8>, OrderRefusal> {
    let kept = evidence_store::get(&desk.parts.store, digest).await?;
    kept.ok_or_else(|| OrderRefusal::Unknown { what, name: digest.to_string() })
}

/// An entry of our log, verified.
pub(super) async fn record(desk: &Desk, index: u64) -> Result<(Entry, VerifiedRecord), OrderRefusal> {
    let entry = desk.parts.log.entry(index).await?;
    let entry = entry.ok_or_else(|| OrderRefusal::Unknown { what: "log entry", name: index.to_string() })?;
    let keys = desk.parts.issuer.known();
    let record = VerifiedRecord::verify(&entry.bytes, desk.domain(), &keys)?;
    Ok((entry, record))
}

/// The decision that an entry came from; none when it was refused without a judgement of evidence.
pub(super) async fn decision(desk: &Desk, entry: &Entry) -> Result<Option<Decision>, OrderRefusal> {
    let subjects = desk.parts.log.subjects_of(entry.index).await?;
    let Some(name) = subjects.iter().find_map(|subject| subject.strip_prefix(DECISION_PREFIX)) else {
        return Ok(None);
    };
    let digest = name.parse().map_err(|_| OrderRefusal::Bug(format!("decision {name} has no digest")))?;
    Ok(Some(Decision::from_kept(&blob(desk, "decision", &digest).await?)?))
}

/// The decision by a passport that an entry came from; none when it came from anything else.
pub(super) async fn passport_decision(desk: &Desk, entry: &Entry) -> Result<Option<PassportDecision>, OrderRefusal> {
    let subjects = desk.parts.log.subjects_of(entry.index).await?;
    let Some(name) = subjects.iter().find_map(|subject| subject.strip_prefix(PASSPORT_PREFIX)) else {
        return Ok(None);
    };
    let digest = name.parse().map_err(|_| OrderRefusal::Bug(format!("decision {name} has no digest")))?;
    Ok(Some(PassportDecision::from_kept(&blob(desk, "decision", &digest).await?)?))
}

/// What was asked, with the labels that its keys had then.
pub(super) async fn execution(desk: &Desk, asked: &AskedFor) -> Result<Execution, OrderRefusal> {
    let cose = evidence_store::get_signed(&desk.parts.store, &asked.intent).await?;
    let unknown = || OrderRefusal::Unknown { what: "intent", name: asked.intent.to_string() };
    let payload = evidence::cose::claimed_payload(&cose.ok_or_else(unknown)?).map_err(unreadable)?;
    Ok(Execution {
        intent: Intent::decode(&payload)?,
        intent_digest: asked.intent,
        keys: asked.keys.iter().map(|(name, labels)| (name.clone(), labels.clone())).collect(),
        course: asked.course,
    })
}
