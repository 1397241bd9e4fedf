//! Calculated values as a set: on a base, with where they come from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use evidence::{
    digest::{Digest, HashAlg, Sha256Digest},
    time::UnixSeconds,
};
use firmware_refs::{
    compute::{
        proposal::{
            ComputedRegister, ComputedValue, Earlier, MeasuredBuffer, MeasuredFile, Origin, PredictedEvent, Proposal,
            ProposalError,
        },
        snp::{IdAuth, IdBlock},
    },
    document::{SetDocument, derivation::Artifact, snp},
    set::{ReferenceValueSet, SetError},
    text::Text,
};

const TPM: &str = include_str!("../example.toml");
const SNP: &str = include_str!("../base-snp.toml");
const TDX: &str = include_str!("../base-tdx.toml");

const PRODUCT: &str = r#"[{ product = "Genoa", source = "bulletin", firmware = "1.55.22",
    mitigations = { launch = "0x0000000000000000", current = "0x0000000000000000" },
    reported = { boot_loader = 9, tee = 0, snp = 23, microcode = 72 },
    committed = { boot_loader = 9, tee = 0, snp = 23, microcode = 72 },
    current = { boot_loader = 9, tee = 0, snp = 23, microcode = 72 },
    launch = { boot_loader = 9, tee = 0, snp = 23, microcode = 72 } }]"#;

fn base(toml: &str) -> SetDocument {
    toml::from_str(toml).unwrap()
}

fn snp_base() -> SetDocument {
    base(&SNP.replace("product = []", &format!("product = {}", PRODUCT.replace('\n', ""))))
}

fn digest(alg: HashAlg, text: &str) -> Digest {
    alg.hash(&[text.as_bytes()])
}

fn value(register: ComputedRegister, value: Digest) -> ComputedValue {
    ComputedValue { register, value, origin: Origin::Derived, events: Vec::new() }
}

fn measurement(text: &str) -> ComputedValue {
    value(ComputedRegister::Measurement, digest(HashAlg::Sha384, text))
}

fn text(text: &str) -> Text {
    Text::try_from(text.to_owned()).unwrap()
}

fn proposal(id: &str, values: Vec<ComputedValue>) -> Proposal {
    Proposal {
        id: id.parse().unwrap(),
        reason: text("firmware 2"),
        now: UnixSeconds(1_800_000_000),
        earlier: Earlier::Replaced,
        method: text("test"),
        parameters: vec![text("vcpus 4")],
        artifacts: vec![Artifact {
            role: text("ovmf"),
            file: text("OVMF.fd"),
            bytes: 4096,
            sha256: Sha256Digest::of(b"firmware"),
        }],
        values,
        files: Vec::new(),
        buffers: Vec::new(),
        exclude: Vec::new(),
        id_block: None,
    }
}

fn measurements(set: &ReferenceValueSet) -> Vec<Digest> {
    set.document().snp.as_ref().unwrap().measurement.iter().map(|accepted| accepted.digest).collect()
}

#[test]
fn a_set_says_where_its_values_come_from_and_reads_back() {
    let set = proposal("guests", vec![measurement("a")]).on(snp_base()).unwrap();
    assert_eq!((set.id().as_str(), set.version()), ("guests", 1));
    assert_eq!(set.not_before(), UnixSeconds(1_800_000_000));
    assert_eq!(set.not_after().0 - set.not_before().0, 365 * 86_400);
    let read = ReferenceValueSet::from_toml(&set.to_toml().unwrap()).unwrap();
    assert_eq!((read.document(), read.digest()), (set.document(), set.digest()));
    assert_eq!(ReferenceValueSet::from_cbor(&set.to_cbor().unwrap()).unwrap().digest(), set.digest());
    let accepted = &set.document().snp.as_ref().unwrap().measurement[0];
    let derivation = &set.document().derivation[0];
    assert_eq!(accepted.from.as_ref(), Some(&derivation.id));
    assert_eq!((derivation.method.as_str(), derivation.artifact[0].file.as_str()), ("test", "OVMF.fd"));
}

