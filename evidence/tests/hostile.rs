//! Bytes that no TPM sent: flipped, cut, random. Always a denial, never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Arc;

use evidence::{
    Endorsements, Evidence, EvidenceDenial, TrustAnchors,
    challenge::Challenge,
    digest::HashAlg,
    tpm::{
        EnrolledTpm, Enrolment, PcrValues, Public, Quoted, VerifyingKey, attest::Attest, ek::EkCertificate,
        public::SignatureScheme, signature::Signature,
    },
    verify,
};
use proptest::prelude::*;
use tests::{
    genuine::{Answer, Machine},
    soft_tpm::AkKind,
};

struct Judge {
    machine: Machine,
    anchors: TrustAnchors,
    endorsements: Endorsements,
    challenge: Challenge,
}

impl Judge {
    fn new(kind: AkKind) -> Self {
        let machine = Machine::new(kind);
        let mut challenge = machine.challenge();
        let demands = challenge.demands.tpm_mut().unwrap();
        (demands.event_log, demands.ima_log) = (false, false);
        let anchors = machine.anchors();
        let (_, enrolled) = machine.enrol().unwrap();
        let endorsements = Endorsements::Tpm(machine.endorsement(enrolled));
        Self { machine, anchors, endorsements, challenge }
    }

    fn judge(&self, answer: &Answer) -> Result<(), EvidenceDenial> {
        let evidence = answer.try_evidence()?;
        let authentic = verify(&evidence, &self.endorsements, &self.anchors, self.machine.now)?;
        authentic.bind(&self.challenge, self.machine.now).map(|_| ())
    }
}

