//! Orders of the policy authority against a real store: what a threshold signed
//! is obeyed once, logged before it has effect, and survives a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod domain;
mod reference_sets;

use domain::{Domain, NOW, close, options};
use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tee::PlatformId;
use governance::revocation::Revoked;
use governance::statement::Order;
use verifier::config::Config;
use verifier::governor::{AdmittedMachine, Governor, OrderRefusal};
use verifier::init::{InitError, InitOptions, init};
use verifier::live::Live;
use verifier::nodes::{self, BootSeen, ClockSeen, Machine, NodeIdentity, NodeStatus, TpmIdentity};
use verifier::open::{open_store, parts};
use verifier::state::{StateError, StateFolder};

#[tokio::test]
async fn a_set_has_effect_once_a_statement_activates_it_and_not_before() {
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    assert!(governor.current().policy.is_some(), "a lab starts with its policy");
    let epoch = governor.current().state.state().epoch;
    let cose = firmware_refs::signed::sign(&domain.set(1), &domain.keys[0]).unwrap();
    assert_eq!(governor.import_references(&cose, NOW).await.unwrap().state, "staged");
    assert!(governor.current().references.sets().is_empty());
    let obeyed = governor.obey(&domain.activation(2, 1), NOW).await.unwrap();
    assert_eq!(obeyed.epoch, epoch + 1);
    let snapshot = governor.current();
    assert_eq!(snapshot.references.sets().len(), 1);
    assert_eq!(snapshot.state.state().reference_values, snapshot.references.digest());
    // The record that orders it stands in the log before the state that obeys it.
    let entry = open.opened.log.entry(obeyed.entry).await.unwrap().unwrap();
    assert!(open.opened.log.prove(&entry).is_ok());
    let replayed = governor.obey(&domain.activation(2, 1), NOW).await.unwrap_err();
    assert_eq!(replayed.code(), "governance.statement_replayed");
    let again = governor.obey(&domain.activation(3, 1), NOW).await.unwrap_err();
    assert_eq!(again.code(), "order.lifecycle");
    let unknown = governor.obey(&domain.activation(4, 2), NOW).await.unwrap_err();
    assert_eq!(unknown.code(), "order.unknown");
    close(open, governor).await;

    let (open, governor) = domain.open(NOW).await;
    assert_eq!(governor.current().references.digest(), snapshot.references.digest());
    assert_eq!(governor.current().state.digest(), snapshot.state.digest());
    let newer = firmware_refs::signed::sign(&domain.set(2), &domain.keys[0]).unwrap();
    governor.import_references(&newer, NOW).await.unwrap();
    governor.obey(&domain.activation(3, 2), NOW).await.unwrap();
    assert_eq!(governor.current().references.sets().len(), 1, "no grace was configured");
    let older = governor.import_references(&cose, NOW).await.unwrap();
    assert_eq!(older.state, "staged", "importing it again changes nothing");
    let back = governor.obey(&domain.activation(4, 1), NOW).await.unwrap_err();
    assert_eq!(back.code(), "order.lifecycle");
    let revoked = Order::Revoke(Revoked::ReferenceSet(domain.set(2).digest()));
    governor.obey(&domain.statement(4, revoked.clone()), NOW).await.unwrap();
    assert!(governor.current().references.sets().is_empty());
    let twice = governor.obey(&domain.statement(5, revoked), NOW).await.unwrap_err();
    assert_eq!(twice.code(), "governance.revoked");
    close(open, governor).await;
}

#[tokio::test]
async fn one_signature_is_not_enough_outside_a_lab() {
    let domain = Domain::new(false).await;
    let (open, governor) = domain.open(NOW).await;
    let signed: Vec<_> =
        domain.keys.iter().map(|key| firmware_refs::signed::sign(&domain.set(1), key).unwrap()).collect();
    let first = governor.import_references(&signed[0], NOW).await.unwrap();
    assert_eq!((first.signatures, first.threshold, first.state), (1, 2, "gathering"));
    let same = governor.import_references(&signed[0], NOW).await.unwrap();
    assert_eq!((same.signatures, same.state), (1, "gathering"));
    assert!(matches!(governor.obey(&domain.activation(2, 1), NOW).await, Err(OrderRefusal::Unknown { .. })));
    let second = governor.import_references(&signed[1], NOW).await.unwrap();
    assert_eq!((second.signatures, second.state), (2, "staged"));
    let alone = governor.obey(&domain.activation(2, 1)[..1], NOW).await.unwrap_err();
    assert_eq!(alone.code(), "governance.threshold_not_met");
    let stranger = SigningKey::from_seed(&[42; 32]).unwrap();
    let forged = firmware_refs::signed::sign(&domain.set(1), &stranger).unwrap();
    assert_eq!(governor.import_references(&forged, NOW).await.unwrap_err().code(), "order.signatures");
    governor.obey(&domain.activation(2, 1)[..2], NOW).await.unwrap();
    assert_eq!(governor.current().references.sets().len(), 1);
    close(open, governor).await;
}

