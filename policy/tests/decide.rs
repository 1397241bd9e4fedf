//! The whole decision on genuine evidence; then one defect at each step, and exactly that step refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod world;

use std::borrow::Cow;
use std::collections::BTreeSet;

use evidence::{
    EvidenceKind,
    challenge::Challenge,
    cose::{KeySet, Purpose, SigningKey, sign1},
    digest::Sha256Digest,
    ledger::CheckLedger,
    names::DomainName,
    time::UnixSeconds,
};
use policy::{
    Denial, DenialClass, PolicyDenial, Trust,
    claims::Question,
    decide,
    denial::{DeniedJson, PolicyDenialKind},
    ear::{PROFILE, Tier},
    explain::explain,
    result::{Answers, AttestationResult, Issuance, Reliance, RelyingResult, ResultFault, ResultRefusal},
};
use tests::genuine::Machine;
use world::{LAB, World, policy_of};

#[test]
fn a_genuine_machine_is_affirmed() {
    let world = World::new();
    let affirmed = world.decide().unwrap();
    assert_eq!(affirmed.claims().environment, "lab");
    assert!(!affirmed.claims().simulated);
    assert_eq!(affirmed.rules()[0].id, "attest-lab");
    assert_eq!(affirmed.machine().node.as_str(), "node-1");
    let json = serde_json::to_value(affirmed.to_json()).unwrap();
    assert_eq!((&json["decision"], &json["claims"]["tpm"]["secure_boot"]), (&"affirmed".into(), &true.into()));
    assert!(explain(&world.evidence, &world.endorsements, &world.challenge, &world.trust, world.now).is_empty());
}

#[test]
fn each_step_refuses_its_own_defect() {
    let mut not_authentic = World::new();
    not_authentic.now = UnixSeconds(u64::MAX);
    assert_eq!(not_authentic.decide().unwrap_err().class(), DenialClass::Evidence);

    let mut not_bound = World::new();
    not_bound.challenge = Challenge { nonce: [0x99; 32], ..not_bound.challenge };
    assert_eq!(not_bound.decide().unwrap_err().code(), "evidence.binding_mismatch");

    let mut machine = Machine::default();
    machine.boot.events.retain(|event| event.measured != b"kernel");
    let not_matched = World::of(&machine, LAB);
    let denial = not_matched.decide().unwrap_err();
    assert_eq!((denial.class(), denial.code()), (DenialClass::Reference, "reference.pcr_unknown"));

    let no = "@id(\"no\") forbid (principal, action, resource);";
    let not_allowed = World::of(&Machine::default(), no);
    let denial = not_allowed.decide().unwrap_err();
    assert_eq!((denial.class(), denial.code()), (DenialClass::Policy, "policy.forbidden"));
}

#[test]
fn a_simulated_machine_is_for_labs_alone() {
    let machine = Machine::default();
    let mut anchors = machine.authority.anchor_set();
    anchors.simulated_tpm_roots = std::mem::take(&mut anchors.tpm_roots);
    let anchors = evidence::TrustAnchors::lab_accepting_simulated(anchors).unwrap();
    let (enrolment, _) = machine.enrol().unwrap();
    let enrolled = evidence::tpm::EnrolledTpm::verify(&enrolment, &anchors, machine.now).unwrap();
    let endorsements = evidence::Endorsements::Tpm(machine.endorsement(enrolled));
    let judged_by = |cedar: &str| {
        let world = World::of(&machine, cedar);
        let basis = world.trust.governance();
        let (values, policy) = (world.trust.reference_values().clone(), world.trust.policy().clone());
        let trust = Trust::new(anchors.clone(), values, policy, basis);
        let verdict = decide(&world.evidence, &endorsements, &world.challenge, &trust, world.now);
        verdict.map(|affirmed| AttestationResult::new(&affirmed, &[], &trust, &issuance()).unwrap())
    };
    let result = judged_by(LAB).unwrap();
    assert_eq!(result.ear().submods["tpm"].vector.hardware, None, "nobody says that it is genuine");
    let Denial::Policy(denial) = judged_by(include_str!("../default.cedar")).unwrap_err() else { panic!() };
    assert_eq!(denial.rule().unwrap().id, "no-simulated-hardware");
}

