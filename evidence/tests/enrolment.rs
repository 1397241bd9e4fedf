//! Who may vouch for an EK, and how an enrolment comes to be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;

use evidence::{
    TrustAnchors,
    anchors::{AnchorError, AnchorSet, RootPin},
    digest::Sha256Digest,
    tpm::{
        AkCertificate, Candidate, ClockState, PendingActivation, Public,
        attest::ClockInfo,
        ek::{EkCertificate, EkEndorser},
    },
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use serde_bytes::ByteBuf;
use tests::{
    authority::{Authority, EkCertificateParams},
    genuine::Machine,
};
use zeroize::Zeroizing;

fn anchors(edit: impl FnOnce(&mut AnchorSet)) -> TrustAnchors {
    let mut set = AnchorSet::default();
    edit(&mut set);
    TrustAnchors::new(set).unwrap()
}

fn code(machine: &Machine, anchors: &TrustAnchors) -> &'static str {
    match Candidate::verify(&machine.identity(), anchors, machine.now) {
        Ok(candidate) => match candidate.endorsement().endorser() {
            EkEndorser::Manufacturer(_) => "manufacturer",
            EkEndorser::Simulated(_) => "simulated",
            EkEndorser::Operator => "operator",
        },
        Err(denial) => denial.code(),
    }
}

#[test]
fn an_activation_gives_an_enrolment_for_its_secret_alone() {
    let machine = Machine::default();
    let trusted = machine.anchors();
    let start = || {
        let (secret, randomness) = (Zeroizing::new([0x77; 32]), Zeroizing::new([0x22; 48]));
        PendingActivation::start(machine.identity(), 5, secret, &randomness, &trusted, machine.now).unwrap().0
    };
    let answer = |secret: &[u8]| {
        let proof = machine.enrolment_proof(secret).write();
        let signature = machine.ak.sign(&proof);
        start().complete(secret, &proof, &signature, &trusted, machine.now)
    };
    let (enrolment, enrolled) = answer(&[0x77; 32]).unwrap();
    assert_eq!(enrolled.digest(), enrolment.digest().unwrap());
    assert_eq!(enrolled.baseline().clock_ms, machine.clock.clock_ms - 1_000);
    assert_eq!(*enrolled.ak_name(), machine.ak_public.name());
    assert!(enrolled.validity().0 < machine.now && machine.now < enrolled.validity().1);
    for wrong in [&[0x78; 32][..], &[0x77; 31], &[0x77; 33], &[]] {
        assert_eq!(answer(wrong).unwrap_err().code(), "evidence.activation_secret");
    }
}

#[test]
fn credentials_differ_by_randomness_and_by_object() {
    let machine = Machine::default();
    let credential = |randomness: u8, machine: &Machine| {
        let (secret, randomness) = (Zeroizing::new([0x77; 32]), Zeroizing::new([randomness; 48]));
        PendingActivation::start(machine.identity(), 5, secret, &randomness, &machine.anchors(), machine.now).unwrap().1
    };
    let first = credential(0x22, &machine);
    assert_eq!(first, credential(0x22, &machine), "an ECC credential is a function of its arguments");
    assert_ne!(first.blob, credential(0x23, &machine).blob);
    let mut other = machine;
    other.ak_public.attributes ^= 1 << 6;
    assert_ne!(first.blob, credential(0x22, &other).blob);
    // not a private key of the curve: said, not worked around
    let unusable = PendingActivation::start(
        other.identity(),
        5,
        Zeroizing::new([0; 32]),
        &Zeroizing::new([0xff; 48]),
        &other.anchors(),
        other.now,
    );
    assert_eq!(unusable.err().unwrap().code(), "evidence.key_unusable");
}

