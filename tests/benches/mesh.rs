//! What it costs that three domains authorize one execution, asked at once: measured against each of them alone, by
//! real processes, from the intent to the workload's start. Needs `attestd`, `verifier` and `tee-simulator` built in the
//! bench's own profile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

#[allow(dead_code, reason = "each measured call is given its execution")]
mod measure;

use std::path::Path;

use attestd::cli::DemoPlatform;
use attestd::demo::Watched;
use attestd::demo::mesh::Mesh;
use criterion::Criterion;
use tokio::runtime::Runtime;

const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];
const NODE: &str = "node-1";
/// Longer than the bench.
const LEASE_MS: u32 = 600_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let runtime = Runtime::new().expect("a runtime");
    // Processes are started, and let go of, within it.
    let _within = runtime.enter();
    let mesh = runtime.block_on(founded());
    let mut alone = Vec::new();
    for domain in DOMAINS {
        alone.push(best_us(&mut criterion, &runtime, &mesh, domain, &["--domain", domain]));
    }
    let together = best_us(&mut criterion, &runtime, &mesh, "all", &[]);
    let slowest = alone.into_iter().fold(0.0, f64::max);
    measure::report("three domains authorize, of the slowest alone", together / slowest, "", 1.5);
}

async fn founded() -> Mesh {
    let bench = std::env::current_exe().expect("this program");
    let beside = bench.parent().and_then(Path::parent).expect("a target folder").to_owned();
    let programs = ["attestd", "verifier", "tee-simulator"].map(|name| beside.join(name));
    let mut mesh = Mesh::on(programs, &[DemoPlatform::SimulatedSnp], LEASE_MS, false).await.expect("a machine");
    let mut domains = Vec::new();
    for name in DOMAINS {
        mesh.found(name).await.expect("a domain");
        domains.push((name, mesh.reach(name).expect("a verifier")));
    }
    mesh.enrol(NODE, 0, &domains).await.expect("a node");
    mesh.run(NODE).await.expect("a daemon");
    mesh.trust_what_runs_now(NODE, &DOMAINS).await.expect("reference values");
    mesh
}

/// From phase 1 to phase 5, the best of what criterion asks for.
fn best_us(criterion: &mut Criterion, runtime: &Runtime, mesh: &Mesh, name: &str, options: &[&str]) -> f64 {
    let arguments: Vec<&str> = [options, &["--", "true"]].concat();
    let intended = || runtime.block_on(async { reached(mesh.exec(NODE, &arguments).expect("an execution"), 1).await });
    measure::best_us_given(criterion, &format!("mesh/{name}"), intended, |execution| {
        runtime.block_on(reached(execution, 5))
    })
}

/// The execution once it has reached a phase.
async fn reached(mut execution: Watched, phase: u64) -> Watched {
    execution.until(|seen| seen.phase() == Some(phase), |_| Ok(())).await.expect("a phase");
    execution
}