#[test]
fn every_policy_denial_has_a_case() {
    let world = World::new();
    let affirmed = world.decide().unwrap();
    let ask = |cedar: &str| {
        policy_of(cedar, 2_000_000_000).ask(&Question::Attest { claims: Cow::Borrowed(affirmed.claims()) }).unwrap_err()
    };
    let overflow = "context.claims.now + 9223372036854775807 > 0";
    let cases = [
        (PolicyDenialKind::ChecksIncomplete, {
            let (passed, required) = (CheckLedger::EMPTY, affirmed.ledger());
            PolicyDenial::ChecksIncomplete { passed, required }
        }),
        (PolicyDenialKind::Expired, {
            let set = policy_of(LAB, 1_750_000_000);
            let question = Question::Attest { claims: Cow::Borrowed(affirmed.claims()) };
            assert!(set.ask_at(&question, UnixSeconds(1_749_999_999)).is_ok());
            set.ask_at(&question, UnixSeconds(1_750_000_000)).unwrap_err()
        }),
        (PolicyDenialKind::RequestInvalid, {
            let PolicyDenial::NotPermitted { set, action, .. } =
                ask("@id(\"x\") permit (principal, action == Action::\"release\", resource);")
            else {
                panic!()
            };
            PolicyDenial::RequestInvalid { set, action, what: "no claims".into() }
        }),
        (
            PolicyDenialKind::NotPermitted,
            ask("@id(\"x\") permit (principal, action == Action::\"release\", resource);"),
        ),
        (PolicyDenialKind::Forbidden, ask("@id(\"x\") forbid (principal, action, resource);")),
        (
            PolicyDenialKind::Error,
            ask(&format!(
                "@id(\"x\") forbid (principal, action == Action::\"attest\", resource) when {{ {overflow} }};"
            )),
        ),
    ];
    let mut seen = BTreeSet::new();
    for (kind, denial) in cases {
        assert_eq!(denial.code(), kind.code());
        let failure = Denial::from(denial).failure();
        assert!(!failure.claim.is_empty() && !failure.got.is_empty(), "{failure:?}");
        seen.insert(kind);
    }
    assert_eq!(seen, PolicyDenialKind::all().collect());
}

#[test]
fn a_check_that_never_ran_denies_though_policy_permits() {
    // The machine answers a challenge without logs; a set that needs none matches; but the challenge that is
    // judged asked for them. Only the ledger can tell.
    let machine = Machine::default();
    let world = World::of(&machine, LAB);
    let mut without = world.challenge.clone();
    let demands = without.demands.tpm_mut().unwrap();
    (demands.event_log, demands.ima_log) = (false, false);
    let evidence = machine.answer(&without).evidence();
    let trust = world::trust_by_values_only(&machine);
    assert!(decide(&evidence, &world.endorsements, &without, &trust, world.now).is_ok());
    let denial = decide(&evidence, &world.endorsements, &world.challenge, &trust, world.now).unwrap_err();
    assert_eq!(denial.class(), DenialClass::Evidence, "{denial}");
}

#[test]
fn explain_lists_every_failure_and_the_deciding_one_first() {
    let mut machine = Machine::default();
    machine.boot.files[1].1 = b"another workload".to_vec();
    for event in &mut machine.boot.events {
        if event.measured == b"kernel" {
            event.measured = b"another kernel".to_vec();
        }
    }
    let world = World::of(&machine, LAB);
    let all = explain(&world.evidence, &world.endorsements, &world.challenge, &world.trust, world.now);
    assert_eq!(all.first(), world.decide().err().as_ref());
    let codes: Vec<_> = all.iter().map(Denial::code).collect();
    for code in
        ["reference.pcr_unknown", "reference.event_unknown", "reference.event_missing", "reference.file_changed"]
    {
        assert!(codes.contains(&code), "{code} not in {codes:?}");
    }
    let json = serde_json::to_value(DeniedJson::new(&all)).unwrap();
    assert_eq!(json["decision"], "denied");
    let first = &json["failures"][0];
    assert_eq!(first["claim"], "tpm.pcr.4");
    assert_eq!(first["reference"]["id"], "rack");
    assert!(first["got"].as_str().unwrap().contains("EV_EFI_BOOT_SERVICES_APPLICATION"), "{first}");
    assert!(first["hint"].as_str().unwrap().contains("capture"));
    let keys: BTreeSet<_> = first.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["code", "claim", "got", "accepted", "reference", "hint"]));
}

