//! Is it allowed today?
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

pub mod appraise;
pub mod cases;
pub mod check;
pub mod claims;
pub mod decide;
pub mod denial;
pub mod ear;
mod ear_json;
pub mod engine;
pub mod explain;
mod facts;
mod isolation;
mod machine;
pub mod passport;
pub mod result;
pub mod schema;
pub mod set;
mod shape;
pub mod trust;
mod value;

pub use appraise::Affirmed;
pub use decide::decide;
pub use denial::{Denial, DenialClass, PolicyDenial};
pub use trust::Trust;

#[cfg(test)]
mod testdata;
