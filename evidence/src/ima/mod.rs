//! IMA measurement lists: what the Linux kernel measured into PCR 10 while the system ran.
//!
//! The list is read after the quote, so entries beyond the quoted value are an untrusted suffix:
//! [`ImaLog::match_prefix`] says how many entries the quote covers, and only those may be believed.
//! Formats: `ascii_runtime_measurements` and `binary_runtime_measurements` of securityfs
//! (Linux Documentation/security/IMA-templates.rst, security/integrity/ima/ima_fs.c).

mod ascii;
mod binary;
mod entry;
mod replay;
mod signature;

#[cfg(test)]
mod tests;

pub use self::{
    entry::{ImaEntry, Template},
    replay::{ImaBankForm, ImaPrefix},
    signature::ImaKey,
};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// Largest list.
pub const IMA_CAP_BYTES: usize = 8 << 20;
/// Most entries in a list: the shortest possible entry is some 60 bytes.
pub const IMA_ENTRIES_CAP: usize = 128 * 1024;
/// Largest template data of one entry.
pub const IMA_ENTRY_CAP_BYTES: usize = 64 * 1024;
/// The register that IMA extends.
pub const IMA_PCR: u32 = 10;

/// A parsed measurement list, borrowing what it can of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImaLog<'a> {
    entries: Vec<ImaEntry<'a>>,
    is_binary: bool,
}

impl<'a> ImaLog<'a> {
    /// Reads a whole list, ascii or binary.
    ///
    /// # Errors
    /// The first entry that breaks the grammar or a cap, and an empty list.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        if bytes.len() > IMA_CAP_BYTES {
            let (got_bytes, cap_bytes) = (bytes.len(), IMA_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "IMA log", got_bytes, cap_bytes });
        }
        // A binary entry starts with a 32-bit register number, of which three bytes are zero; no text does.
        let is_binary = bytes.get(1..4) == Some(&[0; 3]);
        let entries = if is_binary { binary::parse(bytes)? } else { ascii::parse(bytes)? };
        if entries.is_empty() {
            return Err(EvidenceDenial::Malformed { structure: "IMA log", offset: 0, what: "no entries" });
        }
        Ok(Self { entries, is_binary })
    }

    /// All entries in order.
    #[must_use]
    pub fn entries(&self) -> &[ImaEntry<'a>] {
        &self.entries
    }

    /// Whether it was the binary form.
    #[must_use]
    pub const fn is_binary(&self) -> bool {
        self.is_binary
    }

    /// E8: every entry is of PCR 10, is no violation, and its template data hashes to its template hash.
    ///
    /// # Errors
    /// The first entry for which one of these is not so.
    pub fn verify_entries(&self) -> Result<(), EvidenceDenial> {
        self.entries.iter().try_for_each(ImaEntry::verify)
    }

    /// What every kernel keeps to, whatever its policy: boot_aggregate is measured before all else (ima_init.c),
    /// and a measurement already in the list is not added again (ima_queue.c). All there is to go by for a
    /// list that no quote covers; a quote decides both better.
    ///
    /// # Errors
    /// [`EvidenceDenial::ImaOrder`] for the first entry that no kernel would have put there.
    pub fn verify_order(&self) -> Result<(), EvidenceDenial> {
        replay::verify_order(self)
    }

    /// How many entries from the start lead to `pcr10`.
    ///
    /// # Errors
    /// [`EvidenceDenial::ImaReplayMismatch`] when no number of them does.
    pub fn match_prefix(&self, pcr10: &Digest) -> Result<ImaPrefix, EvidenceDenial> {
        replay::match_prefix(self, pcr10)
    }

    /// The value that all entries lead to in the bank of `alg`.
    #[must_use]
    pub fn replay(&self, alg: HashAlg, form: ImaBankForm) -> Digest {
        self.entries.iter().fold(Digest::zero(alg), |value, entry| entry.extend(&value, form))
    }

    /// The list starts with a boot_aggregate that is the digest of the boot registers among `registers`, all
    /// of one bank.
    ///
    /// # Errors
    /// [`EvidenceDenial::ImaBootAggregate`] when it is another, [`EvidenceDenial::Missing`] when there is none or
    /// registers are missing.
    pub fn verify_boot_aggregate(&self, registers: &[(u8, Digest)]) -> Result<(), EvidenceDenial> {
        replay::verify_boot_aggregate(self, registers)
    }

    /// Every file signature in the list verifies under one of `keys`; returns how many there are.
    ///
    /// # Errors
    /// [`EvidenceDenial::ImaSignature`] for the first that does not, by unknown keys too.
    pub fn verify_signatures(&self, keys: &[ImaKey]) -> Result<usize, EvidenceDenial> {
        signature::verify(self, keys)
    }
}
