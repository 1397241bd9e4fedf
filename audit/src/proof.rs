//! Offline verification of a proof bundle, with pinned policy-authority keys and nothing else.
//!
//! Everything in the file is either verified or makes the verification fail: no byte of it is ignored.

use std::collections::BTreeMap;

use evidence::{
    cose::KeySet,
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    threshold::Authority,
    time::UnixSeconds,
};

use crate::{
    bundle::{Attachment, AttachmentKind, DomainProof, LoggedRecord, ProofBundle},
    checkpoint::{Cosigned, LogIdentity, VerifiedCheckpoint},
    denial::AuditDenial,
    lineage::Chain,
    note::{NoteKey, NoteKeyKind},
    payload::{DomainKeys, PayloadReader, TimedKey},
    record::{LineageRecord, VerifiedRecord},
    tlog::{self, PROOF_CAP_HASHES, TreeHash},
};

#[path = "proof_attachments.rs"]
mod attachments;
#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;

/// How far a record's time may be ahead of the judge's clock, in seconds.
pub const RECORD_SKEW_S: u64 = 120;

/// What a stranger trusts beforehand about one domain.
#[derive(Clone, Debug)]
pub struct Pin {
    /// Which domain.
    pub domain: DomainName,
    /// Its policy authority.
    pub authority: Authority,
}

/// What a stranger trusts beforehand.
#[derive(Clone, Debug)]
pub struct Pins {
    /// The domains that may appear.
    pub domains: Vec<Pin>,
    /// Witnesses that may have cosigned, beside those of the domains in the file.
    pub witnesses: Vec<NoteKey>,
    /// How many witnesses must have cosigned each checkpoint.
    pub quorum: usize,
}

/// Which part of a bundle failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The file as a whole.
    File,
    /// A trust bundle of a domain.
    TrustBundle(DomainName),
    /// The checkpoint of a domain.
    Checkpoint(DomainName),
    /// The record at this index of a domain's log.
    Record(DomainName, u64),
    /// The attachment at this position.
    Attachment(usize, AttachmentKind),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File => f.write_str("proof bundle"),
            Self::TrustBundle(domain) => write!(f, "trust bundle of {domain}"),
            Self::Checkpoint(domain) => write!(f, "checkpoint of {domain}"),
            Self::Record(domain, index) => write!(f, "record {index} of {domain}"),
            Self::Attachment(at, kind) => write!(f, "attachment {at} ({})", kind.name()),
        }
    }
}

/// Not verified: what failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {denial}")]
pub struct ProofFailure {
    /// Which part.
    pub part: Part,
    /// Why.
    pub denial: AuditDenial,
}

/// One verified step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// At which index of its domain's log.
    pub index: u64,
    /// The record's name.
    pub digest: Sha256Digest,
    /// The record.
    pub record: LineageRecord,
}

/// One domain's verified log head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedDomain {
    /// Which domain.
    pub domain: DomainName,
    /// Origin of its log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root hash.
    pub root: TreeHash,
    /// Who cosigned.
    pub cosigned: Vec<Cosigned>,
}

/// Everything in the bundle verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofReport {
    domains: Vec<ProvedDomain>,
    steps: Vec<Step>,
    attachments: usize,
}

impl ProofReport {
    /// The logs that the records stand in.
    #[must_use]
    pub fn domains(&self) -> &[ProvedDomain] {
        &self.domains
    }

    /// Every record, by domain and index.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many attached statements were verified.
    #[must_use]
    pub const fn attachments(&self) -> usize {
        self.attachments
    }
}

/// Verifies every signature, proof, parent and attachment of a bundle.
///
/// # Errors
/// The first part that fails, and why.
pub fn verify_bundle(
    bytes: &[u8],
    pins: &Pins,
    reader: &impl PayloadReader,
    now: UnixSeconds,
) -> Result<ProofReport, ProofFailure> {
    let bundle = ProofBundle::decode(bytes).map_err(in_part(Part::File))?;
    let mut domains = Vec::with_capacity(bundle.domains.len());
    for proof in &bundle.domains {
        let trust = trust(proof, pins, reader).map_err(in_part(Part::TrustBundle(proof.domain.clone())))?;
        domains.push((proof, trust));
    }
    let witnesses = witnesses(&domains, pins).map_err(in_part(Part::File))?;
    let timely = |cosigned: &Cosigned| in_time(&domains, cosigned);
    let mut proved = Proved::default();
    let mut heads = Vec::with_capacity(domains.len());
    for (proof, trust) in &domains {
        let checkpoint = checkpoint(proof, trust, &witnesses, pins, now, &timely)
            .map_err(in_part(Part::Checkpoint(proof.domain.clone())))?;
        for logged in &proof.records {
            let part = Part::Record(proof.domain.clone(), logged.index);
            let record = record(proof, logged, trust, &checkpoint, now).map_err(in_part(part.clone()))?;
            proved.take(logged.index, record).map_err(in_part(part))?;
        }
        heads.push(proved_domain(proof, checkpoint));
    }
    proved.link()?;
    attachments::verify(&bundle.attachments, &domains, &proved, reader)?;
    let steps = proved.records.into_iter().map(|(place, placed)| step(place, &placed.record)).collect();
    Ok(ProofReport { domains: heads, steps, attachments: bundle.attachments.len() })
}

