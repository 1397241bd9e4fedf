//! The channel between the daemon and a workload's supervisor: one small JSON document per `SOCK_SEQPACKET` message.
//!
//! The kernel keeps message boundaries and carries descriptors (`SCM_RIGHTS`, unix(7)) with the first message, so there is
//! no framing of our own to get wrong and no descriptor is inherited by number. End of file means that the other side is
//! gone, whatever it died of.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use governance::isolation::Isolation;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::confine::Unavailable;

/// What the daemon orders.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Order {
    /// First and once; the descriptors come with it: executable, stdout, stderr, in an image its user and its mount
    /// namespace, then one per key.
    Start(Box<Start>),
    /// First and once, instead: govern what runs already.
    Attach(Attach),
    /// The execution may go on until then.
    Deadline {
        /// CLOCK_BOOTTIME.
        at_boottime_ms: u64,
    },
    /// Stop every process of it where it stands, for forensics; only with a cgroup. The lease's end no longer counts.
    Freeze,
    /// Stop every process of it where it stands, until told to go on; only with a cgroup. The lease's end counts.
    Pause,
    /// Let it go on.
    Resume,
    /// Tell every process of it to end (SIGTERM), and end what is left after a while; never later than the lease does.
    Drain {
        /// How long that is.
        grace_ms: u32,
    },
    /// End it now.
    Kill,
}

/// What to govern.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// cgroup v2 directory that holds it.
    pub cgroup: String,
    /// SHA-256 of what each process in it must run, hexadecimal.
    pub executable: String,
    /// CLOCK_BOOTTIME.
    pub ends_at_boottime_ms: u64,
}

/// What to start.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Arguments, the workload's own name first.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Whether it runs in an image.
    pub in_image: bool,
    /// Absolute.
    pub working_directory: String,
    /// Names of the variables that tell the workload where its keys are, in the order of the key descriptors.
    pub key_variables: Vec<String>,
    /// What it gives up before its first instruction.
    pub isolation: Isolation,
    /// cgroup v2 directory of this execution, made by the daemon; absent when none is configured.
    pub cgroup: Option<String>,
    /// CLOCK_BOOTTIME.
    pub ends_at_boottime_ms: u64,
}

/// What the supervisor reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Report {
    /// The workload's executable is running.
    Started {
        /// Its process.
        pid: i32,
    },
    /// Nothing was started.
    NotStarted {
        /// Why.
        fault: StartFault,
    },
    /// Every process of it stands still.
    Frozen {
        /// How many.
        processes: u32,
    },
    /// Every process of it stands still until told to go on.
    Paused {
        /// How many.
        processes: u32,
    },
    /// It goes on.
    Resumed,
    /// Everything that descended from the workload is gone.
    Ended(Ended),
}

/// Why nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum StartFault {
    /// The machine does not give what the intent asks for.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// Something failed.
    #[error("{what}")]
    Failed {
        /// What it was, for the operator.
        what: String,
    },
}

impl From<String> for StartFault {
    fn from(what: String) -> Self {
        Self::Failed { what }
    }
}

impl From<&str> for StartFault {
    fn from(what: &str) -> Self {
        what.to_owned().into()
    }
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// What became of the workload's first process.
    pub outcome: Outcome,
    /// Why it ended.
    pub cause: EndCause,
    /// Processes that were killed.
    pub killed: u32,
}

/// What became of the workload's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It exited by itself with this status.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// Nobody could observe it: its supervisor was killed.
    Unobserved,
}

impl Outcome {
    /// As a shell reports it: the status, or 128 + signal.
    #[must_use]
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => signal.saturating_add(128),
            Self::Unobserved => 137,
        }
    }
}

/// Why an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// The workload exited by itself.
    WorkloadExited,
    /// The daemon ordered it.
    Killed,
    /// The lease ran out.
    DeadlineReached,
    /// The daemon is gone.
    DaemonLost,
    /// The supervisor is gone; the daemon killed what was left.
    SupervisorLost,
}

/// A connected pair, neither end inherited by a child that does not ask for it.
pub fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one message; never blocks (a stopped receiver must not stop the sender).
pub fn send<T: Serialize>(channel: impl AsFd, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), ControlError> {
    let bytes = serde_json::to_vec(message).map_err(ControlError::Message)?;
    if bytes.len() > MESSAGE_CAP_BYTES || descriptors.len() > DESCRIPTORS_CAP {
        return Err(ControlError::TooLarge { got_bytes: bytes.len(), cap_bytes: MESSAGE_CAP_BYTES });
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_CAP))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ControlError::TooLarge { got_bytes: bytes.len(), cap_bytes: MESSAGE_CAP_BYTES });
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(channel, &[IoSlice::new(&bytes)], &mut ancillary, flags).map_err(ControlError::Channel)?;
    Ok(())
}

/// Receives one message with its descriptors; `None` when the other side is gone.
pub fn receive<T: DeserializeOwned>(channel: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>, ControlError> {
    let mut bytes = vec![0; MESSAGE_CAP_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_CAP))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(
            &channel,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(ControlError::Channel(errno)),
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(ControlError::TooLarge { got_bytes: received.bytes, cap_bytes: MESSAGE_CAP_BYTES });
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let message = bytes.get(..received.bytes).unwrap_or_default();
    Ok(Some((serde_json::from_slice(message).map_err(ControlError::Message)?, descriptors)))
}

/// Why a message could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket failed.
    #[error("control channel: {0}")]
    Channel(#[source] Errno),
    /// Not a message of ours.
    #[error("control message: {0}")]
    Message(#[source] serde_json::Error),
    /// Over the cap.
    #[error("control message of {got_bytes} bytes is over the cap of {cap_bytes} bytes")]
    TooLarge {
        /// Its length.
        got_bytes: usize,
        /// The cap.
        cap_bytes: usize,
    },
}

/// Arguments and environment of a workload fit in a lineage record (64 KiB); JSON may double them.
pub const MESSAGE_CAP_BYTES: usize = 128 * 1024;
/// Keys of one execution.
pub const KEYS_CAP: usize = governance::scope::KEYS_CAP;
/// Executable, stdout, stderr, two namespaces and the keys.
const DESCRIPTORS_CAP: usize = KEYS_CAP + 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_messages_with_descriptors_and_reports_a_lost_peer() {
        let (ours, theirs) = pair().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        send(&ours, &Order::Deadline { at_boottime_ms: 7 }, &[reader.as_fd()]).unwrap();
        let (order, descriptors) = receive::<Order>(&theirs).unwrap().unwrap();
        assert!(matches!(order, Order::Deadline { at_boottime_ms: 7 }));
        assert_eq!(descriptors.len(), 1);
        drop(ours);
        assert!(receive::<Order>(&theirs).unwrap().is_none());
    }

    #[test]
    fn refuses_what_is_not_ours_or_too_large() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &serde_json::json!({"explode": 1}), &[]).unwrap();
        assert!(matches!(receive::<Order>(&theirs), Err(ControlError::Message(_))));
        let long = "x".repeat(MESSAGE_CAP_BYTES);
        assert!(matches!(send(&ours, &long, &[]), Err(ControlError::TooLarge { .. })));
    }
}
