//! A node that owes a word about what it ran is an alarm until it says it.

use evidence::digest::Sha256Digest;
use verifier::nodes::NodeStatus;
use wire::proto::{self, node_message::Message as Says, verifier_message::Message as Hears};

use crate::{
    bed::now,
    life::{ready, status},
};

#[tokio::test]
async fn a_lease_that_ends_without_a_word_is_an_alarm_once_and_settled_by_the_word() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let intent = node.intent(&[]);
    let request = node.authorize(&intent);
    let granted = node.ask(&mut stream, request).await.unwrap();
    let size = bed.log().size();
    bed.desk.raise_missing_halts(now()).await.unwrap();
    assert_eq!(bed.log().size(), size, "it is still running");
    for _ in 0..2 {
        bed.desk.raise_missing_halts(now().plus(3600)).await.unwrap();
        assert_eq!(bed.log().size(), size + 1);
    }
    assert_eq!(verifier::leases::count_missing(bed.store()).await.unwrap(), 1);
    assert_eq!(status(&bed, &node).await, NodeStatus::Active, "an alarm takes nothing from the node");
    let request = node.renew(&granted.artifact);
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "governance.artifact_id");
    stream.say(Says::End(proto::Record { cose: node.end_record(&intent, &granted.artifact) })).await;
    let Hears::Recorded(_) = stream.next().await else { panic!("not recorded") };
    assert_eq!(verifier::leases::count_missing(bed.store()).await.unwrap(), 0);
    bed.finish().await;
}

/// We know that it must stop; only the node knows that it did.
#[tokio::test]
async fn a_node_that_was_refused_and_does_not_say_that_it_stopped_is_an_alarm_until_it_does() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let intent = node.intent(&[]);
    let request = node.authorize(&intent);
    let granted = node.ask(&mut stream, request).await.unwrap();
    node.machine.boot.events.push(tests::boot::BootEvent::of_data(4, 0x0d, b"something else"));
    let request = node.renew(&granted.artifact);
    assert!(node.ask(&mut stream, request).await.unwrap_err().halt);
    let id = node.machine.node_id.clone();
    let shown = async || verifier::node_shown::show(bed.store(), &id).await.unwrap().unwrap();
    let missing = async || verifier::leases::count_missing(bed.store()).await.unwrap();
    bed.desk.raise_missing_halts(now()).await.unwrap();
    let awaited = shown().await;
    assert_eq!(
        (missing().await, &awaited["alarm"]),
        (0, &serde_json::Value::Null),
        "its lease may still end: {awaited}"
    );
    assert!(awaited["next"][0].as_str().unwrap().contains("awaited"), "{awaited}");
    let size = bed.log().size();
    for _ in 0..2 {
        bed.desk.raise_missing_halts(now().plus(3600)).await.unwrap();
        assert_eq!(bed.log().size(), size + 1, "logged once");
    }
    let alarm = shown().await;
    assert_eq!((missing().await, &alarm["alarm"]), (1, &"halt.record_missing".into()), "{alarm}");
    assert_eq!(verifier::node_shown::list(bed.store()).await.unwrap()[0]["alarm"], "halt.record_missing");
    let metrics = bed.get("/metrics").await;
    assert!(metrics.contains("verifier_halt_records_missing 1"), "{metrics}");

    let halt = node.halt_record(vec![Sha256Digest::of(&granted.artifact)]);
    stream.say(Says::Halt(proto::Record { cose: halt })).await;
    let Hears::Recorded(_) = stream.next().await else { panic!("not recorded") };
    let told = shown().await;
    assert_eq!((missing().await, &told["alarm"]), (0, &serde_json::Value::Null), "{told}");
    assert_eq!(told["halt_record"]["code"], "halt.pcr_changed");
    assert_eq!(told["leases"][0]["ended"], "halted");
    let next: Vec<_> = told["next"].as_array().unwrap().iter().filter_map(|step| step.as_str()).collect();
    assert!(next[0].contains("PCR") && next[1].contains(&format!("verifier node readmit {id}")), "{next:?}");
    bed.finish().await;
}

/// One execution's end says nothing of another's.
#[tokio::test]
async fn the_word_on_one_execution_does_not_settle_the_alarm_about_another() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let (silent, ended) = (node.intent(&[]), node.intent(&[]));
    let request = node.authorize(&silent);
    node.ask(&mut stream, request).await.unwrap();
    bed.desk.raise_missing_halts(now().plus(3600)).await.unwrap();
    let request = node.authorize(&ended);
    let granted = node.ask(&mut stream, request).await.unwrap();
    stream.say(Says::End(proto::Record { cose: node.end_record(&ended, &granted.artifact) })).await;
    let Hears::Recorded(_) = stream.next().await else { panic!("not recorded") };
    assert_eq!(verifier::leases::count_missing(bed.store()).await.unwrap(), 1);
    bed.finish().await;
}
