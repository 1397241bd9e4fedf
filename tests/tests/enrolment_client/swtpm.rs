//! A node with a real software TPM: measured boot, EK certificate, state directory and configuration.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestd::collect::{Collector, TpmCollector};
use attestd::config::{Config, EkKind};
use attestd::demo::event_log::{Boot, Extension, MeasuredBoot};
use attestd::demo::swtpm::Swtpm;
use attestd::state::StateDir;
use attestd::tpm::Tpm;
use attestd::tpm::objects::{AttestationKey, Endorsement};
use evidence::digest::HashAlg;
use evidence::tpm::public::Public;

use tests::authority::{Authority, EkCertificateParams};
use tests::genuine::p256_spki;

/// Banks that a node's boot is measured into.
pub(crate) const BANKS: [HashAlg; 2] = [HashAlg::Sha256, HashAlg::Sha384];

/// A node that booted, before anything was started on it.
pub(crate) struct SwtpmNode {
    /// Its TPM, through the same owner as in the daemon.
    pub(crate) tpm: Tpm,
    /// The software behind it.
    pub(crate) swtpm: Swtpm,
    /// What was measured, and can be added to.
    pub(crate) boot: MeasuredBoot,
    /// TPM2B_PUBLIC of its EK.
    pub(crate) ek_public: Vec<u8>,
    home: PathBuf,
    _dir: tempfile::TempDir,
}

/// Where a node finds its domain's verifier.
pub(crate) struct VerifierAddress {
    /// Domain name.
    pub(crate) domain: String,
    /// `HOST:PORT` for nodes.
    pub(crate) nodes: String,
    /// `HOST:PORT` for enrolment.
    pub(crate) enrolment: String,
    /// Name in its certificate.
    pub(crate) server_name: String,
    /// PEM of its CA.
    pub(crate) ca_pem: String,
}

impl SwtpmNode {
    /// Boots the demo's machine; its EK certificate is by `manufacturer`, if there is one.
    pub(crate) async fn boot(manufacturer: Option<&Authority>) -> Self {
        Self::boot_with(&Boot::DEMO, manufacturer).await
    }

    /// Boots another machine.
    pub(crate) async fn boot_with(boot: &Boot<'_>, manufacturer: Option<&Authority>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        for sub in ["tpm", "state"] {
            std::fs::DirBuilder::new().mode(0o700).create(home.join(sub)).unwrap();
        }
        let swtpm = Swtpm::start(&home.join("tpm")).unwrap();
        let config = toml::from_str(&format!("tcti = \"{}\"\nek = \"ecc-p256\"\n", swtpm.tcti())).unwrap();
        let tpm = Tpm::open(&config).unwrap();
        let ek_public = Endorsement::read(&tpm, EkKind::EccP256).await.unwrap().public;
        if let Some(manufacturer) = manufacturer {
            let point = Public::read(&ek_public).unwrap().key.uncompressed_point().unwrap();
            let ek = manufacturer.certify(&p256_spki(&point), &EkCertificateParams::default());
            write(&home.join("ek.der"), &ek);
            let above = [&manufacturer.intermediate, &manufacturer.root].map(|der| pem("CERTIFICATE", der)).concat();
            write(&home.join("ek-ca.pem"), above.as_bytes());
        }
        let node = Self { tpm, swtpm, boot: MeasuredBoot::of(boot, &BANKS), ek_public, home, _dir: dir };
        for extension in node.boot.extensions() {
            node.extend(extension).await;
        }
        node.write_log();
        node
    }

    async fn extend(&self, extension: &Extension) {
        self.tpm.extend(extension.pcr, extension.digests.clone()).await.unwrap();
    }

    /// Its state directory.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.home.join("state")
    }

    /// Its event log.
    pub(crate) fn event_log_path(&self) -> PathBuf {
        self.home.join("event.log")
    }

    /// Opens its state directory, as its only daemon.
    pub(crate) fn state(&self) -> Arc<StateDir> {
        Arc::new(StateDir::open(&self.state_path()).unwrap())
    }

    /// Writes its configuration for one domain and reads it back.
    pub(crate) fn configure(&self, node_id: &str, verifier: &VerifierAddress) -> Config {
        self.configure_with(node_id, verifier, "watch.interval_ms = 50\n")
    }

    /// The same with more TOML, in dotted keys.
    pub(crate) fn configure_with(&self, node_id: &str, verifier: &VerifierAddress, more: &str) -> Config {
        write(&self.home.join("ca.pem"), verifier.ca_pem.as_bytes());
        let certificate = if self.home.join("ek.der").exists() {
            format!(
                "tpm.ek_certificate = \"{0}/ek.der\"\ntpm.ek_intermediates = \"{0}/ek-ca.pem\"\n",
                self.home.display()
            )
        } else {
            String::new()
        };
        let text = format!(
            "node_id = \"{node_id}\"\n\
             tpm.tcti = \"{tcti}\"\ntpm.ek = \"ecc-p256\"\n{certificate}\
             logs.event_log = \"{home}/event.log\"\n\
             watch.pcrs = [0, 1, 2, 3, 4, 5, 6, 7]\nhalt.action = \"kill\"\n{more}\
             [[domain]]\nname = \"{domain}\"\nnodes = \"{nodes}\"\nenrolment = \"{enrolment}\"\n\
             server_name = \"{server_name}\"\nca = \"{home}/ca.pem\"\n",
            tcti = self.swtpm.tcti(),
            home = self.home.display(),
            domain = verifier.domain,
            nodes = verifier.nodes,
            enrolment = verifier.enrolment,
            server_name = verifier.server_name,
        );
        let path = self.state_path().join("attestd.toml");
        write(&path, text.as_bytes());
        Config::load(&path, []).unwrap()
    }

    /// A collector of its Evidence, with the attestation key in `state`.
    pub(crate) async fn collector(&self, state: &Arc<StateDir>, config: &Config) -> Collector {
        let ak = AttestationKey::load_or_create(&self.tpm, state).await.unwrap();
        Collector::of_tpm(TpmCollector::new(self.tpm.clone(), ak, Arc::clone(state), config.logs.clone()))
    }

    fn write_log(&self) {
        write(&self.event_log_path(), self.boot.bytes());
    }
}

/// PEM of DER.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn write(path: &Path, bytes: &[u8]) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}
