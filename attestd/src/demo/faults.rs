//! End to end, with the demo's machine: what ends an execution, and what a daemon that was killed may still do.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tokio::process::Child;
use tokio::time::sleep;

use super::machine::{Machine, NODE, node_config};
use super::stage::{ATTESTD_STATE, Programs, Stage};
use super::story::{HALTED_EXIT_CODE, Story};
use super::watched::{Seen, Watched};
use crate::cli::DemoPlatform;

/// Programs as the workspace builds them: beside the folder that tests are built in.
pub(super) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: `cargo build --workspace --bins`", path.display());
    path
}

/// A machine, its domain and its daemon, with one workload running under a lease.
pub(super) struct Scene {
    pub(super) stage: Stage,
    pub(super) machine: Machine,
    pub(super) _verifier: Child,
    pub(super) node: Child,
    pub(super) execution: Watched,
    pub(super) workload: Pid,
    pub(super) artifact: String,
}

/// Tells the story as far as the first renewal, silently; `watch_interval_ms` is how often the daemon looks at its
/// machine.
pub(super) async fn running(platform: DemoPlatform, watch_interval_ms: u32) -> Scene {
    running_with(platform, watch_interval_ms, LEASE_MS).await
}

/// The same, with leases of this length.
pub(super) async fn running_with(platform: DemoPlatform, watch_interval_ms: u32, lease_ms: u32) -> Scene {
    running_as(platform, watch_interval_ms, lease_ms, "").await
}

/// The same, with this at the end of the node's `[halt]`.
pub(super) async fn running_as(
    platform: DemoPlatform,
    watch_interval_ms: u32,
    lease_ms: u32,
    halt_toml: &str,
) -> Scene {
    let simulator = (platform != DemoPlatform::Tpm).then(|| program("tee-simulator"));
    let programs = Programs { attestd: program("attestd"), verifier: program("verifier"), simulator };
    let mut stage = Stage::new(programs, false).unwrap();
    stage.lease_ms = lease_ms;
    let mut out = std::io::sink();
    let mut story = Story::new(&stage, &mut out);
    let (machine, verifier) = story.prepare(platform).await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    let config = std::fs::read_to_string(node_config(&stage)).unwrap();
    std::fs::write(node_config(&stage), config + halt_toml).unwrap();
    let node = story.start_node(watch_interval_ms).await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    story.trust_what_runs_now().await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    let (execution, workload) = story.run_until_renewed().await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    let pid = Pid::from_raw(workload.pid.parse().unwrap()).unwrap();
    let artifact = workload.artifact;
    Scene { stage, machine, _verifier: verifier, node, execution, workload: pid, artifact }
}

/// Waits for the end of a process that is not a child of ours; how long that took at most is `within`.
pub(super) fn gone(pid: Pid, within: Duration) -> bool {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let until = Instant::now() + within;
    loop {
        let mut wait = [PollFd::new(&pidfd, PollFlags::IN)];
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut wait, Some(&left.try_into().unwrap())) {
            Err(rustix::io::Errno::INTR) => {} // a child of ours ended
            woken => return woken.unwrap() == 1,
        }
    }
}

pub(super) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

async fn ends_with(mut execution: Watched, code: &str) {
    let exit = execution.until(|seen| seen.is("exit"), |_: &Seen| Ok(())).await.unwrap();
    assert_eq!(exit.field("halt_code"), code);
    assert_eq!(execution.exit_code().await.unwrap(), HALTED_EXIT_CODE);
}

