use super::*;
use crate::fixture::{FakeReader, NOW, World, pins};

fn judge(bundle: &ProofBundle) -> Result<ProofReport, ProofFailure> {
    verify_bundle(&bundle.encode().unwrap(), &pins(), &FakeReader, NOW)
}

#[test]
fn the_whole_story_verifies() {
    let report = judge(&World::told().parts()).unwrap();
    let kinds: Vec<_> = report.steps().iter().map(|step| step.record.kind().name()).collect();
    let told = [
        "enrolment",
        "intent",
        "authorization",
        "release",
        "renewal",
        "denial",
        "halt",
        "readmission",
        "intent",
        "authorization",
        "end",
    ];
    assert_eq!(kinds, told);
    assert_eq!(report.domains()[0].size, 11);
    assert_eq!(report.domains()[0].cosigned[0].witness, "w.example/witness");
    assert_eq!(report.attachments(), 11);
}

/// The story with a second trust bundle in the file, issued at this second, in which something is changed.
fn told_over(
    issued_at: u64,
    change: impl FnOnce(&mut crate::fixture::FakeBundle),
) -> Result<ProofReport, ProofFailure> {
    let world = World::told();
    let mut next = crate::fixture::FakeBundle { sequence: 2, issued_at, ..world.bundle.clone() };
    change(&mut next);
    let mut parts = world.parts();
    parts.domains[0].trust_bundles.push(signed(&next));
    judge(&parts)
}

fn signed(bundle: &crate::fixture::FakeBundle) -> Vec<serde_bytes::ByteBuf> {
    use evidence::cose::{Purpose, sign1};
    let payload = evidence::cbor::to_vec(bundle).unwrap();
    let authority = crate::fixture::key(crate::fixture::AUTHORITY);
    vec![sign1(Purpose::TrustBundle, &bundle.domain, &payload, &authority).unwrap().into()]
}

/// The story, cosigned by the witness of another domain in the file, which names its key in these bundles.
fn witnessed_under(bundles: &[(u64, u64, u8)]) -> Result<ProofReport, ProofFailure> {
    use crate::fixture::{AUTHORITY, FakeBundle, LOG, OWN_WITNESS, key};
    let told = World::told();
    let other = DomainName::new("w.example").unwrap();
    let mut parts = told.parts();
    let bundle = |(at, (issued_at, until, witness)): (usize, &(u64, u64, u8))| {
        let (domain, origin) = (other.clone(), "w.example/log".to_owned());
        let (sequence, witness) = (at as u64 + 1, key(*witness).public().clone());
        let (issued_at, until) = (*issued_at, *until);
        signed(&FakeBundle { domain, origin, sequence, issued_at, until, witness, ..told.bundle.clone() })
    };
    // It has a log of one record.
    let mut logged = World::empty();
    let body = crate::record::RecordBody::GovernanceState { state: crate::fixture::digest("state"), epoch: 1 };
    let record = logged.record(crate::fixture::digest("state"), body);
    let record = LineageRecord { domain: other.clone(), node: None, ..record };
    logged.log(record.sign(&key(crate::fixture::ISSUER)).unwrap());
    let mut beside = logged.parts().domains.remove(0);
    (beside.domain, beside.trust_bundles) = (other.clone(), bundles.iter().enumerate().map(bundle).collect());
    let head = crate::checkpoint::Checkpoint { origin: "w.example/log".into(), ..logged.checkpoint() };
    let note = head.sign(&key(LOG)).unwrap();
    let by_the_first = witness_name(&crate::fixture::domain());
    beside.checkpoint = crate::checkpoint::cosign(note.as_bytes(), &by_the_first, &key(OWN_WITNESS), NOW).unwrap();
    parts.domains.push(beside);
    let authority = Authority::new(vec![key(AUTHORITY).public().clone()], 1).unwrap();
    let mut pins = pins();
    pins.domains.push(Pin { domain: other, authority });
    verify_bundle(&parts.encode().unwrap(), &pins, &FakeReader, NOW)
}

#[test]
fn a_cosignature_counts_only_while_its_key_was_in_force() {
    use crate::fixture::{OWN_WITNESS, WITNESS};
    let code = |bundles: &[(u64, u64, u8)]| {
        let judged = witnessed_under(bundles);
        judged.map(drop).map_err(|failure| (failure.part, failure.denial.code()))
    };
    let not_met = Err((Part::Checkpoint(crate::fixture::domain()), "audit.quorum_not_met"));
    // It was made at second 9999; that the stranger pins the key as well does not lengthen its life.
    assert_eq!(code(&[(1, 10_000, WITNESS)]), Ok(()));
    assert_eq!(code(&[(1, 9_999, WITNESS)]), not_met);
    // The domain's newest word counts: the key was removed before, or after; its end was moved forward, and back again.
    assert_eq!(code(&[(1, 1_000_000, WITNESS), (9_999, 1_000_000, OWN_WITNESS)]), not_met);
    assert_eq!(code(&[(1, 1_000_000, WITNESS), (10_000, 1_000_000, OWN_WITNESS)]), Ok(()));
    assert_eq!(code(&[(1, 1_000_000, WITNESS), (2, 9_000, WITNESS)]), not_met);
    assert_eq!(code(&[(1, 1_000_000, WITNESS), (2, 9_000, WITNESS), (3, 10_000, WITNESS)]), Ok(()));
}