#[tokio::test]
async fn a_quarantine_stays_until_a_statement_of_a_later_epoch_ends_it() {
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    let node = NodeId::new("n-1").unwrap();
    let unknown = governor.quarantine(&node, "x", NOW).await.unwrap_err();
    assert_eq!(unknown.code(), "order.node");
    let ek = Sha256Digest([1; 32]);
    governor.admit(&node, Some(AdmittedMachine::Ek(ek)), "asset 7", NOW).await.unwrap();
    assert!(governor.current().anchors.as_ref().unwrap().set().pinned_eks.contains(&ek));
    let identity = NodeIdentity {
        id: node.clone(),
        machine: Machine::Tpm(TpmIdentity { ek_digest: ek, ak_name: vec![1; 34] }),
        record_key: SigningKey::from_seed(&[9; 32]).unwrap().public().clone(),
        enrolment: Sha256Digest([3; 32]),
    };
    let clock = ClockSeen { reset_count: 1, restart_count: 0, clock_ms: 1 };
    let boot = BootSeen { clock, report_id: None };
    let enrolled = open
        .opened
        .store
        .write(move |tx| Box::pin(async move { nodes::enrol(tx, &identity, boot, NodeStatus::Pending, &ek, 1).await }));
    enrolled.await.unwrap();
    governor.admit(&node, None, "seen in rack 4", NOW).await.unwrap();
    let status = async || nodes::find(&open.opened.store, &node).await.unwrap().unwrap();
    assert_eq!(status().await.status, NodeStatus::Active);
    let before = governor.current().state.state().epoch;
    governor.quarantine(&node, "smells of smoke", NOW).await.unwrap();
    let quarantined = status().await;
    assert_eq!((quarantined.status, quarantined.reason.as_str()), (NodeStatus::Quarantined, "smells of smoke"));
    let readmit =
        |sequence, halt, epoch| domain.statement(sequence, Order::Readmit { node: node.clone(), halt, epoch });
    let now_epoch = governor.current().state.state().epoch;
    let same_epoch = governor.obey(&readmit(2, Sha256Digest::ZERO, before), NOW).await.unwrap_err();
    assert_eq!(same_epoch.code(), "order.node");
    let other_halt = governor.obey(&readmit(2, ek, now_epoch + 1), NOW).await.unwrap_err();
    assert_eq!(other_halt.code(), "order.node");
    assert!(governor.admit(&node, None, "again", NOW).await.is_err(), "an operator alone cannot");
    let obeyed = governor.obey(&readmit(2, Sha256Digest::ZERO, now_epoch + 1), NOW).await.unwrap();
    let back = status().await;
    assert_eq!((back.status, back.readmission), (NodeStatus::Active, obeyed.statement));
    close(open, governor).await;
    let (open, governor) = domain.open(NOW).await;
    assert!(governor.current().anchors.is_some());
    close(open, governor).await;
}

#[tokio::test]
async fn a_platform_is_admitted_for_a_node_id_and_pins_no_ek() {
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    let node = NodeId::new("n-1").unwrap();
    let [here, there] = [1, 2].map(|byte| PlatformId::IntelPpid([byte; 16]));
    let admit = |platform: &PlatformId| Some(AdmittedMachine::Platform(platform.clone()));
    governor.admit(&node, admit(&here), "rack 4", NOW).await.unwrap();
    let store = &open.opened.store;
    assert!(nodes::platform_admitted(store, &here, &node).await.unwrap());
    assert!(!nodes::platform_admitted(store, &there, &node).await.unwrap());
    assert!(!nodes::platform_admitted(store, &here, &NodeId::new("n-2").unwrap()).await.unwrap());
    let head = Sha256Digest([4; 32]);
    let identity = NodeIdentity {
        id: node.clone(),
        machine: Machine::Tee(here.clone()),
        record_key: SigningKey::from_seed(&[9; 32]).unwrap().public().clone(),
        enrolment: Sha256Digest([3; 32]),
    };
    let enrolled = store.write(move |tx| {
        let boot = BootSeen::default();
        Box::pin(async move { nodes::enrol(tx, &identity, boot, NodeStatus::Pending, &head, 1).await })
    });
    enrolled.await.unwrap();
    for other in [admit(&there), Some(AdmittedMachine::Ek(head))] {
        assert_eq!(governor.admit(&node, other, "x", NOW).await.unwrap_err().code(), "order.node");
    }
    governor.admit(&node, admit(&here), "seen", NOW).await.unwrap();
    assert_eq!(nodes::find(store, &node).await.unwrap().unwrap().status, NodeStatus::Active);
    close(open, governor).await;
}

