//! E4, E6, E7: the order of events in the firmware's registers, and the secure boot policy in PCR 7.
//!
//! Types are not hashed, so whoever can write the log may rename events. These rules therefore only ever
//! refuse: an event of an unexpected type where a decision is read from is a denial, never skipped.

use super::{
    EventLog,
    event::{Event, EventType, Phase},
    uefi::{Guid, Variable, signature_lists},
};
use crate::denial::EvidenceDenial;

/// Registers that the firmware closes with a separator (PFP §3.3.4).
const FIRMWARE_PCRS: std::ops::RangeInclusive<u32> = 0..=7;
/// Where the secure boot policy is measured (PFP §3.3.4.8).
const SECURE_BOOT_PCR: u32 = 7;

/// What the grammar of a log establishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootFacts {
    /// Value of the SecureBoot variable that PCR 7 covers.
    pub secure_boot: bool,
    /// Signatures in PK, KEK, db, dbx and their like, as measured.
    pub signatures: usize,
}

pub(super) fn verify(log: &EventLog<'_>) -> Result<BootFacts, EvidenceDenial> {
    separators(log)?;
    secure_boot_policy(log)
}

/// E4: exactly one separator in each of PCR 0-7, of value 0, and no configuration after it.
fn separators(log: &EventLog<'_>) -> Result<(), EvidenceDenial> {
    let mut separated = 0u32;
    for event in log.events().iter().filter(|event| event.is_extended() && FIRMWARE_PCRS.contains(&event.pcr())) {
        let pcr = event.pcr();
        let bit = 1u32.unbounded_shl(pcr);
        let is_after = separated & bit != 0;
        if event.kind() == EventType::Separator {
            if is_after {
                return Err(EvidenceDenial::SeparatorRepeated { pcr, event: event.index() });
            }
            // PFP §10.4.4: 1 says that firmware met an error; anything but 0 is denied here.
            if event.data() != [0; 4] {
                return Err(EvidenceDenial::SeparatorNotZero { pcr, event: event.index() });
            }
            separated |= bit;
        } else if is_after && event.kind().phase() == Phase::Configuration {
            let kind = event.kind().name();
            return Err(EvidenceDenial::ConfigurationAfterSeparator { pcr, event: event.index(), kind });
        }
    }
    match FIRMWARE_PCRS.clone().find(|pcr| separated & 1u32.unbounded_shl(*pcr) == 0) {
        Some(pcr) => Err(EvidenceDenial::SeparatorMissing { pcr }),
        None => Ok(()),
    }
}

/// E6 and E7: PCR 7 is variables, then the separator, then the authorities that images were loaded by.
fn secure_boot_policy(log: &EventLog<'_>) -> Result<BootFacts, EvidenceDenial> {
    let mut policy = SecureBootPolicy::default();
    let mut separated = false;
    for event in log.events().iter().filter(|event| event.is_extended() && event.pcr() == SECURE_BOOT_PCR) {
        let kind = event.kind();
        if kind == EventType::Separator {
            separated = true;
        } else if kind == EventType::EfiVariableDriverConfig {
            policy.take(event)?;
        } else if kind == EventType::EfiVariableAuthority && separated {
            Variable::parse(event)?;
        } else if matches!(kind, EventType::EfiAction | EventType::Action) {
            // PFP §3.3.4.8: actions in PCR 7 say that a debugger is present or that DMA protection is off.
            return Err(EvidenceDenial::ActionRefused { event: event.index(), action: event.description() });
        } else {
            let (event, kind) = (event.index(), kind.name());
            return Err(EvidenceDenial::EventTypeRefused { pcr: SECURE_BOOT_PCR, event, kind });
        }
    }
    policy.facts()
}

/// The variables of the secure boot policy, as they are measured one after the other.
#[derive(Default)]
pub(super) struct SecureBootPolicy<'a> {
    /// A SecureBoot variable without a value says off.
    absent_is_off: bool,
    variables: Vec<(Guid, &'a [u8])>,
    secure_boot: Option<bool>,
    signatures: usize,
}

impl<'a> SecureBootPolicy<'a> {
    /// TDX firmware is often built without secure boot, and then measures its variables as absent (PFP §3.3.4.8).
    pub(super) fn of_trust_domain() -> Self {
        Self { absent_is_off: true, ..Self::default() }
    }

    pub(super) fn take(&mut self, event: &Event<'a>) -> Result<(), EvidenceDenial> {
        let variable = policy_variable(event, &self.variables)?;
        self.variables.push((variable.guid, variable.name));
        if variable.guid == Guid::GLOBAL && variable.is_named("SecureBoot") {
            let is_absent = self.absent_is_off && variable.data.is_empty();
            self.secure_boot = Some(!is_absent && boolean(event, &variable)?);
        }
        if variable.has_signature_lists() {
            self.signatures = self.signatures.saturating_add(signature_lists(variable.data)?);
        }
        Ok(())
    }

    pub(super) fn facts(self) -> Result<BootFacts, EvidenceDenial> {
        let missing = EvidenceDenial::Missing { part: "SecureBoot variable in the secure boot policy" };
        Ok(BootFacts { secure_boot: self.secure_boot.ok_or(missing)?, signatures: self.signatures })
    }
}

fn policy_variable<'a>(event: &Event<'a>, earlier: &[(Guid, &[u8])]) -> Result<Variable<'a>, EvidenceDenial> {
    let variable = Variable::parse(event)?;
    if variable.padding_bytes != 0 {
        return Err(EvidenceDenial::TrailingBytes {
            structure: "UEFI_VARIABLE_DATA",
            extra_bytes: variable.padding_bytes,
        });
    }
    if earlier.contains(&(variable.guid, variable.name)) {
        return Err(EvidenceDenial::VariableRepeated { event: event.index(), name: event.description() });
    }
    Ok(variable)
}

fn boolean(event: &Event<'_>, variable: &Variable<'_>) -> Result<bool, EvidenceDenial> {
    match variable.data {
        [0] => Ok(false),
        [1] => Ok(true),
        other => Err(EvidenceDenial::SecureBootNotBoolean { event: event.index(), got_bytes: other.len() }),
    }
}
