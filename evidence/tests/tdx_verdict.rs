//! What a genuine trust domain's platform is worth, by Intel's collateral: worked out, not denied.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods
)]

use std::{collections::BTreeSet, sync::Arc};

use evidence::{
    EvidenceDenial,
    denial::EvidenceDenialKind as Kind,
    digest::Sha256Digest,
    tdx::{
        Collateral, Quote, TcbStatus, TdxRoots, VerifiedCollateral, VerifiedPck, body::Body, quote::TeeType,
        roots::verify_root,
    },
    time::UnixSeconds,
    verify,
};
use serde_json::{Value, json};
use simulators::intel::{IntelAuthority, IntelKeys, IsvTcb, TdxMachine};
use tests::genuine_tdx::TdxGuest;

/// A level for each status that matters here, each with an advisory of its own.
fn levels(machine: &mut TdxMachine) {
    let advisories = |number: u8| vec![format!("INTEL-SA-0000{number}")];
    let info = &mut machine.collateral.tcb_info;
    info.tcb_levels[0].advisory_ids = advisories(1);
    info.tcb_levels[1].advisory_ids = advisories(1);
    info.tcb_levels[1].tcb_status = "SWHardeningNeeded".into();
    let module = info.tdx_module_identities.iter_mut().find(|module| module.id == "TDX_01").unwrap();
    module.tcb_levels[1].advisory_ids = advisories(2);
    let enclave = &mut machine.collateral.qe_identity.tcb_levels;
    let mut old = enclave[0].clone();
    (old.tcb, old.tcb_status, old.advisory_ids) = (IsvTcb { isvsvn: 3 }, "OutOfDate".into(), advisories(3));
    enclave.push(old);
}

fn status_of(version: u16, edit: fn(&mut TdxMachine)) -> (&'static str, Vec<String>) {
    let mut guest = TdxGuest::new(version);
    levels(&mut guest.machine);
    edit(&mut guest.machine);
    let (evidence, endorsements) = (guest.evidence(&guest.challenge()), guest.endorsements());
    let authentic = verify(&evidence, &endorsements, &guest.anchors(), guest.now).unwrap();
    let claims = authentic.claims();
    let verdict = claims.tdx().unwrap().verdict();
    assert_eq!(verdict.tcb_evaluation_data_number, 18);
    (verdict.standing.status.name(), verdict.standing.advisory_ids.iter().cloned().collect())
}

fn status(edit: fn(&mut TdxMachine)) -> (&'static str, Vec<String>) {
    status_of(5, edit)
}

#[test]
fn the_worst_of_platform_module_and_enclave_counts() {
    let sa = |numbers: &[u8]| numbers.iter().map(|n| format!("INTEL-SA-0000{n}")).collect::<Vec<_>>();
    assert_eq!(status(|_| {}), ("UpToDate", sa(&[1])));
    assert_eq!(status(|m| m.pck.components[0] = 2), ("SWHardeningNeeded", sa(&[1])));
    // a component beyond the first two of the TD report counts, of the first two only the module's identity does
    assert_eq!(status(|m| m.quote.body.tee_tcb_svn[2] = 2), ("SWHardeningNeeded", sa(&[1])));
    assert_eq!(status(|m| m.quote.qe.isv_svn = 3), ("OutOfDate", sa(&[1, 3])));
    // an old module at launch and now
    let old = |m: &mut TdxMachine| {
        m.quote.body.tee_tcb_svn[0] = 4;
        m.quote.body.tee_tcb_svn_2[0] = 4;
    };
    assert_eq!(status(old), ("OutOfDate", sa(&[1, 2])));
    // an old module at launch alone
    assert_eq!(status(|m| m.quote.body.tee_tcb_svn[0] = 4), ("TDRelaunchAdvised", sa(&[1, 2])));
    assert_eq!(
        status(|m| {
            m.collateral.tcb_info.tcb_levels[0].tcb_status = "ConfigurationNeeded".into();
            m.quote.body.tee_tcb_svn[0] = 4;
        }),
        ("TDRelaunchAdvisedConfigurationNeeded", sa(&[1, 2]))
    );
    // an old module at launch with an old enclave is plainly out of date, and so it is with old microcode
    assert_eq!(
        status(|m| {
            m.quote.body.tee_tcb_svn[0] = 4;
            m.quote.qe.isv_svn = 3;
        }),
        ("OutOfDate", sa(&[1, 2, 3]))
    );
    assert_eq!(
        status(|m| {
            m.quote.body.tee_tcb_svn[0] = 4;
            m.quote.body.tee_tcb_svn_2[2] = 2;
        }),
        ("OutOfDate", sa(&[1, 2]))
    );
    // the order in which levels stand is not trusted
    assert_eq!(status(|m| m.collateral.tcb_info.tcb_levels.reverse()), ("UpToDate", sa(&[1])));
}