#[tokio::test]
async fn a_state_is_renewed_at_half_its_life_and_after_a_long_sleep() {
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    let first = governor.current().state.state().clone();
    assert!(!governor.refresh(NOW.plus(1)).await.unwrap());
    assert!(governor.refresh(NOW.plus(1_800)).await.unwrap());
    assert_eq!(governor.current().state.state().epoch, first.epoch + 1);
    close(open, governor).await;
    let late = NOW.plus(100_000);
    let (open, governor) = domain.open(late).await;
    assert!(governor.current().state.fresh(late).is_ok());
    assert!(governor.current().state.state().previous.is_some());
    close(open, governor).await;
}

#[tokio::test]
async fn changed_tables_and_missing_or_open_secrets_refuse_to_start() {
    use sqlx::Connection as _;
    use std::os::unix::fs::PermissionsExt as _;
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    let cose = firmware_refs::signed::sign(&domain.set(1), &domain.keys[0]).unwrap();
    governor.import_references(&cose, NOW).await.unwrap();
    governor.obey(&domain.activation(2, 1), NOW).await.unwrap();
    close(open, governor).await;

    let state = StateFolder::open(&domain.state()).unwrap();
    let config = Config::load(&state.config_path(), []).unwrap();
    let key = domain.state().join("keys/issuer.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(parts(&state, &config, Live::default()).is_err());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    let mut tables = sqlx::AnyConnection::connect(&config.store).await.unwrap();
    sqlx::raw_sql("DELETE FROM set_history WHERE family = 'reference'").execute(&mut tables).await.unwrap();
    tables.close().await.unwrap();
    let open = open_store(&state, &config).await.unwrap();
    let parts = parts(&state, &config, Live::default()).unwrap();
    let refused = Governor::open(parts, &open.opened.store, &open.opened.log, NOW).await.err().unwrap();
    assert_eq!(refused.code(), "fault.store_corrupt");

    let second = open_store(&state, &config).await.unwrap_err();
    assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
    open.opened.close().await;
}

#[tokio::test]
async fn init_overwrites_nothing_and_needs_a_threshold() {
    let folder = tempfile::tempdir().unwrap();
    init(options(folder.path(), true), NOW).await.unwrap();
    let again = init(options(folder.path(), true), NOW).await.unwrap_err();
    assert!(matches!(again, InitError::State(StateError::Exists { .. })));
    let folder = tempfile::tempdir().unwrap();
    let alone = InitOptions { threshold: 1, ..options(folder.path(), false) };
    assert!(matches!(init(alone, NOW).await, Err(InitError::Usage(_))));
}

#[tokio::test]
async fn whose_cosignatures_nodes_count_is_ordered_by_the_authority_and_survives_a_restart() {
    use governance::witness_policy::{PinnedWitness, WitnessPolicy};
    let domain = Domain::new(false).await;
    let (open, governor) = domain.open(NOW).await;
    assert!(governor.current().witnesses.is_none());
    let of = |key: &evidence::cose::PublicKey| {
        let witnesses =
            vec![PinnedWitness { name: governance::text::Text::new("w.example").unwrap(), key: key.clone() }];
        Order::CountWitnesses(Box::new(WitnessPolicy { quorum: 1, witnesses }))
    };
    let witness = SigningKey::from_seed(&[41; 32]).unwrap();
    let statement = domain.statement(2, of(witness.public()));
    let few = governor.obey(&statement[..1], NOW).await.unwrap_err();
    assert_eq!(few.code(), "governance.threshold_not_met");
    let bundle = governor.current().bundle.verified.bundle().clone();
    let own = governor.obey(&domain.statement(2, of(&bundle.log[0].key)), NOW).await.unwrap_err();
    assert_eq!(own.code(), "governance.field_invalid");
    let epoch = governor.current().state.state().epoch;
    let obeyed = governor.obey(&statement, NOW).await.unwrap();
    assert_eq!(obeyed.epoch, epoch + 1);
    close(open, governor).await;
    // Long after the order itself ran out.
    let (open, governor) = domain.open(NOW.plus(1_000_000)).await;
    let held = governor.current().witnesses.clone().unwrap();
    assert_eq!((held.held.sequence, held.held.statement, held.signatures.len()), (2, obeyed.statement, 3));
    close(open, governor).await;
}
