//! One defect each, from a genuine JWT-SVID on.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use evidence::cose::PublicKey;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fixture::NOW;

const AUDIENCE: &str = "spiffe://b.example/ledger";
const ID: &str = "spiffe://a.example/node/n1/workload/billing";

struct Signer {
    pair: EcdsaKeyPair,
    record: KeyRecord,
}

impl Signer {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = PublicKey::p256(pair.public_key().as_ref()).unwrap();
        Self { pair, record: KeyRecord { key, from: NOW.minus(10), until: NOW.plus(1_000) } }
    }

    fn header(&self) -> Value {
        json!({ "alg": "ES256", "kid": self.record.key.kid().to_string(), "typ": "JWT" })
    }

    fn token(&self, header: &Value, claims: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn of(&self, claims: &Value) -> String {
        self.token(&self.header(), &claims.to_string())
    }

    fn judged(&self, token: &str) -> Result<JwtSvid, &'static str> {
        let keys = [self.record.clone()];
        let read = ClaimedJwtSvid::read(token).and_then(|claimed| claimed.verify(&keys, AUDIENCE, NOW));
        read.map_err(|denial| denial.code())
    }
}

fn claims() -> Value {
    let audiences = [AUDIENCE.to_owned(), "other".to_owned()];
    serde_json::to_value(Claims { sub: ID, aud: &audiences, exp: NOW.plus(30), iat: NOW }).unwrap()
}

fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[claim] = value;
    claims
}

fn without(claim: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(claim);
    claims
}

#[test]
fn what_is_genuine_is_accepted_with_all_its_claims() {
    let signer = Signer::new();
    let token = signer.of(&with("extra", json!({ "a": [1, null] })));
    assert_eq!(ClaimedJwtSvid::read(&token).unwrap().domain().as_str(), "a.example");
    let svid = signer.judged(&token).unwrap();
    assert_eq!((svid.spiffe_id(), svid.expires_at()), (ID, NOW.plus(30)));
    assert_eq!(svid.audiences(), [AUDIENCE, "other"]);
    assert_eq!(Value::Object(svid.into_claims())["extra"], json!({ "a": [1, null] }));
    let mut untyped = signer.header();
    untyped.as_object_mut().unwrap().remove("typ");
    signer.judged(&signer.token(&untyped, &claims().to_string())).unwrap();
}

#[test]
fn a_header_that_asks_for_anything_else_is_refused() {
    let signer = Signer::new();
    let bent = |member: &str, value: Value| {
        let mut header = signer.header();
        header[member] = value;
        signer.judged(&signer.token(&header, &claims().to_string())).unwrap_err()
    };
    for (member, value, code) in [
        ("alg", json!("none"), "governance.field_invalid"),
        ("alg", json!("HS256"), "governance.field_invalid"),
        ("alg", json!("ES384"), "governance.field_invalid"),
        ("alg", json!(null), "governance.malformed"),
        ("typ", json!("at+jwt"), "governance.field_invalid"),
        ("kid", json!("0".repeat(32)), "governance.signature_invalid"),
        ("kid", json!("\u{1b}[31m"), "governance.field_invalid"),
        ("kid", json!(null), "governance.malformed"),
        ("crit", json!(["b64"]), "governance.malformed"),
        ("jwk", json!({}), "governance.malformed"),
    ] {
        assert_eq!(bent(member, value.clone()), code, "{member} {value}");
    }
}

#[test]
fn a_claim_that_is_missing_or_not_met_is_refused() {
    let signer = Signer::new();
    for (claims, code) in [
        (without("sub"), "governance.malformed"),
        (without("aud"), "governance.malformed"),
        (without("exp"), "governance.malformed"),
        (with("sub", json!("spiffe://a.example")), "governance.field_invalid"),
        (with("sub", json!("spiffe://a.example/")), "governance.field_invalid"),
        (with("sub", json!("spiffe://a.example/a/../b")), "governance.field_invalid"),
        (with("sub", json!("spiffe://A.example/a")), "governance.field_invalid"),
        (with("sub", json!("https://a.example/a")), "governance.field_invalid"),
        (with("sub", json!(format!("spiffe://a.example/{}", "a".repeat(2048)))), "governance.field_invalid"),
        (with("aud", json!([])), "governance.audience"),
        (with("aud", json!(["other"])), "governance.audience"),
        (with("exp", json!(NOW.0)), "governance.expired"),
        (with("exp", json!(-1)), "governance.malformed"),
        (with("nbf", json!(NOW.0 + 1)), "governance.not_yet_valid"),
        (with("pad", json!("x".repeat(JWT_SVID_CAP_BYTES))), "governance.too_large"),
    ] {
        assert_eq!(signer.judged(&signer.of(&claims)), Err(code), "{claims}");
    }
    let twice = claims().to_string().replacen('{', r#"{"exp":9999999999,"#, 1);
    assert_eq!(signer.judged(&signer.token(&signer.header(), &twice)), Err("governance.malformed"));
}

#[test]
fn no_other_key_no_other_time_and_no_other_bytes() {
    let (signer, other) = (Signer::new(), Signer::new());
    let token = signer.of(&claims());
    assert_eq!(other.judged(&token), Err("governance.signature_invalid"));
    let stolen = other.token(&signer.header(), &claims().to_string());
    assert_eq!(signer.judged(&stolen), Err("governance.signature_invalid"));
    for (from, until) in [(NOW.plus(1), NOW.plus(2)), (NOW.minus(2), NOW)] {
        let record = KeyRecord { from, until, ..signer.record.clone() };
        let judged = ClaimedJwtSvid::read(&token).unwrap().verify(&[record], AUDIENCE, NOW);
        assert_eq!(judged.unwrap_err().code(), "governance.signature_invalid");
    }
    for at in 0..token.len() {
        let mut bent = token.clone().into_bytes();
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        assert!(signer.judged(std::str::from_utf8(&bent).unwrap()).is_err(), "byte {at}");
    }
    for cut in ["", ".", "..", "a.b", "a.b.c", &token[..token.len() - 1], &format!("{token}.a"), &format!("{token}=")] {
        assert!(signer.judged(cut).is_err(), "{cut}");
    }
}

#[test]
fn audiences_are_few_short_and_printable() {
    let of = |audiences: &[&str]| {
        let audiences: Vec<String> = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        admit_audiences(&audiences).map_err(|denial| denial.code())
    };
    let (longest, longer) = ("a".repeat(256), "a".repeat(257));
    assert_eq!((of(&[AUDIENCE]), of(&[longest.as_str(); 8])), (Ok(()), Ok(())));
    for refused in [&[][..], &[""], &["a"; 9], &[longer.as_str()], &["a\n"], &["ä"]] {
        assert_eq!(of(refused), Err("governance.field_invalid"), "{refused:?}");
    }
}

#[test]
fn the_longest_that_may_be_asked_for_is_short_enough_to_be_read() {
    let signer = Signer::new();
    let audiences = vec!["\"".repeat(AUDIENCE_CAP_BYTES); AUDIENCES_CAP];
    admit_audiences(&audiences).unwrap();
    let id = format!("spiffe://{0}/node/{0}/workload/{0}", "a".repeat(64));
    let claims = serde_json::to_value(Claims { sub: &id, aud: &audiences, exp: NOW.plus(30), iat: NOW }).unwrap();
    ClaimedJwtSvid::read(&signer.of(&claims)).unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,300}", header in "[ -~]{0,80}", claims in "[ -~]{0,160}") {
        let _ = ClaimedJwtSvid::read(&text);
        let token = format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        prop_assert!(ClaimedJwtSvid::read(&token).is_err());
    }
}
