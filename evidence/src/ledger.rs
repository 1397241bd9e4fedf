//! Which checks positively passed. Acceptance needs passed == required, so that a check that never ran is
//! as fatal as one that failed.

use strum::{EnumIter, IntoEnumIterator as _, IntoStaticStr};

/// Every check of the appraisal, by its fixed id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr)]
pub enum CheckId {
    /// EK certificate: fixed-shape chain to a pinned root, or EK public pinned by an operator.
    T1,
    /// EK public area: exact bytes, allowed template, same key as the certificate.
    T2,
    /// AK public area: attributes, key kind, explicit scheme; Name computed by us.
    T3,
    /// Activation secret consumed; (node, EK, AK) immutable.
    T4,
    /// Quote: magic, type, exact length, signature of the AK's scheme.
    T5,
    /// extraData equals the binding, exact length.
    T6,
    /// PCR selection equals the required one; pcrDigest recomputed from the values.
    T7,
    /// Clock: safe, counters at their baseline, strictly later than last seen.
    T8,
    /// TPM manufacturer and firmware not denied, at or above the floor.
    T9,
    /// Node key: certified by the AK, attributes and policy as required.
    T10,
    /// No resettable PCR used as evidence.
    T11,
    /// Event log within its caps.
    E1,
    /// Event log header and algorithm table consistent.
    E2,
    /// Event log replays to every required register.
    E3,
    /// One separator per PCR 0-7, nothing configuration-like after it.
    E4,
    /// Digests of hash-of-data events recomputed.
    E5,
    /// Strict grammar of PCR 7.
    E6,
    /// Signature lists divide exactly.
    E7,
    /// IMA log: template hashes, no violations, covered prefix matches PCR 10.
    E8,
    /// Measured events match the reference values, all of them.
    E9,
    /// Measured register values match the reference values.
    M1,
}

impl CheckId {
    /// Bit number in the ledger: fixed, since ledgers are logged.
    #[must_use]
    pub const fn bit(self) -> u32 {
        match self {
            Self::T1 => 0,
            Self::T2 => 1,
            Self::T3 => 2,
            Self::T4 => 3,
            Self::T5 => 4,
            Self::T6 => 5,
            Self::T7 => 6,
            Self::T8 => 7,
            Self::T9 => 8,
            Self::T10 => 9,
            Self::T11 => 10,
            Self::E1 => 16,
            Self::E2 => 17,
            Self::E3 => 18,
            Self::E4 => 19,
            Self::E5 => 20,
            Self::E6 => 21,
            Self::E7 => 22,
            Self::E8 => 23,
            Self::E9 => 24,
            Self::M1 => 32,
        }
    }

    /// Its id as text, for example `T5`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// All checks.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }
}

/// A set of checks that passed, or that must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CheckLedger(u64);

impl CheckLedger {
    /// No check.
    pub const EMPTY: Self = Self(0);

    /// The set of `checks`.
    #[must_use]
    pub fn of(checks: &[CheckId]) -> Self {
        checks.iter().fold(Self::EMPTY, |ledger, check| ledger.with(*check))
    }

    /// This set and `check`.
    #[must_use]
    pub const fn with(self, check: CheckId) -> Self {
        Self(self.0 | 1u64.wrapping_shl(check.bit()))
    }

    /// Records that `check` passed. Called only where the check itself stands.
    pub const fn pass(&mut self, check: CheckId) {
        self.0 |= 1u64.wrapping_shl(check.bit());
    }

    /// Whether `check` is in the set.
    #[must_use]
    pub const fn contains(self, check: CheckId) -> bool {
        self.0 & 1u64.wrapping_shl(check.bit()) != 0
    }

    /// The checks in the set.
    pub fn checks(self) -> impl Iterator<Item = CheckId> {
        CheckId::all().filter(move |check| self.contains(*check))
    }

    /// The checks of either set: what two stages passed.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The checks of `required` that are not in the set.
    #[must_use]
    pub const fn missing(self, required: Self) -> Self {
        Self(required.0 & !self.0)
    }

    /// The set as its fixed bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for CheckLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.checks().map(CheckId::name).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_bit_of_its_own() {
        let mut ledger = CheckLedger::EMPTY;
        for check in CheckId::all() {
            assert!(!ledger.contains(check), "{check:?} shares a bit");
            ledger.pass(check);
            assert!(ledger.contains(check));
        }
        assert_eq!(ledger.checks().count(), CheckId::all().count());
        assert_eq!(CheckLedger::EMPTY.missing(ledger), ledger);
        assert_eq!(CheckLedger::of(&[CheckId::T1, CheckId::E9]).to_string(), "T1 E9");
    }
}
