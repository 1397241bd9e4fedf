//! The story of the mesh: three domains authorize together, hold shares of one key, and stop together.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use super::super::stage::DemoFault;
use super::super::story::{DENIED_EXIT_CODE, HALTED_EXIT_CODE, is_alive, string};
use super::super::telling::Teller;
use super::super::watched::{Seen, Watched};
use super::Mesh;
use crate::cli::DemoPlatform;

type Told<T> = Result<T, DemoFault>;

/// Tells it, with these programs: `attestd`, `verifier`, `tee-simulator`.
pub(in super::super) async fn tell(programs: [PathBuf; 3], keep: bool, out: &mut (dyn Write + Send)) -> Told<()> {
    let platforms = [DemoPlatform::Tpm, DemoPlatform::SimulatedSnp];
    let tell = Teller::beginning(out);
    let mesh = Mesh::on(programs, &platforms, LEASE_MS, keep).await?;
    let mut story = Story { mesh, tell };
    match story.acts().await {
        Ok(()) => story
            .mesh
            .kept()
            .map_or(Ok(()), |folder| story.tell.line(format_args!("the demo's folder is kept: {folder}"))),
        Err(fault) => Err(story.mesh.explained(fault)),
    }
}

struct Story<'a> {
    mesh: Mesh,
    tell: Teller<'a>,
}

/// What runs, and where.
struct Running {
    execution: Watched,
    intent: String,
    pid: String,
}

