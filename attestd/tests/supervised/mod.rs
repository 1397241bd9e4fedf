//! A supervisor of a test's own, on the other end of its control channel.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use attestd::clock::boottime_ms;
use attestd::supervise::control::{self, Attach, Ended, Order, Report, Start};
use governance::isolation::Isolation;

/// A supervisor of ours with its channel, and the workload's stdout.
pub(crate) struct Supervised {
    pub(crate) child: Child,
    pub(crate) channel: Option<OwnedFd>,
    pub(crate) stdout: BufReader<PipeReader>,
}

/// Runs shell text without any isolation of its own.
pub(crate) fn start(script: &str, keys: &[&[u8]], lease_ms: u64, cgroup: Option<String>) -> Supervised {
    let argv = ["workload", "-c", script].map(str::to_owned).to_vec();
    start_program("/bin/sh", argv, keys, lease_ms, cgroup, Isolation::default())
}

pub(crate) fn start_program(
    program: &str,
    argv: Vec<String>,
    keys: &[&[u8]],
    lease_ms: u64,
    cgroup: Option<String>,
    isolation: Isolation,
) -> Supervised {
    let (ours, child) = supervisor();
    let (stdout, writer) = std::io::pipe().unwrap();
    let executable = File::open(program).unwrap();
    let keys: Vec<File> = keys.iter().map(|key| key_file(key)).collect();
    let order = Order::Start(Box::new(Start {
        argv,
        environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("LANG".into(), "C".into())],
        in_image: false,
        working_directory: "/".into(),
        key_variables: (0..keys.len()).map(|n| format!("ATTESTD_KEY_FD_K{n}")).collect(),
        isolation,
        cgroup,
        ends_at_boottime_ms: boottime_ms().checked_add(lease_ms).unwrap(),
    }));
    let stderr = File::options().write(true).open("/dev/null").unwrap();
    let mut descriptors = vec![executable.as_fd(), writer.as_fd(), stderr.as_fd()];
    descriptors.extend(keys.iter().map(AsFd::as_fd));
    control::send(&ours, &order, &descriptors).unwrap();
    Supervised { child, channel: Some(ours), stdout: BufReader::new(stdout) }
}

fn supervisor() -> (OwnedFd, Child) {
    let (ours, theirs) = control::pair().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_attestd"));
    command.arg("__supervise").stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    (ours, command.spawn().unwrap())
}

/// Governs what runs already.
pub(crate) fn attach(attach: Attach) -> Supervised {
    let (ours, child) = supervisor();
    control::send(&ours, &Order::Attach(attach), &[]).unwrap();
    let (stdout, _) = std::io::pipe().unwrap();
    Supervised { child, channel: Some(ours), stdout: BufReader::new(stdout) }
}

fn key_file(bytes: &[u8]) -> File {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

impl Supervised {
    pub(crate) fn report(&self) -> Option<Report> {
        control::receive(self.channel.as_ref().unwrap()).unwrap().map(|(report, _)| report)
    }

    pub(crate) fn started(&self) -> i32 {
        match self.report() {
            Some(Report::Started { pid }) => pid,
            other => panic!("not started: {other:?}"),
        }
    }

    pub(crate) fn ended(&self) -> Ended {
        match self.report() {
            Some(Report::Ended(ended)) => ended,
            other => panic!("not ended: {other:?}"),
        }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.channel.take());
        let _ = self.child.wait(); // it exits by itself, once nothing of the workload is left
    }
}

pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn writable_cgroup() -> Option<String> {
    let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .find(|root| Path::new(root).join("cgroup.procs").exists())?;
    let cgroup = format!("{root}/attestd-test-{}-{:?}", std::process::id(), std::thread::current().id());
    std::fs::create_dir(&cgroup).ok()?;
    Some(cgroup)
}
