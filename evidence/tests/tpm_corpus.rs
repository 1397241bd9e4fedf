//! TPM quotes and vendor certificates of the corpus of genuine evidence named by `ATTEST_CORPUS`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use std::{collections::BTreeSet, path::PathBuf};

use der::Document;
use evidence::{
    EvidenceDenial, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    digest::{Digest, HashAlg, Sha256Digest},
    time::UnixSeconds,
    tpm::{PcrValues, Quoted, VerifyingKey, ek::EkCertificate, public::Public, signature::Signature},
};
use serde_bytes::ByteBuf;
use serde_json::Value;

struct Corpus {
    root: PathBuf,
    cases: Vec<Value>,
}

impl Corpus {
    /// The cases of one kind, or `None` after saying that there is no corpus here.
    fn of(kind: &str) -> Option<Self> {
        let Some(root) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
            println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
            return None;
        };
        let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("MANIFEST.json")).unwrap()).unwrap();
        let cases = manifest["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind).cloned().collect();
        Some(Self { root, cases })
    }

    fn bytes(&self, path: &Value) -> Vec<u8> {
        std::fs::read(self.root.join(path.as_str().unwrap())).unwrap()
    }

    /// DER of a file that may be PEM, with text around it.
    fn der(&self, path: &Value) -> Vec<u8> {
        let bytes = self.bytes(path);
        let Some(begin) = bytes.windows(10).position(|w| w == b"-----BEGIN") else { return bytes };
        let text = std::str::from_utf8(&bytes[begin..]).unwrap();
        Document::from_pem(text).unwrap().1.as_bytes().to_vec()
    }
}

fn values(document: &Value) -> PcrValues {
    let (bank, values) = document["banks"].as_object().unwrap().iter().next().unwrap();
    let mut out: Vec<(u8, Digest)> = values
        .as_object()
        .unwrap()
        .iter()
        .map(|(pcr, value)| (pcr.parse().unwrap(), format!("{bank}:{}", value.as_str().unwrap()).parse().unwrap()))
        .collect();
    out.sort();
    PcrValues::new(HashAlg::from_name(bank).unwrap(), out).unwrap()
}

fn class(denial: &EvidenceDenial) -> &'static str {
    match denial.code() {
        "evidence.signature_invalid" => "signature",
        "evidence.pcr_digest_mismatch" => "binding",
        "evidence.malformed" | "evidence.trailing_bytes" | "evidence.too_large" | "evidence.algorithm_refused" => {
            "parse"
        }
        other => panic!("no class for {other}"),
    }
}

#[test]
fn genuine_quotes_verify_and_each_altered_one_is_refused_for_its_reason() {
    let Some(corpus) = Corpus::of("tpm-quote") else { return };
    for case in &corpus.cases {
        let (id, files, expected) = (case["id"].as_str().unwrap(), &case["files"], &case["expected"]);
        let (message, signature) = (corpus.bytes(&files["message"]), corpus.bytes(&files["signature"]));
        let values = values(&serde_json::from_slice(&corpus.bytes(&files["pcrs"])).unwrap());
        let got = Signature::read(&signature)
            .and_then(|read| VerifyingKey::from_spki(&corpus.der(&files["ak"]), read.scheme))
            .and_then(|key| Quoted::verify(&message, &signature, &key, &values));
        let classes: Vec<_> =
            expected["error_class"].as_array().into_iter().flatten().map(|c| c.as_str().unwrap()).collect();
        match (got, expected["verdict"].as_str().unwrap()) {
            (Ok(quoted), "accept") => {
                let attest = &expected["attest"];
                assert_eq!(hex::encode(quoted.extra_data()), attest["extraData"], "{id}");
                assert_eq!(Value::from(quoted.clock().clock_ms), attest["clock"], "{id}");
                assert_eq!(format!("{:016x}", quoted.firmware_version()), attest["firmwareVersion"], "{id}");
                let want_weak = quoted.selection().bank == HashAlg::Sha1;
                assert_eq!(matches!(quoted.refuse_weak(), Err(EvidenceDenial::WeakHash { .. })), want_weak, "{id}");
                assert!(quoted.refuse_weak().is_err(), "{id}: all of them quote PCR 16 to 23");
            }
            (Ok(quoted), "reject") => {
                assert_eq!(classes, ["nonce"], "{id} accepted");
                assert_ne!(hex::encode(quoted.extra_data()), expected["expect_nonce"], "{id}");
            }
            (Err(denial), "reject") => assert!(classes.contains(&class(&denial)), "{id}: {denial}"),
            (got, verdict) => panic!("{id}: {got:?}, must be {verdict}"),
        }
    }
}

