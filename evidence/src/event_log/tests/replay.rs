//! E3: what leads to a register.

use super::*;

#[test]
fn e3_every_register_must_be_the_replayed_one() {
    let bytes = Builder::genuine().bytes();
    let log = EventLog::parse(&bytes).unwrap();
    let replay = log.replay(HashAlg::Sha256).unwrap();
    let registers: Vec<_> = (0..24).map(|pcr| (pcr, replay.value(pcr).unwrap())).collect();
    log.verify_replay(&registers).unwrap();
    assert_eq!(replay.extended().map(|(pcr, _)| pcr).collect::<Vec<_>>(), (0..=8).collect::<Vec<_>>());
    for pcr in 0..24usize {
        let mut other = registers.clone();
        other[pcr].1 = other[pcr].1.extend(&[0; 32]);
        let denial = log.verify_replay(&other).unwrap_err();
        assert!(matches!(denial, EvidenceDenial::ReplayMismatch { pcr: at, .. } if usize::from(at) == pcr));
    }
    // PCR 17-22 wait at all ones for a dynamic launch, the others at zero.
    assert_eq!(replay.value(9), Some(Digest::zero(HashAlg::Sha256)));
    assert_eq!(replay.value(17).unwrap().as_bytes(), [0xff; 32]);
    assert_eq!(Kind::from(&log.verify_replay(&[]).unwrap_err()), Kind::Missing);
    let beyond = [(24, Digest::zero(HashAlg::Sha256))];
    assert_eq!(Kind::from(&log.verify_replay(&beyond).unwrap_err()), Kind::Malformed);
}

#[test]
fn e3_removed_doubled_swapped_and_added_events_do_not_replay() {
    let genuine = Builder::genuine();
    let bytes = genuine.bytes();
    let replay = EventLog::parse(&bytes).unwrap().replay(HashAlg::Sha256).unwrap();
    let registers: Vec<_> = (0..24).map(|pcr| (pcr, replay.value(pcr).unwrap())).collect();
    let mismatch = |change: &dyn Fn(&mut Builder)| {
        let mut builder = genuine.clone();
        change(&mut builder);
        let bytes = builder.bytes();
        let denial = EventLog::parse(&bytes).unwrap().verify_replay(&registers).unwrap_err();
        assert_eq!(Kind::from(&denial), Kind::ReplayMismatch);
    };
    for index in 0..genuine.events.len() {
        mismatch(&|builder| drop(builder.events.remove(index)));
        mismatch(&|builder| builder.events.insert(index, genuine.events[index].clone()));
        mismatch(&|builder| builder.events[index].0 = (builder.events[index].0 + 1) % 24);
        mismatch(&|builder| builder.events[index].2.push(0));
    }
    mismatch(&|builder| builder.events.swap(0, 1));
    mismatch(&|builder| builder.events.push((9, EventType::Ipl, vec![])));
}

#[test]
fn e3_a_bank_without_a_digest_in_every_event_explains_nothing() {
    let bytes = Builder::genuine().bytes();
    let log = EventLog::parse(&bytes).unwrap();
    for alg in [HashAlg::Sha384, HashAlg::Sha512] {
        assert_eq!(Kind::from(&log.replay(alg).unwrap_err()), Kind::BankMissing);
        // CVE-2021-42299: not even for registers at their reset value.
        let reset = [(9, Digest::zero(alg))];
        assert_eq!(Kind::from(&log.verify_replay(&reset).unwrap_err()), Kind::BankMissing);
    }
    let partial = [bytes, agile_event(9, EventType::Ipl, &[HashAlg::Sha1], b"x")].concat();
    let log = EventLog::parse(&partial).unwrap();
    assert_eq!(log.banks(), [HashAlg::Sha1]);
    assert_eq!(Kind::from(&log.replay(HashAlg::Sha256).unwrap_err()), Kind::BankMissing);
}

#[test]
fn e3_events_of_no_action_are_never_extended() {
    let mut builder = Builder::genuine();
    let bytes = builder.bytes();
    builder.events.insert(5, (0, EventType::NoAction, b"SP800-155 Event3 and what it says".to_vec()));
    builder.events.insert(9, (u32::MAX, EventType::NoAction, b"of no register".to_vec()));
    let with = builder.bytes();
    let replay = |bytes: &[u8]| EventLog::parse(bytes).unwrap().replay(HashAlg::Sha256).unwrap();
    assert_eq!(replay(&bytes), replay(&with));
}

#[test]
fn e3_events_of_a_register_that_is_not_given_are_unproven() {
    let bytes = Builder::genuine().bytes();
    let log = EventLog::parse(&bytes).unwrap();
    let all: Vec<_> = log.replay(HashAlg::Sha256).unwrap().extended().collect();
    log.verify_all_proven(&all).unwrap();
    for missing in 0..all.len() {
        let mut registers = all.clone();
        let (pcr, _) = registers.remove(missing);
        log.verify_replay(&registers).unwrap();
        let denial = log.verify_all_proven(&registers).unwrap_err();
        assert_eq!(denial, EvidenceDenial::RegisterUnproven { pcr, alg: HashAlg::Sha256 });
    }
}
