//! The process at the other end of a local connection, and which execution it belongs to.
//!
//! A pid names a process only while that lives; then another may get it. So the caller is held by the pidfd that the kernel
//! kept when it connected (`SO_PEERPIDFD`, Linux 6.5), every ancestor by one of its own, and what `/proc` says of a process
//! counts only if it still lives afterwards. Who was not found to descend from an execution's supervisor belongs to none.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use tokio::net::UnixStream;
use tonic::{Request, Status};

use super::peers::Arrived;
use crate::supervise::descendants::parent;

/// Who connected.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    uid: u32,
    process: Option<Process>,
}

/// A process that is held, so that its pid cannot become another's unseen.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: Pid,
    pidfd: Arc<OwnedFd>,
}

/// Where a process is in the tree of processes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<T> {
    /// Below this root.
    Below(T),
    /// Below this daemon by this child of it, and below no root that it knows: what is being started, or a helper of ours.
    Ours(i32),
    /// Elsewhere, or gone, or it cannot be told.
    Elsewhere,
}

impl Caller {
    /// Whoever opened this connection.
    pub(super) fn at(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().and_then(Pid::from_raw);
        // An older kernel has no such option: then the caller belongs to no execution, and may be of any.
        let pidfd = getsockopt(stream, PeerPidfd).ok();
        let process = pid.zip(pidfd).map(Process::from);
        Ok(Self { uid: credentials.uid(), process })
    }

    /// Whoever sent this request.
    ///
    /// # Errors
    /// `Unauthenticated`: over a connection that is none of ours.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let arrived = request.extensions().get::<Arrived>();
        arrived.map(|arrived| arrived.caller.clone()).ok_or_else(|| Status::unauthenticated("peer credentials unknown"))
    }

    /// Whether this kernel says safely who connects (`SO_PEERPIDFD`).
    pub(crate) fn are_told() -> bool {
        UnixStream::pair().is_ok_and(|(one, _other)| getsockopt(&one, PeerPidfd).is_ok())
    }

    /// Its user.
    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Its process; none where the kernel does not tell it safely.
    pub(crate) const fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }
}

impl From<(Pid, OwnedFd)> for Process {
    fn from((pid, pidfd): (Pid, OwnedFd)) -> Self {
        Self { pid, pidfd: Arc::new(pidfd) }
    }
}

impl Process {
    /// Holds a live process.
    fn open(pid: Pid) -> rustix::io::Result<Self> {
        Ok((pid, pidfd_open(pid, PidfdFlags::empty())?).into())
    }

    /// Its number.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Whether it is one of these, and still lives: so its number was its own when they were read.
    pub(crate) fn is_among(&self, members: &BTreeSet<i32>) -> bool {
        members.contains(&self.pid()) && self.lives()
    }

    /// As a root by which executions are told apart.
    pub(crate) fn named<T>(&self, named: T) -> (i32, (Self, T)) {
        (self.pid.as_raw_pid(), (self.clone(), named))
    }

    /// A pidfd is readable once its process has ended (pidfd_open(2)).
    fn lives(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(&*self.pidfd, PollFlags::IN)], Some(&at_once)), Ok(0))
    }

    /// The nearest of these roots that it descends from.
    pub(crate) fn place<T: Copy>(&self, roots: &BTreeMap<i32, (Self, T)>) -> Place<T> {
        let mut process = self.clone();
        for _ in 0..CLIMB_CAP {
            let Some(parent) = process.parent() else { return Place::Elsewhere };
            if let Some((root, named)) = roots.get(&parent.pid.as_raw_pid()) {
                // Alive now: so it had this pid when the parent was found by it.
                return if root.lives() && self.lives() { Place::Below(*named) } else { Place::Elsewhere };
            }
            if parent.pid == getpid() {
                return Place::Ours(process.pid.as_raw_pid());
            }
            process = parent;
        }
        Place::Elsewhere
    }

    /// Its parent, held: named before it was opened and after, by a process that still lives then.
    fn parent(&self) -> Option<Self> {
        for _ in 0..TRIES {
            let named = parent(self.pid)?;
            let opened = Self::open(named);
            let again = parent(self.pid)?;
            if !self.lives() {
                return None;
            }
            // Its parent may have ended meanwhile, and it has been given to the next reaper.
            if let Ok(opened) = opened
                && named == again
            {
                return Some(opened);
            }
        }
        None
    }
}

/// Generations between a caller and its supervisor.
const CLIMB_CAP: usize = 1024;
/// Parents of one process that may end while they are looked at.
const TRIES: usize = 64;

/// What is missing where a kernel does not tell.
pub(crate) const UNTOLD: &str = "this kernel does not tell safely which process connects (SO_PEERPIDFD, Linux 6.5): no workload is answered, and orders \
     are taken only from root, and only where the daemon is another user";

#[cfg(test)]
impl Caller {
    /// As an older kernel tells of one.
    pub(crate) const fn untold(uid: u32) -> Self {
        Self { uid, process: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn root<T>(pid: Pid, named: T) -> (i32, (Process, T)) {
        Process::open(pid).unwrap().named(named)
    }

    #[tokio::test]
    async fn a_caller_is_known_by_its_process_and_belongs_to_the_nearest_root_above_it() {
        let (one, _other) = UnixStream::pair().unwrap();
        let caller = Caller::at(&one).unwrap();
        assert_eq!(caller.uid(), rustix::process::geteuid().as_raw());
        let process = caller.process().expect("Linux 6.5");
        assert_eq!(process.pid, getpid());
        let above = rustix::process::getppid().unwrap();
        let further = parent(above).unwrap();
        let roots = BTreeMap::from([root(above, "above"), root(further, "further")]);
        assert_eq!(process.place(&roots), Place::Below("above"));
        assert_eq!(process.place(&BTreeMap::from([root(further, "further")])), Place::Below("further"));
        assert_eq!(process.place::<()>(&BTreeMap::new()), Place::Elsewhere);
    }

    #[test]
    fn a_child_of_ours_is_ours_and_no_other_root_s() {
        let mut children = [0; 2].map(|_| Command::new("sleep").arg("600").spawn().unwrap());
        let [one, other] = [&children[0], &children[1]].map(Pid::from_child);
        let place = Process::open(one).unwrap().place(&BTreeMap::from([root(other, ())]));
        // A root does not belong to itself: a supervisor is no workload.
        let itself = Process::open(one).unwrap().place(&BTreeMap::from([root(one, ())]));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let below_us = || Place::Ours(one.as_raw_pid());
        assert_eq!((place, itself), (below_us(), below_us()));
    }

    #[test]
    fn who_has_ended_belongs_nowhere_though_its_pid_may_be_another_s_by_now() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let held = Process::open(Pid::from_child(&child)).unwrap();
        child.kill().unwrap();
        // A zombie: `/proc` still names its parent.
        while held.lives() {
            std::thread::yield_now();
        }
        assert_eq!(held.place(&BTreeMap::from([root(getpid(), ())])), Place::Elsewhere);
        child.wait().unwrap();
        let stolen = Process { pid: getpid(), ..held };
        let above = rustix::process::getppid().unwrap();
        assert_eq!(stolen.place(&BTreeMap::from([root(above, ())])), Place::Elsewhere);
    }
}
