//! A workload that runs, and the daemon's hold on it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::{Attached, EndCause, Ended, Outcome, SealedKey, Supervisor};
use crate::supervise::control::{self, Order};
use crate::supervise::descendants;

/// A workload that runs. Dropping it kills the workload.
pub struct Running {
    supervisor: Supervisor,
    /// What it did not start.
    attached: Option<Attached>,
    orders: OwnedFd,
    outputs: Option<(pipe::Receiver, pipe::Receiver)>,
    still: watch::Receiver<Still>,
    ended: watch::Receiver<Option<Ended>>,
}

/// Whether its processes stand still, as its supervisor reported last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Still {
    /// They run.
    #[default]
    No,
    /// So many do, until told to go on.
    Paused(u32),
    /// So many do, for good.
    Frozen(u32),
}

impl Running {
    pub(super) const fn new(
        supervisor: Supervisor,
        attached: Option<Attached>,
        orders: OwnedFd,
        outputs: (pipe::Receiver, pipe::Receiver),
        still: watch::Receiver<Still>,
        ended: watch::Receiver<Option<Ended>>,
    ) -> Self {
        Self { supervisor, attached, orders, outputs: Some(outputs), still, ended }
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

    /// The cgroup that it is, where it was not started here.
    pub(crate) const fn attached(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    /// The keys that it was handed, once; who holds them lets it have them again.
    pub(crate) fn take_keys(&mut self) -> Vec<SealedKey> {
        std::mem::take(&mut self.supervisor.keys)
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
        let told = control::send(&self.orders, &Order::Freeze, &[]).is_ok();
        if told && let Some(Still::Frozen(processes)) = self.until(|still| matches!(still, Still::Frozen(_))).await {
            return Some(processes);
        }
        self.kill().await;
        None
    }

    /// Stops every process of it where it stands, until [`Running::resume`]; says how many, or none if that cannot be done
    /// and it goes on. Its lease goes on, too.
    pub async fn pause(&self) -> Option<u32> {
        control::send(&self.orders, &Order::Pause, &[]).ok()?;
        match self.until(|still| matches!(still, Still::Paused(_))).await {
            Some(Still::Paused(processes)) => Some(processes),
            Some(Still::No | Still::Frozen(_)) | None => {
                let _ = control::send(&self.orders, &Order::Resume, &[]); // it was late; nobody waits for it any more
                None
            }
        }
    }

    /// Lets a paused one go on; says whether it does.
    pub async fn resume(&self) -> bool {
        control::send(&self.orders, &Order::Resume, &[]).is_ok()
            && self.until(|still| matches!(still, Still::No)).await.is_some()
    }

    /// Asks every process of it to end, and lets the supervisor end what is left after the grace, or at the lease's end.
    pub fn drain(&self, grace_ms: u32) {
        if control::send(&self.orders, &Order::Drain { grace_ms }, &[]).is_err() {
            // The supervisor is gone or does not read: nothing is drained, and what waits for the end kills.
            tracing::warn!("the supervisor was not told to drain its workload");
        }
    }

    async fn until(&self, reached: impl FnMut(&Still) -> bool) -> Option<Still> {
        let mut still = self.still.clone();
        let reached = tokio::time::timeout(FREEZE_GRACE, still.wait_for(reached)).await;
        reached.ok()?.ok().map(|still| *still)
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
        let elsewhere = self.attached.as_ref().map_or(0, Attached::kill);
        let _ = pidfd_send_signal(&self.supervisor.pidfd, Signal::KILL);
        let mut ended = self.ended().await;
        ended.killed =
            ended.killed.saturating_add(u32::try_from(killed.len()).unwrap_or(u32::MAX)).saturating_add(elsewhere);
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
