//! Witnessing (C2SP tlog-witness): we cosign what partners' logs become, and ask them to cosign what ours does.
//!
//! A log that shows two histories must show one of them to each witness, and then has too few cosignatures on either.

mod anchor;
mod client;
mod cosigned;
mod cosigners;
pub mod gather;
pub mod keeper;
mod needed;
mod partners;
pub mod serve;
mod table;

use audit::checkpoint::LogIdentity;
use evidence::names::DomainName;

pub use client::{WitnessAt, WitnessPeer};
pub use cosigned::{CosignedHead, QUORUM_WITHIN, Quorum, stored};
pub use cosigners::{Cosigner, Cosigners};
pub use gather::{GatherParts, gather};
pub use keeper::{Fork, Keeper, KeeperParts, NotCosigned};
pub use needed::Needed;
pub use partners::{Derived, follow, fork_teller};
pub use table::{cosigned_notes, cosigned_of};

/// A log that this domain watches: a partner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessedLog {
    /// Whose.
    pub domain: DomainName,
    /// Its origin and the keys that may sign for it.
    pub log: LogIdentity,
}
