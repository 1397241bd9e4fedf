//! E1, E2: what is a log at all.

use super::*;

#[test]
fn a_genuine_log_passes_every_check() {
    let facts = judge(&Builder::genuine().bytes()).unwrap();
    assert_eq!(facts, BootFacts { secure_boot: true, signatures: 8 });
    let mut off = Builder::genuine();
    off.events[2].2 = variable(GLOBAL, "SecureBoot", &[0]);
    assert!(!judge(&off.bytes()).unwrap().secure_boot);
}

#[test]
fn e1_caps_hold_before_anything_is_kept() {
    byte_defect(Kind::TooLarge, |bytes| bytes.resize(LOG_CAP_BYTES + 1, 0));
    defect(Kind::TooLarge, |builder| builder.events[0].2 = vec![0; EVENT_CAP_BYTES + 1]);
    let small = agile_event(8, EventType::Ipl, &[HashAlg::Sha1], b"");
    let many = Builder { banks: vec![HashAlg::Sha1], events: Vec::new() }.bytes();
    denied(&[many.clone(), small.repeat(EVENTS_CAP)].concat(), Kind::TooMany);
    assert!(EventLog::parse(&[many, small.repeat(EVENTS_CAP - 1)].concat()).is_ok());
    assert!(EventLog::parse(&agile_large(EVENT_CAP_BYTES)).is_ok());
}

fn agile_large(data: usize) -> Vec<u8> {
    let mut builder = Builder::genuine();
    builder.events[0].2 = vec![0; data];
    builder.bytes()
}

#[test]
fn e1_lengths_that_overflow_or_lie_are_malformed() {
    let first_event = Builder::genuine().spec_id().len() + 32;
    for (offset, value) in [
        (28, u32::MAX),                         // size of the Spec ID event
        (first_event + 8, u32::MAX),            // digest count
        (first_event + 8, 0),                   // no digest
        (first_event + 8, 3),                   // more digests than banks
        (first_event, 24),                      // no such PCR
        (first_event, 0x7fff_ffff),             // no such PCR
        (first_event, u32::MAX),                // no PCR, but extended
        (first_event + 12 + 22 + 34, u32::MAX), // event size
        (first_event + 12 + 22 + 34, 0x7fff_ffff),
    ] {
        byte_defect(Kind::Malformed, |bytes| bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes()));
    }
    byte_defect(Kind::Malformed, |bytes| bytes.truncate(bytes.len() - 1));
    byte_defect(Kind::Malformed, |bytes| bytes.push(0));
    denied(&[], Kind::Malformed);
}

#[test]
fn e2_spec_id_event_is_consistent() {
    let at_data = 32;
    for (what, offset, value) in [
        ("signature", 0, b'T'),
        ("signature", 14, b'4'),
        ("major version", 21, 1),
        ("uintn size", 23, 3),
        ("no algorithms", 24, 0),
        ("too many algorithms", 24, 17),
        ("too many algorithms", 27, 0xff),
        ("digest size", 30, 21),
    ] {
        let mut bytes = Builder::genuine().bytes();
        bytes[at_data + offset] = value;
        assert!(matches!(judge(&bytes), Err(EvidenceDenial::Malformed { .. })), "{what}");
    }
    byte_defect(Kind::AlgorithmRefused, |bytes| bytes[at_data + 28] = 0x34); // not a hash
    byte_defect(Kind::Malformed, |bytes| bytes[0] = 1); // PCR
    byte_defect(Kind::Malformed, |bytes| bytes[8] = 1); // digest of an event that is not extended
    // no event follows, in which the same algorithm would stand twice as well
    defect(Kind::Malformed, |builder| {
        builder.banks = vec![HashAlg::Sha256, HashAlg::Sha256];
        builder.events.clear();
    });
    let mut trailing = Builder::genuine();
    trailing.events.clear();
    let data = [trailing.spec_id(), vec![0]].concat();
    denied(&sha1_event(0, EventType::NoAction, &[0; 20], &data), Kind::TrailingBytes);
}

