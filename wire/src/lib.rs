//! The protocol between nodes, verifiers, operators and local clients.
//!
//! [`proto`] is generated from `proto/attestd.proto`. Nothing in it is bounded or validated: every message that a peer
//! sent goes through a `TryFrom` into a type of this crate before anything else looks at it.
//! Signed and content-addressed things travel as the exact bytes that were signed or hashed.

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

pub mod bounded;
pub mod protocol;

/// Generated messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod proto {
    tonic::include_proto!("attestd.v1");
}

/// The SPIFFE Workload API, generated from `proto/spiffe.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::restriction)]
pub mod spiffe {
    tonic::include_proto!("_");
}
