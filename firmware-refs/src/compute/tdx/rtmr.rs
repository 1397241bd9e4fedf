//! Run-time measurement registers: derived from a kernel that is booted directly, or replayed from a log.

use evidence::{
    EvidenceDenial,
    digest::{Digest, HashAlg},
    event_log::CcEventLog,
};

use crate::compute::{
    proposal::{ComputedRegister, ComputedValue, Origin, PredictedEvent},
    tpm::{self, LoadOptions},
};

/// The register that firmware measures the last separator into: edk2 changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeparatorIn {
    /// RTMR 0, as firmware of 2023 did.
    Rtmr0,
    /// RTMR 1, as firmware does since.
    Rtmr1,
}

/// RTMR 1 of a kernel that QEMU hands to the firmware (`-kernel`), by its hash: the kernel, the attempt to boot it,
/// and its leave of the firmware.
#[must_use]
pub fn rtmr1(kernel: Digest, separator: SeparatorIn) -> ComputedValue {
    let action = |text: &str| tpm::event("EV_EFI_ACTION", text, ALG.hash(&[text.as_bytes()]));
    let separator = match separator {
        SeparatorIn::Rtmr0 => None,
        SeparatorIn::Rtmr1 => Some(tpm::separator(ALG)),
    };
    let events = [
        Some(tpm::event("EV_EFI_BOOT_SERVICES_APPLICATION", "kernel", kernel)),
        Some(action("Calling EFI Application from Boot Option")),
        separator,
        Some(action("Exit Boot Services Invocation")),
        Some(action("Exit Boot Services Returned with Success")),
    ];
    extended(1, events.into_iter().flatten().collect())
}

/// RTMR 2: what Linux's EFI stub is handed.
#[must_use]
pub fn rtmr2(options: Option<&LoadOptions>, initrd: Option<Digest>) -> ComputedValue {
    extended(2, tpm::pcr9(ALG, options, initrd).events)
}

/// RTMR 0 to 3 of a trust domain's event log.
///
/// # Errors
/// What is wrong with the log (E1, E2), and digests that are not of their data (E5).
pub fn from_cc_log(log: &[u8]) -> Result<Vec<ComputedValue>, EvidenceDenial> {
    let log = CcEventLog::parse(log)?;
    log.verify_event_data()?;
    let values = (0u8..).zip(log.replay()?);
    Ok(values.map(|(rtmr, value)| tpm::of_log(ComputedRegister::Rtmr(rtmr), value, log.measured(rtmr))).collect())
}

/// The algorithm of RTMRs.
const ALG: HashAlg = HashAlg::Sha384;

fn extended(rtmr: u8, events: Vec<PredictedEvent>) -> ComputedValue {
    let value = events.iter().fold(Digest::zero(ALG), |value, event| value.extend(event.digest.as_bytes()));
    ComputedValue { register: ComputedRegister::Rtmr(rtmr), value, origin: Origin::Derived, events }
}
