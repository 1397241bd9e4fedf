//! The life of an execution: authorize, renew, and everything that ends it.

use evidence::digest::Sha256Digest;
use governance::{
    artifact::{Artifact, Continues, Expectation},
    intent::Intent,
    node_key::NodeKey,
    revocation::Revoked,
};
use verifier::nodes::{self, NodeStatus};
use wire::proto::{self, node_message::Message as Says, verifier_message::Message as Hears};

use crate::{
    bed::{Bed, domain, issuer, log_signer, now},
    node::{Node, Stream},
};

pub(crate) async fn ready(keys: &[&str]) -> (Bed, Node, Stream) {
    let mut node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    for name in keys {
        bed.put_key(name, b"the secret").await;
    }
    node.enrol(&bed).await.unwrap();
    let stream = node.connect(&bed).await;
    (bed, node, stream)
}

pub(crate) async fn status(bed: &Bed, node: &Node) -> NodeStatus {
    nodes::find(bed.store(), &node.machine.node_id).await.unwrap().unwrap().status
}

#[tokio::test]
async fn authorize_renew_mismatch_denial_quarantine() {
    let (bed, mut node, mut stream) = ready(&["db"]).await;
    let intent = node.intent(&["db"]);
    let request = node.authorize(&intent);
    let granted = node.ask(&mut stream, request).await.unwrap();

    // The artifact holds offline, for this node, this intent, this node key.
    let keys = evidence::cose::KeySet::new([issuer().public()]);
    let signed =
        evidence::cose::verify1(evidence::cose::Purpose::Artifact, &domain(), &granted.artifact, &keys).unwrap();
    let terms = Artifact::decode(signed.payload()).unwrap().terms();
    let audience = domain().node_spiffe_id(&node.machine.node_id);
    let node_key: NodeKey = terms.confirmation.key.clone();
    let expected = |continues, seq_min| Expectation {
        audience: &audience,
        domain: Box::leak(Box::new(domain())),
        node: Box::leak(Box::new(terms.bindings.node.clone())),
        intent: intent.digest().unwrap(),
        scope: &intent.scope,
        node_key: &node_key,
        epoch_min: 1,
        seq_min,
        continues,
    };
    let verified = Artifact::verify_offline(&granted.artifact, &keys, &expected(Continues::Nothing, 1), now()).unwrap();

    // Its receipt leads to the record that it names, and the keys came wrapped.
    let identity = log_signer();
    let receipt = audit::receipt::Receipt::verify(&granted.receipt, &identity.identity(), &[], 0, now()).unwrap();
    assert_eq!(receipt.entry_digest(), verified.receipt().entry);
    assert_eq!(receipt.index(), verified.receipt().index);
    assert_eq!(granted.keys.len(), 1);
    assert!(!granted.keys[0].sealed.windows(10).any(|window| window == b"the secret"));

    // Renewed on fresh evidence: same id, next number, no keys again.
    let request = node.renew(&granted.artifact);
    let renewed = node.ask(&mut stream, request).await.unwrap();
    let continues = Continues::Artifact(terms.id);
    let second = Artifact::verify_offline(&renewed.artifact, &keys, &expected(continues, 2), now()).unwrap();
    assert_eq!(second.terms().lease.seq, 2);
    assert!(renewed.keys.is_empty());

    // PCR 4 is extended: the next renewal is refused, the node halts and is quarantined.
    node.machine.boot.events.push(tests::boot::BootEvent::of_data(4, 0x0d, b"something else"));
    let size = bed.log().size();
    let request = node.renew(&renewed.artifact);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!(refusal.class, "denied");
    assert!(refusal.code.starts_with("reference.") || refusal.code.starts_with("evidence."), "{}", refusal.code);
    assert!(refusal.halt);
    assert_eq!(refusal.entry, size.to_string());
    assert_eq!(status(&bed, &node).await, NodeStatus::Quarantined);

    // Its halt record is logged, once; a second execution is refused.
    let halt = node.halt_record(vec![Sha256Digest::of(&renewed.artifact)]);
    let mut indices = Vec::new();
    for _ in 0..2 {
        stream.say(Says::Halt(proto::Record { cose: halt.clone() })).await;
        match stream.next().await {
            Hears::Recorded(recorded) => {
                node.head = Sha256Digest::try_from(recorded.lineage_head.as_slice()).unwrap();
                indices.push(recorded.index);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(indices[0], indices[1]);
    let request = node.authorize(&node.intent(&["db"]));
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.node_quarantined", true));
    bed.finish().await;
}

#[tokio::test]
async fn an_execution_that_ends_by_itself_leaves_its_node_free() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let intent = node.intent(&[]);
    let request = node.authorize(&intent);
    let granted = node.ask(&mut stream, request).await.unwrap();
    stream.say(Says::End(proto::Record { cose: node.end_record(&intent, &granted.artifact) })).await;
    let Hears::Recorded(recorded) = stream.next().await else { panic!("not recorded") };
    node.head = Sha256Digest::try_from(recorded.lineage_head.as_slice()).unwrap();
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();
    // What has ended is not renewed.
    let request = node.renew(&granted.artifact);
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.artifact_id");
    bed.finish().await;
}

/// Says `request` and gives back the challenge as the node must understand it.
async fn challenged(node: &Node, stream: &mut Stream, request: Says) -> evidence::challenge::Challenge {
    stream.say(request).await;
    match stream.next().await {
        Hears::Challenge(asked) => node.understood(stream.channel, &asked),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn evidence_answers_its_own_challenge_on_its_own_connection_once() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    let challenge = challenged(&node, &mut stream, request).await;
    let good = node.evidence(&challenge);
    node.conclude(&mut stream, good.clone()).await.unwrap();

    // Replayed to the next challenge.
    let request = node.authorize(&node.intent(&[]));
    challenged(&node, &mut stream, request).await;
    let replayed = node.conclude(&mut stream, good).await.unwrap_err();
    assert!(
        ["evidence.binding_mismatch", "evidence.tpm_rolled_back"].contains(&replayed.code.as_str()),
        "{}",
        replayed.code
    );

    type Bend = fn(&mut evidence::challenge::Challenge);
    let bends: [(&str, Bend); 6] = [
        ("nonce", |challenge| challenge.nonce[0] ^= 1),
        ("channel", |challenge| challenge.channel = [7; 32]),
        ("audience", |challenge| challenge.audience = "spiffe://b.example/verifier".into()),
        ("epoch", |challenge| challenge.epoch += 1),
        ("subject", |challenge| challenge.subject = Sha256Digest([1; 32])),
        ("lineage head", |challenge| challenge.lineage_head = Sha256Digest::ZERO),
    ];
    for (what, bend) in bends {
        let request = node.authorize(&node.intent(&[]));
        let mut challenge = challenged(&node, &mut stream, request).await;
        bend(&mut challenge);
        let cmw = node.evidence(&challenge);
        let refusal = node.conclude(&mut stream, cmw).await.unwrap_err();
        assert_eq!(refusal.code, "evidence.binding_mismatch", "{what}");
    }
    // A challenge that was answered is gone, whatever came of it.
    stream.say(Says::Evidence(proto::Evidence { cmw: vec![0xa0] })).await;
    let Hears::Refusal(refusal) = stream.next().await else { panic!("not refused") };
    assert_eq!(refusal.code, "protocol.unexpected");
    bed.finish().await;
}

/// A man in the middle who forwards live evidence over a connection of his own (P2).
#[tokio::test]
async fn evidence_relayed_over_another_connection_is_refused() {
    let (bed, mut node, first) = ready(&[]).await;
    drop(first);
    let mut second = node.connect(&bed).await;
    let elsewhere = [0x5a; 32];
    let request = node.authorize(&node.intent(&[]));
    second.say(request).await;
    let Hears::Challenge(asked) = second.next().await else { panic!("not challenged") };
    let challenge = node.understood(elsewhere, &asked);
    let cmw = node.evidence(&challenge);
    assert_eq!(node.conclude(&mut second, cmw).await.unwrap_err().code, "evidence.binding_mismatch");
    bed.finish().await;
}

#[tokio::test]
async fn the_ak_of_another_tpm_is_refused() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    let challenge = challenged(&node, &mut stream, request).await;
    let other = Node::new();
    node.machine.clock.clock_ms += 1_000;
    let mut answer = node.machine.answer(&challenge);
    answer.signature = other.machine.ak.sign(&answer.quote);
    let cmw = answer.evidence().bytes().to_vec();
    assert_eq!(node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.signature_invalid");
    bed.finish().await;
}

#[tokio::test]
async fn what_the_record_key_did_not_sign_or_the_lineage_does_not_hold_is_refused() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let intent = node.intent(&[]);
    let foreign = intent.sign(&domain(), &Node::new().sibling("x", 44).machine.record_key).unwrap();
    let request =
        Says::Authorize(proto::Authorize { intent: foreign, lineage_head: node.head.0.to_vec(), parents: vec![] });
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.signature_invalid");
    let mut of_another = node.intent(&[]);
    of_another.node = evidence::names::NodeId::new("node-7").unwrap();
    let request = node.authorize(&of_another);
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.node");
    let mut elsewhere = node.intent(&[]);
    elsewhere.domains =
        governance::intent::Domains::All([evidence::names::DomainName::new("b.example").unwrap()].into());
    let request = node.authorize(&elsewhere);
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.domain");
    let request = node.renew(b"no such artifact");
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.artifact_id", true));
    bed.finish().await;
}

#[tokio::test]
async fn a_history_that_is_not_ours_quarantines_its_node_at_the_first_request_already() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let intent = node.intent(&[]);
    node.head = Sha256Digest([9; 32]);
    let request = node.authorize(&intent);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.lineage_discontinuous", true));
    // Whoever learnt the newest head from that denial has not become the node.
    let request = node.authorize(&intent);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!(refusal.code, "governance.node_quarantined");
    bed.finish().await;
}

#[tokio::test]
async fn a_lost_answer_does_not_end_the_lineage_and_its_lease_number_is_void() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    let head = node.head;
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    // As if that answer had been lost: the node still knows the head and artifact from before it.
    node.head = head;
    let request = node.renew(&granted.artifact);
    let again = node.ask(&mut stream, request).await.unwrap();
    let payload = evidence::cose::claimed_payload(&again.artifact).unwrap();
    assert_eq!(Artifact::decode(&payload).unwrap().terms().lease.seq, 3);
    // Lost again, and again; but a history that is not ours is a fork.
    node.head = head;
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    node.head = Sha256Digest([3; 32]);
    let request = node.renew(&granted.artifact);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.lineage_discontinuous", true));
    bed.finish().await;
}

