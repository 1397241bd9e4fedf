//! A genuine machine and the set captured from it; then one thing changes, and exactly one denial follows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod snp;
mod tdx;

use std::collections::BTreeSet;

use evidence::{
    Bound, Claims,
    cose::SigningKey,
    digest::{HashAlg, Sha256Digest},
    ledger::CheckId,
    names::DomainName,
    register::Register,
    threshold::Authority,
    time::UnixSeconds,
    verify,
};
use firmware_refs::{
    InForce, ReferenceDenial, ReferenceValues, RevokedSet,
    capture::{CaptureHeader, capture},
    denial::ReferenceDenialKind,
    document::{FirmwareDeny, MakerName, Platforms, SetDocument, TpmDocument},
    observed::{Observed, ObservedTpm},
    set::ReferenceValueSet,
    signed::{SignedSet, sign},
    text::{FirmwareVersion, Manufacturer},
};
use tests::{boot::BootEvent, genuine::Machine};

fn with_bound<T>(machine: &Machine, run: impl FnOnce(&Bound<'_>) -> T) -> T {
    let challenge = machine.challenge();
    let evidence = machine.answer(&challenge).evidence();
    let endorsements = machine.endorsements();
    let authentic = verify(&evidence, &endorsements, &machine.anchors(), machine.now).expect("authentic");
    run(&authentic.bind(&challenge, machine.now).expect("bound"))
}

fn observed<'b>(bound: &'b Bound<'b>) -> ObservedTpm<'b> {
    let Claims::Tpm(claims) = bound.claims() else { panic!("not of a TPM") };
    ObservedTpm::of(claims)
}

fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

fn captured(machine: &Machine) -> SetDocument {
    let header = CaptureHeader {
        id: "rack".parse().unwrap(),
        version: 3,
        domain: domain(),
        environment: "lab".parse().unwrap(),
        node: "node-1".into(),
        now: machine.now.minus(60),
        lifetime_s: 86_400,
    };
    with_bound(machine, |bound| capture(&Observed::Tpm(observed(bound)), header).unwrap().set().document().clone())
}

fn signed(document: SetDocument) -> SignedSet {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let set = ReferenceValueSet::from_document(document).unwrap();
    let authority = Authority::new(vec![key.public().clone()], 1).unwrap();
    SignedSet::open(&[sign(&set, &key).unwrap()], &domain(), &authority).unwrap()
}

fn values(document: SetDocument) -> ReferenceValues {
    ReferenceValues::new(vec![InForce::active(signed(document))]).unwrap()
}

fn revoked(document: SetDocument) -> RevokedSet {
    let reason = "its loader can be talked into anything".to_owned().try_into().unwrap();
    RevokedSet::new(signed(document), UnixSeconds(1_800_000_000), reason, Sha256Digest([7; 32]))
}

fn tpm(document: &mut SetDocument) -> &mut TpmDocument {
    document.tpm.as_mut().unwrap()
}

/// The genuine machine against a set with one change.
fn against(change: impl FnOnce(&mut SetDocument)) -> Vec<ReferenceDenial> {
    let machine = Machine::default();
    let mut document = captured(&machine);
    change(&mut document);
    judge(&machine, document)
}

/// A machine with one change against the set captured from the genuine one.
fn changed(change: impl FnOnce(&mut Machine)) -> Vec<ReferenceDenial> {
    let mut machine = Machine::default();
    let document = captured(&machine);
    change(&mut machine);
    judge(&machine, document)
}

fn judge(machine: &Machine, document: SetDocument) -> Vec<ReferenceDenial> {
    let values = values(document);
    with_bound(machine, |bound| {
        let all = values.all_failures(&Observed::Tpm(observed(bound)), bound.judged_at());
        let verdict = values.compare(bound).err();
        assert_eq!(verdict.as_ref(), all.first(), "the verdict is the first of all failures");
        all
    })
}

/// What is only judged by values, and what only by its log.
fn by_values_only(document: &mut SetDocument) {
    tpm(document).event.clear();
    tpm(document).require_event_log = false;
}

fn by_log_only(document: &mut SetDocument) {
    let logged: BTreeSet<u8> = tpm(document).event.iter().map(|e| e.pcr).collect();
    tpm(document).pcr.retain(|p| !logged.contains(&p.index));
}

fn boot_of_another_kernel(machine: &mut Machine) {
    for event in &mut machine.boot.events {
        if event.measured == b"kernel" {
            event.measured = b"another kernel".to_vec();
        }
    }
}

/// One case for every kind of denial, and the denials it must give, the expected one first.
fn cases() -> Vec<(ReferenceDenialKind, Vec<ReferenceDenial>)> {
    use ReferenceDenialKind as Kind;
    let maker = || MakerName::Named(Manufacturer::from_bytes(*b"TEST"));
    vec![
        (Kind::NoneActive, {
            let none = ReferenceValues::new(vec![]).unwrap();
            with_bound(&Machine::default(), |bound| vec![none.compare(bound).err().unwrap()])
        }),
        (Kind::NotYetInForce, against(|d| d.not_before = Machine::default().now.plus(1).into())),
        (Kind::Expired, against(|d| d.not_after = Machine::default().now.into())),
        (Kind::Revoked, {
            let machine = Machine::default();
            let revoked = revoked(captured(&machine));
            let none = ReferenceValues::new(vec![]).unwrap().with_revoked(&[revoked]);
            with_bound(&machine, |bound| vec![none.compare(bound).err().unwrap()])
        }),
        (Kind::Bank, {
            // All of the set is of another bank: values cannot match either, so they are judged by log alone.
            let denials = against(|d| {
                let all = tpm(d);
                all.bank = HashAlg::Sha384;
                for accepted in all.pcr.iter_mut().flat_map(|p| &mut p.accept) {
                    accepted.digest = HashAlg::Sha384.hash(&[b"x"]);
                }
                for (n, accepted) in all.event.iter_mut().flat_map(|e| &mut e.accept).enumerate() {
                    accepted.digest = HashAlg::Sha384.hash(&[&n.to_be_bytes()]);
                }
            });
            denials[..1].to_vec()
        }),
        (
            Kind::PcrAbsent,
            against(|d| {
                let mut value = tpm(d).pcr[0].clone();
                value.index = 11;
                tpm(d).pcrs.push(11);
                tpm(d).pcr.push(value);
            }),
        ),
        (Kind::PcrResettable, {
            let machine = Machine::default();
            let values = values(captured(&machine));
            with_bound(&machine, |bound| {
                let mut seen = observed(bound);
                seen.pcrs.push((16, HashAlg::Sha256.hash(&[b"16"])));
                values.all_failures(&Observed::Tpm(seen), machine.now)
            })
        }),
        (
            Kind::PcrUnknown,
            against(|d| {
                by_values_only(d);
                tpm(d).pcr[4].accept[0].digest = HashAlg::Sha256.hash(&[b"other"]);
            }),
        ),
        (Kind::EventLogAbsent, {
            let machine = Machine::default();
            let values = values(captured(&machine));
            with_bound(&machine, |bound| {
                let seen = ObservedTpm { event_log: None, ..observed(bound) };
                values.all_failures(&Observed::Tpm(seen), machine.now)
            })
        }),
        (
            Kind::EventUnknown,
            against(|d| {
                by_log_only(d);
                tpm(d).event.retain(|e| e.pcr != 4 || e.kind.as_str() == "EV_SEPARATOR");
            })[..1]
                .to_vec(),
        ),
        (
            Kind::EventMissing,
            against(|d| {
                by_log_only(d);
                let mut another = tpm(d).event[0].clone();
                another.accept[0].digest = HashAlg::Sha256.hash(&[b"never measured"]);
                tpm(d).event.push(another);
            }),
        ),
        (Kind::ImaLogAbsent, {
            let machine = Machine::default();
            let values = values(captured(&machine));
            with_bound(&machine, |bound| {
                let seen = ObservedTpm { files: None, ..observed(bound) };
                values.all_failures(&Observed::Tpm(seen), machine.now)
            })
        }),
        (
            Kind::FileUnknown,
            against(|d| {
                tpm(d).ima.as_mut().unwrap().file.retain(|f| f.path != "/usr/bin/workload");
            }),
        ),
        (Kind::FileChanged, changed(|m| m.boot.files[1].1 = b"another workload".to_vec())),
        // a key that nobody listed is loaded onto a keyring, and one of another content than those that are
        (Kind::FileUnknown, changed(|m| m.boot.buffers = vec![(".ima".into(), b"key".to_vec())])),
        (Kind::FileChanged, {
            let mut machine = Machine::default();
            machine.boot.buffers = vec![(".ima".into(), b"key".to_vec())];
            let document = captured(&machine);
            machine.boot.buffers[0].1 = b"another key".to_vec();
            judge(&machine, document)
        }),
        (
            Kind::EkNotListed,
            against(|d| {
                tpm(d).platforms = Platforms::Listed { ek: vec![Sha256Digest::ZERO], ak: None };
            }),
        ),
        (Kind::AkNotListed, {
            let machine = Machine::default();
            let (enrolment, _) = machine.enrol().unwrap();
            let mut document = captured(&machine);
            let other = format!("000b{}", "00".repeat(32)).try_into().unwrap();
            tpm(&mut document).platforms = Platforms::Listed { ek: vec![enrolment.ek_digest()], ak: Some(vec![other]) };
            judge(&machine, document)
        }),
        (Kind::ManufacturerUnknown, against(|d| tpm(d).firmware[0].manufacturer = maker())),
        (Kind::FirmwareTooOld, against(|d| tpm(d).firmware[0].floor.0 += 1)),
        (
            Kind::FirmwareDenied,
            against(|d| {
                let (manufacturer, floor) = (tpm(d).firmware[0].manufacturer, tpm(d).firmware[0].floor);
                let advisory = "CVE-2025-2884".to_owned().try_into().unwrap();
                let dated = UnixSeconds(1_750_000_000).into();
                tpm(d).deny.push(FirmwareDeny {
                    manufacturer,
                    from: floor,
                    to: FirmwareVersion(floor.0 + 1),
                    advisory,
                    dated,
                });
            }),
        ),
    ]
}

#[test]
fn every_kind_of_denial_has_a_case_with_one_defect() {
    let mut seen = BTreeSet::new();
    for (kind, denials) in cases().into_iter().chain(snp::cases()).chain(tdx::cases()) {
        let codes: Vec<_> = denials.iter().map(ReferenceDenial::code).collect();
        assert_eq!(codes, [kind.code()], "{kind:?}: {denials:#?}");
        for denial in &denials {
            assert!(!denial.claim().is_empty() && !denial.got().is_empty() && !denial.hint().is_empty());
            assert!(!denial.to_string().is_empty());
            assert!(denial.accepted().len() <= firmware_refs::denial::ACCEPTED_CAP);
        }
        seen.insert(kind);
    }
    assert_eq!(seen, ReferenceDenialKind::all().collect(), "a kind of denial without a case");
}

#[test]
fn the_machine_that_was_captured_matches_and_passes_the_checks() {
    let machine = Machine::default();
    let values = values(captured(&machine));
    with_bound(&machine, |bound| {
        let matched = values.compare(bound).unwrap();
        for check in [CheckId::T9, CheckId::T11, CheckId::M1, CheckId::E9] {
            assert!(matched.ledger().contains(check), "{check:?}");
        }
        assert_eq!(matched.ledger(), bound.required(), "nothing is missing, nothing is there unasked");
    });
}

#[test]
fn a_machine_that_a_revoked_set_describes_is_told_so_and_no_other_is() {
    let machine = Machine::default();
    let mut other = captured(&machine);
    expecting_another_kernel(&mut other);
    let mut more = captured(&machine);
    let mut unquoted = tpm(&mut more).pcr[0].clone();
    unquoted.index = 11;
    tpm(&mut more).pcrs.push(11);
    tpm(&mut more).pcr.push(unquoted);
    let verdict = |in_force: Vec<InForce>, revoked: &[RevokedSet]| {
        let values = ReferenceValues::new(in_force).unwrap().with_revoked(revoked);
        with_bound(&machine, |bound| values.compare(bound).map(drop).map_err(|denial| denial.code()))
    };
    let active = |document: &SetDocument| vec![InForce::active(signed(document.clone()))];
    let [this, that, more] = [captured(&machine), other.clone(), more].map(revoked);
    assert_eq!(verdict(active(&captured(&machine)), std::slice::from_ref(&this)), Ok(()), "what is in force matches");
    assert_eq!(verdict(active(&other), &[that.clone(), this.clone()]), Err("reference.revoked"));
    assert_eq!(verdict(vec![], &[more]), Err("reference.revoked"), "nobody asked for its PCR 11");
    assert_eq!(verdict(active(&other), &[that]), Err("reference.pcr_unknown"), "a revoked set of other machines");
    let values = ReferenceValues::new(active(&other)).unwrap();
    assert_eq!(values.digest(), values.clone().with_revoked(&[this]).digest());
}

fn expecting_another_kernel(document: &mut SetDocument) {
    by_values_only(document);
    tpm(document).pcr[4].accept[0].digest = HashAlg::Sha256.hash(&[b"other"]);
}

#[test]
fn a_changed_kernel_is_named_by_its_event() {
    let denials = changed(boot_of_another_kernel);
    let Some(ReferenceDenial::PcrUnknown { pcr: 4, reference, diverges: Some(diverges), .. }) = denials.first() else {
        panic!("{denials:#?}");
    };
    assert_eq!(diverges.kind.as_str(), "EV_EFI_BOOT_SERVICES_APPLICATION");
    assert_eq!(diverges.digest, Some(HashAlg::Sha256.hash(&[b"another kernel"])));
    assert_eq!((reference.id.as_str(), reference.version, reference.signers.len()), ("rack", 3, 1));
    assert!(denials[0].accepted()[0].starts_with("sha256:"));
    assert!(denials.iter().any(|d| matches!(d, ReferenceDenial::EventUnknown { register: Register::Pcr(4), .. })));
    assert!(denials.iter().any(|d| matches!(d, ReferenceDenial::EventMissing { register: Register::Pcr(4), .. })));
}

#[test]
fn an_added_event_is_unknown_even_if_it_claims_a_harmless_type() {
    let denials =
        changed(|m| m.boot.events.push(BootEvent::of_data(8, tests::boot::kind::IPL, b"grub_cmd: insmod evil\0")));
    assert!(
        denials.iter().any(|d| matches!(d, ReferenceDenial::PcrUnknown { pcr: 8, diverges: Some(_), .. })),
        "{denials:#?}"
    );
}

#[test]
fn an_extension_that_no_log_holds_is_named_after_the_last_event() {
    let machine = Machine::default();
    let values = values(captured(&machine));
    with_bound(&machine, |bound| {
        let mut seen = observed(bound);
        let mut log = seen.event_log.unwrap();
        log.proven = log.proven.without(evidence::tpm::PcrSet::of(&[4]).unwrap());
        seen.event_log = Some(log);
        seen.pcrs[4].1 = seen.pcrs[4].1.extend(&[0; 32]);
        let denials = values.all_failures(&Observed::Tpm(seen), machine.now);
        let Some(ReferenceDenial::PcrUnknown { pcr: 4, diverges: Some(diverges), .. }) = denials.first() else {
            panic!("{denials:#?}");
        };
        assert!(diverges.kind.as_str().contains("not in the log"));
        assert!(diverges.description.as_str().contains("EV_EFI_BOOT_SERVICES_APPLICATION"), "{}", diverges.description);
    });
}

#[test]
fn values_of_two_sets_are_never_mixed() {
    let genuine = Machine::default();
    let mut other = Machine::default();
    boot_of_another_kernel(&mut other);
    other.boot.files[1].1 = b"another workload".to_vec();
    let mut second = captured(&other);
    second.id = "other".parse().unwrap();
    let both = || {
        let active = |d| InForce::active(signed(d));
        ReferenceValues::new(vec![active(captured(&genuine)), active(second.clone())]).unwrap()
    };
    for machine in [&genuine, &other] {
        with_bound(machine, |bound| assert!(both().compare(bound).is_ok()));
    }
    let mut mixed = Machine::default();
    boot_of_another_kernel(&mut mixed);
    with_bound(&mixed, |bound| {
        let denial = both().compare(bound).err().unwrap();
        assert_eq!(denial.code(), "reference.file_changed", "{denial}");
        assert_eq!(denial.reference().unwrap().id.as_str(), "other", "the nearest set is the one that tells");
    });
}

#[test]
fn a_superseded_set_matches_until_its_grace_window_ends() {
    let machine = Machine::default();
    let in_grace = |until| ReferenceValues::new(vec![InForce::in_grace(signed(captured(&machine)), until)]).unwrap();
    with_bound(&machine, |bound| {
        let open = in_grace(machine.now.plus(1));
        assert!(open.compare(bound).unwrap().is_in_grace());
        assert_eq!(in_grace(machine.now).compare(bound).err().unwrap().code(), "reference.expired");
        assert_ne!(open.digest(), in_grace(machine.now).digest());
    });
}

#[test]
fn sets_of_two_banks_cannot_be_in_force_together() {
    let machine = Machine::default();
    let mut other = captured(&machine);
    other.id = "other".parse().unwrap();
    let all = tpm(&mut other);
    all.bank = HashAlg::Sha384;
    all.event.clear();
    all.require_event_log = false;
    for accepted in all.pcr.iter_mut().flat_map(|p| &mut p.accept) {
        accepted.digest = HashAlg::Sha384.hash(&[b"x"]);
    }
    let sets = vec![InForce::active(signed(captured(&machine))), InForce::active(signed(other))];
    assert!(ReferenceValues::new(sets).is_err());
    let twice = vec![InForce::active(signed(captured(&machine))), InForce::active(signed(captured(&machine)))];
    assert!(ReferenceValues::new(twice).is_err());
}

#[test]
fn a_captured_set_survives_its_written_form() {
    let machine = Machine::default();
    let set = ReferenceValueSet::from_document(captured(&machine)).unwrap();
    let read = ReferenceValueSet::from_toml(&set.to_toml().unwrap()).unwrap();
    assert_eq!(read.document(), set.document());
    assert_eq!(read.digest(), set.digest());
    assert_eq!(ReferenceValueSet::from_cbor(&set.to_cbor().unwrap()).unwrap().digest(), set.digest());
}

#[test]
fn the_guest_that_was_captured_matches_and_passes_the_checks() {
    let guest = tests::genuine_snp::SnpGuest::default();
    let values = values(snp::captured(&guest));
    snp::with_bound(&guest, |bound| {
        let matched = values.compare(bound).unwrap();
        assert_eq!(matched.ledger(), bound.required(), "nothing is missing, nothing is there unasked");
    });
}

#[test]
fn the_trust_domain_that_was_captured_matches_and_passes_the_checks() {
    for version in [4, 5] {
        let guest = tests::genuine_tdx::TdxGuest::new(version);
        let values = values(tdx::captured(&guest));
        tdx::with_bound(&guest, |bound| {
            let matched = values.compare(bound).unwrap();
            assert_eq!(matched.ledger(), bound.required(), "nothing is missing, nothing is there unasked");
        });
    }
}
