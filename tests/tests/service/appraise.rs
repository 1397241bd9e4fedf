//! Saved evidence, judged by what is trusted now.

use evidence::{challenge::Challenge, digest::Digest, names::NodeId};
use firmware_refs::InForce;
use governance::revocation::Revoked;
use serde_json::Value;
use verifier::{governor::OrderRefusal, nodes};
use wire::{
    proto::{node_message::Message as Says, verifier_message::Message as Hears},
    protocol::inspection,
};

use crate::{
    bed::{Bed, domain, named_reference_set, now},
    node::{Node, Stream},
};

const NONCE: [u8; 32] = [0x5a; 32];

pub(crate) async fn ready() -> (Bed, Node, Stream) {
    let mut node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    bed.put_key("db", b"the secret").await;
    node.enrol(&bed).await.unwrap();
    let stream = node.connect(&bed).await;
    (bed, node, stream)
}

/// Log index of the newest entry of a kind, as `explain` would find it.
pub(crate) async fn newest(bed: &Bed, kind: &str) -> u64 {
    let keys = evidence::cose::KeySet::new([crate::bed::issuer().public()]);
    for index in (0..bed.log().size()).rev() {
        let entry = bed.log().entry(index).await.unwrap().unwrap();
        let record = audit::record::VerifiedRecord::verify(&entry.bytes, &domain(), &keys).unwrap();
        if record.record().kind().name() == kind {
            return index;
        }
    }
    panic!("no {kind} in the log");
}

fn first_code(document: &Value) -> &str {
    document["failures"][0]["code"].as_str().unwrap_or("none")
}

/// Decision, code of what decides and whether that differs from what was logged.
async fn entry(bed: &Bed, index: u64) -> (String, String, bool) {
    let document = bed.desk.appraise_entry(index).await.unwrap();
    assert_eq!(document["grants"], "nothing");
    let decision = document["decision"].as_str().unwrap().to_owned();
    (decision, first_code(&document).to_owned(), document["differs"].as_bool().unwrap())
}

fn is(decision: &str, code: &str, differs: bool) -> (String, String, bool) {
    (decision.to_owned(), code.to_owned(), differs)
}

