//! Event logs of confidential VMs (UEFI §38.4, the CCEL table of ACPI): the same events as a TPM's log, measured into
//! RTMR0 to RTMR3. Firmware maps PCR 1 and 7 to RTMR0, PCR 2 to 6 to RTMR1, and PCR 8 to 15 to RTMR2 (UEFI §38.4.1);
//! PCR 0 is MRTD, which is measured at launch.

use super::{
    Event, EventLog,
    event::{EventType, Phase},
    grammar::{BootFacts, SecureBootPolicy},
    parse::{self, Registers},
    uefi::Variable,
};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// Run-time measurement registers of a trust domain.
pub const RTMRS: usize = 4;
/// The only algorithm of RTMRs (TDX Module ABI, TDG.MR.RTMR.EXTEND).
const ALG: HashAlg = HashAlg::Sha384;
const RTMR0: u32 = 1;
const RTMR1: u32 = 2;
/// Separators of a whole log: one ends the secure boot policy, one says that firmware is done.
const SEPARATORS: usize = 2;

/// A parsed log of a confidential VM, borrowing its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CcEventLog<'a> {
    log: EventLog<'a>,
}

impl<'a> CcEventLog<'a> {
    /// Reads a whole log; 0xff after the last event is the table's padding.
    ///
    /// # Errors
    /// The first byte that breaks the grammar or a cap (E1, E2), [`EvidenceDenial::BankMissing`] without SHA-384.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        let log = parse::parse(bytes, Registers::Cc)?;
        if log.bank_ids().contains(&ALG.tpm_id()) {
            Ok(Self { log })
        } else {
            Err(EvidenceDenial::BankMissing { alg: ALG, event: 0 })
        }
    }

    /// The log in `bytes` without the padding of its table: what a node sends of what its firmware left.
    ///
    /// # Errors
    /// As [`CcEventLog::parse`].
    pub fn trimmed(bytes: &'a [u8]) -> Result<&'a [u8], EvidenceDenial> {
        let log = Self::parse(bytes)?;
        Ok(bytes.get(..log.parsed_bytes()).unwrap_or(bytes))
    }

    /// Length of the events, without the padding after them.
    #[must_use]
    pub const fn parsed_bytes(&self) -> usize {
        self.log.parsed_bytes
    }

    /// All events in order; their register 1 is RTMR0.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        self.log.events()
    }

    /// The log with its events' registers as they stand.
    #[must_use]
    pub const fn log(&self) -> &EventLog<'a> {
        &self.log
    }

    /// The values of RTMR0 to RTMR3 that the log leads to.
    ///
    /// # Errors
    /// [`EvidenceDenial::BankMissing`] when an extended event has no SHA-384 digest.
    pub fn replay(&self) -> Result<[Digest; RTMRS], EvidenceDenial> {
        let replay = self.log.replay(ALG)?;
        let zero = Digest::zero(ALG);
        Ok([1, 2, 3, 4].map(|register| replay.value(register).unwrap_or(zero)))
    }

    /// E3: the log leads to RTMR0, RTMR1 and RTMR2 of a quote; says whether it leads to RTMR3, which software goes on
    /// extending after boot, too.
    ///
    /// # Errors
    /// [`EvidenceDenial::RtmrReplayMismatch`] for the first boot register that it does not lead to.
    pub fn verify_replay(&self, quoted: &[&[u8; 48]; RTMRS]) -> Result<bool, EvidenceDenial> {
        let replayed = self.replay()?;
        let mut all = true;
        for ((rtmr, got), quoted) in (0u8..).zip(replayed).zip(quoted) {
            if got.as_bytes() == *quoted {
                continue;
            }
            all = false;
            if rtmr < 3 {
                let quoted = Digest::from_bytes(ALG, *quoted).unwrap_or(Digest::zero(ALG));
                let (got, quoted) = (Box::new(got), Box::new(quoted));
                return Err(EvidenceDenial::RtmrReplayMismatch { rtmr, got, quoted });
            }
        }
        Ok(all)
    }

    /// E5: the data of every event whose type says "hash of the data" hashes to its digest.
    ///
    /// # Errors
    /// [`EvidenceDenial::EventDataMismatch`] for the first event that does not.
    pub fn verify_event_data(&self) -> Result<(), EvidenceDenial> {
        self.log.verify_event_data(ALG)
    }

    /// E4, E6, E7: the separators, the order of events in RTMR0 and RTMR1, and the secure boot policy in RTMR0.
    ///
    /// # Errors
    /// The first rule that the log breaks.
    pub fn verify_boot_grammar(&self) -> Result<BootFacts, EvidenceDenial> {
        let mut policy = SecureBootPolicy::of_trust_domain();
        let mut separators = 0usize;
        for event in self.events().iter().filter(|event| event.is_extended()) {
            let (pcr, kind) = (event.pcr(), event.kind());
            if kind == EventType::Separator && (pcr == RTMR0 || pcr == RTMR1) {
                judge_separator(event, separators)?;
                separators = separators.saturating_add(1);
                continue;
            }
            let is_late = kind == EventType::EfiVariableDriverConfig && separators > 0;
            let is_configuration = (pcr == RTMR0 || pcr == RTMR1) && kind.phase() == Phase::Configuration;
            if is_configuration && (separators == SEPARATORS || is_late) {
                return Err(EvidenceDenial::ConfigurationAfterSeparator {
                    pcr,
                    event: event.index(),
                    kind: kind.name(),
                });
            }
            if pcr == RTMR0 {
                judge_rtmr0(event, separators, &mut policy)?;
            }
        }
        match separators {
            0 => Err(EvidenceDenial::SeparatorMissing { pcr: RTMR0 }),
            1 => Err(EvidenceDenial::SeparatorMissing { pcr: RTMR1 }),
            _ => policy.facts(),
        }
    }

    /// E9: what a reference set is compared with: every extended event of an RTMR, in order.
    pub fn measured(&self, rtmr: u8) -> impl Iterator<Item = (&Event<'a>, Digest)> {
        self.log.measured(rtmr.saturating_add(1), ALG)
    }
}

