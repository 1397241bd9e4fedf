//! Logs that nobody honest wrote: no panic, no change unseen, nothing printed raw.

use proptest::prelude::*;

use super::*;

#[test]
fn descriptions_are_short_and_printable_whatever_stands_in_the_log() {
    let hostile = ["\u{1b}]0;owned\u{7}", "a\nb\rc", "\u{202e}gpj", "\\", &"x".repeat(5000), "\u{0}", ""];
    for text in hostile {
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for data in [text.as_bytes().to_vec(), utf16, variable(GLOBAL, "x", text.as_bytes())] {
            for kind in [EventType::Ipl, EventType::EfiVariableBoot, EventType::EfiBootServicesApplication] {
                let bytes = Builder { banks: vec![HashAlg::Sha1], events: vec![(8, kind, data.clone())] }.bytes();
                let description = EventLog::parse(&bytes).unwrap().events()[1].description();
                assert!(description.len() <= 320, "{}", description.len());
                assert!(description.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{description:?}");
            }
        }
    }
}

#[test]
fn a_tagged_event_is_described_by_its_text_and_a_wrong_length_by_its_bytes() {
    let text = b"LOADED_IMAGE::LoadOptions\0";
    for (length, described) in [(text.len(), "LOADED_IMAGE::LoadOptions"), (3, "ed223b8f03000000")] {
        let length = u32::try_from(length).unwrap().to_le_bytes();
        let data = [&0x8f3b_22ed_u32.to_le_bytes()[..], &length, text].concat();
        let bytes = Builder { banks: vec![HashAlg::Sha256], events: vec![(9, EventType::EventTag, data)] }.bytes();
        let description = EventLog::parse(&bytes).unwrap().events()[1].description();
        assert!(description.starts_with(described), "{description:?}");
    }
}

#[test]
fn types_are_numbered_and_named_as_the_profile_lists_them() {
    for number in (0..0x20).chain(0x8000_0000..0x8000_00f0) {
        let kind = EventType::from_number(number);
        assert_eq!(kind.number(), number);
        assert_eq!(kind.name() == "EV_UNKNOWN", kind == EventType::Unknown(number));
    }
}

fn all_checks(bytes: &[u8]) {
    let Ok(log) = EventLog::parse(bytes) else { return };
    for alg in HashAlg::ALL {
        let _ = log.replay(alg);
        let _ = log.verify_event_data(alg);
        for event in log.events() {
            let _ = (event.data_binding(alg), event.description());
        }
    }
    let _ = log.verify_boot_grammar();
}

#[test]
fn no_single_bit_flip_of_a_hashed_byte_goes_unseen() {
    let bytes = Builder::genuine().bytes();
    let genuine = EventLog::parse(&bytes).unwrap();
    let replay = genuine.replay(HashAlg::Sha256).unwrap();
    let registers: Vec<_> = (0..24).map(|pcr| (pcr, replay.value(pcr).unwrap())).collect();
    let mut unseen = std::collections::BTreeSet::new();
    for at in 0..bytes.len() {
        for bit in [at % 8, (at + 5) % 8] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            all_checks(&flipped);
            let judged = EventLog::parse(&flipped).and_then(|log| {
                log.verify_replay(&registers)?;
                log.banks().into_iter().try_for_each(|alg| log.verify_event_data(alg))?;
                log.verify_boot_grammar()
            });
            if judged.is_ok() {
                let event = genuine.events().iter().rfind(|event| event.offset() <= at).unwrap();
                unseen.insert((event.kind().name(), event.is_digest_of_data(), (at - event.offset()).min(100)));
            }
        }
    }
    // What no digest covers: informative fields of the Spec ID event, the SHA-1 bank and data of events whose
    // data is for display alone, and types where no decision is read from them.
    for (kind, is_demanded, offset) in unseen {
        let is_type = (4..8).contains(&offset);
        let is_header = kind == "EV_NO_ACTION" && offset >= 32;
        let is_other_bank = (14..34).contains(&offset);
        let is_display_only = !is_demanded && offset >= 72;
        assert!(is_type || is_header || is_other_bank || is_display_only, "{kind} at {offset}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        all_checks(&bytes);
        all_checks(&[Builder { banks: vec![HashAlg::Sha256], events: Vec::new() }.bytes(), bytes].concat());
    }

    #[test]
    fn several_changes_at_once_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12)) {
        let mut bytes = Builder::genuine().bytes();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        all_checks(&bytes);
    }

    #[test]
    fn arbitrary_signature_lists_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = uefi::signature_lists(&bytes);
    }
}
