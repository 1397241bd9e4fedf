//! The process between the daemon and a workload: it alone decides that the workload must die.
//!
//! `attestd __supervise` (not for operators) holds nothing but a control channel, the pid of the daemon and a timer. It kills
//! everything that descends from the workload when the daemon says so, when the daemon is gone, or when the lease it was
//! last told has run out by CLOCK_BOOTTIME. So neither `kill -9` nor a stopped daemon lets a workload outlive its lease.
//!
//! ```text
//! attestd ──control──▶ attestd __supervise ──fork──▶ attestd __launch ══exec══▶ workload
//!                      subreaper, own session         PDEATHSIG=KILL, no new privileges, no core dumps,
//!                                                     and what the intent gives up (`confine`)
//! ```
//!
//! What it cannot do, because the workload runs under the same user: stop the workload from killing its supervisor, unless
//! the intent confines signals. The workload's first process dies with it (PDEATHSIG), the rest falls to the daemon, which is a subreaper too.

pub(crate) mod attach;
pub mod confine;
pub mod control;
pub(crate) mod descendants;
mod launch;
mod syscalls;
pub(crate) mod unpack;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitStatus, getpid, getppid, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::clock::boottime_ms;
use control::{EndCause, Ended, Order, Outcome, Report, Start, StartFault};
use descendants::Reaped;

/// First argument of the supervisor.
pub(crate) const SUPERVISE: &str = "__supervise";
/// First argument of the process that becomes the workload.
pub(crate) const LAUNCH: &str = "__launch";

/// First argument of the process that unpacks an image.
pub(crate) const UNPACK: &str = "__unpack";

/// Runs the supervisor, the launcher or the unpacker if the arguments ask for one; to be called first in `main`, before any thread exists.
pub fn run_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
    let verb = arguments.get(1)?;
    if verb == SUPERVISE {
        Some(supervise(getppid()))
    } else if verb == LAUNCH {
        Some(launch::launch(arguments.get(2..).unwrap_or_default()))
    } else if verb == UNPACK {
        Some(unpack::unpack(getppid()))
    } else {
        None
    }
}

/// The supervisor's whole life. Its exit status matters to nobody: everything it has to say goes over the channel.
fn supervise(daemon: Option<Pid>) -> ExitCode {
    let stdin = std::io::stdin();
    let channel = stdin.as_fd();
    match supervise_on(channel, daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let _ = control::send(channel, &Report::NotStarted { fault }, &[]);
            ExitCode::FAILURE
        }
    }
}

fn supervise_on(channel: BorrowedFd<'_>, daemon: Option<Pid>) -> Result<(), StartFault> {
    close_inherited().map_err(|error| format!("close what was left open: {error}"))?;
    let daemon = daemon.ok_or("the daemon is gone")?;
    let daemon = pidfd_open(daemon, PidfdFlags::empty()).map_err(|errno| format!("watch the daemon: {errno}"))?;
    rustix::process::set_child_subreaper(Some(getpid())).map_err(|errno| format!("become subreaper: {errno}"))?;
    rustix::process::setsid().map_err(|errno| format!("own session: {errno}"))?;
    forbid_core_dumps().map_err(|errno| format!("forbid core dumps: {errno}"))?;

    let (order, descriptors) =
        control::receive(channel).map_err(|error| error.to_string())?.ok_or("the daemon is gone")?;
    let start = match order {
        Order::Start(start) => start,
        Order::Attach(attach) => {
            let mut deadline = Deadline::new().map_err(|errno| format!("lease timer: {errno}"))?;
            deadline.set(attach.ends_at_boottime_ms).map_err(|errno| format!("lease timer: {errno}"))?;
            return attach::supervise(channel, daemon.as_fd(), &mut deadline, &attach);
        }
        Order::Deadline { .. } | Order::Freeze | Order::Pause | Order::Resume | Order::Drain { .. } | Order::Kill => {
            return Err("ordered something else before the start".into());
        }
    };
    let mut deadline = Deadline::new().map_err(|errno| format!("lease timer: {errno}"))?;
    deadline.set(start.ends_at_boottime_ms).map_err(|errno| format!("lease timer: {errno}"))?;
    let cgroup = start.cgroup.clone();
    let workload = match begin(&start, descriptors) {
        Ok(workload) => workload,
        Err(fault) => {
            kill_all(cgroup.as_deref(), None);
            return Err(fault);
        }
    };
    let pid = workload.pid.as_raw_pid();
    if control::send(channel, &Report::Started { pid }, &[]).is_err() {
        kill_all(cgroup.as_deref(), None);
        return Ok(());
    }
    let ended = watch(channel, &daemon, &mut deadline, &workload, cgroup.as_deref());
    let _ = control::send(channel, &Report::Ended(ended), &[]); // nobody to tell if the daemon is gone
    Ok(())
}

