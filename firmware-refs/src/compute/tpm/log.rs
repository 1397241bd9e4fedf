//! Registers as the event log of a machine leads to them: observed, not derived.

use evidence::{
    EvidenceDenial,
    digest::{Digest, HashAlg},
    event_log::{Event, EventLog},
};

use crate::compute::proposal::{ComputedRegister, ComputedValue, Origin, PredictedEvent};

/// PCR 0 to 7 of a TPM's event log in the bank of `alg`, those that it extends.
///
/// # Errors
/// What is wrong with the log (E1, E2), digests that are not of their data (E5), and a bank that it does not carry.
pub fn from_event_log(log: &[u8], alg: HashAlg) -> Result<Vec<ComputedValue>, EvidenceDenial> {
    let log = EventLog::parse(log)?;
    log.require_crypto_agile()?;
    log.verify_event_data(alg)?;
    let replay = log.replay(alg)?;
    let values = replay.extended().filter(|(pcr, _)| *pcr <= 7);
    Ok(values.map(|(pcr, value)| of_log(ComputedRegister::Pcr(pcr), value, log.measured(pcr, alg))).collect())
}

pub(in crate::compute) fn of_log<'a, 'b: 'a>(
    register: ComputedRegister,
    value: Digest,
    events: impl Iterator<Item = (&'a Event<'b>, Digest)>,
) -> ComputedValue {
    let events = events.map(|(event, digest)| PredictedEvent {
        kind: event.kind().name(),
        description: event.description(),
        digest,
    });
    ComputedValue { register, value, origin: Origin::Replayed, events: events.collect() }
}