#[test]
fn e2_an_event_has_digests_of_the_table_alone_and_each_once() {
    let first_event = Builder::genuine().spec_id().len() + 32;
    byte_defect(Kind::AlgorithmRefused, |bytes| bytes[first_event + 12] = 0x0c); // SHA-384 is no bank here
    byte_defect(Kind::AlgorithmRefused, |bytes| {
        bytes[first_event + 12..first_event + 14].copy_from_slice(&0x1234u16.to_le_bytes());
    });
    let mut builder = Builder::genuine();
    builder.events.clear();
    let twice = agile_event(0, EventType::Ipl, &[HashAlg::Sha1, HashAlg::Sha1], b"x");
    denied(&[builder.bytes(), twice].concat(), Kind::Malformed);
}

#[test]
fn e2_banks_that_we_cannot_compute_are_read_over() {
    let mut builder = Builder::genuine();
    builder.events.truncate(1);
    let mut bytes = sha1_event(0, EventType::NoAction, &[0; 20], &{
        let mut data = builder.spec_id();
        data[24] = 3;
        data.pop();
        data.extend([0x12, 0, 32, 0, 0]);
        data
    });
    let mut event = agile_event(0, EventType::SCrtmVersion, &builder.banks, b"v1");
    event[8] = 3;
    let size_at = event.len() - 6;
    event.splice(size_at..size_at, [&[0x12, 0][..], &[9; 32]].concat());
    bytes.extend(event);
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.bank_ids(), [0x4, 0xb, 0x12]);
    assert_eq!(log.banks(), [HashAlg::Sha1, HashAlg::Sha256]);
    assert_eq!(log.events()[1].raw_digests().count(), 3);
    assert_eq!(log.events()[1].data(), b"v1");
}

fn locality(value: u8) -> (u32, EventType, Vec<u8>) {
    (0, EventType::NoAction, [&b"StartupLocality\0"[..], &[value]].concat())
}

#[test]
fn e2_startup_locality_is_where_pcr_0_starts_and_nothing_else() {
    for value in [0, 3, 4] {
        let mut builder = Builder::genuine();
        builder.events.insert(0, locality(value));
        let bytes = builder.bytes();
        let log = EventLog::parse(&bytes).unwrap();
        assert_eq!(log.startup_locality(), value);
        let mut start = [0; 32];
        start[31] = value;
        let expected = log
            .measured(0, HashAlg::Sha256)
            .fold(Digest::from_bytes(HashAlg::Sha256, &start).unwrap(), |pcr, (_, digest)| {
                pcr.extend(digest.as_bytes())
            });
        assert_eq!(log.replay(HashAlg::Sha256).unwrap().value(0), Some(expected));
    }
    defect(Kind::Malformed, |builder| builder.events.insert(0, locality(1)));
    defect(Kind::Malformed, |builder| builder.events.insert(1, locality(3)));
    defect(Kind::Malformed, |builder| {
        builder.events.insert(0, locality(3));
        builder.events.insert(0, locality(3));
    });
    defect(Kind::Malformed, |builder| {
        let mut event = locality(3);
        event.2.push(0);
        builder.events.insert(0, event);
    });
    defect(Kind::Malformed, |builder| {
        let mut event = locality(3);
        event.0 = 1;
        builder.events.insert(0, event);
    });
}

#[test]
fn sha1_only_logs_are_read_and_refused_by_appraisal() {
    let bytes: Vec<u8> = Builder::genuine()
        .events
        .iter()
        .flat_map(|(pcr, kind, data)| sha1_event(*pcr, *kind, HashAlg::Sha1.hash(&[data]).as_bytes(), data))
        .collect();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.banks(), [HashAlg::Sha1]);
    assert!(judge(&bytes).is_ok());
    assert_eq!(Kind::from(&log.require_crypto_agile().unwrap_err()), Kind::WeakHash);
    let genuine = Builder::genuine().bytes();
    assert!(EventLog::parse(&genuine).unwrap().require_crypto_agile().is_ok());
}
