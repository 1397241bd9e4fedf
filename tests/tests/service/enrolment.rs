//! First contact, and each way to get it wrong.

use verifier::{config::Admission, nodes::NodeStatus};
use wire::proto::{self, enrol_reply, enrol_request};

use crate::{
    bed::{Bed, domain},
    node::{EnrolStream, Node},
};

async fn refused(bed: &Bed, identity: proto::EnrolIdentity) -> proto::Refusal {
    match EnrolStream::open(bed, identity).await.next().await {
        enrol_reply::Message::Refusal(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Answers the challenge with whatever `answer` makes of the secret.
async fn answered(
    bed: &Bed,
    node: &Node,
    identity: proto::EnrolIdentity,
    answer: impl FnOnce(Vec<u8>) -> proto::EnrolProof,
) -> enrol_reply::Message {
    let mut stream = EnrolStream::open(bed, identity).await;
    let enrol_reply::Message::Challenge(challenge) = stream.next().await else { panic!("no challenge") };
    let secret = node.activate(&challenge).expect("made for this TPM");
    stream.say(enrol_request::Message::Proof(answer(secret))).await;
    stream.next().await
}

fn code(reply: enrol_reply::Message) -> String {
    match reply {
        enrol_reply::Message::Refusal(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_proven_node_gets_a_certificate_that_names_what_was_proven() {
    let mut node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    let grant = node.enrol(&bed).await.unwrap();
    assert_eq!(grant.audience, "spiffe://a.example/verifier");
    assert_eq!(grant.policy_authority_threshold, 1);
    // The request asked for root.example; the certificate names the enrolled node.
    let named = verifier::tls::node_of(node.certificate.as_ref().unwrap(), &domain()).unwrap();
    assert_eq!(named, node.machine.node_id);
    let stored = verifier::nodes::find(bed.store(), &node.machine.node_id).await.unwrap().unwrap();
    assert_eq!(stored.status, NodeStatus::Active);
    assert_eq!(stored.head_current, node.head);
    drop(node.connect(&bed).await);
    bed.finish().await;
}

#[tokio::test]
async fn an_operator_must_admit_where_the_configuration_says_so() {
    let mut node = Node::new();
    let bed = Bed::with(&node.machine, Vec::new(), Admission::Operator).await;
    node.enrol(&bed).await.unwrap();
    let mut stream = node.connect(&bed).await;
    let request = node.authorize(&node.intent(&[]));
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("denied", "governance.node_pending"));
    assert!(!refusal.halt);
    bed.finish().await;
}

#[tokio::test]
async fn the_activation_secret_is_used_once_and_by_its_own_tpm() {
    let node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    let wrong = answered(&bed, &node, node.identity(), |_| node.proof(&[0; 32])).await;
    assert_eq!(code(wrong), "evidence.activation_secret");
    let short = answered(&bed, &node, node.identity(), |secret| node.proof(&secret[1..])).await;
    assert_eq!(code(short), "evidence.activation_secret");
    // A secret of one activation is nothing to the next one.
    let mut first = EnrolStream::open(&bed, node.identity()).await;
    let enrol_reply::Message::Challenge(challenge) = first.next().await else { panic!("no challenge") };
    let secret = node.activate(&challenge).unwrap();
    let replayed = answered(&bed, &node, node.identity(), |_| node.proof(&secret)).await;
    assert_eq!(code(replayed), "evidence.activation_secret");
    // Another TPM cannot open it.
    assert!(node.sibling("node-2", 8).activate(&challenge).is_none());
    assert!(verifier::nodes::list(bed.store()).await.unwrap().is_empty(), "nothing is stored before the proof");
    bed.finish().await;
}

#[tokio::test]
async fn the_ak_signs_for_this_record_key_and_no_other() {
    let (node, other) = (Node::new(), Node::new());
    let bed = Bed::knowing(&node.machine).await;
    let foreign_signature = answered(&bed, &node, node.identity(), |secret| proto::EnrolProof {
        record_key_signature: other.machine.ak.sign(&node.proof(&secret).record_key_certify),
        ..node.proof(&secret)
    })
    .await;
    assert_eq!(code(foreign_signature), "evidence.signature_invalid");
    let mut bent = Node::new().sibling("node-1", 99);
    std::mem::swap(&mut bent.machine.ak, &mut Node::new().machine.ak);
    let other_record_key = answered(&bed, &node, node.identity(), |secret| {
        let quote = {
            let extra = evidence::tpm::enrolment::enrolment_qualifying_data(
                &secret,
                bent.machine.record_key.public().cose_key(),
            );
            let values = node.machine.boot.pcrs(evidence::digest::HashAlg::Sha256, &[0]);
            node.machine.quote_draft(&extra, &values, node.machine.clock).write()
        };
        proto::EnrolProof { record_key_signature: node.machine.ak.sign(&quote), record_key_certify: quote, secret }
    })
    .await;
    assert_eq!(code(other_record_key), "evidence.activation_mismatch");
    bed.finish().await;
}

#[tokio::test]
async fn an_identity_is_refused_for_each_part_that_does_not_belong() {
    let node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    let stranger = Node::new();
    let of_another_maker = proto::EnrolIdentity { ek_chain: stranger.identity().ek_chain, ..node.identity() };
    let refusal = refused(&bed, of_another_maker).await;
    assert!(refusal.code.starts_with("evidence."), "EK certificate of another TPM: {}", refusal.code);
    let unanchored = refused(&bed, stranger.identity()).await;
    assert!(unanchored.code.starts_with("evidence."), "manufacturer that nobody pinned: {}", unanchored.code);
    assert_eq!(
        refused(&bed, proto::EnrolIdentity { node_id: "../a".into(), ..node.identity() }).await.code,
        "protocol.field"
    );
    assert_eq!(
        refused(&bed, proto::EnrolIdentity { csr: stranger.sibling("x", 5).identity().csr, ..node.identity() })
            .await
            .code,
        "protocol.field"
    );
    assert_eq!(
        refused(&bed, proto::EnrolIdentity { csr: vec![0x30; 5000], ..node.identity() }).await.code,
        "protocol.field"
    );
    assert_eq!(
        refused(&bed, proto::EnrolIdentity { ek_chain: vec![vec![1]; 7], ..node.identity() }).await.code,
        "protocol.field"
    );
    let mut trailing = node.identity();
    trailing.ak_public.push(0);
    assert!(refused(&bed, trailing).await.code.starts_with("evidence."));
    let ek_as_ak = proto::EnrolIdentity { ak_public: node.identity().ek_public, ..node.identity() };
    assert!(refused(&bed, ek_as_ak).await.code.starts_with("evidence."));
    let oversized = proto::EnrolIdentity { ek_chain: vec![vec![0; 200_000]], ..node.identity() };
    assert_eq!(refused(&bed, oversized).await.code, "protocol.too_large");
    assert!(verifier::nodes::list(bed.store()).await.unwrap().is_empty());
    bed.finish().await;
}

/// CVE-2025-13609: the same id enrolled with another TPM replaced the node (APPRAISAL.md §3 row 4).
#[tokio::test]
async fn row_4_the_same_id_with_another_ek_and_the_same_ek_with_another_id_are_alarms_on_the_record() {
    let mut node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    node.enrol(&bed).await.unwrap();
    let before = verifier::nodes::find(bed.store(), &node.machine.node_id).await.unwrap().unwrap();
    let mut other_tpm = node.sibling("node-1", 8);
    let size = bed.log().size();
    let refusal = other_tpm.enrol(&bed).await.unwrap_err();
    assert_eq!(refusal.code, "governance.node_identity");
    assert_eq!(refusal.entry, size.to_string());
    node.machine.node_id = evidence::names::NodeId::new("node-9").unwrap();
    assert_eq!(node.enrol(&bed).await.unwrap_err().code, "governance.node_identity");
    assert_eq!(bed.log().size(), size + 2);
    let after = verifier::nodes::find(bed.store(), &before.identity.id).await.unwrap().unwrap();
    assert_eq!(before.identity, after.identity);
    bed.finish().await;
}

#[tokio::test]
async fn enrolling_again_gives_a_certificate_and_no_new_standing() {
    let mut node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    node.enrol(&bed).await.unwrap();
    let (stream, _) = node.hello(&bed, false).await;
    stream.say(proto::node_message::Message::Halt(proto::Record { cose: node.halt_record(Vec::new()) })).await;
    let mut stream = stream;
    assert!(matches!(stream.next().await, proto::verifier_message::Message::Recorded(_)));
    node.machine.clock.clock_ms += 5_000;
    node.enrol(&bed).await.unwrap();
    let stored = verifier::nodes::find(bed.store(), &node.machine.node_id).await.unwrap().unwrap();
    assert_eq!(stored.status, NodeStatus::Quarantined);
    bed.finish().await;
}
