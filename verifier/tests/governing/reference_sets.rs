//! The life of reference value sets: who may speak for what, what replaces what and
//! for how long, and the history that says so.

use evidence::cose::SigningKey;
use firmware_refs::set::ReferenceValueSet;
use governance::revocation::Revoked;
use governance::statement::Order;
use verifier::config::{Config, ConfigError};
use verifier::governor::{Governor, Step};

use crate::domain::{Domain, NOW, close};

fn in_force(governor: &Governor) -> Vec<String> {
    governor.current().references.sets().iter().map(|set| set.name().to_string()).collect()
}

fn supersede(set: &ReferenceValueSet, by: &ReferenceValueSet, grace_s: u64) -> Order {
    Order::SupersedeReferences { set: set.digest(), by: by.digest(), grace_s }
}

/// The steps of a history, as `name:version step`.
fn told(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| format!("{}:{} {}", step.name, step.version, step.step)).collect()
}

#[tokio::test]
async fn a_rollout_with_a_grace_window_and_a_revocation_is_told_step_by_step() {
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    let log = open.opened.log.clone();
    let [old, new] = [domain.set(1), domain.named("laptops-2", 1, "lab")];
    domain.stage(&governor, &old).await;
    let staged_at = log.size() - 1;
    governor.obey(&domain.activation(2, 1), NOW).await.unwrap();
    domain.stage(&governor, &new).await;
    let obeyed = governor.obey(&domain.statement(3, supersede(&old, &new, 600)), NOW.plus(10)).await.unwrap();
    assert_eq!(in_force(&governor), ["laptops-2 version 1", "laptops version 1"], "both, while the window is open");
    assert_eq!(governor.current().references.sets()[1].grace_until(), Some(NOW.plus(610)));

    let revoked = Order::Revoke(Revoked::ReferenceSet(new.digest()));
    governor.obey(&domain.statement(4, revoked), NOW.plus(700)).await.unwrap();
    assert!(in_force(&governor).is_empty(), "the window is over and the other is revoked");
    assert_eq!(governor.current().references.revoked_count(), 1);

    let steps = governor.history(&log, None).await.unwrap();
    let expected = [
        "laptops:1 staged",
        "laptops:1 active",
        "laptops-2:1 staged",
        "laptops-2:1 active",
        "laptops:1 superseded",
        "laptops-2:1 revoked",
    ];
    assert_eq!(told(&steps), expected);
    assert!(steps.windows(2).all(|pair| pair[0].entry < pair[1].entry && pair[0].epoch <= pair[1].epoch));
    assert_eq!(steps[0].entry, staged_at);
    assert_eq!((steps[0].statement, steps[0].ordered_by.len()), (None, 0), "staging needs the set's own signatures");
    let signer = domain.keys[0].public().kid().to_string();
    for step in &steps {
        assert_eq!(step.signers, [signer.as_str()]);
        let entry = log.entry(step.entry).await.unwrap().unwrap();
        log.prove(&entry).unwrap();
    }
    assert!(steps.iter().skip(1).filter(|step| step.step != "staged").all(|step| step.ordered_by == [signer.as_str()]));
    let superseded = &steps[4];
    assert_eq!(superseded.by.as_deref(), Some("laptops-2:1"));
    assert_eq!((superseded.grace_until, superseded.at), (Some(NOW.plus(610)), NOW.plus(10)));
    assert_eq!((superseded.statement, superseded.epoch), (Some(obeyed.statement), obeyed.epoch));
    assert_eq!((superseded.reason.as_str(), steps[0].reason.as_str()), ("because", "test"));
    assert_eq!(told(&governor.history(&log, Some("laptops-2:1")).await.unwrap()).len(), 3);
    assert_eq!(governor.history(&log, Some("desktops")).await.unwrap_err().code(), "order.unknown");
    drop(log);
    close(open, governor).await;

    let (open, governor) = domain.open(NOW.plus(800)).await;
    assert_eq!(governor.history(&open.opened.log, None).await.unwrap(), steps);
    assert_eq!(governor.current().references.revoked_count(), 1, "a restart forgets no revocation");
    close(open, governor).await;
}

