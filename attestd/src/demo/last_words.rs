//! End to end: who watches its standing hears why it ends before it is killed, and what becomes of its keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use wire::proto::{self, workload_client::WorkloadClient};

use super::faults::{Scene, gone, running_with};
use super::hostile::{pid, sockets, workload};
use super::stage::Stage;
use super::story::HALTED_EXIT_CODE;
use super::watched::Watched;
use crate::cli::DemoPlatform;
use crate::local_api::dial::dial;

const WATCHES: &str = "demo::last_words::watches";
const LEASE_MS: u32 = 6_000;
const SOON: Duration = Duration::from_secs(8);

/// What was left in a file.
async fn left(stage: &Stage, name: &str) -> String {
    let look = async || Ok(std::fs::read_to_string(stage.path(name)).ok());
    stage.until(name, look).await.map_err(|fault| fault.with_logs(stage)).unwrap()
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn watches() {
    let [_, socket] = sockets();
    let file = PathBuf::from(std::env::args().next_back().unwrap());
    loop {
        let mut client = WorkloadClient::new(dial(socket.clone()).await.unwrap());
        let mut told = client.watch(proto::WatchRequest {}).await.unwrap().into_inner();
        leave(&file, "watching", "");
        while let Some(standing) = told.message().await.unwrap() {
            if !standing.over.is_empty() {
                let word = if standing.keys_revoked { "keys revoked" } else { "killed" };
                // Asked anew, where there is time for it.
                let name = if file.with_extension("told").exists() { "again" } else { "told" };
                leave(&file, name, &format!("{} {word} {}", standing.over, standing.ends_in_ms > 0));
            }
        }
    }
}

/// Seen whole or not at all.
fn leave(file: &Path, what: &str, text: &str) {
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, text).unwrap();
    std::fs::rename(unfinished, file.with_extension(what)).unwrap();
}

/// So many who watch. A killed one can leave no word, and a busy machine may not give each of them its few milliseconds.
const WATCHERS: [&str; 4] = ["a", "b", "c", "d"];

async fn watching(stage: &Stage) -> Vec<(Watched, Pid)> {
    let mut all = Vec::new();
    for name in WATCHERS {
        let mut execution = workload(stage, WATCHES, &[&stage.text(name)]);
        let pid = pid(&mut execution).await;
        left(stage, &format!("{name}.watching")).await;
        all.push((execution, pid));
    }
    all
}

/// All are gone, and some could say that they heard why.
fn heard(stage: &Stage, pids: &[Pid], why: &str) {
    for pid in pids {
        assert!(gone(*pid, SOON), "it outlived its end");
    }
    let left = WATCHERS.map(|name| std::fs::read_to_string(stage.path(&format!("{name}.told"))).ok());
    let left: Vec<_> = left.into_iter().flatten().collect();
    assert!(!left.is_empty() && left.iter().all(|left| left == why), "{left:?}");
    WATCHERS.iter().for_each(|name| drop(std::fs::remove_file(stage.path(&format!("{name}.told")))));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_hears_of_its_end_before_it_is_killed() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let (executions, pids): (Vec<_>, Vec<_>) = watching(&stage).await.into_iter().unzip();
    drop(executions); // and with them the clients whose executions they are
    heard(&stage, &pids, "ended killed false");
    let (_executions, pids): (Vec<_>, Vec<_>) = watching(&stage).await.into_iter().unzip();
    stage.ask_attestd(&["halt", "--reason", "a test"], HALTED_EXIT_CODE).await.unwrap();
    heard(&stage, &pids, "halt.operator killed false");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_hears_that_its_lease_ends_before_its_supervisor_kills_it() {
    let Scene { stage, machine: _machine, mut _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let (_executions, pids): (Vec<_>, Vec<_>) = watching(&stage).await.into_iter().unzip();
    _verifier.kill().await.unwrap();
    heard(&stage, &pids, "halt.lease_ended killed false");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_keys_are_revoked_hears_it_and_as_often_as_it_asks_until_its_lease_ends() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let mut execution = workload(&stage, WATCHES, &[&stage.text("w")]);
    let pid = pid(&mut execution).await;
    left(&stage, "w.watching").await;
    let halt = ["halt", "--reason", "a test", "--mode", "revoke-keys"];
    stage.ask_attestd(&halt, HALTED_EXIT_CODE).await.unwrap();
    assert_eq!(left(&stage, "w.told").await, "halt.operator keys revoked true");
    assert_eq!(left(&stage, "w.again").await, "halt.operator keys revoked true");
    assert!(gone(pid, SOON), "it outlived its lease");
}
