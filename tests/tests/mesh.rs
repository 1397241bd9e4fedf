//! Three domains, each with its verifier, and a node that needs them together: separate processes, a proxy between them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

#[path = "mesh/bed.rs"]
mod bed;
#[path = "mesh/children.rs"]
mod children;
#[path = "mesh/conditions.rs"]
mod conditions;
#[path = "mesh/conflict.rs"]
mod conflict;
#[path = "mesh/denied.rs"]
mod denied;
#[path = "mesh/faults.rs"]
mod faults;
#[path = "mesh/gossip.rs"]
mod gossip;
#[path = "mesh/keys.rs"]
mod keys;
#[path = "mesh/liar.rs"]
mod liar;
#[path = "mesh/lineage.rs"]
mod lineage;
#[path = "mesh/partners.rs"]
mod partners;
#[path = "mesh/passport.rs"]
mod passport;
#[path = "mesh/proxy.rs"]
mod proxy;
#[path = "mesh/records.rs"]
mod records;
#[path = "mesh/rotation.rs"]
mod rotation;
#[path = "mesh/together.rs"]
mod together;
#[path = "mesh/witnesses.rs"]
mod witnesses;
