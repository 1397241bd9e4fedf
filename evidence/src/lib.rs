//! Is it authentic, and an answer to our challenge?
//!
//! Readers for the evidence that machines send (TPM 2.0 quotes and what hangs on them), the checks that
//! decide whether it was signed by hardware we trust, and the binding that ties it to one challenge on one
//! connection. Also the two readers that every other crate shares, so that there is one view of the bytes:
//! deterministic CBOR ([`cbor`]) and COSE_Sign1 ([`cose`]).
//!
//! Pure: no IO, no clock, no randomness, no logging. Time arrives as [`time::UnixSeconds`].
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

pub mod anchors;
pub mod binding;
pub mod cbor;
pub mod challenge;
mod claims;
mod cmw;
pub mod cose;
pub mod denial;
pub mod digest;
mod endorsements;
pub mod event_log;
pub mod evidence;
pub mod hcl;
pub mod ima;
pub mod kind;
pub mod ledger;
pub mod names;
pub mod node_key;
mod reader;
pub mod register;
pub mod sev_snp;
pub mod tdx;
pub mod tee;
pub mod threshold;
pub mod time;
pub mod tpm;
pub mod x509;

pub use anchors::TrustAnchors;
pub use claims::Claims;
pub use denial::EvidenceDenial;
pub use endorsements::Endorsements;
pub use evidence::{Authentic, Bound, Evidence, verify};
pub use kind::EvidenceKind;