/// Every byte string of an answer, by name.
fn parts(answer: &mut Answer) -> [(&'static str, &mut Vec<u8>); 5] {
    [
        ("quote", &mut answer.quote),
        ("signature", &mut answer.signature),
        ("node key", &mut answer.node_key),
        ("certification", &mut answer.certification),
        ("certification signature", &mut answer.certification_signature),
    ]
}

#[test]
fn no_single_bit_flip_of_anything_signed_or_signing_is_accepted() {
    for kind in AkKind::ALL {
        let judge = Judge::new(kind);
        let genuine = judge.machine.answer(&judge.challenge);
        judge.judge(&genuine).unwrap();
        for part in 0..5 {
            let bits = parts(&mut genuine.clone())[part].1.len() * 8;
            for bit in 0..bits {
                let mut answer = genuine.clone();
                let (name, bytes) = &mut parts(&mut answer)[part];
                bytes[bit / 8] ^= 1 << (bit % 8);
                let name = *name;
                assert!(judge.judge(&answer).is_err(), "{kind:?}: bit {bit} of the {name} flipped and accepted");
            }
        }
    }
}

#[test]
fn no_part_is_accepted_cut_or_with_a_byte_more() {
    let judge = Judge::new(AkKind::EcdsaP256);
    let genuine = judge.machine.answer(&judge.challenge);
    for part in 0..5 {
        for length in 0..parts(&mut genuine.clone())[part].1.len() {
            let mut answer = genuine.clone();
            parts(&mut answer)[part].1.truncate(length);
            assert!(judge.judge(&answer).is_err(), "part {part} cut to {length}");
        }
        for extra in [0x00, 0xff] {
            let mut answer = genuine.clone();
            parts(&mut answer)[part].1.push(extra);
            assert!(judge.judge(&answer).is_err(), "part {part} with {extra:#04x}");
        }
    }
}

#[test]
fn no_part_of_another_answer_fits() {
    let judge = Judge::new(AkKind::EcdsaP256);
    let genuine = judge.machine.answer(&judge.challenge);
    let mut other = Machine::default().answer(&judge.challenge);
    for part in 0..5 {
        let mut answer = genuine.clone();
        *parts(&mut answer)[part].1 = parts(&mut other)[part].1.clone();
        assert!(judge.judge(&answer).is_err(), "part {part} of another machine");
    }
    // yesterday's answer, to yesterday's challenge
    let yesterday = Challenge { nonce: [0x99; 32], ..judge.challenge.clone() };
    let replayed = judge.judge(&judge.machine.answer(&yesterday)).unwrap_err();
    assert_eq!(replayed.code(), "evidence.binding_mismatch");
}

#[test]
fn the_wire_form_has_no_second_reading() {
    let judge = Judge::new(AkKind::EcdsaP256);
    let wire = judge.machine.answer(&judge.challenge).evidence().bytes().to_vec();
    for length in 0..wire.len() {
        assert!(Evidence::decode(wire[..length].to_vec()).is_err(), "cut to {length}");
    }
    for bit in 0..wire.len() * 8 {
        let mut flipped = wire.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(evidence) = Evidence::decode(flipped) else { continue };
        let verdict = verify(&evidence, &judge.endorsements, &judge.anchors, judge.machine.now)
            .and_then(|authentic| authentic.bind(&judge.challenge, judge.machine.now).map(|_| ()));
        assert!(verdict.is_err(), "bit {bit} of the wire form");
    }
}

#[test]
fn r_and_s_are_read_by_value_whatever_padding_a_tpm_gives_them() {
    let judge = Judge::new(AkKind::EcdsaP256);
    let Endorsements::Tpm(endorsement) = &judge.endorsements else { panic!("not of a TPM") };
    let message = judge.machine.answer(&judge.challenge).quote;
    // until r has a leading zero byte, which one TPM writes and another does not
    let signature = std::iter::repeat_with(|| judge.machine.ak.sign(&message)).find(|s| s[6] == 0).unwrap();
    let short = [&signature[..4], &[0, 31], &signature[7..]].concat();
    let long = [&signature[..4], &[0, 34, 0, 0], &signature[6..]].concat();
    for signature in [signature, short, long] {
        assert!(endorsement.enrolled.ak().verify(&message, &signature).is_ok());
    }
}

#[test]
fn a_key_is_never_used_for_a_scheme_of_another_kind() {
    for kind in AkKind::ALL {
        let spki = Machine::new(kind).ak.spki();
        let is_rsa = matches!(kind, AkKind::RsaSsa | AkKind::RsaPss);
        for (scheme, wants_rsa) in [
            (SignatureScheme::RsaSsa(HashAlg::Sha256), true),
            (SignatureScheme::RsaPss(HashAlg::Sha384), true),
            (SignatureScheme::EcDsa(HashAlg::Sha256), false),
            (SignatureScheme::EcDsa(HashAlg::Sha384), false),
        ] {
            assert_eq!(VerifyingKey::from_spki(&spki, scheme).is_ok(), is_rsa == wants_rsa, "{kind:?} {scheme}");
        }
        assert!(VerifyingKey::from_spki(&spki[..spki.len() - 1], SignatureScheme::EcDsa(HashAlg::Sha256)).is_err());
    }
}

#[test]
fn a_known_node_key_spares_the_certification_only_for_the_same_bytes() {
    let judge = Judge::new(AkKind::EcdsaP256);
    let answer = judge.machine.answer(&judge.challenge);
    let evidence = answer.evidence();
    let known = Arc::clone(
        verify(&evidence, &judge.endorsements, &judge.anchors, judge.machine.now).unwrap().tpm().unwrap().node_key(),
    );
    let Endorsements::Tpm(mut endorsement) = judge.endorsements.clone() else { panic!("not of a TPM") };
    endorsement.node_key = Some(Arc::clone(&known));
    let warm = Judge { endorsements: Endorsements::Tpm(endorsement), ..judge };
    warm.judge(&answer).unwrap();
    let again = verify(&evidence, &warm.endorsements, &warm.anchors, warm.machine.now).unwrap();
    assert!(Arc::ptr_eq(again.tpm().unwrap().node_key(), &known));
    let mut altered = answer;
    *altered.certification_signature.last_mut().unwrap() ^= 1;
    assert_eq!(warm.judge(&altered).unwrap_err().code(), "evidence.signature_invalid");
}

#[test]
fn an_enrolment_is_for_its_anchors() {
    let machine = Machine::default();
    let (enrolment, enrolled) = machine.enrol().unwrap();
    let mut set = machine.authority.anchor_set();
    set.revoked.insert(evidence::digest::Sha256Digest::of(b"another EK"));
    let changed = TrustAnchors::new(set).unwrap();
    assert_eq!(enrolled.current(&changed, machine.now).unwrap_err().code(), "evidence.enrolment_not_current");
    assert!(EnrolledTpm::verify(&enrolment, &changed, machine.now).unwrap().current(&changed, machine.now).is_ok());
    let stored = enrolment.to_cbor().unwrap();
    assert_eq!(Enrolment::from_cbor(&stored).unwrap(), enrolment);
    for length in 0..stored.len() {
        assert!(Enrolment::from_cbor(&stored[..length]).is_err());
    }
}

proptest! {
    #[test]
    fn readers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), prefix in 0usize..5) {
        let prefixes: [&[u8]; 5] = [
            &[],
            &[0xff, 0x54, 0x43, 0x47, 0x80, 0x18],
            &[0x00, 0x18, 0x00, 0x0b],
            &[0x00, 0x23, 0x00, 0x0b, 0x00, 0x02, 0x04, 0x32],
            &[0x30, 0x82, 0x01, 0x00],
        ];
        let bytes = [prefixes[prefix], &bytes].concat();
        let _ = Attest::read(&bytes);
        let _ = Signature::read(&bytes);
        let _ = Public::read(&bytes);
        let _ = Public::read_area(&bytes);
        let _ = PcrValues::from_cbor(&bytes);
        let _ = Evidence::decode(bytes.clone());
        let _ = VerifyingKey::from_spki(&bytes, SignatureScheme::EcDsa(HashAlg::Sha256));
        let _ = Enrolment::from_cbor(&bytes);
    }
}