#[test]
fn roots_are_pinned_by_certificate_or_by_the_key_of_a_self_signed_one() {
    let machine = Machine::default();
    let certificate = |der: &[u8]| RootPin::Certificate(Sha256Digest::of(der));
    let key = |der: &[u8]| {
        // SubjectPublicKeyInfo stands as it is in the certificate
        let head = [0x30, 0x59, 0x30, 0x13];
        let p256 = der.windows(4).position(|w| w == head).map(|at| &der[at..at + 0x5b]);
        let head = [0x30, 0x76, 0x30, 0x10];
        let p384 = der.windows(4).position(|w| w == head).map(|at| &der[at..at + 0x78]);
        RootPin::PublicKey(Sha256Digest::of(p384.or(p256).unwrap()))
    };
    let (root, intermediate) = (&machine.authority.root, &machine.authority.intermediate);
    let judge = |machine: &Machine, pin| code(machine, &anchors(|set| set.tpm_roots = BTreeSet::from([pin])));
    assert_eq!(judge(&machine, certificate(root)), "manufacturer");
    assert_eq!(judge(&machine, key(root)), "manufacturer");
    let mut short = Machine::default();
    short.ek_chain = machine.ek_chain[..2].to_vec();
    short.ek = machine.ek.clone();
    assert_eq!(judge(&short, certificate(intermediate)), "manufacturer", "a pin ends the chain wherever it stands");
    assert_eq!(judge(&short, key(intermediate)), "evidence.chain_unanchored", "its other fields would be anyone's");
    assert_eq!(judge(&short, certificate(&machine.ek_chain[0])), "evidence.chain_unanchored", "an EK is no root");
}

#[test]
fn issuers_that_a_node_did_not_send_are_found_among_the_imported() {
    let mut machine = Machine::default();
    let authority = Authority::default(); // of the same names, another key
    machine.ek_chain.truncate(1);
    let mut set = machine.authority.anchor_set();
    assert_eq!(code(&machine, &TrustAnchors::new(set.clone()).unwrap()), "evidence.chain_unanchored");
    for der in [&authority.root, &authority.intermediate, &machine.authority.root, &machine.authority.intermediate] {
        set.ca_certificates.insert(ByteBuf::from(der.clone()));
    }
    assert_eq!(code(&machine, &TrustAnchors::new(set.clone()).unwrap()), "manufacturer");
    set.tpm_roots = authority.anchor_set().tpm_roots;
    assert_eq!(
        code(&machine, &TrustAnchors::new(set).unwrap()),
        "evidence.chain_unanchored",
        "imported is not trusted"
    );
}

#[test]
fn an_operator_may_vouch_for_an_ek_but_not_for_its_template() {
    let mut machine = Machine::default();
    let pin =
        |machine: &Machine| anchors(|set| set.pinned_eks = BTreeSet::from([Sha256Digest::of(&machine.ek.write())]));
    assert_eq!(code(&machine, &pin(&machine)), "operator", "its chain leads nowhere we trust");
    machine.ek_chain.clear();
    assert_eq!(code(&machine, &pin(&machine)), "operator");
    machine.ek.attributes |= 1 << 6;
    assert_eq!(code(&machine, &pin(&machine)), "evidence.ek_template");
}

#[test]
fn simulated_tpms_are_accepted_by_a_lab_and_said_to_be_simulated() {
    let mut machine = Machine::default();
    machine.recertify(Authority::default(), |params| params.attributes[1].1 = "swtpm".into());
    let simulated_tpm_roots = machine.authority.anchor_set().tpm_roots;
    let set = AnchorSet { simulated_tpm_roots, ..AnchorSet::default() };
    assert_eq!(TrustAnchors::new(set.clone()).unwrap_err(), AnchorError::Simulated { count: 1 });
    assert_eq!(code(&machine, &TrustAnchors::lab_accepting_simulated(set).unwrap()), "simulated");
    let both = machine.authority.anchor_set();
    assert_eq!(code(&machine, &TrustAnchors::lab_accepting_simulated(both).unwrap()), "evidence.simulated_tpm");
}

