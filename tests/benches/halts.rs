//! How soon a workload is dead once its machine is no longer what was appraised, what a daemon costs while it only holds a
//! lease, and what `attestd exec` adds to a program's own time. Real processes: a software TPM whose PCR is extended, and a
//! simulated TEE, which takes next to no time, for `exec`. The workload's end is what a pidfd says of it: its last
//! instruction was before that. Programs as in `meshed`.
//! `BENCH_SAMPLES` and `BENCH_IDLE_S` make it shorter; budgets are about the figures that stand here.

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

#[allow(dead_code, reason = "the clock of this bench is in the kernel's word on processes")]
mod measure;
#[allow(dead_code, reason = "shared with benches that need more of it")]
mod meshed;

use std::time::{Duration, Instant};

use attestd::cli::DemoPlatform;
use attestd::demo::Watched;
use attestd::demo::mesh::Mesh;
use meshed::{figure, percentile_ms, processor_time, told};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::runtime::Runtime;

const SAMPLES: u32 = 200;
const IDLE_S: u32 = 30;
const DOMAIN: &str = "a.example";
/// A partner that cosigns; without one nothing is released.
const PARTNER: &str = "b.example";
const WITH_TPM: &str = "node-tpm";
const WITH_TEE: &str = "node-tee";
/// As a node is configured that says nothing of it.
const WATCH_INTERVAL_MS: f64 = 1_000.0;
/// The default of a domain.
const LEASE_MS: u32 = 30_000;
const SLEEPS: [&str; 3] = ["--", "sleep", "600"];

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    // Processes are started, and let go of, within it.
    let _within = runtime.enter();
    runtime.block_on(async {
        let mut mesh = founded().await;
        let samples = figure("BENCH_SAMPLES", SAMPLES);
        exec_overhead(&mesh, samples.min(50)).await;
        idle(&mesh, figure("BENCH_IDLE_S", IDLE_S)).await;
        changes(&mut mesh, samples).await;
    });
}

async fn founded() -> Mesh {
    let machines = [DemoPlatform::Tpm, DemoPlatform::SimulatedSnp];
    let (mut mesh, domains) = meshed::domains_on(&machines, LEASE_MS, &[DOMAIN, PARTNER]).await;
    for (number, node) in [WITH_TPM, WITH_TEE].into_iter().enumerate() {
        let enrolled = mesh.enrol(node, number, &domains[..1]).await;
        told(&mesh, enrolled);
        let runs = mesh.run(node).await;
        told(&mesh, runs);
        let trusted = mesh.trust_what_runs_now(node, &[DOMAIN]).await;
        told(&mesh, trusted);
    }
    mesh
}

/// An execution that runs, and its first process.
async fn begun(mesh: &Mesh, node: &str) -> (Watched, Pid) {
    let mut execution = told(mesh, mesh.exec(node, &SLEEPS));
    let phase = told(mesh, execution.until(|seen| seen.phase() == Some(5), |_| Ok(())).await);
    (execution, phase.fact("pid").parse().ok().and_then(Pid::from_raw).expect("a process"))
}

/// From a PCR's extension to the end of the workload, again and again; the authority takes the node back in between.
async fn changes(mesh: &mut Mesh, samples: u32) {
    let mut took = Vec::new();
    for sample in 0..samples {
        let (mut execution, pid) = begun(mesh, WITH_TPM).await;
        // At every moment between two looks alike, not as soon as the first one.
        let part = (f64::from(sample) * GOLDEN).fract();
        tokio::time::sleep(Duration::from_secs_f64(part * WATCH_INTERVAL_MS / 1e3)).await;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a workload");
        let over = tokio::task::spawn_blocking(move || {
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).expect("a pidfd");
            Instant::now()
        });
        let measured = mesh.measure(0, UNREFERENCED_PCR).await;
        let changed = told(mesh, measured);
        took.push(over.await.expect("a thread").saturating_duration_since(changed));
        let exit = told(mesh, execution.until(|seen| seen.is("exit"), |_| Ok(())).await);
        assert_eq!(exit.field("halt_code"), "halt.pcr_changed");
        readmitted(mesh).await;
    }
    let what = "a PCR's change to the workload's last instruction, p99";
    histogram(what, &took);
    measure::report(what, percentile_ms(&mut took, 99), " ms", WATCH_INTERVAL_MS + 50.0);
}