/// Closes what the daemon's libraries leave open across an exec: neither this process nor the workload may hold the TPM,
/// which libtss2 opens so.
fn close_inherited() -> std::io::Result<()> {
    let number = |name: OsString| name.to_str().and_then(|name| name.parse::<RawFd>().ok());
    let numbers = std::fs::read_dir("/proc/self/fd")?
        .map(|entry| number(entry?.file_name()).ok_or_else(|| std::io::Error::other("a descriptor without a number")))
        .collect::<std::io::Result<Vec<_>>>()?;
    for number in numbers.into_iter().filter(|number| *number > STDERR) {
        match nix::unistd::close(number) {
            // The folder that was read is among them.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

const STDERR: RawFd = 2;

struct Workload {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Starts the launcher and waits until it has become the workload.
fn begin(start: &Start, descriptors: Vec<OwnedFd>) -> Result<Workload, StartFault> {
    let (status_reader, status_writer) = std::io::pipe().map_err(|error| format!("status pipe: {error}"))?;
    let child = launch::command(start, descriptors, status_writer.into())?
        .spawn()
        .map_err(|error| format!("start the launcher: {error}"))?;
    // The command, and with it our copies of the descriptors, was dropped above: only the launcher holds them now.
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| format!("watch the workload: {errno}"))?;
    match launch_error(status_reader.into()) {
        None => Ok(Workload { pid, pidfd }),
        Some(fault) => Err(fault),
    }
}

/// What the launcher said before it became the workload: nothing, or why it did not.
fn launch_error(reader: OwnedFd) -> Option<StartFault> {
    let limit = Timespec { tv_sec: LAUNCH_TIMEOUT_S, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&limit)) {
        Ok(0) => return Some(format!("the executable did not start within {LAUNCH_TIMEOUT_S} s").into()),
        Ok(_) => {}
        Err(errno) => return Some(format!("wait for the launcher: {errno}").into()),
    }
    let mut what = String::new();
    match File::from(reader).take(LAUNCH_ERROR_CAP_BYTES).read_to_string(&mut what) {
        Ok(0) => None,
        // Its own words; what cuts them short (it was killed, the cap) leaves them as they are.
        Ok(_) => Some(serde_json::from_str(&what).unwrap_or(StartFault::Failed { what })),
        Err(error) => Some(format!("read the launcher's status: {error}").into()),
    }
}

/// Waits for a reason to end the execution, then ends it.
fn watch(
    channel: BorrowedFd<'_>,
    daemon: &OwnedFd,
    deadline: &mut Deadline,
    workload: &Workload,
    cgroup: Option<&str>,
) -> Ended {
    let mut outcome = None;
    let mut frozen = false;
    let cause = loop {
        let mut sources = [
            PollFd::new(&channel, PollFlags::IN),
            PollFd::new(daemon, PollFlags::IN),
            PollFd::new(&deadline.timer, PollFlags::IN),
            PollFd::new(&workload.pidfd, PollFlags::IN),
        ];
        let limit = Timespec { tv_sec: REAP_INTERVAL_S, tv_nsec: 0 };
        if let Err(errno) = poll(&mut sources, Some(&limit))
            && errno != rustix::io::Errno::INTR
        {
            break EndCause::DaemonLost; // cannot watch any more: the safe end
        }
        let [order, lost, due, exited] = sources.map(|source| !source.revents().is_empty());
        reap_all(workload.pid, &mut outcome);
        if due && !frozen {
            break if deadline.draining { EndCause::Killed } else { EndCause::DeadlineReached };
        }
        if exited || outcome.is_some() {
            break EndCause::WorkloadExited;
        }
        if lost {
            break EndCause::DaemonLost;
        }
        if order {
            match follow(channel, deadline, cgroup) {
                Followed::On => {}
                Followed::Frozen => frozen = true,
                Followed::End(cause) => break cause,
            }
        }
    };
    let killed = kill_all(cgroup, Some((workload.pid, &mut outcome)));
    Ended { outcome: outcome.unwrap_or(Outcome::Unobserved), cause, killed }
}

/// What an order came to.
enum Followed {
    /// The execution goes on.
    On,
    /// It stands still from now on.
    Frozen,
    /// It ends.
    End(EndCause),
}

/// Follows one order. What is not understood, or cannot be done, ends the execution.
fn follow(channel: BorrowedFd<'_>, deadline: &mut Deadline, cgroup: Option<&str>) -> Followed {
    match control::receive::<Order>(channel) {
        Ok(Some((Order::Deadline { at_boottime_ms }, _))) => match deadline.set(at_boottime_ms) {
            Ok(()) => Followed::On,
            Err(_) => Followed::End(EndCause::Killed),
        },
        Ok(Some((Order::Freeze, _))) => {
            let report = cgroup.and_then(freeze).map(|processes| Report::Frozen { processes });
            // The timer stays due once it is: it is moved out of the way, or the loop would spin.
            deadline.draining = false;
            let parked = deadline.set(u64::MAX / 2);
            match report.filter(|_| parked.is_ok()).map(|report| control::send(channel, &report, &[])) {
                Some(Ok(())) => Followed::Frozen,
                Some(Err(_)) | None => Followed::End(EndCause::Killed),
            }
        }
        Ok(Some((Order::Pause, _))) => match cgroup.and_then(freeze) {
            Some(processes) => {
                let _ = control::send(channel, &Report::Paused { processes }, &[]); // a lost daemon is seen otherwise
                Followed::On
            }
            None => resume(channel, cgroup), // half of it standing still is worse than all of it running
        },
        Ok(Some((Order::Resume, _))) => resume(channel, cgroup),
        Ok(Some((Order::Drain { grace_ms }, _))) => match drain(deadline, cgroup, grace_ms) {
            Ok(()) => Followed::On,
            Err(_) => Followed::End(EndCause::Killed),
        },
        Ok(Some((Order::Kill | Order::Start(_) | Order::Attach(_), _))) => Followed::End(EndCause::Killed),
        Ok(None) | Err(_) => Followed::End(EndCause::DaemonLost),
    }
}

/// Lets every process go on. One that cannot is no use to anybody.
fn resume(channel: BorrowedFd<'_>, cgroup: Option<&str>) -> Followed {
    match cgroup.map(thaw) {
        Some(Err(_)) => Followed::End(EndCause::Killed),
        Some(Ok(())) | None => {
            let _ = control::send(channel, &Report::Resumed, &[]);
            Followed::On
        }
    }
}

fn thaw(cgroup: &str) -> std::io::Result<()> {
    std::fs::write(Path::new(cgroup).join("cgroup.freeze"), "0")
}

/// Asks every process to end, and draws the deadline nearer.
fn drain(deadline: &mut Deadline, cgroup: Option<&str>, grace_ms: u32) -> std::io::Result<()> {
    cgroup.map_or(Ok(()), thaw)?; // who stands still can follow no signal
    match cgroup {
        Some(cgroup) => attach::terminate(Path::new(cgroup))?,
        None => descendants::terminate_below(getpid()),
    }
    let until = boottime_ms().saturating_add(u64::from(grace_ms));
    if until < deadline.at_boottime_ms {
        deadline.set(until)?;
        deadline.draining = true;
    }
    Ok(())
}

/// cgroup v2, "cgroup.freeze" and "cgroup.events": asks, and waits until the kernel says that all stand still.
fn freeze(cgroup: &str) -> Option<u32> {
    let cgroup = Path::new(cgroup);
    std::fs::write(cgroup.join("cgroup.freeze"), "1").ok()?;
    let mut events = File::open(cgroup.join("cgroup.events")).ok()?;
    let limit = Timespec { tv_sec: FREEZE_TIMEOUT_S, tv_nsec: 0 };
    loop {
        let mut text = String::new();
        std::io::Seek::rewind(&mut events).ok()?;
        events.read_to_string(&mut text).ok()?;
        if text.lines().any(|line| line == "frozen 1") {
            break;
        }
        // The file signals POLLPRI when it changes (cgroup-v2, "Basic Operations").
        if poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&limit)).ok()? == 0 {
            return None;
        }
    }
    let members = std::fs::read_to_string(cgroup.join("cgroup.procs")).ok()?;
    u32::try_from(members.lines().count()).ok()
}

