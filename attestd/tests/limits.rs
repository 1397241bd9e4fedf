//! Limits of an intent, enforced by the kernel: a workload that uses up what it may have takes nothing from anybody else, and
//! ends as any. Needs cgroup v2 with its controllers, and the right to use them; `scripts/test-limits.sh` has both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod authorized;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attestd::gateway::{EndCause, Ended, Executable, Gateway, GatewaySettings, Outcome, Running};
use authorized::{artifact, domain, intent, key, lease_ms, workload};
use evidence::digest::Sha256Digest;
use governance::intent::Domains;
use governance::isolation::{Isolation, Limits};

/// A cgroup below which executions get theirs.
struct Parent(PathBuf);

impl Parent {
    fn make(name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        // As a service manager passes them on.
        let _ = std::fs::write(root.join("cgroup.subtree_control"), "+cpu +memory +pids");
        let path = root.join(format!("attestd-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let parent = Self(path);
        let offered = std::fs::read_to_string(parent.0.join("cgroup.controllers")).ok()?;
        ["cpu", "memory", "pids"]
            .iter()
            .all(|one| offered.split_whitespace().any(|word| word == *one))
            .then_some(parent)
    }

    /// The execution's own, of which there is one.
    fn only(&self) -> PathBuf {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten().map(|entry| entry.path());
        let [only] = entries.filter(|path| path.is_dir()).collect::<Vec<_>>().try_into().unwrap();
        only
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1"); // what a failed test left
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Runs shell text under limits.
async fn run(parent: &Parent, script: &str, limits: Limits) -> (Gateway, Running) {
    let (program, cgroup) = (PathBuf::from(env!("CARGO_BIN_EXE_attestd")), Some(parent.0.clone()));
    let settings = GatewaySettings { program, cgroup, sockets: Vec::new(), image_cap_bytes: 0 };
    let gateway = Gateway::new(settings).unwrap();
    let executable = Executable::open("sh", "/bin", Path::new("/")).unwrap();
    let mut intent = intent(&executable, &["sh", "-c", script], Domains::All([domain("a.example")].into()));
    intent.isolation = Isolation { limits, ..Isolation::default() };
    gateway.admit(&intent.isolation, intent.on_halt).unwrap();
    let artifact = artifact("a.example", &intent, Sha256Digest(*executable.digest()));
    let workload = workload(executable);
    let running = gateway.start(&[artifact], &intent, workload, vec![key()], lease_ms(600_000)).await.unwrap();
    (gateway, running)
}

/// What a file of a cgroup says under a name.
fn counted(cgroup: &Path, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(cgroup.join(file)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.trim().parse().unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "it never came to: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn killed(running: &Running) -> Ended {
    tokio::time::timeout(PATIENCE, running.kill()).await.expect("it outlived its end")
}

/// Emulated machines take their time.
const PATIENCE: Duration = Duration::from_secs(60);
const PROCESSES: u32 = 24;

#[tokio::test]
async fn a_workload_that_exhausts_its_processes_takes_none_from_others_and_is_killed_to_the_last() {
    let Some(parent) = Parent::make("processes") else { return println!("no cgroup v2 with controllers: not tested") };
    // As many as it can get, out of reach of their parents' groups and sessions. A shell that cannot fork ends, so the first
    // process is none.
    let bomb = "b() { while :; do setsid sh -c 'sleep 600 & sleep 600 & wait' & sleep 0.01; done 2>/dev/null; }; \
                b & exec sleep 600";
    let limits = Limits { processes: Some(PROCESSES), ..Limits::default() };
    let (_gateway, running) = run(&parent, bomb, limits).await;
    let cgroup = parent.only();
    assert_eq!(std::fs::read_to_string(cgroup.join("pids.max")).unwrap().trim(), PROCESSES.to_string());
    until("a fork that was refused", || counted(&cgroup, "pids.events", "max ") > 0).await;
    let current: u32 = std::fs::read_to_string(cgroup.join("pids.current")).unwrap().trim().parse().unwrap();
    assert!(current <= PROCESSES, "{current}");
    // Somebody else's still start, and its supervisor does what it must.
    assert!(std::process::Command::new("/bin/sh").args(["-c", "exit 0"]).status().unwrap().success());
    let ended = killed(&running).await;
    assert_eq!(ended.cause, EndCause::Killed);
    until("an end to all of it", || !cgroup.exists()).await;
}

#[tokio::test]
async fn a_workload_that_exhausts_its_memory_is_killed_as_a_whole() {
    let Some(parent) = Parent::make("memory") else { return println!("no cgroup v2 with controllers: not tested") };
    let hog = "sleep 600 & x=0123456789abcdef; while :; do x=$x$x; done";
    let limits = Limits { memory_bytes: Some(32 * 1024 * 1024), ..Limits::default() };
    let (_gateway, running) = run(&parent, hog, limits).await;
    let cgroup = parent.only();
    let ended = tokio::time::timeout(PATIENCE, running.ended()).await.expect("it went on");
    assert_eq!((ended.outcome, ended.cause), (Outcome::Signalled(9), EndCause::WorkloadExited));
    until("an end to all of it", || !cgroup.exists()).await;
}

#[tokio::test]
async fn a_workload_that_wants_more_of_a_processor_than_it_may_waits() {
    let Some(parent) = Parent::make("cpu") else { return println!("no cgroup v2 with controllers: not tested") };
    let limits = Limits { cpu_millis: Some(50), ..Limits::default() };
    let (_gateway, running) = run(&parent, "while :; do :; done", limits).await;
    let cgroup = parent.only();
    until("a stretch without a processor", || counted(&cgroup, "cpu.stat", "nr_throttled ") > 2).await;
    killed(&running).await;
    until("an end to all of it", || !cgroup.exists()).await;
}
