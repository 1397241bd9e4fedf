//! The demo's machine: a software TPM, a simulated TEE, or both, and how each is made to be something else.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::simulator::{Simulated, Simulator};
use super::software_tpm::SoftwareTpm;
use super::stage::{ATTESTD_STATE, DemoFault, Stage};
use crate::cli::DemoPlatform;

/// A machine that booted.
pub(super) struct Machine {
    pub(super) tpm: Option<SoftwareTpm>,
    pub(super) tee: Option<Simulator>,
}

/// What was made of a machine, and how it must show in an explanation.
pub(super) struct Change {
    /// What happened.
    pub(super) told: String,
    /// In the claim that the explanation names.
    pub(super) claim: &'static str,
    /// Anywhere in the explanation.
    pub(super) named: Option<&'static str>,
}

impl Machine {
    pub(super) async fn manufacture(stage: &Stage, platform: DemoPlatform) -> Result<Self, DemoFault> {
        let tee = match platform {
            DemoPlatform::Tpm => None,
            DemoPlatform::SimulatedSnp | DemoPlatform::SimulatedSnpTpm => Some(Simulated::Snp),
            DemoPlatform::SimulatedTdx | DemoPlatform::SimulatedTdxTpm => Some(Simulated::Tdx),
        };
        let has_tpm = match platform {
            DemoPlatform::Tpm | DemoPlatform::SimulatedSnpTpm | DemoPlatform::SimulatedTdxTpm => true,
            DemoPlatform::SimulatedSnp | DemoPlatform::SimulatedTdx => false,
        };
        let tpm = if has_tpm { Some(SoftwareTpm::manufacture(stage).await?) } else { None };
        let tee = match tee {
            Some(kind) => Some(Simulator::start(stage, kind).await?),
            None => None,
        };
        Ok(Self { tpm, tee })
    }

    /// What it is, one sentence each.
    pub(super) fn told(&self) -> Vec<String> {
        let tpm = self.tpm.iter().map(|tpm| {
            let (pid, events) = (tpm.pid(), tpm.events());
            format!("software TPM made and started (swtpm, pid {pid}), {events} measured boot events extended")
        });
        let tee = self.tee.iter().map(|tee| {
            let (pid, kind) = (tee.pid(), tee.kind());
            format!("simulated {kind} guest made and started (tee-simulator, pid {pid}), by a vendor of its own")
        });
        tpm.chain(tee).collect()
    }

    /// What `verifier init` must be told of who made it.
    pub(super) fn roots(&self, stage: &Stage) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.tpm.is_some() {
            let root = SoftwareTpm::manufacturer_root(stage).display().to_string();
            arguments.extend(["--simulated-root".to_owned(), root]);
        }
        if let Some(tee) = &self.tee {
            arguments.extend(tee.root(stage));
        }
        arguments
    }

    /// The node's configuration but for its name and domain.
    pub(super) fn toml(&self, stage: &Stage) -> String {
        let platform = match (&self.tpm, self.tee.as_ref().map(Simulator::kind)) {
            (_, None) => "tpm",
            (None, Some(Simulated::Snp)) => "sev-snp",
            (None, Some(Simulated::Tdx)) => "tdx",
            (Some(_), Some(Simulated::Snp)) => "tpm-on-sev-snp",
            (Some(_), Some(Simulated::Tdx)) => "tpm-on-tdx",
        };
        let mut toml = format!("platform = \"{platform}\"\n");
        if let Some(tpm) = &self.tpm {
            toml.push_str(&tpm.toml(stage));
            toml.push_str(&format!("[logs]\nevent_log = \"{}\"\n", stage.text(EVENT_LOG)));
            toml.push_str("[watch]\npcrs = [0, 1, 2, 3, 4, 5, 6, 7, 12]\n");
        }
        toml.extend(self.tee.iter().map(|tee| tee.toml(stage)));
        toml
    }

    /// Makes it something that nobody approved: what is measured changes.
    pub(super) async fn change(&mut self, stage: &Stage) -> Result<Change, DemoFault> {
        if let Some(tpm) = &mut self.tpm {
            tpm.start_implant(stage, IMPLANT).await?;
            let told = format!("{IMPLANT} was started: measured into PCR 4 and the event log");
            return Ok(Change { told, claim: "pcr", named: Some("implant.efi") });
        }
        let tee = self.tee.as_ref().ok_or_else(|| DemoFault::new("the machine", "is nothing"))?;
        let other: String = tee.measurement().chars().rev().collect();
        let other = if other == tee.measurement() { "e1".repeat(other.len() / 2) } else { other };
        tee.set(json!({ "measurement": other })).await?;
        let (told, claim) = match tee.kind() {
            Simulated::Snp => ("the guest was launched with another image: MEASUREMENT is another", "measurement"),
            Simulated::Tdx => ("the trust domain was built from another image: MRTD is another", "mrtd"),
        };
        Ok(Change { told: told.to_owned(), claim, named: None })
    }

    /// Makes it what it was.
    pub(super) async fn restore(&mut self, stage: &Stage) -> Result<&'static str, DemoFault> {
        if let Some(tpm) = &mut self.tpm {
            tpm.reboot(stage).await?;
            return Ok("the machine was booted anew, without the implant");
        }
        let tee = self.tee.as_ref().ok_or_else(|| DemoFault::new("the machine", "is nothing"))?;
        tee.set(json!({ "measurement": tee.measurement() })).await?;
        Ok("the guest was launched anew, from the image that it had")
    }

    /// Stops it in good order.
    pub(super) async fn stop(self) -> Result<(), DemoFault> {
        if let Some(tpm) = self.tpm {
            tpm.stop()?;
        }
        match self.tee {
            Some(tee) => tee.stop().await,
            None => Ok(()),
        }
    }
}

/// The node's configuration of its domain.
pub(super) fn domain_toml(stage: &Stage, nodes: &str, enrolment: &str) -> String {
    let ca = stage.path(super::stage::VERIFIER_STATE).join("ca.pem");
    format!("{}\n{HALT_TOML}", one_domain_toml(DOMAIN, nodes, enrolment, &ca))
}

/// One domain in a node's configuration.
pub(super) fn one_domain_toml(name: &str, nodes: &str, enrolment: &str, ca: &std::path::Path) -> String {
    format!(
        "[[domain]]\nname = \"{name}\"\nnodes = \"{nodes}\"\nenrolment = \"{enrolment}\"\n\
         server_name = \"localhost\"\nca = \"{}\"\n",
        ca.display()
    )
}

/// What a halt does to workloads.
pub(super) const HALT_TOML: &str = "[halt]\naction = \"kill\"\n";

/// Where the node's configuration is.
pub(super) fn node_config(stage: &Stage) -> PathBuf {
    stage.path(ATTESTD_STATE).join("attestd.toml")
}

/// The node's event log.
pub(super) const EVENT_LOG: &str = "event.log";
/// What nobody approved.
pub(super) const IMPLANT: &str = "\\EFI\\demo\\implant.efi";
/// The demo's domain.
pub(super) const DOMAIN: &str = "demo.example";
/// The demo's node.
pub(super) const NODE: &str = "demo-node";
/// How soon the last thing that a process did must show.
pub(super) const SOON: Duration = Duration::from_secs(8);