#[test]
fn explain_sees_past_evidence_that_is_not_authentic() {
    // PCR 4 was extended behind the log's back: the replay decides, the reference values still tell which and how.
    let machine = Machine::default();
    let world = World::of(&machine, LAB);
    let mut draft = machine.draft(&world.challenge);
    let values = draft.pcrs.iter().map(|(pcr, value)| (pcr, if pcr == 4 { value.extend(&[0; 32]) } else { *value }));
    draft.pcrs = evidence::tpm::PcrValues::new(draft.pcrs.bank(), values.collect()).unwrap();
    let clock = machine.clock;
    let quote = evidence::tpm::attest::Attest::read(&machine.sign(&draft).quote).unwrap().extra_data.to_vec();
    draft.quote = machine.quote_draft(&quote, &draft.pcrs, clock);
    let evidence = machine.sign(&draft).evidence();
    let all = explain(&evidence, &world.endorsements, &world.challenge, &world.trust, world.now);
    let codes: Vec<_> = all.iter().map(Denial::code).collect();
    assert_eq!(codes[..2], ["evidence.replay_mismatch", "reference.pcr_unknown"], "{all:#?}");
    let (first, second) = (all[0].failure(), all[1].failure());
    assert_eq!((first.claim.as_str(), second.claim.as_str()), ("tpm.pcr.4", "tpm.pcr.4"));
    assert!(second.got.contains("not in the log"), "{}", second.got);
    assert_eq!(second.reference.unwrap().version, 3);
}

fn issuance() -> Issuance {
    Issuance {
        audience: "spiffe://a.example/node/node-1".into(),
        developer: "attestd".into(),
        build: "0.1.0".into(),
        lifetime_s: 300,
    }
}

#[test]
fn the_same_inputs_give_the_same_result_bytes() {
    let world = World::new();
    let issuer = SigningKey::from_seed(&[5; 32]).unwrap();
    let make = || {
        let affirmed = world.decide().unwrap();
        AttestationResult::new(&affirmed, &[], &world.trust, &issuance()).unwrap().to_cwt(&issuer).unwrap()
    };
    assert_eq!(make(), make());
    let affirmed = world.decide().unwrap();
    let other = World::of(&Machine::default(), &format!("{LAB}\n// another text"));
    let refused = AttestationResult::new(&affirmed, &[], &other.trust, &issuance()).unwrap_err();
    assert!(matches!(refused, ResultFault::OtherTrust { .. }));
}

#[test]
fn a_result_names_what_vouches_for_the_machine_and_nothing_else() {
    let machine = Machine::default();
    let world = World::of(&machine, LAB);
    let affirmed = decide(&world.evidence, &world.endorsements, &world.challenge, &world.trust, world.now).unwrap();
    let result = AttestationResult::new(&affirmed, &[], &world.trust, &issuance()).unwrap();
    let used = &result.ear().submods["tpm"].verifier.endorsed_by;
    let [ek] = used.as_slice() else { panic!("{used:?}") };
    assert_eq!((ek.kind.as_str(), ek.digest), ("ek-certificate", Sha256Digest::of(&machine.ek_chain[0])));
    assert!(ek.age_s > 0 && ek.age_s < world.now.0, "{}", ek.age_s);
    // a TPM alone has no documents of a TEE's vendor
    let refused = AttestationResult::new(&affirmed, used, &world.trust, &issuance()).unwrap_err();
    assert_eq!(refused, ResultFault::Endorsements { kind: EvidenceKind::Tpm, got: 1 });
}

