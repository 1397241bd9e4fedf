//! A genuine TDX quote with genuine collateral is worth what Intel says; with one defect it is refused for exactly that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::disallowed_methods
)]

mod intel;

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    EvidenceDenial,
    anchors::RootPin,
    denial::EvidenceDenialKind as Kind,
    digest::Sha256Digest,
    ledger::CheckId,
    tdx::{
        Collateral, Quote, TcbStatus, TcbVerdict, TdxRoots, VerifiedCollateral, VerifiedPck, body::Body,
        quote::TeeType, roots::verify_root, td_attributes,
    },
    time::UnixSeconds,
};
use intel::{Answer, Draft, Intel, NOW, authority, level, revoked};
use rcgen::{IsCa, date_time_ymd};
use serde_json::{Value, json};

/// Where a defect is put in.
#[derive(Clone, Copy)]
enum Place {
    /// What Intel says, before it signs.
    Intel(fn(&mut Intel)),
    /// The quote, before it is signed.
    Draft(fn(&mut Draft)),
    /// The quote, after it was signed.
    Quote(fn(&mut Vec<u8>)),
    /// The collateral, after it was signed.
    Collateral(fn(&mut Collateral)),
    /// The pinned roots.
    Roots(fn(&mut BTreeSet<RootPin>)),
    /// The time at which it is judged.
    Time(u64),
}

use Place::{Collateral as C, Draft as D, Intel as I, Quote as Q, Roots as R, Time as T};

fn judge(place: Option<Place>) -> Result<TcbVerdict, EvidenceDenial> {
    judge_draft(Draft::td15(), place)
}

fn judge_draft(mut draft: Draft, place: Option<Place>) -> Result<TcbVerdict, EvidenceDenial> {
    let mut intel = Intel::default();
    match place {
        Some(I(edit)) => edit(&mut intel),
        Some(D(edit)) => edit(&mut draft),
        _ => {}
    }
    let mut answer = intel.sign(&draft);
    let mut pins = pins_of(&answer);
    let mut now = NOW;
    match place {
        Some(Q(edit)) => edit(&mut answer.quote),
        Some(C(edit)) => edit(&mut answer.collateral),
        Some(R(edit)) => edit(&mut pins),
        Some(T(at)) => now = at,
        _ => {}
    }
    judge_answer(&answer, &roots(&pins), UnixSeconds(now))
}

fn pins_of(answer: &Answer) -> BTreeSet<RootPin> {
    [RootPin::Certificate(Sha256Digest::of(&answer.root))].into()
}

fn roots(pins: &BTreeSet<RootPin>) -> TdxRoots<'_> {
    static NONE: BTreeSet<RootPin> = BTreeSet::new();
    static NOTHING: BTreeSet<Sha256Digest> = BTreeSet::new();
    TdxRoots::lab_accepting_simulated(&NONE, pins, &NOTHING)
}

fn judge_answer(answer: &Answer, roots: &TdxRoots<'_>, now: UnixSeconds) -> Result<TcbVerdict, EvidenceDenial> {
    let quote = Quote::parse(&answer.quote)?;
    let pck = VerifiedPck::verify(quote.pck_chain(), roots, now)?;
    let authentic = pck.authenticate(&quote)?;
    td_attributes::judge(quote.td_report()?)?;
    let collateral = VerifiedCollateral::verify(&answer.collateral, roots, now)?;
    authentic.judge(&collateral)
}

/// For edits that give back what they took out.
fn ignore<T>(_: T) {}

fn attributes(draft: &mut Draft, set: u64) {
    draft.report()[120..128].copy_from_slice(&((1u64 << 28) ^ set).to_le_bytes());
}

fn other_key(pem: &str) -> String {
    // another genuine chain of the same names
    let other = Intel::default().sign(&Draft::td15());
    assert_ne!(other.collateral.tcb_info_issuer_chain, pem);
    other.collateral.tcb_info_issuer_chain
}

