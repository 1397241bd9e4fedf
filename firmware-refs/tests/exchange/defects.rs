//! One defect, and the file does not become a set. Every denial has a case.

use std::collections::BTreeSet;

use firmware_refs::exchange::{
    IMPORT_CAP_BYTES, ImportDenial, Imported, corim, denial::ImportDenialKind, keylime, toml as authored,
};

use super::*;

fn unsigned(file: &[u8]) -> Result<Imported, ImportDenial> {
    corim::import_unsigned(file, document(TPM, ""), NOW)
}

fn by_signer(file: &[u8]) -> Result<Imported, ImportDenial> {
    corim::import(file, document(TPM, ""), &signers(), NOW)
}

fn one_tag() -> Value {
    comid("a", 0, vec![], vec![pcr_triple(4, [4; 32])])
}

/// A PCR's triple with another class, key or values.
fn triple(class: Value, key: Option<Value>, values: Value) -> Value {
    let mut measurement = vec![(1, values)];
    measurement.extend(key.map(|key| (0, key)));
    Value::Array(vec![map(vec![(0, map(vec![(0, class)]))]), Value::Array(vec![map(measurement)])])
}

fn digests(alg: u8, bytes: usize) -> Value {
    map(vec![(2, Value::Array(vec![Value::Array(vec![Value::from(alg), Value::Bytes(vec![4; bytes])])]))])
}

fn with_triple(triple: Value) -> Vec<u8> {
    pcrs_corim(vec![comid("a", 0, vec![], vec![triple])])
}

fn with_validity(not_before: u64, not_after: u64) -> Vec<u8> {
    let times = map(vec![(0, tag(1, not_before.into())), (1, tag(1, not_after.into()))]);
    let profile = tag(32, Value::from(PARSEC));
    let pairs = vec![(0, Value::from("t")), (1, Value::Array(vec![one_tag()])), (3, profile), (4, times)];
    bytes(&tag(501, map(pairs)))
}

fn uuid() -> Value {
    tag(37, Value::Bytes(vec![1; 16]))
}

#[test]
fn the_file_without_defect_is_read() {
    let good = pcrs_corim(vec![one_tag()]);
    unsigned(&good).unwrap();
    by_signer(&signed(&header(-8), good)).unwrap();
    unsigned(&with_triple(triple(uuid(), Some(4.into()), digests(1, 32)))).unwrap();
    unsigned(&with_validity(NOW.0, NOW.0 + 1)).unwrap();
}

