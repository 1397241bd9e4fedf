use std::os::unix::fs::PermissionsExt as _;

use governance::text::Text;

use super::*;
use crate::journal::{Begun, Journal};
use crate::outbox::{Outbox, RecordKind, Unsent};
use crate::state::disk::crash;

struct Node {
    folder: tempfile::TempDir,
    domain: DomainName,
    id: NodeId,
    record_key: SigningKey,
    authority_keys: [SigningKey; 3],
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            folder,
            domain: DomainName::new("a.example").unwrap(),
            id: NodeId::new("node-1").unwrap(),
            record_key: SigningKey::from_seed(&[1; 32]).unwrap(),
            authority_keys: [2, 3, 4].map(|seed| SigningKey::from_seed(&[seed; 32]).unwrap()),
        }
    }

    fn open(&self) -> HaltStore {
        HaltStore::open(Arc::new(StateDir::open(self.folder.path()).unwrap())).unwrap()
    }

    fn authority(&self) -> Authority {
        Authority::new(self.authority_keys.iter().map(|key| key.public().clone()).collect(), 2).unwrap()
    }

    /// A store that halted in epoch 7, its record signed.
    fn halted(&self) -> (HaltStore, Sha256Digest) {
        let mut store = self.open();
        let reason = HaltReason::PcrChanged { pcr: 4 };
        store.begin(reason, UnixSeconds(100), [(self.domain.clone(), 7)].into()).unwrap();
        let halt = store.complete(&self.record(), &[self.others()], &self.record_key).unwrap();
        (store, halt.record.unwrap().digest)
    }

    fn record(&self) -> HaltRecord {
        HaltRecord {
            version: governance::halt::HALT_VERSION,
            domain: self.domain.clone(),
            node: self.id.clone(),
            reason: HaltReason::PcrChanged { pcr: 4 },
            artifacts: vec![],
            authorizations: std::collections::BTreeMap::new(),
            last_evidence: None,
            killed: vec![],
            keys_wiped: 1,
            keys_wiped_at: UnixSeconds(100),
            halted_at: UnixSeconds(100),
            lineage_head: Sha256Digest::ZERO,
        }
    }

    /// What another domain is told of the same halt.
    fn others(&self) -> HaltRecord {
        HaltRecord { domain: DomainName::new("b.example").unwrap(), ..self.record() }
    }

    fn statement(&self, halt: Sha256Digest) -> Statement {
        Statement {
            version: governance::statement::STATEMENT_VERSION,
            domain: self.domain.clone(),
            sequence: 1,
            order: Order::Readmit { node: self.id.clone(), halt, epoch: 8 },
            reason: Text::new("disk replaced").unwrap(),
            issued_at: UnixSeconds(200),
            expires_at: UnixSeconds(400),
        }
    }

    fn signed(&self, statement: &Statement, by: usize) -> Vec<Vec<u8>> {
        self.authority_keys.iter().take(by).map(|key| statement.sign(key).unwrap()).collect()
    }

    fn readmit(&self, store: &mut HaltStore, signatures: &[Vec<u8>]) -> Result<u64, HaltStoreError> {
        store.readmit(signatures, &self.domain, &self.id, &self.authority(), UnixSeconds(300))
    }
}

#[test]
fn a_halt_survives_a_restart_and_the_first_reason_stands() {
    let node = Node::new();
    assert_eq!(node.open().current(), None);
    let halt = node.open().begin(HaltReason::TpmReset, UnixSeconds(1), BTreeMap::new()).unwrap();
    let again = node.open().begin(HaltReason::LeaseEnded, UnixSeconds(2), BTreeMap::new()).unwrap();
    assert_eq!(again, halt);
    assert_eq!(node.open().current(), Some(&halt));
}

#[test]
fn the_record_of_a_halt_is_made_once() {
    let node = Node::new();
    let (mut store, digest) = node.halted();
    let other = HaltRecord { keys_wiped: 9, ..node.record() };
    assert_eq!(store.complete(&other, &[], &node.record_key).unwrap().record.unwrap().digest, digest);
    drop(store);
    let cose = node.open().current().unwrap().record.clone().unwrap().cose;
    HaltRecord::verify(&cose, &node.domain, &node.id, &evidence::cose::KeySet::new([node.record_key.public()]))
        .unwrap();
}

#[test]
fn each_domain_is_told_by_a_record_of_its_own() {
    let node = Node::new();
    let (store, digest) = node.halted();
    let halt = store.current().unwrap();
    let keys = evidence::cose::KeySet::new([node.record_key.public()]);
    let other = DomainName::new("b.example").unwrap();
    for told in [&node.domain, &other] {
        let cose = &halt.told(told).unwrap().cose;
        for verifier in [&node.domain, &other] {
            assert_eq!(HaltRecord::verify(cose, verifier, &node.id, &keys).is_ok(), told == verifier);
        }
    }
    assert_ne!(halt.told(&other).unwrap().digest, digest, "a readmission answers one of them");
}

#[test]
fn enough_of_the_authority_readmit_and_the_statement_is_used_up() {
    let node = Node::new();
    let (mut store, halt) = node.halted();
    let signatures = node.signed(&node.statement(halt), 2);
    assert_eq!(node.readmit(&mut store, &signatures).unwrap(), 8);
    assert_eq!(store.current(), None);
    drop(store);
    let mut store = node.open();
    assert_eq!(store.current(), None);
    store.begin(HaltReason::PcrChanged { pcr: 4 }, UnixSeconds(100), [(node.domain.clone(), 7)].into()).unwrap();
    let completed = store.complete(&node.record(), &[], &node.record_key).unwrap();
    assert_eq!(completed.record.unwrap().digest, halt);
    let replayed = node.readmit(&mut store, &signatures);
    assert!(matches!(replayed, Err(HaltStoreError::Denied(GovernanceDenial::StatementReplayed { .. }))));
}

