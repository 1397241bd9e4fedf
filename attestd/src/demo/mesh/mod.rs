//! Several domains, each with its verifier, and nodes that are enrolled with all of them: real processes on one machine.

mod federation;
pub(super) mod story;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use tokio::process::Child;

use super::machine::{HALT_TOML, Machine, one_domain_toml};
use super::simulator::VENDOR;
use super::stage::{DemoFault, Programs, Stage};
use super::story::{private, string, terminate};
use super::watched::Watched;
use crate::cli::DemoPlatform;

type Made<T> = Result<T, DemoFault>;

/// One domain and its verifier.
pub struct Domain {
    name: String,
    /// While it serves.
    verifier: Option<Child>,
}

/// One node and its daemon.
pub struct Node {
    name: String,
    /// While it runs.
    daemon: Option<Child>,
}

/// Where a node reaches a domain's verifier.
#[derive(Clone, Debug)]
pub struct Reach {
    /// `HOST:PORT` for enrolled nodes.
    pub nodes: String,
    /// `HOST:PORT` for enrolment.
    pub enrolment: String,
}

/// Domains and nodes in one folder, which goes with this value, and everybody in it.
pub struct Mesh {
    stage: Stage,
    lease_ms: u32,
    domains: Vec<Domain>,
    nodes: Vec<Node>,
    machines: Vec<Machine>,
}

impl Mesh {
    /// Makes the machines that nodes will be on; they are made first, because domains must know who made them. Domains
    /// and nodes follow.
    ///
    /// # Errors
    /// [`DemoFault`]: what did not start.
    pub async fn on(programs: [PathBuf; 3], platforms: &[DemoPlatform], lease_ms: u32, keep: bool) -> Made<Self> {
        let [attestd, verifier, simulator] = programs;
        let stage = Stage::new(Programs { attestd, verifier, simulator: Some(simulator) }, keep)?;
        let mut machines = Vec::with_capacity(platforms.len());
        for platform in platforms {
            machines.push(Machine::manufacture(&stage, *platform).await.map_err(|fault| fault.with_logs(&stage))?);
        }
        Ok(Self { stage, lease_ms, domains: Vec::new(), nodes: Vec::new(), machines })
    }

