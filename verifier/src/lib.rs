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

pub mod ca;
pub mod challenges;
pub mod clock;
pub mod listen;
pub mod live;
pub mod metrics;
pub mod random;
pub mod tls;
pub mod wrap;
