//! End to end: executions that stand still and go on, and what somebody else started.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use wire::proto::{self, workload_client::WorkloadClient};

use super::faults::{Scene, gone, pid_of, running_as};
use super::hostile::{pid, said, say, sockets};
use super::stage::Stage;
use super::story::HALTED_EXIT_CODE;
use super::watched::Watched;
use crate::cli::DemoPlatform;
use crate::gateway::SPIFFE_ENDPOINT_SOCKET;
use crate::local_api::dial::dial;

const SOON: Duration = Duration::from_secs(8);
const LEASE_MS: u32 = 6_000;

/// A cgroup of the test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists());
        let path = root.map(|root| root.join(format!("attestd-e2e-{name}-{}", std::process::id())));
        let made = path.filter(|path| std::fs::create_dir(path).is_ok() && path.join("cgroup.freeze").exists());
        if made.is_none() {
            eprintln!("no cgroup v2 here that this user may write: left out");
        }
        made.map(Self)
    }

    fn toml(&self) -> String {
        format!("cgroup = \"{}\"\n", self.0.display())
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap().trim().to_owned()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
        for below in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(below.path()); // of a daemon that was killed
        }
        // The kernel takes a moment to let go of the last process.
        let until = Instant::now().checked_add(Duration::from_secs(2));
        while std::fs::remove_dir(&self.0).is_err()
            && self.0.exists()
            && until.is_some_and(|until| Instant::now() < until)
        {
            std::thread::yield_now();
        }
    }
}

async fn status(stage: &Stage) -> Value {
    let output = stage.finish(stage.attestd(&["--format", "json", "status"])).await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_a_workload_stand_still_go_on_and_stand_still_for_good() {
    let Some(cgroup) = Cgroup::make("pause") else { return };
    let Scene { stage, machine: _machine, _verifier, mut node, execution: _first, .. } =
        running_as(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS, &cgroup.toml()).await;
    let script = "while :; do echo tick; sleep 0.02; done";
    let mut ticking = Watched::start(&stage, &["--", "sh", "-c", script]).unwrap();
    let pid = pid(&mut ticking).await;
    said(&mut ticking, "tick").await;
    let stand_still = |status: &Value| {
        let each = status["executions"].as_array().unwrap().iter();
        each.filter(|one| one["paused"]["processes"].as_u64() > Some(0)).count()
    };
    let paused = stage.ask_attestd(&["pause"], 0).await.unwrap();
    assert_eq!(stand_still(&paused), 2, "{paused}");
    // Its lease is renewed while it stands still.
    let renewed = async || {
        let status = status(&stage).await;
        let leases = status["executions"].as_array().unwrap().iter().map(|one| one["leases"][0]["seq"].as_u64());
        Ok(leases.min().flatten().filter(|seq| *seq >= 3))
    };
    stage.until("two renewals", renewed).await.unwrap();
    assert_eq!(stand_still(&status(&stage).await), 2);
    stage.ask_attestd(&["resume"], 0).await.unwrap();
    let goes_on = async || Ok((stand_still(&status(&stage).await) == 0).then_some(()));
    stage.until("that they go on", goes_on).await.unwrap();
    said(&mut ticking, "tick").await;

    let halt = ["halt", "--reason", "a test", "--mode", "freeze"];
    stage.ask_attestd(&halt, HALTED_EXIT_CODE).await.unwrap();
    assert!(!gone(pid, Duration::from_millis(u64::from(LEASE_MS))), "it stands still past its lease");
    kill_process(pid_of(&node), Signal::TERM).unwrap();
    assert!(gone(pid, SOON), "it outlived the daemon");
    node.wait().await.unwrap();
}

/// Processes of a cgroup that this test has, not `attestd`.
struct Service {
    processes: Vec<Child>,
}

impl Service {
    fn start(stage: &Stage, cgroup: &Cgroup) -> Self {
        let socket = stage.path("attestd/run/workload.sock");
        let processes = (0..2).map(|number| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let said = std::fs::File::create(stage.path(&format!("service-{number}"))).unwrap();
            command.args(["--ignored", "--exact", "demo::cgroups::service", "--nocapture"]).stdout(said);
            command.env(SPIFFE_ENDPOINT_SOCKET, format!("unix://{}", socket.display()));
            let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::fs::write(cgroup.0.join("cgroup.procs"), process.id().to_string()).unwrap();
            process
        });
        Self { processes: processes.collect() }
    }

    /// That each said this.
    async fn said(&self, stage: &Stage, wanted: &str) {
        for number in 0..self.processes.len() {
            let path = stage.path(&format!("service-{number}"));
            let look = async || Ok(std::fs::read_to_string(&path).unwrap().contains(wanted).then_some(()));
            stage.until(wanted, look).await.map_err(|fault| fault.with_logs(stage)).unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill(); // the halt did
            let _ = process.wait();
        }
    }
}

#[tokio::test]
#[ignore = "runs as a service that is governed later"]
async fn service() {
    let [_, socket] = sockets();
    let mut client = WorkloadClient::new(dial(socket).await.unwrap());
    loop {
        let standing = match client.watch(proto::WatchRequest {}).await {
            Ok(told) => told.into_inner().message().await,
            Err(refused) => Err(refused),
        };
        match standing {
            Ok(standing) => say(&format!("governed by {}", standing.unwrap().artifacts[0].domain)),
            Err(refused) => say(&format!("{:?}", refused.code())),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_started_is_governed_known_on_the_socket_and_killed_as_a_whole() {
    let Some(cgroup) = Cgroup::make("attach") else { return };
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_as(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS, "").await;
    let service = Service::start(&stage, &cgroup);
    service.said(&stage, "PermissionDenied").await;
    let path = cgroup.0.display().to_string();
    let mut execution = Watched::start(&stage, &["--attach", &path]).unwrap();
    pid(&mut execution).await;
    service.said(&stage, "governed by demo.example").await;
    // It is a workload now: it gives no orders.
    assert_eq!(cgroup.read("cgroup.freeze"), "0");
    stage.ask_attestd(&["halt", "--reason", "a test"], HALTED_EXIT_CODE).await.unwrap();
    for process in &service.processes {
        let pid = Pid::from_child(process);
        assert!(gone(pid, SOON), "it outlived the halt");
    }
    assert_eq!(cgroup.read("cgroup.procs"), "");
}
