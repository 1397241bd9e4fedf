//! Governing what somebody else started: the processes of a cgroup, found by it and ended by it.
//!
//! They are no children of ours: nothing of what the launcher gives up is given up, and who leaves the cgroup (root, or
//! whoever may write to another) has left. What is held to is what they run at the start, looked at while all stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::control::{Attach, EndCause, Ended, Outcome, Report, StartFault};
use super::{Deadline, Followed, control, follow, freeze, thaw};
use crate::gateway::hash;

/// A cgroup that may be governed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    path: PathBuf,
}

/// Why a cgroup cannot be governed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is none, or none that can be ended as a whole.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// Its path.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// A process of it runs something else than the others, or than what was authorized.
    #[error("process {pid} runs {}, expected {}", hex::encode(got), hex::encode(expected))]
    Executable {
        /// Which process.
        pid: i32,
        /// SHA-256 of what it runs.
        got: [u8; 32],
        /// SHA-256 of what it should.
        expected: [u8; 32],
    },
}

impl Attached {
    /// Takes a directory of cgroup v2 that the kernel can kill as a whole and that does not hold this very process.
    ///
    /// # Errors
    /// [`AttachError::Unfit`].
    pub fn open(path: &Path) -> Result<Self, AttachError> {
        let unfit = |what: String| AttachError::Unfit { path: path.to_owned(), what };
        let real = fs::canonicalize(path).map_err(|error| unfit(error.to_string()))?;
        let kind = rustix::fs::statfs(&real).map_err(|errno| unfit(errno.to_string()))?.f_type;
        if u64::try_from(kind).ok() != Some(CGROUP2_MAGIC) {
            return Err(unfit("is no directory of cgroup v2".to_owned()));
        }
        // The root of the hierarchy has neither; cgroup.kill came with Linux 5.14.
        if ["cgroup.kill", "cgroup.freeze", "cgroup.events"].iter().any(|file| !real.join(file).exists()) {
            return Err(unfit("cannot be frozen and killed as a whole".to_owned()));
        }
        for file in ["cgroup.kill", "cgroup.freeze"] {
            let opened = File::options().write(true).open(real.join(file));
            opened.map_err(|error| unfit(format!("may not be ended or frozen by this user: {file}: {error}")))?;
        }
        let attached = Self { path: real };
        let members = attached.members().map_err(|error| unfit(error.to_string()))?;
        if members.is_empty() {
            return Err(unfit("holds no process".to_owned()));
        }
        if members.contains(&getpid().as_raw_pid()) {
            return Err(unfit("holds this daemon".to_owned()));
        }
        Ok(attached)
    }

    /// Its path, resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its processes, those of the cgroups below it included.
    pub(crate) fn members(&self) -> io::Result<BTreeSet<i32>> {
        let (mut members, mut folders) = (BTreeSet::new(), vec![self.path.clone()]);
        let mut seen = 0_usize;
        while let Some(folder) = folders.pop() {
            seen = seen.saturating_add(1);
            if seen > FOLDERS_CAP {
                return Err(io::Error::other("more than 4096 cgroups"));
            }
            let listed = fs::read_to_string(folder.join("cgroup.procs"))?;
            members.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(members)
    }

    /// What all of its processes run; refused where they do not run the same.
    pub(crate) fn executable(&self, expected: Option<[u8; 32]>) -> Result<(i32, PathBuf, [u8; 32]), AttachError> {
        let unfit = |what: String| AttachError::Unfit { path: self.path.clone(), what };
        let mut hashed: BTreeMap<(u64, u64), [u8; 32]> = BTreeMap::new();
        let mut first: Option<(i32, PathBuf, [u8; 32])> = None;
        for pid in self.members().map_err(|error| unfit(error.to_string()))? {
            let unreadable = |error: io::Error| unfit(format!("what process {pid} runs: {error}"));
            // The file behind this link is the one that runs, whatever its name now leads to.
            let link = format!("/proc/{pid}/exe");
            let file = match File::open(&link) {
                Ok(file) => file,
                Err(error) if has_ended(pid) => {
                    tracing::debug!(pid, %error, "ended meanwhile");
                    continue;
                }
                Err(error) => return Err(unreadable(error)),
            };
            let metadata = file.metadata().map_err(unreadable)?;
            // What runs cannot be written (ETXTBSY, execve(2)): one file has one digest.
            let got = match hashed.get(&(metadata.dev(), metadata.ino())) {
                Some(known) => *known,
                None => hash(&file).map_err(unreadable)?,
            };
            hashed.insert((metadata.dev(), metadata.ino()), got);
            let expected = expected.or_else(|| first.as_ref().map(|(_, _, digest)| *digest)).unwrap_or(got);
            if got != expected {
                return Err(AttachError::Executable { pid, got, expected });
            }
            if first.is_none() {
                first = Some((pid, fs::read_link(&link).map_err(unreadable)?, got));
            }
        }
        first.ok_or_else(|| unfit("holds no process".to_owned()))
    }

    /// Kills all of it and waits until nothing is left; says how many it was.
    pub(crate) fn kill(&self) -> u32 {
        let mut killed = BTreeSet::new();
        loop {
            match self.members() {
                Ok(members) if members.is_empty() => break,
                Ok(members) => killed.extend(members),
                Err(_) => break, // the cgroup itself is gone, and with it all that was in it
            }
            let _ = fs::write(self.path.join("cgroup.kill"), "1");
            let Ok(events) = File::open(self.path.join("cgroup.events")) else { break };
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&KILL_PAUSE));
        }
        u32::try_from(killed.len()).unwrap_or(u32::MAX)
    }

    fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }
}