/// Kills until no descendant is left, and says how many it was.
fn kill_all(cgroup: Option<&str>, mut first: Option<(Pid, &mut Option<Outcome>)>) -> u32 {
    let mut killed = BTreeSet::new();
    loop {
        if let Some(cgroup) = cgroup {
            // cgroup v2, "cgroup.kill": kills the whole tree against concurrent forks. Absent before Linux 5.14.
            let _ = std::fs::write(Path::new(cgroup).join("cgroup.kill"), "1");
        }
        descendants::kill_below_once(getpid(), &mut killed);
        let childless = match &mut first {
            Some((pid, outcome)) => reap_all(*pid, outcome),
            None => reap_all(getpid(), &mut None),
        };
        if childless {
            break;
        }
        descendants::await_one_of(getpid(), KILL_PAUSE);
    }
    if let Some(cgroup) = cgroup {
        let _ = std::fs::remove_dir(cgroup);
    }
    u32::try_from(killed.len()).unwrap_or(u32::MAX)
}

/// Reaps whatever has ended, keeps the outcome of the workload's first process; true when no child is left.
fn reap_all(first: Pid, outcome: &mut Option<Outcome>) -> bool {
    loop {
        match descendants::reap() {
            Reaped::One(pid, status) if pid == first => *outcome = Some(outcome_of(status)),
            Reaped::One(..) => {}
            Reaped::NoneEnded => return false,
            Reaped::Childless => return true,
        }
    }
}

