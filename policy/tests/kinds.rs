//! A machine of every kind: affirmed, with what its result says; then refused by reference values, by a policy, and for a
//! part that did not come.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::{
    Evidence,
    EvidenceKind::{self, SevSnp, Tdx, Tpm, TpmOnSevSnp, TpmOnTdx},
    challenge::{Challenge, Demands, TdxDemands, TpmDemands, TpmOnTdxDemands},
    cose::{KeySet, SigningKey},
    digest::Sha256Digest,
    names::DomainName,
    verify,
};
use policy::{
    Denial, DenialClass,
    ear::{AttesterClaims, Ear, EndorsementUsed, PROFILE, Tier, TrustVector, VerifierClaims},
    explain::explain,
    result::{Answers, AttestationResult, ENDORSEMENTS_CAP, Issuance, Reliance, RelyingResult, ResultFault},
};
use serde_json::{Value, json};
use tests::subject::{KINDS, Subject};
use world::{LAB, World};

const AUDIENCE: &str = "spiffe://a.example/relying-party";

fn issuance() -> Issuance {
    Issuance { audience: AUDIENCE.into(), developer: "attestd".into(), build: "0.1.0".into(), lifetime_s: 300 }
}

const fn has_tee(kind: EvidenceKind) -> bool {
    match kind {
        Tpm => false,
        SevSnp | Tdx | TpmOnSevSnp | TpmOnTdx => true,
    }
}

const fn has_tpm(kind: EvidenceKind) -> bool {
    match kind {
        SevSnp | Tdx => false,
        Tpm | TpmOnSevSnp | TpmOnTdx => true,
    }
}

/// What a verifier says that it judged a machine of `kind` by.
fn documents(kind: EvidenceKind) -> Vec<EndorsementUsed> {
    let named: &[&str] = match kind {
        Tpm => &[],
        SevSnp | TpmOnSevSnp => &["vcek", "ask", "ark", "snp-crl"],
        Tdx | TpmOnTdx => &["tcb-info", "qe-identity", "intel-root", "root-ca-crl", "pck-ca", "pck-crl"],
    };
    let used = |(age_s, kind): (u64, &&str)| EndorsementUsed {
        kind: (*kind).to_owned(),
        digest: Sha256Digest::of(kind.as_bytes()),
        age_s,
    };
    (1..).zip(named).map(used).collect()
}

/// What AR4SI's vector must say of a machine of `kind`, all of whose parts were proven.
fn vector(kind: EvidenceKind, is_simulated: bool) -> TrustVector {
    TrustVector {
        instance_identity: Some(2),
        configuration: Some(2),
        // the IMA log tells what ran after the boot; guests without a TPM have none
        executables: Some(if has_tpm(kind) { 2 } else { 3 }),
        file_system: None,
        hardware: (!is_simulated).then_some(2),
        runtime_opaque: (has_tee(kind) && !is_simulated).then_some(2),
        storage_opaque: None,
        sourced_data: None,
    }
}

/// First registers of each part.
fn registers(kind: EvidenceKind) -> Vec<&'static str> {
    let (tpm, snp): (&[_], &[_]) = (&["pcr.0", "pcr.7", "pcr.10"], &["measurement", "host_data"]);
    let tdx: &[_] = &["mrtd", "rtmr.0", "rtmr.3", "mrconfigid"];
    match kind {
        Tpm => tpm.to_vec(),
        SevSnp => snp.to_vec(),
        Tdx => tdx.to_vec(),
        TpmOnSevSnp => [tpm, snp].concat(),
        TpmOnTdx => [tpm, tdx].concat(),
    }
}