#[test]
fn mutated_structures_never_panic() {
    let machine = Machine::default();
    let challenge = machine.challenge();
    let answer = machine.answer(&challenge);
    let (_, enrolled) = machine.enrol().unwrap();
    let anchors = machine.anchors();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let edits = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4);
    runner
        .run(&edits, |edits| {
            let mutate = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                for (at, value) in &edits {
                    let at = at.index(bytes.len());
                    bytes[at] = *value;
                }
                bytes
            };
            let _ = Quoted::verify(&mutate(&answer.quote), &mutate(&answer.signature), enrolled.ak(), &answer.pcrs);
            let _ = Public::read(&mutate(&answer.node_key));
            let chain: Vec<Vec<u8>> = machine.ek_chain.iter().map(|der| mutate(der)).collect();
            let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            let _ = EkCertificate::verify(&chain, &anchors, machine.now);
            Ok(())
        })
        .unwrap();
}

#[test]
fn no_single_bit_flip_of_a_certificate_is_accepted() {
    let machine = Machine::default();
    let anchors = machine.anchors();
    let chain: Vec<&[u8]> = machine.ek_chain.iter().map(Vec::as_slice).collect();
    EkCertificate::verify(&chain, &anchors, machine.now).unwrap();
    for position in 0..3 {
        for bit in 0..chain[position].len() * 8 {
            let mut flipped = chain[position].to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut chain = chain.clone();
            chain[position] = &flipped;
            assert!(
                EkCertificate::verify(&chain, &anchors, machine.now).is_err(),
                "bit {bit} of certificate {position}"
            );
        }
        for length in 0..chain[position].len() {
            let mut cut = chain.clone();
            cut[position] = &chain[position][..length];
            assert!(
                EkCertificate::verify(&cut, &anchors, machine.now).is_err(),
                "certificate {position} cut to {length}"
            );
        }
    }
}