#[test]
fn values_replace_those_of_the_base_or_stand_beside_them() {
    let first = proposal("guests", vec![measurement("a")]).on(snp_base()).unwrap();
    let replaced = proposal("guests", vec![measurement("b")]).on(first.document().clone()).unwrap();
    assert_eq!((replaced.version(), measurements(&replaced)), (2, vec![digest(HashAlg::Sha384, "b")]));
    assert_eq!(replaced.document().derivation.len(), 1, "the calculation of what is gone is gone");
    let beside = Proposal { earlier: Earlier::Kept, ..proposal("guests", vec![measurement("b")]) };
    let both = beside.clone().on(first.document().clone()).unwrap();
    assert_eq!(measurements(&both), ["a", "b"].map(|text| digest(HashAlg::Sha384, text)));
    assert_eq!(both.document().derivation.len(), 2);
    let again = beside.on(both.document().clone()).unwrap();
    assert_eq!((measurements(&again).len(), again.document().derivation.len()), (2, 2));
}

#[test]
fn an_id_block_pins_its_signers() {
    let launch_digest = digest(HashAlg::Sha384, "a");
    let block = IdBlock { launch_digest, family_id: [1; 16], image_id: [2; 16], guest_svn: 3, policy: 0x3_0000 };
    let auth = IdAuth { id_key: digest(HashAlg::Sha384, "id"), author_key: None };
    let with_block = Proposal { id_block: Some((block, auth)), ..proposal("guests", vec![measurement("a")]) };
    let set = with_block.on(snp_base()).unwrap();
    let snp = set.document().snp.as_ref().unwrap();
    let snp::IdBlock::Signed { id_key, author_key } = &snp.id_block else { panic!("not signed") };
    assert_eq!((id_key[0].digest, author_key.len(), snp.guest_svn), (auth.id_key, 0, 3));
    assert_eq!((snp.family_id[0].0, snp.image_id[0].0), ([1; 16], [2; 16]));
}

fn pcr4(events: &[&str]) -> ComputedValue {
    let events = events.iter().map(|name| PredictedEvent {
        kind: "EV_EFI_BOOT_SERVICES_APPLICATION",
        description: (*name).to_owned(),
        digest: digest(HashAlg::Sha256, name),
    });
    ComputedValue { events: events.collect(), ..value(ComputedRegister::Pcr(4), digest(HashAlg::Sha256, "pcr 4")) }
}

#[test]
fn a_pcr_has_its_whole_value_and_its_events() {
    let values =
        vec![pcr4(&["loader", "kernel", "kernel"]), value(ComputedRegister::Pcr(11), digest(HashAlg::Sha256, "x"))];
    let set = proposal("rack", values).on(base(TPM)).unwrap();
    let tpm = set.document().tpm.as_ref().unwrap();
    assert_eq!((set.version(), &tpm.pcrs[..]), (4, &[0, 4, 10, 11][..]));
    assert_eq!(tpm.pcr.iter().map(|pcr| pcr.index).collect::<Vec<_>>(), [0, 4, 11]);
    let described: Vec<_> = tpm.event.iter().map(|event| (event.pcr, event.description.as_str())).collect();
    assert_eq!(described, [(4, "loader"), (4, "kernel")]);
    let beside = Proposal { earlier: Earlier::Kept, ..proposal("rack", vec![pcr4(&["loader"])]) };
    assert!(matches!(beside.on(base(TPM)), Err(ProposalError::JudgedByEvents { .. })));
    let other = vec![value(ComputedRegister::Pcr(4), digest(HashAlg::Sha384, "pcr 4"))];
    assert!(matches!(proposal("rack", other).on(base(TPM)), Err(ProposalError::OtherBank { .. })));
}