#[test]
fn the_public_area_of_a_genuine_ak_gives_the_same_verdict_as_its_public_key() {
    let Some(corpus) = Corpus::of("tpm-quote") else { return };
    let area = corpus.bytes(&Value::from("tpm/gce-cos85-nonce9009-ak.tpmt"));
    let public = Public::read_area(&area).unwrap();
    let key = VerifyingKey::from_public(&public).unwrap();
    let message = corpus.bytes(&Value::from("tpm/gce-cos85-nonce9009-sha256.msg"));
    let signature = corpus.bytes(&Value::from("tpm/gce-cos85-nonce9009-sha256.sig"));
    assert!(key.verify(&message, &signature).is_ok());
}

#[test]
fn a_genuine_ek_certificate_with_its_padding_chains_to_its_root() {
    let Some(corpus) = Corpus::of("tpm-ek-chain") else { return };
    for case in &corpus.cases {
        let files = &case["files"];
        let ek = corpus.bytes(&files["ek_cert"]);
        let (intermediate, root) = (corpus.der(&files["intermediate"]), corpus.der(&files["root"]));
        let anchors = |root: &[u8]| {
            let tpm_roots = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(root))]);
            TrustAnchors::new(AnchorSet { tpm_roots, ..AnchorSet::default() }).unwrap()
        };
        let at = UnixSeconds(1_704_067_200);
        let certificate = EkCertificate::verify(&[&ek, &intermediate, &root], &anchors(&root), at).unwrap();
        let make = certificate.endorsement().make().unwrap();
        assert_eq!((make.manufacturer.as_str(), make.model.as_str()), ("id:53544D20", "ST33HTPHAHB4"));
        // expired, not anchored, a byte flipped, padding that is none
        assert!(EkCertificate::verify(&[&ek, &intermediate, &root], &anchors(&root), at.plus(200_000_000)).is_err());
        assert!(EkCertificate::verify(&[&ek, &intermediate, &root], &anchors(&intermediate), at).is_err());
        assert!(EkCertificate::verify(&[&ek, &intermediate], &anchors(&root), at).is_err());
        for at_byte in [20, 300, 700, 1000, 1599] {
            let mut altered = ek.clone();
            altered[at_byte] ^= 1;
            assert!(
                EkCertificate::verify(&[&altered, &intermediate, &root], &anchors(&root), at).is_err(),
                "{at_byte}"
            );
        }
    }
}

#[test]
fn vendor_authorities_can_be_read_whatever_rules_of_der_they_break() {
    let Some(corpus) = Corpus::of("x509-cert-store") else { return };
    let mut certificates: BTreeSet<ByteBuf> = corpus
        .cases
        .iter()
        .flat_map(|case| case["files"]["certs"].as_array().unwrap())
        .map(|path| ByteBuf::from(corpus.der(path)))
        .collect();
    certificates.insert(ByteBuf::from(corpus.der(&Value::from("tpm-ca/nuvoton-root-bad-set-order.der"))));
    let count = certificates.len();
    assert!(count > 20);
    let tpm_roots = BTreeSet::from([RootPin::PublicKey(Sha256Digest::ZERO)]);
    let set = AnchorSet { tpm_roots, ca_certificates: certificates, ..AnchorSet::default() };
    assert_eq!(TrustAnchors::new(set).unwrap().set().ca_certificates.len(), count);
}
