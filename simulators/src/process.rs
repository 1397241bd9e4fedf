//! The process `tee-simulator`: one machine, its state folder, and the two ways by which a guest reaches it.

mod device;
mod evidence_files;
mod knobs;
mod mount;
mod socket;
mod state;
mod tsm;

pub use device::{Answer, Device, Machine, Request};
pub use evidence_files::{write_evidence, write_roots};
pub use knobs::Knobs;
pub use mount::mount;
pub use socket::{BoundSocket, Control, bind, exchange, serve_control, serve_reports};
pub use state::{Choice, Platform, State};
pub use tsm::{Attribute, Entry, TsmErrno};

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::SimulatorError;

/// What can go wrong while serving.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// A file, folder or socket.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A state folder that says otherwise.
    #[error("{0}")]
    State(String),
    /// Evidence could not be made.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
}

/// Names what was being done when an IO error arose.
fn doing<'a>(doing: &'static str, path: impl Into<PathBuf> + 'a) -> impl FnOnce(io::Error) -> ProcessError + 'a {
    move |source| ProcessError::Io { doing, path: path.into(), source }
}
