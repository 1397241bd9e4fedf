//! What a stream carries and what ends it, and what is served beside streams.

use wire::proto::{self, node_message::Message as Says, verifier_message::Message as Hears};

use crate::{life::ready, node::Stream};

#[tokio::test]
async fn messages_out_of_order_or_bounds_end_the_stream_with_their_code() {
    let (bed, node, _stream) = ready(&[]).await;
    let request = || node.authorize(&node.intent(&[]));
    let hello = || Says::Hello(node.hello_message(false));
    let cases: [(&str, Vec<Says>); 6] = [
        ("protocol.unexpected", vec![request()]),
        ("protocol.unexpected", vec![hello(), hello()]),
        ("protocol.unexpected", vec![hello(), Says::Evidence(proto::Evidence { cmw: vec![1] })]),
        (
            "protocol.other_node",
            vec![Says::Hello(proto::Hello { node_id: "node-2".into(), ..node.hello_message(false) })],
        ),
        (
            "protocol.field",
            vec![
                hello(),
                Says::Renew(proto::Renew {
                    artifacts: vec![vec![1; 32], vec![2; 32]],
                    lineage_head: vec![0; 32],
                    parents: vec![],
                    other_checkpoints: vec![],
                }),
            ],
        ),
        ("protocol.too_large", vec![hello(), Says::Evidence(proto::Evidence { cmw: vec![0; 12 << 20] })]),
    ];
    for (code, messages) in cases {
        let mut stream = Stream::open(&bed, node.client(&bed)).await;
        for message in messages {
            stream.say(message).await;
        }
        let refusal = loop {
            match stream.next().await {
                Hears::Refusal(refusal) => break refusal,
                Hears::Welcome(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refusal.code, code);
        assert!(matches!(stream.heard().await, Ok(None)), "{code}: the stream ends");
    }
    bed.finish().await;
}

#[tokio::test]
async fn a_second_stream_of_a_node_displaces_the_first_and_pushes_reach_the_newest() {
    let (bed, mut node, mut first) = ready(&[]).await;
    let mut second = node.connect(&bed).await;
    assert!(matches!(first.heard().await, Ok(None)));
    assert!(bed.desk.push_halt(&node.machine.node_id, "governance.revoked", "test"));
    let Hears::Push(push) = second.next().await else { panic!("no push") };
    assert!(matches!(push.push, Some(proto::push::Push::Halt(halt)) if halt.code == "governance.revoked"));
    bed.finish().await;
}

#[tokio::test]
async fn health_and_counts_are_served_and_the_addresses_file_goes_with_the_service() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();
    assert!(bed.get("/healthz").await.starts_with("HTTP/1.1 200"));
    let metrics = bed.get("/metrics").await;
    assert!(metrics.contains("verifier_authorizations_total 1"), "{metrics}");
    let file = bed.folder.path().join(verifier::serve::ADDRESSES_FILE);
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written["nodes"], bed.addresses.nodes.to_string());
    let folder = bed.folder.path().to_owned();
    let _ = folder;
    bed.finish().await;
}