/// SIGTERM to every process of a cgroup. A pid that was reused meanwhile is no member, and is looked for again.
pub(super) fn terminate(cgroup: &Path) -> io::Result<()> {
    let attached = Attached { path: cgroup.to_owned() };
    for pid in attached.members()? {
        let opened = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(pidfd) = opened
            && attached.members()?.contains(&pid)
        {
            let _ = pidfd_send_signal(&pidfd, Signal::TERM); // it may just have ended
        }
    }
    Ok(())
}

fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

/// Takes charge of a cgroup: all of it stands still while it is looked at, and goes on under a deadline, or untouched.
pub(super) fn take_charge(attach: &Attach) -> Result<(Attached, i32), StartFault> {
    let failed = |error: AttachError| StartFault::from(error.to_string());
    let attached = Attached::open(Path::new(&attach.cgroup)).map_err(failed)?;
    let expected: [u8; 32] = hex::decode(&attach.executable)
        .ok()
        .and_then(|digest| digest.try_into().ok())
        .ok_or("the authorized digest is none")?;
    if freeze(&attach.cgroup).is_none() {
        let _ = thaw(&attach.cgroup); // as it was
        return Err("its processes did not stand still".into());
    }
    let looked = attached.executable(Some(expected));
    thaw(&attach.cgroup).map_err(|error| format!("let it go on: {error}"))?;
    let (pid, ..) = looked.map_err(failed)?;
    Ok((attached, pid))
}

/// Waits for a reason to end it, then ends it.
pub(super) fn watch(
    channel: BorrowedFd<'_>,
    daemon: BorrowedFd<'_>,
    deadline: &mut Deadline,
    attached: &Attached,
) -> Ended {
    let cgroup = attached.path().to_string_lossy().into_owned();
    let mut frozen = false;
    let cause = loop {
        let Ok(mut events) = File::open(attached.path().join("cgroup.events")) else { break EndCause::WorkloadExited };
        let mut read = String::new();
        let _ = events.rewind().and_then(|()| events.read_to_string(&mut read)); // what was read is not signalled again
        if !attached.is_populated() {
            break EndCause::WorkloadExited;
        }
        let mut sources = [
            PollFd::new(&channel, PollFlags::IN),
            PollFd::new(&daemon, PollFlags::IN),
            PollFd::new(&deadline.timer, PollFlags::IN),
            PollFd::new(&events, PollFlags::PRI),
        ];
        if let Err(errno) = poll(&mut sources, None)
            && errno != rustix::io::Errno::INTR
        {
            break EndCause::DaemonLost; // cannot watch any more: the safe end
        }
        let [order, lost, due, _] = sources.map(|source| !source.revents().is_empty());
        if due && !frozen {
            break if deadline.draining { EndCause::Killed } else { EndCause::DeadlineReached };
        }
        if lost {
            break EndCause::DaemonLost;
        }
        if order {
            match follow(channel, deadline, Some(&cgroup)) {
                Followed::On => {}
                Followed::Frozen => frozen = true,
                Followed::End(cause) => break cause,
            }
        }
    };
    Ended { outcome: Outcome::Unobserved, cause, killed: attached.kill() }
}

/// The life of a supervisor that governs what it did not start.
pub(super) fn supervise(
    channel: BorrowedFd<'_>,
    daemon: BorrowedFd<'_>,
    deadline: &mut Deadline,
    attach: &Attach,
) -> Result<(), StartFault> {
    let (attached, pid) = take_charge(attach)?;
    if control::send(channel, &Report::Started { pid }, &[]).is_err() {
        attached.kill();
        return Ok(());
    }
    let ended = watch(channel, daemon, deadline, &attached);
    let _ = control::send(channel, &Report::Ended(ended), &[]); // nobody to tell if the daemon is gone
    Ok(())
}

/// linux/magic.h, CGROUP2_SUPER_MAGIC.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
const FOLDERS_CAP: usize = 4096;
const KILL_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
