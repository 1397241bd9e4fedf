//! Proof bundles: everything a stranger needs to check what was decided about an
//! execution or a node, taken from the log and the evidence store.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use audit::bundle::{Attachment, AttachmentKind, DomainProof, LoggedRecord, ProofBundle};
use audit::record::{LineageRecord, RecordBody};
use evidence::cbor::{self, Caps};
use evidence::cose;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use serde_bytes::ByteBuf;

use crate::governor::OrderRefusal;
use crate::log::{Entry, Log, SignedHead};
use crate::store::{Store, StoreError};
use crate::witness::CosignedHead;
use crate::{evidence_store, signatures};

/// The bundle about a subject (artifact id, node id, digest or log index), and
/// how many records are in it. All of it is proved under the newest checkpoint
/// that enough witnesses cosigned; in a lab without witnesses under the newest.
pub async fn export(
    (store, log): (&Store, &Log),
    trust_bundles: Vec<Vec<Vec<u8>>>,
    domain: &DomainName,
    subject: &str,
    cosigned: Option<&CosignedHead>,
) -> Result<(Vec<u8>, usize), OrderRefusal> {
    // One head for every proof in the file, taken before the entries are read:
    // what is logged meanwhile is not part of it.
    let head = cosigned.map_or_else(|| log.head(), |cosigned| cosigned.head.clone());
    let entries = closure(log, &head, subject).await?;
    let mut records = Vec::with_capacity(entries.len());
    let (mut attachments, mut attached) = (Vec::new(), BTreeSet::new());
    for (entry, record) in entries.values() {
        for attachment in attachment(store, domain, record).await? {
            // A node may have said one thing twice; it is attached once.
            if attached.insert(attachment.signatures.clone()) {
                attachments.push(attachment);
            }
        }
        let proof = log.prove_under(entry, &head)?.receipt.proof;
        records.push(LoggedRecord { index: entry.index, entry: ByteBuf::from(entry.bytes.clone()), proof });
    }
    let count = records.len();
    let signatures = |bundle: Vec<Vec<u8>>| bundle.into_iter().map(ByteBuf::from).collect();
    let trust_bundles = trust_bundles.into_iter().map(signatures).collect();
    let checkpoint = head.note;
    let proof = DomainProof { domain: domain.clone(), trust_bundles, checkpoint, records };
    Ok((ProofBundle::new(vec![proof], attachments).encode()?, count))
}

/// The entries about a subject with all their ancestors, by index.
async fn closure(
    log: &Log,
    head: &SignedHead,
    subject: &str,
) -> Result<BTreeMap<u64, (Entry, LineageRecord)>, OrderRefusal> {
    let mut waiting = starts(log, subject).await?;
    waiting.retain(|entry| entry.index < head.size);
    if waiting.is_empty() {
        return Err(OrderRefusal::Unknown { what: "log subject", name: subject.chars().take(128).collect() });
    }
    let mut taken = BTreeMap::new();
    while let Some(entry) = waiting.pop() {
        if taken.contains_key(&entry.index) {
            continue;
        }
        if taken.len() >= RECORDS_CAP {
            return Err(OrderRefusal::Malformed(format!("more than {RECORDS_CAP} records belong to {subject}")));
        }
        let record = read(&entry)?;
        for parent in &record.parents {
            let missing = || StoreError::Corrupt { what: format!("parent {parent} is not logged") };
            waiting.push(log.entry_by_digest(parent).await?.ok_or_else(missing)?);
        }
        taken.insert(entry.index, (entry, record));
    }
    Ok(taken)
}

/// The entries that an id names.
pub(crate) async fn starts(log: &Log, subject: &str) -> Result<Vec<Entry>, OrderRefusal> {
    if let Ok(index) = u64::from_str(subject) {
        return Ok(log.entry(index).await?.into_iter().collect());
    }
    let about = log.entries_about(subject).await?;
    if !about.is_empty() {
        return Ok(about);
    }
    match Sha256Digest::from_str(subject) {
        Ok(digest) => Ok(log.entry_by_digest(&digest).await?.into_iter().collect()),
        Err(_) => Ok(Vec::new()),
    }
}

/// What an entry of our own log says.
pub(crate) fn read(entry: &Entry) -> Result<LineageRecord, OrderRefusal> {
    let malformed = |why: String| StoreError::Corrupt { what: format!("log entry {}: {why}", entry.index) };
    let payload = cose::claimed_payload(&entry.bytes).map_err(|denial| malformed(denial.to_string()))?;
    let record = cbor::from_slice(&payload, Caps::bytes(payload.len()));
    Ok(record.map_err(|error| malformed(error.to_string()))?)
}

/// The signed statements that a record names and a proof must come with.
async fn attachment(
    store: &Store,
    domain: &DomainName,
    record: &LineageRecord,
) -> Result<Vec<Attachment>, OrderRefusal> {
    let wanted = match &record.body {
        RecordBody::Intent { intent } => {
            vec![(AttachmentKind::Intent, evidence_store::get_signed(store, intent).await?)]
        }
        RecordBody::Halt { halt, .. } => vec![(AttachmentKind::Halt, evidence_store::get_signed(store, halt).await?)],
        RecordBody::End { end } => vec![(AttachmentKind::End, evidence_store::get_signed(store, end).await?)],
        RecordBody::Authorization { terms, result, evidence, .. } => {
            // The result of a grant that rests on a partner's is in the partner's part of the proof.
            let (kind, named) = if record.elsewhere.is_empty() {
                (AttachmentKind::Result, result)
            } else {
                (AttachmentKind::Passport, evidence)
            };
            vec![
                (AttachmentKind::Artifact, evidence_store::get_artifact(store, terms).await?),
                (kind, evidence_store::get(store, named).await?),
            ]
        }
        RecordBody::Readmission { statement, .. } => {
            let signatures = signatures::over(store, statement).await?.into_iter().map(ByteBuf::from).collect();
            return Ok(vec![Attachment { domain: domain.clone(), kind: AttachmentKind::Readmission, signatures }]);
        }
        RecordBody::Renewal { .. }
        | RecordBody::Enrolment { .. }
        | RecordBody::Admission { .. }
        | RecordBody::Capture { .. }
        | RecordBody::Release { .. }
        | RecordBody::JwtSvid { .. }
        | RecordBody::Denial { .. }
        | RecordBody::Quarantine { .. }
        | RecordBody::Restart { .. }
        | RecordBody::Alarm { .. }
        | RecordBody::Staging { .. }
        | RecordBody::Activation { .. }
        | RecordBody::Supersession { .. }
        | RecordBody::GovernanceState { .. }
        | RecordBody::Revocation { .. }
        | RecordBody::Federation { .. } => Vec::new(),
    };
    // What is no longer kept cannot be attached; whoever verifies is told which.
    let kept = wanted.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?)));
    Ok(kept
        .map(|(kind, bytes)| Attachment { domain: domain.clone(), kind, signatures: vec![ByteBuf::from(bytes)] })
        .collect())
}

/// Most records in one bundle.
pub(crate) const RECORDS_CAP: usize = 50_000;
