//! The story: a machine proves itself and gets a key, stops being what it was and loses it, and both can be proved.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::machine::{Change, DOMAIN, IMPLANT, Machine, NODE, SOON, domain_toml, node_config};
use super::simulator::{Simulator, VENDOR};
use super::software_tpm::SoftwareTpm;
use super::stage::{ATTESTD_STATE, DemoFault, Stage, VERIFIER_STATE};
use super::telling::Teller;
use super::watched::{Seen, Watched, short};
use crate::cli::DemoPlatform;

type Told<T> = Result<T, DemoFault>;

/// Tells it, one act after the other.
pub(super) async fn tell(
    stage: &Stage,
    platform: DemoPlatform,
    svg: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Told<()> {
    let mut story = Story::new(stage, out);
    let (mut machine, verifier) = story.prepare(platform).await?;
    let node = story.start_node(WATCH_SELDOM_MS).await?;
    story.trust_what_runs_now().await?;

    story.tell.head("a workload runs on what its machine proved")?;
    let (execution, workload) = story.run_until_renewed().await?;
    story.tell.head("a workload starts a child, which may do less than it and ends with it")?;
    let family = story.child_with_its_parent().await?;
    story.tell.head("the machine changes, and the next renewal is denied")?;
    let change = machine.change(stage).await?;
    story.denied_at_renewal(&change, execution, &workload).await?;
    story.refused_while_quarantined("a second exec").await?;

    let node = story.restart_node(node, &mut machine).await?;
    story.readmit().await?;
    let artifact = match (&machine.tee, &mut machine.tpm) {
        (Some(tee), _) => story.denied_for_old_firmware(tee).await?,
        (None, Some(tpm)) => story.halted_by_the_watch(tpm).await?,
        (None, None) => return Err(DemoFault::new("the machine", "is nothing")),
    };

    story.tell.head("a stranger checks all of it, with public keys alone")?;
    story.prove(&artifact).await?;
    story.tell.head("where all that ran comes from, and what came of it")?;
    story.lineage(&family, svg).await?;
    story.stop(node, verifier, machine).await
}

/// The teller, and what it has seen so far.
pub(super) struct Story<'a> {
    pub(super) stage: &'a Stage,
    pub(super) tell: Teller<'a>,
}

impl<'a> Story<'a> {
    pub(super) fn new(stage: &'a Stage, out: &'a mut (dyn Write + Send)) -> Self {
        Self { stage, tell: Teller::beginning(out) }
    }

    /// A domain, its verifier, a machine, an execution key: everything before the node itself runs.
    pub(super) async fn prepare(&mut self, platform: DemoPlatform) -> Told<(Machine, Child)> {
        let machine = Machine::manufacture(self.stage, platform).await?;
        machine.told().iter().try_for_each(|sentence| self.tell.say(sentence))?;
        // Port 0: the service says where it listens.
        let any = "127.0.0.1:0";
        let mut init = vec!["init", "--lab", "--domain", DOMAIN, "--listen-enrolment", any, "--listen-nodes", any];
        let roots = machine.roots(self.stage);
        init.extend(roots.iter().map(String::as_str));
        self.stage.ask_verifier(&init, 0).await?;
        let mut serve = self.stage.verifier(&["serve"]);
        let lease_ms = self.stage.lease_ms;
        serve.env("VERIFIER_LEASE_LENGTH_MS", lease_ms.to_string());
        let verifier = self.stage.start(serve, "verifier.log")?;
        let addresses = self.stage.until("the verifier's start", async || Ok(self.addresses())).await?;
        let (nodes, enrolment) = (string(&addresses, &["/nodes"])?, string(&addresses, &["/enrolment"])?);
        self.tell.say(format_args!("domain {DOMAIN}: keys made, verifier serves, leases last {lease_ms} ms"))?;
        if machine.tee.is_some() {
            self.endorsements().await?;
        }

        self.stage.write("ledger.secret", SECRET)?;
        private(self.stage, "ledger.secret")?;
        let secret = self.stage.text("ledger.secret");
        self.stage.ask_verifier(&["keys", "put", KEY, "--secret-file", &secret], 0).await?;
        self.stage.make(ATTESTD_STATE)?;
        let domain = domain_toml(self.stage, &nodes, &enrolment);
        let config = format!("node_id = \"{NODE}\"\n{}{domain}", machine.toml(self.stage));
        let path = node_config(self.stage);
        std::fs::write(&path, config).map_err(|error| DemoFault::new("writing attestd.toml", error))?;
        let enrolled = self.stage.ask_attestd(&["enrol"], 0).await?;
        expect("enrol", &enrolled, "/decision", "affirmed")?;
        let proved = match (&machine.tpm, &machine.tee) {
            (Some(_), None) => "its TPM proved endorsement key and attestation key",
            (None, _) => "its TEE signed for the key of its records",
            (Some(_), Some(_)) => "its TPM proved its keys, and its TEE signed for them",
        };
        self.tell.say(format_args!("node {NODE} enrolled: {proved}"))?;
        Ok((machine, verifier))
    }