const DEFECTS: &[(CheckId, Kind, &str, Place)] = &[
    (CheckId::X1, Kind::QuoteField, "version 6", D(|d| d.header[0] = 6)),
    (CheckId::X1, Kind::QuoteField, "attestation key on P-384", D(|d| d.header[2] = 3)),
    (CheckId::X1, Kind::QuoteField, "unknown TEE type", D(|d| d.header[4] = 0x80)),
    (CheckId::X1, Kind::QuoteField, "TD body of an enclave", D(|d| d.header[4] = 0)),
    (CheckId::X1, Kind::QuoteField, "unknown body type", D(|d| d.body[0] = 4)),
    (CheckId::X1, Kind::Malformed, "body size of another type", D(|d| d.body[2] = 0x48)),
    (CheckId::X1, Kind::Malformed, "another QE vendor", D(|d| d.header[12] ^= 1)),
    (CheckId::X1, Kind::QuoteField, "outer certification data type", D(|d| d.outer_type = 5)),
    (CheckId::X1, Kind::QuoteField, "inner certification data type", D(|d| d.inner_type = 1)),
    (CheckId::X1, Kind::TrailingBytes, "a byte after the quote", Q(|q| q.push(0))),
    (CheckId::X1, Kind::Malformed, "a byte short", Q(|q| ignore(q.pop()))),
    (
        CheckId::X1,
        Kind::TrailingBytes,
        "signature data a byte too long",
        Q(|q| {
            let at = 48 + 6 + 648;
            q.push(0);
            let length = u32::from_le_bytes(q[at..at + 4].try_into().unwrap()) + 1;
            q[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }),
    ),
    (CheckId::X1, Kind::TooLarge, "a quote beyond its cap", Q(|q| q.resize(1 << 20, 0))),
    (CheckId::X2, Kind::ChainUnanchored, "root is not pinned", R(BTreeSet::clear)),
    (
        CheckId::X2,
        Kind::ChainUnanchored,
        "only Intel's root is pinned",
        R(|pins| {
            *pins = evidence::tdx::roots::GENUINE_ROOTS.clone();
        }),
    ),
    (
        CheckId::X2,
        Kind::CertificateConstraint,
        "PCK of another name",
        I(|i| i.pck.distinguished_name = i.tcb_signing.distinguished_name.clone()),
    ),
    (CheckId::X2, Kind::CertificateConstraint, "root of another name", I(|i| i.root = authority("Another Root", 1, 1))),
    (CheckId::X2, Kind::CertificateConstraint, "PCK CA is no authority", I(|i| i.pck_ca.is_ca = IsCa::ExplicitNoCa)),
    (CheckId::X2, Kind::CertificateConstraint, "PCK is an authority", I(|i| i.pck.is_ca = i.pck_ca.is_ca)),
    (
        CheckId::X2,
        Kind::CertificateConstraint,
        "root allows no intermediate",
        I(|i| i.root = authority("Intel SGX Root CA", 0, 1)),
    ),
    (CheckId::X2, Kind::CertificateValidity, "PCK is over", I(|i| i.pck.not_after = date_time_ymd(2026, 1, 2))),
    (
        CheckId::X2,
        Kind::CertificateValidity,
        "PCK CA is to come",
        I(|i| i.pck_ca.not_before = date_time_ymd(2026, 1, 20)),
    ),
    (CheckId::X2, Kind::Missing, "PCK without a PPID", I(|i| i.extensions.ppids = 0)),
    (CheckId::X2, Kind::Malformed, "PCK with two PPIDs", I(|i| i.extensions.ppids = 2)),
    (CheckId::X2, Kind::Malformed, "PCK with a short FMSPC", I(|i| ignore(i.extensions.fmspc.pop()))),
    (CheckId::X2, Kind::Missing, "PCK without a component", I(|i| ignore(i.extensions.components.pop()))),
    (CheckId::X2, Kind::Malformed, "PCK with a component too many", I(|i| i.extensions.components = vec![3; 19])),
    (CheckId::X2, Kind::Revoked, "PCK is revoked", I(|i| i.pck_crl.revoked_certs.push(revoked(3)))),
    (CheckId::X2, Kind::Revoked, "PCK CA is revoked", I(|i| i.root_crl.revoked_certs.push(revoked(2)))),
    (
        CheckId::X2,
        Kind::Revoked,
        "TCB signing certificate is revoked",
        I(|i| i.root_crl.revoked_certs.push(revoked(4))),
    ),
    (
        CheckId::X2,
        Kind::CertificateListValidity,
        "root's list is over",
        I(|i| i.root_crl.next_update = date_time_ymd(2026, 1, 2)),
    ),
    (
        CheckId::X2,
        Kind::CertificateListValidity,
        "PCK list is to come",
        I(|i| i.pck_crl.this_update = date_time_ymd(2026, 1, 20)),
    ),
    (CheckId::X2, Kind::CertificateListSignature, "PCK list by the root", I(|i| i.pck_crl_by_root = true)),
    (
        CheckId::X2,
        Kind::CertificateListSignature,
        "signature of the root's list",
        C(|c| {
            let last = c.root_ca_crl.len() - 1;
            c.root_ca_crl[last] ^= 1;
        }),
    ),
    (CheckId::X2, Kind::Malformed, "no PCK list", C(|c| c.pck_crl.clear())),
    (CheckId::X2, Kind::Malformed, "no root's list", C(|c| c.root_ca_crl.clear())),
    (CheckId::X3, Kind::AttestationKeyUnbound, "QE vouches for nothing", D(|d| d.is_bound = false)),
    (CheckId::X3, Kind::AttestationKeyUnbound, "bytes after the digest", D(|d| d.qe_report[383] = 1)),
    (
        CheckId::X3,
        Kind::AttestationKeyUnbound,
        "other authentication data",
        Q(|q| {
            let at = 48 + 6 + 648 + 4 + 128 + 6 + 384 + 64 + 2;
            q[at] ^= 1;
        }),
    ),
    (
        CheckId::X3,
        Kind::SignatureInvalid,
        "QE report changed after signing",
        Q(|q| {
            let at = 48 + 6 + 648 + 4 + 128 + 6;
            q[at] ^= 1;
        }),
    ),
    (
        CheckId::X4,
        Kind::CollateralSignature,
        "QE identity changed",
        C(|c| c.qe_identity = c.qe_identity.replace("DCDC", "DDDC")),
    ),
    (
        CheckId::X4,
        Kind::CollateralValidity,
        "QE identity is over",
        I(|i| i.qe_identity["nextUpdate"] = "2026-01-02T00:00:00Z".into()),
    ),
    (CheckId::X4, Kind::CollateralField, "QE identity of enclaves", I(|i| i.qe_identity["id"] = "QE".into())),
    (
        CheckId::X4,
        Kind::CollateralField,
        "QE identity of the verification enclave",
        I(|i| i.qe_identity["id"] = "QVE".into()),
    ),
    (CheckId::X4, Kind::CollateralField, "QE identity of version 1", I(|i| i.qe_identity["version"] = 1.into())),
    (CheckId::X4, Kind::QeIdentityMismatch, "another signer", D(|d| d.qe_report[128] ^= 1)),
    (CheckId::X4, Kind::QeIdentityMismatch, "another product", D(|d| d.qe_report[256] = 1)),
    (CheckId::X4, Kind::QeIdentityMismatch, "another MISCSELECT", D(|d| d.qe_report[16] = 1)),
    (CheckId::X4, Kind::QeIdentityMismatch, "debug, which the mask covers", D(|d| d.qe_report[48] |= 2)),
    (CheckId::X4, Kind::TcbLevelMissing, "QE below every level", D(|d| d.qe_report[258] = 0)),
    (CheckId::X4, Kind::TcbRevoked, "QE of a revoked level", D(|d| d.qe_report[258] = 1)),
    (CheckId::X4, Kind::DebugEnabled, "debug, which no mask covers", I(|_| {})),
    (CheckId::X5, Kind::SignatureInvalid, "MRTD changed after signing", Q(|q| q[48 + 6 + 136] ^= 1)),
    (CheckId::X5, Kind::SignatureInvalid, "header changed after signing", Q(|q| q[30] ^= 1)),
    (CheckId::X5, Kind::SignatureInvalid, "signature of zeros", Q(|q| q[48 + 6 + 648 + 4..][..64].fill(0))),
    (
        CheckId::X6,
        Kind::CollateralSignature,
        "TCB info changed",
        C(|c| c.tcb_info = c.tcb_info.replace("SWHardeningNeeded", "UpToDate")),
    ),
    (CheckId::X6, Kind::CollateralSignature, "TCB info written anew", C(|c| c.tcb_info.push(' '))),
    (
        CheckId::X6,
        Kind::ChainUnanchored,
        "TCB info under another root",
        C(|c| c.tcb_info_issuer_chain = other_key(&c.tcb_info_issuer_chain)),
    ),
    (
        CheckId::X6,
        Kind::CollateralValidity,
        "TCB info is over",
        I(|i| i.tcb_info["nextUpdate"] = "2026-01-02T00:00:00Z".into()),
    ),
    (
        CheckId::X6,
        Kind::CollateralValidity,
        "TCB info is to come",
        I(|i| i.tcb_info["issueDate"] = "2026-01-20T00:00:00Z".into()),
    ),
    (CheckId::X6, Kind::CollateralField, "TCB info of version 2", I(|i| i.tcb_info["version"] = 2.into())),
    (CheckId::X6, Kind::CollateralField, "TCB info of another type", I(|i| i.tcb_info["tcbType"] = 1.into())),
    (CheckId::X6, Kind::CollateralField, "TCB info of nothing", I(|i| i.tcb_info["id"] = "TDY".into())),
    (CheckId::X6, Kind::CollateralMismatch, "another FMSPC", I(|i| i.tcb_info["fmspc"] = "90C06F000001".into())),
    (CheckId::X6, Kind::CollateralMismatch, "another PCEID", I(|i| i.tcb_info["pceId"] = "0001".into())),
    (
        CheckId::X6,
        Kind::CertificateConstraint,
        "signed by a certificate of another name",
        I(|i| i.tcb_signing.distinguished_name = i.pck.distinguished_name.clone()),
    ),
    (CheckId::X6, Kind::CertificateValidity, "all certificates are over", T(2_100_000_000)),
    (
        CheckId::X6,
        Kind::Malformed,
        "TCB info without its date",
        I(|i| ignore(i.tcb_info.as_object_mut().unwrap().remove("issueDate"))),
    ),
    (CheckId::X7, Kind::TdxModuleUnknown, "a module without an identity", D(|d| d.report()[1] = 2)),
    (CheckId::X7, Kind::TdxModuleMismatch, "a module of another signer", D(|d| d.report()[64] = 1)),
    (CheckId::X7, Kind::TdxModuleMismatch, "a module with attributes", D(|d| d.report()[112] = 1)),
    (CheckId::X7, Kind::TcbLevelMissing, "a module below every level", D(|d| d.report()[0] = 0)),
    (CheckId::X7, Kind::TcbLevelMissing, "a platform below every level", I(|i| i.extensions.components[15] = 0)),
    (CheckId::X7, Kind::TcbLevelMissing, "a PCE below every level", I(|i| i.extensions.pce_svn = 12)),
    (CheckId::X7, Kind::TcbLevelMissing, "a TD below every level", D(|d| d.report()[15] = 2)),
    (CheckId::X7, Kind::TcbLevelMissing, "module 0 is judged with the platform", D(|d| d.report()[..2].fill(0))),
    (CheckId::X7, Kind::Malformed, "one level twice", I(|i| i.tcb_info["tcbLevels"][1] = level(3, 5, "OutOfDate"))),
    (CheckId::X7, Kind::Malformed, "no level", I(|i| i.tcb_info["tcbLevels"] = json!([]))),
    (
        CheckId::X7,
        Kind::Malformed,
        "fifteen components",
        I(|i| ignore(i.tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"].as_array_mut().unwrap().pop())),
    ),
    (
        CheckId::X8,
        Kind::TcbStatusUnknown,
        "a status that is none",
        I(|i| i.tcb_info["tcbLevels"][0]["tcbStatus"] = "Fine".into()),
    ),
    (CheckId::X8, Kind::TcbRevoked, "a revoked platform", I(|i| i.extensions.components = vec![1; 16])),
    (CheckId::X8, Kind::TcbRevoked, "a revoked module", D(|d| d.report()[0] = 1)),
    (
        CheckId::X8,
        Kind::TcbStatusUnknown,
        "a status of the QE that is none",
        I(|i| i.qe_identity["tcbLevels"][0]["tcbStatus"] = "".into()),
    ),
    (CheckId::X9, Kind::DebugEnabled, "debug", D(|d| attributes(d, 1))),
    (CheckId::X9, Kind::TdAttributes, "profiling", D(|d| attributes(d, 1 << 4))),
    (CheckId::X9, Kind::TdAttributes, "a reserved bit", D(|d| attributes(d, 1 << 40))),
    (CheckId::X9, Kind::TdAttributes, "#VE of pending pages", D(|d| attributes(d, 1 << 28))),
    (CheckId::X9, Kind::TdAttributes, "migration", D(|d| attributes(d, 1 << 29))),
    (CheckId::X9, Kind::TdAttributes, "no SSE in XFAM", D(|d| d.report()[128] = 0xe5)),
    (
        CheckId::X13,
        Kind::TdxModuleUnknown,
        "started on an old module, runs on one that Intel does not list",
        D(|d| {
            d.report()[0] = 3;
            d.report()[584 + 1] = 9;
        }),
    ),
];

#[test]
fn every_defect_meets_exactly_its_denial() {
    let verdict = judge(None).unwrap();
    assert_eq!(verdict.standing.status, TcbStatus::UpToDate);
    assert_eq!(verdict.tcb_evaluation_data_number, 18);
    let mut wrong = Vec::new();
    for (check, kind, name, place) in DEFECTS {
        let judged = match *name {
            // a mask without the debug bit needs two changes: the identity's and the enclave's
            "debug, which no mask covers" => {
                let mut intel = Intel::default();
                intel.qe_identity["attributesMask"] = format!("F9{}{}", "FF".repeat(7), "00".repeat(8)).into();
                let mut draft = Draft::td15();
                draft.qe_report[48] |= 2;
                let answer = intel.sign(&draft);
                judge_answer(&answer, &roots(&pins_of(&answer)), UnixSeconds(NOW))
            }
            _ => judge(Some(*place)),
        };
        match judged {
            Ok(_) => wrong.push(format!("{check:?} {name}: ACCEPTED")),
            Err(denial) if Kind::from(&denial) == *kind => {}
            Err(denial) => wrong.push(format!("{check:?} {name}: {denial}, want {kind:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), DEFECTS.len(), wrong.join("\n"));
}

#[test]
fn every_check_of_a_quote_has_cases() {
    let mut cases = BTreeMap::new();
    for (check, ..) in DEFECTS {
        *cases.entry(*check).or_insert(0) += 1;
    }
    use CheckId::{X1, X2, X3, X4, X5, X6, X7, X8, X9};
    for check in [X1, X2, X3, X4, X5, X6, X7, X8, X9] {
        assert!(cases.get(&check).copied().unwrap_or(0) >= 3, "{check:?}");
    }
    let names: BTreeSet<_> = DEFECTS.iter().map(|(_, _, name, _)| name).collect();
    assert_eq!(names.len(), DEFECTS.len());
}

fn status(edit: fn(&mut Intel, &mut Draft)) -> (&'static str, Vec<String>) {
    let (mut intel, mut draft) = (Intel::default(), Draft::td15());
    edit(&mut intel, &mut draft);
    let answer = intel.sign(&draft);
    let verdict = judge_answer(&answer, &roots(&pins_of(&answer)), UnixSeconds(NOW)).unwrap();
    (verdict.standing.status.name(), verdict.standing.advisory_ids.into_iter().collect())
}

#[test]
fn the_worst_of_platform_module_and_enclave_counts() {
    let sa = |numbers: &[u8]| numbers.iter().map(|n| format!("INTEL-SA-0000{n}")).collect::<Vec<_>>();
    assert_eq!(status(|_, _| {}), ("UpToDate", sa(&[1])));
    assert_eq!(status(|i, _| i.extensions.components[0] = 2), ("SWHardeningNeeded", sa(&[1])));
    // a component beyond the first two of the TD report counts, of the first two only the module's identity does
    assert_eq!(status(|_, d| d.report()[2] = 4), ("SWHardeningNeeded", sa(&[1])));
    assert_eq!(status(|_, d| d.qe_report[258] = 3), ("OutOfDate", sa(&[1, 3])));
    // an old module at launch and now
    let old = |_: &mut Intel, d: &mut Draft| {
        d.report()[0] = 3;
        d.report()[584] = 3;
    };
    assert_eq!(status(old), ("OutOfDate", sa(&[1, 2])));
    // an old module at launch alone
    assert_eq!(status(|_, d| d.report()[0] = 3), ("TDRelaunchAdvised", sa(&[1, 2])));
    assert_eq!(
        status(|i, d| {
            i.tcb_info["tcbLevels"][0]["tcbStatus"] = "ConfigurationNeeded".into();
            d.report()[0] = 3;
        }),
        ("TDRelaunchAdvisedConfigurationNeeded", sa(&[1, 2]))
    );
    // an old module now with an old enclave is plainly out of date, and so it is with old microcode
    assert_eq!(
        status(|_, d| {
            d.report()[0] = 3;
            d.qe_report[258] = 3;
        }),
        ("OutOfDate", sa(&[1, 2, 3]))
    );
    assert_eq!(
        status(|_, d| {
            d.report()[0] = 3;
            d.report()[584 + 2] = 4;
        }),
        ("OutOfDate", sa(&[1, 2]))
    );
    // the order in which levels stand is not trusted
    assert_eq!(status(|i, _| i.tcb_info["tcbLevels"].as_array_mut().unwrap().reverse()), ("UpToDate", sa(&[1])));
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
    assert_eq!(judge_draft(Draft::td10(), None).unwrap().standing.status, TcbStatus::UpToDate);
    let relaunch = judge_draft(Draft::td10(), Some(D(|d| d.report()[0] = 3))).unwrap();
    assert_eq!(relaunch.standing.status, TcbStatus::OutOfDate, "no second version is in it to advise anything");
    let answer = Intel::default().sign(&Draft::td10());
    let quote = Quote::parse(&answer.quote).unwrap();
    assert_eq!((quote.version, quote.tee_type()), (4, TeeType::Tdx));
    assert!(matches!(quote.body, Body::Td10(_)));
}

#[test]
fn what_was_verified_once_is_judged_again_by_time_roots_and_chain() {
    let answer = Intel::default().sign(&Draft::td15());
    let (pins, nothing) = (pins_of(&answer), BTreeSet::new());
    let roots = roots(&pins);
    let now = UnixSeconds(NOW);
    let quote = Quote::parse(&answer.quote).unwrap();
    let pck = VerifiedPck::verify(quote.pck_chain(), &roots, now).unwrap();
    let collateral = VerifiedCollateral::verify(&answer.collateral, &roots, now).unwrap();
    assert_eq!(collateral.digest(), answer.collateral.digest());
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
    let taken_back = BTreeSet::from([Sha256Digest::of(&answer.root)]);
    let strict = TdxRoots::lab_accepting_simulated(&pins, &pins, &taken_back);
    assert_eq!(kind(pck.current(&strict, now)), Err(Kind::Revoked));
    assert_eq!(kind(collateral.current(&strict, now)), Err(Kind::Revoked));
    assert_eq!(kind(VerifiedPck::verify(quote.pck_chain(), &strict, now).map(|_| ())), Err(Kind::Revoked));
    // the chain of another platform vouches for no quote of this one, nor does another authority's list
    let other = Intel::default().sign(&Draft::td15());
    let other_quote = Quote::parse(&other.quote).unwrap();
    assert_eq!(pck.authenticate(&other_quote).map(|_| ()).map_err(|d| Kind::from(&d)), Err(Kind::CollateralMismatch));
    let other_pins = pins_of(&other);
    let other_roots = TdxRoots::lab_accepting_simulated(&other_pins, &other_pins, &nothing);
    let other_collateral = VerifiedCollateral::verify(&other.collateral, &other_roots, now).unwrap();
    let judged = pck.authenticate(&quote).unwrap().judge(&other_collateral);
    assert_eq!(Kind::from(&judged.unwrap_err()), Kind::CollateralMismatch);
    // an offered root is none of Intel's
    assert_eq!(kind(verify_root(&answer.root, &roots)), Ok(()));
    assert_eq!(kind(verify_root(&answer.root, &TdxRoots::genuine())), Err(Kind::ChainUnanchored));
}

#[test]
fn collateral_in_json_is_read_strictly() {
    let collateral = Intel::default().sign(&Draft::td15()).collateral;
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