#[test]
fn one_defect_and_the_file_is_refused() {
    use ImportDenialKind as Kind;
    let good = pcrs_corim(vec![one_tag()]);
    let good_signed = signed(&header(-8), good.clone());
    let mut flipped = good_signed.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let key = |key: Value| with_triple(triple(uuid(), Some(key), digests(1, 32)));
    let circle = |a: &'static str, b: &'static str| comid(a, 0, vec![(b, 1)], vec![pcr_triple(4, [4; 32])]);
    let many = (0..20_001).map(|_| pcr_triple(4, [4; 32])).collect();
    let tags = (0..1025).map(|n| comid(&n.to_string(), 0, vec![], vec![pcr_triple(4, [4; 32])])).collect();
    let two_values = map(vec![(1, Value::from(3)), (2, Value::Array(vec![]))]);
    let narrowed = {
        let class = map(vec![(0, map(vec![(0, uuid())])), (1, tag(560, Value::Bytes(vec![1])))]);
        let measurement = map(vec![(0, Value::from(4)), (1, digests(1, 32))]);
        with_triple(Value::Array(vec![class, Value::Array(vec![measurement])]))
    };
    let two_classes = pcrs_corim(vec![comid(
        "a",
        0,
        vec![],
        vec![pcr_triple(4, [4; 32]), triple(tag(37, Value::Bytes(vec![2; 16])), Some(4.into()), digests(1, 32))],
    )]);
    let meta = |from: u64, to: u64| {
        let meta = map(vec![
            (0, map(vec![(0, "x".into())])),
            (1, map(vec![(0, tag(1, from.into())), (1, tag(1, to.into()))])),
        ]);
        signed(
            &map(vec![(1, (-8).into()), (3, "application/rim+cbor".into()), (8, Value::Bytes(bytes(&meta)))]),
            good.clone(),
        )
    };
    let critical = map(vec![(1, (-8).into()), (2, Value::Array(vec![8.into()])), (3, "application/rim+cbor".into())]);
    let foreign = map(vec![(1, (-8).into()), (3, "application/rim+cborx".into())]);
    let keyed = pcrs_corim(vec![tag(506, Value::Bytes(vec![0xa1, 0x01, 0xa0]))]);
    let cases: Vec<(Kind, &str, Result<Imported, ImportDenial>)> = vec![
        (Kind::TooLarge, "file", unsigned(&vec![0; IMPORT_CAP_BYTES + 1])),
        (Kind::Truncated, "file", unsigned(&good[..good.len() - 1])),
        (Kind::Truncated, "signed file", by_signer(&good_signed[..good_signed.len() - 1])),
        (Kind::Truncated, "empty", unsigned(&[])),
        (Kind::TooMany, "triples", unsigned(&pcrs_corim(vec![comid("a", 0, vec![], many)]))),
        (Kind::TooMany, "tags", unsigned(&pcrs_corim(tags))),
        (Kind::Malformed, "trailing", unsigned(&[good.clone(), vec![0]].concat())),
        (Kind::Malformed, "signed where unsigned was named", unsigned(&good_signed)),
        (Kind::Malformed, "no tag 501", unsigned(&good[3..])),
        (Kind::Malformed, "critical header", by_signer(&signed(&critical, good.clone()))),
        (Kind::Malformed, "another content type", by_signer(&signed(&foreign, good.clone()))),
        (
            Kind::Malformed,
            "digest of another length",
            unsigned(&with_triple(triple(uuid(), Some(4.into()), digests(1, 31)))),
        ),
        (Kind::Malformed, "no tag id", unsigned(&keyed)),
        (Kind::Malformed, "validity without end", {
            let pairs = vec![(0, "t".into()), (1, Value::Array(vec![])), (4, map(vec![(0, tag(1, 5.into()))]))];
            unsigned(&bytes(&tag(501, map(pairs))))
        }),
        (Kind::Unsigned, "where a signature was asked for", by_signer(&good)),
        (Kind::SignerAbsent, "no signer", corim::import(&good_signed, document(TPM, ""), &[], NOW)),
        (Kind::Algorithm, "ES384", by_signer(&signed(&header(-35), good.clone()))),
        (Kind::SignatureInvalid, "signature", by_signer(&flipped)),
        (Kind::SignatureInvalid, "another algorithm than the key's", by_signer(&signed(&header(-7), good.clone()))),
        (Kind::NotYetValid, "file", unsigned(&with_validity(NOW.0 + 1, NOW.0 + 2))),
        (Kind::Expired, "file", unsigned(&with_validity(NOW.0 - 1, NOW.0))),
        (Kind::NotYetValid, "signature", by_signer(&meta(NOW.0 + 1, NOW.0 + 2))),
        (Kind::Expired, "signature", by_signer(&meta(NOW.0 - 1, NOW.0))),
        (Kind::TagCollision, "contents", {
            unsigned(&pcrs_corim(vec![one_tag(), comid("a", 0, vec![], vec![pcr_triple(4, [5; 32])])]))
        }),
        (Kind::SupersedeCycle, "two", unsigned(&pcrs_corim(vec![circle("a", "b"), circle("b", "a")]))),
        (Kind::SupersedeCycle, "itself", unsigned(&pcrs_corim(vec![circle("a", "a")]))),
        (Kind::ProfileUnknown, "uri", unsigned(&bytes(&corim_of("tag:b.example:x", vec![one_tag()])))),
        (Kind::ProfileUnknown, "none", {
            unsigned(&bytes(&tag(501, map(vec![(0, "t".into()), (1, Value::Array(vec![one_tag()]))]))))
        }),
        (Kind::EnvironmentUnknown, "class", {
            unsigned(&with_triple(triple(tag(560, Value::Bytes(vec![1])), Some(4.into()), digests(1, 32))))
        }),
        (Kind::Inexpressible, "no key", unsigned(&with_triple(triple(uuid(), None, digests(1, 32))))),
        (Kind::Inexpressible, "key of another form", unsigned(&key(uuid()))),
        (Kind::Inexpressible, "resettable PCR", unsigned(&key(16.into()))),
        (Kind::Inexpressible, "not a PCR", unsigned(&key(260.into()))),
        (
            Kind::Inexpressible,
            "another bank alone",
            unsigned(&with_triple(triple(uuid(), Some(4.into()), digests(7, 48)))),
        ),
        (Kind::Inexpressible, "no digests", {
            unsigned(&with_triple(triple(uuid(), Some(4.into()), map(vec![(1, 3.into())]))))
        }),
        (Kind::Malformed, "empty digests", unsigned(&with_triple(triple(uuid(), Some(4.into()), two_values)))),
        (Kind::Inexpressible, "one TPM alone", unsigned(&narrowed)),
        (Kind::Inexpressible, "two classes", unsigned(&two_classes)),
        (Kind::Empty, "no triple", unsigned(&pcrs_corim(vec![comid("a", 0, vec![], vec![])]))),
        (Kind::Empty, "no tag", unsigned(&pcrs_corim(vec![]))),
        (Kind::BaseLacks, "section", corim::import_unsigned(&good, document(SNP, "a"), NOW)),
        (
            Kind::BaseLacks,
            "section",
            keylime::import_unsigned(br#"{"meta":{"version":1},"digests":{}}"#, document(SNP, "a"), NOW),
        ),
        (Kind::SetUnusable, "toml", authored(b"id = 1")),
        (Kind::SetUnusable, "base", {
            let mut base = document(TPM, "");
            base.version = 0;
            corim::import_unsigned(&good, base, NOW)
        }),
    ];
    let mut met = BTreeSet::new();
    for (kind, what, result) in cases {
        let denial = result.map(|_| ()).expect_err(what);
        assert_eq!(ImportDenialKind::from(&denial), kind, "{what}: {denial}");
        met.insert(kind);
    }
    assert_eq!(met, Kind::all().collect(), "every denial has a case");
}

#[test]
fn codes_are_distinct() {
    let codes: BTreeSet<_> = ImportDenialKind::all().map(ImportDenialKind::code).collect();
    assert_eq!(codes.len(), ImportDenialKind::all().count());
    assert!(codes.iter().all(|code| code.starts_with("import.")));
}
