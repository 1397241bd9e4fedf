//! The gateway with real processes: what it refuses to start, and how it ends what it started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod authorized;
mod supervised;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use attestd::gateway::{
    Attached, EndCause, Environment, Executable, ExecutableError, ExecutionKey, Gateway, GatewayError, Outcome,
    Running, Workload,
};
use attestd::locked::Locked;
use authorized::{artifact, domain, gateway, intent, key, lease_ms, variable, workload};
use evidence::digest::Sha256Digest;
use evidence::names::ItemName;
use governance::GovernanceDenial;
use governance::intent::{self, Domains};
use governance::isolation::Isolation;
use governance::on_halt::OnHalt;
use governance::scope::Scope;
use governance::text::Text;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;

struct Bench {
    gateway: Gateway,
    executable: Executable,
}

impl Bench {
    fn new() -> Self {
        let executable = Executable::open("sh", "/bin", Path::new("/")).unwrap();
        Self { gateway: gateway(), executable }
    }

    /// Runs a shell script that its own domain authorized.
    async fn run(self, script: &str) -> (Gateway, Running) {
        let intent = intent(&self.executable, &["sh", "-c", script], Domains::All([domain("a.example")].into()));
        let artifact = artifact("a.example", &intent, Sha256Digest(*self.executable.digest()));
        let running = self
            .gateway
            .start(&[artifact], &intent, workload(self.executable), vec![key()], lease_ms(60_000))
            .await
            .unwrap();
        (self.gateway, running)
    }
}

async fn first_line(running: &mut Running) -> String {
    let (mut stdout, _stderr) = running.take_outputs().unwrap();
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push(char::from(stdout.read_u8().await.unwrap()));
    }
    line.trim_end().to_owned()
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn an_authorized_workload_reads_its_key_and_its_output_comes_back() {
    let (_gateway, mut running) = Bench::new().run("cat <&$ATTESTD_KEY_FD_DB; echo; echo bad >&2; exit 3").await;
    let (mut stdout, mut stderr) = running.take_outputs().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).await.unwrap();
    stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("canary-key-material\n", "bad\n"));
    let ended = running.ended().await;
    assert_eq!((ended.outcome, ended.cause), (Outcome::Exited(3), EndCause::WorkloadExited));
}

