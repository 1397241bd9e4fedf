//! What tests share: machines made of software that send evidence of genuine form, so that a test can change
//! one thing and expect one denial. Nothing but tests links this.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test that goes wrong here should stop at once"
)]

pub mod activation;
pub mod authority;
pub mod boot;
pub mod defects;
pub mod genuine;
pub mod soft_tpm;
pub mod swtpm;
