//! Why the gateway starts nothing.

use std::io;
use std::path::PathBuf;

use governance::GovernanceDenial;

use super::{AttachError, EnvironmentError, ExecutableError, ImageError, Unavailable};
use crate::supervise::control::ControlError;

/// Why a workload was not started.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// What runs already cannot be governed.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The executable is not, or no longer, what was authorized.
    #[error(transparent)]
    Executable(#[from] ExecutableError),
    /// The image cannot be run.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// So many images wait for their executions to be authorized that there is no place for another.
    #[error("too many images wait to be started")]
    TooManyImages,
    /// The artifacts do not authorize it.
    #[error(transparent)]
    NotAuthorized(#[from] GovernanceDenial),
    /// A variable that the intent does not name.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The request cannot be carried out.
    #[error("{what}")]
    Request {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The supervisor could not start it.
    #[error("start the workload: {what}")]
    NotStarted {
        /// What failed.
        what: String,
    },
    /// The machine does not give the isolation that the intent asks for.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The supervisor died.
    #[error("the workload's supervisor died")]
    SupervisorLost,
    /// The control channel failed.
    #[error("{0}")]
    Control(String),
    /// The cgroup could not be made.
    #[error("make cgroup {}: {source}", path.display())]
    Cgroup {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call failed.
    #[error("start the workload: {0}")]
    System(#[from] io::Error),
}

impl GatewayError {
    /// What ran already was not taken under a lease, and goes on as it did.
    pub(super) const fn left_untouched(&self) -> bool {
        match self {
            Self::Executable(_) | Self::NotStarted { .. } | Self::Unavailable(_) => true,
            // It may stand still, or its supervisor may have begun to govern it.
            Self::Attach(_)
            | Self::NotAuthorized(_)
            | Self::Image(_)
            | Self::TooManyImages
            | Self::Environment(_)
            | Self::Request { .. }
            | Self::SupervisorLost
            | Self::Control(_)
            | Self::Cgroup { .. }
            | Self::System(_) => false,
        }
    }
}

impl From<ControlError> for GatewayError {
    fn from(error: ControlError) -> Self {
        Self::Control(error.to_string())
    }
}