#[test]
fn statuses_merge_to_the_worse_whatever_their_order() {
    let all = || {
        [
            "UpToDate",
            "SWHardeningNeeded",
            "ConfigurationNeeded",
            "ConfigurationAndSWHardeningNeeded",
            "OutOfDate",
            "OutOfDateConfigurationNeeded",
            "TDRelaunchAdvised",
            "TDRelaunchAdvisedConfigurationNeeded",
            "Revoked",
        ]
        .map(|name| TcbStatus::from_name(name).unwrap())
    };
    for a in all() {
        assert_eq!(a.worse(TcbStatus::UpToDate), a);
        assert_eq!(a.worse(TcbStatus::Revoked), TcbStatus::Revoked);
        assert_eq!(a.worse(a), a);
        for b in all() {
            let worse = a.worse(b);
            assert_eq!(worse, b.worse(a));
            assert_eq!(worse.worse(a), worse, "{a} {b}");
            let needs = a.needs_configuration() || b.needs_configuration();
            assert_eq!(worse.needs_configuration(), needs && worse != TcbStatus::Revoked, "{a} {b}");
        }
    }
    for name in ["", "uptodate", "UpToDate ", "SwHardeningNeeded", "Unknown"] {
        assert_eq!(TcbStatus::from_name(name), None);
    }
}

#[test]
fn version_4_quotes_of_tdx_1_0_are_judged_alike() {
    assert_eq!(status_of(4, |_| {}).0, "UpToDate");
    let old = status_of(4, |m| m.quote.body.tee_tcb_svn[0] = 4).0;
    assert_eq!(old, "OutOfDate", "no second version is in it to advise anything");
    let bytes = TdxGuest::new(4).machine.quote([0x11; 64]).unwrap();
    let quote = Quote::parse(&bytes).unwrap();
    assert_eq!((quote.version, quote.tee_type()), (4, TeeType::Tdx));
    assert!(matches!(quote.body, Body::Td10(_)));
}

fn collateral_of(machine: &TdxMachine) -> Collateral {
    Collateral::from_json(machine.collateral().unwrap().to_json().unwrap().as_bytes()).unwrap()
}