    /// Founds a lab domain that knows the machines' makers, and starts its verifier. It releases nothing that no partner
    /// has cosigned.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn found(&mut self, name: &str) -> Made<()> {
        let any = "127.0.0.1:0";
        let mut init = vec!["init", "--lab", "--domain", name, "--listen-enrolment", any, "--listen-nodes", any];
        init.extend(["--listen-federation", any, "--witness-quorum", "1"]);
        let roots: Vec<String> = self.machines.iter().flat_map(|machine| machine.roots(&self.stage)).collect();
        init.extend(roots.iter().map(String::as_str));
        self.ask(name, &init, 0).await?;
        self.domains.push(Domain { name: name.to_owned(), verifier: None });
        self.serve(name).await?;
        if self.machines.iter().any(|machine| machine.tee.is_some()) {
            let vendor = self.stage.text(VENDOR);
            self.ask(name, &["endorsements", "import", &vendor], 0).await?;
        }
        Ok(())
    }

    /// Takes in a domain whose folder was made otherwise: a copy of another one, say. Its verifier is not running.
    pub fn take_in(&mut self, folder: &str) {
        self.domains.push(Domain { name: folder.to_owned(), verifier: None });
    }

    /// Starts a domain's verifier, at first or again.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn serve(&mut self, name: &str) -> Made<()> {
        self.serve_under(name, &[]).await
    }

    /// The same, with these environment variables also.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn serve_under(&mut self, name: &str, environment: &[(&str, &str)]) -> Made<()> {
        let mut serve = self.stage.verifier_of(name, &["serve"]);
        serve.env("VERIFIER_LEASE_LENGTH_MS", self.lease_ms.to_string()).envs(environment.iter().copied());
        let child = self.stage.start(serve, &format!("{name}.log"))?;
        self.domain_mut(name)?.verifier = Some(child);
        let listens = async || Ok(self.reach(name).ok().map(drop));
        self.stage.until("the verifier's start", listens).await?;
        self.stage.until("the verifier's answer", async || self.answers(name).await).await
    }

    async fn answers(&self, name: &str) -> Made<Option<()>> {
        let mut command = self.stage.verifier_of(name, &["keys", "list"]);
        command.args(["--format", "json"]);
        Ok(self.stage.finish(command).await?.status.success().then_some(()))
    }

    /// Stops a domain's verifier in good order.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn stop(&mut self, name: &str) -> Made<()> {
        match self.domain_mut(name)?.verifier.take() {
            Some(verifier) => terminate(verifier, name).await,
            None => Ok(()),
        }
    }

    /// Kills a domain's verifier.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn kill(&mut self, name: &str) -> Made<()> {
        let Some(mut verifier) = self.domain_mut(name)?.verifier.take() else { return Ok(()) };
        verifier.kill().await.map_err(|error| DemoFault::new(format_args!("killing {name}"), error))
    }

    /// The process of a domain's verifier, while it serves.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        let domain = self.domains.iter().find(|domain| domain.name == name)?;
        domain.verifier.as_ref().and_then(Child::id)
    }

    /// Where a domain's verifier listens.
    ///
    /// # Errors
    /// [`DemoFault`]: it does not.
    pub fn reach(&self, name: &str) -> Made<Reach> {
        let addresses = self.addresses(name)?;
        Ok(Reach { nodes: string(&addresses, &["/nodes"])?, enrolment: string(&addresses, &["/enrolment"])? })
    }

    fn addresses(&self, name: &str) -> Made<Value> {
        let bytes = self.stage.read(&format!("{name}/addresses.json"))?;
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Makes the machine of this number something that nobody approved: what is measured changes.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn change(&mut self, machine: usize) -> Made<()> {
        let machine = self.machines.get_mut(machine).ok_or_else(|| DemoFault::new("a change", "no such machine"))?;
        machine.change(&self.stage).await.map(drop)
    }

    /// Extends a PCR of the machine of this number, which has a TPM; says when the TPM was told.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn measure(&self, machine: usize, pcr: u8) -> Made<Instant> {
        let tpm = self.machines.get(machine).and_then(|machine| machine.tpm.as_ref());
        tpm.ok_or_else(|| DemoFault::new("measuring", "no machine with a TPM"))?.measure(pcr).await
    }

    /// The process id of a node's daemon, while it runs.
    #[must_use]
    pub fn node_pid(&self, name: &str) -> Option<u32> {
        self.nodes.iter().find(|node| node.name == name)?.daemon.as_ref().and_then(Child::id)
    }

    /// Configures a node on the machine of this number for these domains, the first its home, and enrols it with each.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn enrol(&mut self, node: &str, machine: usize, domains: &[(&str, Reach)]) -> Made<()> {
        self.stage.make(node)?;
        let machine = self.machines.get(machine).ok_or_else(|| DemoFault::new("enrolling", "no such machine"))?;
        let mut config = format!("node_id = \"{node}\"\n{}", machine.toml(&self.stage));
        for (name, reach) in domains {
            let ca = self.stage.path(name).join("ca.pem");
            config.push_str(&one_domain_toml(name, &reach.nodes, &reach.enrolment, &ca));
        }
        config.push_str(HALT_TOML);
        self.stage.write(&format!("{node}/attestd.toml"), config.as_bytes())?;
        for (name, _) in domains {
            self.ask_node(node, &["enrol", "--domain", name], 0).await?;
        }
        self.nodes.push(Node { name: node.to_owned(), daemon: None });
        Ok(())
    }

    /// Starts a node's daemon and waits until every domain of its has welcomed it.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn run(&mut self, node: &str) -> Made<()> {
        self.start(node)?;
        self.welcomed(node, |_| true).await
    }

    /// Waits until each of these of a node's domains has welcomed it.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn welcomed(&self, node: &str, by: impl Fn(&str) -> bool) -> Made<()> {
        let connected = async || {
            let status = self.status(node).await?;
            let domains = status.pointer("/domains").and_then(Value::as_array).cloned().unwrap_or_default();
            let asked = |domain: &&Value| domain.pointer("/name").and_then(Value::as_str).is_some_and(&by);
            let mut domains = domains.iter().filter(asked).peekable();
            let any = domains.peek().is_some();
            let all = domains.all(|domain| domain.pointer("/connected") == Some(&Value::Bool(true)));
            Ok((any && all).then_some(()))
        };
        self.stage.until("the node's connections", connected).await
    }

    /// Starts a node's daemon.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub fn start(&mut self, node: &str) -> Made<()> {
        let child = self.stage.start(self.stage.attestd_of(node, &["run"]), &format!("{node}.log"))?;
        let node = self.nodes.iter_mut().find(|known| known.name == node);
        node.ok_or_else(|| DemoFault::new("starting a node", "not enrolled"))?.daemon = Some(child);
        Ok(())
    }

    /// Stops a node's daemon in good order.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn stop_node(&mut self, node: &str) -> Made<()> {
        match self.nodes.iter_mut().find(|known| known.name == node).and_then(|known| known.daemon.take()) {
            Some(daemon) => terminate(daemon, node).await,
            None => Ok(()),
        }
    }

    /// A node's status; null while it does not answer.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn status(&self, node: &str) -> Made<Value> {
        let mut command = self.stage.attestd_of(node, &["--format", "json", "status"]);
        command.stderr(std::process::Stdio::null());
        let output = self.stage.finish(command).await?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    /// Each of these domains takes what a node measures now as reference values, signed by its own authority.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn trust_what_runs_now(&self, node: &str, domains: &[&str]) -> Made<()> {
        for domain in domains {
            let set = self.stage.text(&format!("{domain}-{node}.toml"));
            let captured = async || {
                let mut command = self.stage.verifier_of(domain, &["refs", "capture", node, "--out", &set]);
                command.args(["--format", "json"]);
                Ok(self.stage.finish(command).await?.status.success().then_some(()))
            };
            self.stage.until("the node's capture", captured).await?;
            let signer = self.signer(domain);
            let imported = self.ask(domain, &["refs", "import", &set, "--signer", &signer], 0).await?;
            let name = string(&imported, &["/name", "/id"])?;
            let activate = ["refs", "activate", &name, "--signer", &signer, "--reason", "first boot"];
            self.ask(domain, &activate, 0).await?;
        }
        Ok(())
    }

    /// Replaces a domain's policy.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn rule(&self, domain: &str, cedar: &str) -> Made<()> {
        let file = format!("{domain}.cedar");
        self.stage.write(&file, cedar.as_bytes())?;
        let (file, signer) = (self.stage.text(&file), self.signer(domain));
        let activate =
            ["policy", "activate", &file, "--name", "lab", "--signer", &signer, "--reason", "another policy"];
        self.ask(domain, &activate, 0).await.map(drop)
    }

    /// The key file of a domain's policy authority.
    #[must_use]
    pub fn signer(&self, domain: &str) -> String {
        self.stage.path(domain).join("authority/authority-1.key").display().to_string()
    }

    /// Runs a `verifier` verb in a domain to its end; its JSON if it ended with `code`.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn ask(&self, domain: &str, arguments: &[&str], code: i32) -> Made<Value> {
        self.stage.ask(self.stage.verifier_of(domain, arguments), arguments, code).await
    }

    /// Runs a `verifier` verb that needs no domain.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn ask_nobody(&self, arguments: &[&str], code: i32) -> Made<Value> {
        self.stage.ask(self.stage.verifier_alone(arguments), arguments, code).await
    }

    /// Runs an `attestd` verb on a node to its end; its JSON if it ended with `code`.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn ask_node(&self, node: &str, arguments: &[&str], code: i32) -> Made<Value> {
        let all: Vec<&str> = ["--format", "json"].iter().chain(arguments).copied().collect();
        let output = self.stage.finish(self.stage.attestd_of(node, &all)).await?;
        super::stage::document(&format!("attestd {}", arguments.join(" ")), output, code)
    }

    /// Starts `attestd exec` on a node.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub fn exec(&self, node: &str, arguments: &[&str]) -> Made<Watched> {
        Watched::start_of(&self.stage, node, arguments)
    }

    /// A file of these bytes in the folder, for its owner alone.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub fn write(&self, name: &str, content: &[u8]) -> Made<PathBuf> {
        let path = self.stage.write(name, content)?;
        private(&self.stage, name)?;
        Ok(path)
    }

    /// Makes a private folder in the folder.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub fn folder(&self, name: &str) -> Made<PathBuf> {
        self.stage.make(name)
    }

    /// The folder, if it stays.
    #[must_use]
    pub fn kept(&self) -> Option<String> {
        self.stage.is_kept().map(|folder| folder.display().to_string())
    }

    /// A place in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.stage.path(name)
    }

    /// Looks until it is so, but not for ever.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Made<Option<T>>) -> Made<T> {
        self.stage.until(what, look).await
    }

    /// The same fault, with the last lines of every log.
    #[must_use]
    pub fn explained(&self, fault: DemoFault) -> DemoFault {
        fault.with_logs(&self.stage)
    }

    fn domain_mut(&mut self, name: &str) -> Made<&mut Domain> {
        let found = self.domains.iter_mut().find(|domain| domain.name == name);
        found.ok_or_else(|| DemoFault::new(name, "no such domain"))
    }
}
