//! The gateway with real processes: what it refuses to start, and how it ends what it started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod images;
mod supervised;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use attestd::clock::boottime_ms;
use attestd::gateway::{
    Attached, EndCause, Environment, Executable, ExecutableError, ExecutionKey, Gateway, GatewayError, GatewaySettings,
    Image, ImageError, Outcome, Root, Running, WORKLOAD_SOCKET, Workload,
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
            image: None,
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
    // Anything that is there: a socket in the machine's place is as good as the daemon's.
    let socket = PathBuf::from("/dev/null");
    Gateway::new(GatewaySettings { program, cgroup: None, socket, image_cap_bytes: IMAGE_CAP_BYTES }).unwrap()
}

const IMAGE_CAP_BYTES: u64 = 64 * 1024 * 1024;

fn workload(executable: Executable) -> Workload {
    let environment = Environment::new(variable("LANG"), &["LANG".to_owned()].into()).unwrap();
    let (working_directory, supervisor) = (PathBuf::from("/"), gateway().stand_by().unwrap());
    Workload { executable, environment, working_directory, attached: None, root: None, supervisor }
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

/// Unpacks a layout's image as the daemon does.
fn unpacked(gateway: &Gateway, named: &str) -> Result<(Image, Root, Executable, Environment), GatewayError> {
    let image = Image::open(named)?;
    let environment = Environment::new(variable("LANG"), &["LANG".to_owned()].into())?.over(&image.environment)?;
    let (root, executable) = gateway.unpack(&image, &image.argv[0], environment.search_path(), &image.directory)?;
    Ok((image, root, executable, environment))
}

/// What a program says that runs in an image; none where the machine has no user namespaces.
async fn said_in(layout: &images::Layout, isolation: Isolation) -> Option<String> {
    let gateway = gateway();
    let (image, root, executable, environment) = match unpacked(&gateway, layout.path()) {
        Err(GatewayError::Image(ImageError::Unavailable(lacks))) => {
            println!("not tested: {lacks}");
            return None;
        }
        unpacked => unpacked.unwrap(),
    };
    let argv: Vec<&str> = image.argv.iter().map(String::as_str).collect();
    let mut intent = intent(&executable, &argv, Domains::All([domain("a.example")].into()));
    intent.workload.image = Some(image.digest());
    intent.isolation = isolation;
    let artifact = artifact("a.example", &intent, Sha256Digest(*executable.digest()));
    let working_directory = image.directory.clone();
    let workload = Workload { environment, working_directory, root: Some(root), ..workload(executable) };
    let mut running = gateway.start(&[artifact], &intent, workload, vec![key()], lease_ms(60_000)).await.unwrap();
    let (mut stdout, mut stderr) = running.take_outputs().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).await.unwrap();
    stderr.read_to_string(&mut err).await.unwrap();
    let ended = running.ended().await;
    assert_eq!((err.as_str(), ended.outcome), ("", Outcome::Exited(0)), "{out}");
    Some(out)
}

