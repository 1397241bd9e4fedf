//! Logs that came with a quote, and what of them the quote proves (E1-E8).

use super::{
    pcr::{PcrSet, PcrValues},
    quote::Quoted,
};
use crate::{
    EvidenceDenial,
    digest::Digest,
    event_log::{BootFacts, Event, EventLog},
    ima::{IMA_PCR, ImaEntry, ImaLog, ImaPrefix},
    ledger::{CheckId, CheckLedger},
};

/// Registers that only firmware and the boot chain extend, so that their log is complete and must replay.
/// The operating system goes on extending the others, in logs of its own.
pub const BOOT_PCRS: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// An event log that leads to the quoted registers.
#[derive(Clone, Debug)]
pub struct EventLogClaims<'a> {
    log: EventLog<'a>,
    boot: BootFacts,
    proven: PcrSet,
}

impl<'a> EventLogClaims<'a> {
    pub(super) fn verify(
        bytes: &'a [u8],
        quoted: &Quoted<'_>,
        ledger: &mut CheckLedger,
    ) -> Result<Self, EvidenceDenial> {
        let log = EventLog::parse(bytes)?;
        ledger.pass(CheckId::E1);
        log.require_crypto_agile()?;
        ledger.pass(CheckId::E2);
        let proven = replayed(&log, quoted.values())?;
        ledger.pass(CheckId::E3);
        log.verify_event_data(quoted.values().bank())?;
        ledger.pass(CheckId::E5);
        let boot = log.verify_boot_grammar()?;
        ledger.pass(CheckId::E4);
        ledger.pass(CheckId::E6);
        ledger.pass(CheckId::E7);
        Ok(Self { log, boot, proven })
    }

    /// Events of one register, with their digests in the quoted bank. Nothing for a register that the log does
    /// not lead to: its events are anyone's story.
    pub fn measured(&self, pcr: u8, bank: crate::digest::HashAlg) -> impl Iterator<Item = (&Event<'a>, Digest)> {
        let proven = self.proven.contains(pcr);
        self.log.measured(pcr, bank).filter(move |_| proven)
    }

    /// Registers whose quoted value the log leads to.
    #[must_use]
    pub const fn proven(&self) -> PcrSet {
        self.proven
    }

    /// What the log says about secure boot.
    #[must_use]
    pub const fn boot(&self) -> &BootFacts {
        &self.boot
    }

    /// The whole log, for display. Decide by [`EventLogClaims::measured`].
    #[must_use]
    pub const fn log(&self) -> &EventLog<'a> {
        &self.log
    }
}

/// E3: every quoted boot register is where the log leads; says for which others it is so too.
///
/// A bank that the log does not declare explains nothing, even where no event was extended: a bank that firmware
/// did not measure is free for anyone (CVE-2021-42299).
fn replayed(log: &EventLog<'_>, quoted: &PcrValues) -> Result<PcrSet, EvidenceDenial> {
    let bank = quoted.bank();
    if !log.bank_ids().contains(&bank.tpm_id()) {
        return Err(EvidenceDenial::BankMissing { alg: bank, event: 0 });
    }
    let replay = log.replay(bank)?;
    let mut proven = PcrSet::EMPTY;
    for (pcr, value) in quoted.iter() {
        let got = replay.value(pcr).unwrap_or(Digest::zero(bank));
        if got == *value {
            proven = proven.with(pcr).unwrap_or(proven);
        } else if BOOT_PCRS.contains(&pcr) {
            let (got, quoted) = (Box::new(got), Box::new(*value));
            return Err(EvidenceDenial::ReplayMismatch { pcr, got, quoted });
        }
    }
    let boot = PcrSet::of(&BOOT_PCRS).unwrap_or(PcrSet::EMPTY);
    if proven.intersection(boot).is_empty() {
        return Err(EvidenceDenial::Missing { part: "a boot PCR in the quote that the event log could explain" });
    }
    Ok(proven)
}

/// An IMA log of which a part is covered by the quoted PCR 10.
#[derive(Clone, Debug)]
pub struct ImaClaims<'a> {
    log: ImaLog<'a>,
    prefix: ImaPrefix,
}

impl<'a> ImaClaims<'a> {
    pub(super) fn verify(
        bytes: &'a [u8],
        quoted: &Quoted<'_>,
        ledger: &mut CheckLedger,
    ) -> Result<Self, EvidenceDenial> {
        let log = ImaLog::parse(bytes)?;
        let missing = EvidenceDenial::Missing { part: "PCR 10 in the quote" };
        let pcr10 = u8::try_from(IMA_PCR).ok().and_then(|pcr| quoted.pcr(pcr)).ok_or(missing)?;
        let prefix = log.match_prefix(pcr10)?;
        if prefix.covered == 0 {
            // a register still at reset: IMA measured nothing, and the list is anyone's story
            return Err(EvidenceDenial::ImaReplayMismatch { entries: log.entries().len(), quoted: Box::new(*pcr10) });
        }
        log.verify_entries()?;
        let registers: Vec<(u8, Digest)> = quoted.values().iter().map(|(pcr, value)| (pcr, *value)).collect();
        log.verify_boot_aggregate(&registers)?;
        ledger.pass(CheckId::E8);
        Ok(Self { log, prefix })
    }

    /// The entries that the quote covers; what follows them in the log is not evidence.
    #[must_use]
    pub fn covered(&self) -> &[ImaEntry<'a>] {
        self.log.entries().get(..self.prefix.covered).unwrap_or(&[])
    }

    /// The whole log, for display.
    #[must_use]
    pub const fn log(&self) -> &ImaLog<'a> {
        &self.log
    }
}
