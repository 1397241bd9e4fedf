//! What a durable log append costs: one by one, each with its own commit, signature and publication; and at 64
//! concurrent authorizations, which share them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

mod measure;

use std::sync::Arc;

use criterion::Criterion;
use evidence::cose::SigningKey;
use tokio::runtime::Runtime;
use verifier::log::{CheckpointSigner, Log, OpenOptions, open};
use verifier::store::{Database, NewEntry, create};

/// Authorizations in flight at once.
const CONCURRENT: usize = 64;
/// Appends of each in one measured call.
const EACH: usize = 8;
/// About as long as an authorization's record.
const ENTRY_BYTES: usize = 700;

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder on a disk");
    let opened = runtime.block_on(async {
        let url = format!("sqlite://{}", folder.path().join("verifier.db").display());
        let database = Database::at(&url).expect("a database");
        create(&database, "a.example", "bench").await.expect("a schema");
        let tiles = folder.path().join("tiles");
        std::fs::create_dir(&tiles).expect("a folder");
        let key = Arc::new(SigningKey::from_seed(&[1; 32]).expect("a key"));
        let signer = CheckpointSigner::new("a.example/log", key).expect("a signer");
        let (instance, holder) = ("bench".to_owned(), "bench".to_owned());
        open(OpenOptions { database, instance, holder, tiles, signer }).await.expect("an open store")
    });

    let log = opened.log.clone();
    let alone = measure::best_us(&mut criterion, "append/one-by-one", || runtime.block_on(append(&log)));
    let together = measure::best_us(&mut criterion, "append/64-concurrent", || {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..CONCURRENT)
                .map(|_| {
                    let log = log.clone();
                    tokio::spawn(async move {
                        for _ in 0..EACH {
                            append(&log).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("appended");
            }
        })
    }) / (CONCURRENT * EACH) as f64;

    println!("ratio: log append at {CONCURRENT} concurrent: {:.1} x the rate of one by one", alone / together);
    measure::report("log append at 64 concurrent, time of one by one", together / alone, "", 0.05);
    drop(log);
    runtime.block_on(opened.close());
}

async fn append(log: &Log) {
    let logged = log.append(vec![NewEntry::new(vec![7; ENTRY_BYTES])]).await.expect("appended");
    assert_eq!(logged.len(), 1);
}
