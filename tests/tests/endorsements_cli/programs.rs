//! The programs as the workspace builds them, each in a folder of its own below one that goes away with the test.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

pub(crate) const NODE: &str = "guest-1";
/// Longest that any step takes.
const WITHIN: Duration = Duration::from_secs(20);

/// Beside the folder that tests are built in.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: `cargo build --workspace --bins`", path.display());
    path
}

fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command.env("TSS2_LOG", "all+NONE");
    command
}

async fn finished(mut command: Command, code: i32) -> Value {
    let output = timeout(WITHIN, command.output()).await.expect("it ends").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{:?}: {out}{err}", command.as_std());
    serde_json::from_str(&out).unwrap_or(Value::Null)
}

/// Looks until it is so.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WITHIN, looking).await.expect("it happens in time")
}

async fn terminated(mut child: Child) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = timeout(WITHIN, child.wait()).await.expect("it ends on SIGTERM").unwrap();
    assert!(status.success(), "{status}");
}

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: impl AsRef<Path>) -> String {
        self.path(name).display().to_string()
    }
}

/// A simulated SNP guest.
pub(crate) struct Simulator {
    _child: Child,
    state: PathBuf,
    socket: PathBuf,
    control: PathBuf,
}

impl Simulator {
    pub(crate) async fn start(place: &Place) -> Self {
        let [state, socket, control] = ["machine", "tee.sock", "control.sock"].map(|name| place.path(name));
        let mut serve = command("tee-simulator");
        serve.args(["serve", "--platform", "snp", "--product", "milan", "--state"]).arg(&state);
        serve.arg("--socket").arg(&socket).arg("--control").arg(&control).stderr(Stdio::inherit());
        let mut child = serve.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = timeout(WITHIN, lines.next_line()).await.expect("it starts").unwrap();
        assert_eq!(ready.as_deref(), Some("ready"));
        Self { _child: child, state, socket, control }
    }

    /// A folder with what an operator gets from the vendor.
    pub(crate) async fn vendor_files(&self, place: &Place) -> PathBuf {
        let vendor = place.path("vendor");
        self.write(&["roots"], &vendor).await;
        vendor
    }

    /// The certificate table that the host gives with a report.
    pub(crate) async fn host_s_table(&self, place: &Place) -> String {
        let host = place.path("host");
        self.write(&["evidence", "--report-data", "5a"], &host).await;
        host.join("certificates.bin").display().to_string()
    }

    async fn write(&self, arguments: &[&str], out: &Path) {
        let mut write = command("tee-simulator");
        write.args(arguments).arg("--state").arg(&self.state).arg("--out").arg(out);
        finished(write, 0).await;
    }

    /// Changes what it answers from now on.
    pub(crate) fn set(&self, change: Value) {
        let text = serde_json::json!({ "set": change }).to_string();
        let mut stream = UnixStream::connect(&self.control).unwrap();
        stream.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        stream.read_exact(&mut answer).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
    }
}

/// A domain with its verifier.
pub(crate) struct Domain {
    name: &'static str,
    state: PathBuf,
    child: Option<Child>,
}

impl Domain {
    /// A lab that trusts the vendor's root and knows no more.
    pub(crate) async fn found(place: &Place, name: &'static str, vendor: &Path) -> Self {
        let mut domain = Self { name, state: place.path(name), child: None };
        let root = format!("Milan={}", vendor.join("ark.pem").display());
        let any = "127.0.0.1:0";
        let init = ["init", "--lab", "--domain", name, "--simulated-snp-root", &root];
        domain.ask(&[&init[..], &["--listen-enrolment", any, "--listen-nodes", any]].concat(), 0).await;
        domain.start().await;
        domain
    }

    pub(crate) async fn start(&mut self) {
        let mut serve = command("verifier");
        serve
            .args(["serve", "--log", "warn", "--state"])
            .arg(&self.state)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        self.child = Some(serve.spawn().unwrap());
        until(async || self.addresses()).await;
        until(async || UnixStream::connect(self.operator_socket()).ok()).await;
    }

    pub(crate) async fn stop(&mut self) {
        terminated(self.child.take().unwrap()).await;
    }

    pub(crate) async fn stop_and_check(mut self) {
        self.stop().await;
        self.ask(&["log", "audit"], 0).await;
    }

    pub(crate) async fn ask(&self, arguments: &[&str], code: i32) -> Value {
        let mut verifier = command("verifier");
        verifier.args(arguments).arg("--state").arg(&self.state).args(["--format", "json"]);
        finished(verifier, code).await
    }

    /// Changes its tables while it does not serve.
    pub(crate) async fn sql(&self, statement: &'static str) {
        use sqlx::Connection as _;
        sqlx::any::install_default_drivers();
        let files = std::fs::read_dir(&self.state).unwrap().map(|entry| entry.unwrap().path());
        let tables =
            files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "db")).unwrap();
        let mut connection = sqlx::AnyConnection::connect(&format!("sqlite://{}", tables.display())).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) fn authority_key(&self) -> String {
        self.state.join("authority/authority-1.key").display().to_string()
    }

    pub(crate) fn operator_socket(&self) -> PathBuf {
        verifier::state::StateFolder::open(&self.state).unwrap().operator_socket()
    }

    fn addresses(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.state.join("addresses.json")).ok()?).ok()
    }

    /// What the node's machine measures now becomes a reference value set, signed and active.
    pub(crate) async fn trust_what_runs_on(&self, place: &Place, node: &Node) {
        let mut run = command("attestd");
        run.arg("--state").arg(&node.state).arg("run").stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = run.spawn().unwrap();
        let set = place.text("references.toml");
        until(async || {
            let mut capture = command("verifier");
            capture.args(["refs", "capture", NODE, "--out", &set, "--state"]).arg(&self.state);
            capture.output().await.unwrap().status.success().then_some(())
        })
        .await;
        terminated(daemon).await;
        let signer = self.authority_key();
        let imported = self.ask(&["refs", "import", &set, "--signer", &signer], 0).await;
        let name = imported["name"].as_str().or(imported["id"].as_str()).unwrap().to_owned();
        self.ask(&["refs", "activate", &name, "--signer", &signer, "--reason", "first boot"], 0).await;
    }
}

/// A node on the simulated guest.
pub(crate) struct Node {
    state: PathBuf,
}

impl Node {
    pub(crate) fn configured(place: &Place, guest: &Simulator, domain: &Domain) -> Self {
        let state = place.path(NODE);
        std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        let addresses = domain.addresses().unwrap();
        let config = format!(
            "node_id = \"{NODE}\"\nplatform = \"sev-snp\"\n[tee]\nreports = \"socket:{}\"\n[halt]\naction = \"kill\"\n\
             [[domain]]\nname = \"{}\"\nnodes = {}\nenrolment = {}\nserver_name = \"localhost\"\nca = \"{}\"\n",
            guest.socket.display(),
            domain.name,
            addresses["nodes"],
            addresses["enrolment"],
            domain.state.join("ca.pem").display(),
        );
        std::fs::write(state.join("attestd.toml"), config).unwrap();
        Self { state }
    }

    pub(crate) async fn ask(&self, arguments: &[&str], code: i32) -> Value {
        let mut attestd = command("attestd");
        attestd.arg("--state").arg(&self.state).args(["--format", "json"]).args(arguments);
        finished(attestd, code).await
    }
}
