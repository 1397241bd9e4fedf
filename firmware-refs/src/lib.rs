//! Is every measurement one we know, and where do the known values come from?
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

pub mod capture;
pub mod compare;
pub mod compute;
pub mod denial;
pub mod diff;
pub mod document;
pub mod exchange;
pub mod fields;
mod judge;
pub mod lifecycle;
pub mod observed;
pub mod revoked;
pub mod set;
pub mod signed;
pub mod text;
pub mod values;

pub use compare::Matched;
pub use denial::ReferenceDenial;
pub use revoked::RevokedSet;
pub use values::{InForce, ReferenceValues, Requirements};