#[test]
fn a_base_of_another_machine_or_an_unfinished_one_is_refused() {
    let refused = proposal("guests", vec![measurement("a")]).on(base(TPM));
    assert!(matches!(refused, Err(ProposalError::OtherMachine { .. })));
    let unfinished = proposal("guests", vec![measurement("a")]).on(base(SNP)).unwrap_err().to_string();
    assert!(unfinished.contains("no product is accepted") && unfinished.lines().count() == 2, "{unfinished}");
    let mrtd = value(ComputedRegister::MrTd, digest(HashAlg::Sha384, "mrtd"));
    let unfinished = proposal("domains", vec![mrtd.clone()]).on(base(TDX)).unwrap_err().to_string();
    assert!(unfinished.contains("tdx.tcb_status"), "{unfinished}");
    let filled = base(&TDX.replace("tcb_status = []", "tcb_status = [\"UpToDate\"]"));
    let rtmr = |index| value(ComputedRegister::Rtmr(index), digest(HashAlg::Sha384, "rtmr"));
    let set = proposal("domains", vec![mrtd, rtmr(0), rtmr(1), rtmr(2), rtmr(3)]).on(filled).unwrap();
    assert_eq!(set.document().tdx.as_ref().unwrap().rtmr.len(), 4);
}

#[test]
fn derivations_and_values_name_each_other() {
    let set = proposal("guests", vec![measurement("a")]).on(snp_base()).unwrap();
    type Defect = fn(&mut SetDocument);
    let defects: [(Defect, &str); 4] = [
        (|set| set.derivation.clear(), "it is not there"),
        (|set| set.snp.as_mut().unwrap().measurement[0].from = None, "no value comes from it"),
        (|set| set.derivation.extend(set.derivation.clone()), "one entry for each id"),
        (|set| set.derivation[0].artifact.clear(), "which artifacts were read"),
    ];
    for (defect, why) in defects {
        let mut document = set.document().clone();
        defect(&mut document);
        let Err(SetError::Unusable(problems)) = ReferenceValueSet::from_document(document) else { panic!("{why}") };
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].what.contains(why), "{problems:?}");
    }
}

#[test]
fn files_are_judged_by_their_contents_and_pcr10_no_longer_by_its_value() {
    let file = |path: &str, contents| MeasuredFile { path: path.into(), digest: digest(HashAlg::Sha256, contents) };
    let files = vec![file("/usr/bin/true", "new"), file("/usr/bin/id", "id")];
    let with = |earlier| Proposal {
        earlier,
        files: files.clone(),
        buffers: vec![MeasuredBuffer { name: ".ima".into(), digest: digest(HashAlg::Sha256, "key") }],
        exclude: vec!["/var/".into()],
        ..proposal("rack", Vec::new())
    };
    let of = |set: &ReferenceValueSet| {
        let ima = set.document().tpm.as_ref().unwrap().ima.clone().unwrap();
        let files: Vec<_> = ima.file.iter().map(|file| (file.path.clone(), file.accept.len())).collect();
        (files, ima.exclude)
    };
    let names =
        |counts: [usize; 2]| vec![("/usr/bin/id".to_owned(), counts[0]), ("/usr/bin/true".to_owned(), counts[1])];
    let replaced = with(Earlier::Replaced).on(base(TPM)).unwrap();
    let buffers = replaced.document().tpm.as_ref().unwrap().ima.clone().unwrap().buffer;
    assert_eq!((buffers[0].name.as_str(), buffers[0].accept.len()), (".ima", 1));
    assert_eq!(of(&replaced), (names([1, 1]), vec!["/var/".to_owned()]));
    let kept = with(Earlier::Kept).on(base(TPM)).unwrap();
    assert_eq!(of(&kept), (names([1, 2]), ["/run/", "/etc/mtab", "/var/"].map(str::to_owned).to_vec()));
    let mut by_value = base(TPM);
    let tpm = by_value.tpm.as_mut().unwrap();
    (tpm.ima, tpm.require_ima_log) = (None, false);
    tpm.pcr.push(firmware_refs::document::PcrReference { index: 10, accept: tpm.pcr[0].accept.clone() });
    let judged = with(Earlier::Kept).on(by_value).unwrap();
    let tpm = judged.document().tpm.as_ref().unwrap();
    assert_eq!((tpm.require_ima_log, tpm.pcr.iter().any(|pcr| pcr.index == 10)), (true, false));
    let refused = with(Earlier::Replaced).on(snp_base());
    assert!(matches!(refused, Err(ProposalError::OtherMachine { .. })));
}