#[tokio::test]
async fn a_restarted_tpm_starts_anew_and_never_goes_on() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    node.machine.clock.reset_count += 1;
    let request = node.authorize(&node.intent(&[]));
    let anew = node.ask(&mut stream, request).await.unwrap();
    // What was held before the restart is over.
    let request = node.renew(&granted.artifact);
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.artifact_id");
    let _ = anew;
    bed.finish().await;

    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    node.machine.clock.restart_count += 1;
    let request = node.renew(&granted.artifact);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("evidence.tpm_restarted", true));
    bed.finish().await;
}

#[tokio::test]
async fn revocations_and_policies_refuse_and_a_moved_epoch_is_no_judgement() {
    let (mut bed, mut node, mut stream) = ready(&["db"]).await;
    bed.rules.revoked.push(Revoked::Key(evidence::names::ItemName::new("db").unwrap()));
    bed.govern().await;
    let request = node.authorize(&node.intent(&["db"]));
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.revoked");

    bed.rules.cedar.push_str("\n@id(\"never\") forbid (principal, action == Action::\"execute\", resource);");
    bed.govern().await;
    let request = node.authorize(&node.intent(&[]));
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "policy.forbidden");

    // Another replica moved the epoch on after the challenge went out: nothing is released under the old one.
    let cut = bed.rules.cedar.rfind("\n@id").unwrap();
    bed.rules.cedar.truncate(cut);
    bed.govern().await;
    let request = node.authorize(&node.intent(&[]));
    let challenge = challenged(&node, &mut stream, request).await;
    bed.govern_elsewhere().await;
    let cmw = node.evidence(&challenge);
    let refusal = node.conclude(&mut stream, cmw).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("fault", "fault.epoch_moved"));
    bed.govern().await;
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();

    bed.rules.revoked.push(Revoked::Node(node.machine.node_id.clone()));
    bed.govern().await;
    let request = node.authorize(&node.intent(&[]));
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.revoked");
    bed.finish().await;
}

