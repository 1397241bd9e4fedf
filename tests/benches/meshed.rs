//! Real processes for a bench: domains that stand with each other, and nodes that run what they authorize. Needs `attestd`,
//! `verifier` and `tee-simulator` built in the bench's own profile, or `attestd` where `BENCH_ATTESTD` says: as it is packaged.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use attestd::cli::DemoPlatform;
use attestd::demo::mesh::{Mesh, Reach};
use attestd::demo::{DemoFault, Seen, Watched};

/// Longer than any bench.
pub(crate) const LEASE_MS: u32 = 600_000;
/// As long as what a partner says serves unseen.
pub(crate) const STALENESS_S: u32 = 600;

/// A machine for each node, and domains that know who made them and trust each other; nothing is enrolled yet.
pub(crate) async fn domains(names: &[&'static str], machines: usize) -> (Mesh, Vec<(&'static str, Reach)>) {
    domains_on(&vec![DemoPlatform::SimulatedSnp; machines], LEASE_MS, names).await
}

/// The same, on these machines and with leases of this length.
pub(crate) async fn domains_on(
    machines: &[DemoPlatform],
    lease_ms: u32,
    names: &[&'static str],
) -> (Mesh, Vec<(&'static str, Reach)>) {
    let bench = std::env::current_exe().expect("this program");
    let beside = bench.parent().and_then(Path::parent).expect("a target folder").to_owned();
    let [verifier, simulator] = ["verifier", "tee-simulator"].map(|name| beside.join(name));
    let attestd = std::env::var_os("BENCH_ATTESTD").map_or_else(|| beside.join("attestd"), PathBuf::from);
    let programs = [attestd, verifier, simulator];
    let mut mesh = Mesh::on(programs, machines, lease_ms, false).await.expect("machines");
    let (mut reached, mut partners) = (Vec::new(), Vec::new());
    for name in names {
        mesh.found(name).await.expect("a domain");
        reached.push((*name, mesh.reach(name).expect("a verifier")));
        partners.push((*name, mesh.public(name).expect("a public surface")));
    }
    let federated = mesh.federate(&partners, STALENESS_S).await;
    told(&mesh, federated);
    (mesh, reached)
}

/// What came of it; a fault is told with every log.
pub(crate) fn told<T>(mesh: &Mesh, outcome: Result<T, DemoFault>) -> T {
    outcome.unwrap_or_else(|fault| panic!("{}", mesh.explained(fault)))
}

/// The event that was waited for; the execution goes on.
pub(crate) async fn until(mesh: &Mesh, execution: &mut Watched, wanted: impl Fn(&Seen) -> bool) -> Seen {
    told(mesh, execution.until(wanted, |_| Ok(())).await)
}

/// A figure that makes the bench shorter, from the environment.
pub(crate) fn figure<T: FromStr>(name: &str, usual: T) -> T {
    let given = std::env::var(name).ok();
    given.map_or(usual, |figure| figure.parse().ok().unwrap_or_else(|| panic!("{name} is no figure")))
}

/// Of the sorted times the one below which so many percent are, or the longest where there are few, in milliseconds.
pub(crate) fn percentile_ms(took: &mut [Duration], percentile: usize) -> f64 {
    took.sort_unstable();
    let at = (took.len() * percentile).div_ceil(100).clamp(1, took.len()) - 1;
    took[at].as_secs_f64() * 1e3
}

/// USER_HZ, which is this on every architecture that Linux shows to us.
const TICKS_A_SECOND: u64 = 100;

/// What a process has had of the processors, as the kernel counts it (proc_pid_stat(5): fields 14 and 15, in ticks).
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after_name = stat.rsplit_once(") ").expect("a name in brackets").1;
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND)
}
