//! Three domains in one process exchange bundles and states over HTTPS; then one of them is silent, old, two-faced or
//! somebody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod fitting;
mod member;
mod rotation;
mod spiffe_form;
mod witnessing;

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use evidence::cbor;
use evidence::cose::SigningKey;
use evidence::names::NodeId;
use governance::partner::Standing;
use governance::revocation::Revoked;
use governance::statement::{Order, TrustedDomain};
use governance::trust_bundle::{Role, TrustBundle};
use member::{Member, name};
use serde_bytes::ByteBuf;

const A: &str = "a.example";
const B: &str = "b.example";
const C: &str = "c.example";

/// Two domains, the first of which trusts the second and holds it fresh.
async fn pair() -> (Member, Member) {
    let (a, b) = tokio::join!(Member::founded(A), Member::founded(B));
    a.trust(&b).await;
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
    (a, b)
}

/// Routes of the genuine domain, with another document at one path.
fn instead(routes: Router, path: &'static str, document: Vec<u8>) -> Router {
    Router::new().route(path, get(move || async move { document })).fallback_service(routes)
}

fn bundle_file(signatures: &[Vec<u8>]) -> Vec<u8> {
    cbor::to_vec(&signatures.iter().cloned().map(ByteBuf::from).collect::<Vec<_>>()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_domains_hold_each_other_fresh_and_acknowledge_what_is_new() {
    let (a, b, c) = tokio::join!(Member::founded(A), Member::founded(B), Member::founded(C));
    let all = [&a, &b, &c];
    for one in all {
        for other in all.iter().filter(|other| other.domain != one.domain) {
            one.trust(other).await;
        }
    }
    for one in all {
        for other in all.iter().filter(|other| other.domain != one.domain) {
            let of = other.domain.to_string();
            one.until("fresh", |one| one.standing(&of) == Standing::Fresh).await;
        }
    }
    // What one revokes is everywhere, and everybody has said so.
    let node = NodeId::new("n1").unwrap();
    b.order(Order::Revoke(Revoked::Measurement(evidence::digest::HashAlg::Sha256.hash(&[b"x"]))), &[]).await.unwrap();
    let epoch = b.epoch();
    for other in [A, C] {
        b.until("acknowledged", |b| {
            let answer = b.following.followup(&name(other)).acknowledged;
            answer.is_some_and(|answer| answer.epoch >= epoch && answer.standing == "fresh")
        })
        .await;
    }
    for one in [&a, &c] {
        let partners = one.governor.partners();
        let fresh = partners.partner(&b.domain).unwrap().fresh(one.now()).unwrap();
        assert!(fresh.state().state().epoch >= epoch);
        let digest = evidence::digest::HashAlg::Sha256.hash(&[b"x"]);
        let denial = fresh.revocations().admits(&Revoked::Measurement(digest)).unwrap_err();
        assert_eq!(denial.code(), "governance.revoked");
        fresh.revocations().admits(&Revoked::Node(node.clone())).unwrap();
        assert_eq!(fresh.keys(Role::Issuer).len(), 1);
    }
    assert_eq!(a.governor.partners().partner(&name("d.example")).unwrap_err().code(), "governance.partner_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_partner_is_stale_in_time_and_fresh_again_within_ten_seconds_of_its_return() {
    let (a, mut b) = pair().await;
    b.unreachable().await;
    a.later_s(299);
    assert_eq!(a.standing(B), Standing::Fresh, "its last state serves for as long as was granted");
    a.later_s(2);
    assert_eq!(a.denial(B).code(), "governance.partner_stale");
    a.until("unreachable", |a| {
        a.following.followup(&name(B)).failure.is_some_and(|failure| failure.code == "federation.unreachable")
    })
    .await;
    b.serve(|routes| routes).await;
    let healed = Instant::now();
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
    assert!(healed.elapsed() < Duration::from_secs(10), "{:?}", healed.elapsed());
    let logged = a.logged(B).await;
    assert!(logged.iter().any(|code| code == "governance.partner_stale"), "{logged:?}");
    assert_eq!(logged.last().map(String::as_str), Some("federation.fresh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_were_missed_are_walked_one_by_one() {
    let (a, mut b) = pair().await;
    let before = a.held_epoch(B);
    b.unreachable().await;
    for _ in 0..5 {
        b.governor.publish(b.now()).await.unwrap();
    }
    b.serve(|routes| routes).await;
    a.until("caught up", |a| a.held_epoch(B) == before + 5).await;
    assert_eq!(a.standing(B), Standing::Fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_was_restored_from_a_backup_is_rolled_back_for_good() {
    let (a, b) = pair().await;
    let b = b.stopped().await;
    let backup = b.backup().await;
    let b = b.started().await;
    b.governor.publish(b.now()).await.unwrap();
    let epoch = b.epoch();
    a.until("current", |a| a.held_epoch(B) == epoch && a.standing(B) == Standing::Fresh).await;
    let b = b.stopped().await.restored(backup).await;
    a.until("rolled back", |a| a.standing(B) == Standing::RolledBack).await;
    assert_eq!(a.denial(B).code(), "governance.partner_rolled_back");
    let logged = a.logged(B).await;
    assert_eq!(logged.last().map(String::as_str), Some("governance.partner_rolled_back"));
    // A restart of ours forgets nothing; only trusting it anew does.
    let a = a.stopped().await.started().await;
    assert_eq!(a.standing(B), Standing::RolledBack);
    a.trust(&b).await;
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_whose_log_took_another_turn_is_forked() {
    let (a, b) = pair().await;
    let b = b.stopped().await;
    let backup = b.backup().await;
    let b = b.started().await;
    b.governor.publish(b.now()).await.unwrap();
    let epoch = b.epoch();
    a.until("current", |a| a.held_epoch(B) == epoch).await;
    let stopped = b.stopped().await;
    let mut b = stopped.restored(backup).await;
    b.unreachable().await;
    // Longer than what was seen, with another past.
    let node = evidence::digest::HashAlg::Sha256.hash(&[b"another past"]);
    b.order(Order::Revoke(Revoked::Measurement(node)), &[]).await.unwrap();
    for _ in 0..5 {
        b.governor.publish(b.now()).await.unwrap();
    }
    b.serve(|routes| routes).await;
    a.until("contradicted", |a| !matches!(a.standing(B), Standing::Fresh | Standing::Stale)).await;
    let code = a.denial(B).code();
    // The restored one may have been seen, shorter, before its log had grown.
    assert!(["governance.partner_forked", "governance.partner_rolled_back"].contains(&code), "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_state_of_one_epoch_is_a_fork_even_without_a_receipt() {
    let (a, mut b) = pair().await;
    let held = b.governor.current().state.state().clone();
    let issuer = b.state().key(verifier::state::KeyFile::Issuer).unwrap();
    let second = governance::governance_state::GovernanceState { expires_at: held.expires_at.plus(1), ..held };
    b.unreachable().await;
    let answer = cbor::to_vec(&std::collections::BTreeMap::from([
        ("state", ciborium::Value::Bytes(second.sign(&issuer).unwrap())),
        ("receipt", ciborium::Value::Bytes(vec![0xa0])),
        ("growth", ciborium::Value::Array(Vec::new())),
    ]))
    .unwrap();
    b.serve(|routes| instead(routes, "/governance/state", answer)).await;
    a.until("forked", |a| a.standing(B) == Standing::Forked).await;
    assert_eq!(a.denial(B).code(), "governance.partner_forked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_bundle_is_a_rollback() {
    let (a, mut b) = pair().await;
    let first = b.governor.current().bundle.signatures.clone();
    b.renew(1).await.unwrap();
    let sequence = b.governor.current().bundle.verified.bundle().sequence;
    let current = |a: &Member| a.governor.partners().partner(&name(B)).unwrap().partner.bundle().bundle().sequence;
    a.until("rotated", |a| current(a) == sequence && a.standing(B) == Standing::Fresh).await;
    b.unreachable().await;
    b.serve(|routes| instead(routes, "/governance/bundle", bundle_file(&first))).await;
    a.until("rolled back", |a| a.standing(B) == Standing::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_by_another_authority_is_refused_and_nothing_is_taken_from_it() {
    let (a, mut b) = pair().await;
    let held = b.governor.current().bundle.verified.bundle().clone();
    let thief = SigningKey::from_seed(&[66; 32]).unwrap();
    let forged = TrustBundle { sequence: held.sequence + 1, ..held.clone() }.sign(&thief).unwrap();
    b.unreachable().await;
    b.serve(|routes| instead(routes, "/governance/bundle", bundle_file(&[forged]))).await;
    a.until("refused", |a| {
        a.following.followup(&name(B)).failure.is_some_and(|failure| failure.code == "governance.threshold_not_met")
    })
    .await;
    let partners = a.governor.partners();
    assert_eq!(partners.partner(&name(B)).unwrap().partner.bundle().bundle().sequence, held.sequence);
    a.later_s(301);
    assert_eq!(a.denial(B).code(), "governance.partner_stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_partners_spiffe_id_is_not_the_partner() {
    let (a, b, c) = tokio::join!(Member::founded(A), Member::founded(B), Member::founded(C));
    let bundle = b.governor.current().bundle.signatures.clone();
    let elsewhere = TrustedDomain { endpoint: a.trusted(&c).endpoint, ..a.trusted(&b) };
    a.order(Order::TrustDomain(Box::new(elsewhere)), &bundle).await.unwrap();
    a.until("refused", |a| {
        a.following.followup(&name(B)).failure.is_some_and(|failure| failure.code == "federation.unreachable")
    })
    .await;
    assert_eq!(a.denial(B).code(), "governance.partner_stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pinned_bundle_begins_a_partner_and_an_order_ends_it() {
    let (a, b, c) = tokio::join!(Member::founded(A), Member::founded(B), Member::founded(C));
    let bundle = b.governor.current().bundle.signatures.clone();
    let of_c = c.governor.current().bundle.signatures.clone();
    let order = || Order::TrustDomain(Box::new(a.trusted(&b)));
    for (offered, code) in [(&of_c[..], "governance.trust_inconsistent"), (&[], "governance.trust_inconsistent")] {
        assert_eq!(a.order(order(), offered).await.unwrap_err().code(), code);
    }
    // One domain's bundle says nothing of another.
    let other = TrustedDomain { domain: name("d.example"), ..a.trusted(&b) };
    let refused = a.order(Order::TrustDomain(Box::new(other)), &bundle).await.unwrap_err();
    assert_eq!(refused.code(), "governance.threshold_not_met");
    let unknown = a.order(Order::UntrustDomain { domain: name(B) }, &[]).await.unwrap_err();
    assert_eq!(unknown.code(), "governance.partner_unknown");
    assert!(a.governor.partners().is_empty());

    a.order(order(), &bundle).await.unwrap();
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
    a.order(Order::UntrustDomain { domain: name(B) }, &[]).await.unwrap();
    assert_eq!(a.denial(B).code(), "governance.partner_untrusted");
    let again = a.order(Order::UntrustDomain { domain: name(B) }, &[]).await.unwrap_err();
    assert_eq!(again.code(), "governance.partner_untrusted");
    let logged = a.logged(B).await;
    assert_eq!(logged.first().map(String::as_str), Some("governance.partner_stale"), "begun, and not seen yet");
    assert_eq!(logged.last().map(String::as_str), Some("governance.partner_untrusted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_every_high_water_mark_and_a_bent_row_starts_nothing() {
    let (a, b) = pair().await;
    let marks = |a: &Member| {
        let partners = a.governor.partners();
        let partner = &partners.partner(&name(B)).unwrap().partner;
        (partner.bundle().digest(), partner.state().unwrap().digest(), partner.head().unwrap().size)
    };
    let mut b = b;
    b.unreachable().await;
    let before = marks(&a);
    let a = a.stopped().await.started().await;
    let after = marks(&a);
    assert_eq!((after.0, after.1), (before.0, before.1));
    assert!(after.2 >= before.2);
    assert_eq!(a.denial(B).code(), "governance.partner_stale", "it must be seen first");
    b.serve(|routes| routes).await;
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
    let a = a.stopped().await;
    // CBOR of no signature at all.
    a.bent("UPDATE partners SET bundle = x'80'").await;
    let refusal = a.refusal().await;
    assert!(refusal.to_string().contains("partner b.example: its bundle"), "{refusal}");
    a.bent("UPDATE partners SET memory = substr(memory, 2)").await;
    let refusal = a.refusal().await;
    assert_eq!(refusal.class(), "fault");
    assert!(refusal.to_string().contains("partner b.example"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_public_is_read_by_strangers_and_nothing_else_is() {
    use base64::Engine as _;
    let a = Member::founded(A).await;
    let get = async |path: &str| {
        a.get(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await
    };
    let (status, body) = get("/.well-known/spiffe-bundle").await;
    assert_eq!(status, 200);
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let bundle = a.governor.current().bundle.verified.bundle().clone();
    assert_eq!(document["spiffe_sequence"], bundle.sequence);
    assert_eq!(document["spiffe_refresh_hint"], bundle.refresh_hint_s);
    let key = &document["keys"][0];
    assert_eq!(
        (key["use"].as_str(), key["kty"].as_str(), key["crv"].as_str()),
        (Some("x509-svid"), Some("EC"), Some("P-256"))
    );
    let der = base64::engine::general_purpose::STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap();
    assert_eq!(der, bundle.ca[0].as_ref());
    for path in ["/governance/bundle", "/governance/state", "/governance/state/1", "/governance/states/1/2"] {
        assert_eq!(get(path).await.0, 200, "{path}");
    }
    let (status, revocations) = get("/governance/revocations").await;
    assert_eq!((status, revocations), (200, vec![0x80]));
    a.until("published", |a| a.state().tiles().join("checkpoint").exists()).await;
    let (status, checkpoint) = get("/checkpoint").await;
    assert_eq!(status, 200);
    let size: u64 = std::str::from_utf8(&checkpoint).unwrap().lines().nth(1).unwrap().parse().unwrap();
    for kind in ["0", "entries"] {
        assert_eq!(get(&format!("/tile/{kind}/000.p/{size}")).await.0, 200, "{kind}");
    }
    for path in [
        "/",
        "/metrics",
        "/governance/state/999",
        "/governance/state?since=x",
        "/governance/states/1/300",
        "/governance/states/2/1",
        "/tile/0/../../keys/issuer.key",
        "/tile/..%2F..%2Fkeys%2Fissuer.key",
        "/tile/0/x000/000",
    ] {
        assert_eq!(get(path).await.0, 404, "{path}");
    }
    let hint = async |body: &[u8]| {
        let head = "POST /governance/hint HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        a.get(&[head.as_bytes(), body].concat()).await.0
    };
    let stranger = std::collections::BTreeMap::from([
        ("domain", ciborium::Value::from("x.example")),
        ("epoch", ciborium::Value::from(7)),
    ]);
    assert_eq!(hint(&cbor::to_vec(&stranger).unwrap()).await, 404, "of whom nobody ordered to trust");
    assert_eq!(hint(b"not CBOR").await, 400);
    assert_eq!(hint(&[b'a'; 600]).await, 413);
}

#[tokio::test]
async fn a_bundle_without_the_keys_in_use_is_not_taken() {
    let a = Member::founded(A).await;
    let held = a.governor.current().bundle.verified.bundle().clone();
    let other = SigningKey::from_seed(&[4; 32]).unwrap().public().clone();
    let mut without_issuer = TrustBundle { sequence: held.sequence + 1, ..held.clone() };
    without_issuer.issuer[0].key = other.clone();
    let mut without_log = TrustBundle { sequence: held.sequence + 1, ..held.clone() };
    without_log.log[0].key = other;
    for bent in [without_issuer, without_log] {
        let refused = a.governor.import_bundle(&[bent.sign(&a.key).unwrap()], a.now()).await.unwrap_err();
        assert_eq!(refused.code(), "governance.key_in_use");
    }
    let older = TrustBundle { sequence: held.sequence - 1, ..held };
    let refused = a.governor.import_bundle(&[older.sign(&a.key).unwrap()], a.now()).await.unwrap_err();
    assert_eq!(refused.code(), "governance.bundle_rolled_back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_does_not_prove_its_logs_growth_is_stale_in_time_and_not_condemned() {
    let (a, mut b) = pair().await;
    let head = a.governor.partners().partner(&name(B)).unwrap().partner.head().unwrap();
    b.unreachable().await;
    b.governor.publish(b.now()).await.unwrap();
    // Its own newest state and receipt, without the way there from what was seen: a proof is absent, nothing is signed twice.
    let growing = |routes: Router| {
        let unproven = move |request: axum::extract::Request| {
            let routes = routes.clone();
            async move {
                let (mut parts, body) = request.into_parts();
                if parts.uri.path() == "/governance/state" {
                    parts.uri = "/governance/state?since=0".parse().unwrap();
                }
                use tower::ServiceExt as _;
                routes.oneshot(axum::extract::Request::from_parts(parts, body)).await.unwrap()
            }
        };
        Router::new().fallback(unproven)
    };
    b.serve(growing).await;
    a.until("unproven", |a| {
        a.following.followup(&name(B)).failure.is_some_and(|failure| failure.code == "governance.log_unproven")
    })
    .await;
    assert_eq!(a.standing(B), Standing::Fresh);
    assert_eq!(a.governor.partners().partner(&name(B)).unwrap().partner.head(), Some(head));
    a.later_s(301);
    assert_eq!(a.denial(B).code(), "governance.partner_stale");
    b.unreachable().await;
    b.serve(|routes| routes).await;
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
}
