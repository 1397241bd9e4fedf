//! A domain as operators have it: the program `verifier` in a process of its own, and its command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use firmware_refs::set::ReferenceValueSet;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use tests::genuine::Machine;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use verifier::serve::Addresses;

use crate::bed::{captured, domain};
use crate::node::Reachable;

/// Longest that any step takes.
const WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Domain {
    folder: tempfile::TempDir,
    addresses: Addresses,
    child: Child,
}

impl Reachable for Domain {
    fn addresses(&self) -> Addresses {
        self.addresses
    }

    fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.state().join("ca.pem")).unwrap()
    }
}

impl Domain {
    /// A lab that trusts the machine's manufacturer and knows no values yet.
    pub(crate) async fn found(machine: &Machine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (state, root) = (folder.path().join("state"), folder.path().join("root.der"));
        std::fs::write(&root, &machine.authority.root).unwrap();
        let mut init = verifier(&state);
        init.args(["init", "--lab", "--domain", domain().as_str(), "--tpm-root"]).arg(&root);
        init.args(["--listen-enrolment", "127.0.0.1:0", "--listen-nodes", "127.0.0.1:0"]);
        finished(init, 0).await;
        let mut serve = verifier(&state);
        serve.args(["serve", "--log", "warn", "--format", "json"]).stderr(Stdio::inherit());
        let mut child = serve.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = String::new();
        let listening = async {
            // one document over several lines
            while let Some(line) = out.next_line().await.unwrap() {
                said.push_str(&line);
                if let Ok(document) = serde_json::from_str::<Value>(&said) {
                    return document;
                }
            }
            panic!("it ended: {said}")
        };
        let document = timeout(WITHIN, listening).await.expect("it starts");
        let address = |name: &str| -> SocketAddr { document[name].as_str().unwrap().parse().unwrap() };
        let addresses =
            Addresses { enrolment: address("enrolment"), nodes: address("nodes"), admin: None, public: None };
        Self { folder, addresses, child }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// One verb of the command line, which must end with this exit code.
    pub(crate) async fn ask(&self, arguments: &[&str], code: i32) -> Value {
        let mut verb = verifier(&self.state());
        verb.args(arguments).args(["--format", "json"]);
        serde_json::from_str(&finished(verb, code).await).unwrap_or(Value::Null)
    }

    /// The same, as people read it.
    pub(crate) async fn read(&self, arguments: &[&str], code: i32) -> String {
        let mut verb = verifier(&self.state());
        verb.args(arguments);
        finished(verb, code).await
    }

    pub(crate) fn signer(&self) -> String {
        self.path("state/authority/authority-1.key")
    }

    /// Writes the set that knows exactly this machine as it booted.
    pub(crate) fn write_set(&self, machine: &Machine, id: &str, version: u64) -> String {
        self.write(&format!("{id}-{version}.toml"), captured(machine, id, version).set())
    }

    pub(crate) fn write(&self, name: &str, set: &ReferenceValueSet) -> String {
        let path = self.path(name);
        std::fs::write(&path, set.to_toml().unwrap()).unwrap();
        path
    }

    pub(crate) async fn stage(&self, file: &str) {
        self.ask(&["refs", "import", file, "--signer", &self.signer()], 0).await;
    }

    pub(crate) async fn activate(&self, name: &str) {
        self.ask(&["refs", "activate", name, "--signer", &self.signer()], 0).await;
    }

    /// Changes its tables behind its back.
    pub(crate) async fn sql(&self, statement: &'static str) {
        use sqlx::Connection as _;
        sqlx::any::install_default_drivers();
        let files = std::fs::read_dir(self.state()).unwrap().map(|entry| entry.unwrap().path());
        let tables = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
        let url = format!("sqlite://{}", tables.display());
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) async fn finish(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = timeout(WITHIN, self.child.wait()).await.expect("it ends on SIGTERM").unwrap();
        assert!(status.success(), "{status}");
        self.ask(&["log", "audit"], 0).await;
    }
}

/// Beside the folder that tests are built in.
fn verifier(state: &Path) -> Command {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("verifier");
    assert!(program.is_file(), "{} is not built: `cargo build --workspace --bins`", program.display());
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
    command.env("VERIFIER_STATE", state);
    command
}

async fn finished(mut command: Command, code: i32) -> String {
    let output = timeout(WITHIN, command.output()).await.expect("it ends").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{:?}: {out}{err}", command.as_std());
    out.into_owned()
}
