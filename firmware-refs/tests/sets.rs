//! Sets that could match by omission, or mean something else than they say, do not load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use evidence::{cose::SigningKey, digest::Sha256Digest, names::DomainName, threshold::Authority, time::UnixSeconds};
use firmware_refs::{
    lifecycle::{GRACE_CAP_S, HistoryEntry, Lifecycle, LifecycleError, Ordered, Stage},
    set::{ReferenceValueSet, SetError},
    signed::{SignedSet, SignedSetError, sign},
};

const SET: &str = include_str!("../example.toml");

fn with(from: &str, to: &str) -> Result<ReferenceValueSet, SetError> {
    assert!(SET.contains(from), "{from}");
    ReferenceValueSet::from_toml(&SET.replace(from, to))
}

#[test]
fn the_example_loads() {
    let set = ReferenceValueSet::from_toml(SET).unwrap();
    assert_eq!((set.id().as_str(), set.version(), set.tpm().unwrap().pcrs()), ("rack", 3, &[0, 4, 10][..]));
}

#[test]
fn one_defect_and_the_set_does_not_load() {
    let digest4 = "accept = [{ digest = \"sha256:2222222222222222222222222222222222222222222222222222222222222222\", source = \"systemd-boot 252\" }]";
    let ima = &SET[SET.find("[tpm.ima]").unwrap()..];
    let cases: &[(&str, &str, &str)] = &[
        ("version = 3", "version = 0", "versions start at 1"),
        ("not_after = \"2027-11-22T00:00:00Z\"", "not_after = \"2026-11-22T00:00:00Z\"", "ends before it begins"),
        ("reason = \"kernel 6.1.128\"", "reason = \"\"", "why this version exists"),
        ("bank = \"sha256\"", "bank = \"sha1\"", "only sha256 and sha384"),
        ("pcrs = [0, 4, 10]", "pcrs = []", "no PCR is required"),
        ("pcrs = [0, 4, 10]", "pcrs = [4, 0, 10]", "ascending"),
        ("pcrs = [0, 4, 10]", "pcrs = [0, 0, 4, 10]", "ascending"),
        ("pcrs = [0, 4, 10]", "pcrs = [0, 4, 10, 16]", "can be reset"),
        ("pcrs = [0, 4, 10]", "pcrs = [0, 4, 5, 10]", "nothing says which values are known"),
        ("pcrs = [0, 4, 10]", "pcrs = [0, 10]", "not among tpm.pcrs"),
        ("pcrs = [0, 4, 10]", "pcrs = [0, 4]", "IMA measures into PCR 10"),
        ("require_event_log = true", "require_event_log = false", "events need require_event_log"),
        ("require_ima_log = true", "require_ima_log = false", "files need require_ima_log"),
        (ima, "", "needs files to compare with"),
        ("accept = \"enrolled\"", "accept = \"listed\", ek = []", "an empty list accepts nothing"),
        ("accept = \"enrolled\"", "accept = \"listed\"", "needs ek"),
        ("accept = \"enrolled\"", "accept = \"enrolled\", ek = []", "takes no lists"),
        ("accept = \"enrolled\"", "accept = \"any\"", "unknown variant"),
        ("firmware = [{", "firmware = [] #", "no TPM manufacturer"),
        ("to = \"2019102300163635\"", "to = \"2019102300163635\", until = 1", "unknown field"),
        ("from = \"0000000000000000\"", "from = \"3019102300163636\"", "range of versions is empty"),
        (digest4, "accept = []", "an empty list accepts nothing"),
        (digest4, &digest4.replace("systemd-boot 252", ""), "where the digest comes from"),
        (digest4, &digest4.replace("sha256:", "sha384:2222222222222222222222222222222222222222"), "digest"),
        ("type = \"EV_EFI_BOOT_SERVICES_APPLICATION\"", "type = \"x\"\noptional = true", "every event is optional"),
        ("\"/run/\"", "\"run/\"", "absolute path"),
        ("\"/run/\"", "\"/\"", "absolute path"),
        ("path = \"/usr/bin/true\"", "path = \"true\"", "absolute path"),
        ("[tpm]\n", "[tpm]\nskip_pcr = 4\n", "unknown field"),
        ("id = \"rack\"", "id = \"Rack\"", "must be"),
    ];
    for (from, to, why) in cases {
        let refused = with(from, to).expect_err(why).to_string();
        assert!(refused.contains(why), "{why:?} not in:\n{refused}");
    }
    let headless = &SET[..SET.find("[tpm]").unwrap()];
    assert!(ReferenceValueSet::from_toml(headless).unwrap_err().to_string().contains("would match nothing"));
}

