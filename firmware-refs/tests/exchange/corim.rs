//! Our sets as CoRIM and back.

use evidence::{cose::SigningKey, threshold::Authority};
use firmware_refs::{
    document::SetDocument,
    exchange::{Imported, Voucher, corim, signers::Hardware},
    lifecycle::{Lifecycle, LifecycleError},
    set::ReferenceValueSet,
    signed::{SignedSet, sign},
};

use super::*;

fn set(document: SetDocument) -> ReferenceValueSet {
    ReferenceValueSet::from_document(document).unwrap()
}

/// Everything but sources, reason and tags, which say where values come from, and so differ.
fn values(set: &ReferenceValueSet) -> String {
    let untagged = SetDocument { tag: Vec::new(), ..set.document().clone() };
    let lines = self::set(untagged).to_toml().unwrap();
    let kept = lines.lines().filter(|line| !line.starts_with("source = ") && !line.starts_with("reason = "));
    kept.collect::<Vec<_>>().join("\n")
}

fn exported_and_back(document: SetDocument, base: SetDocument) -> (ReferenceValueSet, Imported) {
    let set = set(document);
    let file = corim::export_signed(&set, &signing_key(), "a.example").unwrap();
    let back = corim::import(&file.bytes, base.clone(), &signers(), NOW).unwrap();
    let bare = corim::export(&set).unwrap();
    let unsigned = corim::import_unsigned(&bare.bytes, base, NOW).unwrap();
    assert_eq!(values(&back.set), values(&unsigned.set));
    assert_eq!(back.voucher, Voucher::Signer(signing_key().public().kid()));
    assert_eq!(unsigned.voucher, Voucher::Nobody);
    (set, back)
}

#[test]
fn sets_of_every_hardware_go_out_and_come_back() {
    for kind in [SNP, TDX] {
        let (set, back) = exported_and_back(document(kind, "a"), document(kind, "b"));
        assert_eq!(values(&back.set), values(&set));
    }
    let other = TPM.replace("77777777", "66666666");
    let (set, back) = exported_and_back(document(TPM, ""), document(&other, ""));
    assert_eq!(values(&back.set), values(&set));
}

#[test]
fn every_imported_value_says_where_it_comes_from() {
    let (_, back) = exported_and_back(document(TPM, ""), document(TPM, ""));
    let document = back.set.document();
    let source = document.tpm.as_ref().unwrap().pcr[0].accept[0].source.to_string();
    let kid = signing_key().public().kid();
    assert_eq!(source, format!("corim sha256:{} signed by {kid} tag imported", back.file));
    assert!(document.reason.to_string().contains(&format!("sha256:{}", back.file)), "{}", document.reason);

    let file = corim::export(&set(self::document(TPM, ""))).unwrap();
    let back = corim::import_unsigned(&file.bytes, self::document(TPM, ""), NOW).unwrap();
    let source = back.set.document().tpm.as_ref().unwrap().pcr[0].accept[0].source.to_string();
    assert!(source.contains(" unsigned tag "), "{source}");
}

