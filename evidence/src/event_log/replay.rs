//! E3: replay of a log, bank by bank (TPM2 Library Part 1 §17; PFP §10.4.5 for what is not extended).

use super::{EventLog, parse::PCRS};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

const REGISTERS: usize = 24;

/// Register values that a log leads to in one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    values: [Digest; REGISTERS],
    /// Bit n: an event was extended into PCR n.
    extended: u32,
}

impl Replay {
    /// Value of `pcr` after the log: its reset value if the log never extends it. `None` for no such register.
    #[must_use]
    pub fn value(&self, pcr: u8) -> Option<Digest> {
        self.values.get(usize::from(pcr)).copied()
    }

    /// Whether the log extends `pcr`.
    #[must_use]
    pub fn is_extended(&self, pcr: u8) -> bool {
        self.extended & 1u32.unbounded_shl(u32::from(pcr)) != 0
    }

    /// The registers that the log extends, with their values.
    pub fn extended(&self) -> impl Iterator<Item = (u8, Digest)> + '_ {
        (0u8..).zip(self.values).filter(|(pcr, _)| self.is_extended(*pcr))
    }
}

pub(super) fn replay(log: &EventLog<'_>, alg: HashAlg) -> Result<Replay, EvidenceDenial> {
    let mut values = start_values(alg, log.startup_locality);
    let mut extended = 0u32;
    for event in log.events.iter().filter(|event| event.is_extended()) {
        let missing = || EvidenceDenial::BankMissing { alg, event: event.index() };
        let (_, digest) = event.raw_digests().find(|(id, _)| *id == alg.tpm_id()).ok_or_else(missing)?;
        let register = usize::try_from(event.pcr()).ok().and_then(|pcr| values.get_mut(pcr)).ok_or_else(missing)?;
        *register = register.extend(digest);
        extended |= 1u32.unbounded_shl(event.pcr());
    }
    Ok(Replay { values, extended })
}

/// PCR 0 starts at the startup locality in its last byte (PFP §10.4.5.3), PCR 17-22 at all ones until a
/// dynamic launch (TPM2 Library Part 1 §11.4; PFP §3.3.4 table), everything else at zero.
fn start_values(alg: HashAlg, startup_locality: u8) -> [Digest; REGISTERS] {
    let mut values = [Digest::zero(alg); REGISTERS];
    let mut start = [0u8; 64];
    if let Some(last) = start.get_mut(..alg.len()).and_then(<[u8]>::last_mut) {
        *last = startup_locality;
    }
    let given = |bytes: &[u8; 64]| bytes.get(..alg.len()).and_then(|bytes| Digest::from_bytes(alg, bytes));
    if let (Some(first), Some(value)) = (values.first_mut(), given(&start)) {
        *first = value;
    }
    for register in values.iter_mut().take(23).skip(17) {
        *register = given(&[0xff; 64]).unwrap_or(*register);
    }
    values
}

pub(super) fn verify(log: &EventLog<'_>, registers: &[(u8, Digest)]) -> Result<(), EvidenceDenial> {
    if registers.is_empty() {
        return Err(EvidenceDenial::Missing { part: "PCR values" });
    }
    for alg in HashAlg::ALL {
        let mut of_bank = registers.iter().filter(|(_, value)| value.alg() == alg).peekable();
        if of_bank.peek().is_none() {
            continue;
        }
        let replay = bank(log, alg)?;
        for (pcr, quoted) in of_bank {
            let got = replay.value(*pcr).ok_or_else(|| EvidenceDenial::Malformed {
                structure: "PCR values",
                offset: usize::from(*pcr),
                what: "no such PCR",
            })?;
            if got != *quoted {
                return Err(EvidenceDenial::ReplayMismatch {
                    pcr: *pcr,
                    got: Box::new(got),
                    quoted: Box::new(*quoted),
                });
            }
        }
    }
    Ok(())
}

pub(super) fn verify_all_proven(log: &EventLog<'_>, registers: &[(u8, Digest)]) -> Result<(), EvidenceDenial> {
    for alg in HashAlg::ALL {
        let is_given = |pcr: u8| registers.iter().any(|(index, value)| *index == pcr && value.alg() == alg);
        if !registers.iter().any(|(_, value)| value.alg() == alg) {
            continue;
        }
        if let Some((pcr, _)) = bank(log, alg)?.extended().find(|(pcr, _)| !is_given(*pcr)) {
            return Err(EvidenceDenial::RegisterUnproven { pcr, alg });
        }
    }
    Ok(())
}

/// A replay of a bank that the log declares: a log without that bank explains none of its registers, even
/// where no event was extended (CVE-2021-42299: a bank that firmware did not measure is free for anyone).
fn bank(log: &EventLog<'_>, alg: HashAlg) -> Result<Replay, EvidenceDenial> {
    if log.bank_ids().contains(&alg.tpm_id()) {
        replay(log, alg)
    } else {
        Err(EvidenceDenial::BankMissing { alg, event: 0 })
    }
}

const _: () = assert!(PCRS == 24, "one register each");
