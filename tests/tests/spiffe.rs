//! The SPIFFE Workload API as the crate `spiffe` sees it, unmodified, from within workloads: two nodes in two domains.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::panic
)]

#[path = "spiffe/jwt.rs"]
mod jwt;
#[path = "spiffe/jwt_workloads.rs"]
mod jwt_workloads;
#[path = "spiffe/python.rs"]
mod python;
#[path = "mesh/records.rs"]
mod records;
#[path = "spiffe/tls.rs"]
mod tls;
#[path = "spiffe/workloads.rs"]
mod workloads;

use std::path::{Path, PathBuf};

use attestd::cli::DemoPlatform;
use attestd::demo::mesh::Mesh;
use attestd::demo::{DemoFault, Watched};
use spiffe::{WorkloadApiClient, WorkloadApiError};

const A: &str = "a.example";
const B: &str = "b.example";
/// Each node is enrolled with one domain; its workloads are known to the other by federation alone.
const NODES: [(&str, &str); 2] = [("node-1", A), ("node-2", B)];
const STALENESS_S: u32 = 600;

struct Bed {
    mesh: Mesh,
}

impl Bed {
    async fn founded(lease_ms: u32) -> Self {
        Self::with(lease_ms, &[A, B]).await
    }

    /// The same, with domains that have no node.
    async fn with(lease_ms: u32, domains: &[&'static str]) -> Self {
        let programs = ["attestd", "verifier", "tee-simulator"].map(program);
        let machines = [DemoPlatform::SimulatedSnp, DemoPlatform::SimulatedSnp];
        let mut bed = Self { mesh: Mesh::on(programs, &machines, lease_ms, false).await.unwrap() };
        let made = bed.make(domains).await;
        bed.explained(made);
        bed
    }

    async fn make(&mut self, domains: &[&'static str]) -> Result<(), DemoFault> {
        let mut partners = Vec::new();
        for domain in domains {
            self.mesh.found(domain).await?;
            partners.push((*domain, self.mesh.public(domain)?));
        }
        self.mesh.federate(&partners, STALENESS_S).await?;
        for (machine, (node, domain)) in NODES.into_iter().enumerate() {
            let reach = self.mesh.reach(domain)?;
            self.mesh.enrol(node, machine, &[(domain, reach)]).await?;
            self.mesh.run(node).await?;
            self.mesh.trust_what_runs_now(node, &[domain]).await?;
        }
        Ok(())
    }

    fn explained<T>(&self, outcome: Result<T, DemoFault>) -> T {
        outcome.unwrap_or_else(|fault| panic!("{}", self.mesh.explained(fault)))
    }

    /// Runs a test of [`workloads`] under a lease: this very program, which leaves what it has to say in a folder.
    fn workload(&self, node: &str, label: Option<&str>, test: &str, folder: &Path) -> Watched {
        let itself = std::env::current_exe().unwrap().display().to_string();
        let (label, folder) = (label.map(|name| format!("workload={name}")), folder.display().to_string());
        let mut arguments: Vec<&str> = label.iter().flat_map(|label| ["--label", label]).collect();
        arguments.extend(["--", &itself, "--ignored", "--exact", test, "--nocapture", &folder]);
        self.mesh.exec(node, &arguments).unwrap()
    }

    /// Waits until a workload has left this under a name.
    async fn leaves(&self, folder: &Path, name: &str, wanted: &str) {
        let look = async || Ok(std::fs::read_to_string(folder.join(name)).ok().filter(|left| left == wanted));
        self.explained(self.mesh.until(&format!("{name} to be {wanted}"), look).await);
    }

    /// What a workload has left under this name.
    async fn left(&self, folder: &Path, name: &str) -> String {
        let look = async || Ok(std::fs::read_to_string(folder.join(name)).ok());
        self.explained(self.mesh.until(&format!("what a workload says of {name}"), look).await)
    }
}

/// Beside the folder that tests are built in.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is not built: `cargo build --workspace --bins`", path.display());
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workloads_in_two_domains_speak_mutual_tls_by_each_other_s_bundles() {
    let bed = Bed::founded(30_000).await;
    let folder = bed.mesh.folder("said").unwrap();
    let mut server = bed.workload("node-2", Some("ledger"), "workloads::serves", &folder);
    let mut caller = bed.workload("node-1", Some("billing"), "workloads::calls", &folder);
    assert_eq!(bed.left(&folder, "server").await, "spiffe://b.example/node/node-2/workload/ledger");
    assert_eq!(bed.left(&folder, "caller").await, "spiffe://a.example/node/node-1/workload/billing");
    // Each has heard the other, and has seen that the own domain's bundle does not vouch for it.
    assert_eq!(bed.left(&folder, "heard-by-server").await, "spiffe://a.example/node/node-1/workload/billing");
    assert_eq!(bed.left(&folder, "heard-by-caller").await, "spiffe://b.example/node/node-2/workload/ledger");
    assert_eq!(bed.left(&folder, "refused-by-caller").await, "UnknownIssuer");
    for execution in [&mut caller, &mut server] {
        let exit = execution.until(|seen| seen.is("exit"), |_| Ok(())).await;
        bed.explained(exit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_is_renewed_with_its_lease_and_no_other_process_gets_one() {
    let bed = Bed::founded(6_000).await;
    let folder = bed.mesh.folder("said").unwrap();
    let execution = bed.workload("node-1", None, "workloads::watches", &folder);
    let [first, second] = [bed.left(&folder, "first").await, bed.left(&folder, "second").await];
    assert!(first.starts_with("spiffe://a.example/node/node-1/execution/"), "{first}");
    assert_eq!(first, second, "the same identity, by another certificate");
    assert_eq!(bed.left(&folder, "bundles").await, "a.example b.example");
    assert_eq!(bed.left(&folder, "without-header").await, "InvalidArgument");
    // This process is of the same user, on the same machine, on the same socket.
    let socket = format!("unix://{}", bed.mesh.path("node-1/run/workload.sock").display());
    let stranger = WorkloadApiClient::connect_to(&socket).await.unwrap();
    let refused = stranger.fetch_x509_svid().await.unwrap_err();
    assert!(matches!(refused, WorkloadApiError::PermissionDenied(_)), "{refused}");
    let refused = stranger.fetch_x509_bundles().await.unwrap_err();
    assert!(matches!(refused, WorkloadApiError::PermissionDenied(_)), "{refused}");
    drop(execution);
}
