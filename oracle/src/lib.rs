//! Other implementations of the same specifications as judges over ours: `sev` for SEV-SNP, `dcap-qvl` for TDX.
//!
//! Both sides judge the same mutants of simulated evidence. Wherever they part, a reviewed entry of [`divergence`]
//! says by which clause, and which side is stricter.

pub mod divergence;
pub mod pick;
pub mod snp;
pub mod tdx;

/// What one verifier says about one piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted, with what it read, in a form that both sides share.
    Accepted(String),
    /// Refused, and why, in its own words.
    Refused(String),
}

/// Evidence with one thing changed.
pub struct Mutant<T> {
    /// What was changed: part and field, such as `report.policy`.
    pub field: String,
    /// How, for people.
    pub how: String,
    /// The evidence.
    pub evidence: T,
}

/// Instant of all evidence, Unix seconds.
pub const NOW: u64 = 1_790_000_000;
