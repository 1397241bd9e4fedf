//! What a lookup is asked with: facts parsed from evidence, and the time judged at.

use evidence::time::UnixSeconds;

use super::key::{CspId, PckCa, SnpLine};

/// Which keys an SNP report was signed under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpKey {
    /// Product line.
    pub line: SnpLine,
    /// REPORTED_TCB, as it stands in the report.
    pub tcb: [u8; 8],
    /// Kind of key, from SIGNING_KEY.
    pub signer: SnpSigner,
}

/// Whose key signed a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnpSigner {
    /// The chip's.
    Vcek {
        /// CHIP_ID.
        chip_id: [u8; 64],
    },
    /// A service provider's, of which a report says nothing.
    Vlek {
        /// Which provider.
        csp: Csp,
    },
}

/// A service provider, where it is known from enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Csp {
    /// This one.
    Named(CspId),
    /// Not known yet. Found is only what the evidence brought, or the VLEK of the one provider that has any.
    Unknown,
}

/// Which platform a TD quote came from, by its PCK certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TdxKey {
    /// Platform family.
    pub fmspc: [u8; 6],
    /// Issuer of the PCK certificate.
    pub ca: PckCa,
}

/// The time that is judged at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Now: what is missing is asked of the configured caches.
    Now(UnixSeconds),
    /// Then, for evidence of its own time: only what is stored.
    Then(UnixSeconds),
}

impl At {
    pub(super) const fn seconds(self) -> u64 {
        match self {
            Self::Now(at) | Self::Then(at) => at.0,
        }
    }
}