#[test]
fn anything_less_leaves_the_node_halted() {
    let node = Node::new();
    let (mut store, halt) = node.halted();
    let good = node.statement(halt);
    let order = |order| Statement { order, ..good.clone() };
    let readmit = |id: &str, halt, epoch| order(Order::Readmit { node: NodeId::new(id).unwrap(), halt, epoch });
    let signed = |statement: &Statement| node.signed(statement, 2);
    let one_signature = node.signed(&good, 1);
    let stranger = [SigningKey::from_seed(&[9; 32]).unwrap(), SigningKey::from_seed(&[8; 32]).unwrap()];
    let refused = [
        one_signature.clone(),
        vec![one_signature[0].clone(), one_signature[0].clone()],
        stranger.iter().map(|key| good.sign(key).unwrap()).collect(),
        signed(&readmit("node-2", halt, 8)),
        signed(&readmit("node-1", Sha256Digest::ZERO, 8)),
        signed(&readmit("node-1", halt, 7)),
        signed(&order(Order::ActivatePolicy { version: 1, set: halt })),
        signed(&Statement { expires_at: UnixSeconds(300), ..good.clone() }),
        signed(&Statement { issued_at: UnixSeconds(301), ..good.clone() }),
        signed(&Statement { sequence: 0, ..good.clone() }),
    ];
    for (n, signatures) in refused.iter().enumerate() {
        assert!(node.readmit(&mut store, signatures).is_err(), "{n}");
        assert!(store.current().is_some(), "{n}");
    }
    drop(store);
    assert!(node.open().current().is_some());
}

#[test]
fn what_cannot_be_read_stops_the_daemon() {
    let node = Node::new();
    drop(node.halted());
    let path = node.folder.path().join("halt.cbor");
    let bytes = std::fs::read(&path).unwrap();
    for damaged in [&bytes[..bytes.len() - 1], b"", b"\xa0"] {
        std::fs::write(&path, damaged).unwrap();
        let opened = HaltStore::open(Arc::new(StateDir::open(node.folder.path()).unwrap()));
        assert!(matches!(opened, Err(StateError::Malformed { .. })));
    }
}

/// A halt as the daemon does it, and takes it up again after a crash: durable, recorded, kept for its domain, told.
fn halts(node: &Node, intent: Sha256Digest, told: &mut Vec<Sha256Digest>) -> Result<(), HaltStoreError> {
    let state = Arc::new(StateDir::open(node.folder.path())?);
    let (mut halts, outbox) = (HaltStore::open(Arc::clone(&state))?, Outbox::open(Arc::clone(&state))?);
    let journal = Journal::open(state)?;
    if halts.current().is_none() {
        halts.begin(HaltReason::PcrChanged { pcr: 4 }, UnixSeconds(100), [(node.domain.clone(), 7)].into())?;
    }
    let halt = halts.complete(&node.record(), &[], &node.record_key)?;
    if !outbox.holds(RecordKind::Halt) && !halt.acknowledged.contains(&node.domain) {
        let cose = halt.told(&node.domain).unwrap().cose.clone();
        outbox.add(Unsent { domain: node.domain.clone(), kind: RecordKind::Halt, cose })?;
    }
    journal.end([intent])?;
    if let Some((number, _)) = outbox.oldest(&node.domain) {
        told.push(halt.record.unwrap().digest);
        halts.acknowledged(&node.domain)?;
        outbox.acknowledged(number)?;
    }
    Ok(())
}

#[test]
fn a_halt_survives_a_crash_at_every_call_that_stores_something() {
    let intent = Sha256Digest([5; 32]);
    let mut calls = 0;
    loop {
        let node = Node::new();
        let open = || Arc::new(StateDir::open(node.folder.path()).unwrap());
        let begun = Begun { artifacts: Vec::new(), domains: [node.domain.clone()].into(), keys_held: 1 };
        Journal::open(open()).unwrap().begin(intent, begun).unwrap();
        let mut told = Vec::new();
        crash::after(Some(calls));
        let outcome = halts(&node, intent, &mut told);
        crash::after(None);
        // What a restarted daemon finds can be understood, and nobody was told of a halt that it does not find.
        let found = node.open().current().cloned();
        assert!(told.is_empty() || found.as_ref().is_some_and(|halt| halt.record.is_some()), "call {calls}");
        let is_accounted_for = found.is_some() || Journal::open(open()).unwrap().begun().contains_key(&intent);
        assert!(is_accounted_for, "call {calls}: the execution is neither begun nor halted");
        halts(&node, intent, &mut told).unwrap();
        let halt = node.open().current().cloned().unwrap();
        assert_eq!((halt.reason.code(), halt.halted_at), ("halt.pcr_changed", UnixSeconds(100)), "call {calls}");
        assert!(halt.acknowledged.contains(&node.domain), "call {calls}");
        let digest = halt.record.unwrap().digest;
        assert!(!told.is_empty() && told.iter().all(|told| *told == digest), "call {calls}: two records of one halt");
        assert!(Outbox::open(open()).unwrap().is_empty() && Journal::open(open()).unwrap().begun().is_empty());
        if outcome.is_ok() {
            break;
        }
        calls += 1;
    }
    assert!(calls > 25, "{calls}: not every call was a place to crash at");
}
