//! PCR values of a machine that has not booted yet: what the firmware, systemd-stub and Linux's EFI stub measure of an
//! image, its command line and its initrd, and of the Secure Boot variables.
//!
//! What is derivable: PCR 4 (what is started), PCR 7 (Secure Boot), PCR 9 (command line and initrd) and PCR 11 (a
//! unified kernel image). PCR 0, 2 and 3 are the firmware's and its options' own code, PCR 1, 5 and 6 are a machine's
//! configuration, partitions and events: take them from the event log of a machine.

mod boot;
mod log;
mod pe;
mod secure_boot;
mod uki;

use evidence::digest::{Digest, HashAlg};

pub(super) use self::log::of_log;
pub use self::{
    boot::{Boot, Image, LoadOptions, load_options, pcr4, pcr9},
    log::from_event_log,
    pe::PeImage,
    secure_boot::{SecureBoot, SecureBootVariables, SignatureDatabase, pcr7},
    uki::{InnerKernel, PHASES, Uki},
};
use super::proposal::{ComputedRegister, ComputedValue, Origin, PredictedEvent};

/// A register that starts at zero and has these events extended, in order.
fn extended(alg: HashAlg, pcr: u8, events: Vec<PredictedEvent>) -> ComputedValue {
    let value = events.iter().fold(Digest::zero(alg), |value, event| value.extend(event.digest.as_bytes()));
    ComputedValue { register: ComputedRegister::Pcr(pcr), value, origin: Origin::Derived, events }
}

pub(super) fn event(kind: &'static str, description: impl Into<String>, digest: Digest) -> PredictedEvent {
    PredictedEvent { kind, description: description.into(), digest }
}

/// EV_SEPARATOR of a boot that went well (PFP §10.4.1): the digest of four zero bytes.
pub(super) fn separator(alg: HashAlg) -> PredictedEvent {
    event("EV_SEPARATOR", "00000000", alg.hash(&[&[0; 4]]))
}
