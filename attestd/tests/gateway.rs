//! The gateway with real processes: what it refuses to start, and how it ends what it started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod supervised;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use attestd::clock::boottime_ms;
use attestd::gateway::{
    Attached, EndCause, Environment, Executable, ExecutableError, ExecutionKey, Gateway, GatewayError, GatewaySettings,
    Outcome, Running, Workload,
};
use attestd::locked::Locked;
use evidence::cose::{KeySet, SigningKey};
use evidence::digest::{Digest, HashAlg, Sha256Digest};
use evidence::names::{DomainName, ItemName, NodeId};
use evidence::register::Register;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::{
    Artifact, ArtifactId, ArtifactTerms, Attribution, Confirmation, Continues, EnvironmentalConditions, Expectation,
    GovernanceMetadata, LeaseTerms, PolicyValidation, ReceiptReference, RuntimeBindings, VerifiedArtifact,
};
use governance::intent::{self, Domains, INTENT_VERSION, Intent};
use governance::isolation::Isolation;
use governance::node_key::NodeKey;
use governance::on_halt::OnHalt;
use governance::scope::Scope;
use governance::text::Text;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;

fn domain(name: &str) -> DomainName {
    DomainName::new(name).unwrap()
}

fn intent(executable: &Executable, argv: &[&str], domains: Domains) -> Intent {
    let keys = BTreeSet::from([ItemName::new("db").unwrap()]);
    Intent {
        version: INTENT_VERSION,
        requester: Text::new("uid:0").unwrap(),
        workload: intent::Workload {
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            environment: BTreeSet::from(["LANG".to_owned()]),
            executable: Sha256Digest(*executable.digest()),
            attach: None,
        },
        scope: Scope { keys, ..Scope::default() },
        isolation: Isolation::default(),
        on_halt: OnHalt::Kill,
        domains,
        parents: std::collections::BTreeMap::new(),
        node: NodeId::new("node-1").unwrap(),
        created_at: UnixSeconds(1_000),
        svid_key: svid_key(),
        nonce: [1; 16],
    }
}

/// The generator of P-256 (SEC 2 §2.4.2).
fn svid_key() -> evidence::cose::PublicKey {
    let point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                 4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    evidence::cose::PublicKey::p256(&hex::decode(point).unwrap()).unwrap()
}

/// A genuine artifact of `of` for this intent and executable digest, signed and verified.
fn artifact(of: &str, intent: &Intent, executable: Sha256Digest) -> VerifiedArtifact {
    let (of, node) = (domain(of), intent.node.clone());
    let issuer = SigningKey::from_seed(&[1; 32]).unwrap();
    let node_key = NodeKey::from_cose_key(SigningKey::from_seed(&[2; 32]).unwrap().public().cose_key()).unwrap();
    let digest = HashAlg::Sha256.hash(&[b"pcrs"]);
    let terms = ArtifactTerms {
        issuer: of.verifier_spiffe_id(),
        subject: of.node_spiffe_id(&node),
        audience: of.node_spiffe_id(&node),
        expires_at: UnixSeconds(2_000),
        not_before: UnixSeconds(1_000),
        issued_at: UnixSeconds(1_000),
        id: ArtifactId([3; 16]),
        confirmation: Confirmation { key: node_key.clone() },
        version: governance::artifact::ARTIFACT_VERSION,
        intent: intent.digest().unwrap(),
        scope: intent.scope.clone(),
        bindings: RuntimeBindings {
            node: node.clone(),
            enrolment: Sha256Digest([4; 32]),
            evidence: Sha256Digest([5; 32]),
            executable,
            measurements: BTreeMap::<Register, Digest>::new(),
        },
        policy: PolicyValidation {
            policy_set: Sha256Digest([6; 32]),
            version: 1,
            determining: vec![],
            result: Sha256Digest([7; 32]),
            reference_sets: vec![],
        },
        conditions: EnvironmentalConditions {
            tcb_floor: BTreeMap::new(),
            register_digest: digest,
            labels: BTreeMap::new(),
        },
        lease: LeaseTerms { seq: 1, duration_ms: 30_000, renew_after_ms: 10_000 },
        governance: GovernanceMetadata { domain: of.clone(), epoch: 1, state: Sha256Digest([8; 32]) },
        attribution: Attribution { requester: intent.requester.clone(), approvers: vec![], ancestors: vec![] },
    };
    let receipt = ReceiptReference { index: 0, entry: Sha256Digest([9; 32]) };
    let bytes = Artifact::issue(terms, receipt, &issuer).unwrap();
    let expectation = Expectation {
        audience: &of.node_spiffe_id(&node),
        domain: &of,
        node: &node,
        intent: intent.digest().unwrap(),
        scope: &intent.scope,
        node_key: &node_key,
        epoch_min: 1,
        seq_min: 1,
        continues: Continues::Nothing,
    };
    Artifact::verify_offline(&bytes, &KeySet::new([issuer.public()]), &expectation, UnixSeconds(1_500)).unwrap()
}

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

fn gateway() -> Gateway {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_attestd"));
    Gateway::new(GatewaySettings { program, cgroup: None }).unwrap()
}

fn workload(executable: Executable) -> Workload {
    let environment = Environment::new(variable("LANG"), &["LANG".to_owned()].into()).unwrap();
    let (working_directory, supervisor) = (PathBuf::from("/"), gateway().stand_by().unwrap());
    Workload { executable, environment, working_directory, attached: None, supervisor }
}

fn variable(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), "C".to_owned())])
}

fn key() -> ExecutionKey {
    ExecutionKey::new("db".to_owned(), Locked::copy_of(b"canary-key-material").unwrap())
}

fn lease_ms(duration_ms: u64) -> u64 {
    boottime_ms().checked_add(duration_ms).unwrap()
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