/// Its multiples, less their whole parts, are spread evenly however many there are.
const GOLDEN: f64 = 0.618_033_988_75;
/// Watched, and in no reference set: a node that was taken back attests as before.
const UNREFERENCED_PCR: u8 = 12;

async fn readmitted(mesh: &Mesh) {
    let held = async || {
        let shown = mesh.ask(DOMAIN, &["node", "show", WITH_TPM], 0).await?;
        Ok((shown["status"] == "quarantined" && !shown["halt_record"].is_null()).then_some(()))
    };
    told(mesh, mesh.until("the halt record", held).await);
    let signer = mesh.signer(DOMAIN);
    let readmit = ["node", "readmit", WITH_TPM, "--signer", &signer, "--reason", "a bench"];
    told(mesh, mesh.ask(DOMAIN, &readmit, 0).await);
    let free = async || {
        let status = mesh.status(WITH_TPM).await?;
        Ok(status.get("halt").is_some_and(serde_json::Value::is_null).then_some(()))
    };
    told(mesh, mesh.until("the end of the halt", free).await);
}

/// What the kernel says of a daemon that holds one lease, over a stretch with a renewal in it.
async fn idle(mesh: &Mesh, stretch_s: u32) {
    let (mut execution, workload) = begun(mesh, WITH_TPM).await;
    let pid = mesh.node_pid(WITH_TPM).expect("a daemon");
    let before = processor_time(pid);
    tokio::time::sleep(Duration::from_secs(stretch_s.into())).await;
    let used = processor_time(pid) - before;
    let percent = 100.0 * used.as_secs_f64() / f64::from(stretch_s);
    measure::report("attestd with one lease, resident", resident_mib(pid), " MiB", 20.0);
    measure::report("attestd with one lease, of one core", percent, " %", 0.2);
    kill_process(workload, Signal::TERM).expect("a workload");
    told(mesh, execution.until(|seen| seen.is("exit"), |_| Ok(())).await);
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a figure");
    kib / 1024.0
}

/// From the start of `attestd exec` to its end, less what the program takes by itself.
async fn exec_overhead(mesh: &Mesh, samples: u32) {
    let (mut governed, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let begun = Instant::now();
        let mut execution = told(mesh, mesh.exec(WITH_TEE, &["--", "true"]));
        // What is refused ends before it, and is no execution.
        told(mesh, execution.until(|seen| seen.phase() == Some(5), |_| Ok(())).await);
        told(mesh, execution.until(|seen| seen.is("exit"), |_| Ok(())).await);
        governed.push(begun.elapsed());
        let begun = Instant::now();
        assert!(tokio::process::Command::new("true").status().await.expect("true").success());
        bare.push(begun.elapsed());
    }
    let overhead = percentile_ms(&mut governed, 50) - percentile_ms(&mut bare, 50);
    measure::report("attestd exec over the bare program, median", overhead, " ms", 30.0);
}

/// One line for each tenth of the longest.
fn histogram(what: &str, took: &[Duration]) {
    let longest = took.iter().max().map_or(1.0, |longest| longest.as_secs_f64() * 1e3);
    println!("histogram: {what}, {} samples", took.len());
    for tenth in 0..10_u32 {
        let (from, to) = (longest * f64::from(tenth) / 10.0, longest * f64::from(tenth + 1) / 10.0);
        let within = |took: &&Duration| {
            let ms = took.as_secs_f64() * 1e3;
            (from < ms || tenth == 0) && ms <= to
        };
        let count = took.iter().filter(within).count();
        println!("histogram: {:7.1} ms {:4} {}", to, count, "#".repeat(count * 60 / took.len().max(1)));
    }
}
