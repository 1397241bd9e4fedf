//! Witnesses in this process, each with its own store and log, and logs that are cosigned by them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

#[path = "../store_suite/bed.rs"]
#[allow(dead_code, reason = "another suite uses the rest")]
mod bed;
mod gathering;
mod keeping;
mod stand;
