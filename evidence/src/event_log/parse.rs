//! E1 and E2: from bytes to events. TCG PC Client Platform Firmware Profile §10 (TCG_PCR_EVENT2,
//! TCG_EfiSpecIdEvent, TCG_EfiStartupLocalityEvent) and, for SHA-1-only logs, TCG_PCClientPCREvent.

use super::{
    EventLog, LogFormat,
    event::{Digests, Event, EventType, digest_bytes},
};
use crate::{denial::EvidenceDenial, digest::HashAlg, reader::Reader};

/// Largest log.
pub const LOG_CAP_BYTES: usize = 1 << 20;
/// Most events in a log.
pub const EVENTS_CAP: usize = 16 * 1024;
/// Largest event data.
pub const EVENT_CAP_BYTES: usize = 64 * 1024;
/// Most algorithms in a Spec ID event: a TPM has at most 16 banks (TPM2 Library Part 2, TPM2_NUM_PCR_BANKS).
pub const ALGORITHMS_CAP: usize = 16;
/// Platform registers (PFP §3.3.4).
pub(super) const PCRS: u32 = 24;
/// Run-time measurement registers (TDX Module ABI, TD_INFO.RTMR).
const CC_REGISTERS: u32 = 4;
/// PCRIndex of informative events that belong to no register.
const NO_PCR: u32 = u32::MAX;

const SPEC_ID_AGILE: &[u8] = b"Spec ID Event03\0";
const SIGNATURE_STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";
/// What a SHA-1-only log may begin with when it begins with EV_NO_ACTION: TCG BIOS and EFI specifications
/// and the informative events of the PFP.
const FIRST_NO_ACTION: [&[u8]; 5] =
    [b"Spec ID Event00\0", b"Spec ID Event02\0", SIGNATURE_STARTUP_LOCALITY, b"SP800-155 Event\0", b"SP800-155 Event3"];

/// Whose registers a log is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registers {
    /// PCRs of a TPM.
    Pcr,
    /// Measurement registers of a confidential VM (UEFI §38.4.1): 0 is MRTD, which nothing extends after launch, 1 to 4
    /// are RTMR0 to RTMR3. The log is a table of fixed size, filled up with 0xff.
    Cc,
}

impl Registers {
    fn has(self, register: u32, kind: EventType) -> bool {
        let informative = kind == EventType::NoAction && (register == NO_PCR || register == 0);
        match self {
            Self::Pcr => register < PCRS || (informative && register == NO_PCR),
            Self::Cc => (1..=CC_REGISTERS).contains(&register) || informative,
        }
    }

    /// Whether what is left is the padding of a table, which must then be nothing else.
    fn is_padding(self, reader: &Reader<'_>) -> Result<bool, EvidenceDenial> {
        if self == Self::Pcr {
            return Ok(false);
        }
        let mut rest = *reader;
        let rest = rest.take(rest.left())?;
        let is_filler = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0xff);
        // no event can begin so: there is neither such a register nor such a type
        let head = rest.get(..8).unwrap_or(rest);
        match (is_filler(head), is_filler(rest)) {
            (false, _) => Ok(false),
            (true, true) => Ok(true),
            (true, false) => Err(reader.malformed("something else in the padding")),
        }
    }
}

pub(super) fn parse(bytes: &[u8], registers: Registers) -> Result<EventLog<'_>, EvidenceDenial> {
    if bytes.len() > LOG_CAP_BYTES {
        return Err(EvidenceDenial::TooLarge { part: "event log", got_bytes: bytes.len(), cap_bytes: LOG_CAP_BYTES });
    }
    let mut reader = Reader::new("event log", bytes);
    let first = legacy_event(&mut reader, 0, registers)?;
    let format = format_of(&first, registers)?;
    if let LogFormat::CryptoAgile { .. } = format {
        reader.take(vendor_bytes_outside(&first))?;
    }
    // about as many as events of middling size make of what is left
    let mut events = Vec::with_capacity(reader.left().div_euclid(128).clamp(1, EVENTS_CAP));
    events.push(first);
    while !reader.is_at_end() && !registers.is_padding(&reader)? {
        if events.len() >= EVENTS_CAP {
            return Err(EvidenceDenial::TooMany { part: "event log events", cap: EVENTS_CAP });
        }
        let index = events.len();
        events.push(match format {
            LogFormat::Sha1Only => legacy_event(&mut reader, index, registers)?,
            LogFormat::CryptoAgile { table } => agile_event(&mut reader, index, table, registers)?,
        });
    }
    let startup_locality = match registers {
        Registers::Pcr => startup_locality(&events)?,
        // run-time measurement registers start at zero, whatever a log says
        Registers::Cc => 0,
    };
    Ok(EventLog { format, events, startup_locality, parsed_bytes: reader.offset() })
}