#[tokio::test]
async fn what_runs_in_an_image_has_its_files_its_key_and_nothing_of_the_machine() {
    let script = format!(
        "#!/bin/sh\ncat /etc/motto; echo $GREETING $LANG; pwd; cat <&$ATTESTD_KEY_FD_DB; echo; \
         test -e {WORKLOAD_SOCKET} && echo socket; test -e {here} || echo apart; echo more >> /etc/motto; cat /etc/motto; \
         echo x > /dev/null; while read name value; do case $name in CapEff:|CapBnd:|NoNewPrivs:) echo $name $value;; esac; \
         done < /proc/self/status; echo /*; ls /proc/self/fd\n",
        here = env!("CARGO_MANIFEST_DIR"),
    );
    let layer =
        images::Layer::with_shell().folder("etc").file("etc/motto", "of the image\n").program("app/greet", &script);
    let layout = images::Layout::new(vec![layer.bytes()]).write();
    let Some(said) = said_in(&layout, Isolation::default()).await else { return };
    let mut lines = said.lines();
    let expected =
        ["of the image", "hello C", "/app", "canary-key-material", "socket", "apart", "of the image", "more"];
    assert_eq!(lines.by_ref().take(expected.len()).collect::<Vec<_>>(), expected);
    let none = ["CapEff: 0000000000000000", "CapBnd: 0000000000000000"];
    assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), none);
    assert_eq!(lines.next(), Some("NoNewPrivs: 1"));
    let root = lines.next().unwrap();
    assert!(root.contains("/app /bin") && !root.contains("/home") && !root.contains("/sys"), "{root}");
    // Standard streams, the key, the executable (a script's interpreter reads it), and the folder that is being read.
    assert_eq!(lines.collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn layers_replace_hide_and_stay_within_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let outside = outside.path().to_str().unwrap();
    let lower = images::Layer::with_shell()
        .folder("a")
        .file("a/kept", "low")
        .file("a/replaced", "low")
        .file("a/hidden", "low")
        .folder("b")
        .file("b/low", "low")
        .folder("b/sub")
        .file("b/sub/low", "low")
        .folder("c")
        .file("c/folder-to-file", "low")
        .link("out", outside)
        .link("up", "../../../../../../..");
    let upper = images::Layer::new()
        .file("a/replaced", "high")
        .file("a/.wh.hidden", "")
        .file("b/sub/high", "high")
        .file("b/.wh..wh..opq", "")
        .file("c", "now a file")
        .entry(tar::EntryType::Link, "a/linked", 0o644, "a/kept", &[])
        .folder("out")
        .file("out/stray", "stray")
        .file("up/stray", "stray")
        .entry(tar::EntryType::Regular, "set-id", 0o6755, "", b"x")
        .program("app/greet", "#!/bin/sh\ncd /; test -u set-id || test -g set-id || test -x set-id && echo plain; for f in a/* b/* b/sub/* c out/* stray; do echo $f; done; cat a/replaced c a/linked");
    let layout = images::Layout::new(vec![lower.bytes(), upper.bytes()]).write();
    let Some(said) = said_in(&layout, Isolation::default()).await else { return };
    let expected = "plain\na/kept\na/linked\na/replaced\nb/sub\nb/sub/high\nc\nout/stray\nstray\nhighnow a filelow";
    assert_eq!(said, expected);
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 0, "a layer wrote to the machine");
}

#[tokio::test]
async fn an_image_is_confined_as_its_intent_asks() {
    let confined = Isolation {
        files: Some(governance::isolation::Files {
            read: ["/bin", "/lib", "/lib64", "/app", "/proc"].map(|path| Text::new(path).unwrap()).into(),
            ..Default::default()
        }),
        seccomp: governance::isolation::Seccomp::Default,
        ..Isolation::default()
    };
    let script = "#!/bin/sh\nif cat /etc/motto 2>/proc/self/fd/1; then echo read; else echo refused; fi\n";
    let layer = images::Layer::new().folder("lib64").file("etc/motto", "of the image\n").program("app/greet", script);
    let layer = layer.and_shell();
    let layout = images::Layout::new(vec![layer.bytes()]).write();
    if gateway().admit(&confined, OnHalt::Kill).is_err() {
        println!("not tested: no Landlock or seccomp here");
        return;
    }
    let Some(said) = said_in(&layout, confined).await else { return };
    assert!(said.contains("Permission denied") && said.ends_with("refused\n"), "{said}");
}

#[tokio::test]
async fn another_image_than_the_intent_names_is_refused() {
    let layout =
        images::Layout::new(vec![images::Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes()]).write();
    let gateway = gateway();
    let Ok((image, root, executable, environment)) = unpacked(&gateway, layout.path()) else {
        println!("not tested: no user namespaces here");
        return;
    };
    let mut named = intent(&executable, &["greet"], Domains::All([domain("a.example")].into()));
    let digest = Sha256Digest(*executable.digest());
    let without = artifact("a.example", &named, digest);
    let inside = Workload { environment: environment.clone(), root: Some(root), ..workload(executable) };
    let refused = gateway.start(&[without], &named, inside, vec![key()], lease_ms(1_000)).await;
    assert!(matches!(refused, Err(GatewayError::Request { what }) if what.contains("image")), "{:?}", refused.err());

    named.workload.image = Some(Sha256Digest::of(b"another"));
    let (_, root, executable, environment) = unpacked(&gateway, layout.path()).unwrap();
    let other = artifact("a.example", &named, digest);
    let inside = Workload { environment, root: Some(root), ..workload(executable) };
    let refused = gateway.start(&[other], &named, inside, vec![key()], lease_ms(1_000)).await;
    assert!(matches!(refused, Err(GatewayError::Request { what }) if what.contains("image")), "{:?}", refused.err());
    assert_ne!(image.digest(), Sha256Digest::of(b"another"));
}

