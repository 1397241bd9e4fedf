//! Reports of simulated TEEs, asked of the real simulator process: through its socket, and through a folder in
//! configfs-tsm's form where one can be mounted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr)]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use attestd::config::{ReportsSource, TeeConfig};
use attestd::tee::{Tee, TeeError, TeeKind};
use evidence::sev_snp::SnpReport;
use evidence::tdx::Quote;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// `tee-simulator`, as the workspace builds it: beside the program under test.
fn program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_attestd")).with_file_name("tee-simulator");
    assert!(path.is_file(), "{} is not built: `cargo build -p simulators`", path.display());
    path
}

struct Simulator {
    child: Child,
    folder: tempfile::TempDir,
}

impl Simulator {
    /// Serves when this returns.
    fn start(platform: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tsm")).unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new(program());
        command.arg("serve").args(platform).arg("--state").arg(path("state"));
        command.arg("--socket").arg(path("socket")).arg("--control").arg(path("control"));
        command.arg("--mount").arg(path("tsm")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"ready\n");
        Self { child, folder }
    }

    fn snp() -> Self {
        Self::start(&["--platform", "snp", "--product", "milan"])
    }

    fn tdx() -> Self {
        Self::start(&["--platform", "tdx"])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&self, change: &Value) {
        let mut stream = UnixStream::connect(self.path("control")).unwrap();
        let text = json!({ "set": change }).to_string();
        stream.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut answer).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer.get("generation").is_some(), "{answer}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }

    /// Both ways to the reports; the folder only where it could be mounted.
    fn sources(&self) -> Vec<ReportsSource> {
        let mut sources = vec![ReportsSource::Socket(self.path("socket"))];
        let (tsm, above) = (self.path("tsm"), self.folder.path().to_owned());
        let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path).unwrap());
        if device(&tsm) == device(&above) {
            eprintln!("no FUSE here: the folder was not mounted and is not tried");
        } else {
            sources.push(ReportsSource::Configfs(tsm));
        }
        sources
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let _ = self.child.wait();
        // One that was killed left its folder mounted.
        let tsm = self.path("tsm");
        let is_mounted = |mounts: String| mounts.lines().any(|line| line.split(' ').nth(4) == tsm.to_str());
        for (program, flags) in [("umount", "-l"), ("fusermount3", "-uz")] {
            if std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(is_mounted) {
                let _ = Command::new(program).arg(flags).arg(&tsm).stderr(Stdio::null()).status();
            }
        }
    }
}

fn open(kind: TeeKind, reports: ReportsSource) -> Tee {
    let config = TeeConfig { reports, privlevel: None, service_provider: None, ccel: None, deadline_ms: 1_000 };
    Tee::open(kind, &config).unwrap()
}

