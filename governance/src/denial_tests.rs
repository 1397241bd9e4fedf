//! One defect each: from genuine records, one change, exactly this denial.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    cbor,
    cose::{Purpose, sign1},
    digest::{HashAlg, Sha256Digest},
    names::{DomainName, ItemName, NodeId},
    time::UnixSeconds,
};

use super::{GovernanceDenial, GovernanceDenialKind};
use crate::{
    artifact::{Artifact, ArtifactId, ArtifactTerms, Continues, Expectation, LEASE_CAP_MS, VerifiedArtifact},
    fixture::*,
    governance_state::{GovernanceState, VerifiedState},
    halt::HaltRecord,
    intent::{ATTACH_CAPABILITY, Domains, Intent},
    isolation::Files,
    node_key::NodeKey,
    on_halt::OnHalt,
    parentage::Ancestor,
    revocation::{Revocation, RevocationList, Revoked},
    scope::Scope,
    statement::{Statement, VerifiedStatement},
    trust_bundle::{FEDERATION_LIFETIME_CAP_S, OWN_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle},
};

#[path = "denial_witness_tests.rs"]
mod witnesses;

/// Issues the terms and judges them by what the genuine ones are expected to be, with that expectation changed.
fn judged(
    terms: ArtifactTerms,
    expect: impl FnOnce(&mut Expectation<'_>),
) -> Result<VerifiedArtifact, GovernanceDenial> {
    let bytes = Artifact::issue(terms, receipt(), &key(ISSUER))?;
    let (audience, domain, node, scope, node_key) =
        (domain().node_spiffe_id(&node()), domain(), node(), scope(), node_key());
    let mut expected = Expectation {
        audience: &audience,
        domain: &domain,
        node: &node,
        intent: intent().digest().unwrap(),
        scope: &scope,
        node_key: &node_key,
        epoch_min: 4,
        seq_min: 2,
        continues: Continues::Artifact(ArtifactId([1; 16])),
    };
    expect(&mut expected);
    Artifact::verify_offline(&bytes, &keys(ISSUER), &expected, NOW)
}

fn artifact(change: impl FnOnce(&mut ArtifactTerms)) -> GovernanceDenial {
    let mut terms = terms();
    change(&mut terms);
    judged(terms, |_| ()).unwrap_err()
}

fn verified() -> VerifiedArtifact {
    judged(terms(), |_| ()).unwrap()
}

fn read_state(state: &GovernanceState, now: UnixSeconds) -> Result<VerifiedState, GovernanceDenial> {
    GovernanceState::verify(&state.sign(&key(ISSUER)).unwrap(), &domain(), &keys(ISSUER), now)
}

/// Judges a state of this epoch and link after a genuine one of epoch 2.
fn state_after(epoch: u64, link: fn(Sha256Digest) -> Sha256Digest) -> Result<(), GovernanceDenial> {
    let held = read_state(&state(2, Some(digest("state 1"))), NOW).unwrap();
    let next = state(epoch, Some(link(held.digest())));
    read_state(&next, NOW).unwrap().continues(&held)
}

fn read_bundle(bundle: &TrustBundle, now: UnixSeconds) -> Result<VerifiedBundle, GovernanceDenial> {
    let signatures = [bundle.sign(&key(11))?, bundle.sign(&key(13))?];
    TrustBundle::verify(&signatures, &domain(), &authority(), FEDERATION_LIFETIME_CAP_S, now)
}

fn read_statement(
    statement: &Statement,
    signers: &[u8],
    sequence_min: u64,
) -> Result<VerifiedStatement, GovernanceDenial> {
    let signatures: Result<Vec<_>, _> = signers.iter().map(|seed| statement.sign(&key(*seed))).collect();
    Statement::verify(&signatures?, &domain(), &authority(), sequence_min, NOW)
}

fn revoked(thing: Revoked) -> GovernanceDenial {
    RevocationList::new([(thing, text("key leaked"))]).admits_artifact(verified().terms()).unwrap_err()
}

type Case = (&'static str, fn() -> GovernanceDenial);

fn cases() -> Vec<Case> {
    let partners = [crate::partner::tests::cases(), crate::rotation::tests::cases()].concat();
    let children = [crate::parentage::tests::cases(), crate::passport::tests::cases()].concat();
    let all =
        [intent_cases(), artifact_cases(), artifact_form_cases(), state_cases(), authority_cases(), witnesses::cases()];
    [all.concat(), partners, children].concat()
}

fn intent_with(change: fn(&mut Intent)) -> GovernanceDenial {
    let mut bent = intent();
    change(&mut bent);
    bent.encode().unwrap_err()
}

/// A genuine intent to govern what runs already, with one defect.
fn attaching(change: fn(&mut Intent)) -> GovernanceDenial {
    let mut bent = intent();
    bent.workload.argv.truncate(1);
    bent.workload.environment.clear();
    bent.workload.attach = Some(text("/sys/fs/cgroup/system.slice/worker.service"));
    bent.scope = Scope { capabilities: [ItemName::new(ATTACH_CAPABILITY).unwrap()].into(), ..Scope::default() };
    bent.encode().unwrap();
    change(&mut bent);
    bent.encode().unwrap_err()
}

fn files(read: &str) -> Files {
    Files { read: [text(read)].into(), write: BTreeSet::new() }
}

fn intent_cases() -> Vec<Case> {
    vec![
        ("governance.too_large", || Intent::decode(&[0; 50_000]).unwrap_err()),
        ("governance.malformed", || Intent::decode(&[0xa0]).unwrap_err()),
        ("governance.malformed", || {
            // A set with a repeated member has a value, but another encoding.
            let bytes = cbor::to_vec(&intent()).unwrap();
            let once = [&[0x82, 0x64][..], b"LANG", &[0x62], b"TZ"].concat();
            let at = bytes.windows(once.len()).position(|window| window == once).unwrap();
            let twice = [&[0x83, 0x64][..], b"LANG", &[0x62], b"TZ", &[0x62], b"TZ"].concat();
            let bent = [&bytes[..at], &twice, &bytes[at + once.len()..]].concat();
            Intent::decode(&bent).unwrap_err()
        }),
        ("governance.version", || intent_with(|intent| intent.version = 2)),
        ("governance.field_invalid", || intent_with(|intent| intent.workload.argv.clear())),
        ("governance.field_invalid", || intent_with(|intent| intent.workload.argv[0].clear())),
        ("governance.field_invalid", || intent_with(|intent| intent.workload.argv.push("a\0b".into()))),
        ("governance.field_invalid", || {
            intent_with(|intent| intent.workload.environment.extend(["LD_PRELOAD".into()]))
        }),
        ("governance.field_invalid", || intent_with(|intent| intent.workload.environment.extend(["A=B".into()]))),
        ("governance.field_invalid", || intent_with(|intent| intent.isolation.files = Some(files("lib")))),
        ("governance.field_invalid", || {
            intent_with(|intent| {
                intent.workload.image = Some(digest("image"));
                intent.isolation.privileges = [ItemName::new("net_bind_service").unwrap()].into();
            })
        }),
        ("governance.field_invalid", || intent_with(|intent| intent.isolation.files = Some(files("/usr/../etc")))),
        ("governance.field_invalid", || intent_with(|intent| intent.isolation.limits.memory_bytes = Some(0))),
        ("governance.field_invalid", || attaching(|intent| intent.workload.attach = Some(text("sys")))),
        ("governance.field_invalid", || attaching(|intent| intent.workload.argv.push("--more".into()))),
        ("governance.field_invalid", || attaching(|intent| intent.workload.environment = ["LANG".into()].into())),
        ("governance.field_invalid", || attaching(|intent| intent.scope.keys = scope().keys)),
        ("governance.field_invalid", || attaching(|intent| intent.isolation.cgroup = true)),
        ("governance.field_invalid", || attaching(|intent| intent.workload.image = Some(digest("image")))),
        ("governance.field_invalid", || attaching(|intent| intent.on_halt = OnHalt::RevokeKeys)),
        ("governance.field_invalid", || attaching(|intent| intent.scope.capabilities.clear())),
        ("governance.field_invalid", || intent_with(|intent| intent.on_halt = OnHalt::Drain { grace_ms: 0 })),
        ("governance.field_invalid", || intent_with(|intent| intent.on_halt = OnHalt::Drain { grace_ms: 10_001 })),
        ("governance.field_invalid", || intent_with(|intent| intent.isolation.limits.processes = Some(0))),
        ("governance.field_invalid", || intent_with(|intent| intent.isolation.limits.cpu_millis = Some(9))),
        ("governance.field_invalid", || intent_with(|intent| intent.domains = Domains::All(BTreeSet::new()))),
        ("governance.field_invalid", || {
            intent_with(|intent| intent.domains = Domains::Quorum { k: 2, of: [domain()].into() })
        }),
        ("governance.field_invalid", || {
            intent_with(|intent| intent.domains = Domains::Quorum { k: 0, of: [domain()].into() })
        }),
        ("governance.node", || {
            let signed = intent().sign(&domain(), &key(NODE)).unwrap();
            Intent::verify(&signed, &domain(), &NodeId::new("n2").unwrap(), &keys(NODE)).unwrap_err()
        }),
        ("governance.signature_invalid", || {
            let signed = intent().sign(&domain(), &key(NODE)).unwrap();
            Intent::verify(&signed, &other_domain(), &node(), &keys(NODE)).unwrap_err()
        }),
        ("governance.missing_authorization", || Domains::All([domain()].into()).met_by(&[]).unwrap_err()),
        ("governance.missing_authorization", || {
            // A domain counts once, a stranger not at all.
            let two = Domains::Quorum { k: 2, of: [domain(), other_domain()].into() };
            let stranger = DomainName::new("c.example").unwrap();
            two.met_by(&[domain(), domain(), stranger]).unwrap_err()
        }),
    ]
}

fn artifact_cases() -> Vec<Case> {
    vec![
        ("governance.domain", || {
            // Signed in this domain's context, but naming another as its own.
            let mut bent = terms();
            bent.governance.domain = other_domain();
            let payload = cbor::to_vec(&Artifact::of(bent, receipt())).unwrap();
            let bytes = sign1(Purpose::Artifact, &domain(), &payload, &key(ISSUER)).unwrap();
            judged_bytes(&bytes).unwrap_err()
        }),
        ("governance.issuer", || artifact(|terms| terms.issuer = other_domain().verifier_spiffe_id())),
        ("governance.audience", || artifact(|terms| terms.audience = other_domain().node_spiffe_id(&node()))),
        ("governance.node", || {
            artifact(|terms| {
                terms.bindings.node = NodeId::new("n2").unwrap();
                terms.subject = domain().node_spiffe_id(&terms.bindings.node);
            })
        }),
        ("governance.workload", || artifact(|terms| terms.intent = digest("another intent"))),
        ("governance.node_key", || {
            artifact(|terms| terms.confirmation.key = NodeKey::from_cose_key(key(9).public().cose_key()).unwrap())
        }),
        ("governance.node_key_changed", || {
            let held = terms().confirmation.key.digest();
            node_key().continues(held).unwrap();
            NodeKey::from_cose_key(key(9).public().cose_key()).unwrap().continues(held).unwrap_err()
        }),
        ("governance.artifact_id", || artifact(|terms| terms.id = ArtifactId([2; 16]))),
        ("governance.not_yet_valid", || artifact(|terms| terms.not_before = NOW.plus(1))),
        ("governance.expired", || artifact(|terms| terms.expires_at = NOW)),
        ("governance.scope_exceeded", || {
            artifact(|terms| terms.scope.keys.extend([ItemName::new("root-ca").unwrap()]))
        }),
        ("governance.epoch_stale", || artifact(|terms| terms.governance.epoch = 3)),
        ("governance.lease_seq_stale", || artifact(|terms| terms.lease.seq = 1)),
        ("governance.lease_held_twice", crate::fence::tests::held_twice),
        ("governance.signature_invalid", || {
            let bytes = Artifact::issue(terms(), receipt(), &key(9)).unwrap();
            judged_bytes(&bytes).unwrap_err()
        }),
        ("governance.revoked", || revoked(Revoked::Artifact(ArtifactId([1; 16])))),
        ("governance.revoked", || revoked(Revoked::Node(node()))),
        ("governance.revoked", || revoked(Revoked::Key(ItemName::new("db").unwrap()))),
        ("governance.revoked", || revoked(Revoked::Measurement(HashAlg::Sha256.hash(&[b"pcr 0"])))),
        ("governance.revoked", || revoked(Revoked::ReferenceSet(digest("references")))),
        ("governance.parent_revoked", || {
            let artifact = ArtifactId([9; 16]);
            let mut child = terms();
            child.attribution.ancestors = vec![Ancestor { domain: other_domain(), artifact, generation: 1 }];
            let list = RevocationList::new([(Revoked::Artifact(artifact), text("leaked"))]);
            list.admits_artifact(&child).unwrap_err()
        }),
    ]
}

fn judged_bytes(bytes: &[u8]) -> Result<VerifiedArtifact, GovernanceDenial> {
    let (audience, domain, node, scope, node_key) =
        (domain().node_spiffe_id(&node()), domain(), node(), scope(), node_key());
    let expected = Expectation {
        audience: &audience,
        domain: &domain,
        node: &node,
        intent: intent().digest().unwrap(),
        scope: &scope,
        node_key: &node_key,
        epoch_min: 4,
        seq_min: 2,
        continues: Continues::Nothing,
    };
    Artifact::verify_offline(bytes, &keys(ISSUER), &expected, NOW)
}

/// An artifact whose claims set is changed as CBOR before it is signed.
fn claims_with(change: fn(&mut BTreeMap<i64, ciborium::Value>)) -> GovernanceDenial {
    let payload = cbor::to_vec(&Artifact::of(terms(), receipt())).unwrap();
    let mut claims: BTreeMap<i64, ciborium::Value> = cbor::from_slice(&payload, cbor::Caps::bytes(65_536)).unwrap();
    change(&mut claims);
    let payload = cbor::to_vec(&claims).unwrap();
    judged_bytes(&sign1(Purpose::Artifact, &domain(), &payload, &key(ISSUER)).unwrap()).unwrap_err()
}

fn artifact_form_cases() -> Vec<Case> {
    vec![
        ("governance.malformed", || claims_with(|claims| drop(claims.insert(-70_011, 1.into())))),
        ("governance.malformed", || claims_with(|claims| drop(claims.remove(&-70_010)))),
        ("governance.malformed", || claims_with(|claims| drop(claims.remove(&4)))),
        ("governance.malformed", || claims_with(|claims| drop(claims.insert(8, ciborium::Value::Map(vec![]))))),
        ("governance.version", || claims_with(|claims| drop(claims.insert(-70_001, 2.into())))),
        ("governance.field_invalid", || artifact(|terms| terms.subject = domain().verifier_spiffe_id())),
        ("governance.field_invalid", || artifact(|terms| terms.policy.determining = vec![text("r"); 65])),
        ("governance.lifetime", || artifact(|terms| terms.expires_at = terms.not_before)),
        ("governance.lifetime", || artifact(|terms| terms.expires_at = NOW.plus(7_200))),
        ("governance.lease_terms", || artifact(|terms| terms.lease.seq = 0)),
        ("governance.lease_terms", || artifact(|terms| terms.lease.renew_after_ms = terms.lease.duration_ms)),
        ("governance.lease_terms", || artifact(|terms| terms.lease.renew_after_ms = 0)),
        ("governance.lease_terms", || artifact(|terms| terms.lease.duration_ms = LEASE_CAP_MS + 1)),
    ]
}

fn state_cases() -> Vec<Case> {
    vec![
        ("governance.state_stale", || read_state(&state(2, Some(digest("1"))), NOW.plus(600)).unwrap_err()),
        ("governance.not_yet_valid", || read_state(&state(2, Some(digest("1"))), NOW.minus(11)).unwrap_err()),
        ("governance.state_forked", || state_after(2, |_| digest("another past")).unwrap_err()),
        ("governance.state_forked", || state_after(3, |_| digest("another past")).unwrap_err()),
        ("governance.state_rolled_back", || {
            let held = read_state(&state(3, Some(digest("2"))), NOW).unwrap();
            read_state(&state(2, Some(digest("1"))), NOW).unwrap().continues(&held).unwrap_err()
        }),
        ("governance.state_gap", || state_after(4, |held| held).unwrap_err()),
        ("governance.state_mismatch", || {
            read_state(&state(2, Some(digest("1"))), NOW).unwrap().is_the_state(digest("another")).unwrap_err()
        }),
        ("governance.field_invalid", || state(0, None).digest().unwrap_err()),
        ("governance.field_invalid", || state(2, None).digest().unwrap_err()),
        ("governance.field_invalid", || state(1, Some(digest("0"))).digest().unwrap_err()),
        ("governance.bundle_rolled_back", || {
            let held = read_bundle(&bundle(8), NOW).unwrap();
            read_bundle(&bundle(7), NOW).unwrap().supersedes(&held).unwrap_err()
        }),
        ("governance.bundle_forked", || {
            let held = read_bundle(&bundle(8), NOW).unwrap();
            let other = TrustBundle { refresh_hint_s: 301, ..bundle(8) };
            read_bundle(&other, NOW).unwrap().supersedes(&held).unwrap_err()
        }),
        ("governance.bundle_expired", || read_bundle(&bundle(8), NOW.plus(3_600)).unwrap_err()),
        ("governance.bundle_expired", || read_bundle(&bundle(8), NOW).unwrap().in_force(NOW.plus(3_600)).unwrap_err()),
        ("governance.not_yet_valid", || read_bundle(&bundle(8), NOW.minus(61)).unwrap_err()),
        ("governance.lifetime", || {
            let long = TrustBundle { expires_at: NOW.plus(OWN_LIFETIME_CAP_S), ..bundle(8) };
            read_bundle(&long, NOW).unwrap_err()
        }),
        ("governance.field_invalid", || read_bundle(&TrustBundle { issuer: vec![], ..bundle(8) }, NOW).unwrap_err()),
        ("governance.field_invalid", || {
            read_bundle(&TrustBundle { log_origin: "a b".into(), ..bundle(8) }, NOW).unwrap_err()
        }),
    ]
}

fn authority_cases() -> Vec<Case> {
    vec![
        ("governance.threshold_not_met", || read_statement(&statement(), &[11], 9).unwrap_err()),
        ("governance.threshold_not_met", || read_statement(&statement(), &[], 9).unwrap_err()),
        ("governance.threshold_not_met", || read_statement(&statement(), &[11, 11], 9).unwrap_err()),
        ("governance.threshold_not_met", || read_statement(&statement(), &[11, 12, 14], 9).unwrap_err()),
        ("governance.statement_replayed", || read_statement(&statement(), &[11, 12], 10).unwrap_err()),
        ("governance.expired", || {
            read_statement(&Statement { expires_at: NOW, ..statement() }, &[11, 12], 9).unwrap_err()
        }),
        ("governance.not_yet_valid", || {
            read_statement(&Statement { issued_at: NOW.plus(1), ..statement() }, &[11, 12], 9).unwrap_err()
        }),
        ("governance.lifetime", || {
            let long = Statement { expires_at: NOW.plus(31 * 24 * 3600), ..statement() };
            read_statement(&long, &[11, 12], 9).unwrap_err()
        }),
        ("governance.threshold_not_met", || {
            TrustBundle::verify(&[bundle(8).sign(&key(11)).unwrap()], &domain(), &authority(), 86_400, NOW).unwrap_err()
        }),
        ("governance.node", || {
            let signed = halt().sign(&key(NODE)).unwrap();
            HaltRecord::verify(&signed, &domain(), &NodeId::new("n2").unwrap(), &keys(NODE)).unwrap_err()
        }),
        ("governance.signature_invalid", || {
            let signed = halt().sign(&key(9)).unwrap();
            HaltRecord::verify(&signed, &domain(), &node(), &keys(NODE)).unwrap_err()
        }),
        ("governance.field_invalid", || {
            HaltRecord { artifacts: vec![digest("a"); 65], ..halt() }.sign(&key(NODE)).unwrap_err()
        }),
        ("governance.version", || HaltRecord { version: 9, ..halt() }.sign(&key(NODE)).unwrap_err()),
        ("governance.version", || {
            let (version, domain_, revoked, reason) = (2, domain(), Revoked::Node(node()), text("gone"));
            let bent = Revocation { version, domain: domain_, sequence: 1, revoked, reason, issued_at: NOW };
            let signed = bent.sign(&key(ISSUER)).unwrap();
            Revocation::verify(&signed, &domain(), &keys(ISSUER)).unwrap_err()
        }),
    ]
}

/// Judged where nodes, their heads and partners are stored, or a partner's results; their cases stand in the verifier's tests
/// and those of passports.
const OF_THE_VERIFIER: [GovernanceDenialKind; 8] = [
    GovernanceDenialKind::LineageDiscontinuous,
    GovernanceDenialKind::NodeQuarantined,
    GovernanceDenialKind::NodeUnknown,
    GovernanceDenialKind::NodePending,
    GovernanceDenialKind::NodeIdentity,
    GovernanceDenialKind::PartnerUnknown,
    GovernanceDenialKind::PassportTransitive,
    GovernanceDenialKind::PassportResult,
];

/// Found by a node: its tests of domains and verdicts, and those of `key_share`, have the cases.
const OF_THE_NODE: [GovernanceDenialKind; 8] = [
    GovernanceDenialKind::WitnessPolicyAbsent,
    GovernanceDenialKind::PolicyConflict,
    GovernanceDenialKind::KeyIncomplete,
    GovernanceDenialKind::KeyMixed,
    GovernanceDenialKind::KeyRepeated,
    GovernanceDenialKind::KeyShareForeign,
    GovernanceDenialKind::KeyShareInvalid,
    GovernanceDenialKind::KeyUnjoined,
];

#[test]
fn every_denial_has_a_case_with_one_defect() {
    let mut seen: BTreeSet<_> =
        OF_THE_VERIFIER.into_iter().chain(OF_THE_NODE).map(GovernanceDenialKind::code).collect();
    for (at, (code, case)) in cases().into_iter().enumerate() {
        let denial = case();
        assert_eq!(denial.code(), code, "case {at}: {denial}");
        seen.insert(code);
    }
    let all = GovernanceDenialKind::all().map(GovernanceDenialKind::code);
    let missing: Vec<_> = all.filter(|code| !seen.contains(code)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn codes_are_what_they_always_were() {
    let codes: Vec<_> = GovernanceDenialKind::all().map(GovernanceDenialKind::code).collect();
    let golden: Vec<_> = include_str!("denial_codes.txt").lines().collect();
    assert_eq!(codes, golden);
}

#[test]
fn what_is_genuine_is_accepted() {
    let signed = intent().sign(&domain(), &key(NODE)).unwrap();
    let read = Intent::verify(&signed, &domain(), &node(), &keys(NODE)).unwrap();
    assert_eq!((read.intent(), read.digest()), (&intent(), intent().digest().unwrap()));
    assert_eq!((verified().terms(), verified().receipt()), (&terms(), receipt()));
    assert_eq!(verified().terms().digest().unwrap(), terms().digest().unwrap());
    state_after(3, |held| held).unwrap();
    assert_eq!(read_statement(&statement(), &[11, 13], 9).unwrap().statement(), &statement());
    let signed = halt().sign(&key(NODE)).unwrap();
    assert_eq!(HaltRecord::verify(&signed, &domain(), &node(), &keys(NODE)).unwrap(), halt());
    RevocationList::new([(Revoked::Node(NodeId::new("n2").unwrap()), text("gone"))])
        .admits_artifact(verified().terms())
        .unwrap();
}

#[test]
fn keys_count_only_in_their_time() {
    let bundle = read_bundle(&bundle(8), NOW).unwrap();
    let issuers = |at| bundle.keys(Role::Issuer, at).len();
    assert_eq!((issuers(NOW), issuers(NOW.plus(3_599)), issuers(NOW.plus(3_600))), (1, 1, 0));
    assert!(bundle.keys(Role::Witness, NOW).is_empty());
}

#[test]
fn no_bit_of_an_artifact_can_be_changed() {
    let bytes = Artifact::issue(terms(), receipt(), &key(ISSUER)).unwrap();
    judged_bytes(&bytes).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(judged_bytes(&bent).is_err(), "bit {bit}");
    }
}

#[test]
fn registered_claims_have_their_registered_keys() {
    let payload = cbor::to_vec(&Artifact::of(terms(), receipt())).unwrap();
    let claims: BTreeMap<i64, ciborium::Value> = cbor::from_slice(&payload, cbor::Caps::bytes(65_536)).unwrap();
    assert_eq!(claims[&1], ciborium::Value::from("spiffe://a.example/verifier"));
    assert_eq!(claims[&3], ciborium::Value::from("spiffe://a.example/node/n1"));
    assert_eq!(claims[&4], ciborium::Value::from(NOW.plus(60).0));
    assert_eq!(claims[&7], ciborium::Value::Bytes(vec![1; 16]));
    // RFC 8747 §3.2: cnf holds the COSE_Key itself under 1.
    let confirmation = claims[&8].as_map().unwrap();
    assert!(matches!(confirmation.as_slice(), [(label, ciborium::Value::Map(_))] if *label == 1.into()));
}
