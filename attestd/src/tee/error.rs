//! What can go wrong with a TEE, told apart by what must follow from it. All of it is a fault: we could not find out.

use std::io;

use rustix::io::Errno;

/// A TEE did not give the report that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TeeError {
    /// No answer within the deadline; the source and its thread are given up for good.
    #[error("the TEE did not answer {doing} within {deadline_ms} ms")]
    Hung {
        /// What was asked.
        doing: &'static str,
        /// How long, in milliseconds.
        deadline_ms: u64,
    },
    /// The device, directory or socket is not there, or nothing is behind it.
    #[error("{place}: {why}: there is no TEE to ask")]
    Lost {
        /// Where it should be.
        place: String,
        /// What the system said.
        why: String,
    },
    /// This user may not use it.
    #[error("{place}: not permitted; reports are for root or for whom an administrator names")]
    NotPermitted {
        /// What was refused.
        place: String,
    },
    /// The system failed for another reason.
    #[error("{doing} {place}: {why}")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// To what.
        place: String,
        /// What the system said.
        why: String,
    },
    /// Another writer changed the request while the report was made, each time.
    #[error("the report's request was changed by another writer during each of {attempts} attempts")]
    Unstable {
        /// How often it was tried.
        attempts: u32,
    },
    /// Another writer changed the request while the report was made, this time.
    #[error("the report's request was changed by another writer")]
    Raced,
    /// Another program changed or removed the request that the watch keeps, which nobody but this daemon has reason to touch.
    #[error("{place}: {why}: another program uses this daemon's request, or the TEE's interface began anew")]
    Disturbed {
        /// The request.
        place: String,
        /// What is other than it was left.
        why: String,
    },
    /// The platform understood and said no.
    #[error("the TEE refused: {why}")]
    Refused {
        /// Its reason, for the log.
        why: String,
    },
    /// Another platform's reports than the configuration says.
    #[error("reports come from {got:?}, the configuration says {want}")]
    OtherPlatform {
        /// Provider named by the source.
        got: String,
        /// Provider of the configured platform.
        want: &'static str,
    },
    /// The configured privilege level is one that this guest may not ask reports for.
    #[error("tee.privlevel is {got}, this guest may ask for {floor} and above")]
    BelowFloor {
        /// Configured.
        got: u32,
        /// Lowest that may be asked for (`privlevel_floor`).
        floor: u32,
    },
    /// Something else than a report of this platform.
    #[error("{what} from the TEE: {why}")]
    Malformed {
        /// Which part.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Longer than any report.
    #[error("{what} from the TEE has more than {cap_bytes} bytes")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// The cap.
        cap_bytes: usize,
    },
    /// The thread that owns the source has ended.
    #[error("the TEE's thread has ended")]
    Ended,
}

impl TeeError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Hung { .. } => "fault.tee_hung",
            Self::Lost { .. } | Self::Ended => "fault.tee_lost",
            Self::NotPermitted { .. } => "fault.tee_not_permitted",
            Self::Unreachable { .. } => "fault.tee_unreachable",
            Self::Unstable { .. } | Self::Raced => "fault.tee_unstable",
            Self::Disturbed { .. } => "fault.tee_disturbed",
            Self::Refused { .. } | Self::BelowFloor { .. } => "fault.tee_refused",
            Self::OtherPlatform { .. } => "fault.tee_other_platform",
            Self::Malformed { .. } | Self::TooLarge { .. } => "fault.tee_malformed",
        }
    }

    /// Whether the TEE may be another one, or none, from now on: what ran on its word must not go on.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Hung { .. } | Self::Lost { .. } | Self::Ended | Self::OtherPlatform { .. } => true,
            Self::NotPermitted { .. }
            | Self::Unreachable { .. }
            | Self::Unstable { .. }
            | Self::Raced
            | Self::Disturbed { .. }
            | Self::Refused { .. }
            | Self::BelowFloor { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => false,
        }
    }

    /// What an error of the system's means at `place`.
    pub(super) fn of_io(doing: &'static str, place: impl Into<String>, error: &io::Error) -> Self {
        let (place, why) = (place.into(), error.to_string());
        match Errno::from_io_error(error) {
            // ENXIO and ENODEV: no provider has registered, or it has gone (configfs-tsm, mkdir).
            Some(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOTDIR | Errno::CONNREFUSED) => {
                Self::Lost { place, why }
            }
            Some(Errno::NOTCONN | Errno::CONNRESET | Errno::PIPE) => Self::Lost { place, why },
            Some(Errno::ACCESS | Errno::PERM) => Self::NotPermitted { place },
            // EWOULDBLOCK: the request changed since the report was made (configfs-tsm, outblob); EBUSY: it is being made.
            Some(Errno::WOULDBLOCK | Errno::BUSY) => Self::Raced,
            _ => Self::Unreachable { doing, place, why },
        }
    }
}
