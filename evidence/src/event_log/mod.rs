//! Firmware event logs: what was measured into PCR 0-15 before the operating system ran, in order.
//!
//! A log is a claim. [`EventLog::parse`] makes it readable (E1, E2), [`EventLog::verify_replay`] shows that it
//! leads to the quoted registers (E3), [`EventLog::verify_event_data`] that event data which decisions are
//! made on is what was hashed (E5), [`EventLog::verify_boot_grammar`] that firmware followed the rules
//! (E4, E6, E7). Reference values are compared with digests alone (E9).

mod cc;
mod data_digest;
mod describe;
mod event;
mod grammar;
mod parse;
mod replay;
mod tdx_json;
mod uefi;

#[cfg(test)]
mod tests;

pub use self::{
    cc::{CcEventLog, RTMRS},
    data_digest::DataBinding,
    event::{Event, EventType, RawDigests},
    grammar::BootFacts,
    parse::{ALGORITHMS_CAP, EVENT_CAP_BYTES, EVENTS_CAP, LOG_CAP_BYTES},
    replay::Replay,
    tdx_json::{TDX_JSON_CAP_BYTES, TdxJsonEvent, TdxJsonLog},
};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// A parsed event log, borrowing its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    format: LogFormat<'a>,
    events: Vec<Event<'a>>,
    startup_locality: u8,
    /// Length of the events, without padding.
    parsed_bytes: usize,
}

/// The two forms of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogFormat<'a> {
    /// TCG 1.2: SHA-1 alone.
    Sha1Only,
    /// TCG 2.0: digests of each bank that the Spec ID event lists.
    CryptoAgile { table: &'a [u8] },
}

impl<'a> EventLog<'a> {
    /// Reads a whole log: crypto-agile, or SHA-1 only (which appraisal refuses by
    /// [`EventLog::require_crypto_agile`]). Nothing is copied.
    ///
    /// # Errors
    /// The first byte that breaks the grammar or a cap (E1, E2).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        parse::parse(bytes, parse::Registers::Pcr)
    }

    /// Refuses a SHA-1-only log.
    ///
    /// # Errors
    /// [`EvidenceDenial::WeakHash`].
    pub const fn require_crypto_agile(&self) -> Result<(), EvidenceDenial> {
        match self.format {
            LogFormat::CryptoAgile { .. } => Ok(()),
            LogFormat::Sha1Only => Err(EvidenceDenial::WeakHash { what: "event log", alg: HashAlg::Sha1 }),
        }
    }

    /// Whether the log has digests of more than the TPM 1.2 form's SHA-1.
    #[must_use]
    pub const fn is_crypto_agile(&self) -> bool {
        matches!(self.format, LogFormat::CryptoAgile { .. })
    }

    /// TPM_ALG_IDs of the banks that the log says it has, in its order.
    #[must_use]
    pub fn bank_ids(&self) -> Vec<u16> {
        match self.format {
            LogFormat::Sha1Only => vec![HashAlg::Sha1.tpm_id()],
            LogFormat::CryptoAgile { table } => table
                .chunks_exact(4)
                .filter_map(|row| row.first_chunk::<2>().map(|id| u16::from_le_bytes(*id)))
                .collect(),
        }
    }

    /// Banks that can be replayed: of a hash that we compute, with a digest in every extended event.
    #[must_use]
    pub fn banks(&self) -> Vec<HashAlg> {
        self.bank_ids().into_iter().filter_map(HashAlg::from_tpm).filter(|alg| self.has_bank(*alg)).collect()
    }

    /// Whether every extended event has a digest in the bank of `alg`.
    #[must_use]
    pub fn has_bank(&self, alg: HashAlg) -> bool {
        self.bank_ids().contains(&alg.tpm_id())
            && self.events.iter().filter(|event| event.is_extended()).all(|event| event.digest(alg).is_some())
    }

    /// All events in order.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// Locality of TPM2_Startup, which PCR 0 starts with; 0 unless the log says otherwise.
    #[must_use]
    pub const fn startup_locality(&self) -> u8 {
        self.startup_locality
    }

    /// The values that the log's bank of `alg` leads to.
    ///
    /// # Errors
    /// [`EvidenceDenial::BankMissing`] when an extended event has no digest in that bank.
    pub fn replay(&self, alg: HashAlg) -> Result<Replay, EvidenceDenial> {
        replay::replay(self, alg)
    }

    /// E3: the log leads to every one of `registers`, all of one bank or of several.
    ///
    /// # Errors
    /// [`EvidenceDenial::ReplayMismatch`] for the first register that it does not lead to,
    /// [`EvidenceDenial::BankMissing`] for a bank that the log does not carry,
    /// [`EvidenceDenial::Missing`] when there is no register to compare.
    pub fn verify_replay(&self, registers: &[(u8, Digest)]) -> Result<(), EvidenceDenial> {
        replay::verify(self, registers)
    }

    /// The log extends no register that is not among `registers`: all of it is proven by them, not a part.
    ///
    /// # Errors
    /// [`EvidenceDenial::RegisterUnproven`] for the first register of which a bank given has no value.
    pub fn verify_all_proven(&self, registers: &[(u8, Digest)]) -> Result<(), EvidenceDenial> {
        replay::verify_all_proven(self, registers)
    }

    /// E5: in the bank of `alg`, the data of every event whose type says "hash of the data" hashes to its digest.
    ///
    /// # Errors
    /// [`EvidenceDenial::EventDataMismatch`] for the first event that does not.
    pub fn verify_event_data(&self, alg: HashAlg) -> Result<(), EvidenceDenial> {
        data_digest::verify(self, alg)
    }

    /// E4, E6, E7: separators, the order of events in PCR 0-7, and the secure boot policy in PCR 7.
    ///
    /// # Errors
    /// The first rule that the log breaks.
    pub fn verify_boot_grammar(&self) -> Result<BootFacts, EvidenceDenial> {
        grammar::verify(self)
    }

    /// E9: what a reference set is compared with: register, type name for people, and digest of every
    /// extended event of `pcr` in the bank of `alg`, in order.
    pub fn measured(&self, pcr: u8, alg: HashAlg) -> impl Iterator<Item = (&Event<'a>, Digest)> {
        self.events
            .iter()
            .filter(move |event| event.is_extended() && event.pcr() == u32::from(pcr))
            .filter_map(move |event| event.digest(alg).map(|digest| (event, digest)))
    }
}
