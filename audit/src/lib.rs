//! Can a stranger prove what was decided?
//!
//! The lineage of every execution as signed records, the append-only log they stand in (C2SP tlog-tiles), and the
//! receipts and proof bundles by which anyone who holds public keys checks both, offline.
//!
//! Pure: no IO, no clock, no randomness, no logging.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod bundle;
pub mod checkpoint;
mod codec;
pub mod denial;
pub mod fsck;
pub mod lineage;
pub mod note;
pub mod payload;
pub mod proof;
pub mod proof_file;
pub mod receipt;
pub mod record;
pub mod tile;
pub mod tlog;
pub mod tree;
pub mod witness;

#[cfg(test)]
mod fixture;

pub use denial::AuditDenial;
