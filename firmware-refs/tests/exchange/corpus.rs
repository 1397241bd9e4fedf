//! CoRIM files of the corpus of genuine evidence named by `ATTEST_CORPUS`.

use std::path::PathBuf;

use evidence::cose::PublicKey;
use firmware_refs::exchange::{ImportDenial, Imported, corim, signers::Hardware};
use serde_json::Value as Json;

use super::*;

struct Corpus {
    root: PathBuf,
    cases: Vec<Json>,
}

impl Corpus {
    /// The cases of one kind, or `None` after saying that there is no corpus here.
    fn of(kind: &str) -> Option<Self> {
        let Some(root) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
            println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
            return None;
        };
        let manifest: Json = serde_json::from_slice(&std::fs::read(root.join("MANIFEST.json")).unwrap()).unwrap();
        let cases = manifest["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind).cloned().collect();
        Some(Self { root, cases })
    }

    fn bytes(&self, path: &Json) -> Vec<u8> {
        std::fs::read(self.root.join(path.as_str().unwrap())).unwrap()
    }

    fn key(&self, path: &Json) -> PublicKey {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let jwk: Json = serde_json::from_slice(&self.bytes(path)).unwrap();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        PublicKey::p256(&[vec![4], part("x"), part("y")].concat()).unwrap()
    }
}

/// How far a file came. The corpus says whether a file is a genuine CoRIM; that its profile is not one of ours is
/// found only after all of it was read.
#[derive(Debug, PartialEq)]
enum Read {
    Whole,
    Refused(&'static str),
}

fn read(result: Result<Imported, ImportDenial>) -> Read {
    match result {
        Ok(_) | Err(ImportDenial::ProfileUnknown { .. }) => Read::Whole,
        Err(denial) => Read::Refused(denial.code()),
    }
}

/// A CoRIM of no profile around something, which is so read and not interpreted.
fn around(tags: &[u8], beside: Option<&[u8]>) -> Vec<u8> {
    let head = if beside.is_some() { 0xa3 } else { 0xa2 };
    let mut file = vec![0xd9, 0x01, 0xf5, head, 0x00, 0x61, b't', 0x01];
    file.extend_from_slice(tags);
    if let Some(beside) = beside {
        file.push(0x20);
        file.extend_from_slice(beside);
    }
    file
}

fn as_comid(comid: &[u8]) -> Vec<u8> {
    around(&bytes(&Value::Array(vec![tag(506, Value::Bytes(comid.to_vec()))])), None)
}

fn unsigned(file: &[u8]) -> Read {
    read(corim::import_unsigned(file, document(TPM, ""), NOW))
}

#[test]
fn signed_files_are_accepted_and_refused_as_recorded() {
    let Some(corpus) = Corpus::of("corim-signed") else { return };
    let mut count = 0;
    for case in &corpus.cases {
        let id = case["id"].as_str().unwrap();
        let allowed = signer(&corpus.key(&case["files"]["key"]), &Hardware::ALL);
        let got = read(corim::import(&corpus.bytes(&case["files"]["corim"]), document(TPM, ""), &[allowed], NOW));
        match case["expected"]["verdict"].as_str().unwrap() {
            "accept" => assert_eq!(got, Read::Whole, "{id}"),
            "reject" => {
                let classes = case["expected"]["error_class"].as_array().unwrap();
                let fits = |class: &Json| match class.as_str().unwrap() {
                    "signature" => got == Read::Refused("import.signature_invalid"),
                    "parse" => [Read::Refused("import.malformed"), Read::Refused("import.truncated")].contains(&got),
                    other => panic!("{id}: class {other}"),
                };
                assert!(classes.iter().any(fits), "{id}: {got:?}");
            }
            // An untagged map of an older draft: the signature verifies, the payload is refused.
            "either" => assert_eq!(got, Read::Refused("import.malformed"), "{id}"),
            other => panic!("{id}: verdict {other}"),
        }
        count += 1;
    }
    assert!(count >= 25, "{count}");
    println!("{count} signed files");
}

#[test]
fn unsigned_files_are_read() {
    let Some(corpus) = Corpus::of("corim-unsigned") else { return };
    let mut count = 0;
    for case in &corpus.cases {
        let (id, file) = (case["id"].as_str().unwrap(), corpus.bytes(&case["files"]["corim"]));
        assert_eq!(case["expected"]["verdict"], "accept", "{id}");
        let got = match case["expected"]["kind"].as_str().unwrap() {
            "unsigned-corim" => unsigned(&file),
            "comid" | "comid-tdx" => unsigned(&as_comid(&file)),
            // Concise evidence: what a device says of itself, no reference values. A tag beside them, read as CBOR.
            "coev" | "coev-tdx" => {
                assert_eq!(unsigned(&file), Read::Refused("import.malformed"), "{id}");
                unsigned(&around(&[&[0x81], file.as_slice()].concat(), None))
            }
            other => panic!("{id}: kind {other}"),
        };
        assert_eq!(got, Read::Whole, "{id}");
        count += 1;
    }
    assert!(count >= 19, "{count}");
    println!("{count} unsigned files");
}

#[test]
fn examples_of_the_draft_are_read() {
    let Some(corpus) = Corpus::of("corim-draft-example") else { return };
    let (mut whole, mut parts) = (0, 0);
    for case in &corpus.cases {
        let (id, file) = (case["id"].as_str().unwrap(), corpus.bytes(&case["files"]["corim"]));
        assert_eq!(case["expected"]["verdict"], "accept", "{id}");
        if id.contains("comid") {
            assert_eq!(unsigned(&as_comid(&file)), Read::Whole, "{id}");
            whole += 1;
        } else {
            // Pieces of a verifier's inner state and of headers: no documents, read where an extension stands.
            assert_eq!(unsigned(&around(&[0x80], Some(&file))), Read::Whole, "{id}");
            parts += 1;
        }
    }
    assert!(whole >= 1 && parts >= 10, "{whole} {parts}");
    println!("{whole} tags and {parts} pieces of the draft");
}

#[test]
fn profiles_are_kept_as_recorded() {
    let Some(corpus) = Corpus::of("corim-scheme") else { return };
    let mut count = 0;
    for case in &corpus.cases {
        let (id, file) = (case["id"].as_str().unwrap(), corpus.bytes(&case["files"]["corim"]));
        // Trust anchors are not imported (platforms are enrolled): what is wrong with them is not looked at.
        let of_values = ["valid", "refval-key", "refval-no-key", "no-pcr", "pcr", "no-digests"];
        let Some(base) = [("corim-sevsnp", SNP), ("parsec-tpm", TPM)].iter().find(|(name, _)| id.contains(name)) else {
            continue;
        };
        if !of_values.iter().any(|what| id.ends_with(&format!("-{what}"))) {
            continue;
        }
        let got = corim::import_unsigned(&file, document(base.1, "a"), NOW);
        match case["expected"]["verdict"].as_str().unwrap() {
            "accept" => {
                let imported = got.unwrap_or_else(|denial| panic!("{id}: {denial}"));
                println!("{id}: {} losses", imported.losses.len());
            }
            _ => println!("{id}: {}", got.map(|_| ()).expect_err(id)),
        }
        count += 1;
    }
    assert!(count >= 7, "{count}");
}
