//! Genuine records of one domain and one node, for tests to put a defect into.

use std::collections::BTreeMap;

use evidence::{
    cose::{KeySet, SigningKey},
    digest::{HashAlg, Sha256Digest},
    kind::EvidenceKind,
    names::{DomainName, ItemName, NodeId},
    register::Register,
    threshold::Authority,
    time::UnixSeconds,
};

use crate::{
    artifact::{
        ARTIFACT_VERSION, ArtifactId, ArtifactTerms, Attribution, Confirmation, EnvironmentalConditions,
        GovernanceMetadata, LeaseTerms, PolicyValidation, ReceiptReference, RuntimeBindings,
    },
    federation_grant::FederationGrant,
    governance_state::{GovernanceState, STATE_VERSION},
    halt::{HALT_VERSION, HaltReason, HaltRecord},
    intent::{Domains, INTENT_VERSION, Intent, Workload},
    isolation::Isolation,
    node_key::NodeKey,
    on_halt::OnHalt,
    partner_endpoint::{EndpointProfile, PartnerEndpoint},
    scope::Scope,
    statement::{Order, STATEMENT_VERSION, Statement, TrustedDomain},
    text::Text,
    trust_bundle::{BUNDLE_VERSION, KeyRecord, TrustBundle},
    witness_policy::{PinnedWitness, WitnessPolicy},
};

pub(crate) const NOW: UnixSeconds = UnixSeconds(10_000);

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub(crate) fn keys(seed: u8) -> KeySet {
    KeySet::new([key(seed).public()])
}

pub(crate) fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

pub(crate) fn other_domain() -> DomainName {
    DomainName::new("b.example").unwrap()
}

pub(crate) fn node() -> NodeId {
    NodeId::new("n1").unwrap()
}

pub(crate) fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

pub(crate) fn digest(label: &str) -> Sha256Digest {
    Sha256Digest::of(label.as_bytes())
}

pub(crate) const ISSUER: u8 = 2;
pub(crate) const NODE: u8 = 5;

pub(crate) fn scope() -> Scope {
    Scope { keys: [ItemName::new("db").unwrap()].into(), ..Scope::default() }
}

pub(crate) fn intent() -> Intent {
    let argv = vec!["/usr/bin/worker".to_owned(), "--once".to_owned()];
    let environment = ["LANG".to_owned(), "TZ".to_owned()].into();
    Intent {
        version: INTENT_VERSION,
        requester: text("ops"),
        workload: Workload { argv, environment, executable: digest("worker"), attach: None, image: None },
        scope: scope(),
        isolation: Isolation::default(),
        on_halt: OnHalt::Kill,
        domains: Domains::All([domain()].into()),
        parents: BTreeMap::new(),
        node: node(),
        created_at: NOW,
        svid_key: svid_key(),
        nonce: [7; 16],
    }
}

/// The generator of P-256 (SEC 2 §2.4.2).
pub(crate) fn svid_key() -> evidence::cose::PublicKey {
    let point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    evidence::cose::PublicKey::p256(&hex::decode(point).unwrap()).unwrap()
}

pub(crate) fn node_key() -> NodeKey {
    NodeKey::from_cose_key(key(NODE).public().cose_key()).unwrap()
}

pub(crate) fn terms() -> ArtifactTerms {
    ArtifactTerms {
        issuer: domain().verifier_spiffe_id(),
        subject: domain().node_spiffe_id(&node()),
        audience: domain().node_spiffe_id(&node()),
        expires_at: NOW.plus(60),
        not_before: NOW.minus(30),
        issued_at: NOW,
        id: ArtifactId([1; 16]),
        confirmation: Confirmation { key: node_key() },
        version: ARTIFACT_VERSION,
        intent: intent().digest().unwrap(),
        scope: scope(),
        bindings: RuntimeBindings {
            node: node(),
            enrolment: digest("enrolment"),
            evidence: digest("evidence"),
            executable: digest("worker"),
            measurements: [(Register::Pcr(0), HashAlg::Sha256.hash(&[b"pcr 0"]))].into(),
        },
        policy: PolicyValidation {
            policy_set: digest("policies"),
            version: 3,
            determining: vec![text("allow-ops")],
            result: digest("result"),
            reference_sets: vec![digest("references")],
        },
        conditions: EnvironmentalConditions {
            tcb_floor: BTreeMap::new(),
            register_digest: HashAlg::Sha256.hash(&[b"pcrs"]),
            labels: BTreeMap::new(),
        },
        lease: LeaseTerms { seq: 2, duration_ms: 30_000, renew_after_ms: 10_000 },
        governance: GovernanceMetadata { domain: domain(), epoch: 4, state: digest("state") },
        attribution: Attribution { requester: text("ops"), approvers: vec![], ancestors: vec![] },
    }
}

