//! How long after an operator ordered a revocation what it concerns is dead and its halt durable: real processes, from the
//! start of `verifier revoke` to the last word of `attestd exec`. In one domain with a hundred nodes that all have their
//! stream open and are told, and across three domains, the order given in one that is not the node's home.
//! `BENCH_NODES` and `BENCH_SAMPLES` make it smaller; budgets are about the figures that stand here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

#[allow(dead_code, reason = "the clock of this bench is in the programs that it watches")]
mod measure;
#[allow(dead_code, reason = "shared with benches that need more of it")]
mod meshed;

use std::time::{Duration, Instant};

use attestd::demo::mesh::Mesh;
use attestd::demo::{DemoFault, Seen, Watched};
use tokio::runtime::Runtime;

const NODES: usize = 100;
const SAMPLES: usize = 30;
/// To start an execution on a node that is just free again.
const ATTEMPTS: usize = 10;
const SLEEPS: [&str; 3] = ["--", "sleep", "600"];

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    // Processes are started, and let go of, within it.
    let _within = runtime.enter();
    let in_one = runtime.block_on(in_one_domain(meshed::figure("BENCH_NODES", NODES)));
    say("a revocation in one domain with 100 streams, order to halt, p99", in_one, 500.0);
    let across = runtime.block_on(across_domains(meshed::figure("BENCH_SAMPLES", SAMPLES)));
    say("a revocation across three domains, order to halt, p99", across, 2_000.0);
}

/// Every node runs something, and each is revoked once.
async fn in_one_domain(nodes: usize) -> Vec<Duration> {
    // A partner that cosigns; without one nothing is released.
    let (mut mesh, domains) = meshed::domains(&["a.example", "b.example"], nodes).await;
    let mut running = Vec::new();
    for number in 0..nodes {
        let node = format!("node-{number}");
        let enrolled = mesh.enrol(&node, number, &domains[..1]).await;
        meshed::told(&mesh, enrolled);
        let run = mesh.run(&node).await;
        meshed::told(&mesh, run);
        if number == 0 {
            // The others measure the same.
            let trusted = mesh.trust_what_runs_now(&node, &["a.example"]).await;
            meshed::told(&mesh, trusted);
        }
        running.push(begun(&mesh, &node, "a.example").await);
    }
    let mut took = Vec::new();
    for execution in running {
        took.push(revoked(&mesh, "a.example", execution).await);
    }
    took
}

/// One node, again and again; between two samples every domain takes it back.
async fn across_domains(samples: usize) -> Vec<Duration> {
    const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];
    let (mut mesh, domains) = meshed::domains(&DOMAINS, 1).await;
    mesh.enrol("node", 0, &domains).await.expect("a node");
    mesh.run("node").await.expect("a daemon");
    let trusted = mesh.trust_what_runs_now("node", &DOMAINS).await;
    meshed::told(&mesh, trusted);
    let mut took = Vec::new();
    for _ in 0..samples {
        let execution = begun(&mesh, "node", "c.example").await;
        took.push(revoked(&mesh, "c.example", execution).await);
        readmitted(&mesh, &DOMAINS).await;
    }
    took
}

/// An execution that runs, and its artifact of this domain. Of a node that was just taken back some stream may be
/// closing once more, and what is asked of that domain then is refused at once: it is asked again.
async fn begun(mesh: &Mesh, node: &str, domain: &str) -> (Watched, String) {
    for _ in 1..ATTEMPTS {
        let mut execution = mesh.exec(node, &SLEEPS).expect("an execution");
        if let Ok(artifact) = runs(&mut execution, domain).await {
            return (execution, artifact);
        }
    }
    let mut execution = mesh.exec(node, &SLEEPS).expect("an execution");
    let artifact = runs(&mut execution, domain).await;
    (execution, meshed::told(mesh, artifact))
}

async fn runs(execution: &mut Watched, domain: &str) -> Result<String, DemoFault> {
    let of_domain = |seen: &Seen| seen.phase() == Some(3) && seen.fact("domain") == domain;
    let authorized = execution.until(of_domain, |_| Ok(())).await?;
    execution.until(|seen| seen.phase() == Some(5), |_| Ok(())).await?;
    Ok(authorized.fact("artifact").to_owned())
}

async fn revoked(mesh: &Mesh, domain: &str, (mut execution, artifact): (Watched, String)) -> Duration {
    let signer = mesh.signer(domain);
    let revoke = ["revoke", "--signer", &signer, "--reason", "a bench", "artifact", &artifact];
    let begun = Instant::now();
    let halted = async {
        let exit = meshed::until(mesh, &mut execution, |seen| seen.is("exit")).await;
        assert_eq!(exit.field("halt_code"), "halt.revoked");
        begun.elapsed()
    };
    let (ordered, took) = tokio::join!(mesh.ask(domain, &revoke, 0), halted);
    meshed::told(mesh, ordered);
    took
}

/// The home domain last: the node heeds its word, and must be welcome everywhere by then.
async fn readmitted(mesh: &Mesh, domains: &[&str]) {
    for domain in domains.iter().rev() {
        let held = async || {
            let shown = mesh.ask(domain, &["node", "show", "node"], 0).await?;
            Ok((shown["status"] == "quarantined" && shown["halt"].as_str().is_some()).then_some(()))
        };
        meshed::told(mesh, mesh.until("the halt record in each domain", held).await);
        let signer = mesh.signer(domain);
        let readmit = ["node", "readmit", "node", "--signer", &signer, "--reason", "a bench"];
        meshed::told(mesh, mesh.ask(domain, &readmit, 0).await);
    }
    let free = async || {
        let status = mesh.status("node").await?;
        // A halted node says hello anew each second.
        let links = status.get("domains").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let all = links.iter().all(|link| link["connected"] == true) && links.len() == domains.len();
        Ok((all && status.get("halt").is_some_and(serde_json::Value::is_null)).then_some(()))
    };
    meshed::told(mesh, mesh.until("the end of the halt, and every link", free).await);
}

/// The 99th percentile: of a hundred the second longest, of fewer the longest.
fn say(what: &str, mut took: Vec<Duration>, goal_ms: f64) {
    let [median, p99, longest] = [50, 99, 100].map(|percentile| meshed::percentile_ms(&mut took, percentile));
    println!("{} samples, median {median:.0} ms, longest {longest:.0} ms", took.len());
    measure::report(what, p99, " ms", goal_ms);
}
