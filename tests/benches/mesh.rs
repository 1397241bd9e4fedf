//! What it costs that three domains authorize one execution, asked at once: measured against each of them alone, by
//! real processes, from the intent to the workload's start.

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
#[allow(dead_code, reason = "shared with benches that need more of it")]
mod meshed;

use std::cell::Cell;

use attestd::demo::Watched;
use attestd::demo::mesh::Mesh;
use criterion::Criterion;
use tokio::runtime::Runtime;

const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];
const NODE: &str = "node-1";

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
    let (mut mesh, domains) = meshed::domains(&DOMAINS, 1).await;
    mesh.enrol(NODE, 0, &domains).await.expect("a node");
    mesh.run(NODE).await.expect("a daemon");
    let trusted = mesh.trust_what_runs_now(NODE, &DOMAINS).await;
    meshed::told(&mesh, trusted);
    mesh
}

/// From phase 1 to phase 5, the best of what criterion asks for.
fn best_us(criterion: &mut Criterion, runtime: &Runtime, mesh: &Mesh, name: &str, options: &[&str]) -> f64 {
    let arguments: Vec<&str> = [options, &["--", "true"]].concat();
    let before: Cell<Option<Watched>> = Cell::default();
    let intended = || {
        runtime.block_on(async {
            // What its end costs, records to every domain among it, is no part of the next authorization.
            if let Some(before) = before.take() {
                assert_eq!(before.exit_code().await.expect("its end"), 0);
            }
            reached(mesh, mesh.exec(NODE, &arguments).expect("it"), 1).await
        })
    };
    measure::best_us_given(criterion, &format!("mesh/{name}"), intended, |execution| {
        before.set(Some(runtime.block_on(reached(mesh, execution, 5))));
    })
}

/// The execution once it has reached a phase.
async fn reached(mesh: &Mesh, mut execution: Watched, phase: u64) -> Watched {
    meshed::until(mesh, &mut execution, |seen| seen.phase() == Some(phase)).await;
    execution
}
