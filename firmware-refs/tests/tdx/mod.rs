//! A genuine trust domain and the set captured from it; then one thing changes, and exactly one denial follows.

use evidence::{Bound, verify};
use firmware_refs::{
    ReferenceDenial,
    capture::{CaptureHeader, capture},
    denial::ReferenceDenialKind as Kind,
    document::{
        SetDocument,
        tdx::{AcceptedAdvisory, TdxDocument, TdxPlatforms},
    },
    fields::Hex,
    observed::{Observed, ObservedTdx},
    text::Moment,
};
use tests::genuine_tdx::TdxGuest;

use super::{domain, values};

pub(crate) fn with_bound<T>(guest: &TdxGuest, run: impl FnOnce(&Bound<'_>) -> T) -> T {
    let challenge = guest.challenge();
    let (evidence, endorsements) = (guest.evidence(&challenge), guest.endorsements());
    let authentic = verify(&evidence, &endorsements, &guest.anchors(), guest.now).expect("authentic");
    run(&authentic.bind(&challenge, guest.now).expect("bound"))
}

pub(crate) fn captured(guest: &TdxGuest) -> SetDocument {
    let header = CaptureHeader {
        id: "domains".parse().unwrap(),
        version: 1,
        domain: domain(),
        environment: "lab".parse().unwrap(),
        node: "domain-1".into(),
        now: guest.now.minus(60),
        lifetime_s: 86_400,
    };
    with_bound(guest, |bound| {
        capture(&Observed::of(bound.claims(), guest.now), header).unwrap().set().document().clone()
    })
}

fn judged(guest: &TdxGuest, document: SetDocument) -> Vec<ReferenceDenial> {
    with_bound(guest, |bound| values(document).all_failures(&Observed::of(bound.claims(), guest.now), guest.now))
}

/// The genuine guest against a set with one change.
fn against(change: impl FnOnce(&mut TdxDocument)) -> Vec<ReferenceDenial> {
    let guest = TdxGuest::default();
    let mut document = captured(&guest);
    change(document.tdx.as_mut().unwrap());
    judged(&guest, document)
}

/// A guest with one change against the set of the genuine one.
fn changed(change: impl FnOnce(&mut TdxGuest)) -> Vec<ReferenceDenial> {
    let mut guest = TdxGuest::default();
    let document = captured(&guest);
    change(&mut guest);
    judged(&guest, document)
}

/// A guest whose run-time register changed, against a set that judges it by its log alone.
fn logged(change: impl FnOnce(&mut TdxGuest)) -> Vec<ReferenceDenial> {
    let mut guest = TdxGuest::default();
    guest.machine.event_log.extend_runtime(b"known");
    guest.machine.set_event_log(guest.machine.event_log.clone());
    let mut document = captured(&guest);
    document.tdx.as_mut().unwrap().rtmr.retain(|rtmr| rtmr.index != 3);
    change(&mut guest);
    guest.machine.set_event_log(guest.machine.event_log.clone());
    judged(&guest, document)
}

const ADVISORY: &str = "INTEL-SA-00837";

/// Software must mitigate something itself.
fn needs_hardening(guest: &mut TdxGuest) {
    let level = &mut guest.machine.collateral.tcb_info.tcb_levels[0];
    (level.tcb_status, level.advisory_ids) = ("SWHardeningNeeded".to_owned(), vec![ADVISORY.to_owned()]);
}

/// A guest that needs hardening against a set that accepts such, with one change.
fn hardened(change: impl FnOnce(&mut TdxDocument)) -> Vec<ReferenceDenial> {
    let mut guest = TdxGuest::default();
    needs_hardening(&mut guest);
    let mut document = captured(&guest);
    change(document.tdx.as_mut().unwrap());
    judged(&guest, document)
}

/// One case for each fact about trust domains, and for some more than one.
pub(crate) fn cases() -> Vec<(Kind, Vec<ReferenceDenial>)> {
    assert_eq!(hardened(|_| {}), [], "an advisory that is borne");
    vec![
        (Kind::MeasurementUnknown, changed(|g| g.machine.quote.body.mr_td[0] ^= 1)),
        (Kind::MeasurementUnknown, changed(|g| g.machine.quote.body.mr_config_id[0] ^= 1)),
        (Kind::MeasurementUnknown, changed(|g| g.machine.quote.body.mr_owner[0] ^= 1)),
        (Kind::MeasurementUnknown, changed(|g| g.machine.quote.body.mr_owner_config[0] ^= 1)),
        (Kind::MeasurementUnknown, changed(|g| g.machine.quote.body.mr_service_td[0] ^= 1)),
        (Kind::MeasurementUnknown, {
            against(|d| d.rtmr.iter_mut().find(|rtmr| rtmr.index == 1).unwrap().accept = d.mrtd.clone())
        }),
        (Kind::EventUnknown, logged(|g| g.machine.event_log.extend_runtime(b"unknown"))),
        (Kind::EventMissing, logged(|g| drop(g.machine.event_log.events.pop().unwrap()))),
        (Kind::EvaluationTooOld, against(|d| d.tcb_evaluation_floor += 1)),
        (Kind::TcbStatusRefused, changed(needs_hardening)),
        (Kind::TcbStatusRefused, { hardened_without_advisory() }),
        (Kind::AdvisoryRefused, hardened(|d| d.advisory.clear())),
        (Kind::AdvisoryExpired, {
            let now = TdxGuest::default().now;
            hardened(|d| {
                let [advisory]: &mut [AcceptedAdvisory; 1] = d.advisory.as_mut_slice().try_into().unwrap();
                advisory.until = Moment::from(now);
            })
        }),
        (Kind::XfamRefused, changed(|g| g.machine.quote.body.xfam |= 1 << 18 | 1 << 10)),
        (Kind::BitRefused, changed(|g| g.machine.quote.body.td_attributes |= 1 << 63)),
        (Kind::BitRefused, changed(|g| g.machine.quote.body.td_attributes |= 1 << 16)),
        (Kind::BitRefused, changed(|g| g.machine.quote.body.td_attributes |= 1 << 30)),
        (Kind::PpidNotListed, against(|d| d.platforms = TdxPlatforms::Listed { ppid: vec![Hex([9; 16])] })),
        (Kind::EventLogAbsent, {
            let guest = TdxGuest::default();
            let document = captured(&guest);
            with_bound(&guest, |bound| {
                let Observed::Tdx(seen) = Observed::of(bound.claims(), guest.now) else { panic!("no trust domain") };
                let seen = Observed::Tdx(ObservedTdx { event_log: None, ..seen });
                values(document).all_failures(&seen, guest.now)
            })
        }),
    ]
}

/// A status that no advisory explains.
#[test]
fn an_absent_log_is_named_as_the_trust_domains() {
    let absent = cases().into_iter().find(|(kind, _)| *kind == Kind::EventLogAbsent);
    let (_, denials) = absent.unwrap();
    assert_eq!(denials.iter().map(ReferenceDenial::claim).collect::<Vec<_>>(), ["tdx.event_log"]);
}

fn hardened_without_advisory() -> Vec<ReferenceDenial> {
    let mut guest = TdxGuest::default();
    needs_hardening(&mut guest);
    guest.machine.collateral.tcb_info.tcb_levels[0].advisory_ids.clear();
    let document = captured(&guest);
    judged(&guest, document)
}
