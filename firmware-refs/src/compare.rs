//! Third step of an appraisal: is every measurement one we know?

use std::sync::Arc;

use evidence::{Bound, digest::Sha256Digest, ledger::CheckLedger};

use crate::denial::{ReferenceDenial, ReferenceName};
use crate::observed::Observed;
use crate::set::ReferenceValueSet;
use crate::values::{InForce, ReferenceValues};

/// Bound evidence of which every measurement is known. Made only by [`ReferenceValues::compare`].
#[derive(Clone, Debug)]
pub struct Matched<'b> {
    bound: &'b Bound<'b>,
    by: &'b InForce,
    reference_values: Sha256Digest,
    ledger: CheckLedger,
}

impl ReferenceValues {
    /// Is every measurement of `bound` one that a single set in force knows?
    ///
    /// # Errors
    /// The first failure of the set that came nearest.
    pub fn compare<'b>(&'b self, bound: &'b Bound<'b>) -> Result<Matched<'b>, ReferenceDenial> {
        let observed = Observed::of(bound.claims(), bound.judged_at());
        let matched = self.compare_observed(&observed, bound.judged_at())?;
        let ledger = bound.ledger().union(matched.passed);
        Ok(Matched { bound, by: matched.by, reference_values: self.digest(), ledger })
    }
}

impl<'b> Matched<'b> {
    /// The evidence.
    #[must_use]
    pub const fn bound(&self) -> &'b Bound<'b> {
        self.bound
    }

    /// The set that matched.
    #[must_use]
    pub fn set(&self) -> &'b ReferenceValueSet {
        self.by.set().set()
    }

    /// Its name.
    #[must_use]
    pub fn reference(&self) -> &'b Arc<ReferenceName> {
        self.by.name()
    }

    /// Whether it was superseded and matched within its grace window.
    #[must_use]
    pub fn is_in_grace(&self) -> bool {
        self.by.is_in_grace()
    }

    /// Digest of all reference values that were in force.
    #[must_use]
    pub const fn reference_values_digest(&self) -> Sha256Digest {
        self.reference_values
    }

    /// The checks passed so far.
    #[must_use]
    pub const fn ledger(&self) -> CheckLedger {
        self.ledger
    }
}
