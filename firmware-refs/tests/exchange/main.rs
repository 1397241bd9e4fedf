//! Sets of other formats become ours, and ours become theirs; with one defect they do not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::disallowed_methods
)]

mod corim;
mod corpus;
mod defects;
mod keylime;
mod snp_measure;

use ciborium::Value;
use evidence::{
    cbor,
    cose::{PublicKey, SigningKey},
    time::UnixSeconds,
};
use firmware_refs::{
    document::SetDocument,
    exchange::signers::{AllowedSigner, Hardware},
};

/// Within the time of the corpus' files and of the sets here.
const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

const TPM: &str = include_str!("tpm.toml");
const SNP: &str = include_str!("snp.toml");
const TDX: &str = include_str!("tdx.toml");

/// A set, its measurements all of this digit.
fn document(set: &str, digit: &str) -> SetDocument {
    let text = set.replace("MEASURED", &digit.repeat(96)).replace("ZERO", &"0".repeat(96));
    toml::from_str(&text).unwrap()
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

fn signer(key: &PublicKey, hardware: &[Hardware]) -> AllowedSigner {
    AllowedSigner { key: key.clone(), environment: "lab".parse().unwrap(), hardware: hardware.to_vec() }
}

fn signers() -> Vec<AllowedSigner> {
    vec![signer(signing_key().public(), &Hardware::ALL)]
}

fn map(pairs: Vec<(i64, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(label, value)| (Value::from(label), value)).collect())
}

fn tag(number: u64, value: Value) -> Value {
    Value::Tag(number, Box::new(value))
}

fn bytes(value: &Value) -> Vec<u8> {
    cbor::to_vec(value).unwrap()
}

/// `#6.506(comid)` of this id, version, links and content of reference triples.
fn comid(id: &str, version: u64, links: Vec<(&str, u8)>, triples: Vec<Value>) -> Value {
    let link = |(to, relation): (&str, u8)| map(vec![(0, Value::from(to)), (1, Value::from(relation))]);
    let mut pairs = vec![
        (1, map(vec![(0, Value::from(id)), (1, Value::from(version))])),
        (4, map(vec![(0, Value::Array(triples))])),
    ];
    if !links.is_empty() {
        pairs.push((3, Value::Array(links.into_iter().map(link).collect())));
    }
    tag(506, Value::Bytes(bytes(&map(pairs))))
}

fn pcr_triple(pcr: u64, digest: [u8; 32]) -> Value {
    let class = map(vec![(0, map(vec![(0, tag(37, Value::Bytes(vec![1; 16])))]))]);
    let digests = Value::Array(vec![Value::Array(vec![Value::from(1), Value::Bytes(digest.to_vec())])]);
    let measurement = map(vec![(0, Value::from(pcr)), (1, map(vec![(2, digests)]))]);
    Value::Array(vec![class, Value::Array(vec![measurement])])
}

const PARSEC: &str = "tag:github.com/parallaxsecond,2023-03-03:tpm";

fn corim_of(profile: &str, tags: Vec<Value>) -> Value {
    let profile = tag(32, Value::from(profile));
    tag(501, map(vec![(0, Value::from("test")), (1, Value::Array(tags)), (3, profile)]))
}

fn pcrs_corim(tags: Vec<Value>) -> Vec<u8> {
    bytes(&corim_of(PARSEC, tags))
}

/// A COSE_Sign1 by the test's key, under this protected header.
fn signed(header: &Value, payload: Vec<u8>) -> Vec<u8> {
    let header = bytes(header);
    let parts =
        ["Signature1".into(), Value::Bytes(header.clone()), Value::Bytes(vec![]), Value::Bytes(payload.clone())];
    let signature = signing_key().sign_raw(&bytes(&Value::Array(parts.to_vec())));
    let parts = vec![Value::Bytes(header), map(vec![]), Value::Bytes(payload), Value::Bytes(signature)];
    bytes(&tag(18, Value::Array(parts)))
}

fn header(alg: i64) -> Value {
    map(vec![(1, Value::from(alg)), (3, Value::from("application/rim+cbor"))])
}