#[tokio::test]
async fn without_reference_values_nothing_matches_and_evidence_can_be_captured() {
    let mut node = Node::new();
    let bed = Bed::with(&node.machine, Vec::new(), verifier::config::Admission::Endorsed).await;
    node.enrol(&bed).await.unwrap();
    let mut stream = node.connect(&bed).await;
    let request = node.authorize(&node.intent(&[]));
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "reference.none_active");
    let challenge =
        challenged(&node, &mut stream, Says::Capture(proto::Capture { lineage_head: node.head.0.to_vec() })).await;
    let cmw = node.evidence(&challenge);
    stream.say(Says::Evidence(proto::Evidence { cmw: cmw.clone() })).await;
    let Hears::Recorded(_) = stream.next().await else { panic!("not recorded") };
    let kept = verifier::evidence_store::get(bed.store(), &Sha256Digest::of(&cmw)).await.unwrap();
    assert_eq!(kept, Some(cmw));
    bed.finish().await;
}

#[tokio::test]
async fn a_restarted_verifier_goes_on_where_it_stopped() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    let size = bed.log().size();
    let bed = bed.restarted().await;
    // Told that this was no judgement, before the stream ended.
    let Ok(Some(Hears::Refusal(refusal))) = stream.heard().await else { panic!("not told") };
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("fault", "fault.shutting_down"));
    assert!(bed.log().size() >= size);
    let mut stream = node.connect(&bed).await;
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    bed.finish().await;
}

