//! End to end: a workload that does its worst to the daemon's sockets takes nothing from another, nor from the operator.
#![allow(clippy::print_stdout, reason = "what runs as a workload speaks with the test over its output")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::timeout;
use wire::proto::{self, local_client::LocalClient, workload_client::WorkloadClient};

use super::faults::{Scene, gone, pid_of, program, running_with};
use super::stage::Stage;
use super::story::HALTED_EXIT_CODE;
use super::watched::Watched;
use crate::cli::DemoPlatform;
use crate::gateway::SPIFFE_ENDPOINT_SOCKET;
use crate::local_api::dial::dial;

/// Runs a test of this very program, which is ignored otherwise, as a workload.
pub(super) fn workload(stage: &Stage, test: &str, arguments: &[&str]) -> Watched {
    let itself = std::env::current_exe().unwrap().display().to_string();
    let mut all = vec!["--key", "ledger", "--", &itself, "--ignored", "--exact", test, "--nocapture"];
    all.extend(arguments);
    Watched::start(stage, &all).unwrap()
}

/// Its first process, once it runs.
pub(super) async fn pid(execution: &mut Watched) -> Pid {
    let begun = execution.until(|seen| seen.phase() == Some(5), |_| Ok(())).await.unwrap();
    begun.fact("pid").parse().ok().and_then(Pid::from_raw).unwrap()
}

/// The rest of the next line of its output that has this in it.
pub(super) async fn said(execution: &mut Watched, wanted: &str) -> String {
    let begun = Instant::now();
    let mut said = std::mem::take(&mut execution.unread);
    loop {
        let rest = said.split_once(wanted).and_then(|(_, rest)| rest.split_once('\n'));
        if let Some((rest, behind)) = rest {
            behind.clone_into(&mut execution.unread);
            return rest.trim().to_owned();
        }
        assert!(begun.elapsed() < SAID_WITHIN, "{wanted:?} is not in {said:?}");
        said.push_str(execution.until(|seen| seen.is("stdout"), |_| Ok(())).await.unwrap().field("text"));
    }
}

/// Who says other things goes on for as long as it lives.
const SAID_WITHIN: Duration = Duration::from_secs(30);

/// Where a workload finds both sockets.
pub(super) fn sockets() -> [PathBuf; 2] {
    let endpoint = std::env::var(SPIFFE_ENDPOINT_SOCKET).unwrap();
    let workloads = PathBuf::from(endpoint.strip_prefix("unix://").unwrap());
    [workloads.with_file_name("attestd.sock"), workloads]
}

pub(super) fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().unwrap();
}

