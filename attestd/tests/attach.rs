//! Governing what somebody else started: found by its cgroup, looked at while it stands still, ended with its lease.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod supervised;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use attestd::clock::boottime_ms;
use attestd::gateway::{Attached, Executable};
use attestd::supervise::control::{self, Attach, EndCause, Order, Report, StartFault};
use supervised::{Supervised, attach, is_alive, writable_cgroup};

/// Processes of a cgroup that this test has, not `attestd`.
struct Service {
    cgroup: String,
    processes: Vec<Child>,
}

impl Service {
    /// As many processes, each of this command.
    fn start(commands: &[&[&str]]) -> Option<Self> {
        let Some(cgroup) = writable_cgroup() else {
            println!("no writable cgroup v2 here: not tested");
            return None;
        };
        let spawn = |command: &&[&str]| {
            let process = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).spawn().unwrap();
            std::fs::write(Path::new(&cgroup).join("cgroup.procs"), process.id().to_string()).unwrap();
            process
        };
        Some(Self { processes: commands.iter().map(spawn).collect(), cgroup })
    }

    fn is_alive(&self) -> bool {
        self.processes.iter().any(|process| is_alive(&process.id().to_string()))
    }

    fn frozen(&self) -> String {
        std::fs::read_to_string(Path::new(&self.cgroup).join("cgroup.freeze")).unwrap().trim().to_owned()
    }

    fn governed(&self, program: &str, lease_ms: u64) -> Supervised {
        let executable = Executable::open(program, "/usr/bin:/bin", Path::new("/")).unwrap();
        let ends_at_boottime_ms = boottime_ms().checked_add(lease_ms).unwrap();
        attach(Attach {
            cgroup: self.cgroup.clone(),
            executable: hex::encode(executable.digest()),
            ends_at_boottime_ms,
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = std::fs::write(Path::new(&self.cgroup).join("cgroup.kill"), "1");
        self.processes.iter_mut().for_each(|process| drop(process.wait()));
        while std::fs::remove_dir(&self.cgroup).is_err() && Path::new(&self.cgroup).exists() {
            std::thread::yield_now();
        }
    }
}

const SLEEP: &[&str] = &["sleep", "600"];

#[test]
fn what_runs_already_ends_with_its_lease_and_its_cgroup_stays() {
    let Some(service) = Service::start(&[SLEEP, SLEEP]) else { return };
    let supervised = service.governed("sleep", 400);
    supervised.started();
    let ended = supervised.ended();
    assert_eq!(ended.cause, EndCause::DeadlineReached);
    assert_eq!(ended.killed, 2);
    assert!(!service.is_alive() && Path::new(&service.cgroup).exists());
}

#[test]
fn who_runs_something_else_is_left_as_it_was() {
    let Some(service) = Service::start(&[SLEEP, &["tail", "-f", "/dev/null"]]) else { return };
    let supervised = service.governed("sleep", 60_000);
    let report = supervised.report();
    let Some(Report::NotStarted { fault: StartFault::Failed { what } }) = report else { panic!("{report:?}") };
    assert!(what.contains("runs") && what.contains("expected"), "{what}");
    assert!(service.is_alive());
    assert_eq!(service.frozen(), "0");
}

#[test]
fn a_lost_daemon_ends_what_it_governs() {
    let Some(service) = Service::start(&[SLEEP]) else { return };
    let mut supervised = service.governed("sleep", 60_000);
    supervised.started();
    drop(supervised.channel.take());
    supervised.child.wait().unwrap();
    assert!(!service.is_alive());
}

#[test]
fn it_is_paused_resumed_and_killed_on_order() {
    let Some(service) = Service::start(&[SLEEP]) else { return };
    let supervised = service.governed("sleep", 60_000);
    supervised.started();
    let order = |order: &Order| control::send(supervised.channel.as_ref().unwrap(), order, &[]).unwrap();
    order(&Order::Pause);
    assert_eq!((supervised.report(), service.frozen()), (Some(Report::Paused { processes: 1 }), "1".to_owned()));
    order(&Order::Resume);
    assert_eq!((supervised.report(), service.frozen()), (Some(Report::Resumed), "0".to_owned()));
    order(&Order::Kill);
    assert_eq!(supervised.ended().cause, EndCause::Killed);
    assert!(!service.is_alive());
}

#[test]
fn a_drain_reaches_every_member() {
    let Some(service) = Service::start(&[SLEEP, SLEEP]) else { return };
    let supervised = service.governed("sleep", 60_000);
    supervised.started();
    control::send(supervised.channel.as_ref().unwrap(), &Order::Drain { grace_ms: 10_000 }, &[]).unwrap();
    assert_eq!(supervised.ended().cause, EndCause::WorkloadExited, "sleep ends at SIGTERM, long before the grace");
    assert!(!service.is_alive());
}

#[test]
fn only_a_cgroup_with_processes_of_others_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Attached::open(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("cgroup v2"), "{refused}");
    assert!(Attached::open(Path::new("/nowhere")).is_err());
    let Some(empty) = writable_cgroup() else { return };
    let refused = Attached::open(Path::new(&empty)).unwrap_err().to_string();
    std::fs::remove_dir(&empty).unwrap();
    assert!(refused.contains("no process"), "{refused}");
}
