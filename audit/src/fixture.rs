//! A small domain with a log, for tests: one node, enrolled, that runs, renews, halts, is readmitted and runs again.

use std::collections::HashMap;

use evidence::{
    cbor::{self, Caps},
    cose::{KeySet, PublicKey, Purpose, SigningKey, sign1},
    digest::Sha256Digest,
    names::{DomainName, ItemName, NodeId},
    threshold::Authority,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::{ByteArray, ByteBuf};

use crate::{
    bundle::{Attachment, AttachmentKind, DomainProof, LoggedRecord, ProofBundle},
    checkpoint::{Checkpoint, LogIdentity, cosign},
    note::{NoteKey, NoteKeyKind},
    payload::{ArtifactFacts, DomainKeys, NodeFacts, PassportFacts, PayloadReader, ReadmissionFacts, TimedKey},
    proof::{Pin, Pins},
    receipt::Receipt,
    record::{Code, LineageRecord, RECORD_VERSION, RecordBody},
    tlog::{CompactRange, NodeId as TreeNode, ProofPlan, TreeHash, leaf_hash},
};

pub(crate) const NOW: UnixSeconds = UnixSeconds(10_000);
pub(crate) const ORIGIN: &str = "a.example/log";

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub(crate) fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

pub(crate) fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

pub(crate) const AUTHORITY: u8 = 1;
pub(crate) const ISSUER: u8 = 2;
pub(crate) const LOG: u8 = 3;
pub(crate) const WITNESS: u8 = 4;
pub(crate) const OWN_WITNESS: u8 = 6;
pub(crate) const WITNESS_NAME: &str = "w.example/witness";
pub(crate) const NODE: u8 = 5;

/// Stand-ins for the payloads of another crate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FakeBundle {
    pub(crate) domain: DomainName,
    pub(crate) sequence: u64,
    pub(crate) issued_at: u64,
    pub(crate) issuer: PublicKey,
    pub(crate) until: u64,
    pub(crate) origin: String,
    pub(crate) log: PublicKey,
    pub(crate) witness: PublicKey,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FakeSaid {
    pub(crate) node: NodeId,
    pub(crate) intent: Option<Sha256Digest>,
    pub(crate) code: Option<String>,
    pub(crate) serial: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FakeArtifact {
    pub(crate) id: ByteArray<16>,
    pub(crate) terms: Sha256Digest,
    pub(crate) index: u64,
    pub(crate) entry: Sha256Digest,
    pub(crate) intent: Sha256Digest,
    pub(crate) node: NodeId,
    pub(crate) lease_seq: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FakeReadmission {
    pub(crate) node: NodeId,
    pub(crate) halt: Sha256Digest,
    pub(crate) epoch: u64,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct FakePassport {
    pub(crate) node: NodeId,
    pub(crate) partner: DomainName,
    pub(crate) result: Sha256Digest,
    pub(crate) entry: Sha256Digest,
}

pub(crate) struct FakeReader;

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    cbor::from_slice(payload, Caps::bytes(4096)).map_err(|e| e.to_string())
}

impl PayloadReader for FakeReader {
    fn domain_keys(&self, payload: &[u8]) -> Result<DomainKeys, String> {
        let bundle: FakeBundle = read(payload)?;
        let timed = |key| vec![TimedKey { key, from: UnixSeconds(0), until: UnixSeconds(bundle.until) }];
        Ok(DomainKeys {
            domain: bundle.domain,
            sequence: bundle.sequence,
            issued_at: UnixSeconds(bundle.issued_at),
            issuer: timed(bundle.issuer),
            log_origin: bundle.origin,
            log: timed(bundle.log),
            witness: timed(bundle.witness),
        })
    }

    fn intent(&self, payload: &[u8]) -> Result<NodeFacts, String> {
        read::<FakeSaid>(payload).map(|said| NodeFacts {
            node: said.node,
            intent: None,
            code: None,
            authorizations: std::collections::BTreeMap::new(),
        })
    }

    fn artifact(&self, payload: &[u8]) -> Result<ArtifactFacts, String> {
        let artifact: FakeArtifact = read(payload)?;
        Ok(ArtifactFacts {
            id: artifact.id.into_array(),
            terms: artifact.terms,
            index: artifact.index,
            entry: artifact.entry,
            intent: artifact.intent,
            node: artifact.node,
            lease_seq: artifact.lease_seq,
        })
    }

    fn halt(&self, payload: &[u8]) -> Result<NodeFacts, String> {
        read::<FakeSaid>(payload).map(|said| NodeFacts {
            node: said.node,
            intent: None,
            code: said.code,
            authorizations: std::collections::BTreeMap::new(),
        })
    }

    fn end(&self, payload: &[u8]) -> Result<NodeFacts, String> {
        read::<FakeSaid>(payload).map(|said| NodeFacts {
            node: said.node,
            intent: said.intent,
            code: None,
            authorizations: std::collections::BTreeMap::new(),
        })
    }

    fn readmission(&self, payload: &[u8]) -> Result<ReadmissionFacts, String> {
        let said: FakeReadmission = read(payload)?;
        Ok(ReadmissionFacts { node: said.node, halt: said.halt, epoch: said.epoch })
    }

    fn passport(&self, payload: &[u8]) -> Result<PassportFacts, String> {
        let said: FakePassport = read(payload)?;
        Ok(PassportFacts { node: said.node, partner: said.partner, result: said.result, entry: said.entry })
    }
}

/// The domain's log and what its records name.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) range: CompactRange,
    pub(crate) nodes: HashMap<TreeNode, TreeHash>,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) head: Option<Sha256Digest>,
    pub(crate) bundle: FakeBundle,
}

pub(crate) fn digest(label: &str) -> Sha256Digest {
    Sha256Digest::of(label.as_bytes())
}

impl World {
    pub(crate) fn empty() -> Self {
        let bundle = FakeBundle {
            domain: domain(),
            sequence: 1,
            issued_at: 1,
            issuer: key(ISSUER).public().clone(),
            until: 1_000_000,
            origin: ORIGIN.into(),
            log: key(LOG).public().clone(),
            witness: key(OWN_WITNESS).public().clone(),
        };
        Self {
            range: CompactRange::empty(),
            nodes: HashMap::new(),
            entries: Vec::new(),
            attachments: Vec::new(),
            head: None,
            bundle,
        }
    }

    /// The whole story.
    pub(crate) fn told() -> Self {
        let mut world = Self::empty();
        world.enrol();
        let intent = world.intent(1);
        world.granted(intent, 1, 1, false);
        world.add(intent, RecordBody::Release { artifact: id(1), keys: vec![ItemName::new("db").unwrap()] });
        world.granted(intent, 1, 2, true);
        world.refused(intent);
        let halt = world.halt();
        world.readmit(halt);
        let intent = world.intent(2);
        world.granted(intent, 2, 1, false);
        world.end(intent);
        world
    }

    /// One execution, and one halt: every kind of proof, in few bytes.
    pub(crate) fn briefly_told() -> Self {
        let mut world = Self::empty();
        world.enrol();
        let intent = world.intent(1);
        world.granted(intent, 1, 1, false);
        let halt = world.halt();
        world.readmit(halt);
        world
    }

    pub(crate) fn record(&self, subject: Sha256Digest, body: RecordBody) -> LineageRecord {
        LineageRecord {
            version: RECORD_VERSION,
            domain: domain(),
            node: Some(node()),
            subject,
            parents: self.head.into_iter().collect(),
            elsewhere: std::collections::BTreeMap::new(),
            at: UnixSeconds(9_000 + self.range.size()),
            body,
        }
    }

    pub(crate) fn log(&mut self, entry: Vec<u8>) -> u64 {
        let index = self.range.size();
        self.nodes.extend(self.range.append(leaf_hash(&entry)).unwrap());
        self.head = Some(Sha256Digest::of(&entry));
        self.entries.push(entry);
        index
    }

    pub(crate) fn add(&mut self, subject: Sha256Digest, body: RecordBody) -> u64 {
        let entry = self.record(subject, body).sign(&key(ISSUER)).unwrap();
        self.log(entry)
    }

    pub(crate) fn enrol(&mut self) {
        let record_key = key(NODE).public().clone();
        let (enrolment, machine) = (digest("enrolment"), digest("ek"));
        self.add(enrolment, RecordBody::Enrolment { enrolment, machine, record_key });
    }

    pub(crate) fn attach<T: Serialize>(&mut self, kind: AttachmentKind, seed: u8, payload: &T) -> Sha256Digest {
        let payload = cbor::to_vec(payload).unwrap();
        let cose = sign1(kind.purpose(), &domain(), &payload, &key(seed)).unwrap();
        self.attachments.push(Attachment { domain: domain(), kind, signatures: vec![ByteBuf::from(cose)] });
        Sha256Digest::of(&payload)
    }

    pub(crate) fn intent(&mut self, serial: u64) -> Sha256Digest {
        let said = FakeSaid { node: node(), intent: None, code: None, serial };
        let intent = self.attach(AttachmentKind::Intent, NODE, &said);
        self.add(intent, RecordBody::Intent { intent });
        intent
    }

    pub(crate) fn granted(&mut self, intent: Sha256Digest, artifact: u8, lease_seq: u64, renewal: bool) -> u64 {
        let ear = sign1(Purpose::AttestationResult, &domain(), &[artifact, lease_seq as u8], &key(ISSUER)).unwrap();
        let (result, terms) = (Sha256Digest::of(&ear), digest(&format!("terms {artifact} {lease_seq}")));
        let (evidence, state, artifact) = (digest("evidence"), digest("state"), id(artifact));
        let svid = digest("svid");
        let body = if renewal {
            RecordBody::Renewal { artifact, terms, result, evidence, state, lease_seq, svid }
        } else {
            RecordBody::Authorization { artifact, terms, result, evidence, state, lease_seq, svid }
        };
        let index = self.add(intent, body);
        let kind = AttachmentKind::Result;
        self.attachments.push(Attachment { domain: domain(), kind, signatures: vec![ByteBuf::from(ear)] });
        let entry = self.head.unwrap();
        let said = FakeArtifact { id: artifact, terms, index, entry, intent, node: node(), lease_seq };
        self.attach(AttachmentKind::Artifact, ISSUER, &said);
        index
    }

    pub(crate) fn refused(&mut self, intent: Sha256Digest) -> u64 {
        let code = Code::new("reference.pcr_unknown").unwrap();
        let evidence = Some(digest("bent evidence"));
        self.add(intent, RecordBody::Denial { code, evidence, result: None, state: Some(digest("state")) })
    }

    pub(crate) fn halt(&mut self) -> Sha256Digest {
        let code = "halt.pcr_changed";
        let said = FakeSaid { node: node(), intent: None, code: Some(code.into()), serial: 0 };
        let halt = self.attach(AttachmentKind::Halt, NODE, &said);
        self.add(halt, RecordBody::Halt { halt, code: Code::new(code).unwrap() });
        halt
    }

    pub(crate) fn readmit(&mut self, halt: Sha256Digest) {
        let said = FakeReadmission { node: node(), halt, epoch: 2 };
        let statement = self.attach(AttachmentKind::Readmission, AUTHORITY, &said);
        self.add(statement, RecordBody::Readmission { statement, halt, epoch: 2 });
    }

    pub(crate) fn end(&mut self, intent: Sha256Digest) {
        let said = FakeSaid { node: node(), intent: Some(intent), code: None, serial: 0 };
        let end = self.attach(AttachmentKind::End, NODE, &said);
        self.add(intent, RecordBody::End { end });
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: self.range.size(), root: self.range.root() }
    }

    /// The signed checkpoint with another domain's witness on it.
    pub(crate) fn note(&self) -> String {
        let note = self.checkpoint().sign(&key(LOG)).unwrap();
        cosign(note.as_bytes(), WITNESS_NAME, &key(WITNESS), UnixSeconds(9_999)).unwrap()
    }

    pub(crate) fn proof(&self, index: u64) -> Vec<TreeHash> {
        ProofPlan::inclusion(index, self.range.size()).unwrap().build(&self.nodes).unwrap()
    }

    pub(crate) fn receipt(&self, index: u64) -> Receipt {
        Receipt::new(self.entries[index as usize].clone(), index, self.proof(index), self.note())
    }

    pub(crate) fn parts(&self) -> ProofBundle {
        let payload = cbor::to_vec(&self.bundle).unwrap();
        let trust = sign1(Purpose::TrustBundle, &domain(), &payload, &key(AUTHORITY)).unwrap();
        let records = (0_u64..).zip(&self.entries).map(|(index, entry)| LoggedRecord {
            index,
            entry: ByteBuf::from(entry.clone()),
            proof: self.proof(index),
        });
        let proof = DomainProof {
            domain: domain(),
            trust_bundles: vec![vec![ByteBuf::from(trust)]],
            checkpoint: self.note(),
            records: records.collect(),
        };
        ProofBundle::new(vec![proof], self.attachments.clone())
    }
}

pub(crate) fn id(n: u8) -> ByteArray<16> {
    ByteArray::new([n; 16])
}

pub(crate) fn pins() -> Pins {
    let authority = Authority::new(vec![key(AUTHORITY).public().clone()], 1).unwrap();
    Pins { domains: vec![Pin { domain: domain(), authority }], witnesses: vec![witness()], quorum: 1 }
}

pub(crate) fn witness() -> NoteKey {
    NoteKey::new(WITNESS_NAME, NoteKeyKind::Cosignature, key(WITNESS).public()).unwrap()
}

pub(crate) fn log_identity() -> LogIdentity {
    LogIdentity::new(ORIGIN, [key(LOG).public()]).unwrap()
}

pub(crate) fn issuer_keys() -> KeySet {
    KeySet::new([key(ISSUER).public()])
}
