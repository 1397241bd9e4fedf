//! Event log and IMA log beside a quote (E1-E8), and whether they came as asked.

use evidence::{
    denial::EvidenceDenialKind as Kind,
    digest::HashAlg,
    ledger::CheckId::{E1, E2, E3, E4, E5, E6, E7, E8},
};

use super::{
    Defect,
    Place::{Answer, Challenge, Draft, Enrolled},
    defect, ignore, tpm,
};
use crate::{
    boot::{Boot, BootEvent, kind, signature_list, variable},
    genuine::{Answer as A, Draft as D, Machine as M},
};

fn log(answer: &mut A) -> &mut Vec<u8> {
    answer.event_log.as_mut().unwrap()
}

fn ima(answer: &mut A, edit: impl FnOnce(String) -> String) {
    let text = String::from_utf8(answer.ima_log.take().unwrap()).unwrap();
    answer.ima_log = Some(edit(text).into_bytes());
}

/// Index of the first event of this register and type.
fn find(boot: &Boot, pcr: u32, kind: u32) -> usize {
    boot.events.iter().position(|event| event.pcr == pcr && event.kind == kind).unwrap()
}

/// Puts an event before the separator of PCR 7.
fn secure_boot(m: &mut M, event: BootEvent) {
    let at = find(&m.boot, 7, kind::SEPARATOR);
    m.boot.events.insert(at, event);
}

const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];

/// The list's registers without the files: IMA measured nothing.
fn quote_without_ima(d: &mut D, m: &M) {
    let values = d
        .pcrs
        .iter()
        .map(|(pcr, value)| (pcr, if pcr == 10 { evidence::digest::Digest::zero(HashAlg::Sha256) } else { *value }));
    d.pcrs = evidence::tpm::PcrValues::new(HashAlg::Sha256, values.collect()).unwrap();
    let extra_data = d.quote.extra_data.clone();
    d.quote = m.quote_draft(&extra_data, &d.pcrs, m.clock);
}

