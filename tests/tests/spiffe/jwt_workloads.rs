//! What runs under leases for the tests of JWT-SVIDs, as `workloads`.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use spiffe::TrustDomain;
use tokio_stream::StreamExt as _;
use tonic::{Request, Status};
use wire::spiffe::{JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest};

use crate::workloads::{client, folder, found, leave, raw};

/// For whom the tests' JWT-SVIDs are.
pub(crate) const LEDGER: &str = "spiffe://b.example/node/node-2/workload/ledger";

/// With the header that every client sends.
fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

fn told(status: &Status) -> String {
    // A code of ours stands before the words.
    let code = status.message().split(':').next().filter(|code| code.starts_with("governance."));
    format!("{:?} {}", status.code(), code.unwrap_or_default()).trim_end().to_owned()
}

fn part(token: &str, at: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}")
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn shows() {
    let (folder, client) = (folder(), client().await);
    let svid = client.fetch_jwt_svid([LEDGER, "another"], None).await.unwrap();
    assert_eq!(svid.claims().aud(), [LEDGER, "another"]);
    leave(&folder, "asker", &svid.spiffe_id().to_string());
    // It is given again while it is fresh; for somebody else it is another one.
    let again = client.fetch_jwt_svid([LEDGER, "another"], Some(svid.spiffe_id())).await.unwrap();
    assert_eq!(again.token(), svid.token());
    let token = client.fetch_jwt_token([LEDGER], None).await.unwrap();
    assert_ne!(token, svid.token());
    leave(&folder, "misused", &misused().await.join("\n"));
    leave(&folder, "shown", &token);
}

/// How requests end that ask for what nobody gets.
async fn misused() -> Vec<String> {
    let mut client = raw().await;
    let ask = |audience: &[&str], spiffe_id: &str| JwtsvidRequest {
        audience: audience.iter().map(|audience| (*audience).to_owned()).collect(),
        spiffe_id: spiffe_id.to_owned(),
    };
    let long = "a".repeat(257);
    let mut outcomes = Vec::new();
    for request in [
        ask(&[], ""),
        ask(&["a"; 9], ""),
        ask(&[&long], ""),
        ask(&["a\n"], ""),
        ask(&["a"], "spiffe://a.example/node/node-1/workload/another"),
    ] {
        outcomes.push(told(&client.fetch_jwtsvid(asked(request)).await.unwrap_err()));
    }
    let request = ValidateJwtsvidRequest { audience: "a".to_owned(), svid: "a".to_owned() };
    for refused in [
        client.fetch_jwtsvid(ask(&["a"], "")).await.map(drop),
        client.fetch_jwt_bundles(JwtBundlesRequest {}).await.map(drop),
        client.validate_jwtsvid(request).await.map(drop),
    ] {
        outcomes.push(told(&refused.unwrap_err()));
    }
    outcomes
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn judges() {
    let (folder, client) = (folder(), client().await);
    let token = found(&folder, "shown").await;
    let bundles = client.fetch_jwt_bundles().await.unwrap();
    let bundle = bundles.get(&TrustDomain::new("a.example").unwrap()).expect("the partner's bundle");
    assert!(bundle.find_jwt_authority(part(&token, 0)["kid"].as_str().unwrap()).is_some());
    let judged = client.validate_jwt_token(LEDGER, &token).await.unwrap();
    let own = client.fetch_jwt_token([LEDGER], None).await.unwrap();
    leave(&folder, "refused", &bent(&token, &own).await.join("\n"));
    leave(&folder, "judged", &judged.spiffe_id().to_string());
}

/// How JWT-SVIDs are judged that differ from a genuine one; `own` is the judge's.
async fn bent(token: &str, own: &str) -> Vec<String> {
    let (header, claims) = (part(token, 0), part(token, 1));
    let with = |mut of: Value, name: &str, value: Value| {
        of[name] = value;
        of
    };
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let forged = unsigned(&header, &claims);
    let forgery = URL_SAFE_NO_PAD.encode(pair.sign(&SystemRandom::new(), forged.as_bytes()).unwrap());
    let none = unsigned(&with(header.clone(), "alg", "none".into()), &claims);
    let stranger = with(claims.clone(), "sub", "spiffe://c.example/somebody".into());
    let longer = with(claims.clone(), "exp", 4_102_444_800_u64.into());
    let mut client = raw().await;
    let mut outcomes = Vec::new();
    for (audience, svid) in [
        ("", token.to_owned()),
        ("another", token.to_owned()),
        (LEDGER, "no token".to_owned()),
        (LEDGER, "a".repeat(9_000)),
        (LEDGER, format!("{none}.")),
        (LEDGER, format!("{forged}.{forgery}")),
        // By a key of the judge's own domain, in the name of the other one.
        (LEDGER, format!("{}.{}", unsigned(&part(own, 0), &claims), signature(own))),
        (LEDGER, format!("{}.{}", unsigned(&header, &longer), signature(token))),
        (LEDGER, format!("{}.{}", unsigned(&header, &stranger), signature(token))),
    ] {
        let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid };
        outcomes.push(told(&client.validate_jwtsvid(asked(request)).await.unwrap_err()));
    }
    outcomes
}

/// Follows the keys of JWT-SVIDs to the end, and one JWT-SVID to its own.
#[tokio::test]
#[ignore = "runs as a workload"]
async fn follows() {
    let (folder, client) = (folder(), client().await);
    let mut bundles = client.stream_jwt_bundles().await.unwrap();
    let token = client.fetch_jwt_token(["me"], None).await.unwrap();
    let judged = async || {
        let request = ValidateJwtsvidRequest { audience: "me".to_owned(), svid: token.clone() };
        raw().await.validate_jwtsvid(asked(request)).await
    };
    let mut raw_bundles = raw().await.fetch_jwt_bundles(asked(JwtBundlesRequest {})).await.unwrap().into_inner();
    judged().await.unwrap();
    let expires_at = part(&token, 1)["exp"].as_u64().unwrap();
    let lived_s = expires_at - part(&token, 1)["iat"].as_u64().unwrap();
    leave(&folder, "lives", &lived_s.to_string());
    let following = tokio::spawn(async move {
        while let Some(Ok(set)) = bundles.next().await {
            let mut domains: Vec<_> = set.iter().map(|(domain, _)| domain.to_string()).collect();
            domains.sort_unstable();
            leave(&crate::workloads::folder(), "known", &domains.join(" "));
        }
    });
    loop {
        if let Err(refused) = judged().await {
            leave(&folder, "expired", &told(&refused));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut last = None;
    let over = loop {
        match raw_bundles.message().await {
            Ok(Some(bundles)) => last = Some(bundles.bundles.len()),
            Ok(None) => panic!("closed without a word"),
            Err(over) => break over,
        }
    };
    following.await.unwrap();
    let refused = client.fetch_jwt_token(["me"], None).await.unwrap_err();
    let judged = judged().await.unwrap_err();
    leave(&folder, "over", &format!("{last:?} {} {} {refused}", told(&over), told(&judged)));
    std::future::pending::<()>().await;
}
