//! Child executions: narrower than their parents, and over when these are: on one node, on another, in another domain.

use std::path::PathBuf;

use attestd::cli::DemoPlatform;
use attestd::demo::mesh::{Mesh, Reach};
use attestd::demo::{DemoFault, Seen, Watched};
use serde_json::Value;

use crate::bed::{A, B, HALTED, programs, refusals};

const LEASE_MS: u32 = 4_000;
/// Of domain A alone.
const HOME: &str = "node-1";
/// Of both.
const AWAY: &str = "node-2";

/// Two domains that are partners, and two nodes.
struct Family {
    mesh: Mesh,
    attestd: PathBuf,
}

/// A running execution.
struct Running {
    execution: Watched,
    artifact: String,
    intent: String,
    pid: String,
}

impl Family {
    async fn founded() -> Self {
        let programs = programs();
        let attestd = programs[0].clone();
        let platforms = [DemoPlatform::SimulatedSnp, DemoPlatform::Tpm];
        let mut mesh = Mesh::on(programs, &platforms, LEASE_MS, false).await.unwrap();
        let (mut domains, mut partners): (Vec<(&str, Reach)>, _) = (Vec::new(), Vec::new());
        for name in [A, B] {
            mesh.found(name).await.unwrap();
            domains.push((name, mesh.reach(name).unwrap()));
            partners.push((name, mesh.public(name).unwrap()));
        }
        let mut family = Self { mesh, attestd };
        let federated = family.mesh.federate(&partners, 600).await;
        family.explained(federated);
        for (at, (node, of)) in [(HOME, &domains[..1]), (AWAY, &domains[..])].into_iter().enumerate() {
            let of_names: Vec<&str> = of.iter().map(|(name, _)| *name).collect();
            let enrolled = family.mesh.enrol(node, at, of).await;
            family.explained(enrolled);
            let started = family.mesh.run(node).await;
            family.explained(started);
            let trusted = family.mesh.trust_what_runs_now(node, &of_names).await;
            family.explained(trusted);
        }
        family
    }

    fn explained<T>(&self, outcome: Result<T, DemoFault>) -> T {
        outcome.unwrap_or_else(|fault| panic!("{}", self.mesh.explained(fault)))
    }

    /// `attestd` as a workload on a node calls it.
    fn calls(&self, node: &str, arguments: &str) -> String {
        format!("{} --state {} --format json {arguments}", self.attestd.display(), self.mesh.path(node).display())
    }

    /// Starts it and waits until its workload runs.
    async fn run(&self, node: &str, arguments: &[&str]) -> Running {
        let mut execution = self.mesh.exec(node, arguments).unwrap();
        let (mut artifact, mut intent) = (String::new(), String::new());
        loop {
            let seen = self.explained(execution.next().await);
            assert!(!seen.is("exit") && !seen.is("refusal"), "{}", seen.told());
            match seen.phase() {
                Some(1) => intent = seen.fact("intent").to_owned(),
                Some(3) => artifact = seen.fact("artifact").to_owned(),
                Some(5) => {
                    let pid = seen.fact("pid").to_owned();
                    return Running { execution, artifact, intent, pid };
                }
                Some(_) | None => {}
            }
        }
    }

    /// Everything to its end, and the exit code.
    async fn ended(&self, mut execution: Watched) -> (Vec<Seen>, i32) {
        let mut seen = Vec::new();
        loop {
            let next = self.explained(execution.next().await);
            let last = next.is("exit");
            seen.push(next);
            if last {
                return (seen, self.explained(execution.exit_code().await));
            }
        }
    }

    /// A child that ended because of its parent: by this code, on a node that goes on.
    async fn orphaned(&self, child: Running, node: &str, code: &str) {
        let (seen, exit_code) = self.ended(child.execution).await;
        assert_eq!((seen.last().unwrap().field("halt_code"), exit_code), (code, HALTED), "{:?}", refusals(&seen));
        assert!(!alive(&child.pid), "its workload runs on");
        assert_eq!(self.explained(self.mesh.status(node).await)["halt"], Value::Null, "its node halted");
    }

    /// The parent writes its artifact where a child elsewhere finds it.
    async fn parent(&self) -> (Running, String) {
        let out = self.mesh.folder("artifacts").unwrap();
        let follow = self.calls(HOME, &format!("artifacts --follow --out {}", out.display()));
        let parent =
            self.run(HOME, &["--label", "tier=prod", "--", "sh", "-c", &format!("{follow} & sleep 600")]).await;
        let file = out.join(format!("{A}.cose"));
        let written = async || Ok(file.exists().then_some(()));
        self.explained(self.mesh.until("the parent's artifact", written).await);
        (parent, file.display().to_string())
    }

