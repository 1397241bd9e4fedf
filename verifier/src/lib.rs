//! One domain's verifier.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod anchors;
pub mod ca;
pub mod challenges;
pub mod cli;
pub mod clock;
pub mod config;
pub mod evidence_cli;
pub mod evidence_store;
pub mod governance_state;
pub mod governor;
pub mod init;
pub mod keys;
pub mod leases;
pub mod listen;
pub mod live;
pub mod log;
pub mod metrics;
pub mod nodes;
pub mod open;
pub mod operator;
pub mod payloads;
pub mod pin;
pub mod proof;
pub mod random;
pub mod signatures;
pub mod state;
pub mod store;
pub mod tls;
pub mod wrap;
