//! AMD SEV-SNP: attestation reports, the certificates of the keys that sign them, and what both prove together.
//!
//! AMD 56860 "SEV Secure Nested Paging Firmware ABI Specification" revision 1.58 (reports, certificate tables through
//! the GHCB: AMD 56421) and AMD 57230 "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface
//! Specification" revision 1.00.

#[allow(dead_code, reason = "its entry points are for crate::evidence")]
pub mod appraisal;
pub mod cert_table;
pub mod chain;
pub mod evidence;
pub mod fields;
pub mod product;
pub mod report;
pub mod roots;
pub mod tcb;
mod vek;

pub use appraisal::{Launch, SnpClaims, SnpEndorsement};
pub use cert_table::CertificateTable;
pub use chain::{AuthenticReport, Revocation, VerifiedVek};
pub use evidence::{SnpEvidence, SnpParts};
pub use fields::{GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
pub use product::{Cpuid, Product, ProductLine};
pub use report::SnpReport;
pub use roots::SnpRoots;
pub use tcb::{TcbVersion, Tcbs};
pub use vek::VekIdentity;
