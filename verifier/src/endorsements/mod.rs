//! What others state about a node's machine, fetched before any judgement.

mod proven;

pub use self::proven::{ProvenNodes, Unendorsed};
