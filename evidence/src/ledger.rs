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
    /// SNP report: exact length, known version, reserved bytes zero, POLICY form, signature algorithm and range.
    S1,
    /// VMPL: never the host's, and the pinned one.
    S2,
    /// ARK pinned, ASK or ASVK and leaf chained to it, in time, not revoked by a fresh CRL.
    S3,
    /// VLEK if and only if ASVK, of an allowed CSP; SIGNING_KEY says the leaf's kind.
    S4,
    /// Leaf extensions complete: TCB equals REPORTED_TCB, HWID equals CHIP_ID, product equals CPUID's.
    S5,
    /// Signature over the report as received.
    S6,
    /// TCB versions, firmware build and mitigation vectors at or above their floors; committed equals current.
    S7,
    /// POLICY: no debug, no migration agent, and the bits that the reference values demand.
    S8,
    /// PLATFORM_INFO: no unknown bit, and the bits that the reference values demand.
    S9,
    /// MEASUREMENT, HOST_DATA, ID block, GUEST_SVN, FAMILY_ID, IMAGE_ID match the reference values; no migration agent.
    S10,
    /// REPORT_DATA equals the binding, all 64 bytes.
    S11,
    /// The chip is on the allow-list.
    S12,
    /// REPORT_ID equals its baseline.
    S13,
    /// TDX quote: version, TEE type, attestation key type, QE vendor, exact lengths, nothing after it.
    X1,
    /// PCK certificate chained to the pinned root, in time, not revoked by fresh CRLs.
    X2,
    /// QE report signed by the PCK; its report data binds the attestation key.
    X3,
    /// QE identity: signed, in time, and the QE report fits it.
    X4,
    /// Signature of the attestation key over header and body.
    X5,
    /// TCB info: signed, in time, of this FMSPC and PCEID, evaluation number at or above the floor.
    X6,
    /// TDX module identity, and the TCB level of module and platform.
    X7,
    /// TCB status merged from platform, module and QE is an allowed one.
    X8,
    /// TDATTRIBUTES and XFAM: no debug, nothing reserved, no migration, and as the reference values demand.
    X9,
    /// MRTD, RTMRs, MRCONFIGID, MROWNER, MROWNERCONFIG and MRSERVICETD match the reference values.
    X10,
    /// REPORTDATA equals the binding, all 64 bytes.
    X11,
    /// The platform is on the allow-list.
    X12,
    /// TEE_TCB_SVN2 considered: no relaunch is advised.
    X13,
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
            Self::S1 => 33,
            Self::S2 => 34,
            Self::S3 => 35,
            Self::S4 => 36,
            Self::S5 => 37,
            Self::S6 => 38,
            Self::S7 => 39,
            Self::S8 => 40,
            Self::S9 => 41,
            Self::S10 => 42,
            Self::S11 => 43,
            Self::S12 => 44,
            Self::S13 => 45,
            Self::X1 => 46,
            Self::X2 => 47,
            Self::X3 => 48,
            Self::X4 => 49,
            Self::X5 => 50,
            Self::X6 => 51,
            Self::X7 => 52,
            Self::X8 => 53,
            Self::X9 => 54,
            Self::X10 => 55,
            Self::X11 => 56,
            Self::X12 => 57,
            Self::X13 => 58,
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