    /// What the vendor says of his machines, as an operator would bring it in.
    async fn endorsements(&mut self) -> Told<()> {
        let vendor = self.stage.text(VENDOR);
        self.stage.ask_verifier(&["endorsements", "import", &vendor], 0).await?;
        self.tell.say("the vendor's certificates, revocation lists and collateral imported")
    }

    /// Written once everything listens.
    fn addresses(&self) -> Option<Value> {
        let bytes = std::fs::read(self.stage.path(VERIFIER_STATE).join("addresses.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    async fn answers(&self, arguments: &[&str]) -> Told<Option<()>> {
        let mut command = self.stage.verifier(arguments);
        command.args(["--format", "json"]);
        Ok(self.stage.finish(command).await?.status.success().then_some(()))
    }

    pub(super) async fn start_node(&mut self, watch_interval_ms: u32) -> Told<Child> {
        let mut run: Command = self.stage.attestd(&["run"]);
        run.env("ATTESTD_WATCH_INTERVAL_MS", watch_interval_ms.to_string());
        let node = self.stage.start(run, "attestd.log")?;
        self.stage
            .until("the node's connection", async || {
                let mut command = self.stage.attestd(&["--format", "json", "status"]);
                command.stderr(std::process::Stdio::null());
                let output = self.stage.finish(command).await?;
                let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                Ok((status.pointer("/domains/0/connected") == Some(&Value::Bool(true))).then_some(()))
            })
            .await?;
        self.tell.say(format_args!(
            "attestd runs (pid {}), looks at its machine every {watch_interval_ms} ms",
            node.id().unwrap_or(0)
        ))?;
        Ok(node)
    }

    /// The operator takes what this machine measures now as reference values, and signs them.
    pub(super) async fn trust_what_runs_now(&mut self) -> Told<()> {
        let (set, signer) = (self.stage.text("references.toml"), self.signer());
        self.stage
            .until("the node's capture", async || self.answers(&["refs", "capture", NODE, "--out", &set]).await)
            .await?;
        let imported = self.stage.ask_verifier(&["refs", "import", &set, "--signer", &signer], 0).await?;
        let name = string(&imported, &["/name", "/id"])?;
        let reason = ["--reason", "first boot of the demo"];
        let activate = [["refs", "activate", &name, "--signer", &signer].as_slice(), &reason].concat();
        self.stage.ask_verifier(&activate, 0).await?;
        self.tell.say(format_args!(
            "reference values \"{name}\" captured from the node, signed by the policy authority, active"
        ))?;
        self.stage.write("demo.cedar", POLICY)?;
        let policy = self.stage.text("demo.cedar");
        let activate =
            [["policy", "activate", &policy, "--name", "lab", "--signer", &signer].as_slice(), &reason].concat();
        self.stage.ask_verifier(&activate, 0).await?;
        self.tell.say(format_args!(
            "policy signed and active in place of the lab's: only environment \"lab\", only the key \"{KEY}\""
        ))
    }

    fn signer(&self) -> String {
        self.stage.path(VERIFIER_STATE).join("authority/authority-1.key").display().to_string()
    }

    /// Phases 1 to 6: the workload uses its key, and the lease is renewed with fresh evidence.
    pub(super) async fn run_until_renewed(&mut self) -> Told<(Watched, Workload)> {
        let mut execution = Watched::start(self.stage, &["--key", KEY, "--", "sh", "-c", WORKLOAD])?;
        let mut evidence = String::new();
        let mut workload = Workload::default();
        for number in 1..=5 {
            let phase = execution.until(|seen| seen.phase() == Some(number), refuse_refusals).await?;
            match number {
                3 => workload.artifact = phase.fact("artifact").to_owned(),
                4 => evidence = phase.fact("evidence").to_owned(),
                5 => workload.pid = phase.fact("pid").to_owned(),
                _ => {}
            }
            self.tell.say(format_args!("{number} {}", phase.told()))?;
        }
        let line = execution.until(|seen| seen.is("stdout"), refuse_refusals).await?;
        self.uses_its_key(&line)?;
        let renewal = execution.until(|seen| seen.phase() == Some(6), refuse_refusals).await?;
        if renewal.fact("lease_seq") != "2"
            || renewal.fact("evidence") == evidence
            || renewal.fact("artifact") != workload.artifact
        {
            return Err(DemoFault::new("the first renewal", renewal.told()));
        }
        self.tell.say(format_args!("6 {}", renewal.told()))?;
        let entry = renewal.fact("log_index").parse().map_err(|_| DemoFault::new("the renewal", "it is not logged"))?;
        self.decided_again(entry).await?;
        self.tell.say(format_args!("  decided again from what the log names: the same result, byte for byte"))?;
        is_alive(&workload.pid).then_some(()).ok_or_else(|| DemoFault::new("the workload", "is not running"))?;
        Ok((execution, workload))
    }

    /// What the workload printed can only be made with the key; the key itself is never printed.
    fn uses_its_key(&mut self, line: &Seen) -> Told<()> {
        let text = line.field("text").lines().next().unwrap_or("").to_owned();
        let (entry, seal) =
            text.split_once(" sealed ").ok_or_else(|| DemoFault::new("the workload's output", &text))?;
        let number = entry.rsplit(' ').next().unwrap_or("");
        let expected = evidence::digest::Sha256Digest::concat(&[SECRET, number.as_bytes()]).to_string();
        if !expected.ends_with(seal) {
            return Err(DemoFault::new("the workload's seal", format_args!("{seal}, expected {expected}")));
        }
        self.tell.say(format_args!("  the workload, with its key: {entry} sealed {}", short(seal)))
    }

    /// The denial, the halt and the explanation of a change.
    async fn denied_at_renewal(&mut self, change: &Change, mut execution: Watched, workload: &Workload) -> Told<()> {
        self.tell.say(&change.told)?;
        let refusal = execution.until(|seen| seen.is("refusal"), |_| Ok(())).await?;
        let entry: u64 =
            refusal.field("entry").parse().map_err(|_| DemoFault::new("the denial", "it is not logged"))?;
        if refusal.field("decision") != "denied" {
            return Err(DemoFault::new("the refusal", refusal.field("code")));
        }
        self.tell.say(format_args!("  renewal denied: {} (log entry {entry})", refusal.field("code")))?;
        self.halted(execution, &workload.pid, "halt.refused_at_renewal").await?;
        self.explain(entry, change).await
    }

    /// Phase 7, the exit code, and that nothing is left of the workload.
    async fn halted(&mut self, mut execution: Watched, pid: &str, code: &str) -> Told<()> {
        let record = execution.until(|seen| seen.phase() == Some(7), |_| Ok(())).await?;
        let exit = execution.until(|seen| seen.is("exit"), |_| Ok(())).await?;
        let logged: Result<u64, _> = record.fact("log_index").parse();
        if exit.field("halt_code") != code || record.fact("record") != "halt" || logged.is_err() || is_alive(pid) {
            return Err(DemoFault::new("the halt", format_args!("{} {}", exit.field("halt_code"), record.told())));
        }
        let exit_code = execution.exit_code().await?;
        if exit_code != HALTED_EXIT_CODE {
            return Err(DemoFault::new(
                "attestd exec",
                format_args!("ended with {exit_code}, expected {HALTED_EXIT_CODE}"),
            ));
        }
        self.tell.say(format_args!("  halted ({code}): workload pid {pid} is gone, its key with it"))?;
        self.tell.say(format_args!("7 {}", record.told()))
    }

    /// The explanation of a decision, made again from what the log and the evidence store hold.
    async fn decided_again(&mut self, entry: u64) -> Told<Value> {
        let explained = self.stage.ask_verifier(&["explain", &entry.to_string(), "--replay"], 0).await?;
        match explained.pointer("/replay/same") {
            Some(Value::Bool(true)) => Ok(explained),
            _ => Err(DemoFault::new("deciding again", &explained)),
        }
    }

    async fn explain(&mut self, entry: u64, change: &Change) -> Told<()> {
        let explained = self.decided_again(entry).await?;
        let failures = explained.pointer("/failures").and_then(Value::as_array).cloned().unwrap_or_default();
        let names_it = |failure: &&Value| {
            let claim = failure.pointer("/claim").and_then(Value::as_str).unwrap_or_default();
            claim.contains(change.claim) && failure.pointer("/reference/id").is_some()
        };
        let failure = failures.iter().find(names_it).ok_or_else(|| DemoFault::new("explain", &explained))?;
        let got = string(failure, &["/got"])?;
        let accepted = failure
            .pointer("/accepted/0")
            .map_or_else(String::new, |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let (id, signer) = (string(failure, &["/reference/id"])?, string(failure, &["/reference/signer"])?);
        if change.named.is_some_and(|named| !explained.to_string().contains(named)) {
            return Err(DemoFault::new("explain", format_args!("does not name the diverging event: {explained}")));
        }
        self.tell.say(format_args!(
            "  explain {entry}: {} at {}",
            string(failure, &["/code"])?,
            string(failure, &["/claim"])?
        ))?;
        self.tell.say(format_args!(
            "    got {}, accepted {} (reference {id}, signed by {})",
            short(&got),
            short(&accepted),
            short(&signer)
        ))?;
        match change.named {
            Some(_) => self.tell.say(format_args!("    first diverging event: {IMPLANT}")),
            None => Ok(()),
        }
    }

    async fn refused_while_quarantined(&mut self, what: &str) -> Told<()> {
        let mut execution = Watched::start(self.stage, &["--", "true"])?;
        let refusal = execution.until(|seen| seen.is("refusal"), |_| Ok(())).await?;
        let (code, exit_code) = (refusal.field("code").to_owned(), execution.exit_code().await?);
        if code != "governance.node_quarantined" || exit_code != DENIED_EXIT_CODE {
            return Err(DemoFault::new(what, format_args!("{code}, exit code {exit_code}")));
        }
        self.tell.say(format_args!("  {what} is refused: {code}"))
    }

    /// A restart forgives nothing.
    async fn restart_node(&mut self, node: Child, machine: &mut Machine) -> Told<Child> {
        self.tell.head(match machine.tee {
            Some(_) => "back by readmission, and denied again for older firmware",
            None => "back by readmission, and halted at once by the local watch",
        })?;
        terminate(node, "attestd").await?;
        let node = self.start_node(WATCH_OFTEN_MS).await?;
        self.refused_while_quarantined("after a restart, exec").await?;
        let restored = machine.restore(self.stage).await?;
        self.tell.say(restored)?;
        Ok(node)
    }

    async fn readmit(&mut self) -> Told<()> {
        let readmit = ["node", "readmit", NODE, "--signer", &self.signer(), "--reason", "implant removed, booted anew"];
        self.stage.ask_verifier(&readmit, 0).await?;
        self.stage
            .until("the node's readmission", async || {
                let output = self.stage.finish(self.stage.attestd(&["--format", "json", "status"])).await?;
                let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                Ok((status.pointer("/halt") == Some(&Value::Null)).then_some(()))
            })
            .await?;
        self.tell.say(format_args!("  readmitted by the policy authority's signature, in a new epoch"))
    }

    /// A workload as after the first authorization, and its artifact.
    async fn run_again(&mut self) -> Told<(Watched, Workload)> {
        let mut execution = Watched::start(self.stage, &["--key", KEY, "--", "sh", "-c", WORKLOAD])?;
        let authorized = execution.until(|seen| seen.phase() == Some(3), refuse_refusals).await?;
        let begun = execution.until(|seen| seen.phase() == Some(5), refuse_refusals).await?;
        let line = execution.until(|seen| seen.is("stdout"), refuse_refusals).await?;
        self.tell.say(format_args!("  authorized anew: {}", authorized.told()))?;
        self.uses_its_key(&line)?;
        let (artifact, pid) = (authorized.fact("artifact").to_owned(), begun.fact("pid").to_owned());
        Ok((execution, Workload { artifact, pid }))
    }

    async fn halted_by_the_watch(&mut self, tpm: &mut SoftwareTpm) -> Told<String> {
        let (execution, Workload { artifact, pid }) = self.run_again().await?;
        let changed = Instant::now();
        tpm.start_implant(self.stage, IMPLANT).await?;
        self.stage.until("the workload's end", async || Ok((!is_alive(&pid)).then_some(()))).await?;
        self.tell
            .say(format_args!("  {IMPLANT} again: the workload was dead {} ms later", changed.elapsed().as_millis()))?;
        self.halted(execution, &pid, "halt.pcr_changed").await?;
        Ok(artifact)
    }

    async fn denied_for_old_firmware(&mut self, tee: &Simulator) -> Told<String> {
        let (execution, workload) = self.run_again().await?;
        let told = tee.roll_back().await?.to_owned();
        self.denied_at_renewal(&Change { told, claim: "tcb", named: None }, execution, &workload).await?;
        Ok(workload.artifact)
    }

    async fn prove(&mut self, artifact: &str) -> Told<()> {
        let (bundle, altered) = (self.stage.text("proof.cbor"), self.stage.text("altered.cbor"));
        self.stage.ask_verifier(&["proof", "export", artifact, "--out", &bundle], 0).await?;
        let pin = self.stage.path(VERIFIER_STATE).join("pin.toml").display().to_string();
        let verified = self.stage.ask_verifier(&["proof", "verify", &bundle, "--pin", &pin], 0).await?;
        expect("proof verify", &verified, "/decision", "affirmed")?;
        let records = verified.pointer("/records").and_then(Value::as_array).map_or(0, Vec::len);
        let bytes = self.stage.read("proof.cbor")?;
        self.tell.say(format_args!(
            "  proof bundle of artifact {artifact}: {} bytes, {records} records, verifies offline",
            bytes.len()
        ))?;
        let middle = bytes.len() / 2;
        let bent: Vec<u8> =
            bytes.iter().enumerate().map(|(n, byte)| if n == middle { byte ^ 1 } else { *byte }).collect();
        self.stage.write("altered.cbor", &bent)?;
        let refused = self.stage.ask_verifier(&["proof", "verify", &altered, "--pin", &pin], DENIED_EXIT_CODE).await?;
        let code = string(&refused, &["/failures/0/code"])?;
        self.tell.say(format_args!("  the same bundle with byte {middle} changed does not: {code}"))
    }

    async fn stop(&mut self, node: Child, verifier: Child, machine: Machine) -> Told<()> {
        terminate(node, "attestd").await?;
        terminate(verifier, "verifier").await?;
        machine.stop().await?;
        self.tell.head("all of it was observed; nothing is left running")?;
        match self.stage.is_kept().map(|folder| folder.display().to_string()) {
            Some(folder) => self.tell.line(format_args!("the demo's folder is kept: {folder}")),
            None => Ok(()),
        }
    }
}

/// What is remembered of a workload.
#[derive(Default)]
pub(super) struct Workload {
    pub(super) artifact: String,
    pub(super) pid: String,
}

pub(super) fn refuse_refusals(seen: &Seen) -> Told<()> {
    if seen.is("refusal") { Err(DemoFault::new("the execution was refused", seen.field("code"))) } else { Ok(()) }
}

fn expect(doing: &str, document: &Value, pointer: &str, wanted: &str) -> Told<()> {
    match document.pointer(pointer).and_then(Value::as_str) {
        Some(got) if got == wanted => Ok(()),
        _ => Err(DemoFault::new(doing, document)),
    }
}

/// The first of these fields that is there.
pub(super) fn string(document: &Value, pointers: &[&str]) -> Told<String> {
    let found = pointers.iter().find_map(|pointer| document.pointer(pointer));
    let text = found.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    text.ok_or_else(|| DemoFault::new("reading an answer", format_args!("no {} in {document}", pointers.join(" or "))))
}

pub(super) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(super) fn private(stage: &Stage, name: &str) -> Told<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let set = std::fs::set_permissions(stage.path(name), std::fs::Permissions::from_mode(0o600));
    set.map_err(|error| DemoFault::new(format_args!("protecting {name}"), error))
}

/// Ends a service by SIGTERM and waits for it.
pub(super) async fn terminate(mut child: Child, name: &str) -> Told<()> {
    let raw = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    let pid = raw.ok_or_else(|| DemoFault::new(name, "ended by itself"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|errno| DemoFault::new(name, errno))?;
    let ended =
        tokio::time::timeout(SOON, child.wait()).await.map_err(|_| DemoFault::new(name, "does not end on SIGTERM"))?;
    let status = ended.map_err(|error| DemoFault::new(name, error))?;
    if status.success() { Ok(()) } else { Err(DemoFault::new(name, status)) }
}

pub(super) const KEY: &str = "ledger";
/// Denies what it does not name.
const POLICY: &[u8] = include_bytes!("demo.cedar");
/// Known to the demo, so that it can tell that the workload really has it.
const SECRET: &[u8] = b"a secret of thirty-two bytes....";
/// Reads its key from the descriptor it was given and prints what only its holder can: SHA-256(key ‖ number).
const WORKLOAD: &str = "while :; do n=$((n+1)); \
    seal=$({ cat /proc/$$/fd/$ATTESTD_KEY_FD_LEDGER; printf %s $n; } | sha256sum | cut -d' ' -f1); \
    echo \"entry $n sealed $seal\"; sleep 0.5; done";
/// Long enough that a renewal notices first.
const WATCH_SELDOM_MS: u32 = 60_000;
const WATCH_OFTEN_MS: u32 = 200;
pub(super) const HALTED_EXIT_CODE: i32 = 5;
pub(super) const DENIED_EXIT_CODE: i32 = 3;
