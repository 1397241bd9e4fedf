//! E4 to E7: what firmware may have done, and what its data says.

use super::*;

#[test]
fn e4_one_separator_of_zero_in_each_register() {
    for pcr in 0..=7 {
        defect(Kind::SeparatorMissing, |builder| {
            let position = builder.position(EventType::Separator, pcr);
            // Of PCR 7 the authority would come before the separator too.
            builder.events.remove(position);
            builder.events.retain(|(_, kind, _)| *kind != EventType::EfiVariableAuthority);
        });
        defect(Kind::SeparatorRepeated, |builder| builder.events.push((pcr, EventType::Separator, vec![0; 4])));
        for value in [vec![1, 0, 0, 0], vec![0xff; 4], vec![0; 3], vec![0; 5], vec![]] {
            defect(Kind::SeparatorNotZero, |builder| {
                let position = builder.position(EventType::Separator, pcr);
                builder.events[position].2 = value;
            });
        }
    }
}

#[test]
fn e4_no_configuration_after_the_separator() {
    let late = [
        EventType::SCrtmVersion,
        EventType::SCrtmContents,
        EventType::PostCode,
        EventType::CpuMicrocode,
        EventType::PlatformConfigFlags,
        EventType::EfiPlatformFirmwareBlob,
        EventType::EfiPlatformFirmwareBlob2,
        EventType::NonhostConfig,
    ];
    for kind in late {
        defect(Kind::ConfigurationAfterSeparator, |builder| builder.events.push((0, kind, b"late".to_vec())));
    }
    defect(Kind::ConfigurationAfterSeparator, |builder| {
        builder.events.push((7, EventType::EfiVariableDriverConfig, variable(SECURITY, "dbt", &signature_list(1, 0))));
    });
    // Boot options are measured after the separator on real machines.
    let mut builder = Builder::genuine();
    builder.events.push((1, EventType::EfiVariableBoot, variable(GLOBAL, "Boot0001", b"option")));
    judge(&builder.bytes()).unwrap();
}

#[test]
fn e5_data_of_hash_of_data_events_is_what_was_hashed() {
    let genuine = Builder::genuine();
    for index in 0..genuine.events.len() {
        let bytes = genuine.bytes();
        let log = EventLog::parse(&bytes).unwrap();
        let event = &log.events()[index + 1];
        let (is_demanded, at) = (event.is_digest_of_data(), event.offset() + 12 + 22 + 34 + 4);
        let length = event.data().len();
        for byte in at..at + length {
            let mut changed = bytes.clone();
            changed[byte] ^= 1;
            let denied = EventLog::parse(&changed).unwrap().verify_event_data(HashAlg::Sha256).is_err();
            assert_eq!(denied, is_demanded, "{:?} byte {}", genuine.events[index].1, byte - at);
        }
    }
    byte_defect(Kind::EventDataMismatch, |bytes| {
        let log = EventLog::parse(&Builder::genuine().bytes()).unwrap().events()[1].offset();
        bytes[log + 12 + 2] ^= 1; // the digest itself
    });
}

#[test]
fn e5_what_real_firmware_hashes_is_known() {
    let one = |pcr, kind, data: &[u8], hashed: &[u8]| {
        let mut bytes = Builder { banks: vec![HashAlg::Sha256], events: Vec::new() }.bytes();
        let mut event = agile_event(pcr, kind, &[HashAlg::Sha256], data);
        event[14..46].copy_from_slice(HashAlg::Sha256.hash(&[hashed]).as_bytes());
        bytes.extend(event);
        let log = EventLog::parse(&bytes).unwrap();
        (log.events()[1].data_binding(HashAlg::Sha256), log.verify_event_data(HashAlg::Sha256).is_ok())
    };
    let boot = variable(GLOBAL, "BootOrder", b"\x01\0");
    assert_eq!(one(1, EventType::EfiVariableBoot, &boot, &boot), (DataBinding::Whole, true));
    assert_eq!(one(1, EventType::EfiVariableBoot, &boot, b"\x01\0"), (DataBinding::VariableData, true));
    assert_eq!(one(1, EventType::EfiVariableBoot2, &boot, b"\x01\0"), (DataBinding::VariableData, false));
    let shim = [variable(SECURITY, "Shim", b"certificate"), vec![0xaf]].concat();
    let less = &shim[..shim.len() - 1];
    assert_eq!(one(7, EventType::EfiVariableAuthority, &shim, less), (DataBinding::AllButLastByte, true));
    assert_eq!(one(7, EventType::EfiVariableDriverConfig, &shim, less), (DataBinding::AllButLastByte, false));
    assert_eq!(one(8, EventType::Ipl, b"grub_cmd: ls\0", b"ls"), (DataBinding::AfterPrefix, true));
    assert_eq!(one(8, EventType::Ipl, b"grub_cmd ls\0", b"ls\0"), (DataBinding::AfterPrefix, true));
    assert_eq!(one(9, EventType::Ipl, b"/boot/vmlinuz\0", b"the kernel"), (DataBinding::Nothing, true));
    assert_eq!(one(0, EventType::Separator, &[0; 4], &[0; 3]), (DataBinding::AllButLastByte, false));
}

