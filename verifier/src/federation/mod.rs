//! Other domains: what is published for them, what is held of them, and how it stays current.
//!
//! `surface` is the public HTTPS side, `sync` pulls from partners and tells them of what is new here; what either may
//! conclude is decided by `governance::partner` alone. Partners are trusted and distrusted by orders of the policy
//! authority (`governor::partners`).

mod client;
pub(crate) mod concerned;
pub mod gossip;
mod hints;
pub mod jwks;
pub mod listener;
mod messages;
mod partners;
mod pull;
mod spiffe;
pub mod surface;
pub mod sync;
pub(crate) mod table;

pub use client::ExchangeFailure;
pub(crate) use client::{Https, https};
pub use listener::PublicListener;
pub(crate) use messages::{
    BUNDLE_CAP_BYTES, LoggedState, REVOCATIONS_CAP_BYTES, read as read_message, revocation_list,
};
pub use partners::{HeldPartner, Partners};
pub use spiffe::SpiffeServer;

pub(crate) use partners::{PARTNERS_CAP, carries};