    async fn revoke(&self, artifact: &str) {
        let signer = self.mesh.signer(A);
        let revoke = ["revoke", "--signer", &signer, "--reason", "withdrawn", "artifact", artifact];
        self.explained(self.mesh.ask(A, &revoke, 0).await);
    }
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_starts_a_narrower_child_of_its_own_and_none_that_reaches_further() {
    let family = Family::founded().await;
    let wider = family.calls(HOME, "exec --label tier=prod --capability net -- true");
    let narrow = family.calls(HOME, "exec --label tier=prod -- sleep 600");
    let log = family.mesh.path("child.jsonl").display().to_string();
    let script = format!("{wider} >&2; echo wider $?; {narrow} > {log}; echo narrow $?; sleep 600");
    let mut parent = family.run(HOME, &["--label", "tier=prod", "--", "sh", "-c", &script]).await;
    let mut told = String::new();
    while !told.contains("wider 3") {
        let seen = family.explained(parent.execution.next().await);
        assert!(!seen.is("exit"), "{told}");
        told.push_str(seen.field("text"));
    }
    assert!(told.contains("governance.scope_exceeded"), "{told}");
    let below = async || {
        let tree = family.mesh.ask_node(HOME, &["status", "--tree"], 0).await?;
        let child = tree.pointer("/executions/0/children/0/pid").and_then(Value::as_u64);
        Ok(child.map(|pid| pid.to_string()))
    };
    let child = family.explained(family.mesh.until("the child", below).await);
    // Its intent hangs from the grant of its parent, and nothing of a sibling's is below it.
    let lineage = family.explained(family.mesh.ask(A, &["lineage", "show", &parent.intent], 0).await);
    let records = lineage["records"].as_array().unwrap();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).cloned().collect::<Vec<_>>();
    let (intents, grants) = (of("intent"), of("authorization"));
    assert_eq!((intents.len(), grants.len()), (2, 2), "{lineage}");
    let granted: Vec<&Value> = records
        .iter()
        .filter(|record| record["kind"] == "authorization" || record["kind"] == "renewal")
        .filter(|record| record["subject"] == parent.intent.as_str())
        .map(|record| &record["record"])
        .collect();
    assert!(granted.contains(&&intents[1]["hangs_from"][0]), "{lineage}");
    // The parent is killed: so is the child, at once.
    let killed = std::process::Command::new("kill").args(["-9", &parent.pid]).status().unwrap();
    assert!(killed.success());
    let gone = async || Ok((!alive(&child)).then_some(()));
    family.explained(family.mesh.until("the child's end", gone).await);
    let (_, exit_code) = family.ended(parent.execution).await;
    assert_eq!(exit_code, 128 + 9);
    let idle = async || {
        let status = family.mesh.status(HOME).await?;
        Ok((status["executions"].as_array().map(Vec::len) == Some(0)).then_some(()))
    };
    family.explained(family.mesh.until("the end of both", idle).await);
    assert_eq!(family.explained(family.mesh.status(HOME).await)["halt"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_on_another_node_ends_when_its_parent_does_and_when_that_is_revoked() {
    let family = Family::founded().await;
    let (parent, file) = family.parent().await;
    let options = ["--parent", &file, "--domain", A, "--label", "tier=prod"];
    let sleeps: Vec<&str> = options.iter().copied().chain(["--", "sleep", "600"]).collect();
    let mut child = family.run(AWAY, &sleeps).await;
    let renewed = async |child: &mut Running| {
        while family.explained(child.execution.next().await).phase() != Some(6) {}
    };
    renewed(&mut child).await;
    let killed = std::process::Command::new("kill").args(["-9", &parent.pid]).status().unwrap();
    assert!(killed.success());
    family.orphaned(child, AWAY, "governance.parent_not_live").await;
    family.ended(parent.execution).await;
    // What is over is nobody's parent any more.
    let (seen, _) = family.ended(family.mesh.exec(AWAY, &sleeps).unwrap()).await;
    assert!(refusals(&seen).contains(&"governance.parent_not_live"), "{:?}", refusals(&seen));
    std::fs::remove_dir_all(family.mesh.path("artifacts")).unwrap();
    let (parent, _) = family.parent().await;
    let child = family.run(AWAY, &sleeps).await;
    family.revoke(&parent.artifact).await;
    family.orphaned(child, AWAY, "governance.parent_revoked").await;
    let (seen, _) = family.ended(parent.execution).await;
    assert_eq!(seen.last().unwrap().field("halt_code"), "halt.revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_in_another_domain_ends_when_its_parents_domain_revokes_that() {
    let family = Family::founded().await;
    let (parent, file) = family.parent().await;
    let options = ["--parent", &file, "--domain", B];
    let with = |more: &[&'static str]| -> Vec<String> {
        options.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let wider = with(&["--label", "tier=test", "--", "true"]);
    let wider: Vec<&str> = wider.iter().map(String::as_str).collect();
    let (seen, _) = family.ended(family.mesh.exec(AWAY, &wider).unwrap()).await;
    assert!(refusals(&seen).contains(&"governance.scope_exceeded"), "{:?}", refusals(&seen));
    let sleeps = with(&["--label", "tier=prod", "--", "sleep", "600"]);
    let sleeps: Vec<&str> = sleeps.iter().map(String::as_str).collect();
    let mut child = family.run(AWAY, &sleeps).await;
    // It outlives the artifact that it began with, because its parent's newer ones are shown.
    let mut renewals = 0;
    while renewals < 4 {
        let seen = family.explained(child.execution.next().await);
        assert!(!seen.is("refusal"), "{}", seen.told());
        renewals += usize::from(seen.phase() == Some(6));
    }
    family.revoke(&parent.artifact).await;
    family.orphaned(child, AWAY, "governance.parent_revoked").await;
    family.ended(parent.execution).await;
    // Nobody is taken at a stranger's word.
    let signer = family.mesh.signer(B);
    let untrust = ["domain", "untrust", A, "--signer", &signer, "--reason", "no more"];
    family.explained(family.mesh.ask(B, &untrust, 0).await);
    let (seen, _) = family.ended(family.mesh.exec(AWAY, &sleeps).unwrap()).await;
    assert!(refusals(&seen).contains(&"governance.partner_untrusted"), "{:?}", refusals(&seen));
}
