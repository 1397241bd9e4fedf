//! A software TPM with a manufacturer of its own, and a measured boot that leads to its registers.

use std::path::PathBuf;
use std::time::Instant;

use evidence::digest::HashAlg;
use evidence::tpm::pcr::{PcrSelection, PcrSet};

use super::event_log::{Boot, Extension, MeasuredBoot};
use super::machine::EVENT_LOG;
use super::stage::{DemoFault, Stage};
use super::swtpm::Swtpm;
use crate::config::{EkKind, TpmConfig};
use crate::tpm::Tpm;
use crate::tpm::esys::{EsysTransport, Leftovers};

/// A software TPM that booted.
pub(super) struct SoftwareTpm {
    swtpm: Swtpm,
    boot: MeasuredBoot,
}

impl SoftwareTpm {
    /// Makes a TPM with an endorsement certificate by a manufacturer's CA made for the occasion (swtpm_setup(8)), and boots.
    pub(super) async fn manufacture(stage: &Stage) -> Result<Self, DemoFault> {
        let (tpm, ca) = (stage.make("swtpm")?, stage.make("tpm-manufacturer")?);
        let ca_text = ca.display();
        let localca = format!(
            "statedir = {ca_text}\nsigningkey = {ca_text}/signkey.pem\nissuercert = {ca_text}/issuercert.pem\ncertserial = {ca_text}/certserial\n"
        );
        let localca = stage.write("swtpm-localca.conf", localca.as_bytes())?;
        let options = stage.write(
            "swtpm-localca.options",
            b"--platform-manufacturer Demo\n--platform-version 1\n--platform-model Demo\n",
        )?;
        let setup = format!(
            "create_certs_tool = {}\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
            localca_tool()?.display(),
            localca.display(),
            options.display()
        );
        let setup = stage.write("swtpm_setup.conf", setup.as_bytes())?;
        let mut command = stage.tool("swtpm_setup");
        command.args(["--tpm2", "--create-ek-cert", "--pcr-banks", "sha256", "--config"]).arg(setup);
        command.arg("--tpmstate").arg(&tpm).arg("--logfile").arg(stage.path("swtpm_setup.log"));
        let made = stage.finish(command).await?;
        if !made.status.success() {
            return Err(DemoFault::new("manufacturing a software TPM", String::from_utf8_lossy(&made.stderr)));
        }
        let swtpm = Swtpm::start(&tpm).map_err(|error| DemoFault::new("starting swtpm", error))?;
        stage.attend(Some(swtpm.pid()));
        let machine = Self { swtpm, boot: MeasuredBoot::of(&Boot::DEMO, &[HashAlg::Sha256]) };
        machine.write_log(stage)?;
        machine.extend(machine.boot.extensions()).await?;
        Ok(machine)
    }

    /// Root certificate of the manufacturer.
    pub(super) fn manufacturer_root(stage: &Stage) -> PathBuf {
        stage.path("tpm-manufacturer").join("swtpm-localca-rootca-cert.pem")
    }

    /// What the node's configuration says about its TPM.
    pub(super) fn toml(&self, stage: &Stage) -> String {
        let intermediates = stage.path("tpm-manufacturer").join("issuercert.pem");
        format!(
            "[tpm]\ntcti = \"{}\"\nek = \"rsa-2048\"\nek_intermediates = \"{}\"\n",
            self.swtpm.tcti(),
            intermediates.display()
        )
    }

    pub(super) fn pid(&self) -> u32 {
        self.swtpm.pid()
    }

    pub(super) fn events(&self) -> usize {
        self.boot.extensions().len()
    }

    /// Starts something that nobody approved: measured, as everything is, into PCR 4 and the log.
    pub(super) async fn start_implant(&mut self, stage: &Stage, path: &str) -> Result<(), DemoFault> {
        let extension = self.boot.application(path, b"an image that nobody approved");
        self.write_log(stage)?;
        self.extend(&[extension]).await.map(drop)
    }

    /// Measures something into this PCR that no log tells of; says when the TPM was told.
    pub(super) async fn measure(&self, pcr: u8) -> Result<Instant, DemoFault> {
        let digests = vec![HashAlg::Sha256.hash(&[b"something"])];
        self.extend(&[Extension { pcr, digests }]).await
    }

    /// Boots again, without what was not approved.
    pub(super) async fn reboot(&mut self, stage: &Stage) -> Result<(), DemoFault> {
        self.swtpm.reset().map_err(|error| DemoFault::new("resetting swtpm", error))?;
        self.boot = MeasuredBoot::of(&Boot::DEMO, &[HashAlg::Sha256]);
        self.write_log(stage)?;
        self.extend(self.boot.extensions()).await.map(drop)
    }

    /// Stops the TPM in good order.
    pub(super) fn stop(self) -> Result<(), DemoFault> {
        self.swtpm.stop().map_err(|error| DemoFault::new("stopping swtpm", error))
    }

    fn write_log(&self, stage: &Stage) -> Result<(), DemoFault> {
        stage.write(EVENT_LOG, self.boot.bytes()).map(drop)
    }

    async fn extend(&self, extensions: &[Extension]) -> Result<Instant, DemoFault> {
        let config = TpmConfig {
            tcti: self.swtpm.tcti(),
            ek: EkKind::Rsa2048,
            ek_certificate: None,
            ek_intermediates: None,
            command_deadline_ms: 5_000,
            key_deadline_ms: 30_000,
        };
        let unreachable = |error| DemoFault::new("reaching swtpm", error);
        let beside = EsysTransport { tcti: config.tcti.clone(), leftovers: Leftovers::Left };
        let tpm = Tpm::start(beside, &config).map_err(unreachable)?;
        // Connected before the clock starts.
        let any = PcrSelection { bank: HashAlg::Sha256, pcrs: PcrSet::EMPTY.with(0).unwrap_or(PcrSet::EMPTY) };
        tpm.pcrs(any).await.map_err(unreachable)?;
        let told = Instant::now();
        for extension in extensions {
            let extended = tpm.extend(extension.pcr, extension.digests.clone()).await;
            extended.map_err(|error| DemoFault::new(format_args!("extending PCR {}", extension.pcr), error))?;
        }
        Ok(told)
    }
}

/// swtpm's certificate tool; its place differs between versions.
fn localca_tool() -> Result<PathBuf, DemoFault> {
    let places = ["/usr/bin/swtpm_localca", "/usr/share/swtpm/swtpm-localca", "/usr/local/bin/swtpm_localca"];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| DemoFault::new("finding swtpm_localca", "install swtpm-tools"))
}
