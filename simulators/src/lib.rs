//! A fake AMD and a fake Intel: evidence in exactly the form of the real thing, under roots of their own.
//!
//! [`amd`] makes SEV-SNP reports with their certificates and CRL, [`intel`] makes TDX quotes with their collateral and
//! event logs, [`process`] serves both as a guest device would. Every field is open, so that a test can start from
//! evidence that is right and break one thing. Nothing here is shared with the readers under test.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod amd;
pub mod asn1;
pub mod ccel;
pub mod intel;
pub mod keys;
pub mod layout;
pub mod process;
pub mod x509;

use thiserror::Error;

/// What can go wrong while making evidence.
#[derive(Debug, Error)]
pub enum SimulatorError {
    /// A key could not be made or read.
    #[error("{0} refused")]
    Key(&'static str),
    /// The cryptographic library did not sign.
    #[error("signing failed")]
    Signing,
    /// No text.
    #[error("{0} gives no JSON")]
    Text(&'static str),
    /// No calendar date.
    #[error("{0} is no Unix time before the year 10000")]
    Time(u64),
}
