//! Attachments: each must be what a record names, and each record that must have one has it.

use std::collections::BTreeSet;

use evidence::cose::{self, KeySet};

use super::{
    Attachment, AttachmentKind, AuditDenial, DomainProof, Part, PayloadReader, Place, Placed, ProofFailure, Proved,
    Sha256Digest, Trust, VerifiedRecord, in_part,
};
use crate::record::{LineageRecord, RecordBody};

/// Which record each verified attachment belongs to.
type Attached = BTreeSet<(AttachmentKind, Place)>;

pub(super) fn verify(
    attachments: &[Attachment],
    domains: &[(&DomainProof, Trust)],
    proved: &Proved,
    reader: &impl PayloadReader,
) -> Result<(), ProofFailure> {
    let mut attached = Attached::new();
    for (at, attachment) in attachments.iter().enumerate() {
        let part = Part::Attachment(at, attachment.kind);
        let trust = domains.iter().find(|(proof, _)| proof.domain == attachment.domain);
        let Some((_, trust)) = trust else {
            let denial = AuditDenial::DomainNotPinned { domain: attachment.domain.clone() };
            return Err(ProofFailure { part, denial });
        };
        for place in places(attachment, trust, proved, reader).map_err(in_part(part.clone()))? {
            if !attached.insert((attachment.kind, place)) {
                let denial = AuditDenial::AttachmentStray { what: attachment.kind.name() };
                return Err(ProofFailure { part, denial });
            }
        }
    }
    complete(proved, &attached)
}

/// The records that the attachment belongs to: one, or several when a node said the same thing again.
fn places(
    attachment: &Attachment,
    trust: &Trust,
    proved: &Proved,
    reader: &impl PayloadReader,
) -> Result<Vec<Place>, AuditDenial> {
    match attachment.kind {
        AttachmentKind::Artifact => artifact(attachment, trust, proved, reader).map(|place| vec![place]),
        AttachmentKind::Result => result(attachment, trust, proved).map(|place| vec![place]),
        AttachmentKind::Readmission => readmission(attachment, trust, proved, reader).map(|place| vec![place]),
        AttachmentKind::Passport => passport(attachment, proved, reader).map(|place| vec![place]),
        AttachmentKind::Intent | AttachmentKind::Halt | AttachmentKind::End => node_said(attachment, proved, reader),
    }
}

/// Intent, halt record, end record: named by the digest of what the node signed.
fn node_said(attachment: &Attachment, proved: &Proved, reader: &impl PayloadReader) -> Result<Vec<Place>, AuditDenial> {
    let what = attachment.kind.name();
    let bytes = only(attachment)?;
    // Read before it is verified, only to find the record, and by it the key that must have signed.
    let claimed = cose::claimed_payload(bytes).map_err(|cause| AuditDenial::SignatureInvalid { what, cause })?;
    let digest = Sha256Digest::of(&claimed);
    let named = naming(attachment, proved, digest)?;
    let mut places = Vec::with_capacity(named.len());
    for (place, placed) in named {
        // The key that the node had when the record was written.
        let payload = signed(attachment, bytes, &KeySet::new(placed.record_key.iter()))?;
        agrees(attachment.kind, placed, &payload, reader)?;
        places.push(place.clone());
    }
    Ok(places)
}

/// What the node said is about the node, the intent and the trigger that the record says it is about.
fn agrees(
    kind: AttachmentKind,
    placed: &Placed,
    payload: &[u8],
    reader: &impl PayloadReader,
) -> Result<(), AuditDenial> {
    let what = kind.name();
    let facts = match kind {
        AttachmentKind::Intent => reader.intent(payload),
        AttachmentKind::Halt => reader.halt(payload),
        AttachmentKind::End => reader.end(payload),
        AttachmentKind::Artifact | AttachmentKind::Result | AttachmentKind::Readmission | AttachmentKind::Passport => {
            Err("no such statement of a node's".into())
        }
    };
    let facts = facts.map_err(|cause| AuditDenial::PayloadUnreadable { what, cause })?;
    let said = placed.record.record();
    let mismatch = |field| Err(AuditDenial::AttachmentMismatch { what, field });
    if said.node.as_ref() != Some(&facts.node) {
        return mismatch("node");
    }
    if facts.intent.is_some_and(|intent| intent != said.subject) {
        return mismatch("intent");
    }
    // What the domain's own record follows from stands in its own log, before it. An intent names its parent's artifacts,
    // not their records: which these are, its domain says, and that they are logged is shown.
    let elsewhere = facts.authorizations.iter().filter(|(domain, _)| **domain != said.domain);
    if kind != AttachmentKind::Intent && !elsewhere.eq(&said.elsewhere) {
        return mismatch("authorizations");
    }
    if let RecordBody::Halt { code, .. } = &said.body
        && facts.code.as_deref() != Some(code.as_str())
    {
        return mismatch("code");
    }
    Ok(())
}

