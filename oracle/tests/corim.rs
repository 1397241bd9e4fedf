//! What we write as CoRIM is read by the crate `corim`, with the values that we wrote.

use corim::{
    types::{
        comid::ComidTag,
        measurement::{Digest, MeasurementMap},
        signed::decode_and_validate_signed_corim_at,
    },
    validate::decode_and_validate_at,
};
use evidence::cose::SigningKey;
use firmware_refs::{exchange::corim as ours, set::ReferenceValueSet};

const NOW: i64 = 1_700_000_000;
const SETS: [&str; 3] = [
    include_str!("../../firmware-refs/tests/exchange/tpm.toml"),
    include_str!("../../firmware-refs/tests/exchange/snp.toml"),
    include_str!("../../firmware-refs/tests/exchange/tdx.toml"),
];

fn set(text: &str) -> ReferenceValueSet {
    let text = text.replace("MEASURED", &"a".repeat(96)).replace("ZERO", &"0".repeat(96));
    ReferenceValueSet::from_toml(&text).unwrap()
}

fn measurements(comids: &[ComidTag]) -> Vec<&MeasurementMap> {
    let triples = comids.iter().flat_map(|comid| comid.triples.reference_triples.iter().flatten());
    triples.flat_map(|triple| triple.measurements()).collect()
}

/// The digests that the file must hold under plain `digests`.
fn digests(set: &ReferenceValueSet) -> Vec<Digest> {
    let document = set.document();
    let pcrs = document.tpm.iter().flat_map(|tpm| tpm.pcr.iter().flat_map(|pcr| &pcr.accept));
    let launches = document.snp.iter().flat_map(|snp| &snp.measurement);
    let number = |len: usize| if len == 32 { 1 } else { 7 };
    pcrs.chain(launches)
        .map(|accepted| {
            let bytes = accepted.digest.as_bytes();
            Digest::new(number(bytes.len()), bytes.to_vec())
        })
        .collect()
}

#[test]
fn another_reader_accepts_what_we_export() {
    let key = SigningKey::from_seed(&[7; 32]).unwrap();
    for text in SETS {
        let set = set(text);
        let bare = ours::export(&set).unwrap().bytes;
        let (map, comids) = decode_and_validate_at(&bare, NOW).unwrap();
        assert!(map.profile.is_some() && map.rim_validity.is_some());
        let read = measurements(&comids);
        let got: Vec<_> = read.iter().flat_map(|one| one.mval.digests.iter().flatten().cloned()).collect();
        assert_eq!(got, digests(&set));
        if set.document().tdx.is_some() {
            assert!(read.iter().any(|one| one.mval.integrity_registers.is_some()));
            assert!(read.iter().any(|one| one.mval.extra_entries.contains_key(&-83)));
        }
        assert!(decode_and_validate_at(&bare, i64::try_from(set.not_after().0).unwrap() + 1).is_err());

        let signed = ours::export_signed(&set, &key, "a.example").unwrap().bytes;
        let (_, validated) = decode_and_validate_signed_corim_at(&signed, None, NOW).unwrap();
        assert_eq!(measurements(&validated.comids).len(), read.len());
        println!("{} bytes, signed {} bytes, {} measurements", bare.len(), signed.len(), read.len());
    }
}
