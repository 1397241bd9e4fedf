//! JWT-SVIDs: for the node that holds the lease, while it is in force and no longer, and each on record.

use audit::receipt::Receipt;
use audit::record::{LineageRecord, RecordBody};
use evidence::cbor::{self, Caps};
use evidence::cose::{PublicKey, claimed_payload};
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use governance::artifact::{Artifact, ArtifactTerms};
use governance::jwt_svid::ClaimedJwtSvid;
use governance::revocation::Revoked;
use governance::trust_bundle::KeyRecord;
use verifier::es256::Es256Key;
use wire::proto::{self, node_message::Message as Says, verifier_message::Message as Hears};

use crate::bed::{Bed, domain, now};
use crate::life::ready;
use crate::node::{Node, Stream};

/// More than one node may ask for at once.
const TOO_MANY: usize = 400;

async fn ask(node: &mut Node, stream: &mut Stream, id: [u8; 16]) -> Result<proto::JwtSvid, proto::Refusal> {
    let (audience, lineage_head) = (vec!["one".to_owned(), "two".to_owned()], node.head.0.to_vec());
    stream.say(Says::AskJwtSvid(proto::AskJwtSvid { artifact: id.to_vec(), audience, lineage_head })).await;
    match stream.next().await {
        Hears::JwtSvid(given) => {
            node.head = Sha256Digest::try_from(given.lineage_head.as_slice()).unwrap();
            Ok(given)
        }
        Hears::Refusal(refusal) => Err(node.heard(refusal)),
        other => panic!("{other:?}"),
    }
}

/// Refused without a halt.
async fn refused(node: &mut Node, stream: &mut Stream, id: [u8; 16]) -> String {
    let refusal = ask(node, stream, id).await.unwrap_err();
    assert!(!refusal.halt, "{refusal:?}");
    refusal.code
}

fn terms(granted: &proto::Authorization) -> ArtifactTerms {
    Artifact::decode(&claimed_payload(&granted.artifact).unwrap()).unwrap().terms()
}

/// Gives the domain a key of JWT-SVIDs.
fn keyed(bed: &Bed) -> PublicKey {
    let key = Es256Key::from_pkcs8(&Es256Key::generate().unwrap()).unwrap();
    let public = key.public().clone();
    bed.jwt.activate(key);
    public
}

#[tokio::test]
async fn one_is_signed_within_its_lease_and_named_by_a_record() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    let intent = node.intent(&[]);
    let request = node.authorize(&intent);
    let granted = node.ask(&mut stream, request).await.unwrap();
    let terms = terms(&granted);
    assert_eq!(refused(&mut node, &mut stream, terms.id.0).await, "fault.jwt_key_absent");
    let key = keyed(&bed);
    let given = ask(&mut node, &mut stream, terms.id.0).await.unwrap();
    let keys = [KeyRecord { key, from: UnixSeconds(0), until: UnixSeconds(u64::MAX) }];
    let svid = ClaimedJwtSvid::read(&given.svid).unwrap().verify(&keys, "two", now()).unwrap();
    assert_eq!((svid.spiffe_id(), svid.audiences().len()), (intent.spiffe_id(&domain()).unwrap().as_str(), 2));
    assert!(svid.expires_at() <= terms.expires_at, "{} after {}", svid.expires_at(), terms.expires_at);
    let entry = Receipt::decode(&given.receipt).unwrap().entry;
    let payload = claimed_payload(&entry).unwrap();
    let record: LineageRecord = cbor::from_slice(&payload, Caps::bytes(payload.len())).unwrap();
    let RecordBody::JwtSvid { artifact, svid: digest, expires_at } = &record.body else { panic!("{record:?}") };
    assert_eq!((**artifact, *digest), (terms.id.0, Sha256Digest::of(given.svid.as_bytes())));
    assert_eq!((*expires_at, record.subject), (svid.expires_at(), terms.intent));
    // The lease goes on as ever, and so does its identity.
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    ask(&mut node, &mut stream, terms.id.0).await.unwrap();
    bed.finish().await;
}

#[tokio::test]
async fn none_is_signed_for_another_node_or_for_what_is_over() {
    let (mut bed, mut node, mut stream) = ready(&[]).await;
    keyed(&bed);
    let intent = node.intent(&[]);
    let request = node.authorize(&intent);
    let granted = node.ask(&mut stream, request).await.unwrap();
    let id = terms(&granted).id.0;
    assert_eq!(refused(&mut node, &mut stream, [9; 16]).await, "governance.artifact_id");
    let mut other = node.sibling("node-2", 77);
    other.enrol(&bed).await.unwrap();
    let mut others = other.connect(&bed).await;
    assert_eq!(refused(&mut other, &mut others, id).await, "governance.artifact_id");
    // Its own is signed all the while.
    ask(&mut node, &mut stream, id).await.unwrap();
    stream.say(Says::End(proto::Record { cose: node.end_record(&intent, &granted.artifact) })).await;
    let Hears::Recorded(recorded) = stream.next().await else { panic!("not recorded") };
    node.head = Sha256Digest::try_from(recorded.lineage_head.as_slice()).unwrap();
    assert_eq!(refused(&mut node, &mut stream, id).await, "governance.artifact_id");
    bed.rules.revoked.push(Revoked::Node(node.machine.node_id.clone()));
    bed.govern().await;
    assert_eq!(refused(&mut node, &mut stream, id).await, "governance.revoked");
    bed.finish().await;
}

#[tokio::test]
async fn a_node_that_missed_a_renewal_renews_first_and_loses_nothing() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    keyed(&bed);
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    let (id, head) = (terms(&granted).id.0, node.head);
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    // As if that answer had been lost: its history must not go on before it has an artifact that is in force.
    node.head = head;
    assert_eq!(refused(&mut node, &mut stream, id).await, "fault.state_moved");
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    ask(&mut node, &mut stream, id).await.unwrap();
    // A history that is not ours is a fork, whatever it is shown for.
    node.head = Sha256Digest([3; 32]);
    let refusal = ask(&mut node, &mut stream, id).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.lineage_discontinuous", true));
    bed.finish().await;
}

#[tokio::test]
async fn who_asks_too_often_waits_and_keeps_its_lease() {
    let (bed, mut node, mut stream) = ready(&[]).await;
    keyed(&bed);
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    let id = terms(&granted).id.0;
    let mut refusal = None;
    for _ in 0..TOO_MANY {
        refusal = ask(&mut node, &mut stream, id).await.err();
        if refusal.is_some() {
            break;
        }
    }
    assert_eq!(refusal.map(|refusal| refusal.code).as_deref(), Some("fault.overloaded"));
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    bed.finish().await;
}