/// The claims set in JSON holds the same claims, each under its name in the draft and in a form that JSON keeps exactly.
fn json_says_the_same(ear: &Ear) {
    let bytes = ear.to_json().unwrap();
    assert_eq!(bytes, ear.clone().to_json().unwrap());
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    let (name, appraisal) = ear.submods.first_key_value().unwrap();
    let nonce = ear.nonce.as_ref().map(|nonce| URL_SAFE_NO_PAD.encode(&nonce.0));
    let of_json = &json["submods"][name];
    let mut expected = json!({
        "eat_profile": PROFILE, "iss": ear.issuer, "aud": ear.audience, "iat": ear.issued_at, "exp": ear.expires_at,
        "eat_nonce": nonce, "ear_status": "affirming",
        "ear_verifier_id": {"developer": ear.verifier.developer, "build": ear.verifier.build},
        "submods": {name: {
            "ear_status": "affirming",
            "ear_trustworthiness_vector": appraisal.vector.named().collect::<BTreeMap<_, _>>(),
            "ear_appraisal_policy_ids": appraisal.policies,
        }},
    });
    for claims in ["ear_attester_claims", "ear_verifier_claims"] {
        assert!(is_exact(&of_json[claims]), "{claims}: {of_json}");
        expected["submods"][name][claims] = of_json[claims].clone();
    }
    assert_eq!(json, expected);
    let attester: AttesterClaims = serde_json::from_value(of_json["ear_attester_claims"].clone()).unwrap();
    let verifier: VerifierClaims = serde_json::from_value(of_json["ear_verifier_claims"].clone()).unwrap();
    assert_eq!((&attester, &verifier), (&appraisal.attester, &appraisal.verifier));
}

/// Whether every number in it survives a reader that has doubles alone.
fn is_exact(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_some_and(|number| number < 1 << 53),
        Value::Array(items) => items.iter().all(is_exact),
        Value::Object(fields) => fields.values().all(is_exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

#[test]
fn every_kind_is_affirmed_and_its_result_says_what_was_proven() {
    let issuer = SigningKey::from_seed(&[5; 32]).unwrap();
    let (keys, domain) = (KeySet::new([issuer.public()]), DomainName::new("a.example").unwrap());
    for (kind, is_simulated) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, has_tee(kind))]) {
        let mut subject = Subject::of(kind);
        if has_tee(kind) && !is_simulated {
            subject.pin_as_the_vendors();
        }
        let world = World::judging(&subject, &subject, LAB);
        let affirmed = world.decide().unwrap_or_else(|denial| panic!("{kind}: {denial}"));
        assert!(world.explain().is_empty(), "{kind}");
        let authentic = verify(&world.evidence, &world.endorsements, world.trust.anchors(), world.now).unwrap();
        let required = authentic.bind(&world.challenge, world.now).unwrap().required();
        assert_eq!(affirmed.ledger(), required, "{kind}");

        let claims = affirmed.claims();
        assert_eq!((claims.kind.as_str(), claims.simulated), (kind.name(), is_simulated));
        assert_eq!(
            (claims.tpm.is_some(), claims.snp.is_some() || claims.tdx.is_some()),
            (has_tpm(kind), has_tee(kind))
        );
        let json = serde_json::to_value(affirmed.to_json()).unwrap();
        assert_eq!((&json["decision"], &json["claims"]["kind"]), (&"affirmed".into(), &kind.name().into()));

        let documents = documents(kind);
        let result = AttestationResult::new(&affirmed, &documents, &world.trust, &issuance()).unwrap();
        let cwt = result.to_cwt(&issuer).unwrap();
        let again = world.result(&documents, &issuance());
        assert_eq!(again.to_cwt(&issuer).unwrap(), cwt, "{kind}: the same bytes from the same inputs");
        let answers = Answers::Nonce(&affirmed.challenge().nonce);
        let reliance =
            Reliance { domain: &domain, keys: &keys, audience: AUDIENCE, answers, now: affirmed.judged_at() };
        let read = RelyingResult::read(&cwt, &reliance).unwrap();
        assert_eq!(read.ear(), result.ear(), "{kind}");
        json_says_the_same(result.ear());
        let parts: Vec<_> = read.ear().submods.keys().map(String::as_str).collect();
        assert_eq!((read.ear().status, parts), (Tier::Affirming, vec![kind.name()]));

        let appraisal = &read.ear().submods[kind.name()];
        assert_eq!((appraisal.status, &appraisal.vector), (Tier::Affirming, &vector(kind, is_simulated)), "{kind}");
        assert_eq!(appraisal.policies, ["a.example/lab@2"]);
        let attester = &appraisal.attester;
        assert_eq!((attester.kind, attester.node.as_str()), (kind, claims.node.as_str()));
        assert_eq!((attester.tpm.is_some(), attester.platform.is_some()), (has_tpm(kind), has_tee(kind)), "{kind}");
        assert_eq!(attester.node_key, Sha256Digest::of(affirmed.machine().node_key.cose_key()));
        let named: BTreeSet<_> = attester.registers.keys().map(ToString::to_string).collect();
        assert!(registers(kind).iter().all(|register| named.contains(*register)), "{kind}: {named:?}");
        let verifier = &appraisal.verifier;
        assert_eq!((verifier.ledger, verifier.evidence), (required.bits(), affirmed.basis().evidence));
        let of_vendors = verifier.endorsed_by.iter().skip(usize::from(has_tpm(kind)));
        assert!(of_vendors.eq(&documents), "{kind}: {:?}", verifier.endorsed_by);
        let first = verifier.endorsed_by.first().map(|used| used.kind == "ek-certificate");
        assert_eq!(first, Some(has_tpm(kind)), "{kind}");
    }
}