#[tokio::test]
async fn the_key_is_in_no_environment_argument_or_core_limit_of_any_process() {
    let (_gateway, mut running) = Bench::new().run("echo $PPID; sleep 600").await;
    let supervisor = first_line(&mut running).await;
    for pid in [running.workload_pid().to_string(), supervisor] {
        for file in ["environ", "cmdline"] {
            // The supervisor's environment is closed to its own user: it is not dumpable.
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!bytes.windows(6).any(|window| window == b"canary"), "{file} of {pid}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    }
    running.kill().await;
}

#[tokio::test]
async fn nothing_starts_without_enough_domains() {
    let bench = Bench::new();
    let both = Domains::All([domain("a.example"), domain("b.example")].into());
    let intent = intent(&bench.executable, &["sh", "-c", "exit 0"], both);
    let one = artifact("a.example", &intent, Sha256Digest(*bench.executable.digest()));
    for artifacts in [vec![], vec![one.clone()], vec![one.clone(), one]] {
        let executable = Executable::open("sh", "/bin", Path::new("/")).unwrap();
        let refused = bench.gateway.start(&artifacts, &intent, workload(executable), vec![], lease_ms(1_000)).await;
        assert!(matches!(
            refused,
            Err(GatewayError::NotAuthorized(GovernanceDenial::MissingAuthorization { needed: 2, .. }))
        ));
    }
}

#[tokio::test]
async fn another_intent_executable_key_or_variable_is_refused() {
    let bench = Bench::new();
    let all = || Domains::All([domain("a.example")].into());
    let digest = Sha256Digest(*bench.executable.digest());
    let authorized = intent(&bench.executable, &["sh", "-c", "exit 0"], all());
    let good = artifact("a.example", &authorized, digest);
    let sh = || Executable::open("sh", "/bin", Path::new("/")).unwrap();

    let other_intent = intent(&bench.executable, &["sh", "-c", "exit 1"], all());
    let refused =
        bench.gateway.start(std::slice::from_ref(&good), &other_intent, workload(sh()), vec![], lease_ms(1_000)).await;
    assert!(matches!(refused, Err(GatewayError::NotAuthorized(GovernanceDenial::Workload { .. }))));

    let other_executable = Executable::open("ls", "/bin", Path::new("/")).unwrap();
    let refused = bench
        .gateway
        .start(std::slice::from_ref(&good), &authorized, workload(other_executable), vec![], lease_ms(1_000))
        .await;
    assert!(matches!(refused, Err(GatewayError::Executable(ExecutableError::Changed { .. }))));

    let other_key = ExecutionKey::new("tls".to_owned(), Locked::copy_of(&[0; 32]).unwrap());
    let refused = bench
        .gateway
        .start(std::slice::from_ref(&good), &authorized, workload(sh()), vec![other_key], lease_ms(1_000))
        .await;
    assert!(matches!(refused, Err(GatewayError::NotAuthorized(GovernanceDenial::ScopeExceeded { part: "key", .. }))));

    let environment = Environment::new(variable("HOME"), &["HOME".to_owned()].into()).unwrap();
    let unnamed = Workload { environment, ..workload(sh()) };
    let refused = bench.gateway.start(&[good], &authorized, unnamed, vec![], lease_ms(1_000)).await;
    assert!(matches!(refused, Err(GatewayError::Environment(_))));
}

#[tokio::test]
async fn an_executable_changed_after_it_was_opened_does_not_start() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool");
    std::fs::write(&path, "#!/bin/sh\necho good\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let executable = Executable::open(path.to_str().unwrap(), "", Path::new("/")).unwrap();
    let intent = intent(&executable, &["tool"], Domains::All([domain("a.example")].into()));
    let artifact = artifact("a.example", &intent, Sha256Digest(*executable.digest()));
    std::fs::write(&path, "#!/bin/sh\necho evil\n").unwrap();
    let refused = bench.gateway.start(&[artifact], &intent, workload(executable), vec![], lease_ms(1_000)).await;
    assert!(matches!(refused, Err(GatewayError::Executable(ExecutableError::Changed { .. }))));
}

#[tokio::test]
async fn an_executable_swapped_after_it_was_opened_is_not_what_runs() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tool");
    let write = |text: &str| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    write("#!/bin/sh\necho good\n");
    let executable = Executable::open(path.to_str().unwrap(), "", Path::new("/")).unwrap();
    let intent = intent(&executable, &["tool"], Domains::All([domain("a.example")].into()));
    let artifact = artifact("a.example", &intent, Sha256Digest(*executable.digest()));
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    write("#!/bin/sh\necho evil\n");
    let started = bench.gateway.start(&[artifact], &intent, workload(executable), vec![key()], lease_ms(60_000)).await;
    assert_eq!(first_line(&mut started.unwrap()).await, "good");
}

#[tokio::test]
async fn isolation_that_this_machine_does_not_give_starts_nothing() {
    let bench = Bench::new();
    let mut intent = intent(&bench.executable, &["sh", "-c", "exit 0"], Domains::All([domain("a.example")].into()));
    intent.isolation = Isolation { cgroup: true, ..Isolation::default() };
    let artifact = artifact("a.example", &intent, Sha256Digest(*bench.executable.digest()));
    let admitted = bench.gateway.admit(&intent.isolation, OnHalt::Kill).unwrap_err();
    let refused =
        bench.gateway.start(&[artifact], &intent, workload(bench.executable), vec![key()], lease_ms(1_000)).await;
    for refused in [admitted, refused.err().unwrap()] {
        assert!(matches!(&refused, GatewayError::Unavailable(lacks) if lacks.facility == "cgroup"), "{refused}");
    }
}

#[tokio::test]
async fn a_stopped_supervisor_does_not_save_its_workload() {
    let (_gateway, mut running) =
        Bench::new().run("(setsid sleep 600 >/dev/null 2>&1 & echo $PPID $!); exec sleep 600").await;
    let line = first_line(&mut running).await;
    let (_, orphan) = line.split_once(' ').unwrap();
    let workload = running.workload_pid().to_string();
    let supervisor = parent_of(&workload);
    kill_process(Pid::from_raw(supervisor).unwrap(), Signal::STOP).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), running.kill()).await.unwrap();
    assert_eq!(ended.cause, EndCause::SupervisorLost);
    assert!(!is_alive(&workload) && !is_alive(orphan) && !is_alive(&supervisor.to_string()));
}

