//! Plain values that go in and out of a TPM; wire forms are those of TPM 2.0 Library Part 2.

use std::collections::BTreeSet;

use evidence::digest::HashAlg;
use serde::{Deserialize, Serialize};

/// One bank and the PCRs of it, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: HashAlg,
    /// The PCRs, 0–23.
    pub pcrs: BTreeSet<u8>,
}

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

/// The TPM's own clock (TPMS_CLOCK_INFO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Milliseconds powered, over the life of the TPM.
    pub clock_ms: u64,
    /// TPM resets (reboots).
    pub reset_count: u32,
    /// Resumes since the last reset.
    pub restart_count: u32,
    /// False if the clock may have been larger before.
    pub safe: bool,
}

impl ClockReading {
    /// Whether the TPM was reset, restarted or replaced between `earlier` and this reading.
    #[must_use]
    pub const fn breaks_from(&self, earlier: &Self) -> bool {
        self.reset_count != earlier.reset_count
            || self.restart_count != earlier.restart_count
            || self.clock_ms < earlier.clock_ms
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