#[test]
fn a_result_names_some_documents_of_a_tee_and_not_any_number() {
    for kind in KINDS {
        let world = World::judging(&Subject::of(kind), &Subject::of(kind), LAB);
        let affirmed = world.decide().unwrap();
        let one = EndorsementUsed { kind: "ark".into(), digest: Sha256Digest::ZERO, age_s: 0 };
        let none = if has_tee(kind) { vec![] } else { vec![one.clone()] };
        for wrong in [none, vec![one; ENDORSEMENTS_CAP + 1]] {
            let refused = AttestationResult::new(&affirmed, &wrong, &world.trust, &issuance()).unwrap_err();
            assert_eq!(refused, ResultFault::Endorsements { kind, got: wrong.len() });
        }
    }
}

fn another_kernel(subject: &mut Subject) {
    let kernel = subject.tpm().boot.events.iter_mut().find(|event| event.measured == b"kernel").unwrap();
    kernel.measured = b"another kernel".to_vec();
}

fn older_tcb(subject: &mut Subject) {
    let machine = &mut subject.snp().machine;
    let mut tcb = machine.vek_tcb;
    tcb.snp -= 1;
    machine.set_tcb(tcb);
}

/// A machine that is not as known, in one thing: its code, the claim, and what `explain` says of it.
type Change = (EvidenceKind, fn(&mut Subject), &'static str, &'static str);

const CHANGES: &[Change] = &[
    (Tpm, another_kernel, "reference.pcr_unknown", "tpm.pcr.4"),
    (SevSnp, |s| s.snp().machine.fields.measurement[0] ^= 1, "reference.measurement_unknown", "snp.measurement"),
    (SevSnp, older_tcb, "reference.tcb_too_low", "snp.tcb.reported.snp"),
    (Tdx, |s| s.tdx().machine.quote.body.mr_td[0] ^= 1, "reference.measurement_unknown", "tdx.mrtd"),
    (Tdx, |s| s.tdx().machine.quote.body.tee_tcb_svn[0] = 4, "reference.tcb_status_refused", "tdx.tcb_status"),
    (TpmOnSevSnp, another_kernel, "reference.pcr_unknown", "tpm.pcr.4"),
    (TpmOnSevSnp, |s| s.snp().machine.fields.host_data[0] ^= 1, "reference.measurement_unknown", "snp.host_data"),
    (TpmOnSevSnp, older_tcb, "reference.tcb_too_low", "snp.tcb.reported.snp"),
    (TpmOnTdx, another_kernel, "reference.pcr_unknown", "tpm.pcr.4"),
    (TpmOnTdx, |s| s.tdx().machine.quote.body.mr_config_id[0] ^= 1, "reference.measurement_unknown", "tdx.mrconfigid"),
    (TpmOnTdx, |s| s.tdx().machine.quote.body.tee_tcb_svn[0] = 4, "reference.tcb_status_refused", "tdx.tcb_status"),
];