/// Peak of what the daemon kept in memory, KiB.
fn peak_kib(node: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid_of(node).as_raw_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const SOON: Duration = Duration::from_secs(8);
const LEASE_MS: u32 = 20_000;
/// Beside what a daemon at rest keeps, in a build that is not optimized.
const FLOOD_KIB: u64 = 48 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_floods_both_sockets_stops_neither_another_nor_a_halt() {
    let Scene { stage, machine: _machine, _verifier, node, execution: _first, workload: first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let mut quiet = workload(&stage, "demo::hostile::asks_now_and_then", &[]);
    let mut pids = vec![first, pid(&mut quiet).await];
    said(&mut quiet, "asked").await;
    let before_kib = peak_kib(&node);
    let mut floods: Vec<_> = (0..2).map(|_| workload(&stage, "demo::hostile::floods", &[])).collect();
    for flood in &mut floods {
        pids.push(pid(flood).await);
    }
    for flood in &mut floods {
        said(flood, "flooded").await;
    }
    // What it asked while it was loudest.
    for _ in 0..3 {
        let worst_ms: u64 = said(&mut quiet, "asked in").await.parse().unwrap();
        assert!(worst_ms < 3_000, "a workload beside the floods waited for {worst_ms} ms");
    }
    let grown_kib = peak_kib(&node).saturating_sub(before_kib);
    assert!(grown_kib < FLOOD_KIB, "the floods cost {grown_kib} KiB");
    let ordered = Instant::now();
    let status = stage.ask_attestd(&["halt", "--reason", "a test"], HALTED_EXIT_CODE).await.unwrap();
    for pid in pids {
        assert!(gone(pid, SOON.saturating_sub(ordered.elapsed())), "a workload outlived the halt");
    }
    let states: Vec<_> = status["executions"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert!(states.iter().all(|state| *state == "halted"), "{states:?}");
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn asks_now_and_then() {
    let [_, socket] = sockets();
    loop {
        let mut worst = Duration::ZERO;
        for _ in 0..10 {
            let asked = Instant::now();
            // A new connection each time, as a process would that was just started.
            let mut client = WorkloadClient::new(connected(&socket).await);
            let standing = client.watch(proto::WatchRequest {}).await.unwrap().into_inner().message().await.unwrap();
            assert_eq!(standing.unwrap().over, "");
            worst = worst.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        say(&format!("asked in {}", worst.as_millis()));
    }
}

/// As any client does that finds no place in line (unix(7): EAGAIN).
async fn connected(socket: &Path) -> tonic::transport::Channel {
    loop {
        match dial(socket.to_owned()).await {
            Ok(channel) => return channel,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn floods() {
    let sockets = sockets();
    let mut held = Vec::new();
    for round in 0_u32.. {
        for socket in &sockets {
            held.extend((0..64).filter_map(|_| std::os::unix::net::UnixStream::connect(socket).ok()));
            drop(timeout(Duration::from_millis(100), noise(socket)).await);
            drop(timeout(Duration::from_millis(300), orders(socket)).await);
        }
        held.truncate(512);
        if round == 3 {
            say("flooded ");
        }
    }
}

async fn noise(socket: &Path) {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return };
    let _ = stream.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xff; 4096]].concat()).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Whatever there is to be asked, as fast as it is refused.
async fn orders(socket: &Path) {
    let Ok(channel) = dial(socket.to_owned()).await else { return };
    let (mut operator, mut workload) = (LocalClient::new(channel.clone()), WorkloadClient::new(channel));
    let mut streams = Vec::new();
    loop {
        let halt = proto::HaltRequest { reason: "hostile".to_owned(), ..Default::default() };
        let long = proto::ExecRequest { intent_toml: vec![b'#'; 200_000], ..Default::default() };
        let evidence = proto::EvidenceRequest { nonce: vec![7; 32], ..Default::default() };
        let refused = operator.halt(halt).await.unwrap_err();
        assert_ne!(refused.code(), tonic::Code::Ok);
        tokio::join!(
            async { drop(operator.clone().status(proto::StatusRequest {}).await) },
            async { drop(operator.clone().evidence(evidence).await) },
            async { drop(workload.clone().exec(long).await) },
        );
        streams.extend(timeout(Duration::from_millis(20), workload.watch(proto::WatchRequest {})).await);
        if refused.code() == tonic::Code::Unknown || refused.code() == tonic::Code::Unavailable {
            return; // it was closed
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_is_brought_to_its_end_when_whoever_ordered_it_is_gone() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let mut stubborn = Watched::start(&stage, &["--", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"]).unwrap();
    let pid = pid(&mut stubborn).await;
    let mut operator = LocalClient::new(dial(stage.path("attestd/run/attestd.sock")).await.unwrap());
    let halt = proto::HaltRequest { reason: "a test".to_owned(), mode: "drain".to_owned(), grace_ms: 1_500 };
    let halted = async || {
        let output = stage.finish(stage.attestd(&["--format", "json", "status"])).await?;
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(Some(status).filter(|status| !status["halt"].is_null()))
    };
    let begun = tokio::select! {
        _ = operator.halt(halt) => panic!("it was drained in no time"),
        begun = stage.until("the halt's beginning", halted) => begun.unwrap(),
    };
    drop(operator);
    assert_eq!(begun["halt"]["record"], Value::Null, "it is under way");
    let recorded = async || Ok(halted().await?.filter(|status| !status["halt"]["record"].is_null()));
    stage.until("the halt's record", recorded).await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    assert!(gone(pid, SOON));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_has_so_many_children_at_once_and_its_node_places_for_others() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let call = format!("{} --state {} exec -- sleep 600", program("attestd").display(), stage.text("attestd"));
    let script = format!("for i in $(seq 18); do {call} 2>&1 & done; wait");
    let mut execution = Watched::start(&stage, &["--", "sh", "-c", &script]).unwrap();
    said(&mut execution, "fault.overloaded").await;
    let status = stage.ask_attestd(&["status"], 0).await.unwrap();
    let children = status["executions"].as_array().unwrap().iter().filter(|one| one["parent"].is_u64()).count();
    assert!((1..=16).contains(&children), "{children}");
}

/// A file system of 1 MiB, gone with it.
struct Small(PathBuf);

impl Small {
    fn mount(folder: PathBuf) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&folder).stderr(std::process::Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("no right to mount a small file system here: left out");
        }
        mounted.then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_fills_its_disk_is_halted_and_that_is_recorded() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let Some(small) = Small::mount(stage.make("small").unwrap()) else { return };
    let script = format!("cat /dev/zero > {}/filled 2> /dev/null; echo full; exec sleep 600", small.0.display());
    let mut execution = Watched::start(&stage, &["--", "sh", "-c", &script]).unwrap();
    let pid = pid(&mut execution).await;
    said(&mut execution, "full").await;
    assert!(std::fs::write(small.0.join("more"), [0; 65_536]).is_err(), "there is place left");
    let status = stage.ask_attestd(&["halt", "--reason", "a test"], HALTED_EXIT_CODE).await.unwrap();
    assert!(gone(pid, SOON));
    assert!(status["halt"]["record"].is_string(), "{status}");
}