#[test]
fn a_tag_id_and_version_is_one_content_over_all_imports_of_a_domain() {
    let tagged = |version, digest| pcrs_corim(vec![comid("a", version, vec![], vec![pcr_triple(4, digest)])]);
    let import = |file: &[u8], base| corim::import_unsigned(file, base, NOW).map(|imported| imported.set);
    let first = import(&tagged(1, [1; 32]), document(TPM, "")).unwrap();
    assert_eq!((first.document().tag[0].id.as_str(), first.document().tag[0].version), ("a", 1));
    let again = import(&tagged(1, [2; 32]), first.document().clone());
    assert_eq!(again.unwrap_err().code(), "import.tag_collision", "a base remembers what it was made of");

    let authority = Authority::new(vec![signing_key().public().clone()], 1).unwrap();
    let signed = |set: &ReferenceValueSet| {
        SignedSet::open(&[sign(set, &signing_key()).unwrap()], set.domain(), &authority).unwrap()
    };
    let mut other_set = document(TPM, "");
    other_set.id = "another-set".parse().unwrap();
    let why = || "test".to_owned().try_into().unwrap();
    let mut state = Lifecycle::default();
    state.stage(&signed(&first), why(), NOW).unwrap();
    let colliding = import(&tagged(1, [2; 32]), other_set.clone()).unwrap();
    let refused = state.stage(&signed(&colliding), why(), NOW).unwrap_err();
    assert!(matches!(&refused, LifecycleError::TagReused { version: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("tag a version 1"), "{refused}");
    assert_eq!(state.stage_of(colliding.id(), colliding.version()), None);
    let newer = import(&tagged(2, [2; 32]), other_set).unwrap();
    state.stage(&signed(&newer), why(), NOW).unwrap();
}

#[test]
fn what_the_file_does_not_speak_of_stays_and_what_it_does_is_replaced() {
    let file = pcrs_corim(vec![comid("a", 0, vec![], vec![pcr_triple(4, [4; 32]), pcr_triple(4, [5; 32])])]);
    let back = corim::import_unsigned(&file, document(TPM, ""), NOW).unwrap();
    let tpm = back.set.document().tpm.as_ref().unwrap();
    assert_eq!(tpm.pcrs, [4, 7]);
    let counts: Vec<_> = tpm.pcr.iter().map(|pcr| (pcr.index, pcr.accept.len())).collect();
    assert_eq!(counts, [(4, 2), (7, 1)]);
}

#[test]
fn the_time_of_the_file_narrows_the_time_of_the_set() {
    let mut narrow = document(TPM, "");
    narrow.not_after = "2024-06-01T00:00:00Z".to_owned().try_into().unwrap();
    let (set, back) = exported_and_back(narrow, document(TPM, ""));
    assert_eq!(back.set.not_after(), set.not_after());
}

#[test]
fn the_newest_tag_counts_and_a_replaced_one_does_not() {
    let (old, new) = ([1; 32], [2; 32]);
    let tags = vec![comid("a", 1, vec![], vec![pcr_triple(4, old)]), comid("a", 2, vec![], vec![pcr_triple(4, new)])];
    let replacing =
        vec![comid("a", 0, vec![], vec![pcr_triple(4, old)]), comid("b", 0, vec![("a", 1)], vec![pcr_triple(4, new)])];
    let supplementing = vec![
        comid("a", 0, vec![("b", 0)], vec![pcr_triple(4, old)]),
        comid("b", 0, vec![("a", 0)], vec![pcr_triple(4, new)]),
    ];
    for (tags, wanted, lost) in [(tags, vec![new], 1), (replacing, vec![new], 1), (supplementing, vec![old, new], 0)] {
        let back = corim::import_unsigned(&pcrs_corim(tags), document(TPM, ""), NOW).unwrap();
        let accept = &back.set.document().tpm.as_ref().unwrap().pcr[0].accept;
        let got: Vec<_> = accept.iter().map(|accepted| accepted.digest.as_bytes().to_vec()).collect();
        assert_eq!(got, wanted.iter().map(|digest| digest.to_vec()).collect::<Vec<_>>());
        assert_eq!(back.losses.len(), lost, "{:?}", back.losses);
    }
}

#[test]
fn a_tag_that_stands_twice_with_one_content_is_one_tag() {
    let one = comid("a", 0, vec![], vec![pcr_triple(4, [4; 32])]);
    let back = corim::import_unsigned(&pcrs_corim(vec![one.clone(), one]), document(TPM, ""), NOW).unwrap();
    assert_eq!(back.set.document().tpm.as_ref().unwrap().pcr[0].accept.len(), 1);
}

#[test]
fn a_signer_speaks_for_its_environment_and_hardware_alone() {
    let file = corim::export_signed(&set(document(TPM, "")), &signing_key(), "a.example").unwrap().bytes;
    let import =
        |signers: &[_]| corim::import(&file, document(TPM, ""), signers, NOW).map(|_| ()).map_err(|d| d.code());
    let key = signing_key();
    let elsewhere =
        AllowedSigner { environment: "production".parse().unwrap(), ..signer(key.public(), &Hardware::ALL) };
    let stranger = SigningKey::from_seed(&[8; 32]).unwrap();
    assert_eq!(import(&[signer(key.public(), &[Hardware::Tpm])]), Ok(()));
    assert_eq!(import(&[]), Err("import.signer_absent"));
    assert_eq!(import(&[elsewhere]), Err("import.signer_absent"));
    assert_eq!(import(&[signer(key.public(), &[Hardware::SevSnp, Hardware::Tdx])]), Err("import.signer_absent"));
    assert_eq!(import(&[signer(stranger.public(), &Hardware::ALL)]), Err("import.signature_invalid"));
}

proptest::proptest! {
    /// A changed file is read or refused, and a refusal has a code; nothing panics.
    #[test]
    fn changed_files_are_read_or_refused(changes in proptest::collection::vec((0..2048usize, 0..=255u8), 1..4), cut in 0..2048usize) {
        for kind in [TPM, SNP, TDX] {
            let mut file = corim::export(&set(document(kind, "a"))).unwrap().bytes;
            for (at, byte) in &changes {
                let at = at % file.len();
                file[at] = *byte;
            }
            if cut % 4 == 0 {
                file.truncate(cut % file.len());
            }
            if let Err(denial) = corim::import_unsigned(&file, document(kind, "b"), NOW) {
                assert!(denial.code().starts_with("import."));
            }
        }
    }
}

#[test]
fn ten_thousand_triples() {
    let triples = (0..10_000u32).map(|n| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        pcr_triple(u64::from(n % 8), digest)
    });
    let file = signed(&header(-8), pcrs_corim(vec![comid("many", 0, vec![], triples.collect())]));
    let begun = std::time::Instant::now();
    let back = corim::import(&file, document(TPM, ""), &signers(), NOW).unwrap();
    let took = begun.elapsed();
    let count: usize = back.set.document().tpm.as_ref().unwrap().pcr.iter().map(|pcr| pcr.accept.len()).sum();
    assert_eq!(count, 10_000);
    println!("import of 10000 triples in {} bytes, signature and checks included: {took:?}", file.len());
}