#[tokio::test]
async fn what_a_killed_supervisor_leaves_behind_is_killed() {
    let (_gateway, mut running) = Bench::new().run("setsid sleep 600 >/dev/null 2>&1 & echo $!; exec sleep 600").await;
    let orphan = first_line(&mut running).await;
    let workload = running.workload_pid().to_string();
    kill_process(Pid::from_raw(parent_of(&workload)).unwrap(), Signal::KILL).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), running.ended()).await.unwrap();
    assert_eq!((ended.outcome, ended.cause), (Outcome::Unobserved, EndCause::SupervisorLost));
    assert!(!is_alive(&workload) && !is_alive(&orphan));
}

#[tokio::test]
async fn a_dropped_hold_ends_the_workload() {
    let (_gateway, mut running) = Bench::new().run("echo $$; exec sleep 600").await;
    let workload = first_line(&mut running).await;
    let ended = running.ended();
    drop(running);
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().cause, EndCause::Killed);
    assert!(!is_alive(&workload));
}

fn parent_of(pid: &str) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_cannot_be_taken_charge_of_is_left_as_it_was() {
    let Some(cgroup) = supervised::writable_cgroup() else {
        println!("no writable cgroup v2 here: not tested");
        return;
    };
    // Nobody's child here: a gateway kills whatever its process adopted.
    let script = format!("echo $$ > '{cgroup}/cgroup.procs'; sleep 600 >/dev/null 2>&1 & echo $!");
    let shell = tokio::process::Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().await.unwrap();
    let runs = String::from_utf8(shell.stdout).unwrap().trim().to_owned();
    let Bench { gateway, executable } = Bench::new();
    let mut attaching = intent(&executable, &["sh"], Domains::All([domain("a.example")].into()));
    attaching.workload.environment.clear();
    attaching.workload.attach = Some(Text::new(cgroup.clone()).unwrap());
    let capabilities = BTreeSet::from([ItemName::new(intent::ATTACH_CAPABILITY).unwrap()]);
    attaching.scope = Scope { capabilities, ..Scope::default() };
    let artifact = artifact("a.example", &attaching, Sha256Digest(*executable.digest()));
    let environment = Environment::new(BTreeMap::new(), &BTreeSet::new()).unwrap();
    let attached = Some(Attached::open(Path::new(&cgroup)).unwrap());
    let workload = Workload { environment, attached, ..workload(executable) };
    // A shell was authorized, and something else runs there.
    let refused = gateway.start(&[artifact], &attaching, workload, vec![], lease_ms(60_000)).await;
    assert!(matches!(refused, Err(GatewayError::NotStarted { .. })), "{:?}", refused.err());
    assert!(supervised::is_alive(&runs), "it was killed");
    std::fs::write(Path::new(&cgroup).join("cgroup.kill"), "1").unwrap();
    while std::fs::remove_dir(&cgroup).is_err() && Path::new(&cgroup).exists() {
        tokio::task::yield_now().await;
    }
}