/// TCG_PCClientPCREvent: also the form of the first event of a crypto-agile log (PFP §10.2.1).
fn legacy_event<'a>(reader: &mut Reader<'a>, index: usize, registers: Registers) -> Result<Event<'a>, EvidenceDenial> {
    let offset = reader.offset();
    let (pcr, kind) = register_and_type(reader, registers)?;
    let digest = reader.take(HashAlg::Sha1.len())?;
    let data = event_data(reader)?;
    let event = Event { index, offset, pcr, kind, digests: Digests::Sha1(digest), data };
    unextended_has_no_digest(reader, &event)?;
    Ok(event)
}

/// TCG_PCR_EVENT2.
fn agile_event<'a>(
    reader: &mut Reader<'a>,
    index: usize,
    table: &'a [u8],
    registers: Registers,
) -> Result<Event<'a>, EvidenceDenial> {
    let offset = reader.offset();
    let (pcr, kind) = register_and_type(reader, registers)?;
    let count = reader.length_u32()?;
    if count == 0 || count > table.len().div_euclid(4) {
        return Err(reader.malformed("digest count is zero or more than the algorithm table has"));
    }
    let mut seen = [0u16; ALGORITHMS_CAP];
    let mut rest = *reader;
    let start = rest.offset();
    for slot in seen.iter_mut().take(count) {
        let id = rest.u16()?;
        let size = digest_bytes(table, id).ok_or(EvidenceDenial::AlgorithmRefused { what: "event digest", got: id })?;
        *slot = id;
        rest.take(size)?;
    }
    if has_repeats(&seen, count) {
        return Err(reader.malformed("two digests of one algorithm"));
    }
    let pairs = reader.take(rest.offset().saturating_sub(start))?;
    let data = event_data(reader)?;
    let event = Event { index, offset, pcr, kind, digests: Digests::Agile { pairs, table }, data };
    unextended_has_no_digest(reader, &event)?;
    Ok(event)
}

fn register_and_type(reader: &mut Reader<'_>, registers: Registers) -> Result<(u32, EventType), EvidenceDenial> {
    let register = reader.u32()?;
    let kind = EventType::from_number(reader.u32()?);
    if registers.has(register, kind) { Ok((register, kind)) } else { Err(reader.malformed("no such register")) }
}

fn event_data<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], EvidenceDenial> {
    let size = reader.length_u32()?;
    if size > reader.left() {
        return Err(reader.malformed("event size is beyond the log"));
    }
    if size > EVENT_CAP_BYTES {
        return Err(EvidenceDenial::TooLarge { part: "event data", got_bytes: size, cap_bytes: EVENT_CAP_BYTES });
    }
    reader.take(size)
}

/// PFP §10.4.5: the digests of an EV_NO_ACTION event are all zero.
fn unextended_has_no_digest(reader: &Reader<'_>, event: &Event<'_>) -> Result<(), EvidenceDenial> {
    if event.is_extended() || event.raw_digests().all(|(_, digest)| digest.iter().all(|byte| *byte == 0)) {
        Ok(())
    } else {
        Err(reader.malformed("EV_NO_ACTION event with a digest"))
    }
}

fn format_of<'a>(first: &Event<'a>, registers: Registers) -> Result<LogFormat<'a>, EvidenceDenial> {
    if registers == Registers::Cc && !first.data.starts_with(SPEC_ID_AGILE) {
        return Err(Reader::new("Spec ID event", first.data).malformed("unknown signature"));
    }
    if first.is_extended() {
        return Ok(LogFormat::Sha1Only);
    }
    if registers == Registers::Pcr && first.pcr != 0 && first.data.starts_with(SPEC_ID_AGILE) {
        return Err(Reader::new("Spec ID event", first.data).malformed("PCR is not 0"));
    }
    if first.data.starts_with(SPEC_ID_AGILE) {
        return spec_id(first).map(|table| LogFormat::CryptoAgile { table });
    }
    if FIRST_NO_ACTION.iter().any(|known| first.data.starts_with(known)) {
        return Ok(LogFormat::Sha1Only);
    }
    Err(Reader::new("Spec ID event", first.data).malformed("unknown signature"))
}