#[test]
fn a_typing_error_is_reported_with_its_line() {
    let refused = with("index = 0", "index = \"zero\"").unwrap_err().to_string();
    let line = SET.lines().position(|line| line.starts_with("index = 0")).unwrap() + 1;
    assert!(refused.contains(&format!("line {line},")), "{refused}");
}

#[test]
fn only_enough_keys_of_the_domain_make_a_signed_set() {
    let set = ReferenceValueSet::from_toml(SET).unwrap();
    let keys: Vec<_> = (1..=3u8).map(|n| SigningKey::from_seed(&[n; 32]).unwrap()).collect();
    let two_of = Authority::new(vec![keys[0].public().clone(), keys[1].public().clone()], 2).unwrap();
    let domain = DomainName::new("a.example").unwrap();
    let signature = |n: usize| sign(&set, &keys[n]).unwrap();
    let opened = SignedSet::open(&[signature(0), signature(1)], &domain, &two_of).unwrap();
    assert_eq!((opened.digest(), opened.signers().len()), (set.digest(), 2));
    for signatures in [vec![], vec![signature(0)], vec![signature(0), signature(0)], vec![signature(0), signature(2)]] {
        assert!(matches!(SignedSet::open(&signatures, &domain, &two_of), Err(SignedSetError::Signatures(_))));
    }
    let other = DomainName::new("b.example").unwrap();
    assert!(SignedSet::open(&[signature(0), signature(1)], &other, &two_of).is_err());
    assert_eq!(firmware_refs::signed::claimed(&signature(0)).unwrap().digest(), set.digest());
}

fn signed(version: u64) -> SignedSet {
    named("rack", version)
}

fn named(id: &str, version: u64) -> SignedSet {
    let text = SET.replace("id = \"rack\"", &format!("id = \"{id}\""));
    let set = ReferenceValueSet::from_toml(&text.replace("version = 3", &format!("version = {version}"))).unwrap();
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let authority = Authority::new(vec![key.public().clone()], 1).unwrap();
    SignedSet::open(&[sign(&set, &key).unwrap()], &DomainName::new("a.example").unwrap(), &authority).unwrap()
}

fn at(s: u64) -> UnixSeconds {
    UnixSeconds(1_795_305_600 + s)
}

fn why() -> firmware_refs::text::Text {
    "test".to_owned().try_into().unwrap()
}

fn ordered(at: UnixSeconds) -> Ordered {
    Ordered { statement: Sha256Digest([7; 32]), reason: why(), at }
}

#[test]
fn versions_only_go_up_and_history_rebuilds_the_state() {
    let id = "rack".parse().unwrap();
    let (one, two, three) = (signed(1), signed(2), signed(3));
    let mut state = Lifecycle::default();
    let mut history = vec![];
    for set in [&one, &two, &three] {
        history.push(state.stage(set, why(), at(0)).unwrap().unwrap());
        assert_eq!(state.stage(set, why(), at(0)), Ok(None), "staging twice changes nothing");
    }
    history.extend(state.activate(&id, 1, 0, &ordered(at(1))).unwrap());
    history.extend(state.activate(&id, 3, 600, &ordered(at(2))).unwrap());
    assert_eq!(state.high_water(&id), 3);
    let superseded = Stage::Superseded { since: at(2), by: three.digest(), grace_until: at(602) };
    assert_eq!(state.stage_of(&id, 1), Some(superseded));
    let later = &ordered(at(3));
    assert!(matches!(state.activate(&id, 2, 0, later), Err(LifecycleError::NotAbove { .. })));
    assert!(matches!(state.activate(&id, 1, 0, later), Err(LifecycleError::WrongStage { .. })));
    assert!(matches!(state.activate(&id, 9, 0, later), Err(LifecycleError::Unknown { .. })));
    assert!(matches!(state.activate(&id, 2, GRACE_CAP_S + 1, later), Err(LifecycleError::GraceTooLong { .. })));
    history.push(state.revoke(&id, 3, &ordered(at(4))).unwrap());
    assert!(matches!(state.revoke(&id, 3, later), Err(LifecycleError::WrongStage { .. })));
    assert!(matches!(state.activate(&id, 3, 0, later), Err(LifecycleError::WrongStage { .. })));
    assert_eq!(state.high_water(&id), 3, "a revoked version is never used again");

    for entry in &history {
        let stored = evidence::cbor::to_vec(entry).unwrap();
        assert_eq!(
            evidence::cbor::from_slice::<HistoryEntry>(&stored, evidence::cbor::Caps::bytes(4096)).as_ref(),
            Ok(entry)
        );
    }
    let sets = [one, two, three];
    let of = |version: u64| sets.iter().find(|set| set.set().version() == version).unwrap();
    let rebuilt = Lifecycle::replay(history.iter().map(|entry| (entry, of(entry.version))));
    assert_eq!(rebuilt, state);
}