/// The first separator ends the policy in RTMR0; the second, in RTMR0 or RTMR1 as the firmware's age has it, says that
/// firmware is done. Both are zero.
fn judge_separator(event: &Event<'_>, before: usize) -> Result<(), EvidenceDenial> {
    let pcr = event.pcr();
    if before >= SEPARATORS {
        return Err(EvidenceDenial::SeparatorRepeated { pcr, event: event.index() });
    }
    if before == 0 && pcr != RTMR0 {
        return Err(EvidenceDenial::SeparatorMissing { pcr: RTMR0 });
    }
    if event.data() != [0; 4] {
        return Err(EvidenceDenial::SeparatorNotZero { pcr, event: event.index() });
    }
    Ok(())
}

fn judge_rtmr0<'a>(
    event: &Event<'a>,
    separators: usize,
    policy: &mut SecureBootPolicy<'a>,
) -> Result<(), EvidenceDenial> {
    let kind = event.kind();
    if kind == EventType::EfiVariableDriverConfig {
        return policy.take(event);
    }
    if kind == EventType::EfiVariableAuthority && separators > 0 {
        return Variable::parse(event).map(|_| ());
    }
    if matches!(kind, EventType::EfiAction | EventType::Action) {
        // as in PCR 7 (PFP §3.3.4.8): a debugger is present, or DMA protection is off
        return Err(EvidenceDenial::ActionRefused { event: event.index(), action: event.description() });
    }
    let is_of_firmware = kind.phase() == Phase::Configuration
        || matches!(
            kind,
            EventType::EfiVariableBoot
                | EventType::EfiVariableBoot2
                | EventType::EfiHandoffTables
                | EventType::EfiHandoffTables2
        );
    if is_of_firmware {
        return Ok(());
    }
    Err(EvidenceDenial::EventTypeRefused { pcr: RTMR0, event: event.index(), kind: kind.name() })
}
