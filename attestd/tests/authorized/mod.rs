//! Authorizations by domains of a test's own, and a gateway that takes them.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use attestd::clock::boottime_ms;
use attestd::gateway::{Environment, Executable, ExecutionKey, Gateway, GatewaySettings, WORKLOAD_SOCKET, Workload};
use attestd::locked::Locked;
use evidence::cose::{KeySet, SigningKey};
use evidence::digest::{Digest, HashAlg, Sha256Digest};
use evidence::names::{DomainName, ItemName, NodeId};
use evidence::register::Register;
use evidence::time::UnixSeconds;
use governance::artifact::{
    Artifact, ArtifactId, ArtifactTerms, Attribution, Confirmation, Continues, EnvironmentalConditions, Expectation,
    GovernanceMetadata, LeaseTerms, PolicyValidation, ReceiptReference, RuntimeBindings, VerifiedArtifact,
};
use governance::intent::{self, Domains, INTENT_VERSION, Intent};
use governance::isolation::Isolation;
use governance::node_key::NodeKey;
use governance::on_halt::OnHalt;
use governance::scope::Scope;
use governance::text::Text;

pub(crate) fn domain(name: &str) -> DomainName {
    DomainName::new(name).unwrap()
}

pub(crate) fn intent(executable: &Executable, argv: &[&str], domains: Domains) -> Intent {
    let keys = BTreeSet::from([ItemName::new("db").unwrap()]);
    Intent {
        version: INTENT_VERSION,
        requester: Text::new("uid:0").unwrap(),
        workload: intent::Workload {
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            environment: BTreeSet::from(["LANG".to_owned()]),
            executable: Sha256Digest(*executable.digest()),
            attach: None,
            image: None,
        },
        scope: Scope { keys, ..Scope::default() },
        isolation: Isolation::default(),
        on_halt: OnHalt::Kill,
        domains,
        parents: std::collections::BTreeMap::new(),
        node: NodeId::new("node-1").unwrap(),
        created_at: UnixSeconds(1_000),
        svid_key: svid_key(),
        nonce: [1; 16],
    }
}

/// The generator of P-256 (SEC 2 §2.4.2).
pub(crate) fn svid_key() -> evidence::cose::PublicKey {
    let point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                 4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    evidence::cose::PublicKey::p256(&hex::decode(point).unwrap()).unwrap()
}

/// A genuine artifact of `of` for this intent and executable digest, signed and verified.
pub(crate) fn artifact(of: &str, intent: &Intent, executable: Sha256Digest) -> VerifiedArtifact {
    let (of, node) = (domain(of), intent.node.clone());
    let issuer = SigningKey::from_seed(&[1; 32]).unwrap();
    let node_key = NodeKey::from_cose_key(SigningKey::from_seed(&[2; 32]).unwrap().public().cose_key()).unwrap();
    let digest = HashAlg::Sha256.hash(&[b"pcrs"]);
    let terms = ArtifactTerms {
        issuer: of.verifier_spiffe_id(),
        subject: of.node_spiffe_id(&node),
        audience: of.node_spiffe_id(&node),
        expires_at: UnixSeconds(2_000),
        not_before: UnixSeconds(1_000),
        issued_at: UnixSeconds(1_000),
        id: ArtifactId([3; 16]),
        confirmation: Confirmation { key: node_key.clone() },
        version: governance::artifact::ARTIFACT_VERSION,
        intent: intent.digest().unwrap(),
        scope: intent.scope.clone(),
        bindings: RuntimeBindings {
            node: node.clone(),
            enrolment: Sha256Digest([4; 32]),
            evidence: Sha256Digest([5; 32]),
            executable,
            measurements: BTreeMap::<Register, Digest>::new(),
        },
        policy: PolicyValidation {
            policy_set: Sha256Digest([6; 32]),
            version: 1,
            determining: vec![],
            result: Sha256Digest([7; 32]),
            reference_sets: vec![],
        },
        conditions: EnvironmentalConditions {
            tcb_floor: BTreeMap::new(),
            register_digest: digest,
            labels: BTreeMap::new(),
        },
        lease: LeaseTerms { seq: 1, duration_ms: 30_000, renew_after_ms: 10_000 },
        governance: GovernanceMetadata { domain: of.clone(), epoch: 1, state: Sha256Digest([8; 32]) },
        attribution: Attribution { requester: intent.requester.clone(), approvers: vec![], ancestors: vec![] },
    };
    let receipt = ReceiptReference { index: 0, entry: Sha256Digest([9; 32]) };
    let bytes = Artifact::issue(terms, receipt, &issuer).unwrap();
    let expectation = Expectation {
        audience: &of.node_spiffe_id(&node),
        domain: &of,
        node: &node,
        intent: intent.digest().unwrap(),
        scope: &intent.scope,
        node_key: &node_key,
        epoch_min: 1,
        seq_min: 1,
        continues: Continues::Nothing,
    };
    Artifact::verify_offline(&bytes, &KeySet::new([issuer.public()]), &expectation, UnixSeconds(1_500)).unwrap()
}

pub(crate) fn gateway() -> Gateway {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_attestd"));
    // Anything that is there: a socket in the machine's place is as good as the daemon's.
    let sockets = vec![(PathBuf::from("/dev/null"), WORKLOAD_SOCKET)];
    Gateway::new(GatewaySettings { program, cgroup: None, sockets, image_cap_bytes: IMAGE_CAP_BYTES }).unwrap()
}

pub(crate) const IMAGE_CAP_BYTES: u64 = 64 * 1024 * 1024;

pub(crate) fn workload(executable: Executable) -> Workload {
    let environment = Environment::new(variable("LANG"), &["LANG".to_owned()].into()).unwrap();
    let (working_directory, supervisor) = (PathBuf::from("/"), gateway().stand_by().unwrap());
    Workload { executable, environment, working_directory, attached: None, root: None, supervisor }
}

pub(crate) fn variable(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), "C".to_owned())])
}

pub(crate) fn key() -> ExecutionKey {
    ExecutionKey::new("db".to_owned(), Locked::copy_of(b"canary-key-material").unwrap())
}

pub(crate) fn lease_ms(duration_ms: u64) -> u64 {
    boottime_ms().checked_add(duration_ms).unwrap()
}
