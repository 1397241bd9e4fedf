//! A domain whose lease ran out, and which authorizes the same execution anew while others kept it going.

use verifier::leases;
use wire::proto::{self, node_message::Message as Says, verifier_message::Message as Hears};

use crate::{bed::now, life::ready};

#[tokio::test]
async fn who_was_authorized_anew_owes_one_word_on_its_execution() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let missing = async || leases::count_missing(bed.store()).await.unwrap();
    let intent = node.intent(&[]);
    let request = node.authorize(&intent);
    node.ask(&mut stream, request).await.unwrap();
    // It ran out unheard: an alarm, until it is known that the execution goes on.
    bed.desk.raise_missing_halts(now().plus(3600)).await.unwrap();
    assert_eq!(missing().await, 1);
    let request = node.authorize(&intent);
    node.ask(&mut stream, request).await.unwrap();
    assert_eq!(missing().await, 0, "it goes on");
    let request = node.authorize(&intent);
    let newest = node.ask(&mut stream, request).await.unwrap();
    // The one before is not waited for; the newest is.
    bed.desk.raise_missing_halts(now().plus(3600)).await.unwrap();
    assert_eq!(missing().await, 1);
    stream.say(Says::End(proto::Record { cose: node.end_record(&intent, &newest.artifact) })).await;
    let Hears::Recorded(_) = stream.next().await else { panic!("not recorded") };
    assert_eq!(missing().await, 0);
    bed.desk.raise_missing_halts(now().plus(3600)).await.unwrap();
    assert_eq!(missing().await, 0, "nothing else is owed");
    bed.finish().await;
}