#[test]
fn a_relying_party_takes_only_what_is_affirming_fresh_and_its_own() {
    let world = World::new();
    let affirmed = world.decide().unwrap();
    let issuer = SigningKey::from_seed(&[5; 32]).unwrap();
    let keys = KeySet::new([issuer.public()]);
    let domain = DomainName::new("a.example").unwrap();
    let result = AttestationResult::new(&affirmed, &[], &world.trust, &issuance()).unwrap();
    let cwt = result.to_cwt(&issuer).unwrap();
    let reliance = Reliance {
        domain: &domain,
        keys: &keys,
        audience: "spiffe://a.example/node/node-1",
        answers: Answers::Nonce(&world.challenge.nonce),
        now: world.now,
    };
    let read = RelyingResult::read(&cwt, &reliance).unwrap();
    assert_eq!(read.ear(), result.ear());
    assert_eq!((read.ear().profile.as_str(), read.ear().status), (PROFILE, Tier::Affirming));
    let appraisal = &read.ear().submods["tpm"];
    assert_eq!(appraisal.verifier.ledger, affirmed.ledger().bits());
    assert_eq!((appraisal.vector.hardware, appraisal.vector.runtime_opaque), (Some(2), None));
    assert_eq!((appraisal.vector.instance_identity, appraisal.vector.executables), (Some(2), Some(2)));

    let later = Reliance { now: world.now.plus(300), ..reliance.clone() };
    assert!(matches!(RelyingResult::read(&cwt, &later), Err(ResultRefusal::OutOfTime { .. })));
    let earlier = Reliance { now: world.now.minus(1), ..reliance.clone() };
    assert!(matches!(RelyingResult::read(&cwt, &earlier), Err(ResultRefusal::OutOfTime { .. })));
    let other_nonce = Reliance { answers: Answers::Nonce(&[0; 32]), ..reliance.clone() };
    assert_eq!(RelyingResult::read(&cwt, &other_nonce), Err(ResultRefusal::NonceMismatch));
    let other_audience = Reliance { audience: "spiffe://b.example/node/n", ..reliance.clone() };
    assert!(matches!(RelyingResult::read(&cwt, &other_audience), Err(ResultRefusal::Audience { .. })));
    let stranger = KeySet::new([SigningKey::from_seed(&[6; 32]).unwrap().public()]);
    let other_keys = Reliance { keys: &stranger, ..reliance.clone() };
    assert!(matches!(RelyingResult::read(&cwt, &other_keys), Err(ResultRefusal::Signature(_))));

    let resigned = |change: &dyn Fn(&mut policy::ear::Ear)| {
        let mut ear = result.ear().clone();
        change(&mut ear);
        let payload = evidence::cbor::to_vec(&ear).unwrap();
        let cwt = sign1(Purpose::AttestationResult, &domain, &payload, &issuer).unwrap();
        RelyingResult::read(&cwt, &reliance).unwrap_err()
    };
    assert!(matches!(resigned(&|e| e.profile = "tag:ietf.org,2026:rats/ear#03".into()), ResultRefusal::Profile { .. }));
    assert_eq!(resigned(&|e| e.nonce = None), ResultRefusal::NonceMissing);
    assert_eq!(resigned(&|e| e.status = Tier::Warning), ResultRefusal::Tier { got: Tier::Warning });
    assert_eq!(resigned(&|e| e.submods.clear()), ResultRefusal::Empty);
    assert!(matches!(resigned(&|e| e.issuer = "spiffe://b.example/verifier".into()), ResultRefusal::Issuer { .. }));
    assert!(matches!(resigned(&|e| e.expires_at = u64::MAX), ResultRefusal::OutOfTime { .. }));
    // An affirming status over a vector that is not: the worst claim counts.
    let contradicting = resigned(&|e| e.submods.get_mut("tpm").unwrap().vector.executables = Some(96));
    assert_eq!(contradicting, ResultRefusal::Tier { got: Tier::Contraindicated });
    let other_purpose = sign1(Purpose::Artifact, &domain, &result.to_cbor().unwrap(), &issuer).unwrap();
    assert!(matches!(RelyingResult::read(&other_purpose, &reliance), Err(ResultRefusal::Signature(_))));
}

#[test]
fn claims_that_are_not_known_are_ignored_and_repeated_ones_refused() {
    use std::collections::BTreeMap;
    let world = World::new();
    let affirmed = world.decide().unwrap();
    let result = AttestationResult::new(&affirmed, &[], &world.trust, &issuance()).unwrap();
    let payload = result.to_cbor().unwrap();
    assert_eq!(payload[0], 0xa9, "nine claims");
    // One more pair at the end of the deterministic order: a text key sorts after all integer keys.
    let mut longer = payload.clone();
    longer[0] = 0xaa;
    longer.extend(evidence::cbor::to_vec("x-unknown").unwrap());
    longer.extend(evidence::cbor::to_vec(&BTreeMap::from([("a", 1)])).unwrap());
    let caps = evidence::cbor::Caps::bytes(65_536);
    let read: policy::ear::Ear = evidence::cbor::from_slice(&longer, caps).unwrap();
    assert_eq!(&read, result.ear());
}

#[test]
fn codes_are_stable() {
    let codes = Denial::all_codes();
    let distinct: BTreeSet<_> = codes.iter().collect();
    assert_eq!(distinct.len(), codes.len(), "a code stands twice");
    let listed = include_str!("../../docs/denials.md").lines().filter_map(|line| line.strip_prefix("| `"));
    let golden = listed
        .filter_map(|row| row.split('`').next())
        .filter(|code| !["audit.", "import."].iter().any(|other| code.starts_with(other)));
    let golden: Vec<_> = golden.collect();
    let missing: Vec<_> = golden.iter().filter(|code| !codes.contains(code)).collect();
    assert!(missing.is_empty(), "codes that others rely on are gone: {missing:?}");
    let new: Vec<_> = codes.iter().filter(|code| !golden.contains(code)).collect();
    assert!(new.is_empty(), "add to docs/denials.md and the changelog: {new:#?}");
}
