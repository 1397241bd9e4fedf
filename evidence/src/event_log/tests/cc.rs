//! Logs of trust domains: registers, padding and the boot grammar of RTMR0 and RTMR1.

use super::*;

const RTMR0: u32 = 1;
const RTMR1: u32 = 2;
const RTMR2: u32 = 3;

fn genuine() -> Vec<(u32, EventType, Vec<u8>)> {
    vec![
        (RTMR0, EventType::EfiHandoffTables2, vec![1; 42]),
        (RTMR0, EventType::EfiPlatformFirmwareBlob2, vec![2; 58]),
        (RTMR0, EventType::EfiVariableDriverConfig, variable(GLOBAL, "SecureBoot", &[1])),
        (RTMR0, EventType::EfiVariableDriverConfig, variable(SECURITY, "db", &signature_list(1, 0))),
        (RTMR0, EventType::Separator, vec![0; 4]),
        (RTMR0, EventType::PlatformConfigFlags, vec![3; 9]),
        (RTMR0, EventType::EfiVariableBoot, variable(GLOBAL, "BootOrder", &[0, 0])),
        (RTMR1, EventType::EfiAction, b"Calling EFI Application from Boot Option".to_vec()),
        (RTMR1, EventType::Separator, vec![0; 4]),
        (RTMR0, EventType::EfiVariableAuthority, variable(SECURITY, "db", &[7; 60])),
        (RTMR1, EventType::EfiBootServicesApplication, vec![4; 40]),
        (RTMR2, EventType::Ipl, b"grub_cmd: set timeout=0\0".to_vec()),
        (4, EventType::EventTag, vec![5; 8]),
    ]
}

fn bytes(events: &[(u32, EventType, Vec<u8>)]) -> Vec<u8> {
    let builder = Builder { banks: vec![HashAlg::Sha384], events: Vec::new() };
    let mut out = sha1_event(RTMR0, EventType::NoAction, &[0; 20], &builder.spec_id());
    for (register, kind, data) in events {
        out.extend(agile_event(*register, *kind, &builder.banks, data));
    }
    out
}

fn judge(bytes: &[u8]) -> Result<BootFacts, EvidenceDenial> {
    let log = CcEventLog::parse(bytes)?;
    log.verify_event_data()?;
    log.verify_boot_grammar()
}

#[track_caller]
fn defect(kind: Kind, change: impl FnOnce(&mut Vec<(u32, EventType, Vec<u8>)>)) {
    let mut events = genuine();
    change(&mut events);
    let denial = judge(&bytes(&events)).expect_err("one defect");
    assert_eq!(Kind::from(&denial), kind, "{denial}");
}

#[test]
fn a_genuine_log_reads_with_and_without_its_padding() {
    let exact = bytes(&genuine());
    assert_eq!(judge(&exact), Ok(BootFacts { secure_boot: true, signatures: 1 }));
    for padding in [1, 7, 8, 9, 4096] {
        let padded = [&exact[..], &vec![0xff; padding]].concat();
        assert_eq!(CcEventLog::parse(&padded).unwrap().events(), CcEventLog::parse(&exact).unwrap().events());
        assert_eq!(CcEventLog::trimmed(&padded).unwrap(), exact);
        let mut spoiled = padded.clone();
        *spoiled.last_mut().unwrap() = 0xfe;
        assert!(CcEventLog::parse(&spoiled).is_err(), "{padding}");
    }
    assert!(EventLog::parse(&exact).is_err(), "the header of a TPM's log is in PCR 0");
    // other firmware measures the second separator into RTMR0
    let mut events = genuine();
    events[8].0 = RTMR0;
    assert!(judge(&bytes(&events)).is_ok());
    // and without secure boot the variable has no value
    events[2].2 = variable(GLOBAL, "SecureBoot", &[]);
    assert_eq!(judge(&bytes(&events)).map(|facts| facts.secure_boot), Ok(false));
}

#[test]
fn each_rule_refuses_its_defect() {
    defect(Kind::Malformed, |events| events[3].0 = 0);
    defect(Kind::Malformed, |events| events[3].0 = 5);
    defect(Kind::SeparatorMissing, |events| drop(events.remove(4)));
    defect(Kind::SeparatorMissing, |events| drop(events.remove(8)));
    defect(Kind::SeparatorMissing, |events| {
        events.retain(|(_, kind, _)| !matches!(kind, EventType::Separator | EventType::EfiVariableAuthority))
    });
    defect(Kind::SeparatorRepeated, |events| events.push((RTMR1, EventType::Separator, vec![0; 4])));
    defect(Kind::SeparatorNotZero, |events| events[8].2 = vec![1, 0, 0, 0]);
    defect(Kind::ConfigurationAfterSeparator, |events| events.swap(3, 4));
    defect(Kind::ConfigurationAfterSeparator, |events| {
        let flags = events.remove(5);
        events.push(flags);
    });
    defect(Kind::VariableRepeated, |events| events.insert(3, events[2].clone()));
    defect(Kind::SecureBootNotBoolean, |events| events[2].2 = variable(GLOBAL, "SecureBoot", &[2]));
    defect(Kind::Missing, |events| drop(events.remove(2)));
    defect(Kind::ActionRefused, |events| events[7].0 = RTMR0);
    defect(Kind::EventTypeRefused, |events| events[11].0 = RTMR0);
    defect(Kind::EventTypeRefused, |events| events.insert(2, events[9].clone()));
    defect(Kind::Malformed, |events| events[3].2 = variable(SECURITY, "db", &[0; 40]));
}

#[test]
fn event_data_that_hashes_to_something_else_is_refused() {
    let mut log = bytes(&genuine());
    let at = log.windows(10).position(|window| window == b"Calling EF").unwrap();
    log[at] ^= 1;
    assert_eq!(Kind::from(&judge(&log).unwrap_err()), Kind::EventDataMismatch);
}

#[test]
fn boot_registers_must_replay_and_the_one_of_software_may_differ() {
    let bytes = bytes(&genuine());
    let log = CcEventLog::parse(&bytes).unwrap();
    let values: Vec<[u8; 48]> =
        log.replay().unwrap().iter().map(|value| value.as_bytes().try_into().unwrap()).collect();
    let quoted = |changed: Option<usize>| -> Vec<[u8; 48]> {
        let mut values = values.clone();
        if let Some(rtmr) = changed {
            values[rtmr][47] ^= 1;
        }
        values
    };
    let verify = |values: &[[u8; 48]]| log.verify_replay(&[&values[0], &values[1], &values[2], &values[3]]);
    assert_eq!(verify(&quoted(None)), Ok(true));
    assert_eq!(verify(&quoted(Some(3))), Ok(false));
    for rtmr in 0..3 {
        let denial = verify(&quoted(Some(rtmr))).unwrap_err();
        assert_eq!(Kind::from(&denial), Kind::RtmrReplayMismatch);
    }
    assert_eq!(log.measured(2).count(), 1);
    assert_eq!(log.measured(0).count(), 8);
}

#[test]
fn a_log_without_sha384_is_refused() {
    let builder = Builder { banks: vec![HashAlg::Sha256], events: Vec::new() };
    let log = sha1_event(RTMR0, EventType::NoAction, &[0; 20], &builder.spec_id());
    assert_eq!(Kind::from(&CcEventLog::parse(&log).unwrap_err()), Kind::BankMissing);
    let legacy = sha1_event(RTMR0, EventType::Separator, &[1; 20], &[0; 4]);
    assert_eq!(Kind::from(&CcEventLog::parse(&legacy).unwrap_err()), Kind::Malformed);
}