#[tokio::test]
async fn a_child_names_the_record_that_granted_its_parent_and_does_not_outlive_it() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let intent = node.intent(&[]);
    let request = node.authorize(&intent);
    let parent = node.ask(&mut stream, request).await.unwrap();
    let of_parent = |artifact: &[u8], node: &Node| Intent {
        parents: [(domain(), Sha256Digest::of(artifact))].into(),
        ..node.intent(&[])
    };
    let request = node.authorize(&of_parent(&parent.artifact, &node));
    let child = node.ask(&mut stream, request).await.unwrap();
    let terms =
        |artifact: &[u8]| Artifact::decode(&evidence::cose::claimed_payload(artifact).unwrap()).unwrap().terms();
    let above = &terms(&child.artifact).attribution.ancestors;
    assert_eq!((above.len(), above[0].artifact), (1, terms(&parent.artifact).id));
    assert!(terms(&child.artifact).expires_at <= terms(&parent.artifact).expires_at);
    let refused = async |node: &mut Node, stream: &mut Stream, intent: &Intent| {
        let request = node.authorize(intent);
        node.ask(stream, request).await.unwrap_err().code
    };
    let unknown = of_parent(b"nothing", &node);
    assert_eq!(refused(&mut node, &mut stream, &unknown).await, "governance.parent_unknown");
    let mut wider = of_parent(&parent.artifact, &node);
    wider.scope.capabilities.insert(evidence::names::ItemName::new("net").unwrap());
    assert_eq!(refused(&mut node, &mut stream, &wider).await, "governance.scope_exceeded");
    // Its parent ends: nothing new begins under it, and what began does not go on; the node has done nothing.
    stream.say(Says::End(proto::Record { cose: node.end_record(&intent, &parent.artifact) })).await;
    let mut over = Vec::new();
    while over.len() < 2 {
        match stream.next().await {
            Hears::Recorded(recorded) => {
                node.head = Sha256Digest::try_from(recorded.lineage_head.as_slice()).unwrap();
                over.push("recorded".to_owned());
            }
            Hears::Push(proto::Push { push: Some(proto::push::Push::ParentOver(told)) }) => {
                assert_eq!(told.artifact, terms(&child.artifact).id.0);
                over.push(told.code);
            }
            Hears::Push(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(over.contains(&"governance.parent_not_live".to_owned()), "{over:?}");
    let late = of_parent(&parent.artifact, &node);
    assert_eq!(refused(&mut node, &mut stream, &late).await, "governance.parent_not_live");
    let request = node.renew(&child.artifact);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.parent_not_live", false));
    assert_eq!(status(&bed, &node).await, NodeStatus::Active);
    // The whole log is checked again: every parent must be a record in it.
    bed.finish().await;
}

/// What a node saw of our log is held against us: a log that went back releases nothing (P9).
#[tokio::test]
async fn a_node_that_saw_a_longer_log_of_ours_stops_everything() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();
    drop(stream);
    let hello = |checkpoint: String| {
        Says::Hello(proto::Hello { newest_checkpoint: checkpoint.into_bytes(), ..node.hello_message(false) })
    };
    let signed = |size: u64, key: &evidence::cose::SigningKey| {
        let root = audit::tlog::TreeHash([7; 32]);
        audit::checkpoint::Checkpoint { origin: crate::bed::ORIGIN.to_owned(), size, root }.sign(key).unwrap()
    };
    let log_key = evidence::cose::SigningKey::from_seed(&[2; 32]).unwrap();
    let stranger = evidence::cose::SigningKey::from_seed(&[200; 32]).unwrap();
    for (checkpoint, code) in [
        (bed.log().checkpoint(), None),
        (signed(1_000, &stranger), Some("protocol.field")),
        ("not a note".to_owned(), Some("protocol.field")),
        (signed(1_000, &log_key), Some("fault.store_rolled_back")),
        (bed.log().checkpoint(), Some("fault.store_rolled_back")),
    ] {
        let mut stream = Stream::open(&bed, node.client(&bed)).await;
        stream.say(hello(checkpoint)).await;
        match (stream.next().await, code) {
            (Hears::Welcome(_), None) => {}
            (Hears::Refusal(refusal), Some(code)) => assert_eq!(refusal.code, code),
            (other, code) => panic!("{other:?}, expected {code:?}"),
        }
    }
    assert!(bed.get("/healthz").await.starts_with("HTTP/1.1 503"));
    bed.finish().await;
}
