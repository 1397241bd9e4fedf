//! How other verifiers failed, and that this one does not: a test for each failure that is about more than one place of
//! the code, named by its row (APPRAISAL.md §3).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use attestd::{tee::node_key::XWingKey, tpm::hpke::SealedMessage};
use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _},
};
use evidence::{
    Evidence, EvidenceDenial,
    cose::{KeySet, Purpose, SigningKey, verify1},
    denial::EvidenceDenialKind as Kind,
    digest::HashAlg,
    event_log::{CcEventLog, EventLog},
    hcl::HclReport,
    ledger::CheckId::{S2, S5, S11, T4, T6, X11},
    names::{DomainName, ItemName, NodeId},
    node_key::XWingPublicKey,
    sev_snp::{SnpReport, cert_table::CertificateTable},
    tdx::{Collateral, Quote},
    tpm::{Enrolment, PcrValues, Public, VerifyingKey, attest::Attest, public::SignatureScheme, signature::Signature},
};
use governance::{artifact::Artifact, halt::HaltRecord, intent::Intent, trust_bundle::TrustBundle};
use simulators::amd::VMPL_HOST;
use tests::{
    genuine::Machine,
    genuine_vtpm::VTpmGuest,
    soft_tpm::{Ak, AkKind, Unique},
    subject::{KINDS, Subject},
};

fn kind<T>(judged: Result<T, EvidenceDenial>) -> Option<Kind> {
    judged.err().map(|denial| Kind::from(&denial))
}

/// go-attestation 5e9eb5d, f601017: a signature counted as verified when its key did not parse, and any curve was taken.
#[test]
fn row_14_a_key_that_does_not_parse_or_is_on_another_curve_verifies_nothing() {
    let spki = |algorithm: &'static EcdsaSigningAlgorithm| {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    };
    let schemes = [HashAlg::Sha256, HashAlg::Sha384].map(SignatureScheme::EcDsa);
    let genuine = Ak::generate(AkKind::EcdsaP256).spki();
    assert!(VerifyingKey::from_spki(&genuine, schemes[0]).is_ok());
    let odd = [&signature::ECDSA_P521_SHA512_FIXED_SIGNING, &signature::ECDSA_P256K1_SHA256_FIXED_SIGNING].map(spki);
    let cut = (0..genuine.len()).map(|length| genuine[..length].to_vec());
    for (key, scheme) in odd.into_iter().chain(cut).flat_map(|key| schemes.map(|scheme| (key.clone(), scheme))) {
        assert_eq!(
            kind(VerifyingKey::from_spki(&key, scheme)),
            Some(Kind::KeyUnusable),
            "{scheme} {}",
            hex::encode(key)
        );
    }
    // as a TPM writes it: TPM_ECC_NIST_P521, TPM_ECC_SM2_P256 and a curve that is none; then a point of no curve
    let public = Ak::generate(AkKind::EcdsaP256).public();
    let at = public.write().windows(4).position(|window| window == [0x00, 0x03, 0x00, 0x10]).unwrap();
    for curve in [0x0005u16, 0x0020, 0xffff] {
        let mut bytes = public.write();
        bytes[at..at + 2].copy_from_slice(&curve.to_be_bytes());
        assert!(Public::read(&bytes).and_then(|public| VerifyingKey::from_public(&public)).is_err(), "{curve:#06x}");
    }
    let mut machine = Machine::default();
    machine.ak_public.unique = Unique::Ecc(vec![1; 32], vec![2; 32]);
    assert_eq!(kind(machine.enrol()), Some(Kind::KeyUnusable));
}

/// WhatsApp TOB-WAPI-7, -8: no nonce of the client's, and the patch level taken from the report, not from the VCEK. (-13,
/// `LD_PRELOAD` after measurement: `attestd::gateway`, where a workload's environment is judged.)
#[test]
fn row_28_a_nonce_is_never_optional_and_a_patch_level_is_what_the_vcek_says() {
    let mut subject = Subject::of(evidence::EvidenceKind::SevSnp);
    let required = subject.judge().unwrap();
    assert!(required.contains(S11) && required.contains(S5));
    // report data of nobody's choosing
    let challenge = subject.challenge();
    for report_data in [[0; 64], [0xff; 64]] {
        let guest = subject.snp();
        let report = guest.machine.report(report_data).unwrap().report;
        let parts =
            evidence::sev_snp::SnpParts { report: &report, certificates: None, node_key: guest.node_key.cose_key() };
        let evidence = Evidence::SevSnp(evidence::sev_snp::SnpEvidence::assemble(parts).unwrap());
        assert_eq!(kind(subject.judge_answer(&evidence, &challenge)), Some(Kind::BindingMismatch));
    }
    // every level of the report, in either direction from the one that the VCEK is certified for
    for (at, up) in [0, 1, 6, 7].into_iter().flat_map(|at| [(at, true), (at, false)]) {
        let level = subject.snp().machine.fields.reported_tcb[at];
        let other = if up { level.checked_add(1) } else { level.checked_sub(1) };
        let Some(other) = other else { continue };
        subject.snp().machine.fields.reported_tcb[at] = other;
        assert_eq!(kind(subject.judge()), Some(Kind::SnpTcbMismatch), "byte {at}: {other} for {level}");
        subject.snp().machine.fields.reported_tcb[at] = level;
    }
    subject.judge().unwrap();
}