#[test]
fn of_a_key_that_several_bundles_name_the_newest_says_until_when_it_counts() {
    let retired = told_over(900_000, |next| next.until = 800_000).map(drop);
    assert_eq!(retired.map_err(|failure| failure.denial.code()), Err("audit.note_key"), "no log key is left");
    // One that comes back after another one is known once.
    let world = World::told();
    let mut parts = world.parts();
    let other = crate::fixture::key(200);
    for (sequence, log) in [(2, other.public()), (3, &world.bundle.log), (4, other.public()), (5, &world.bundle.log)] {
        let next = crate::fixture::FakeBundle { sequence, log: log.clone(), ..world.bundle.clone() };
        parts.domains[0].trust_bundles.push(signed(&next));
    }
    judge(&parts).unwrap();
    assert_eq!(trust(&parts.domains[0], &pins(), &FakeReader).unwrap().log.keys().len(), 1);
}

#[test]
fn what_a_key_signed_before_its_removal_verifies_and_what_it_signed_later_does_not() {
    let other = crate::fixture::key(200);
    let code = |told: Result<ProofReport, ProofFailure>| told.map(drop).map_err(|failure| failure.denial.code());
    // Every record of the story is older than the removal, or the last ones are not.
    assert_eq!(code(told_over(900_000, |next| next.issuer = other.public().clone())), Ok(()));
    let late = told_over(2, |next| next.issuer = other.public().clone());
    assert_eq!(code(late), Err("audit.key_out_of_time"));
    // The checkpoint is by a log key that the newest bundle does not hold.
    let unlogged = told_over(900_000, |next| next.log = other.public().clone());
    assert_eq!(code(unlogged), Err("audit.not_signed_by_log"));
    assert_eq!(code(told_over(900_000, |next| next.sequence = 1)), Err("audit.proof_malformed"));
    assert_eq!(code(told_over(0, |_| ())), Err("audit.proof_malformed"));
    assert_eq!(code(told_over(900_000, |next| next.origin = "b.example/log".into())), Err("audit.origin_mismatch"));
}

#[test]
fn a_domain_is_no_witness_of_its_own_log() {
    let world = World::told();
    let mut parts = world.parts();
    let own = crate::checkpoint::cosign(
        world.checkpoint().sign(&crate::fixture::key(crate::fixture::LOG)).unwrap().as_bytes(),
        &witness_name(&crate::fixture::domain()),
        &crate::fixture::key(crate::fixture::OWN_WITNESS),
        NOW,
    );
    parts.domains[0].checkpoint = own.unwrap();
    assert_eq!(judge(&parts).unwrap_err().denial.code(), "audit.quorum_not_met");
    let lenient = Pins { quorum: 0, ..pins() };
    let judged = verify_bundle(&parts.encode().unwrap(), &lenient, &FakeReader, NOW);
    assert_eq!(judged.unwrap_err().denial.code(), "audit.unknown_signers");
}

#[test]
fn no_byte_of_the_file_can_be_changed() {
    let bytes = World::briefly_told().parts().encode().unwrap();
    verify_bundle(&bytes, &pins(), &FakeReader, NOW).unwrap();
    let pins = pins();
    for at in 0..bytes.len() {
        // One bit of each byte, another one from byte to byte: every byte is tried, every bit position many times.
        let mut bent = bytes.clone();
        bent[at] ^= 1 << (at % 8);
        let judged = verify_bundle(&bent, &pins, &FakeReader, NOW);
        let around = hex::encode(&bytes[at.saturating_sub(40)..(at + 40).min(bytes.len())]);
        assert!(judged.is_err(), "byte {at} of {}: {around}", bytes.len());
    }
    for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(verify_bundle(&bytes[..length], &pins, &FakeReader, NOW).is_err());
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(verify_bundle(&longer, &pins, &FakeReader, NOW).is_err());
}

#[test]
fn nothing_can_be_left_out_or_doubled() {
    let whole = World::told().parts();
    for at in 0..whole.domains[0].records.len() {
        let mut without = whole.clone();
        without.domains[0].records.remove(at);
        // The last record may go: the file then tells less, and its end record is named by nothing.
        assert!(judge(&without).is_err(), "record {at}");
        let mut doubled = whole.clone();
        let again = doubled.domains[0].records[at].clone();
        doubled.domains[0].records.insert(at, again);
        assert!(judge(&doubled).is_err(), "record {at} doubled");
    }
    for at in 0..whole.attachments.len() {
        let mut without = whole.clone();
        let gone = without.attachments.remove(at);
        let optional = gone.kind == AttachmentKind::Result || at == 4;
        let judged = judge(&without);
        assert_eq!(judged.is_ok(), optional, "attachment {at}, {}: {judged:?}", gone.kind.name());
        let mut doubled = whole.clone();
        doubled.attachments.push(gone);
        assert!(judge(&doubled).is_err(), "attachment {at} doubled");
    }
    let mut swapped = whole.clone();
    swapped.domains[0].records.swap(2, 3);
    assert!(judge(&swapped).is_err());
}

#[test]
fn the_failing_part_is_named() {
    let mut bent = World::told().parts();
    bent.domains[0].records[4].proof[0].0[0] ^= 1;
    let failure = judge(&bent).unwrap_err();
    assert_eq!(failure.part, Part::Record(crate::fixture::domain(), 4));
    assert_eq!(failure.denial.code(), "audit.inclusion_proof_wrong");
    assert!(failure.to_string().starts_with("record 4 of a.example: inclusion proof"));
}

#[test]
fn a_node_may_say_the_same_thing_twice() {
    let mut world = World::empty();
    world.enrol();
    let intent = world.intent(1);
    world.add(intent, crate::record::RecordBody::Intent { intent });
    judge(&world.parts()).unwrap();
}
