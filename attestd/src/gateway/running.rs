//! A workload that runs, and the daemon's hold on it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::{EndCause, Ended, Outcome, Supervisor};
use crate::supervise::control::{self, Order};
use crate::supervise::descendants;

/// A workload that runs. Dropping it kills the workload.
pub struct Running {
    supervisor: Supervisor,
    orders: OwnedFd,
    outputs: Option<(pipe::Receiver, pipe::Receiver)>,
    frozen: watch::Receiver<Option<u32>>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Running {
    pub(super) const fn new(
        supervisor: Supervisor,
        orders: OwnedFd,
        outputs: (pipe::Receiver, pipe::Receiver),
        frozen: watch::Receiver<Option<u32>>,
        ended: watch::Receiver<Option<Ended>>,
    ) -> Self {
        Self { supervisor, orders, outputs: Some(outputs), frozen, ended }
    }

    /// The workload's first process.
    #[must_use]
    pub const fn workload_pid(&self) -> i32 {
        self.supervisor.workload_pid
    }

    /// Its supervisor: every process of it descends from there.
    pub(crate) fn supervisor(&self) -> std::io::Result<(Pid, OwnedFd)> {
        Ok((self.supervisor.pid, self.supervisor.pidfd.try_clone()?))
    }

    /// Its stdout and stderr, once.
    pub const fn take_outputs(&mut self) -> Option<(pipe::Receiver, pipe::Receiver)> {
        self.outputs.take()
    }

    /// Lets it run until then (CLOCK_BOOTTIME). If the supervisor cannot be told, its old deadline stands.
    pub fn prolong(&self, ends_at_boottime_ms: u64) {
        if let Err(error) = control::send(&self.orders, &Order::Deadline { at_boottime_ms: ends_at_boottime_ms }, &[]) {
            tracing::warn!(%error, "the supervisor was not told of the renewed lease");
        }
    }

    /// Resolves when everything that descended from the workload is gone.
    pub fn ended(&self) -> impl Future<Output = Ended> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            let unobserved = Ended { outcome: Outcome::Unobserved, cause: EndCause::SupervisorLost, killed: 0 };
            match ended.wait_for(Option::is_some).await {
                Ok(end) => end.clone().unwrap_or(unobserved),
                Err(_) => unobserved,
            }
        }
    }

    /// Stops every process of it where it stands and says how many; none if that cannot be done, and then it is ended. It
    /// stays so until this hold on it is dropped, or the daemon dies: then it is killed.
    pub async fn freeze(&self) -> Option<u32> {
        let mut frozen = self.frozen.clone();
        if control::send(&self.orders, &Order::Freeze, &[]).is_ok()
            && let Ok(Ok(processes)) = tokio::time::timeout(FREEZE_GRACE, frozen.wait_for(Option::is_some)).await
        {
            return *processes;
        }
        self.kill().await;
        None
    }

    /// Ends it and everything that descends from it, with or without its supervisor's help.
    pub async fn kill(&self) -> Ended {
        let _ = control::send(&self.orders, &Order::Kill, &[]);
        if let Ok(ended) = tokio::time::timeout(KILL_GRACE, self.ended()).await {
            return ended;
        }
        // The supervisor is stopped or stuck. Its children first, while they are still found below it; then itself, and the
        // execution's thread sees to what it leaves behind.
        tracing::warn!(supervisor = self.supervisor.pid.as_raw_pid(), "the supervisor does not answer: killing for it");
        let mut killed = BTreeSet::new();
        for _ in 0..KILL_PASSES {
            descendants::kill_below_once(self.supervisor.pid, &mut killed);
            if descendants::below(self.supervisor.pid).is_empty() {
                break;
            }
            tokio::time::sleep(KILL_PAUSE).await;
        }
        let _ = pidfd_send_signal(&self.supervisor.pidfd, Signal::KILL);
        let mut ended = self.ended().await;
        ended.killed = ended.killed.saturating_add(u32::try_from(killed.len()).unwrap_or(u32::MAX));
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = control::send(&self.orders, &Order::Kill, &[]); // an error means that it has ended
    }
}

/// A supervisor that lives answers within a few milliseconds.
const KILL_GRACE: Duration = Duration::from_millis(250);
/// As long as the supervisor waits for the kernel, and a little.
const FREEZE_GRACE: Duration = Duration::from_millis(1_250);
const KILL_PASSES: u32 = 100;
const KILL_PAUSE: Duration = Duration::from_millis(2);
