//! A partner's bundle and its governance state, which names a bundle: seen at two moments, or at odds for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::routing::get;
use governance::partner::Standing;

use super::{B, Member, bundle_file, instead, name, pair};

/// B has a new bundle, and a state that names it, while nobody can see either; the bundle from before.
async fn renewed_unseen(b: &mut Member) -> Vec<u8> {
    let before = bundle_file(&b.governor.current().bundle.signatures);
    b.unreachable().await;
    b.renew(1).await.unwrap();
    before
}

fn sequence(a: &Member) -> u64 {
    let partners = a.governor.partners();
    partners.partner(&name(B)).unwrap().fresh(a.now()).map_or(0, |fresh| fresh.bundle().bundle().sequence)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_names_another_bundle_than_is_served_denies_at_once_until_both_fit() {
    let (a, mut b) = pair().await;
    let before = renewed_unseen(&mut b).await;
    b.serve(|routes| instead(routes, "/governance/bundle", before)).await;
    a.until("inconsistent", |a| a.standing(B) == Standing::Inconsistent).await;
    assert_eq!(a.denial(B).code(), "governance.trust_inconsistent");
    assert_eq!(
        a.following.followup(&name(B)).failure.map_or("", |failure| failure.code),
        "governance.trust_inconsistent"
    );
    assert_eq!(a.logged(B).await.last().unwrap(), "governance.trust_inconsistent");
    b.unreachable().await;
    b.serve(|routes| routes).await;
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
    assert_eq!(sequence(&a), b.governor.current().bundle.verified.bundle().sequence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_asked_for_a_moment_too_early_is_asked_for_again_and_denies_nobody() {
    let (a, mut b) = pair().await;
    let before = renewed_unseen(&mut b).await;
    // The next two answers are from before; then the one that the state names.
    let early = Arc::new(AtomicU32::new(2));
    b.serve(|routes: Router| {
        let genuine = routes.clone();
        let answer = move |request: axum::extract::Request| {
            let (before, early, genuine) = (before.clone(), early.clone(), genuine.clone());
            async move {
                let left = early.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                match left {
                    Ok(_) => axum::response::IntoResponse::into_response(before),
                    Err(_) => tower::ServiceExt::oneshot(genuine, request).await.unwrap(),
                }
            }
        };
        Router::new().route("/governance/bundle", get(answer)).fallback_service(routes)
    })
    .await;
    let renewed = b.governor.current().bundle.verified.bundle().sequence;
    a.until("rotated", |a| sequence(a) == renewed).await;
    let logged = a.logged(B).await;
    assert!(!logged.contains(&"governance.trust_inconsistent".to_owned()), "{logged:?}");
}