impl Story<'_> {
    async fn acts(&mut self) -> Told<()> {
        self.tell.head("three domains, two machines that each of them judges by itself")?;
        self.prepare().await?;
        self.tell.head("one key that no domain has: shares of it in each, any two of them join")?;
        self.split_the_key().await?;
        self.tell.head("workloads that all three authorize, each on what its machine proved to each domain")?;
        let tpm = self.run(TPM, &DOMAINS).await?;
        let snp = self.run(SNP, &DOMAINS).await?;
        let tpm = self.renewed(tpm, &DOMAINS).await?;
        self.tell.head(format_args!("{B} revokes the key: halted everywhere"))?;
        self.revoked([tpm, snp]).await?;
        self.tell.head(format_args!("readmitted, and authorized again by the two others: their shares suffice"))?;
        self.readmit(SNP, &[C, B, A]).await?;
        let again = self.run(SNP, &[A, C]).await?;
        let again = self.renewed(again, &[A, C]).await?;
        let intent = again.intent.clone();
        self.tell.head(format_args!("{C} goes silent: what needs it ends by itself, and nothing new begins"))?;
        self.silent(again).await?;
        self.tell.head("a stranger checks all of it across the three domains, with public keys alone")?;
        self.mesh.serve(C).await?;
        self.tell.say(format_args!("{C} is back"))?;
        self.prove(&intent).await
    }

    async fn prepare(&mut self) -> Told<()> {
        self.tell.say("a software TPM booted, and a simulated SEV-SNP guest, each by a maker of its own")?;
        let (mut domains, mut partners) = (Vec::new(), Vec::new());
        for name in DOMAINS {
            self.mesh.found(name).await?;
            domains.push((name, self.mesh.reach(name)?));
            partners.push((name, self.mesh.public(name)?));
        }
        self.tell.say(format_args!(
            "domains {} founded: keys and logs of their own, leases of {LEASE_MS} ms",
            DOMAINS.join(", ")
        ))?;
        self.mesh.federate(&partners, STALE_AFTER_S).await?;
        self.tell.say(format_args!(
            "each trusts the two others, pinned by their bundles' digests; their word serves {STALE_AFTER_S} s"
        ))?;
        self.tell.say("nothing is released before a partner has cosigned the log that says so")?;
        for (at, node) in [TPM, SNP].into_iter().enumerate() {
            self.mesh.enrol(node, at, &domains).await?;
            self.mesh.run(node).await?;
            self.mesh.trust_what_runs_now(node, &DOMAINS).await?;
            self.tell.say(format_args!(
                "{node} enrolled with each of them; each took its own reference values, signed them"
            ))?;
        }
        Ok(())
    }

    async fn split_the_key(&mut self) -> Told<()> {
        let secret = self.mesh.write("ledger.secret", SECRET)?.display().to_string();
        let out = self.mesh.folder("shares")?.display().to_string();
        let split = ["keys", "split", KEY, "--need", "2", "--of", "3", "--secret", &secret, "--out", &out];
        let made = self.mesh.ask_nobody(&split, 0).await?;
        for (at, domain) in DOMAINS.into_iter().enumerate() {
            let file = string(&made, &[&format!("/files/{at}")])?;
            self.mesh.ask(domain, &["keys", "put", KEY, "--share", &file], 0).await?;
        }
        self.tell.say(format_args!("key \"{KEY}\" split 2 of 3, offline; a share put into each domain"))
    }

    /// Phases 1 to 5, and that the workload has the key.
    async fn run(&mut self, node: &str, domains: &[&str]) -> Told<Running> {
        let mut arguments = vec!["--key", KEY];
        for domain in domains {
            arguments.extend(["--domain", domain]);
        }
        arguments.extend(["--", "sh", "-c", WORKLOAD]);
        let mut execution = self.mesh.exec(node, &arguments)?;
        let mut running = (String::new(), String::new());
        loop {
            let seen = execution.next().await?;
            match seen.phase() {
                Some(1) => running.0 = seen.fact("intent").to_owned(),
                Some(3) if !domains.contains(&seen.fact("domain")) => {
                    return Err(DemoFault::new("an authorization", seen.told()));
                }
                Some(5) => running.1 = seen.fact("pid").to_owned(),
                Some(_) | None => {}
            }
            if let Some(number) = seen.phase() {
                self.tell.say(format_args!("{node}: {number} {}", seen.told()))?;
            }
            if seen.is("refusal") || seen.is("exit") {
                return Err(DemoFault::new("the execution was refused", seen.field("code")));
            }
            if seen.is("stdout") {
                self.uses_its_key(node, &seen)?;
                let (intent, pid) = running;
                return Ok(Running { execution, intent, pid });
            }
        }
    }

    /// What the workload printed can only be made with the key; the key itself is never printed.
    fn uses_its_key(&mut self, node: &str, line: &Seen) -> Told<()> {
        let text = line.field("text").lines().next().unwrap_or("").to_owned();
        let (entry, seal) =
            text.split_once(" sealed ").ok_or_else(|| DemoFault::new("the workload's output", &text))?;
        let number = entry.rsplit(' ').next().unwrap_or("");
        let expected = evidence::digest::Sha256Digest::concat(&[SECRET, number.as_bytes()]).to_string();
        if !expected.ends_with(seal) {
            return Err(DemoFault::new("the workload's seal", format_args!("{seal}, expected {expected}")));
        }
        self.tell.say(format_args!(
            "  {node}'s workload has the joined key: {entry} sealed {}…",
            seal.get(..12).unwrap_or(seal)
        ))
    }

    /// Phase 6 in each domain.
    async fn renewed(&mut self, mut running: Running, domains: &[&str]) -> Told<Running> {
        let mut missing: Vec<&str> = domains.to_vec();
        while !missing.is_empty() {
            let refused =
                |seen: &Seen| if seen.is("refusal") { Err(DemoFault::new("a renewal", seen.told())) } else { Ok(()) };
            let seen = running.execution.until(|seen| seen.phase() == Some(6), refused).await?;
            if missing.contains(&seen.fact("domain")) {
                missing.retain(|domain| *domain != seen.fact("domain"));
                self.tell.say(format_args!("6 {}", seen.told()))?;
            }
        }
        Ok(running)
    }

    async fn revoked(&mut self, running: [Running; 2]) -> Told<()> {
        let (signer, revoked_at) = (self.mesh.signer(B), Instant::now());
        let revoke = ["revoke", "--signer", &signer, "--reason", "the ledger is closed", "key", KEY];
        let answer = self.mesh.ask(B, &revoke, 0).await?;
        let followed = answer.pointer("/nodes/acknowledged").and_then(Value::as_array).cloned().unwrap_or_default();
        for node in followed {
            let (name, after_ms) = (string(&node, &["/node"])?, string(&node, &["/after_ms"])?);
            self.tell.say(format_args!("{B}: {name} acknowledged {after_ms} ms after it was told"))?;
        }
        for Running { mut execution, pid, .. } in running {
            let exit = execution.until(|seen| seen.is("exit"), |_| Ok(())).await?;
            let (code, exit_code) = (exit.field("halt_code").to_owned(), execution.exit_code().await?);
            if code != "halt.revoked" || exit_code != HALTED_EXIT_CODE || is_alive(&pid) {
                return Err(DemoFault::new("the halt", format_args!("{code}, exit code {exit_code}")));
            }
            let after_ms = revoked_at.elapsed().as_millis();
            self.tell.say(format_args!(
                "  halted ({code}): workload pid {pid} is gone, its key with it, {after_ms} ms after the order"
            ))?;
        }
        for node in [TPM, SNP] {
            for domain in DOMAINS {
                self.quarantined(domain, node).await?;
            }
            self.tell
                .say(format_args!("  {node} is quarantined in all three domains, each by a halt record of its own"))?;
        }
        Ok(())
    }

    async fn quarantined(&self, domain: &str, node: &str) -> Told<()> {
        let shown = async || {
            let shown = self.mesh.ask(domain, &["node", "show", node], 0).await?;
            Ok(shown.to_string().contains("quarantined").then_some(()))
        };
        self.mesh.until("the node's quarantine", shown).await
    }

    /// The home domain's word is what the node waits for, so it comes last.
    async fn readmit(&mut self, node: &str, domains: &[&str]) -> Told<()> {
        for domain in domains {
            let signer = self.mesh.signer(domain);
            let readmit = ["node", "readmit", node, "--signer", &signer, "--reason", "looked at"];
            self.mesh.ask(domain, &readmit, 0).await?;
        }
        let free = async || {
            let status = self.mesh.status(node).await?;
            Ok((status.pointer("/halt") == Some(&Value::Null)).then_some(()))
        };
        self.mesh.until("the node's readmission", free).await?;
        // Quarantined, it was disconnected; a busy machine takes its time to connect again.
        self.mesh.welcomed(node, |name| domains.contains(&name)).await?;
        self.tell.say(format_args!("{node} readmitted by {}, its home domain last", domains.join(", ")))
    }

    async fn silent(&mut self, running: Running) -> Told<()> {
        let Running { mut execution, pid, .. } = running;
        let silent_at = Instant::now();
        self.mesh.kill(C).await?;
        let exit = execution.until(|seen| seen.is("exit"), |_| Ok(())).await?;
        let code = exit.field("halt_code").to_owned();
        if code != "halt.lease_ended" || execution.exit_code().await? != HALTED_EXIT_CODE || is_alive(&pid) {
            return Err(DemoFault::new("the halt", &code));
        }
        self.tell.say(format_args!(
            "halted ({code}) {} ms later: workload pid {pid} is gone",
            silent_at.elapsed().as_millis()
        ))?;
        self.readmit(SNP, &[A]).await?;
        self.mesh.stands(A, C, "stale").await?;
        let mut execution = self.mesh.exec(SNP, &["--domain", A, "--domain", C, "--", "true"])?;
        let by_partner = |seen: &Seen| seen.field("code") == "governance.partner_stale";
        let refusal = execution.until(by_partner, |_| Ok(())).await?;
        let exit_code = execution.exit_code().await?;
        if exit_code != DENIED_EXIT_CODE {
            return Err(DemoFault::new("an execution with a stale partner", exit_code));
        }
        self.tell.say(format_args!(
            "{A} denies what needs {C}, which it saw last {STALE_AFTER_S} s ago or earlier: {}",
            refusal.field("code")
        ))
    }

    async fn prove(&mut self, intent: &str) -> Told<()> {
        let mut verify = vec!["proof".to_owned(), "verify".to_owned(), self.text("proof.cbor")];
        let mut merge = vec!["proof".to_owned(), "merge".to_owned()];
        for domain in DOMAINS {
            let part = self.text(&format!("{domain}.proof"));
            self.mesh.ask(domain, &["proof", "export", SNP, "--out", &part], 0).await?;
            merge.push(part);
            verify.extend(["--pin".to_owned(), self.mesh.path(domain).join("pin.toml").display().to_string()]);
        }
        merge.extend(["--out".to_owned(), self.text("proof.cbor")]);
        let merge: Vec<&str> = merge.iter().map(String::as_str).collect();
        self.mesh.ask_nobody(&merge, 0).await?;
        let arguments: Vec<&str> = verify.iter().map(String::as_str).collect();
        let report = self.mesh.ask_nobody(&arguments, 0).await?;
        let records = report.pointer("/records").and_then(Value::as_array).cloned().unwrap_or_default();
        let of_intent =
            records.iter().filter(|record| record.pointer("/subject").and_then(Value::as_str) == Some(intent));
        let count = of_intent.count();
        if count == 0 {
            return Err(DemoFault::new("the proof", "nothing in it is about the last execution"));
        }
        let bytes =
            std::fs::read(self.mesh.path("proof.cbor")).map_err(|error| DemoFault::new("reading the proof", error))?;
        self.tell.say(format_args!(
            "one proof of {} bytes across {} logs: {} records, {count} of them of the last execution, verifies offline",
            bytes.len(),
            DOMAINS.len(),
            records.len()
        ))?;
        let middle = bytes.len() / 2;
        let bent: Vec<u8> =
            bytes.iter().enumerate().map(|(at, byte)| if at == middle { byte ^ 1 } else { *byte }).collect();
        self.mesh.write("altered.cbor", &bent)?;
        if let Some(file) = verify.get_mut(2) {
            *file = self.text("altered.cbor");
        }
        let arguments: Vec<&str> = verify.iter().map(String::as_str).collect();
        let refused = self.mesh.ask_nobody(&arguments, DENIED_EXIT_CODE).await?;
        self.tell.say(format_args!(
            "  the same proof with byte {middle} changed does not: {}",
            string(&refused, &["/failures/0/code"])?
        ))
    }

    fn text(&self, name: &str) -> String {
        self.mesh.path(name).display().to_string()
    }
}

const A: &str = "a.example";
const B: &str = "b.example";
const C: &str = "c.example";
const DOMAINS: [&str; 3] = [A, B, C];
/// On a software TPM.
const TPM: &str = "metal-1";
/// In a simulated SEV-SNP guest.
const SNP: &str = "guest-1";
const KEY: &str = "ledger";
/// Known to the demo, so that it can tell that a workload really has it.
const SECRET: &[u8] = b"a secret of thirty-two bytes....";
/// Reads its key from the descriptor it was given and prints what only its holder can: SHA-256(key ‖ number).
const WORKLOAD: &str = "while :; do n=$((n+1)); \
    seal=$({ cat /proc/$$/fd/$ATTESTD_KEY_FD_LEDGER; printf %s $n; } | sha256sum | cut -d' ' -f1); \
    echo \"entry $n sealed $seal\"; sleep 0.5; done";
const LEASE_MS: u32 = 3_000;
/// How long a partner's word serves after it was last seen.
const STALE_AFTER_S: u32 = 5;
