//! Nothing is released before enough witnesses cosigned the log; what is not a release waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit::note::{NoteKey, NoteKeyKind};
use audit::receipt::Receipt;
use audit::witness::{AddCheckpoint, answer};
use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use governance::artifact::Artifact;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use verifier::leases::{self, LeaseEnd};
use verifier::witness::{WitnessAt, WitnessPeer};
use wire::proto::{self, node_message::Message as Says, verifier_message::Message as Hears};

use crate::bed::{Bed, Witnesses, log_signer, now};
use crate::node::Node;

const WITNESS: &str = "w.example/witness";

fn key() -> SigningKey {
    SigningKey::from_seed(&[55; 32]).unwrap()
}

/// A witness that cosigns whatever it is shown, while it is up; what a real one refuses is tested beside it.
struct Obliging {
    up: Arc<AtomicBool>,
    peer: WitnessPeer,
}

impl Obliging {
    async fn listening() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prefix = format!("http://{}", listener.local_addr().unwrap());
        let up = Arc::new(AtomicBool::new(true));
        let answers = up.clone();
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let up = answers.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    let body = body(&mut tcp).await;
                    if up {
                        let request = AddCheckpoint::parse(&body).unwrap();
                        let line = answer(&request.note, WITNESS, &key(), now()).unwrap();
                        let head = format!(
                            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{line}",
                            line.len()
                        );
                        drop(tcp.write_all(head.as_bytes()).await);
                    }
                });
            }
        });
        let vkey = NoteKey::new(WITNESS, NoteKeyKind::Cosignature, key().public()).unwrap();
        let domain = DomainName::new("w.example").unwrap();
        Self { up, peer: WitnessPeer { domain, keys: vec![vkey], at: WitnessAt::Plain(prefix) } }
    }

    fn set(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    fn witnesses(&self, within: Duration) -> Witnesses {
        Witnesses { needed: 1, within, peers: watch::channel(Arc::new(vec![self.peer.clone()])).0 }
    }
}

async fn body(tcp: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return body.as_bytes().to_vec();
            }
        }
        if tcp.read_buf(&mut read).await.unwrap() == 0 {
            return Vec::new();
        }
    }
}

#[tokio::test]
async fn an_authorization_and_a_renewal_are_answered_under_a_cosigned_checkpoint_or_not_at_all() {
    let witness = Obliging::listening().await;
    let mut node = Node::new();
    let bed = Bed::witnessed(&node.machine, witness.witnesses(Duration::from_secs(2))).await;
    bed.put_key("db", b"the secret").await;
    node.enrol(&bed).await.unwrap();
    let mut stream = node.connect(&bed).await;
    let vkeys = &witness.peer.keys;
    let identity = log_signer();
    let cosigned = |receipt: &[u8]| Receipt::verify(receipt, &identity.identity(), vkeys, 1, now()).unwrap();

    // Nobody cosigns: the commit stands in the log, and nothing of it is answered.
    witness.set(false);
    let request = node.authorize(&node.intent(&["db"]));
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str(), refusal.halt), ("fault", "fault.witness_quorum", false));
    let held = leases::of_node(bed.store(), &node.machine.node_id).await.unwrap();
    assert_eq!((held.len(), held[0].seq, held[0].ended), (1, 1, Some(LeaseEnd::Void)));

    // It is back: the next request is answered, and anyone can count the cosignature.
    witness.set(true);
    let request = node.authorize(&node.intent(&["db"]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    assert_eq!(granted.keys.len(), 1);
    cosigned(&granted.receipt);

    // A renewal that too few cosigned is void: the lease before goes on, and its number is never used again.
    witness.set(false);
    let request = node.renew(&granted.artifact);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("fault.witness_quorum", false));
    witness.set(true);
    let request = node.renew(&granted.artifact);
    let renewed = node.ask(&mut stream, request).await.unwrap();
    cosigned(&renewed.receipt);
    let terms = evidence::cose::claimed_payload(&renewed.artifact).unwrap();
    assert_eq!(Artifact::decode(&terms).unwrap().terms().lease.seq, 3);
    bed.finish().await;
}

#[tokio::test]
async fn health_and_metrics_say_that_a_witness_is_missing() {
    let witness = Obliging::listening().await;
    let mut node = Node::new();
    let bed = Bed::witnessed(&node.machine, witness.witnesses(Duration::from_secs(2))).await;
    node.enrol(&bed).await.unwrap();
    let mut stream = node.connect(&bed).await;
    let figure = async |name: &str| -> u64 {
        let metrics = bed.get("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("verifier_{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
    };
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    assert!(bed.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert_eq!((figure("witness_quorum").await, figure("cosignatures_missing").await), (1, 0));
    let cosigned = figure("cosigned_size").await;
    assert!(cosigned > 0);

    witness.set(false);
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap_err();
    let health = bed.get("/healthz").await;
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("fault.witness_quorum"), "{health}");
    assert_eq!((figure("witness_quorum").await, figure("cosignatures_missing").await), (1, 1));
    assert_eq!(figure("cosigned_size").await, cosigned, "nobody cosigned what was logged since");

    witness.set(true);
    let request = node.renew(&granted.artifact);
    node.ask(&mut stream, request).await.unwrap();
    assert!(bed.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert_eq!(figure("cosignatures_missing").await, 0);
    assert!(figure("cosigned_size").await > cosigned);
    bed.finish().await;
}

#[tokio::test]
async fn denials_and_halt_records_wait_for_no_witness() {
    let witness = Obliging::listening().await;
    let mut node = Node::new();
    // Whoever waits for a witness in this test waits for ever.
    let bed = Bed::witnessed(&node.machine, witness.witnesses(Duration::from_secs(3600))).await;
    node.enrol(&bed).await.unwrap();
    let mut stream = node.connect(&bed).await;
    let request = node.authorize(&node.intent(&[]));
    let granted = node.ask(&mut stream, request).await.unwrap();
    witness.set(false);
    node.machine.boot.events.push(tests::boot::BootEvent::of_data(4, 0x0d, b"something else"));
    let request = node.renew(&granted.artifact);
    let refusal = node.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.halt), ("denied", true));
    let halt = node.halt_record(vec![Sha256Digest::of(&granted.artifact)]);
    stream.say(Says::Halt(proto::Record { cose: halt })).await;
    assert!(matches!(stream.next().await, Hears::Recorded(_)));
    bed.finish().await;
}
