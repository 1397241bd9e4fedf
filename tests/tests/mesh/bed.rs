//! Three domains and a node that is enrolled with each, reached through proxies.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attestd::cli::DemoPlatform;
use attestd::demo::mesh::{Mesh, Reach};
use attestd::demo::{DemoFault, Seen, Watched};
use serde_json::Value;

use crate::proxy::Proxy;
use crate::records::records;

pub(crate) const A: &str = "a.example";
pub(crate) const B: &str = "b.example";
pub(crate) const C: &str = "c.example";
pub(crate) const DOMAINS: [&str; 3] = [A, B, C];
/// What a domain says serves for so long after it was last seen: longer than any test but those about it.
pub(crate) const STALENESS_S: u32 = 600;
pub(crate) const NODE: &str = "node-1";
const EVENTS_CAP: usize = 200;
pub(crate) const HALTED: i32 = 5;
pub(crate) const DENIED: i32 = 3;
/// Nobody judged.
pub(crate) const UNJUDGED: i32 = 4;

/// Beside the folder that tests are built in.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: `cargo build --workspace --bins`", path.display());
    path
}

pub(crate) fn programs() -> [PathBuf; 3] {
    ["attestd", "verifier", "tee-simulator"].map(program)
}

pub(crate) struct Bed {
    pub(crate) mesh: Mesh,
    /// Between the node and each domain, in their order.
    pub(crate) proxies: Vec<Proxy>,
    /// Between each domain's public surface and the others, in their order.
    pub(crate) surfaces: Vec<Proxy>,
}

impl Bed {
    /// A simulated SNP guest that all three domains trust as it is.
    pub(crate) async fn founded(lease_ms: u32) -> Self {
        Self::federated(lease_ms, STALENESS_S).await
    }

    /// The same; what a domain says serves the others for so long after it was last seen.
    pub(crate) async fn federated(lease_ms: u32, max_staleness_s: u32) -> Self {
        Self::known_to(&DOMAINS, lease_ms, max_staleness_s).await
    }

    /// The same, of a machine that these alone hold reference values for.
    pub(crate) async fn known_to(knowing: &[&str], lease_ms: u32, max_staleness_s: u32) -> Self {
        let mut mesh = Mesh::on(programs(), &[DemoPlatform::SimulatedSnp], lease_ms, false).await.unwrap();
        let (mut proxies, mut surfaces, mut domains, mut partners) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for name in DOMAINS {
            mesh.found(name).await.unwrap();
            let reach = mesh.reach(name).unwrap();
            let proxy = Proxy::to(&reach.nodes).await;
            domains.push((name, Reach { nodes: proxy.address.clone(), ..reach }));
            proxies.push(proxy);
            let surface = Proxy::to(&mesh.public(name).unwrap()).await;
            partners.push((name, surface.address.clone()));
            surfaces.push(surface);
        }
        if let Err(fault) = mesh.federate(&partners, max_staleness_s).await {
            panic!("{}", mesh.explained(fault));
        }
        mesh.enrol(NODE, 0, &domains).await.unwrap();
        let mut bed = Self { mesh, proxies, surfaces };
        let started = bed.mesh.run(NODE).await;
        bed.explained(started);
        let trusted = bed.mesh.trust_what_runs_now(NODE, knowing).await;
        bed.explained(trusted);
        bed
    }

    /// Starts a domain's verifier again, behind the proxies.
    pub(crate) async fn back(&mut self, at: usize) {
        let served = self.mesh.serve(DOMAINS[at]).await;
        self.explained(served);
        self.behind_proxies(at);
    }

    /// The proxies lead to where a domain's verifier listens now.
    pub(crate) fn behind_proxies(&self, at: usize) {
        self.proxies[at].retarget(&self.mesh.reach(DOMAINS[at]).unwrap().nodes);
        self.surfaces[at].retarget(&self.mesh.public(DOMAINS[at]).unwrap());
    }

    /// Looks until a partner stands like this with a domain, and says how long that took.
    pub(crate) async fn until_stands(&self, domain: &str, partner: &str, standing: &str) -> Duration {
        let begun = Instant::now();
        self.explained(self.mesh.stands(domain, partner, standing).await);
        begun.elapsed()
    }

    /// What came of it; a fault is told with every log.
    pub(crate) fn explained<T>(&self, outcome: Result<T, DemoFault>) -> T {
        outcome.unwrap_or_else(|fault| panic!("{}", self.mesh.explained(fault)))
    }

    pub(crate) fn exec(&self, arguments: &[&str]) -> Watched {
        self.mesh.exec(NODE, arguments).unwrap()
    }

    /// Every event until the wanted one, which is the last.
    pub(crate) async fn told(&self, execution: &mut Watched, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            // An execution that is not to go on would tell of its renewals for ever.
            assert!(seen.len() < EVENTS_CAP, "it goes on");
            let next = self.explained(execution.next().await);
            let last = wanted(&next) || next.is("exit");
            seen.push(next);
            if last {
                return seen;
            }
        }
    }

    /// Everything to its end, and the exit code.
    pub(crate) async fn ended(&self, mut execution: Watched) -> (Vec<Seen>, i32) {
        let seen = self.told(&mut execution, |seen| seen.is("exit")).await;
        (seen, self.explained(execution.exit_code().await))
    }

    pub(crate) async fn status(&self) -> Value {
        self.mesh.status(NODE).await.unwrap()
    }

    /// Kinds of the records that a domain's log has about something, oldest first.
    pub(crate) async fn records(&self, domain: &str, subject: &str) -> Vec<String> {
        records(&self.mesh, domain, subject).await
    }
}

/// How often a phase was told, of one domain or of any.
pub(crate) fn phases(seen: &[Seen], number: u64, domain: Option<&str>) -> usize {
    let of = |seen: &&Seen| domain.is_none_or(|domain| seen.fact("domain") == domain);
    seen.iter().filter(|seen| seen.phase() == Some(number)).filter(of).count()
}

/// Codes of the refusals.
pub(crate) fn refusals(seen: &[Seen]) -> Vec<&str> {
    seen.iter().filter(|seen| seen.is("refusal")).map(|seen| seen.field("code")).collect()
}