const SOON: Duration = Duration::from_secs(5);
const LEASE_MS: u32 = 2_400;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_takes_its_workload_along_and_must_attest_anew() {
    let Scene { stage, mut node, workload, artifact, machine: _machine, _verifier, execution: _execution } =
        running(DemoPlatform::Tpm, 60_000).await;
    kill_process(pid_of(&node), Signal::KILL).unwrap();
    assert!(gone(workload, SOON), "the workload outlived attestd");
    // Its workload sees it go a moment before its lock on the state is free.
    node.wait().await.unwrap();
    let mut out = std::io::sink();
    let mut story = Story::new(&stage, &mut out);
    let _node = story.start_node(60_000).await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    let status = stage.ask_attestd(&["status"], 0).await.unwrap();
    let held = status.pointer("/executions").and_then(Value::as_array).map(Vec::len);
    assert_eq!(held, Some(0), "a lease survived the daemon: {status}");
    let (_execution, again) = story.run_until_renewed().await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    assert_ne!(again.artifact, artifact, "the old authorization was used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_that_is_gone_halts_with_its_own_reason() {
    let Scene { machine, workload, execution, stage: _stage, node: _node, _verifier, .. } =
        running(DemoPlatform::Tpm, 100).await;
    signal(machine.tpm.as_ref().unwrap().pid(), Signal::KILL);
    assert!(gone(workload, SOON), "the workload outlived the TPM");
    ends_with(execution, "halt.device_lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_reset_halts_with_its_own_reason() {
    let Scene { mut machine, workload, execution, stage, node: _node, _verifier, .. } =
        running(DemoPlatform::Tpm, 100).await;
    machine.restore(&stage).await.unwrap();
    assert!(gone(workload, SOON), "the workload outlived the TPM's reset");
    ends_with(execution, "halt.tpm_reset").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tee_that_is_gone_halts_with_its_own_reason() {
    let Scene { machine, workload, execution, stage: _stage, node: _node, _verifier, .. } =
        running(DemoPlatform::SimulatedSnp, 100).await;
    signal(machine.tee.as_ref().unwrap().pid(), Signal::KILL);
    assert!(gone(workload, SOON), "the workload outlived the TEE");
    ends_with(execution, "halt.device_lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tee_that_hangs_is_given_up_at_its_deadline() {
    let Scene { machine, workload, execution, stage: _stage, node: _node, _verifier, .. } =
        running(DemoPlatform::SimulatedSnp, 100).await;
    let pid = machine.tee.as_ref().unwrap().pid();
    signal(pid, Signal::STOP);
    let died = gone(workload, SOON);
    signal(pid, Signal::CONT);
    assert!(died, "the workload outlived a TEE that hangs");
    ends_with(execution, "halt.device_lost").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_stopped_for_twice_its_lease_finds_everything_over() {
    let Scene { node, workload, stage: _stage, machine: _machine, _verifier, execution, .. } =
        running(DemoPlatform::Tpm, 60_000).await;
    let (pid, stopped) = (pid_of(&node), Instant::now());
    kill_process(pid, Signal::STOP).unwrap();
    let lease = Duration::from_millis(LEASE_MS.into());
    // Renewed at most a moment before: its supervisor ends it, on its own clock.
    let died = gone(workload, lease + Duration::from_secs(1));
    sleep((lease * 2).saturating_sub(stopped.elapsed())).await;
    kill_process(pid, Signal::CONT).unwrap();
    assert!(died, "the workload outlived its lease while attestd was stopped");
    ends_with(execution, "halt.lease_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_when_its_verifier_is_gone() {
    let Scene { mut _verifier, workload, execution, stage: _stage, machine: _machine, node: _node, .. } =
        running(DemoPlatform::SimulatedSnp, 60_000).await;
    _verifier.kill().await.unwrap();
    let lease = Duration::from_millis(LEASE_MS.into());
    assert!(gone(workload, lease + Duration::from_secs(1)), "the workload outlived its lease without a verifier");
    ends_with(execution, "halt.lease_ended").await;
}

/// Two daemons with one state: what the one does is missing in the history that the other shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_copied_node_is_found_out_and_neither_goes_on() {
    let Scene { stage, workload, machine: _machine, _verifier, node: _node, execution: _execution, .. } =
        running(DemoPlatform::SimulatedSnp, 60_000).await;
    copy_state(&stage.path(ATTESTD_STATE), &stage.path("copy"));
    let _copy = stage.start(stage.attestd_of("copy", &["run"]), "copy.log").unwrap();
    let connected = async || {
        let status = stage.finish(stage.attestd_of("copy", &["--format", "json", "status"])).await?;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        Ok((status.pointer("/domains/0/connected") == Some(&Value::Bool(true))).then_some(()))
    };
    stage.until("the copy's connection", connected).await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    let mut second = Watched::start_of(&stage, "copy", &["--key", "ledger", "--", "sleep", "600"]).unwrap();
    let quarantined = async || {
        let shown = stage.ask_verifier(&["node", "show", NODE], 0).await?;
        Ok((shown.pointer("/status").and_then(Value::as_str) == Some("quarantined")).then_some(()))
    };
    stage.until("the node's quarantine", quarantined).await.map_err(|fault| fault.with_logs(&stage)).unwrap();
    assert!(gone(workload, SOON), "the original went on");
    second.until(|seen| seen.is("exit"), |_| Ok(())).await.unwrap();
    assert_ne!(second.exit_code().await.unwrap(), 0, "the copy went on");
}

/// As who takes an image of a machine's disk, but for sockets and the lock of the daemon that runs.
fn copy_state(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if from.is_dir() {
            copy_state(&from, &to);
        } else if from.is_file() && !from.ends_with("lock") {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

/// Tells one story with the real programs; every line must be in it.
async fn told(platform: &str, lines: &[&str]) {
    let mut demo = tokio::process::Command::new(program("attestd"));
    let output = demo.args(["demo", "--platform", platform]).kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in lines.iter().chain(&["halted (halt.refused_at_renewal)", "verifies offline", "nothing is left running"])
    {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_story_is_told() {
    told("tpm", &["halted (halt.pcr_changed)"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_an_snp_guest_is_told() {
    told("simulated-snp", &["MEASUREMENT is another", "TCB is lower"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_a_tpm_in_an_snp_guest_is_told() {
    told("simulated-snp+tpm", &["implant.efi was started", "TCB is lower"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_a_trust_domain_is_told() {
    told("simulated-tdx", &["MRTD is another", "TCB is lower"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_a_tpm_in_a_trust_domain_is_told() {
    told("simulated-tdx+tpm", &["implant.efi was started", "TCB is lower"]).await;
}
