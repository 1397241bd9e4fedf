//! Plain values that go in and out of a TPM; wire forms are those of TPM 2.0 Library Part 2.

use evidence::tpm::attest::ClockInfo;
use serde::{Deserialize, Serialize};

/// A key as the TPM gave it for safekeeping: useless in any other TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBlob {
    /// TPM2B_PUBLIC.
    #[serde(with = "serde_bytes")]
    pub public: Vec<u8>,
    /// TPM2B_PRIVATE, encrypted by its parent.
    #[serde(with = "serde_bytes")]
    pub private: Vec<u8>,
}

/// What an attestation key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

/// What happened to the TPM between two readings of its clock, if anything that ends leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockBreak {
    /// TPM reset: the machine was started anew, or the TPM was.
    Reset,
    /// TPM resumed or restarted: the machine was suspended.
    Restarted,
    /// The clock is earlier than it was: another TPM, or a restored copy.
    WentBack,
    /// The TPM took back its word that the clock was never told so before (Part 1, 36.3.3: `safe`).
    Unsafe,
}

impl ClockBreak {
    /// Compares two readings by one AK (for others, counters are obfuscated per key: Part 1, 36.7).
    #[must_use]
    pub const fn between(earlier: &ClockInfo, now: &ClockInfo) -> Option<Self> {
        if now.reset_count < earlier.reset_count {
            Some(Self::WentBack)
        } else if now.reset_count > earlier.reset_count {
            Some(Self::Reset)
        } else if now.restart_count < earlier.restart_count || now.clock_ms < earlier.clock_ms {
            Some(Self::WentBack)
        } else if now.restart_count > earlier.restart_count {
            Some(Self::Restarted)
        } else if earlier.safe && !now.safe {
            Some(Self::Unsafe)
        } else {
            None
        }
    }
}

/// Handles that are in use in the TPM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandleCounts {
    /// Transient objects.
    pub transient: usize,
    /// Sessions in memory.
    pub loaded_sessions: usize,
    /// Sessions whose context was saved.
    pub saved_sessions: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_break_is_told_apart() {
        let base = ClockInfo { clock_ms: 100, reset_count: 5, restart_count: 2, safe: true };
        let cases = [
            (ClockInfo { clock_ms: 100, ..base }, None),
            (ClockInfo { clock_ms: 101, ..base }, None),
            (ClockInfo { clock_ms: 99, ..base }, Some(ClockBreak::WentBack)),
            (ClockInfo { reset_count: 6, restart_count: 0, clock_ms: 90, ..base }, Some(ClockBreak::Reset)),
            (ClockInfo { reset_count: 4, clock_ms: 200, ..base }, Some(ClockBreak::WentBack)),
            (ClockInfo { restart_count: 3, ..base }, Some(ClockBreak::Restarted)),
            (ClockInfo { restart_count: 1, ..base }, Some(ClockBreak::WentBack)),
            (ClockInfo { clock_ms: 101, safe: false, ..base }, Some(ClockBreak::Unsafe)),
        ];
        for (now, expected) in cases {
            assert_eq!(ClockBreak::between(&base, &now), expected, "{now:?}");
        }
    }
}