#[tokio::test]
async fn what_cannot_follow_is_refused_and_changes_nothing() {
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    let [one, other, stranger] = [domain.set(1), domain.named("desktops", 1, "lab"), domain.set(9)];
    domain.stage(&governor, &one).await;
    domain.stage(&governor, &other).await;
    governor.obey(&domain.activation(2, 1), NOW).await.unwrap();
    governor.obey(&domain.statement(3, supersede(&one, &other, 0)), NOW).await.unwrap();
    let (size, before) = (open.opened.log.size(), in_force(&governor));
    assert_eq!(before, ["desktops version 1"]);
    let cases = [
        (supersede(&other, &one, 0), "order.lifecycle"),
        (supersede(&other, &other, 0), "order.lifecycle"),
        (supersede(&one, &other, 0), "order.lifecycle"),
        (supersede(&other, &stranger, 0), "order.unknown"),
        (supersede(&other, &one, firmware_refs::lifecycle::GRACE_CAP_S + 1), "order.lifecycle"),
    ];
    for (order, code) in cases {
        let refused = governor.obey(&domain.statement(4, order.clone()), NOW).await.unwrap_err();
        assert_eq!(refused.code(), code, "{order:?}: {refused}");
    }
    let cyclic = governor.obey(&domain.statement(4, supersede(&other, &one, 0)), NOW).await.unwrap_err();
    assert!(cyclic.to_string().contains("cannot be replaced by a set that it replaced itself"), "{cyclic}");

    // Colliding, old, over, and signed by nobody who counts.
    let sign = |set: &ReferenceValueSet, key: &SigningKey| firmware_refs::signed::sign(set, key).unwrap();
    let mut document = domain.set(1).document().clone();
    document.reason = "another content".to_owned().try_into().unwrap();
    let colliding = ReferenceValueSet::from_document(document).unwrap();
    let refused = governor.import_references(&sign(&colliding, &domain.keys[0]), NOW).await.unwrap_err();
    assert_eq!(refused.code(), "order.lifecycle");
    let forged = sign(&domain.set(3), &SigningKey::from_seed(&[42; 32]).unwrap());
    assert_eq!(governor.import_references(&forged, NOW).await.unwrap_err().code(), "order.signatures");
    let unsigned = domain.set(3).to_cbor().unwrap();
    assert_eq!(governor.import_references(&unsigned, NOW).await.unwrap_err().code(), "order.signatures");
    assert_eq!((open.opened.log.size(), in_force(&governor)), (size, before));

    let mut document = domain.set(3).document().clone();
    document.not_after = NOW.plus(5).into();
    let brief = ReferenceValueSet::from_document(document).unwrap();
    domain.stage(&governor, &brief).await;
    let (name, version, set) = (brief.id().clone(), 3, brief.digest());
    let activation = Order::ActivateReferences { name, version, set, grace_s: 0 };
    let over = governor.obey(&domain.statement(4, activation), NOW.plus(5)).await.unwrap_err();
    assert_eq!(over.code(), "order.lifecycle");
    assert!(over.to_string().contains("ended at"), "{over}");
    assert_eq!(in_force(&governor), ["desktops version 1"]);
    close(open, governor).await;
}

#[tokio::test]
async fn a_version_at_or_below_the_highest_that_was_active_is_never_taken_in() {
    let domain = Domain::new(true).await;
    let (open, governor) = domain.open(NOW).await;
    domain.stage(&governor, &domain.set(2)).await;
    governor.obey(&domain.activation(2, 2), NOW).await.unwrap();
    let revoked = Order::Revoke(Revoked::ReferenceSet(domain.set(2).digest()));
    governor.obey(&domain.statement(3, revoked), NOW).await.unwrap();
    let cose = firmware_refs::signed::sign(&domain.set(1), &domain.keys[0]).unwrap();
    let rolled_back = governor.import_references(&cose, NOW).await.unwrap_err();
    assert_eq!(rolled_back.code(), "order.lifecycle");
    assert!(rolled_back.to_string().contains("not above 2"), "{rolled_back}");
    assert!(in_force(&governor).is_empty());
    close(open, governor).await;
}

/// Adds a table to the configuration of a domain.
fn configure(domain: &Domain, signers: &str) -> Result<Config, ConfigError> {
    let path = domain.state().join("verifier.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.split("\n[references.signers]").next().unwrap();
    std::fs::write(&path, format!("{text}\n[references.signers]\n{signers}\n")).unwrap();
    Config::load(&path, [])
}

#[tokio::test]
async fn only_those_who_are_listed_for_an_environment_speak_for_it() {
    let domain = Domain::new(false).await;
    let ids: Vec<String> = domain.keys.iter().map(|key| key.public().kid().to_string()).collect();
    assert_eq!(ids.len(), 3);
    let refused = |signers: &str| configure(&domain, signers).unwrap_err().to_string();
    assert!(refused("lab = [\"00\"]").contains("id of no authority key"));
    assert!(refused(&format!("lab = [\"{}\"]", ids[0])).contains("2 must sign"));
    let listed = format!("lab = [\"{}\", \"{}\"]", ids[0], ids[1]);
    let words = configure(&domain, &listed).unwrap().in_words().join("\n");
    assert!(words.contains("Reference values of environment lab count when the keys"), "{words}");
    assert!(words.contains("any other environment are refused"), "{words}");

    let (open, governor) = domain.open(NOW).await;
    let size = open.opened.log.size();
    let sign = |set: &ReferenceValueSet, key: usize| firmware_refs::signed::sign(set, &domain.keys[key]).unwrap();
    let other = governor.import_references(&sign(&domain.set(1), 2), NOW).await.unwrap_err();
    assert_eq!(other.code(), "order.signer_not_allowed");
    assert!(other.to_string().contains(&ids[0]), "{other}");
    let elsewhere = domain.named("servers", 1, "production");
    let unlisted = governor.import_references(&sign(&elsewhere, 0), NOW).await.unwrap_err();
    assert_eq!(unlisted.code(), "order.environment_unlisted");
    assert!(governor.list_references().await.unwrap().is_empty());
    assert_eq!(open.opened.log.size(), size);
    for key in [0, 1] {
        governor.import_references(&sign(&domain.set(1), key), NOW).await.unwrap();
    }
    close(open, governor).await;

    // The list changes between import and activation: what it says now counts.
    configure(&domain, &format!("lab = [\"{}\", \"{}\"]", ids[1], ids[2])).unwrap();
    let (open, governor) = domain.open(NOW).await;
    let refused = governor.obey(&domain.activation(2, 1), NOW).await.unwrap_err();
    assert_eq!(refused.code(), "order.signer_not_allowed");
    let third = governor.import_references(&sign(&domain.set(1), 2), NOW).await.unwrap();
    assert_eq!((third.signatures, third.state), (3, "staged"));
    governor.obey(&domain.activation(2, 1), NOW).await.unwrap();
    assert_eq!(in_force(&governor), ["laptops version 1"]);
    close(open, governor).await;
}