#[tokio::test]
async fn a_report_covers_what_was_asked_and_comes_with_certificates() {
    let simulator = Simulator::snp();
    for source in simulator.sources() {
        let tee = open(TeeKind::SevSnp, source.clone());
        tee.probe().await.unwrap();
        for data in [[7; 64], [8; 64]] {
            let report = tee.report(data).await.unwrap();
            assert_eq!(SnpReport::parse(report.report()).unwrap().report_data, &data, "{source}");
            let table = report.certificates().expect("certificates");
            evidence::sev_snp::CertificateTable::parse(table).unwrap();
        }
        if let ReportsSource::Configfs(folder) = source {
            let entries = || std::fs::read_dir(&folder).unwrap().count();
            assert_eq!(entries(), 1, "the watch's own entry, and none for a report");
            drop(tee);
            let deadline = Instant::now() + Duration::from_secs(10);
            while entries() != 0 {
                assert!(Instant::now() < deadline, "an entry was left");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_quote_ends_where_it_says() {
    let simulator = Simulator::tdx();
    for version in [4, 5] {
        simulator.set(&json!({ "tdx": { "version": version, "trailing_zeros": 3000 } }));
        for source in simulator.sources() {
            let report = open(TeeKind::Tdx, source.clone()).report([9; 64]).await.unwrap();
            let quote = Quote::parse(report.report()).unwrap_or_else(|denial| panic!("{source}: {denial}"));
            assert_eq!((quote.version, quote.td_report().unwrap().report_data), (version, &[9; 64]), "{source}");
        }
    }
}

#[tokio::test]
async fn another_platform_and_another_privilege_level_are_told() {
    let simulator = Simulator::snp();
    for source in simulator.sources() {
        let error = open(TeeKind::Tdx, source.clone()).report([7; 64]).await.unwrap_err();
        assert!(matches!(error, TeeError::OtherPlatform { .. }), "{source}: {error}");
        let config =
            TeeConfig { reports: source, privlevel: Some(2), service_provider: None, ccel: None, deadline_ms: 1_000 };
        let report = Tee::open(TeeKind::SevSnp, &config).unwrap().report([7; 64]).await.unwrap();
        assert_eq!(SnpReport::parse(report.report()).unwrap().vmpl, 2);
    }
}

#[tokio::test]
async fn what_a_killed_process_left_behind_is_removed() {
    let simulator = Simulator::snp();
    for source in simulator.sources() {
        let ReportsSource::Configfs(folder) = &source else { continue };
        // Process ids end at 2^22.
        std::fs::create_dir(folder.join("attestd-4194305-0")).unwrap();
        std::fs::create_dir(folder.join("another-program")).unwrap();
        // Kept, and with it the entry that it looks at again and again.
        let tee = open(TeeKind::SevSnp, source.clone());
        tee.probe().await.unwrap();
        let ours = format!("attestd-{}-", std::process::id());
        let left = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let (own, others): (Vec<_>, Vec<_>) = left.partition(|name| name.starts_with(&ours));
        assert_eq!((own.len(), others), (1, vec!["another-program".to_owned()]));
    }
}

#[tokio::test]
async fn a_simulator_that_is_gone_and_one_that_hangs_are_told_apart() {
    let simulator = Simulator::snp();
    let lost = open(TeeKind::SevSnp, ReportsSource::Socket(simulator.path("socket")));
    let hung = open(TeeKind::SevSnp, ReportsSource::Socket(simulator.path("socket")));
    hung.report([7; 64]).await.unwrap();
    simulator.signal(Signal::STOP);
    let asked = Instant::now();
    let error = hung.report([7; 64]).await.unwrap_err();
    assert!(matches!(error, TeeError::Hung { deadline_ms: 1_000, .. }) && error.is_final(), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    simulator.signal(Signal::CONT);
    assert_eq!(hung.probe().await.unwrap_err(), error, "given up for good");
    simulator.signal(Signal::KILL);
    while lost.probe().await.is_ok() {}
    let error = lost.report([7; 64]).await.unwrap_err();
    assert!(matches!(error, TeeError::Lost { .. }) && error.is_final(), "{error}");
}

/// A node's state folder and what `attestd evidence` says there; its parts are in the folder `parts`.
struct Shown {
    state: PathBuf,
    parts: PathBuf,
}

impl Shown {
    fn by(simulator: &Simulator, platform: &str, tee: &str) -> Self {
        let (state, parts) = (simulator.path("node"), simulator.path("parts"));
        for folder in [&state, &parts] {
            std::fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
        }
        let text = format!(
            "node_id = \"node-1\"\nplatform = \"{platform}\"\nhalt.action = \"kill\"\n[tee]\nreports = \"socket:{}\"\n\
             {tee}[[domain]]\nname = \"a.example\"\nnodes = \"127.0.0.1:1\"\nenrolment = \"127.0.0.1:1\"\n\
             server_name = \"verifier.a.example\"\nca = \"ca.pem\"\n",
            simulator.path("socket").display()
        );
        std::fs::write(state.join("attestd.toml"), text).unwrap();
        Self { state, parts }
    }

    fn evidence(&self) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_attestd"));
        command.arg("--state").arg(&self.state).args(["--format", "json", "evidence", "--nonce", &"0a".repeat(32)]);
        command.arg("--parts").arg(&self.parts).output().unwrap()
    }

    fn document(&self) -> Value {
        let output = self.evidence();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn the_program_shows_evidence_of_a_tee() {
    let simulator = Simulator::snp();
    let shown = Shown::by(&simulator, "sev-snp", "");
    let document = shown.document();
    assert_eq!((document["kind"].as_str(), document["report_version"].as_u64()), (Some("sev-snp"), Some(3)));
    let report = std::fs::read(shown.parts.join("report.bin")).unwrap();
    let report = SnpReport::parse(&report).unwrap();
    assert_eq!(document["report_data"], hex::encode(report.report_data));
    for part in ["certificates.bin", "node-key.cose"] {
        assert!(shown.parts.join(part).is_file(), "{part}");
    }
    simulator.signal(Signal::KILL);
    let deadline = Instant::now() + Duration::from_secs(5);
    let output = loop {
        let output = shown.evidence();
        if output.status.code() == Some(4) || Instant::now() > deadline {
            break output;
        }
    };
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["failures"][0]["code"], "fault.tee_lost");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("simulator's socket") && said.contains("/dev/sev-guest: "), "{said}");
}

#[test]
fn the_program_shows_evidence_of_a_trust_domain() {
    let simulator = Simulator::tdx();
    let mut roots = Command::new(program());
    roots.arg("roots").arg("--state").arg(simulator.path("state")).arg("--out").arg(simulator.path("vendor"));
    assert!(roots.stdout(Stdio::null()).status().unwrap().success());
    let log = std::fs::read(simulator.path("vendor").join("ccel.bin")).unwrap();
    // The area that the firmware reserved is larger than what it wrote.
    let ccel = simulator.path("CCEL");
    std::fs::write(&ccel, [log.as_slice(), &[0xff; 4096]].concat()).unwrap();
    let shown = Shown::by(&simulator, "tdx", &format!("ccel = \"{}\"\n", ccel.display()));
    let document = shown.document();
    assert_eq!((document["kind"].as_str(), document["quote_version"].as_u64()), (Some("tdx"), Some(4)));
    let quote = std::fs::read(shown.parts.join("td-quote.bin")).unwrap();
    let quote = Quote::parse(&quote).unwrap();
    assert_eq!(document["report_data"], hex::encode(quote.td_report().unwrap().report_data));
    assert_eq!(std::fs::read(shown.parts.join("ccel.bin")).unwrap(), log);
    assert!(shown.parts.join("node-key.cose").is_file());

    std::fs::write(&ccel, b"no log").unwrap();
    let document: Value = serde_json::from_slice(&shown.evidence().stdout).unwrap();
    assert_eq!(document["failures"][0]["code"], "fault.log_malformed");
}
