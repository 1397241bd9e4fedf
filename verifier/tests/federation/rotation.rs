//! A domain replaces each of its keys; its partner relies on it all the time, and on nothing that a retired key signs.

use evidence::cose::{PublicKey, SigningKey};
use governance::governance_state::GovernanceState;
use governance::partner::Standing;
use governance::rotation::{OnlineRole, authority_name, earliest};
use governance::trust_bundle::{KeyRecord, Role, TrustBundle};
use serde_bytes::ByteBuf;
use verifier::governor::OrderRefusal;

use super::{B, Member, name, pair};

/// Life of B's bundles, in seconds; its clock and its partner's go on by a third of it at a time.
const LIFE_S: u64 = 30;

/// Signs and takes B's next bundle, with a change.
async fn next(b: &Member, change: impl FnOnce(&TrustBundle, &mut TrustBundle)) -> Result<(), OrderRefusal> {
    let (held, now) = (b.governor.current().bundle.verified.bundle().clone(), b.now());
    let mut next = TrustBundle {
        sequence: held.sequence + 1,
        issued_at: now,
        expires_at: now.plus(LIFE_S),
        refresh_hint_s: 1,
        ..held.clone()
    };
    change(&held, &mut next);
    b.governor.import_bundle(&[next.sign(&b.key).unwrap()], now).await.map(drop)
}

/// Waits until A holds what B has in force; B was never anything but fresh for it.
async fn followed(a: &Member, b: &Member) {
    assert_eq!(a.standing(B), Standing::Fresh);
    let (digest, epoch) = (b.governor.current().bundle.verified.digest(), b.epoch());
    a.until("the newest bundle and state", |a| {
        let partners = a.governor.partners();
        let partner = &partners.partner(&name(B)).unwrap().partner;
        let relied = partner.fresh(a.now()).unwrap_or_else(|denial| panic!("not fresh any more: {denial}"));
        relied.bundle().digest() == digest && relied.state().state().epoch >= epoch
    })
    .await;
}

/// Time passes for both, and B's bundles are renewed as ever.
async fn later(a: &Member, b: &Member, seconds: u64) {
    for _ in 0..seconds.div_ceil(LIFE_S / 3) {
        a.later_s(LIFE_S / 3);
        b.later_s(LIFE_S / 3);
        next(b, |_, _| ()).await.unwrap();
        followed(a, b).await;
    }
}

async fn prepare(b: &Member, role: OnlineRole) -> String {
    let prepared = b.governor.prepare_key(role, b.now()).await.unwrap();
    assert_eq!(b.governor.prepare_key(role, b.now()).await.unwrap(), prepared, "it is made once");
    next(b, |held, next| match role.signing() {
        None => next.ca.push(ByteBuf::from(prepared.public.clone())),
        Some(signing) => {
            let (key, from) = (PublicKey::from_cose_key(&prepared.public).unwrap(), earliest(held, next));
            next.records_mut(signing).push(KeyRecord { key, from, until: from.plus(100_000) });
        }
    })
    .await
    .unwrap();
    prepared.kid
}

async fn retire(b: &Member, role: OnlineRole, kid: &str) -> Result<(), OrderRefusal> {
    next(b, |_, next| match role.signing() {
        None => next.ca.retain(|der| authority_name(der) != kid),
        Some(signing) => next.records_mut(signing).retain(|record| record.key.kid().to_string() != kid),
    })
    .await
}

async fn listed(b: &Member, state: &str) -> Vec<(OnlineRole, String)> {
    let keys = b.governor.list_keys().await.unwrap().into_iter();
    keys.filter(|key| key.state == state).map(|key| (key.role, key.kid)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_relies_on_a_domain_through_the_rotation_of_all_its_keys() {
    let (a, mut b) = pair().await;
    next(&b, |_, _| ()).await.unwrap();
    followed(&a, &b).await;
    let old_issuer = b.state().key(verifier::state::KeyFile::Issuer).unwrap();
    let old = listed(&b, "active").await;
    assert_eq!(old.len(), 5);
    let code =
        |refused: Result<_, OrderRefusal>| refused.map(|_: verifier::governor::Activated| ()).unwrap_err().code();
    assert_eq!(code(b.governor.activate_key(OnlineRole::Log, b.now()).await), "order.unknown");
    // Made, and not announced.
    b.governor.prepare_key(OnlineRole::Issuer, b.now()).await.unwrap();
    assert_eq!(code(b.governor.activate_key(OnlineRole::Issuer, b.now()).await), "governance.key_unannounced");

    let mut successors = Vec::new();
    for role in OnlineRole::ALL {
        successors.push((role, prepare(&b, role).await));
        followed(&a, &b).await;
        assert_eq!(code(b.governor.activate_key(role, b.now()).await), "governance.key_too_early");
    }
    assert_eq!(listed(&b, "announced").await, successors);
    later(&a, &b, 2 * LIFE_S + 10).await;
    for (role, kid) in &successors {
        assert_eq!(b.governor.activate_key(*role, b.now()).await.unwrap().kid, *kid);
        if *role == OnlineRole::Ca {
            // What `serve` does when another CA is active.
            b.unreachable().await;
            b.serve(|routes| routes).await;
        }
        followed(&a, &b).await;
    }
    assert_eq!(listed(&b, "active").await, successors);
    assert_eq!(listed(&b, "retiring").await, old);

    // A restart goes on with the successors, and reads what the keys before signed.
    let b = b.stopped().await.started().await;
    followed(&a, &b).await;
    assert_eq!((listed(&b, "active").await, listed(&b, "retiring").await), (successors.clone(), old.clone()));
    for (role, kid) in &old {
        assert_eq!(retire(&b, *role, kid).await.unwrap_err().code(), "governance.key_in_use", "{role}");
    }
    later(&a, &b, 60).await;
    for (role, kid) in &successors {
        assert_eq!(retire(&b, *role, kid).await.unwrap_err().code(), "governance.key_in_use", "{role}");
    }
    for (role, kid) in &old {
        retire(&b, *role, kid).await.unwrap();
        followed(&a, &b).await;
    }
    assert!(listed(&b, "retiring").await.is_empty());
    let b = b.stopped().await.started().await;
    followed(&a, &b).await;

    // What the retired issuer signs now is refused, however well it fits.
    let partners = a.governor.partners();
    let fresh = partners.partner(&b.domain).unwrap().fresh(a.now()).unwrap();
    let held = fresh.state();
    let forged =
        GovernanceState { epoch: held.state().epoch + 1, previous: Some(held.digest()), ..held.state().clone() };
    let judged = |key: &SigningKey| {
        let signed = forged.sign(key).unwrap();
        let issuer_keys = fresh.keys(Role::Issuer);
        GovernanceState::verify(&signed, &b.domain, &issuer_keys, a.now()).map(drop).map_err(|denial| denial.code())
    };
    assert_eq!(judged(&old_issuer), Err("governance.signature_invalid"));
    assert_eq!(judged(&b.state().key(verifier::state::KeyFile::Issuer).unwrap()), Ok(()));
    // And it comes back by no bundle before it is announced once more.
    let again = next(&b, |_, next| {
        let record = KeyRecord { key: old_issuer.public().clone(), from: b.now(), until: b.now().plus(100) };
        next.issuer.push(record);
    });
    assert_eq!(again.await.unwrap_err().code(), "governance.key_too_early");
}