fn in_part(part: Part) -> impl FnOnce(AuditDenial) -> ProofFailure {
    move |denial| ProofFailure { part, denial }
}

/// The keys of one domain that a pinned authority vouches for.
struct Trust {
    authority: Authority,
    issuer: Vec<TimedKey>,
    issuer_keys: KeySet,
    witness: Vec<TimedKey>,
    log: LogIdentity,
}

fn trust(proof: &DomainProof, pins: &Pins, reader: &impl PayloadReader) -> Result<Trust, AuditDenial> {
    let Some(pin) = pins.domains.iter().find(|pin| pin.domain == proof.domain) else {
        return Err(AuditDenial::DomainNotPinned { domain: proof.domain.clone() });
    };
    let mut known: Option<DomainKeys> = None;
    for signatures in &proof.trust_bundles {
        let signed = pin
            .authority
            .verify(evidence::cose::Purpose::TrustBundle, &pin.domain, signatures)
            .map_err(|cause| AuditDenial::ThresholdNotMet { what: "trust bundle", cause })?;
        let keys = reader
            .domain_keys(signed.payload())
            .map_err(|cause| AuditDenial::PayloadUnreadable { what: "trust bundle", cause })?;
        if keys.domain != pin.domain {
            return Err(AuditDenial::DomainMismatch { got: keys.domain, expected: pin.domain.clone() });
        }
        known = Some(match known {
            None => keys,
            Some(known) => succeeded(known, keys)?,
        });
    }
    let Some(mut keys) = known else {
        return Err(AuditDenial::PayloadUnreadable { what: "trust bundle", cause: "absent".into() });
    };
    // The checkpoint is as new as the file: a log key that was retired signs none.
    keys.log.retain(|timed| keys.issued_at < timed.until);
    let log = LogIdentity::new(&keys.log_origin, keys.log.iter().map(|timed| &timed.key))?;
    let issuer_keys = KeySet::new(keys.issuer.iter().map(|timed| &timed.key));
    Ok(Trust { authority: pin.authority.clone(), issuer: keys.issuer, issuer_keys, witness: keys.witness, log })
}

/// What both bundles say together. A key that the later one lacks counted until then: its removal is its revocation. Of one
/// that both name the later one says until when it counts.
fn succeeded(before: DomainKeys, next: DomainKeys) -> Result<DomainKeys, AuditDenial> {
    if next.log_origin != before.log_origin {
        return Err(AuditDenial::OriginMismatch { got: next.log_origin, expected: before.log_origin });
    }
    if next.sequence <= before.sequence || next.issued_at < before.issued_at {
        let cause = format!("trust bundle {} after {}", next.sequence, before.sequence);
        return Err(AuditDenial::ProofMalformed { cause });
    }
    let at = next.issued_at;
    let joined = |before: Vec<TimedKey>, next: Vec<TimedKey>| {
        let mut all = next;
        for timed in before {
            match all.iter_mut().find(|other| other.key == timed.key) {
                Some(known) => known.from = known.from.min(timed.from),
                None => all.push(TimedKey { until: timed.until.min(at), ..timed }),
            }
        }
        all
    };
    Ok(DomainKeys {
        issuer: joined(before.issuer, next.issuer),
        log: joined(before.log, next.log),
        witness: joined(before.witness, next.witness),
        ..next
    })
}

/// Name under which a domain's witness cosigns.
#[must_use]
pub fn witness_name(domain: &DomainName) -> String {
    format!("{domain}/witness")
}

