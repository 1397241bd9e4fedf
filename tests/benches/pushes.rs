//! How long a verifier takes to push a revocation to a thousand nodes that have their streams open: real listeners, real
//! TLS, and simulated nodes, which take what is pushed and nothing more, in the same process and on the same cores.
//! `BENCH_NODES` makes it smaller; the budget is about the figure that stands here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

#[allow(dead_code, reason = "a domain for every test of the service")]
#[path = "../tests/service/bed.rs"]
mod bed;
#[allow(dead_code, reason = "the clock of this bench is in the streams that it watches")]
mod measure;
#[allow(dead_code, reason = "a node for every test of the service")]
#[path = "../tests/service/node.rs"]
mod node;

use std::time::Instant;

use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use wire::proto::verifier_message::Message as Hears;

use crate::bed::Bed;
use crate::node::{Node, Stream};

const NODES: usize = 1_000;
const ROUNDS: usize = 10;
/// Of the first push, before anything is warm, too.
const BUDGET_MS: f64 = 1_000.0;

fn main() {
    // Both ends of each connection are ours.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("a limit of open files");
    let nodes = std::env::var("BENCH_NODES").ok().map_or(NODES, |nodes| nodes.parse().expect("a figure"));
    Runtime::new().expect("a runtime").block_on(pushed(nodes));
}

async fn pushed(nodes: usize) {
    let first = Node::new();
    let bed = Bed::knowing(&first.machine).await;
    let mut streams = Vec::with_capacity(nodes);
    for number in 0..nodes {
        let mut node = first.sibling(&format!("node-{number}"), 0);
        // A seed of its own, of which a sibling's has one byte.
        let seed = Sha256Digest::of(&number.to_be_bytes());
        node.machine.record_key = SigningKey::from_seed(&seed.0).unwrap();
        node.enrol(&bed).await.unwrap();
        streams.push(node.connect(&bed).await);
    }
    let mut longest_ms: f64 = 0.0;
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let hearing: Vec<_> = streams.into_iter().map(|stream| tokio::spawn(told(stream))).collect();
        let revocation = vec![u8::try_from(round).unwrap(); 600];
        assert_eq!(bed.desk.push_revocation(&revocation), nodes, "everybody is connected");
        streams = Vec::with_capacity(nodes);
        for heard in hearing {
            streams.push(heard.await.unwrap());
        }
        longest_ms = longest_ms.max(begun.elapsed().as_secs_f64() * 1e3);
    }
    let what = format!("a revocation pushed to {nodes} streams, longest of {ROUNDS}");
    measure::report(&what, longest_ms, " ms", BUDGET_MS);
    drop(streams);
    bed.finish().await;
}

async fn told(mut stream: Stream) -> Stream {
    match stream.next().await {
        Hears::Push(_) => stream,
        other => panic!("{other:?}"),
    }
}
