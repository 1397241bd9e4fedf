//! What may run, where, until when?
//!
//! Intents and the artifacts that authorize them, the lease that ends by itself, the halt that does not, and the signed
//! state (bundles, governance states, revocations, statements) by which domains agree on all of it.
//!
//! Pure: no IO, no clock, no randomness, no logging. Time arrives as an argument: `UnixSeconds` where a signed window is
//! judged, milliseconds since boot where a lease runs; the two are never mixed.
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

pub mod artifact;
mod codec;
pub mod denial;
pub mod end;
pub mod federation_grant;
pub mod fence;
pub mod governance_state;
pub mod halt;
pub mod intent;
pub mod isolation;
pub mod jwk;
pub mod jwt_svid;
pub mod key_share;
pub mod lease;
pub mod node_key;
pub mod on_halt;
pub mod parentage;
pub mod partner;
pub mod partner_endpoint;
pub mod passport;
pub mod revocation;
pub mod rotation;
pub mod scope;
pub mod statement;
pub mod svid;
pub mod text;
pub mod trust_bundle;
pub mod witness_policy;

#[cfg(test)]
mod fixture;

pub use denial::GovernanceDenial;
