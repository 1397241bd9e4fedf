//! Finding and killing every process that descends from one.
//!
//! A double fork, `setsid` or a closed terminal do not leave the tree: with `PR_SET_CHILD_SUBREAPER` (prctl(2)) an orphan
//! is given to the nearest ancestor that asked for it. A pid may be reused between reading and killing it, so signals go
//! through a pidfd whose parent is read again after it was opened.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal};

/// Every live process below `root`, nearest first.
pub(crate) fn below(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root.as_raw_pid()]);
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for child in children(parent) {
            if found.len() < WALK_CAP && seen.insert(child.as_raw_pid()) {
                found.push(child);
                next.push(child);
            }
        }
    }
    found
}

/// Direct children, zombies not counted.
fn children(parent: Pid) -> Vec<Pid> {
    let mut found = children_and_zombies(parent);
    found.retain(|pid| status(*pid).is_some_and(|status| !status.zombie));
    found
}

/// Direct children, those that await reaping included.
pub(crate) fn children_and_zombies(parent: Pid) -> Vec<Pid> {
    let tasks = match fs::read_dir(format!("/proc/{}/task", parent.as_raw_pid())) {
        Ok(tasks) => tasks,
        Err(_) => return Vec::new(), // gone: what it had is now its reaper's
    };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => found.extend(list.split_whitespace().filter_map(parse_pid)),
            // A kernel without CONFIG_PROC_CHILDREN: ask every process who its parent is.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && task.path().exists() => {
                return children_by_parent(parent);
            }
            Err(_) => {}
        }
    }
    found
}

fn children_by_parent(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str().and_then(parse_pid));
    pids.filter(|pid| status(*pid).is_some_and(|status| status.parent == parent.as_raw_pid())).collect()
}

/// What `/proc/PID/stat` says of a process (proc(5): pid, (comm), state, ppid).
struct Status {
    zombie: bool,
    parent: i32,
}

fn status(pid: Pid) -> Option<Status> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?; // the name may hold anything, also ')'
    let mut fields = after_name.split_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(Status { zombie, parent: fields.next()?.parse().ok()? })
}

/// Whose child a process is now.
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    status(pid).and_then(|status| Pid::from_raw(status.parent))
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

/// Opens a process for killing if it is alive and still a child of one of `parents`.
fn open_child_of(pid: Pid, parents: &BTreeSet<i32>) -> Option<OwnedFd> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let is_ours = status(pid).is_some_and(|status| !status.zombie && parents.contains(&status.parent));
    is_ours.then_some(pidfd)
}

/// Sends SIGKILL to one process if it is still a child of one of `parents`; says whether it did.
pub(crate) fn kill_child_of(pid: Pid, parents: &BTreeSet<i32>) -> bool {
    open_child_of(pid, parents).is_some_and(|pidfd| pidfd_send_signal(&pidfd, Signal::KILL).is_ok())
}

/// One pass of SIGKILL over everything below `root`; the killed are added to `killed`.
pub(crate) fn kill_below_once(root: Pid, killed: &mut BTreeSet<i32>) {
    let found = below(root);
    let mut parents: BTreeSet<i32> = found.iter().map(|pid| pid.as_raw_pid()).collect();
    parents.insert(root.as_raw_pid());
    // All are opened before the first is killed, because the children of the killed change their parent.
    let opened = found.iter().filter_map(|pid| Some((pid.as_raw_pid(), open_child_of(*pid, &parents)?)));
    for (pid, pidfd) in opened.collect::<Vec<_>>() {
        if pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
            killed.insert(pid);
        }
    }
}

/// One SIGTERM to everything below `root`, stopped processes woken so that they can follow it.
pub(crate) fn terminate_below(root: Pid) {
    let found = below(root);
    let mut parents: BTreeSet<i32> = found.iter().map(|pid| pid.as_raw_pid()).collect();
    parents.insert(root.as_raw_pid());
    let opened: Vec<OwnedFd> = found.iter().filter_map(|pid| open_child_of(*pid, &parents)).collect();
    for pidfd in opened {
        let _ = pidfd_send_signal(&pidfd, Signal::TERM); // it may just have ended
        let _ = pidfd_send_signal(&pidfd, Signal::CONT);
    }
}

/// Waits until a child of `parent` ends, but no longer than `limit`.
pub(crate) fn await_one_of(parent: Pid, limit: Timespec) {
    let opened = children_and_zombies(parent).into_iter().filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let opened: Vec<OwnedFd> = opened.take(POLL_CAP).collect();
    let mut sources: Vec<_> = opened.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
    let _ = poll(&mut sources, Some(&limit)); // whatever it says, the caller looks again
}

/// What reaping found.
pub(crate) enum Reaped {
    /// Children remain, none has ended since the last call.
    NoneEnded,
    /// This child has ended.
    One(Pid, WaitStatus),
    /// There is no child left, so there is no descendant left: each has a living chain of ancestors up to us.
    Childless,
}

/// Reaps one ended child of the calling process, adopted ones included.
pub(crate) fn reap() -> Reaped {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Reaped::One(pid, status),
            Ok(None) => return Reaped::NoneEnded,
            Err(Errno::INTR) => {}
            Err(_) => return Reaped::Childless, // ECHILD, the only other error of wait4(2) with these arguments
        }
    }
}

/// Children waited for at once.
const POLL_CAP: usize = 256;
/// Processes looked at in one pass; what is beyond is met in the next.
const WALK_CAP: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn finds_children_of_children_and_kills_them() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "sh -c 'sleep 600 & echo $!; wait' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let root = Pid::from_child(&shell);
        let grandchild = parse_pid(line.trim()).unwrap();
        assert!(below(root).contains(&grandchild));
        assert!(children_by_parent(root).iter().all(|pid| children_and_zombies(root).contains(pid)));
        let mut killed = BTreeSet::new();
        kill_below_once(root, &mut killed);
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert!(killed.contains(&grandchild.as_raw_pid()));
    }

    #[test]
    fn does_not_kill_a_process_of_another_parent() {
        let mut other = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(!kill_child_of(Pid::from_child(&other), &BTreeSet::from([1])));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