fn artifact(
    attachment: &Attachment,
    trust: &Trust,
    proved: &Proved,
    reader: &impl PayloadReader,
) -> Result<Place, AuditDenial> {
    let what = attachment.kind.name();
    let payload = signed(attachment, only(attachment)?, &trust.issuer_keys)?;
    let facts = reader.artifact(&payload).map_err(|cause| AuditDenial::PayloadUnreadable { what, cause })?;
    let (place, placed) = the_one(attachment, proved, facts.entry)?;
    let said = placed.record.record();
    let Some(granted) = said.body.granted() else {
        return Err(AuditDenial::AttachmentMismatch { what, field: "record" });
    };
    let fields = [
        (granted.artifact == facts.id, "id"),
        (granted.terms == facts.terms, "terms"),
        (granted.lease_seq == facts.lease_seq, "lease seq"),
        (place.1 == facts.index, "log index"),
        (said.subject == facts.intent, "intent"),
        (said.node.as_ref() == Some(&facts.node), "node"),
    ];
    match fields.into_iter().find(|(same, _)| !same) {
        Some((_, field)) => Err(AuditDenial::AttachmentMismatch { what, field }),
        None => Ok(place.clone()),
    }
}

/// Attestation Result: named by the digest of its signed bytes.
fn result(attachment: &Attachment, trust: &Trust, proved: &Proved) -> Result<Place, AuditDenial> {
    let bytes = only(attachment)?;
    signed(attachment, bytes, &trust.issuer_keys)?;
    the_one(attachment, proved, Sha256Digest::of(bytes)).map(|(place, _)| place.clone())
}

/// Passport: named, as evidence is, by the digest of its signed bytes. The record that it rests on is in the partner's log,
/// about the same intent and node, and names the same result.
fn passport(attachment: &Attachment, proved: &Proved, reader: &impl PayloadReader) -> Result<Place, AuditDenial> {
    let (what, bytes) = (attachment.kind.name(), only(attachment)?);
    let (place, placed) = the_one(attachment, proved, Sha256Digest::of(bytes))?;
    let payload = signed(attachment, bytes, &KeySet::new(placed.record_key.iter()))?;
    let facts = reader.passport(&payload).map_err(|cause| AuditDenial::PayloadUnreadable { what, cause })?;
    let said = placed.record.record();
    let result = said.body.result();
    let theirs = proved.by_digest.get(&facts.entry).filter(|(domain, _)| *domain == facts.partner);
    let theirs = theirs.and_then(|place| proved.records.get(place)).map(|placed| placed.record.record());
    let rests_on = |theirs: &LineageRecord| {
        theirs.subject == said.subject && theirs.node == said.node && theirs.body.result() == result
    };
    let fields = [
        (said.node.as_ref() == Some(&facts.node), "node"),
        (said.elsewhere.get(&facts.partner) == Some(&vec![facts.entry]), "authorizations"),
        (result == Some(facts.result), "result"),
        (theirs.is_some_and(rests_on), "record"),
    ];
    match fields.into_iter().find(|(same, _)| !same) {
        Some((_, field)) => Err(AuditDenial::AttachmentMismatch { what, field }),
        None => Ok(place.clone()),
    }
}

fn readmission(
    attachment: &Attachment,
    trust: &Trust,
    proved: &Proved,
    reader: &impl PayloadReader,
) -> Result<Place, AuditDenial> {
    let what = attachment.kind.name();
    let signed = trust
        .authority
        .verify(attachment.kind.purpose(), &attachment.domain, &attachment.signatures)
        .map_err(|cause| AuditDenial::ThresholdNotMet { what, cause })?;
    let facts = reader.readmission(signed.payload()).map_err(|cause| AuditDenial::PayloadUnreadable { what, cause })?;
    let (place, placed) = the_one(attachment, proved, Sha256Digest::of(signed.payload()))?;
    let said = placed.record.record();
    let agrees = matches!(&said.body, RecordBody::Readmission { halt, epoch, .. }
        if *halt == facts.halt && *epoch == facts.epoch);
    if !agrees || said.node.as_ref() != Some(&facts.node) {
        return Err(AuditDenial::AttachmentMismatch { what, field: "readmission" });
    }
    Ok(place.clone())
}

fn only(attachment: &Attachment) -> Result<&[u8], AuditDenial> {
    match attachment.signatures.as_slice() {
        [one] => Ok(one),
        _ => Err(AuditDenial::AttachmentMismatch { what: attachment.kind.name(), field: "number of signatures" }),
    }
}