#[test]
fn what_was_verified_once_is_judged_again_by_time_roots_and_chain() {
    let guest = TdxGuest::default();
    let (anchors, nothing, now) = (guest.anchors(), BTreeSet::new(), guest.now);
    let (roots, pins) = (anchors.tdx_roots(), anchors.set().simulated_tdx_roots.clone());
    let (bytes, offered) = (guest.machine.quote([0x11; 64]).unwrap(), collateral_of(&guest.machine));
    let quote = Quote::parse(&bytes).unwrap();
    let pck = VerifiedPck::verify(quote.pck_chain(), &roots, now).unwrap();
    let collateral = VerifiedCollateral::verify(&offered, &roots, now).unwrap();
    assert_eq!(collateral.digest(), offered.digest());
    assert_eq!(pck.digest(), quote.pck_chain_digest());
    let kind = |judged: Result<(), EvidenceDenial>| judged.map_err(|denial| Kind::from(&denial));
    assert_eq!(kind(collateral.current(&roots, now)), Ok(()));
    assert_eq!(kind(pck.current(&roots, now)), Ok(()));
    let later = collateral.current_until();
    assert_eq!(kind(collateral.current(&roots, later)), Ok(()));
    assert_eq!(kind(collateral.current(&roots, later.plus(1))), Err(Kind::CollateralValidity));
    assert_eq!(kind(collateral.current(&roots, UnixSeconds(1))), Err(Kind::CertificateValidity));
    assert_eq!(kind(pck.current(&roots, UnixSeconds(1))), Err(Kind::CertificateValidity));
    assert_eq!(kind(collateral.current(&TdxRoots::genuine(), now)), Err(Kind::ChainUnanchored));
    assert_eq!(kind(pck.current(&TdxRoots::genuine(), now)), Err(Kind::ChainUnanchored));
    // simulated roots are known as such, and whatever was taken back is refused at once
    assert_eq!(pck.is_simulated(&roots), Some(true));
    assert_eq!(pck.is_simulated(&TdxRoots::lab_accepting_simulated(&pins, &pins, &nothing)), Some(false));
    let root = &guest.machine.authority.root;
    let taken_back = BTreeSet::from([Sha256Digest::of(root)]);
    let strict = TdxRoots::lab_accepting_simulated(&pins, &pins, &taken_back);
    assert_eq!(kind(pck.current(&strict, now)), Err(Kind::Revoked));
    assert_eq!(kind(collateral.current(&strict, now)), Err(Kind::Revoked));
    assert_eq!(kind(VerifiedPck::verify(quote.pck_chain(), &strict, now).map(|_| ())), Err(Kind::Revoked));
    // the chain of another platform vouches for no quote of this one, nor does another authority's list
    let authority = IntelAuthority::new(Arc::new(IntelKeys::from_seed(b"another").unwrap()), now.0).unwrap();
    let other = TdxGuest { machine: TdxMachine::with_authority(5, authority).unwrap(), ..TdxGuest::default() };
    let other_bytes = other.machine.quote([0x11; 64]).unwrap();
    let other_quote = Quote::parse(&other_bytes).unwrap();
    assert_eq!(pck.authenticate(&other_quote).map(|_| ()).map_err(|d| Kind::from(&d)), Err(Kind::CollateralMismatch));
    let other_anchors = other.anchors();
    let other_collateral =
        VerifiedCollateral::verify(&collateral_of(&other.machine), &other_anchors.tdx_roots(), now).unwrap();
    let judged = pck.authenticate(&quote).unwrap().judge(&other_collateral);
    assert_eq!(Kind::from(&judged.unwrap_err()), Kind::CollateralMismatch);
    // an offered root is none of Intel's
    assert_eq!(kind(verify_root(root, &roots)), Ok(()));
    assert_eq!(kind(verify_root(root, &TdxRoots::genuine())), Err(Kind::ChainUnanchored));
}

/// For edits that give back what they took out.
fn ignore<T>(_: T) {}

#[test]
fn collateral_in_json_is_read_strictly() {
    let collateral = collateral_of(&TdxGuest::default().machine);
    let json = collateral.to_json();
    assert_eq!(Collateral::from_json(&json).unwrap(), collateral);
    let changed = |edit: fn(&mut serde_json::Map<String, Value>)| {
        let mut document: Value = serde_json::from_slice(&json).unwrap();
        edit(document.as_object_mut().unwrap());
        Collateral::from_json(document.to_string().as_bytes()).map_err(|denial| Kind::from(&denial))
    };
    assert_eq!(changed(|_| {}), Ok(collateral.clone()));
    assert_eq!(changed(|c| ignore(c.remove("pck_crl"))), Err(Kind::Malformed));
    assert_eq!(changed(|c| ignore(c.insert("more".into(), 1.into()))), Err(Kind::Malformed));
    assert_eq!(changed(|c| ignore(c.insert("pck_crl".into(), "0".into()))), Err(Kind::Malformed));
    assert_eq!(changed(|c| ignore(c.insert("tcb_info".into(), json!({})))), Err(Kind::Malformed));
    let large = vec![b' '; (1 << 20) + 1];
    assert_eq!(Kind::from(&Collateral::from_json(&large).unwrap_err()), Kind::TooLarge);
    let twice = String::from_utf8(json).unwrap().replacen('{', "{\"pck_crl\":\"\",", 1);
    assert_eq!(Kind::from(&Collateral::from_json(twice.as_bytes()).unwrap_err()), Kind::Malformed);
}