#[test]
fn e6_pcr_7_has_a_strict_grammar() {
    let policy = |builder: &mut Builder, name: &str, data: &[u8]| {
        builder.events.insert(2, (7, EventType::EfiVariableDriverConfig, variable(GLOBAL, name, data)));
    };
    defect(Kind::VariableRepeated, |builder| policy(builder, "SecureBoot", &[0]));
    defect(Kind::VariableRepeated, |builder| policy(builder, "PK", &[]));
    defect(Kind::VariableRepeated, |builder| {
        let db = builder.events[5].clone();
        builder.events.insert(6, db);
    });
    for value in [&[][..], &[2], &[1, 0], &[1, 1, 1, 1]] {
        defect(Kind::SecureBootNotBoolean, |builder| builder.events[2].2 = variable(GLOBAL, "SecureBoot", value));
    }
    defect(Kind::Missing, |builder| drop(builder.events.remove(2)));
    defect(Kind::Missing, |builder| builder.events[2].2 = variable(SECURITY, "SecureBoot", &[1]));
    for action in ["UEFI Debug Mode", "DMA Protection Disabled", "anything"] {
        defect(Kind::ActionRefused, |builder| {
            builder.events.insert(3, (7, EventType::EfiAction, action.as_bytes().to_vec()));
        });
    }
    for kind in [EventType::EventTag, EventType::Ipl, EventType::Unknown(0xa0), EventType::EfiBootServicesDriver] {
        defect(Kind::EventTypeRefused, |builder| builder.events.insert(3, (7, kind, b"x".to_vec())));
    }
    // Renamed: a type is in no digest, so the log still replays.
    defect(Kind::EventTypeRefused, |builder| builder.events[5].1 = EventType::Unknown(0x0000_0002));
    // Authorities only come after the separator.
    defect(Kind::EventTypeRefused, |builder| {
        builder.events.insert(3, (7, EventType::EfiVariableAuthority, variable(SECURITY, "db", &[0; 20])));
    });
    defect(Kind::TrailingBytes, |builder| builder.events[3].2.push(0));
    defect(Kind::Malformed, |builder| builder.events[3].2.truncate(20));
    defect(Kind::Malformed, |builder| builder.events[3].2[16..24].copy_from_slice(&u64::MAX.to_le_bytes()));
    defect(Kind::Malformed, |builder| builder.events[3].2[24..32].copy_from_slice(&u64::MAX.to_le_bytes()));
}

#[test]
fn e7_signatures_fill_their_lists_exactly() {
    let with_db = |list: Vec<u8>| move |builder: &mut Builder| builder.events[5].2 = variable(SECURITY, "db", &list);
    let field = |offset: usize, value: u32| {
        let mut list = signature_list(2, 5);
        list[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        list
    };
    assert_eq!(uefi::signature_lists(&signature_list(2, 5)).unwrap(), 2);
    assert_eq!(uefi::signature_lists(&[]).unwrap(), 0);
    for list in [
        field(16, 0),
        field(16, 27),
        field(16, 28 + 5),
        field(16, 28 + 5 + 95),
        field(16, u32::MAX),
        field(20, u32::MAX),
        field(20, 4),
        field(24, 0),
        field(24, 16),
        field(24, 96),
        field(24, 24),
        field(24, u32::MAX),
        signature_list(1, 0)[..60].to_vec(),
        [signature_list(1, 0), vec![0; 5]].concat(),
        signature_list(0, 0),
    ] {
        assert!(uefi::signature_lists(&list).is_err(), "{}", hex::encode(&list[..28.min(list.len())]));
        defect(Kind::Malformed, with_db(list));
    }
    // CVE-2026-12681: header bytes are not signatures.
    defect(Kind::Malformed, |builder| {
        let mut list = signature_list(1, 0);
        list[20] = 48;
        builder.events[5].2 = variable(SECURITY, "db", &list);
    });
}
