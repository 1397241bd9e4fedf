//! Intel TDX (and, for saved evidence alone, SGX) by DCAP quotes.
//!
//! A quote is signed by an attestation key; a quoting enclave vouches for that key, the PCK certificate's key signs
//! the enclave's report, and Intel's collateral says what the security versions in all of them are worth today.
//! Two things are verified once and kept: the PCK chain ([`VerifiedPck`], by the bytes of the chain in the quote) and
//! the collateral ([`VerifiedCollateral`], by its digest). A quote then costs its own two signatures.

#[allow(dead_code, reason = "its entry points are for crate::evidence")]
pub mod appraisal;
pub mod body;
mod chain;
pub mod collateral;
pub mod evidence;
mod json;
pub mod pck;
mod pem;
pub mod qe_identity;
pub mod quote;
pub mod roots;
pub mod tcb_info;
pub mod tcb_level;
pub mod td_attributes;
pub mod verdict;
pub mod verified_collateral;

pub use self::{
    appraisal::{CcLogClaims, TdxClaims, TdxEndorsement},
    collateral::{Collateral, CollateralParts, SignedPart},
    evidence::{TdxEvidence, TdxParts},
    pck::VerifiedPck,
    quote::{Quote, TeeType},
    roots::TdxRoots,
    tcb_level::TcbStatus,
    verdict::{AuthenticQuote, TcbVerdict},
    verified_collateral::VerifiedCollateral,
};