#[test]
fn anchors_that_trust_nothing_or_cannot_be_read_are_a_mistake() {
    assert_eq!(TrustAnchors::new(AnchorSet::default()).unwrap_err(), AnchorError::Empty);
    assert_eq!(TrustAnchors::lab_accepting_simulated(AnchorSet::default()).unwrap_err(), AnchorError::Empty);
    let mut set = Authority::default().anchor_set();
    let before = TrustAnchors::new(set.clone()).unwrap().digest();
    set.revoked.insert(Sha256Digest::ZERO);
    assert_ne!(
        TrustAnchors::new(set.clone()).unwrap().digest(),
        before,
        "what is revoked is part of the anchors' name"
    );
    set.ca_certificates = BTreeSet::from([ByteBuf::from(vec![0x30, 0x00])]);
    assert!(matches!(TrustAnchors::new(set).unwrap_err(), AnchorError::Certificate { .. }));
}

#[test]
fn a_certificate_read_from_nv_may_be_padded_with_one_octet_only() {
    let machine = Machine::default();
    for (padding, accepted) in
        [(vec![0xff; 431], true), (vec![0x00; 20], true), (vec![0xff, 0x00], false), (vec![0x20; 4], false)]
    {
        let mut chain = machine.ek_chain.clone();
        chain[0].extend(&padding);
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        assert_eq!(EkCertificate::verify(&chain, &machine.anchors(), machine.now).is_ok(), accepted, "{padding:?}");
    }
}

#[test]
fn a_logged_restart_moves_the_baseline_forward_only() {
    let state = ClockState { reset_count: 3, restart_count: 1, last_clock_ms: 1_000 };
    let clock = |reset_count, restart_count, clock_ms| ClockInfo { clock_ms, reset_count, restart_count, safe: true };
    let moved = state.after_logged_restart(clock(4, 0, 2_000)).unwrap();
    assert_eq!(moved, ClockState { reset_count: 4, restart_count: 0, last_clock_ms: 1_000 });
    assert_eq!(moved.accept(clock(4, 0, 2_000)).unwrap().last_clock_ms, 2_000);
    assert!(state.after_logged_restart(clock(3, 2, 1_000)).is_some());
    for (reset, restart, at) in [(3, 1, 2_000), (3, 0, 2_000), (2, 9, 2_000), (4, 0, 999)] {
        assert!(state.after_logged_restart(clock(reset, restart, at)).is_none(), "{reset} {restart} {at}");
    }
    assert!(state.after_logged_restart(ClockInfo { safe: false, ..clock(4, 0, 2_000) }).is_none());
}

#[test]
fn an_ak_certificate_is_for_its_ak_and_for_signing() {
    let machine = Machine::default();
    let (spki, anchors) = (machine.ak.spki(), machine.anchors());
    let certify = |edit: &dyn Fn(&mut EkCertificateParams)| {
        let mut params = EkCertificateParams::default();
        params.certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
        edit(&mut params);
        machine.authority.chain(machine.authority.certify(&spki, &params))
    };
    let judge = |chain: &[Vec<u8>]| {
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        AkCertificate::verify(&chain, &anchors, machine.now)
    };
    let certificate = judge(&certify(&|_| {})).unwrap();
    let (ak, other) = (machine.ak_public.write(), Machine::default());
    certificate.is_for(&Public::read(&ak).unwrap()).unwrap();
    certificate.is_for_key_info(&spki).unwrap();
    let other_ak = other.ak_public.write();
    assert_eq!(certificate.is_for(&Public::read(&other_ak).unwrap()).unwrap_err().code(), "evidence.ak_key_mismatch");
    assert_eq!(certificate.is_for_key_info(&other.ak.spki()).unwrap_err().code(), "evidence.ak_key_mismatch");
    let refused: [&dyn Fn(&mut EkCertificateParams); 4] = [
        &|params| params.certificate.key_usages = vec![KeyUsagePurpose::KeyAgreement],
        &|params| params.certificate.key_usages.push(KeyUsagePurpose::KeyCertSign),
        &|params| params.certificate.extended_key_usages.clear(),
        &|params| params.certificate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
    ];
    for edit in refused {
        assert_eq!(judge(&certify(edit)).unwrap_err().code(), "evidence.certificate_constraint");
    }
    assert_eq!(judge(&certify(&|_| {})[..1]).unwrap_err().code(), "evidence.chain_unanchored");
    assert_eq!(judge(&[]).unwrap_err().code(), "evidence.missing");
}
