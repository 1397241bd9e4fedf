//! Real processes for a bench: domains that stand with each other, and nodes that run what they authorize. Needs `attestd`,
//! `verifier` and `tee-simulator` built in the bench's own profile.

use std::path::Path;

use attestd::cli::DemoPlatform;
use attestd::demo::mesh::{Mesh, Reach};
use attestd::demo::{DemoFault, Seen, Watched};

/// Longer than any bench.
pub(crate) const LEASE_MS: u32 = 600_000;
/// As long as what a partner says serves unseen.
pub(crate) const STALENESS_S: u32 = 600;

/// A machine for each node, and domains that know who made them and trust each other; nothing is enrolled yet.
pub(crate) async fn domains(names: &[&'static str], machines: usize) -> (Mesh, Vec<(&'static str, Reach)>) {
    let bench = std::env::current_exe().expect("this program");
    let beside = bench.parent().and_then(Path::parent).expect("a target folder").to_owned();
    let programs = ["attestd", "verifier", "tee-simulator"].map(|name| beside.join(name));
    let platforms = vec![DemoPlatform::SimulatedSnp; machines];
    let mut mesh = Mesh::on(programs, &platforms, LEASE_MS, false).await.expect("machines");
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