/// TCG_EfiSpecIdEvent (PFP §10.4.5.1): returns its algorithm table once every row of it is consistent.
fn spec_id<'a>(event: &Event<'a>) -> Result<&'a [u8], EvidenceDenial> {
    let mut reader = Reader::new("Spec ID event", event.data);
    reader.take(SPEC_ID_AGILE.len())?;
    let _platform_class = reader.u32()?;
    let _version_minor = reader.u8()?;
    if reader.u8()? != 2 {
        return Err(reader.malformed("specVersionMajor is not 2"));
    }
    let _errata = reader.u8()?;
    if !matches!(reader.u8()?, 1 | 2) {
        return Err(reader.malformed("uintnSize is neither 1 (32 bits) nor 2 (64 bits)"));
    }
    let count = reader.length_u32()?;
    if count == 0 || count > ALGORITHMS_CAP {
        return Err(reader.malformed("number of algorithms is zero or more than a TPM has banks"));
    }
    let mut seen = [0u16; ALGORITHMS_CAP];
    let mut rows = reader;
    for slot in seen.iter_mut().take(count) {
        *slot = rows.u16()?;
        let size = usize::from(rows.u16()?);
        let known =
            registered_size(*slot).ok_or(EvidenceDenial::AlgorithmRefused { what: "event log bank", got: *slot })?;
        if size != known {
            return Err(rows.malformed("digest size is not the algorithm's"));
        }
    }
    if has_repeats(&seen, count) {
        return Err(rows.malformed("one algorithm stands twice"));
    }
    let table = reader.take(rows.offset().saturating_sub(reader.offset()))?;
    let vendor_bytes = usize::from(reader.u8()?);
    if !reader.is_at_end() {
        reader.take(vendor_bytes)?;
    }
    if !reader.is_at_end() {
        return Err(EvidenceDenial::TrailingBytes { structure: "Spec ID event", extra_bytes: reader.left() });
    }
    Ok(table)
}

/// Some writers leave vendorInfo out of the event's size and put it behind the event. An event that ends with a
/// vendorInfoSize other than zero has no other reading.
fn vendor_bytes_outside(first: &Event<'_>) -> usize {
    let table_end = first.data.get(24..28).and_then(|count| count.first_chunk::<4>()).map(|count| {
        let rows = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        rows.saturating_mul(4).saturating_add(28)
    });
    match (first.data.split_last(), table_end) {
        (Some((vendor_bytes, before)), Some(end)) if before.len() == end => usize::from(*vendor_bytes),
        _ => 0,
    }
}

/// Digest size of a hash algorithm in the TCG Algorithm Registry: also of those that we do not compute,
/// since their digests stand between the ones that we need.
fn registered_size(id: u16) -> Option<usize> {
    match id {
        0x0012 | 0x0027 => Some(32), // SM3-256, SHA3-256
        0x0028 => Some(48),          // SHA3-384
        0x0029 => Some(64),          // SHA3-512
        other => HashAlg::from_tpm(other).map(HashAlg::len),
    }
}

fn has_repeats(ids: &[u16; ALGORITHMS_CAP], count: usize) -> bool {
    let ids = ids.get(..count).unwrap_or(ids);
    ids.iter().enumerate().any(|(position, id)| ids.iter().take(position).any(|earlier| earlier == id))
}

/// TCG_EfiStartupLocalityEvent (PFP §10.4.5.3): the locality that TPM2_Startup came from, which is the value
/// PCR 0 starts at. At most once, and before anything was extended into PCR 0.
fn startup_locality(events: &[Event<'_>]) -> Result<u8, EvidenceDenial> {
    let mut locality = None;
    let mut pcr0_extended = false;
    for event in events {
        pcr0_extended |= event.is_extended() && event.pcr == 0;
        if event.is_extended() || !event.data.starts_with(SIGNATURE_STARTUP_LOCALITY) {
            continue;
        }
        let mut reader = Reader::new("StartupLocality event", event.data);
        reader.take(SIGNATURE_STARTUP_LOCALITY.len())?;
        let value = reader.u8()?;
        if !reader.is_at_end() || event.pcr != 0 || !matches!(value, 0 | 3 | 4) {
            return Err(reader.malformed("not a locality of 0, 3 or 4 for PCR 0"));
        }
        if pcr0_extended || locality.is_some() {
            return Err(reader.malformed("stands twice, or after an event of PCR 0"));
        }
        locality = Some(value);
    }
    Ok(locality.unwrap_or(0))
}
