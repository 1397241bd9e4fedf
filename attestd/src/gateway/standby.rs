//! A supervisor before it is needed: a process takes its time to come up, and that passes while domains are asked.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::supervise::control;

/// A supervisor, or another process of this program, that waits for its order. Dropped before it got one, it is ended.
pub struct Standby {
    pub(super) process: Process,
    pub(super) pidfd: OwnedFd,
    /// The daemon's end of the control channel.
    pub(super) orders: OwnedFd,
}

/// A supervisor's process. Dropping it kills it, and waits for that.
pub(super) struct Process(Child);

/// Supervisors alive. A process adopts orphans as a whole, so what is not an orphan is known as a whole.
static SUPERVISORS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

pub(super) fn supervisors() -> MutexGuard<'static, BTreeSet<i32>> {
    SUPERVISORS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Standby {
    /// Starts `program`, which is this one, as what `verb` says.
    pub(super) fn start(program: &Path, verb: &str) -> io::Result<Self> {
        let (orders, supervisor_end) = control::pair()?;
        let mut command = Command::new(program);
        command.arg(verb).env_clear().current_dir("/");
        command.stdin(Stdio::from(supervisor_end)).stdout(Stdio::null()).stderr(Stdio::null());
        let process = {
            // Registered before anything else can take it for an orphan.
            let mut supervisors = supervisors();
            let process = Process(command.spawn()?);
            supervisors.insert(process.pid().as_raw_pid());
            process
        };
        let pidfd = pidfd_open(process.pid(), PidfdFlags::empty())?;
        Ok(Self { process, pidfd, orders })
    }
}

impl Process {
    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Waits until it has ended by itself.
    pub(super) fn wait(&mut self) {
        let _ = self.0.wait(); // an error means that it was waited for
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // an error means that it has ended
        self.wait();
        supervisors().remove(&self.pid().as_raw_pid());
    }
}
