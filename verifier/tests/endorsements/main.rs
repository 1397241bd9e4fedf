//! Vendors' endorsements from wherever they come to where they are judged with: caches, files, evidence.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[allow(dead_code, reason = "shared with the store's suite")]
#[path = "../store_suite/bed.rs"]
mod bed;
mod caches;
mod corpus;
mod hostile;
mod server;
mod stored;
mod vendor;

use verifier::config::{CacheUrl, EndorsementsConfig};
use verifier::endorsements::EndorsementStore;

/// A configuration that asks `url` for everything.
pub(crate) fn asking(url: &str) -> EndorsementsConfig {
    let url = CacheUrl::try_from(url.to_owned()).unwrap();
    EndorsementsConfig { amd_cache: Some(url.clone()), intel_cache: Some(url), ..EndorsementsConfig::default() }
}

/// A store of its own, and what keeps it open.
pub(crate) async fn store(config: &EndorsementsConfig) -> (EndorsementStore, (bed::Bed, verifier::log::Opened)) {
    let bed = bed::Bed::sqlite().await;
    let opened = bed.open().await;
    let store = EndorsementStore::new(opened.store.clone(), config, &[]).unwrap();
    (store, (bed, opened))
}