fn signed(attachment: &Attachment, bytes: &[u8], keys: &KeySet) -> Result<Vec<u8>, AuditDenial> {
    cose::verify1(attachment.kind.purpose(), &attachment.domain, bytes, keys)
        .map(|signed| signed.payload().to_vec())
        .map_err(|cause| AuditDenial::SignatureInvalid { what: attachment.kind.name(), cause })
}

/// What a record names that may be attached: by the digest of its payload, but a result by its signed bytes, and an
/// artifact, which names its record, by that record.
pub(super) fn named_by(record: &VerifiedRecord) -> Vec<(AttachmentKind, Sha256Digest)> {
    let body = &record.record().body;
    let mut named = Vec::new();
    if let (Some(kind), Some(said)) = (needed(record), body.node_said()) {
        named.push((kind, said));
    }
    if body.granted().is_some() {
        named.push((AttachmentKind::Artifact, record.digest()));
    }
    if let RecordBody::Readmission { statement, .. } = body {
        named.push((AttachmentKind::Readmission, *statement));
    }
    named.extend(body.result().map(|result| (AttachmentKind::Result, result)));
    named.extend(vouched_for(record).map(|passport| (AttachmentKind::Passport, passport)));
    named
}

/// The passport that a grant was made by: it then rests on a record in another domain's log, which no other grant does.
fn vouched_for(record: &VerifiedRecord) -> Option<Sha256Digest> {
    let granted = record.record().body.granted().filter(|_| !record.record().elsewhere.is_empty());
    granted.map(|granted| granted.evidence)
}

/// The records of the attachment's own domain that name it.
fn naming<'p>(
    attachment: &Attachment,
    proved: &'p Proved,
    named: Sha256Digest,
) -> Result<Vec<(&'p Place, &'p Placed)>, AuditDenial> {
    let places = proved.naming.get(&(attachment.domain.clone(), attachment.kind, named));
    let found: Vec<_> = places.into_iter().flatten().filter_map(|place| proved.records.get_key_value(place)).collect();
    if found.is_empty() { Err(AuditDenial::AttachmentStray { what: attachment.kind.name() }) } else { Ok(found) }
}

fn the_one<'p>(
    attachment: &Attachment,
    proved: &'p Proved,
    named: Sha256Digest,
) -> Result<(&'p Place, &'p Placed), AuditDenial> {
    let first = naming(attachment, proved, named)?.into_iter().next();
    first.ok_or(AuditDenial::AttachmentStray { what: attachment.kind.name() })
}

/// Refuses a record whose statement by node, issuer or authority should be there and is not.
fn complete(proved: &Proved, attached: &Attached) -> Result<(), ProofFailure> {
    for (place, placed) in &proved.records {
        let Some(kind) = needed(&placed.record) else { continue };
        let passport = vouched_for(&placed.record).filter(|_| kind == AttachmentKind::Artifact);
        for kind in std::iter::once(kind).chain(passport.map(|_| AttachmentKind::Passport)) {
            if !attached.contains(&(kind, place.clone())) {
                let denial = AuditDenial::AttachmentMissing { what: kind.name() };
                return Err(ProofFailure { part: Part::Record(place.0.clone(), place.1), denial });
            }
        }
    }
    Ok(())
}

/// What must come with a record. Artifacts of renewals may be left out: there is one every few seconds, and the record
/// names its terms.
fn needed(record: &VerifiedRecord) -> Option<AttachmentKind> {
    match &record.record().body {
        RecordBody::Intent { .. } => Some(AttachmentKind::Intent),
        RecordBody::Authorization { .. } => Some(AttachmentKind::Artifact),
        RecordBody::Halt { .. } => Some(AttachmentKind::Halt),
        RecordBody::End { .. } => Some(AttachmentKind::End),
        RecordBody::Readmission { .. } => Some(AttachmentKind::Readmission),
        RecordBody::Enrolment { .. }
        | RecordBody::Admission { .. }
        | RecordBody::Capture { .. }
        | RecordBody::Release { .. }
        | RecordBody::JwtSvid { .. }
        | RecordBody::Renewal { .. }
        | RecordBody::Denial { .. }
        | RecordBody::Quarantine { .. }
        | RecordBody::Restart { .. }
        | RecordBody::Alarm { .. }
        | RecordBody::Staging { .. }
        | RecordBody::Activation { .. }
        | RecordBody::Supersession { .. }
        | RecordBody::GovernanceState { .. }
        | RecordBody::Revocation { .. }
        | RecordBody::Federation { .. } => None,
    }
}
