//! What others state about a node's machine, fetched before any judgement.
//!
//! [`ProvenNodes`] holds what enrolment proved of TPMs. Certificates, revocation lists and collateral of AMD and Intel
//! are kept under what they are about ([`key`]), told apart by content ([`recognise`]), stored in a table ([`table`])
//! and looked up before judging ([`lookup`]). The table is only a cache: everything in it is verified again by whoever
//! judges with it.

mod amd;
mod asked;
pub mod bundle;
mod cache;
pub mod document;
mod intel;
mod keeper;
pub mod key;
pub mod lookup;
pub mod missing;
mod offered;
mod proven;
pub mod recognise;
pub mod table;
mod x509;

pub use self::asked::{At, Csp, SnpKey, SnpSigner, TdxKey};
pub use self::cache::FetchFailure;
pub use self::lookup::EndorsementStore;
pub use self::missing::{Missing, Unavailable};
pub use self::offered::{Endorsement, SnpDocuments, TdxDocuments};
pub use self::proven::{ProvenNodes, Unendorsed};
