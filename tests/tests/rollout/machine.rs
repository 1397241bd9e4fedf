//! Machines with a software TPM each, which boot one firmware or another.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use attestd::config::{EkKind, TpmConfig};
use attestd::demo::event_log::{Boot, MeasuredBoot};
use attestd::demo::swtpm::Swtpm;
use attestd::tpm::Tpm;
use attestd::tpm::objects::Endorsement;
use evidence::digest::HashAlg;
use evidence::tpm::public::Public;
use serde_json::Value;
use tests::authority::{Authority, EkCertificateParams};
use tests::genuine::p256_spki;
use tokio::process::{Child, Command};

use crate::programs::{Domain, Execution, command, finished, terminated, until};

/// Firmware before and after.
pub(crate) const A: Boot<'static> = Boot::DEMO;
pub(crate) const B: Boot<'static> =
    Boot { firmware_version: "demo firmware 2.0", firmware: b"demo firmware image, mended", ..Boot::DEMO };

/// A machine, and the daemon on it while it runs.
pub(crate) struct Machine {
    pub(crate) id: String,
    home: PathBuf,
    swtpm: Swtpm,
    daemon: Option<Child>,
    boots: u32,
}

impl Machine {
    /// Makes a machine below `place`, its TPM certified by `maker`, and boots it.
    pub(crate) async fn manufacture(place: &Path, id: &str, maker: &Authority, boot: &Boot<'_>) -> Self {
        let home = place.join(id);
        for folder in [home.clone(), home.join("tpm"), home.join("state")] {
            std::fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
        }
        let swtpm = Swtpm::start(&home.join("tpm")).unwrap();
        let machine = Self { id: id.to_owned(), home, swtpm, daemon: None, boots: 0 };
        let tpm = machine.tpm();
        let ek = Endorsement::read(&tpm, EkKind::EccP256).await.unwrap().public;
        let point = Public::read(&ek).unwrap().key.uncompressed_point().unwrap();
        let certificate = maker.certify(&p256_spki(&point), &EkCertificateParams::default());
        std::fs::write(machine.home.join("ek.der"), certificate).unwrap();
        machine.measure(&tpm, boot).await;
        machine
    }

    /// Its TPM, while no daemon has it.
    fn tpm(&self) -> Tpm {
        let text = format!("tcti = \"{}\"\nek = \"ecc-p256\"\n", self.swtpm.tcti());
        let config: TpmConfig = toml::from_str(&text).unwrap();
        Tpm::open(&config).unwrap()
    }

    async fn measure(&self, tpm: &Tpm, boot: &Boot<'_>) {
        let measured = MeasuredBoot::of(boot, &[HashAlg::Sha256, HashAlg::Sha384]);
        for extension in measured.extensions() {
            tpm.extend(extension.pcr, extension.digests.clone()).await.unwrap();
        }
        std::fs::write(self.home.join("event.log"), measured.bytes()).unwrap();
    }

    /// Ends the daemon, resets the TPM as a restart of the machine does, and boots.
    pub(crate) async fn reboot(&mut self, boot: &Boot<'_>) {
        terminated(self.daemon.take().unwrap()).await;
        self.swtpm.reset().unwrap();
        self.measure(&self.tpm(), boot).await;
        self.boots += 1;
    }

    /// Configures the daemon for a domain and enrols.
    pub(crate) async fn enrol(&self, domain: &Domain, maker_chain: &Path) {
        self.configure(domain, maker_chain);
        finished(self.attestd(&["enrol"]), 0).await;
    }

    /// Configures the daemon for a domain.
    pub(crate) fn configure(&self, domain: &Domain, maker_chain: &Path) {
        let addresses = domain.addresses().unwrap();
        let home = self.home.display();
        let config = format!(
            "node_id = \"{id}\"\ntpm.tcti = \"{tcti}\"\ntpm.ek = \"ecc-p256\"\n\
             tpm.ek_certificate = \"{home}/ek.der\"\ntpm.ek_intermediates = \"{chain}\"\n\
             logs.event_log = \"{home}/event.log\"\nwatch.pcrs = [0, 1, 2, 3, 4, 5, 6, 7]\nwatch.interval_ms = 5000\n\
             halt.action = \"kill\"\n[[domain]]\nname = \"{domain}\"\nnodes = {nodes}\nenrolment = {enrolment}\n\
             server_name = \"localhost\"\nca = \"{ca}\"\n",
            id = self.id,
            tcti = self.swtpm.tcti(),
            chain = maker_chain.display(),
            domain = Domain::NAME,
            nodes = addresses["nodes"],
            enrolment = addresses["enrolment"],
            ca = domain.ca().display(),
        );
        std::fs::write(self.home.join("state/attestd.toml"), config).unwrap();
    }

    /// Starts the daemon and waits until its verifier has welcomed it.
    pub(crate) async fn run(&mut self) {
        let mut run = self.attestd(&["run"]);
        self.daemon = Some(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("the node is connected", async || {
            let output = self.attestd(&["status"]).output().await.unwrap();
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            (status.pointer("/domains/0/connected") == Some(&Value::Bool(true))).then_some(())
        })
        .await;
    }

    /// Starts a workload that runs until [`Machine::stop_workload`].
    pub(crate) fn exec(&self) -> Execution {
        let wait = format!("while [ ! -e '{}' ]; do sleep 0.1; done", self.stop_file().display());
        Execution::start(self.attestd(&["exec", "--", "sh", "-c", &wait]))
    }

    pub(crate) fn stop_workload(&self) {
        std::fs::write(self.stop_file(), "").unwrap();
    }

    fn stop_file(&self) -> PathBuf {
        self.home.join(format!("stop-{}", self.boots))
    }

    pub(crate) fn attestd(&self, arguments: &[&str]) -> Command {
        let mut attestd = command("attestd");
        attestd.arg("--state").arg(self.home.join("state")).args(["--format", "json"]).args(arguments);
        attestd
    }
}