#[test]
fn a_set_replaces_one_of_another_name_but_never_one_that_replaced_it() {
    let (rack, room) = ("rack".parse().unwrap(), "room".parse().unwrap());
    let (old, new) = ((&rack, 1), (&room, 1));
    let mut state = Lifecycle::default();
    for set in [signed(1), named("room", 1), named("room", 2)] {
        state.stage(&set, why(), at(0)).unwrap();
    }
    let now = &ordered(at(1));
    assert!(matches!(state.supersede(old, new, 0, now), Err(LifecycleError::WrongStage { .. })), "not active yet");
    state.activate(&rack, 1, 0, now).unwrap();
    let before = state.clone();
    assert!(matches!(state.supersede(old, old, 0, now), Err(LifecycleError::Cycle { .. })));
    assert!(matches!(state.supersede(old, (&room, 7), 0, now), Err(LifecycleError::Unknown { .. })));
    assert!(matches!(state.supersede(old, new, GRACE_CAP_S + 1, now), Err(LifecycleError::GraceTooLong { .. })));
    assert_eq!(state, before, "what is refused changes nothing");
    let steps = state.supersede(old, new, 600, now).unwrap();
    assert_eq!(steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["room", "rack"]);
    let by = named("room", 1).digest();
    assert_eq!(state.stage_of(&rack, 1), Some(Stage::Superseded { since: at(1), by, grace_until: at(601) }));
    assert_eq!(state.stage_of(&room, 1), Some(Stage::Active { since: at(1) }));
    assert!(matches!(state.supersede(new, old, 0, now), Err(LifecycleError::Cycle { .. })));
    // one step further away, the circle is still one
    state.activate(&room, 2, 0, now).unwrap();
    assert!(matches!(state.supersede((&room, 2), old, 0, now), Err(LifecycleError::Cycle { .. })));
    // two sets that are both active: nothing becomes active, one ends
    state.stage(&signed(2), why(), at(2)).unwrap();
    state.activate(&rack, 2, 0, now).unwrap();
    assert_eq!(state.supersede((&rack, 2), (&room, 2), 0, now).unwrap().len(), 1);
}

#[test]
fn a_version_is_one_content_for_ever() {
    let mut state = Lifecycle::default();
    state.stage(&signed(3), why(), UnixSeconds(0)).unwrap();
    let changed = with("kernel 6.1.128", "kernel 6.1.129").unwrap();
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let authority = Authority::new(vec![key.public().clone()], 1).unwrap();
    let domain = DomainName::new("a.example").unwrap();
    let changed = SignedSet::open(&[sign(&changed, &key).unwrap()], &domain, &authority).unwrap();
    assert!(matches!(state.stage(&changed, why(), UnixSeconds(0)), Err(LifecycleError::VersionReused { .. })));
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_byte_is_refused_or_means_another_set(at in 0usize..2000, to in any::<u8>()) {
            let set = ReferenceValueSet::from_toml(SET).unwrap();
            let mut bytes = set.to_cbor().unwrap();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != to);
            bytes[at] = to;
            if let Ok(read) = ReferenceValueSet::from_cbor(&bytes) {
                prop_assert_ne!(read.digest(), set.digest());
            }
        }

        #[test]
        fn cut_text_never_panics(length in 0usize..3000) {
            let length = length.min(SET.len());
            prop_assume!(SET.is_char_boundary(length));
            let _: Result<_, _> = ReferenceValueSet::from_toml(&SET[..length]);
        }
    }
}
