//! E8: from the list to PCR 10, and from the boot registers to boot_aggregate.

use std::collections::HashMap;

use super::ImaLog;
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// How a kernel extends a bank other than SHA-1 from a SHA-1 template hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImaBankForm {
    /// Before Linux 5.8: the SHA-1 hash, padded with zeros to the bank's size.
    ZeroPadded,
    /// Since Linux 5.8: the template data hashed again with the bank's algorithm.
    Rehashed,
}

/// What a quoted PCR 10 covers of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImaPrefix {
    /// Entries covered, from the start; those after are untrusted.
    pub covered: usize,
    /// How the bank was extended.
    pub form: ImaBankForm,
}

pub(super) fn match_prefix(log: &ImaLog<'_>, pcr10: &Digest) -> Result<ImaPrefix, EvidenceDenial> {
    let mut padded = Digest::zero(pcr10.alg());
    let mut rehashed = padded;
    if padded == *pcr10 {
        return Ok(ImaPrefix { covered: 0, form: ImaBankForm::Rehashed });
    }
    for (entry, covered) in log.entries.iter().zip(1..) {
        rehashed = entry.extend(&rehashed, ImaBankForm::Rehashed);
        if rehashed == *pcr10 {
            return Ok(ImaPrefix { covered, form: ImaBankForm::Rehashed });
        }
        padded = entry.extend(&padded, ImaBankForm::ZeroPadded);
        if padded == *pcr10 {
            return Ok(ImaPrefix { covered, form: ImaBankForm::ZeroPadded });
        }
    }
    Err(EvidenceDenial::ImaReplayMismatch { entries: log.entries.len(), quoted: Box::new(*pcr10) })
}

pub(super) fn verify_order(log: &ImaLog<'_>) -> Result<(), EvidenceDenial> {
    let mut seen = HashMap::with_capacity(log.entries.len());
    let starts_with_aggregate = log.entries.first().is_some_and(super::ImaEntry::is_boot_aggregate);
    for entry in &log.entries {
        if entry.is_boot_aggregate() && !starts_with_aggregate {
            return Err(EvidenceDenial::ImaOrder { entry: entry.index, what: "boot_aggregate is not the first entry" });
        }
        if !entry.is_violation() && seen.insert((entry.pcr, entry.template_hash), entry.index).is_some() {
            return Err(EvidenceDenial::ImaOrder { entry: entry.index, what: "the same measurement stands twice" });
        }
    }
    Ok(())
}

/// ima_crypto.c, ima_calc_boot_aggregate_tfm: the digest over PCR 0-7, and over PCR 0-9 since Linux 5.8
/// unless the bank is SHA-1.
pub(super) fn verify_boot_aggregate(log: &ImaLog<'_>, registers: &[(u8, Digest)]) -> Result<(), EvidenceDenial> {
    let entry = log.entries.first().filter(|entry| entry.is_boot_aggregate());
    let entry = entry.ok_or(EvidenceDenial::Missing { part: "boot_aggregate" })?;
    let value = |pcr: u8| registers.iter().find(|(index, _)| *index == pcr).map(|(_, value)| value);
    let first = value(0).ok_or(EvidenceDenial::Missing { part: "PCR 0" })?;
    let aggregate = |last: u8| {
        let values: Option<Vec<&[u8]>> = (0..=last).map(|pcr| value(pcr).map(Digest::as_bytes)).collect();
        values.map(|values| first.alg().hash(&values))
    };
    let old = aggregate(7).ok_or(EvidenceDenial::Missing { part: "PCR 0-7" })?;
    let new = aggregate(9).filter(|_| first.alg() != HashAlg::Sha1);
    let got = entry.known_file_digest();
    if got.is_some() && (got == Some(old) || got == new) {
        return Ok(());
    }
    Err(EvidenceDenial::ImaBootAggregate { got: entry.file_digest(), expected: new.unwrap_or(old).to_string() })
}