/// The witnesses that are pinned, and those of every domain in the file: each may have cosigned the others' checkpoints.
fn witnesses(domains: &[(&DomainProof, Trust)], pins: &Pins) -> Result<Vec<NoteKey>, AuditDenial> {
    let mut keys: Vec<NoteKey> = pins.witnesses.clone();
    for (proof, trust) in domains {
        for timed in &trust.witness {
            let key = NoteKey::new(&witness_name(&proof.domain), NoteKeyKind::Cosignature, &timed.key)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

/// Whether the witness's key was in force when it cosigned. A key that only the stranger pins has no end; one that a domain
/// in the file names has the one that this domain gave it.
fn in_time(domains: &[(&DomainProof, Trust)], cosigned: &Cosigned) -> bool {
    let of_key = |timed: &&TimedKey| timed.key == cosigned.key;
    let mut named = domains
        .iter()
        .filter(|(proof, _)| witness_name(&proof.domain) == cosigned.witness)
        .flat_map(|(_, trust)| trust.witness.iter().filter(of_key))
        .peekable();
    named.peek().is_none() || named.any(|timed| timed.from <= cosigned.at && cosigned.at < timed.until)
}

fn checkpoint(
    proof: &DomainProof,
    trust: &Trust,
    witnesses: &[NoteKey],
    pins: &Pins,
    now: UnixSeconds,
    timely: &impl Fn(&Cosigned) -> bool,
) -> Result<VerifiedCheckpoint, AuditDenial> {
    // A domain is no witness of its own log.
    let own = witness_name(&proof.domain);
    let others: Vec<_> = witnesses.iter().filter(|key| key.name() != own).cloned().collect();
    let checkpoint =
        VerifiedCheckpoint::verify(proof.checkpoint.as_bytes(), &trust.log, &others, now)?.counting(timely);
    checkpoint.quorum(pins.quorum)?;
    match checkpoint.unknown_signatures() {
        0 => Ok(checkpoint),
        count => Err(AuditDenial::UnknownSigners { count }),
    }
}

fn record(
    proof: &DomainProof,
    logged: &LoggedRecord,
    trust: &Trust,
    checkpoint: &VerifiedCheckpoint,
    now: UnixSeconds,
) -> Result<VerifiedRecord, AuditDenial> {
    if logged.proof.len() > PROOF_CAP_HASHES {
        return Err(AuditDenial::ProofMalformed { cause: "inclusion proof too long".into() });
    }
    let head = checkpoint.checkpoint();
    tlog::verify_inclusion(&tlog::leaf_hash(&logged.entry), logged.index, head.size, &logged.proof, &head.root)?;
    let record = VerifiedRecord::verify(&logged.entry, &proof.domain, &trust.issuer_keys)?;
    let at = record.record().at;
    if at > now.plus(RECORD_SKEW_S) {
        return Err(AuditDenial::FromTheFuture { what: "lineage record", at, now });
    }
    let timely = |timed: &&TimedKey| timed.key.kid() == record.signer() && timed.from <= at && at < timed.until;
    if trust.issuer.iter().find(timely).is_none() {
        return Err(AuditDenial::KeyOutOfTime { kid: record.signer().to_string(), at });
    }
    Ok(record)
}

/// Place of a record: domain and index.
type Place = (DomainName, u64);

/// A record with the record key that its node had when it was written.
struct Placed {
    record: VerifiedRecord,
    record_key: Option<evidence::cose::PublicKey>,
}

/// Everything that verified so far.
#[derive(Default)]
struct Proved {
    records: BTreeMap<Place, Placed>,
    by_digest: BTreeMap<Sha256Digest, Place>,
    /// Records that name an attachment, by what they name.
    naming: BTreeMap<(DomainName, AttachmentKind, Sha256Digest), Vec<Place>>,
    chains: BTreeMap<(DomainName, NodeId), Chain>,
}

impl Proved {
    /// Takes the next record of a domain, by ascending index, into the chain of its node.
    fn take(&mut self, index: u64, record: VerifiedRecord) -> Result<(), AuditDenial> {
        let domain = record.record().domain.clone();
        let newest = self.records.range((domain.clone(), 0)..=(domain.clone(), u64::MAX)).next_back();
        if newest.is_some_and(|((_, newest), _)| *newest >= index) {
            return Err(AuditDenial::ProofMalformed { cause: "records not ascending".into() });
        }
        let mut record_key = None;
        if let Some(node) = record.record().node.clone().filter(|_| Chain::holds(record.record())) {
            let chain = self.chains.entry((domain.clone(), node)).or_default();
            chain.extend(&record)?;
            record_key = chain.record_key().cloned();
        }
        self.by_digest.insert(record.digest(), (domain.clone(), index));
        for (kind, named) in attachments::named_by(&record) {
            self.naming.entry((domain.clone(), kind, named)).or_default().push((domain.clone(), index));
        }
        self.records.insert((domain, index), Placed { record, record_key });
        Ok(())
    }

    /// Every parent is in the file, within one log before its child, and in another domain's in that log.
    fn link(&self) -> Result<(), ProofFailure> {
        for (place, placed) in &self.records {
            for parent in &placed.record.record().parents {
                let before = match self.by_digest.get(parent) {
                    Some((domain, index)) => *domain != place.0 || *index < place.1,
                    None => false,
                };
                if !before {
                    return Err(missing(place, *parent));
                }
            }
            for (domain, parents) in &placed.record.record().elsewhere {
                let in_its_log =
                    |parent: &&Sha256Digest| self.by_digest.get(*parent).is_some_and(|(of, _)| of == domain);
                if let Some(parent) = parents.iter().find(|parent| !in_its_log(parent)) {
                    return Err(missing(place, *parent));
                }
            }
        }
        Ok(())
    }
}

fn missing(place: &Place, parent: Sha256Digest) -> ProofFailure {
    let denial = AuditDenial::ParentMissing { parent };
    ProofFailure { part: Part::Record(place.0.clone(), place.1), denial }
}

fn proved_domain(proof: &DomainProof, checkpoint: VerifiedCheckpoint) -> ProvedDomain {
    let head = checkpoint.checkpoint();
    ProvedDomain {
        domain: proof.domain.clone(),
        origin: head.origin.clone(),
        size: head.size,
        root: head.root,
        cosigned: checkpoint.cosigned().to_vec(),
    }
}

fn step((_, index): Place, record: &VerifiedRecord) -> Step {
    Step { index, digest: record.digest(), record: record.record().clone() }
}
