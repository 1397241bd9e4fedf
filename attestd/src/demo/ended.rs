//! What is left of a demo that was ended: nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::faults::{Scene, program, running};
use crate::cli::DemoPlatform;

/// Command lines of processes that name something below `folder`.
fn naming(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let lines = processes.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(&folder)).collect()
}

/// When a demo is ended.
enum When {
    /// While the software TPM is being manufactured, by programs that start others.
    Manufacturing,
    /// When it prints this.
    Told(&'static str),
}

async fn ended_by(signal: Signal, platform: &str, when: When) {
    let place = tempfile::tempdir().unwrap();
    let mut demo = Command::new(program("attestd"));
    demo.args(["demo", "--platform", platform]).env("TMPDIR", place.path()).kill_on_drop(true);
    let mut demo = demo.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let reached = async {
        match when {
            When::Manufacturing => {
                let setup = || naming(place.path()).iter().any(|line| line.contains("swtpm_setup.conf"));
                while !setup() {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            When::Told(text) => while !lines.next_line().await.unwrap().expect("it goes on").contains(text) {},
        }
    };
    timeout(WITHIN, reached).await.expect("it gets so far");
    kill_process(Pid::from_raw(i32::try_from(demo.id().unwrap()).unwrap()).unwrap(), signal).unwrap();
    let status = timeout(WITHIN, demo.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(4), "it was not all observed");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    none_named(place.path()).await;
}

/// What was killed with its process group is nobody's child here: it is gone in a moment.
async fn none_named(folder: &Path) {
    let gone = async {
        while !naming(folder).is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let left = timeout(WITHIN, gone).await.map_err(|_| naming(folder));
    left.expect("nobody is left");
}

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_ended_by_sigterm_leaves_nothing() {
    ended_by(Signal::TERM, "tpm", When::Manufacturing).await;
    ended_by(Signal::TERM, "tpm", When::Told(" s  6 ")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_ended_by_sigint_or_sighup_leaves_nothing() {
    ended_by(Signal::INT, "simulated-snp", When::Told("enrolled")).await;
    ended_by(Signal::HUP, "simulated-snp", When::Told(" s  5 ")).await;
}

/// Whatever goes first: folder, daemons or machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_scene_that_is_dropped_leaves_nothing() {
    let Scene { stage, machine, _verifier, node, execution, .. } = running(DemoPlatform::Tpm, 60_000).await;
    let folder = stage.path("");
    assert!(!naming(&folder).is_empty());
    drop(stage);
    assert!(!folder.exists());
    drop((machine, _verifier, node, execution));
    assert!(!folder.exists(), "somebody wrote on");
    none_named(&folder).await;
}