#[test]
fn every_kind_is_refused_by_reference_values_and_told_why() {
    for (kind, change, code, claim) in CHANGES {
        let mut changed = Subject::of(*kind);
        change(&mut changed);
        let world = World::judging(&changed, &Subject::of(*kind), LAB);
        let denial = world.decide().unwrap_err();
        assert_eq!((denial.class(), denial.code()), (DenialClass::Reference, *code), "{kind} {claim}: {denial}");
        let all = world.explain();
        assert_eq!(all.first(), Some(&denial), "{kind}");
        assert!(all.iter().all(|denial| denial.class() == DenialClass::Reference), "{kind}: {all:?}");
        let failure = denial.failure();
        assert_eq!(failure.claim, *claim);
        let reference = failure.reference.as_ref().unwrap();
        assert_eq!((reference.id.as_str(), reference.version), ("rack", 3));
        assert!(!failure.got.is_empty() && !failure.accepted.is_empty(), "{kind} {claim}: {failure:?}");
        assert!(!failure.accepted.contains(&failure.got), "{kind} {claim}: both sides say {}", failure.got);
        assert!(failure.hint.is_some_and(|hint| !hint.is_empty()), "{kind} {claim}");
    }
    let tried: BTreeSet<_> = CHANGES.iter().map(|(kind, ..)| kind.name()).collect();
    assert_eq!(tried, KINDS.map(EvidenceKind::name).into(), "a kind without a case");
}

#[test]
fn every_kind_is_refused_by_a_policy_about_its_own_facts() {
    let facts = [
        (Tpm, "context.claims has tpm && context.claims.tpm.event_log"),
        (SevSnp, "context.claims has snp && context.claims.snp.vmpl == 0"),
        (Tdx, "context.claims has tdx && context.claims.tdx.tcb_status == \"UpToDate\""),
        (TpmOnSevSnp, "context.claims has tpm && context.claims has snp && context.claims.snp.smt"),
        (TpmOnTdx, "context.claims has tpm && context.claims has tdx && context.claims.tdx.event_log"),
    ];
    for (kind, fact) in facts {
        for condition in [fact, &format!("context.claims.kind == \"{kind}\"")] {
            let rule = "@id(\"not-here\") @reason(\"not in this rack\") @hint(\"move it\")";
            let cedar = format!(
                "{LAB}\n{rule} forbid (principal, action == Action::\"attest\", resource) when {{ {condition} }};"
            );
            let world = World::judging(&Subject::of(kind), &Subject::of(kind), &cedar);
            let denial = world.decide().unwrap_err();
            assert_eq!(denial.code(), "policy.forbidden", "{kind} {condition}: {denial}");
            assert_eq!(world.explain(), vec![denial.clone()], "{kind}");
            let failure = denial.failure();
            assert_eq!(failure.got, "forbidden by not-here: not in this rack");
            assert_eq!((failure.claim.as_str(), failure.hint.as_deref()), ("policy.attest", Some("move it")));
            assert_eq!(failure.reference.unwrap().id, "lab");
        }
    }
}

#[test]
fn simulated_hardware_is_for_labs_and_the_vendors_own_for_all() {
    let production = include_str!("../default.cedar");
    for kind in KINDS.into_iter().filter(|kind| has_tee(*kind)) {
        let mut subject = Subject::of(kind);
        let world = World::judging(&subject, &subject, production);
        let Err(Denial::Policy(denial)) = world.decide() else { panic!("{kind}") };
        assert_eq!(denial.rule().unwrap().id, "no-simulated-hardware", "{kind}");
        subject.pin_as_the_vendors();
        World::judging(&subject, &subject, production).decide().unwrap_or_else(|denial| panic!("{kind}: {denial}"));
    }
}

