//! The daemon on a node: collects Evidence, holds leases, runs workloads under them and halts when they end.
//!
//! A node never appraises itself: this crate reaches neither reference values nor policy.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm,
        clippy::print_stderr
    )
)]

pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod demo;
pub mod enrol;
pub mod gateway;
pub mod grants;
pub mod halt_store;
pub mod journal;
mod local_api;
pub mod locked;
pub mod machine;
pub mod node;
pub mod outbox;
pub mod record_key;
pub mod state;
pub mod supervise;
mod systemd;
pub mod tee;
pub mod tls;
pub mod tpm;
pub mod watch;