/// A reader of strangers' bytes: whether it accepts them.
type Reader = (&'static str, fn(&[u8]) -> bool);

const READERS: &[Reader] = &[
    ("evidence", |bytes| Evidence::decode(bytes.to_vec()).is_ok()),
    ("enrolment", |bytes| Enrolment::from_cbor(bytes).is_ok()),
    ("TPMS_ATTEST", |bytes| Attest::read(bytes).is_ok()),
    ("TPM2B_PUBLIC", |bytes| Public::read(bytes).is_ok()),
    ("TPMT_SIGNATURE", |bytes| Signature::read(bytes).is_ok()),
    ("PCR values", |bytes| PcrValues::from_cbor(bytes).is_ok()),
    ("event log", |bytes| EventLog::parse(bytes).is_ok()),
    ("CC event log", |bytes| CcEventLog::parse(bytes).is_ok()),
    ("SNP report", |bytes| SnpReport::parse(bytes).is_ok()),
    ("certificate table", |bytes| CertificateTable::parse(bytes).is_ok()),
    ("TDX quote", |bytes| Quote::parse(bytes).is_ok()),
    ("collateral", |bytes| Collateral::from_json(bytes).is_ok()),
    ("HCL report", |bytes| HclReport::parse(bytes).is_ok()),
    ("X-Wing key", |bytes| XWingPublicKey::from_cose_key(bytes).is_ok()),
    ("artifact", |bytes| Artifact::decode(bytes).is_ok()),
    ("intent", |bytes| Intent::decode(bytes).is_ok()),
    ("halt record", |bytes| HaltRecord::decode(bytes).is_ok()),
    ("trust bundle", |bytes| TrustBundle::decode(bytes).is_ok()),
    ("receipt", |bytes| audit::receipt::Receipt::decode(bytes).is_ok()),
    ("proof bundle", |bytes| audit::bundle::ProofBundle::decode(bytes).is_ok()),
    ("COSE_Sign1", |bytes| {
        let (domain, key) = (DomainName::new("a.example").unwrap(), SigningKey::from_seed(&[1; 32]).unwrap());
        verify1(Purpose::Artifact, &domain, bytes, &KeySet::new([key.public()])).is_ok()
    }),
    ("sealed execution key", |bytes| {
        let (encapsulated, sealed) = (bytes.to_vec(), bytes.to_vec());
        let sealed = SealedMessage { encapsulated, sealed, info: Vec::new(), aad: Vec::new() };
        XWingKey::generate().unwrap().open(&sealed).is_ok()
    }),
];

/// Contrast GHSA-3ccm-4qq2-5wrp, Rekor CVE-2026-23831 and CVE-2023-33199, go-tuf CVE-2026-23991: a panic on a short
/// ciphertext, an empty COSE message or bad JSON, before any signature was looked at.
#[test]
fn row_30_no_reader_panics_on_what_is_empty_short_or_cut() {
    let mut inputs = vec![Vec::new(), b"{".to_vec(), b"[]".to_vec(), b"null".to_vec(), b"{\"tcb_info\":{}}".to_vec()];
    // openings: CBOR of every major type and length, COSE_Sign1, DER, a TPM structure, a log, and nothing in particular
    inputs.extend((0..=u8::MAX).map(|first| vec![first]));
    for opening in
        [&[0xd2, 0x84][..], &[0x84, 0x40, 0xa0, 0x40, 0x40], &[0xff, 0x54, 0x43, 0x47], &[0x30, 0x82], b"HCLA"]
    {
        for (fill, length) in [0x00, 0x7f, 0xff].into_iter().flat_map(|fill| [0, 1, 7, 64].map(|length| (fill, length)))
        {
            inputs.push([opening, &vec![fill; length]].concat());
        }
    }
    for kind in KINDS {
        let subject = Subject::of(kind);
        let genuine = subject.evidence(&subject.challenge()).bytes().to_vec();
        inputs.extend((0..genuine.len()).step_by(97).map(|length| genuine[..length].to_vec()));
    }
    for (reader, accepts) in READERS {
        for input in &inputs {
            assert!(!accepts(input), "{reader} accepts {}", hex::encode(&input[..input.len().min(32)]));
        }
    }
    // and no crate that reads them may take an index, unwrap or subtract unchecked
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = |path: &str| std::fs::read_to_string(root.join(path)).unwrap().parse::<toml::Table>().unwrap();
    let lints = &manifest("Cargo.toml")["workspace"]["lints"]["clippy"];
    for lint in ["unwrap_used", "expect_used", "indexing_slicing", "arithmetic_side_effects", "as_conversions"] {
        assert_eq!(lints[lint].as_str(), Some("deny"), "{lint}");
    }
    for package in ["evidence", "firmware-refs", "governance", "policy", "audit", "wire", "verifier", "attestd"] {
        let manifest = manifest(&format!("{package}/Cargo.toml"));
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{package}");
    }
}

/// Trustee #151, e823da00, 74d74ed0, Veraison 1dea4c5: one backend ignored the nonce, a mismatch was only a warning, a
/// resource id was a path, and freshness was left to the relying party.
#[test]
fn row_32_every_kind_of_evidence_must_be_fresh_and_no_name_is_a_path() {
    for of in KINDS {
        let subject = Subject::of(of);
        let (challenge, required) = (subject.challenge(), subject.judge().unwrap());
        assert!([T6, S11, X11].iter().any(|check| required.contains(*check)), "{of} asks for no freshness");
        let evidence = subject.evidence(&challenge);
        let mut other = challenge.clone();
        other.nonce[0] ^= 1;
        assert_eq!(kind(subject.judge_answer(&evidence, &other)), Some(Kind::BindingMismatch), "{of}");
        let mut over = challenge;
        over.expires_at = subject.now().minus(1);
        assert_eq!(kind(subject.judge_answer(&evidence, &over)), Some(Kind::ChallengeExpired), "{of}");
    }
    for name in ["../../etc/shadow", "..", ".", "a/b", "/a", "a\\b", "a\0b", "%2e%2e", ""] {
        assert!(
            ItemName::new(name).is_err() && NodeId::new(name).is_err() && DomainName::new(name).is_err(),
            "{name:?}"
        );
    }
}

/// vTPMs whose AK nobody ties to the guest (IBM's e-vTPM and others): a quote of one says nothing about the guest beside it.
#[test]
fn row_44_a_vtpm_is_part_of_its_guest_only_if_the_guests_hardware_names_its_ak() {
    for (guest, binding) in [(VTpmGuest::on_snp(), S11), (VTpmGuest::on_tdx(), X11)] {
        let subject = Subject::VTpm(Box::new(guest));
        let Subject::VTpm(guest) = &subject else { unreachable!() };
        let required = subject.judge().unwrap();
        assert!([T4, T6, binding].iter().all(|check| required.contains(*check)));
        let (challenge, genuine) = (guest.challenge(), || guest.draft(&guest.challenge()));
        let another = Machine::default().ak_public.name().to_bytes();
        for ak_name in [None, Some(another), Some(Vec::new())] {
            let mut draft = genuine();
            draft.ak_name = ak_name;
            let evidence = guest.answer(&draft).unwrap();
            assert_eq!(kind(subject.judge_answer(&evidence, &challenge)), Some(Kind::BindingMismatch));
        }
        // a hardware report of yesterday beside a quote of today, and the other way round
        for stale in [0, 1] {
            let mut draft = genuine();
            [&mut draft.tee, &mut draft.tpm][stale].nonce[0] ^= 1;
            let evidence = guest.answer(&draft).unwrap();
            assert_eq!(kind(subject.judge_answer(&evidence, &challenge)), Some(Kind::BindingMismatch));
        }
    }
    // the host asks for the report that should be the guest's
    let mut subject = Subject::of(evidence::EvidenceKind::TpmOnSevSnp);
    assert!(subject.judge().unwrap().contains(S2));
    subject.snp().machine.fields.vmpl = VMPL_HOST;
    assert_eq!(kind(subject.judge()), Some(Kind::SnpVmpl));
}