#[tokio::test]
async fn a_logged_affirmation_is_judged_by_what_is_trusted_now() {
    let (mut bed, mut node, mut stream) = ready().await;
    let request = node.authorize(&node.intent(&["db"]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    let (authorized, renewed) = (newest(&bed, "authorization").await, newest(&bed, "renewal").await);
    let (size, stored) = (bed.log().size(), nodes::find(bed.store(), &node.machine.node_id).await.unwrap().unwrap());

    let document = bed.desk.appraise_entry(authorized).await.unwrap();
    assert_eq!((&document["decision"], &document["differs"]), (&"affirmed".into(), &false.into()), "{document:#}");
    assert_eq!(document["logged"]["decision"], "affirmed");
    assert_eq!(document["claims"]["node"], node.machine.node_id.as_str());
    // Its EK is certified, and nobody says that it is simulated: identity, configuration, hardware and boot are affirmed.
    assert_eq!(document["ear_trustworthiness_vector"]["instance-identity"], 2, "{document:#}");
    assert_eq!(document["ear_status"], "affirming");
    assert_eq!(entry(&bed, renewed).await, is("affirmed", "none", false));

    let measured = measured(&bed, authorized).await;

    // Each part of what is trusted counts, and each as it is now.
    let known = bed.rules.clone();
    let mut other = Node::new();
    other.machine.boot.events.push(tests::boot::BootEvent::of_data(4, 0x0d, b"something else"));
    bed.rules.references = vec![InForce::active(named_reference_set(&other.machine, "node-1", 2))];
    bed.govern().await;
    for index in [authorized, renewed] {
        let (decision, code, differs) = entry(&bed, index).await;
        assert!(decision == "denied" && code.starts_with("reference.") && differs, "{decision} {code}");
    }
    bed.rules = known.clone();
    bed.rules.cedar = "@id(\"nobody\") forbid (principal, action, resource);".to_owned();
    bed.govern().await;
    assert_eq!(entry(&bed, authorized).await, is("denied", "policy.forbidden", true));
    // The attestation is permitted, its execution no longer.
    bed.rules = known.clone();
    bed.rules.cedar.push_str("\n@id(\"no-db\") forbid (principal, action == Action::\"release\", resource);\n");
    bed.govern().await;
    assert_eq!(entry(&bed, authorized).await, is("denied", "policy.forbidden", true));
    assert_eq!(entry(&bed, renewed).await, is("affirmed", "none", false));

    let artifact = evidence::cose::claimed_payload(&granted.artifact).unwrap();
    let artifact = governance::artifact::Artifact::decode(&artifact).unwrap().terms().id;
    for revoked in [
        Revoked::Node(node.machine.node_id.clone()),
        Revoked::Key("db".parse().unwrap()),
        Revoked::Artifact(artifact),
        Revoked::Measurement(measured),
    ] {
        bed.rules = known.clone();
        bed.rules.revoked = vec![revoked.clone()];
        bed.govern().await;
        for index in [authorized, renewed] {
            assert_eq!(entry(&bed, index).await, is("denied", "governance.revoked", true), "{revoked:?}");
        }
    }
    bed.rules = known;
    bed.govern().await;
    assert_eq!(entry(&bed, authorized).await, is("affirmed", "none", false));

    // Looking has changed nothing: the log grew by the eight governance states alone, and the node is as it was.
    assert_eq!(bed.log().size(), size + 8);
    assert_eq!(nodes::find(bed.store(), &node.machine.node_id).await.unwrap().unwrap(), stored);
    bed.finish().await;
}

/// The value that PCR 4 had.
async fn measured(bed: &Bed, index: u64) -> Digest {
    let document = bed.desk.appraise_entry(index).await.unwrap();
    let value = document.pointer("/registers/pcr.4").unwrap_or_else(|| panic!("{document:#}"));
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_logged_denial_may_be_affirmed_now() {
    let (mut bed, mut node, mut stream) = ready().await;
    node.machine.boot.events.push(tests::boot::BootEvent::of_data(4, 0x0d, b"a new boot loader"));
    let request = node.authorize(&node.intent(&[]));
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    let denied: u64 = refusal.entry.parse().unwrap();
    let (decision, code, differs) = entry(&bed, denied).await;
    assert_eq!((decision.as_str(), code.as_str(), differs), ("denied", refusal.code.as_str(), false));

    bed.rules.references.push(InForce::active(named_reference_set(&node.machine, "node-1-new", 1)));
    bed.govern().await;
    assert_eq!(entry(&bed, denied).await, is("affirmed", "none", true));
    bed.finish().await;
}

#[tokio::test]
async fn what_is_no_decision_about_evidence_is_not_appraised() {
    let (mut bed, mut node, mut stream) = ready().await;
    bed.rules.revoked = vec![Revoked::Node(node.machine.node_id.clone())];
    bed.govern().await;
    let request = node.authorize(&node.intent(&[]));
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!(refusal.code, "governance.revoked");
    let early: u64 = refusal.entry.parse().unwrap();
    for (index, code) in [(0, "order.malformed"), (early, "order.malformed"), (bed.log().size(), "order.unknown")] {
        let refusal = bed.desk.appraise_entry(index).await.unwrap_err();
        assert_eq!(refusal.code(), code, "entry {index}: {refusal}");
    }
    bed.finish().await;
}

#[tokio::test]
async fn evidence_that_is_no_longer_kept_is_a_fault() {
    let (bed, mut node, mut stream) = ready().await;
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();
    let index = newest(&bed, "authorization").await;
    bed.sql("DELETE FROM blobs WHERE kind = 'evidence'").await;
    let refusal = bed.desk.appraise_entry(index).await.unwrap_err();
    assert_eq!((refusal.class(), refusal.code()), ("fault", "fault.not_kept"), "{refusal}");
    bed.finish().await;
}

/// What this machine answers when somebody asks for evidence by hand.
fn by_hand(node: &mut Node, nonce: [u8; 32]) -> Vec<u8> {
    let mut demands = node.machine.challenge().demands;
    let tpm = demands.tpm_mut().unwrap();
    tpm.pcrs = vec![0, 1, 2, 3, 4, 5, 6, 7];
    tpm.node_key_pcrs = tpm.pcrs.clone();
    tpm.ima_log = false;
    node.evidence(&inspection(nonce, demands, now()))
}

/// Decision and code of what decides.
async fn file(bed: &Bed, node: &Node, nonce: [u8; 32], cmw: &[u8]) -> (String, String) {
    let document = bed.desk.appraise_file(&node.machine.node_id, nonce, cmw.to_vec()).await.unwrap();
    assert_eq!(document["grants"], "nothing");
    assert!(document["freshness"].as_str().unwrap().contains("no challenge of this domain"), "{document:#}");
    (document["decision"].as_str().unwrap().to_owned(), first_code(&document).to_owned())
}

fn came_to(decision: &str, code: &str) -> (String, String) {
    (decision.to_owned(), code.to_owned())
}

#[tokio::test]
async fn a_file_of_evidence_is_judged_by_its_nonce_and_its_node() {
    let (mut bed, mut node, mut stream) = ready().await;
    let early = by_hand(&mut node, NONCE);
    let size = bed.log().size();
    assert_eq!(file(&bed, &node, NONCE, &early).await, came_to("affirmed", "none"));
    assert_eq!(file(&bed, &node, [1; 32], &early).await, came_to("denied", "evidence.binding_mismatch"));
    assert_eq!(file(&bed, &node, NONCE, b"no evidence").await.0, "denied");
    assert_eq!(bed.log().size(), size);
    let unknown = bed.desk.appraise_file(&NodeId::new("nobody").unwrap(), NONCE, early.clone()).await.unwrap_err();
    assert!(matches!(unknown, OrderRefusal::Unknown { .. }), "{unknown}");

    // Another node's, of the same manufacturer.
    let mut sibling = node.sibling("node-2", 77);
    sibling.enrol(&bed).await.unwrap();
    let theirs = by_hand(&mut sibling, NONCE);
    assert_eq!(file(&bed, &sibling, NONCE, &theirs).await.0, "affirmed");
    assert_eq!(file(&bed, &node, NONCE, &theirs).await, came_to("denied", "evidence.signature_invalid"));

    // Older than what the node has shown since, in the same boot: its nonce says how old.
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();
    assert_eq!(file(&bed, &node, NONCE, &early).await.0, "affirmed");
    // The next boot may be shown by hand first; what was made before it no longer counts once the node has shown it.
    node.machine.clock.reset_count += 1;
    let later = by_hand(&mut node, NONCE);
    assert_eq!(file(&bed, &node, NONCE, &later).await.0, "affirmed");
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();
    assert_eq!(file(&bed, &node, NONCE, &later).await.0, "affirmed");
    assert_eq!(file(&bed, &node, NONCE, &early).await, came_to("denied", "evidence.tpm_rolled_back"));

    bed.rules.revoked = vec![Revoked::Node(node.machine.node_id.clone())];
    bed.govern().await;
    assert_eq!(file(&bed, &node, NONCE, &later).await, came_to("denied", "governance.revoked"));
    bed.finish().await;
}

/// Whoever may ask a node for evidence by hand chooses the nonce: a verifier's own, if he likes.
#[tokio::test]
async fn evidence_by_hand_answers_no_challenge_and_an_answer_is_no_evidence_by_hand() {
    let (bed, mut node, mut stream) = ready().await;
    let request = node.authorize(&node.intent(&[]));
    let challenge = challenged(&node, &mut stream, request).await;
    let cmw = node.evidence(&inspection(challenge.nonce, challenge.demands.clone(), now()));
    let refusal = node.conclude(&mut stream, cmw).await.unwrap_err();
    assert_eq!(refusal.code, "evidence.binding_mismatch");

    let request = node.authorize(&node.intent(&[]));
    let challenge = challenged(&node, &mut stream, request).await;
    let answer = node.evidence(&challenge);
    assert_eq!(
        file(&bed, &node, challenge.nonce, &answer).await,
        came_to("denied", "evidence.binding_mismatch"),
        "and as a file it is no evidence by hand"
    );
    node.conclude(&mut stream, answer).await.unwrap();
    bed.finish().await;
}

async fn challenged(node: &Node, stream: &mut Stream, request: Says) -> Challenge {
    stream.say(request).await;
    match stream.next().await {
        Hears::Challenge(asked) => node.understood(stream.channel, &asked),
        other => panic!("{other:?}"),
    }
}

/// A measured value is revoked: machines that show it are refused from the first request on, not only at renewal.
#[tokio::test]
async fn a_revoked_measurement_is_refused_at_once() {
    let (mut bed, mut node, mut stream) = ready().await;
    let request = node.authorize(&node.intent(&["db"]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    let index = newest(&bed, "authorization").await;
    let measured = measured(&bed, index).await;
    bed.rules.revoked = vec![Revoked::Measurement(measured)];
    bed.govern().await;
    let request = node.authorize(&node.intent(&["db"]));
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("denied", "governance.revoked"));
    assert_eq!(entry(&bed, refusal.entry.parse().unwrap()).await, is("denied", "governance.revoked", false));
    let request = node.renew(&granted.artifact);
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.revoked");
    bed.finish().await;
}