pub(crate) fn receipt() -> ReceiptReference {
    ReceiptReference { index: 12, entry: digest("entry") }
}

pub(crate) fn state(epoch: u64, previous: Option<Sha256Digest>) -> GovernanceState {
    GovernanceState {
        version: STATE_VERSION,
        domain: domain(),
        epoch,
        issued_at: NOW.minus(10),
        expires_at: NOW.plus(600),
        policy_set: digest("policies"),
        reference_values: digest("references"),
        revocations: digest("revocations"),
        bundle: digest("bundle"),
        tcb_floor: digest("floor"),
        previous,
    }
}

pub(crate) fn authority() -> Authority {
    Authority::new(vec![key(11).public().clone(), key(12).public().clone(), key(13).public().clone()], 2).unwrap()
}

pub(crate) fn bundle(sequence: u64) -> TrustBundle {
    let record = |seed: u8, from: u64, until: u64| KeyRecord {
        key: key(seed).public().clone(),
        from: UnixSeconds(from),
        until: UnixSeconds(until),
    };
    TrustBundle {
        version: BUNDLE_VERSION,
        domain: domain(),
        sequence,
        issued_at: NOW.minus(60),
        expires_at: NOW.plus(3_600),
        refresh_hint_s: 300,
        issuer: vec![record(ISSUER, 0, 20_000), record(20, 15_000, 30_000)],
        log_origin: "a.example/log".into(),
        log: vec![record(3, 0, 20_000)],
        witness: vec![],
        jwt: vec![],
        ca: vec![],
        authority: authority(),
    }
}

pub(crate) fn statement() -> Statement {
    Statement {
        version: STATEMENT_VERSION,
        domain: domain(),
        sequence: 9,
        order: Order::Readmit { node: node(), halt: digest("halt"), epoch: 5 },
        reason: text("firmware restored"),
        issued_at: NOW.minus(10),
        expires_at: NOW.plus(3_600),
    }
}

pub(crate) fn witness_policy() -> WitnessPolicy {
    let witness = |name: &str, seed: u8| PinnedWitness { name: text(name), key: key(seed).public().clone() };
    WitnessPolicy { quorum: 2, witnesses: vec![witness("b.example/witness", 41), witness("c.example/witness", 42)] }
}

pub(crate) fn halt() -> HaltRecord {
    HaltRecord {
        version: HALT_VERSION,
        domain: domain(),
        node: node(),
        reason: HaltReason::PcrChanged { pcr: 4 },
        artifacts: vec![digest("artifact")],
        authorizations: std::collections::BTreeMap::new(),
        last_evidence: Some(digest("evidence")),
        killed: vec![],
        keys_wiped: 1,
        keys_wiped_at: NOW,
        halted_at: NOW,
        lineage_head: digest("head"),
    }
}

pub(crate) fn grant() -> FederationGrant {
    FederationGrant {
        path_prefix: text("/node/"),
        kinds: [EvidenceKind::Tpm].into(),
        lease_ms: 30_000,
        rate_per_minute: 60,
        witness: true,
        results: false,
        max_staleness_s: 300,
    }
}

pub(crate) fn endpoint() -> PartnerEndpoint {
    PartnerEndpoint { url: text("https://verifier.a.example:8443"), profile: EndpointProfile::HttpsSpiffe }
}

/// An order of another domain to trust this one.
pub(crate) fn trusted(bundle: Sha256Digest) -> TrustedDomain {
    TrustedDomain { domain: domain(), bundle, endpoint: endpoint(), grant: grant() }
}
