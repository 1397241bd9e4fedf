//! Attestation Results as JWT, read as a relying party does that knows the published keys and nothing of ours.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::cbor::{self, Caps};
use policy::ear::Ear;
use serde_json::{Value, json};
use verifier::governor::OrderRefusal;

use crate::appraise::{newest, ready};

/// Claims of a token that a key of the set signed (RFC 7515 §5.2, RFC 7517, RFC 7518 §3.4); `None` for any other.
fn read(token: &str, keys: &Value) -> Option<Value> {
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Value = serde_json::from_slice(&decoded(header)?).ok()?;
    let key = keys["keys"].as_array()?.iter().find(|key| key["kid"] == header["kid"])?;
    let is_meant = [&header["alg"], &key["alg"]].into_iter().all(|alg| alg == "ES256") && key["use"] == "sig";
    let coordinate = |name: &str| decoded(key[name].as_str()?);
    let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &decoded(signature)?).ok().filter(|()| is_meant)?;
    serde_json::from_slice(&decoded(claims)?).ok()
}

#[tokio::test]
async fn a_result_is_read_by_the_published_key_and_says_what_the_node_was_given() {
    let (bed, mut node, mut stream) = ready().await;
    let request = node.authorize(&node.intent(&["db"]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    let index = newest(&bed, "authorization").await;

    let answer = bed.get("/jwks.json").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/jwk-set+json"), "{head}");
    let keys: Value = serde_json::from_str(body).unwrap();
    let [key] = keys["keys"].as_array().unwrap().as_slice() else { panic!("{keys}") };
    // RFC 7638 §3.1: the required members in order, without white space
    let required = json!({"crv": key["crv"], "kty": key["kty"], "x": key["x"], "y": key["y"]}).to_string();
    assert_eq!(key["kid"], URL_SAFE_NO_PAD.encode(digest(&SHA256, required.as_bytes())));

    let document = bed.desk.result_jwt(index).await.unwrap();
    let token = document["jwt"].as_str().unwrap();
    let claims = read(token, &keys).expect("signed by the published key");
    assert_eq!((&claims, &document["kid"]), (&document["claims"], &key["kid"]));
    let payload = evidence::cose::claimed_payload(&granted.result).unwrap();
    let ear: Ear = cbor::from_slice(&payload, Caps::bytes(payload.len())).unwrap();
    assert_eq!(claims, serde_json::from_slice::<Value>(&ear.to_json().unwrap()).unwrap());
    assert_eq!(claims["ear_status"], "affirming");
    assert_eq!(claims["submods"]["tpm"]["ear_attester_claims"]["node"], node.machine.node_id.as_str());
    let again = bed.desk.result_jwt(index).await.unwrap();
    let signed = |token: &str| token.rsplit_once('.').unwrap().0.to_owned();
    assert_eq!(signed(again["jwt"].as_str().unwrap()), signed(token), "the same result, the same claims");

    for at in (0..token.len()).step_by(17) {
        let mut bent = token.as_bytes().to_vec();
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(read(std::str::from_utf8(&bent).unwrap(), &keys), None, "byte {at}");
    }
    let strangers = json!({"keys": [{"kid": key["kid"], "alg": "ES256", "use": "sig", "x": key["y"], "y": key["x"]}]});
    assert_eq!(read(token, &strangers), None);

    // what affirmed nothing has no result, and neither has what was never logged
    let enrolment = newest(&bed, "enrolment").await;
    assert!(matches!(bed.desk.result_jwt(enrolment).await, Err(OrderRefusal::Malformed(_))));
    assert!(matches!(bed.desk.result_jwt(bed.log().size()).await, Err(OrderRefusal::Unknown { .. })));
    bed.finish().await;
}
