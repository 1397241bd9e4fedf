//! The TEE as this node's identity: reports over data of ours, asked of the kernel or of a simulator.
//!
//! [`Tee`] is what the rest of the daemon holds. It sends requests to the thread in [`actor`], which owns the one source
//! of reports: a directory in the form of configfs-tsm, `/dev/sev-guest`, or a simulator's socket. Nothing here judges a
//! report; what is compared is only whether it answers the request that was made.

pub mod actor;
pub mod configfs;
pub mod detect;
pub mod error;
pub mod guest_device;
pub mod node_key;
pub mod quote;
pub mod reports;
pub mod socket;

pub use actor::Tee;
pub use error::TeeError;
pub use reports::{TeeKind, TeeReport, TeeReports};