/// The challenge without the logs that it asks for.
fn without_logs(challenge: &Challenge) -> Challenge {
    let no_log = |tpm: &TpmDemands| TpmDemands { event_log: false, ima_log: false, ..tpm.clone() };
    let demands = match &challenge.demands {
        Demands::Tpm(tpm) => Demands::Tpm(no_log(tpm)),
        Demands::SevSnp => Demands::SevSnp,
        Demands::Tdx(_) => Demands::Tdx(TdxDemands { event_log: false }),
        Demands::TpmOnSevSnp(tpm) => Demands::TpmOnSevSnp(no_log(tpm)),
        Demands::TpmOnTdx(TpmOnTdxDemands { tpm, ccel }) => {
            Demands::TpmOnTdx(TpmOnTdxDemands { tpm: no_log(tpm), ccel: *ccel })
        }
    };
    Challenge { demands, ..challenge.clone() }
}

#[test]
fn a_part_that_was_asked_for_and_did_not_come_denies_though_values_and_policy_need_none_of_it() {
    for kind in [Tpm, TpmOnSevSnp, TpmOnTdx] {
        let subject = Subject::of(kind);
        let world = World::without_logs(&subject, LAB);
        let less = without_logs(&world.challenge);
        let evidence = subject.evidence(&less);
        let judged = |challenge| policy::decide(&evidence, &world.endorsements, challenge, &world.trust, world.now);
        judged(&less).unwrap_or_else(|denial| panic!("{kind}: {denial}"));
        assert_eq!(judged(&world.challenge).unwrap_err().code(), "evidence.missing", "{kind}");
    }
}

#[test]
fn explain_sees_past_evidence_that_is_not_authentic() {
    // no answer to the challenge, and changed besides
    for (kind, change, code, _) in CHANGES.iter().filter(|(_, _, code, _)| *code != "reference.tcb_status_refused") {
        let mut changed = Subject::of(*kind);
        change(&mut changed);
        let mut world = World::judging(&changed, &Subject::of(*kind), LAB);
        world.challenge.nonce[0] ^= 1;
        let denial = world.decide().unwrap_err();
        assert_eq!(denial.code(), "evidence.binding_mismatch", "{kind}");
        let codes: Vec<_> = world.explain().iter().map(Denial::code).collect();
        assert_eq!(codes.first(), Some(&denial.code()), "{kind}");
        // what a trust domain is worth is not known before its quote is proven, so nothing is said of it
        let is_told = match kind {
            Tpm | SevSnp | TpmOnSevSnp => true,
            Tdx | TpmOnTdx => false,
        };
        assert_eq!(codes.contains(code), is_told, "{kind}: {codes:?}");
    }
}

#[test]
fn no_kind_is_judged_by_the_values_or_endorsements_of_another() {
    for of in KINDS {
        let subject = Subject::of(of);
        for other in KINDS.into_iter().filter(|other| *other != of) {
            let world = World::judging(&Subject::of(other), &Subject::of(other), LAB);
            let evidence: Evidence = subject.evidence(&subject.challenge());
            let denial = policy::decide(&evidence, &world.endorsements, &world.challenge, &world.trust, world.now);
            assert_eq!(denial.unwrap_err().code(), "evidence.kind_unexpected", "{of} as {other}");
            let denials = explain(&evidence, &world.endorsements, &world.challenge, &world.trust, world.now);
            assert_eq!(denials[0].code(), "evidence.kind_unexpected");
            let values = World::judging(&subject, &Subject::of(other), LAB);
            assert_eq!(values.decide().unwrap_err().code(), "reference.kind_unknown", "{of} by values of {other}");
        }
    }
}