/// Layouts with one defect each, and what is said of it.
#[tokio::test]
async fn an_image_with_one_defect_is_refused_for_it() {
    use images::{Layer, Layout, flip};
    let good = || Layout::new(vec![Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes()]);
    let only = |layer: Layer| {
        Layout::new(vec![Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes(), layer.bytes()])
    };
    let gateway = gateway();
    match unpacked(&gateway, good().write().path()) {
        Ok(_) => {}
        Err(GatewayError::Image(ImageError::Unavailable(lacks))) => return println!("not tested: {lacks}"),
        Err(error) => panic!("{error}"),
    }
    let manifest = |change: fn(&mut serde_json::Value)| {
        let mut layout = good();
        layout.described();
        change(&mut layout.manifest);
        layout.write()
    };
    let configured = |change: fn(&mut serde_json::Value)| {
        let mut layout = good();
        change(&mut layout.configuration);
        layout.write()
    };
    let harmed = |which: fn(&Layout, &serde_json::Value) -> PathBuf| {
        let mut layout = good();
        let descriptor = layout.described();
        layout.index(std::slice::from_ref(&descriptor));
        flip(&which(&layout, &descriptor));
        layout
    };
    let mut truncated = good();
    truncated.described();
    let blob = truncated.blob_path(&truncated.manifest["layers"][0]);
    let short = std::fs::read(&blob).unwrap();
    std::fs::write(&blob, &short[..short.len() / 2]).unwrap();
    let compressed = {
        let mut layout = only(Layer::new().file("x", "x"));
        let descriptor = layout.described();
        layout.index(&[descriptor]);
        flip(&layout.blob_path(&layout.manifest["layers"][1]));
        layout
    };
    let bomb = vec![0; usize::try_from(IMAGE_CAP_BYTES).unwrap() + 1024];
    let cases: Vec<(&str, Layout, &str)> = vec![
        ("manifest", harmed(|layout, manifest| layout.blob_path(manifest)), "manifest is"),
        ("configuration", harmed(|layout, _| layout.blob_path(&layout.manifest["config"])), "configuration is"),
        ("layer", harmed(|layout, _| layout.blob_path(&layout.manifest["layers"][0])), "layer sha256:"),
        ("compressed layer", compressed, "layer sha256:"),
        ("truncated layer", truncated.write(), "layer sha256:"),
        ("layer's length", manifest(|manifest| manifest["layers"][0]["size"] = 1.into()), "of 1 bytes is sha256:"),
        (
            "length of the configuration",
            manifest(|manifest| manifest["config"]["size"] = 1.into()),
            "its descriptor says otherwise",
        ),
        (
            "kind of layer",
            manifest(|m| m["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into()),
            "+zstd",
        ),
        (
            "kind of configuration",
            manifest(|manifest| manifest["config"]["mediaType"] = "text/plain".into()),
            "text/plain",
        ),
        ("no layers", manifest(|manifest| manifest["layers"] = serde_json::json!([])), "0 layers and 1 diff_ids"),
        ("digest", manifest(|manifest| manifest["layers"][0]["digest"] = "md5:00".into()), "md5:00"),
        (
            "diff_id",
            configured(|c| c["rootfs"]["diff_ids"][0] = format!("sha256:{}", "00".repeat(32)).into()),
            "its diff_id is 00",
        ),
        ("architecture", configured(|c| c["architecture"] = "s390x".into()), "is for linux/s390x"),
        ("system", configured(|c| c["os"] = "windows".into()), "is for windows/"),
        ("directory", configured(|c| c["config"]["WorkingDir"] = "app".into()), "is not absolute"),
        ("variable", configured(|c| c["config"]["Env"] = serde_json::json!(["=x"])), "NAME=VALUE"),
        (
            "our variable",
            configured(|c| c["config"]["Env"] = serde_json::json!(["ATTESTD_X=x"])),
            "the image sets ATTESTD_X",
        ),
        ("program", configured(|c| c["config"]["Entrypoint"] = serde_json::json!(["absent"])), "holds no \"absent\""),
        (
            "program that is a folder",
            configured(|c| c["config"]["Entrypoint"] = serde_json::json!(["/app"])),
            "/app is no file",
        ),
        ("path upwards", only(Layer::new().file("../escaped", "x")), "leads out of the image"),
        ("device", only(Layer::new().entry(tar::EntryType::Block, "disk", 0o600, "", &[])), "is a device"),
        ("whiteout of nothing", only(Layer::new().file("app/.wh...", "x")), ".wh..."),
        ("no archive", Layout::new(vec![vec![7; 2048]]), "is no archive"),
        (
            "too large a layer",
            only(Layer::new().entry(tar::EntryType::Regular, "zeros", 0o644, "", &bomb)),
            "more than 67108864 bytes",
        ),
        (
            "too large an image",
            {
                let half = vec![0; usize::try_from(IMAGE_CAP_BYTES).unwrap() * 2 / 3];
                let file = |name| Layer::new().entry(tar::EntryType::Regular, name, 0o644, "", &half).bytes();
                Layout::new(vec![
                    Layer::with_shell().program("app/greet", "#!/bin/sh\n").bytes(),
                    file("one"),
                    file("two"),
                ])
            },
            "larger than gateway.image_cap_bytes",
        ),
    ];
    for (defect, layout, says) in cases {
        let layout = if layout.dir.path().join("index.json").exists() { layout } else { layout.write() };
        let refused = unpacked(&gateway, layout.path()).err().unwrap_or_else(|| panic!("{defect}: unpacked"));
        assert!(refused.to_string().contains(says), "{defect}: {refused}");
    }
}

#[tokio::test]
async fn which_image_of_a_layout_is_meant_is_never_guessed() {
    let mut layout = images::Layout::new(vec![images::Layer::new().program("app/greet", "#!/bin/sh\n").bytes()]);
    let first = layout.described();
    layout.manifest["annotations"] = serde_json::json!({ "build": "2" });
    let second = layout.described();
    layout.index(&[first.clone(), second.clone()]);
    let digest = |descriptor: &serde_json::Value| descriptor["digest"].as_str().unwrap().to_owned();
    let refused = Image::open(layout.path()).unwrap_err().to_string();
    assert!(
        refused.contains(&digest(&first)) && refused.contains(&digest(&second)) && refused.contains("v1"),
        "{refused}"
    );
    for one in [&first, &second] {
        let image = Image::open(&format!("{}@{}", layout.path(), digest(one))).unwrap();
        assert_eq!(format!("sha256:{}", image.digest()), digest(one));
    }
    let absent = format!("{}@sha256:{}", layout.path(), "00".repeat(32));
    assert!(Image::open(&absent).unwrap_err().to_string().contains("no image sha256:00"));

    // One image for several machines: the one for this machine.
    let mut elsewhere = second.clone();
    elsewhere["platform"] = serde_json::json!({ "os": "linux", "architecture": "s390x" });
    let nested = serde_json::json!({ "schemaVersion": 2, "manifests": [first, elsewhere] });
    let nested = layout.blob(images::INDEX, nested.to_string().as_bytes());
    layout.index(&[nested]);
    assert_eq!(format!("sha256:{}", Image::open(layout.path()).unwrap().digest()), digest(&first));
    layout.index(&[]);
    assert!(Image::open(layout.path()).unwrap_err().to_string().contains("there is none"));
    std::fs::write(layout.dir.path().join("oci-layout"), r#"{"imageLayoutVersion": "2.0.0"}"#).unwrap();
    assert!(Image::open(layout.path()).unwrap_err().to_string().contains("2.0.0"));
    assert!(Image::open("relative").unwrap_err().to_string().contains("not absolute"));
    assert!(matches!(Image::open("/nonexistent"), Err(ImageError::Unreadable { .. })));
}