#[rustfmt::skip]
pub(super) const DEFECTS: &[Defect] = &[
    defect(E1, Kind::Missing, "event log asked for and absent", Answer(|a, _| a.event_log = None)),
    defect(E8, Kind::Missing, "IMA log asked for and absent", Answer(|a, _| a.ima_log = None)),
    defect(E1, Kind::UnexpectedPart, "event log not asked for", Challenge(|c| tpm(c).event_log = false)),
    defect(E8, Kind::UnexpectedPart, "IMA log not asked for", Challenge(|c| tpm(c).ima_log = false)),
    defect(E1, Kind::TooLarge, "event log above its cap", Answer(|a, _| log(a).resize((1 << 20) + 1, 0xff))),
    defect(E8, Kind::TooLarge, "IMA log above its cap", Answer(|a, _| a.ima_log = Some(vec![b'\n'; (8 << 20) + 1]))),
    defect(E1, Kind::Malformed, "event log cut", Answer(|a, _| ignore(log(a).pop()))),
    defect(E1, Kind::Malformed, "event longer than the log", Answer(|a, _| {
        let end = log(a).len();
        let last = b"Exit Boot Services Returned with Success".len();
        log(a)[end - last - 4..end - last].copy_from_slice(&u32::MAX.to_le_bytes());
    })),
    defect(E2, Kind::WeakHash, "SHA-1-only log", Answer(|a, _| {
        // the first event of a TCG 1.2 log is an ordinary one: pcr, type, SHA-1, size
        a.event_log = Some([&[0, 0, 0, 0, 4, 0, 0, 0][..], HashAlg::Sha1.hash(&[&[0; 4]]).as_bytes(), &[4, 0, 0, 0], &[0; 4]].concat());
    })),
    defect(E3, Kind::BankMissing, "log without the quoted bank", Enrolled(|m| m.boot.banks = vec![HashAlg::Sha1])),
    defect(E3, Kind::ReplayMismatch, "an event left out", Answer(|a, m| {
        let mut boot = m.boot.clone();
        boot.events.remove(find(&boot, 4, kind::BOOT_SERVICES_APPLICATION));
        *log(a) = boot.event_log();
    })),
    defect(E3, Kind::ReplayMismatch, "an event invented", Answer(|a, m| {
        let mut boot = m.boot.clone();
        boot.events.push(BootEvent::of_data(9, kind::IPL, b"invented"));
        *log(a) = boot.event_log();
    })),
    defect(E3, Kind::ReplayMismatch, "events in another order", Answer(|a, m| {
        let mut boot = m.boot.clone();
        let at = find(&boot, 4, kind::BOOT_SERVICES_APPLICATION);
        boot.events.swap(at, at + 1);
        *log(a) = boot.event_log();
    })),
    defect(E4, Kind::SeparatorMissing, "no separator in PCR 3", Enrolled(|m| ignore(m.boot.events.remove(find(&m.boot, 3, kind::SEPARATOR))))),
    defect(E4, Kind::SeparatorRepeated, "two separators in PCR 3", Enrolled(|m| m.boot.events.push(BootEvent::of_data(3, kind::SEPARATOR, &[0; 4])))),
    defect(E4, Kind::SeparatorNotZero, "error separator in PCR 3", Enrolled(|m| {
        let at = find(&m.boot, 3, kind::SEPARATOR);
        m.boot.events[at] = BootEvent::of_data(3, kind::SEPARATOR, &[1, 0, 0, 0]);
    })),
    defect(E4, Kind::ConfigurationAfterSeparator, "firmware measured after its separator", Enrolled(|m| {
        m.boot.events.push(BootEvent::of_image(0, kind::PLATFORM_FIRMWARE_BLOB, &[0; 16], b"late"));
    })),
    defect(E5, Kind::EventDataMismatch, "variable told otherwise than measured", Enrolled(|m| {
        let at = find(&m.boot, 7, kind::VARIABLE_DRIVER_CONFIG);
        m.boot.events[at].measured = b"something else".to_vec();
    })),
    defect(E6, Kind::VariableRepeated, "SecureBoot measured twice", Enrolled(|m| secure_boot(m, BootEvent::of_data(7, kind::VARIABLE_DRIVER_CONFIG, &variable(&GLOBAL, "SecureBoot", &[0]))))),
    defect(E6, Kind::SecureBootNotBoolean, "SecureBoot is 2", Enrolled(|m| {
        let at = find(&m.boot, 7, kind::VARIABLE_DRIVER_CONFIG);
        m.boot.events[at] = BootEvent::of_data(7, kind::VARIABLE_DRIVER_CONFIG, &variable(&GLOBAL, "SecureBoot", &[2]));
    })),
    defect(E6, Kind::ActionRefused, "debugger in PCR 7", Enrolled(|m| secure_boot(m, BootEvent::of_data(7, kind::EFI_ACTION, b"UEFI Debug Mode")))),
    defect(E6, Kind::EventTypeRefused, "a loader's event in PCR 7", Enrolled(|m| secure_boot(m, BootEvent::of_data(7, kind::IPL, b"x")))),
    defect(E7, Kind::Malformed, "signature list that does not divide", Enrolled(|m| {
        let mut list = signature_list(b"x");
        list[24] += 1;
        secure_boot(m, BootEvent::of_data(7, kind::VARIABLE_DRIVER_CONFIG, &variable(&GLOBAL, "PKDefault", &list)));
        let at = m.boot.events.iter().position(|e| e.pcr == 7 && e.data.windows(4).any(|w| w == b"P\0K\0")).unwrap();
        m.boot.events[at] = BootEvent::of_data(7, kind::VARIABLE_DRIVER_CONFIG, &variable(&GLOBAL, "PK", &list));
    })),
    defect(E8, Kind::ImaReplayMismatch, "an entry left out", Answer(|a, _| ima(a, |text| text.lines().enumerate().filter(|(n, _)| *n != 1).map(|(_, line)| format!("{line}\n")).collect()))),
    defect(E8, Kind::ImaReplayMismatch, "list cut before the quoted state", Answer(|a, _| ima(a, |text| text.lines().take(2).map(|line| format!("{line}\n")).collect()))),
    defect(E8, Kind::ImaReplayMismatch, "nothing measured and a list beside it", Draft(quote_without_ima)),
    defect(E8, Kind::ImaTemplateMismatch, "a template hash of another entry", Answer(|a, _| ima(a, |text| {
        let hash = text.split(' ').nth(1).unwrap().to_owned();
        let last = text.lines().last().unwrap().split(' ').nth(1).unwrap().to_owned();
        text.replacen(&hash, &last, 1)
    }))),
    defect(E8, Kind::ImaViolation, "a violation after the quoted state", Answer(|a, _| ima(a, |text| {
        format!("{text}10 {zero} ima-ng sha1:{zero} /etc/shadow\n", zero = "0".repeat(40))
    }))),
    defect(E8, Kind::ImaRegister, "an entry of another register", Answer(|a, _| ima(a, |text| {
        let last = text.lines().last().unwrap().replacen("10 ", "11 ", 1);
        format!("{text}{last}\n")
    }))),
    defect(E8, Kind::ImaBootAggregate, "boot_aggregate of another boot", Draft(|d, m| {
        let mut other = m.boot.clone();
        other.events.push(BootEvent::of_data(8, kind::IPL, b"other"));
        let aggregate = other.pcrs(HashAlg::Sha256, &[10]);
        let values = d.pcrs.iter().map(|(pcr, value)| (pcr, if pcr == 10 { *aggregate.get(10).unwrap() } else { *value }));
        d.pcrs = evidence::tpm::PcrValues::new(HashAlg::Sha256, values.collect()).unwrap();
        d.ima_log = Some(other.ima_log());
        let extra_data = d.quote.extra_data.clone();
        d.quote = m.quote_draft(&extra_data, &d.pcrs, m.clock);
    })),
    defect(E8, Kind::Malformed, "list that is none", Answer(|a, _| a.ima_log = Some(b"10 zz\n".to_vec()))),
];