fn outcome_of(status: WaitStatus) -> Outcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(signal)) => Outcome::Signalled(signal),
        (None, None) => Outcome::Unobserved,
    }
}

/// A timer on CLOCK_BOOTTIME, which goes on while the machine is suspended.
struct Deadline {
    timer: OwnedFd,
    at_boottime_ms: u64,
    /// It was drawn nearer by a drain, and nothing prolongs it.
    draining: bool,
}

impl Deadline {
    fn new() -> rustix::io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Self { timer, at_boottime_ms: 0, draining: false })
    }

    fn set(&mut self, at_boottime_ms: u64) -> rustix::io::Result<()> {
        if self.draining && at_boottime_ms >= self.at_boottime_ms {
            return Ok(());
        }
        let at_boottime_ms = at_boottime_ms.max(1); // all zero would disarm it: timerfd_settime(2)
        let seconds = i64::try_from(at_boottime_ms / 1_000).map_err(|_| rustix::io::Errno::INVAL)?;
        let nanoseconds = i64::try_from(at_boottime_ms % 1_000).unwrap_or(0).saturating_mul(1_000_000);
        let it_value = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        self.at_boottime_ms = at_boottime_ms;
        Ok(())
    }
}

/// No key may reach a core file.
pub fn forbid_core_dumps() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

const LAUNCH_TIMEOUT_S: i64 = 5;
const FREEZE_TIMEOUT_S: i64 = 1;
const LAUNCH_ERROR_CAP_BYTES: u64 = 4096;
/// Orphans that were adopted and ended are reaped at least this often.
const REAP_INTERVAL_S: i64 = 10;
/// A pass that missed a process born meanwhile is repeated at least this often.
const KILL_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
