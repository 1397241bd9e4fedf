use std::collections::BTreeMap;

use coset::iana;

use super::*;

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32]).unwrap()
}

fn domain(name: &str) -> DomainName {
    DomainName::new(name).unwrap()
}

fn verify(bytes: &[u8]) -> Result<Signed, CoseDenial> {
    verify1(Purpose::Artifact, &domain("a.example"), bytes, &KeySet::new([key(1).public()]))
}

fn genuine() -> Vec<u8> {
    sign1(Purpose::Artifact, &domain("a.example"), b"payload", &key(1)).unwrap()
}

#[test]
fn a_genuine_statement_verifies_and_is_reproduced_bit_for_bit() {
    let signed = verify(&genuine()).unwrap();
    assert_eq!(signed.payload(), b"payload");
    assert_eq!(signed.signer(), key(1).public().kid());
    assert_eq!(genuine(), genuine());
}

#[test]
fn a_statement_of_every_purpose_can_be_read_back_and_only_as_that() {
    use strum::IntoEnumIterator as _;
    let keys = KeySet::new([key(1).public()]);
    for purpose in Purpose::iter() {
        let bytes = sign1(purpose, &domain("a.example"), b"payload", &key(1)).unwrap();
        for read_as in Purpose::iter() {
            let read = verify1(read_as, &domain("a.example"), &bytes, &keys);
            assert_eq!(read.is_ok(), read_as == purpose, "{purpose:?} read as {read_as:?}: {read:?}");
        }
    }
}

#[test]
fn another_purpose_domain_or_key_is_refused() {
    let keys = KeySet::new([key(1).public()]);
    let other_domain = verify1(Purpose::Artifact, &domain("b.example"), &genuine(), &keys);
    assert!(matches!(other_domain, Err(CoseDenial::Signature { .. })));
    let other_purpose = verify1(Purpose::PolicySet, &domain("a.example"), &genuine(), &keys);
    assert!(matches!(other_purpose, Err(CoseDenial::Purpose { .. })));
    let nobody = verify1(Purpose::Artifact, &domain("a.example"), &genuine(), &KeySet::default());
    assert!(matches!(nobody, Err(CoseDenial::UnknownKey { .. })));
}

#[test]
fn every_single_bit_flip_and_truncation_is_refused() {
    let bytes = genuine();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&flipped).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(verify(&bytes[..length]).is_err(), "length {length}");
    }
    assert!(verify(&[bytes, vec![0]].concat()).is_err());
}

#[test]
fn headers_other_than_ours_are_refused_even_when_signed() {
    let aad = external_aad(Purpose::Artifact, &domain("a.example"));
    let ours = || {
        HeaderBuilder::new()
            .algorithm(iana::Algorithm::EdDSA)
            .content_type(Purpose::Artifact.content_type().to_owned())
            .key_id(key(1).public().kid().0.to_vec())
    };
    let sign = |protected, unprotected| {
        CoseSign1Builder::new()
            .protected(protected)
            .unprotected(unprotected)
            .payload(b"payload".to_vec())
            .create_signature(&aad, |m| key(1).sign_raw(m))
            .build()
    };
    let none = coset::Header::default();
    assert!(verify(&sign(ours().build(), none.clone()).to_tagged_vec().unwrap()).is_ok());
    let refused = [
        sign(ours().add_critical(iana::HeaderParameter::Alg).build(), none.clone()),
        sign(ours().value(1000, ciborium::Value::from(1)).build(), none.clone()),
        sign(ours().algorithm(iana::Algorithm::ES256).build(), none.clone()),
        sign(ours().key_id(vec![1; 15]).build(), none.clone()),
        sign(ours().build(), HeaderBuilder::new().key_id(vec![1]).build()),
        sign(HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build(), none.clone()),
    ];
    for (n, message) in refused.into_iter().enumerate() {
        assert!(verify(&message.to_tagged_vec().unwrap()).is_err(), "{n}");
    }
    let untagged = sign(ours().build(), none).to_vec().unwrap();
    assert!(verify(&untagged).is_err());
}

#[test]
fn public_keys_round_trip_and_other_parameters_are_refused() {
    let public = key(1).public().clone();
    assert_eq!(PublicKey::from_cose_key(public.cose_key()).unwrap(), public);
    let document = key(1).to_pkcs8().unwrap();
    assert_eq!(SigningKey::from_pkcs8(&document).unwrap().public(), &public);
    let extra = cbor::to_vec(&BTreeMap::from([
        (1i64, ciborium::Value::from(1)),
        (-1, ciborium::Value::from(6)),
        (-2, ciborium::Value::Bytes(public.raw().to_vec())),
        (3, ciborium::Value::from(-8)),
    ]))
    .unwrap();
    assert!(PublicKey::from_cose_key(&extra).is_err());
    assert!(PublicKey::ed25519(&[0; 31]).is_err());
    assert!(PublicKey::p256(&[4; 65]).is_err());
}
