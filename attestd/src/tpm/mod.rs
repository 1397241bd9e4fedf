//! The TPM as this node's identity: one owner thread, typed faults, nothing left behind.
//!
//! [`Tpm`] is what the rest of the daemon holds. It sends jobs to the thread in [`actor`], which owns the only
//! connection; [`device`] is what a job may ask of a TPM, [`esys`] does it through libtss2.

pub mod actor;
pub mod device;
pub mod error;
pub mod esys;
pub mod hpke;
pub mod objects;
pub mod quote;
pub mod types;

pub use actor::Tpm;
pub use device::TpmDevice;
pub use error::TpmError;
pub use types::{ClockBreak, HandleCounts, KeyBlob, Signed};
