//! Is it allowed today?
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod claims;
pub mod denial;
pub mod engine;
pub mod schema;
pub mod set;

pub use denial::{Denial, DenialClass, PolicyDenial};
