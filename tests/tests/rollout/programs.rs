//! The programs as the workspace builds them, and what a test waits for in them.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Longest that any step takes, with other work on the same cores.
const WITHIN: Duration = Duration::from_secs(60);

/// Beside the folder that tests are built in.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: `cargo build --workspace --bins`", path.display());
    path
}

pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command.env("TSS2_LOG", "all+NONE");
    command
}

/// What a command printed, if it ended with `code`.
pub(crate) async fn finished(mut command: Command, code: i32) -> Value {
    let output = timeout(WITHIN, command.output()).await.expect("it ends").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{:?}: {out}{err}", command.as_std());
    serde_json::from_str(&out).unwrap_or(Value::Null)
}

/// Looks until it is so.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(WITHIN, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub(crate) async fn terminated(mut child: Child) {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    timeout(WITHIN, child.wait()).await.expect("it ends on SIGTERM").unwrap();
}

/// A lab domain with its verifier.
pub(crate) struct Domain {
    state: PathBuf,
    child: Option<Child>,
}

impl Domain {
    pub(crate) const NAME: &str = "a.example";

    /// A domain whose verifier somebody else serves.
    pub(crate) const fn served(state: PathBuf) -> Self {
        Self { state, child: None }
    }

    /// Trusts the maker of these TPMs and knows no more.
    pub(crate) async fn found(state: PathBuf, tpm_root: &Path, lease_ms: u32) -> Self {
        let mut domain = Self { state, child: None };
        let root = tpm_root.display().to_string();
        let any = "127.0.0.1:0";
        let listen = ["--listen-enrolment", any, "--listen-nodes", any];
        let init = ["init", "--lab", "--domain", Self::NAME, "--simulated-root", &root];
        domain.ask(&[&init[..], &listen].concat(), 0).await;
        let mut serve = command("verifier");
        serve.args(["serve", "--log", "warn", "--state"]).arg(&domain.state);
        serve.env("VERIFIER_LEASE_LENGTH_MS", lease_ms.to_string());
        domain.child = Some(serve.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap());
        until("the verifier listens", async || domain.addresses()).await;
        let socket = verifier::state::StateFolder::open(&domain.state).unwrap().operator_socket();
        until("the verifier obeys", async || UnixStream::connect(&socket).ok()).await;
        domain
    }

    pub(crate) async fn ask(&self, arguments: &[&str], code: i32) -> Value {
        let mut verifier = command("verifier");
        verifier.args(arguments).arg("--state").arg(&self.state).args(["--format", "json"]);
        finished(verifier, code).await
    }

    /// The same, as text for people.
    pub(crate) async fn tell(&self, arguments: &[&str]) -> String {
        let mut verifier = command("verifier");
        verifier.args(arguments).arg("--state").arg(&self.state);
        let output = timeout(WITHIN, verifier.output()).await.expect("it ends").unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it answered, unless it refused.
    pub(crate) async fn try_ask(&self, arguments: &[&str]) -> Option<Value> {
        let mut verifier = command("verifier");
        verifier.args(arguments).arg("--state").arg(&self.state).args(["--format", "json"]);
        let output = timeout(WITHIN, verifier.output()).await.expect("it ends").unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    pub(crate) fn authority_key(&self) -> String {
        self.state.join("authority/authority-1.key").display().to_string()
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.state.join("ca.pem")
    }

    pub(crate) fn addresses(&self) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.state.join("addresses.json")).ok()?).ok()
    }

    /// Stops the service and checks the whole log.
    pub(crate) async fn stop_and_check(mut self) {
        terminated(self.child.take().unwrap()).await;
        self.ask(&["log", "audit"], 0).await;
    }
}

/// A running `attestd exec`, and every event that it told.
pub(crate) struct Execution {
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Execution {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                told.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, events }
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// How often a phase was told: 5 begins, 6 is a renewal.
    pub(crate) fn phases(&self, number: u64) -> usize {
        self.events().iter().filter(|event| event["event"] == "phase" && event["number"] == number).count()
    }

    pub(crate) async fn begun(&self) {
        until("the workload begins", async || {
            let refusal = self.events().into_iter().find(|event| event["event"] == "refusal");
            assert_eq!(refusal, None);
            (self.phases(5) == 1).then_some(())
        })
        .await;
    }

    /// Waits for its end: exit code, and code of the halt.
    pub(crate) async fn ended(&mut self) -> (Option<i32>, String) {
        let status = timeout(WITHIN, self.child.wait()).await.expect("it ends").unwrap();
        let exit = until("the end is told", async || self.events().into_iter().find(|event| event["event"] == "exit"));
        let code = exit.await["halt_code"].as_str().unwrap_or_default().to_owned();
        (status.code(), code)
    }
}
