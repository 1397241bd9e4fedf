//! `verifier refs convert` and `refs export` from the outside: what they write, what they refuse. No state folder exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::cose::SigningKey;
use firmware_refs::{exchange::corim, set::ReferenceValueSet};
use serde_json::Value;

fn refs(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verifier"));
    command.current_dir(folder).arg("refs").args(arguments).args(["--format", "json"]);
    command.env("VERIFIER_STATE", folder.join("no-such-state")).output().unwrap()
}

fn done(folder: &Path, arguments: &[&str]) -> Value {
    let output = refs(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Why it is refused, with the exit code of a denial.
fn denied(folder: &Path, arguments: &[&str]) -> String {
    let output = refs(folder, arguments);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// A set that holds for as long as these tests are run.
fn set(digit: &str) -> String {
    let text = include_str!("../../firmware-refs/tests/exchange/snp.toml");
    text.replace("MEASURED", &digit.repeat(96)).replace("2027-", "2999-")
}

/// An Ed25519 key as its owner publishes it (RFC 8410).
fn pem(key: &SigningKey) -> String {
    let der = [hex::decode("302a300506032b6570032100").unwrap(), key.public().raw().to_vec()].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
}

fn measured(folder: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    let set = ReferenceValueSet::from_toml(&text).unwrap();
    set.document().snp.as_ref().unwrap().measurement[0].digest.hex()
}

#[test]
fn a_signed_file_becomes_a_set_by_its_signer_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (at, path) = (folder.path(), |name: &str| folder.path().join(name));
    let (vendor, stranger) = (SigningKey::from_seed(&[1; 32]).unwrap(), SigningKey::from_seed(&[2; 32]).unwrap());
    let signed = corim::export_signed(&ReferenceValueSet::from_toml(&set("a")).unwrap(), &vendor, "vendor").unwrap();
    std::fs::write(path("v.corim"), signed.bytes).unwrap();
    std::fs::write(path("vendor.pem"), pem(&vendor)).unwrap();
    std::fs::write(path("stranger.pem"), pem(&stranger)).unwrap();
    std::fs::write(path("base.toml"), set("b")).unwrap();
    let convert = ["convert", "v.corim", "--from", "corim", "--base", "base.toml"];
    let with = |more: &[&'static str]| [&convert[..], more].concat();
    assert!(denied(at, &with(&["--out", "x.toml"])).contains("import.signer_absent"));
    assert!(denied(at, &with(&["--out", "x.toml", "--allow", "stranger.pem"])).contains("import.signature_invalid"));
    let other = with(&["--out", "x.toml", "--allow", "vendor.pem", "--hardware", "tdx"]);
    assert!(denied(at, &other).contains("import.signer_absent"));
    assert!(denied(at, &with(&["--out", "x.toml", "--allow-unsigned"])).contains("import.malformed"));
    assert!(!path("x.toml").exists());
    let said = done(at, &with(&["--out", "set.toml", "--allow", "vendor.pem", "--hardware", "sev-snp"]));
    assert_eq!(said["vouched_for"], format!("signed by {}", vendor.public().kid()));
    assert_eq!(measured(at, "set.toml"), "a".repeat(96));
}

#[test]
fn a_set_is_exported_and_an_unsigned_file_taken_only_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (at, path) = (folder.path(), |name: &str| folder.path().join(name));
    std::fs::write(path("a.toml"), set("a")).unwrap();
    std::fs::write(path("base.toml"), set("b")).unwrap();
    let said = done(at, &["export", "a.toml", "--out", "a.corim"]);
    assert!(!said["lost"].as_array().unwrap().is_empty(), "{said}");
    let convert = ["convert", "a.corim", "--from", "corim", "--base", "base.toml", "--out", "back.toml"];
    assert!(denied(at, &convert).contains("import.unsigned"));
    let said = done(at, &[&convert[..], &["--allow-unsigned"]].concat());
    assert_eq!(said["vouched_for"], "unsigned");
    assert_eq!(measured(at, "back.toml"), "a".repeat(96));

    std::fs::write(path("digest"), "c".repeat(96)).unwrap();
    let convert = ["convert", "digest", "--from", "sev-snp-measure", "--base", "base.toml", "--out", "c.toml"];
    assert!(denied(at, &convert).contains("import.unsigned"));
    done(at, &[&convert[..], &["--allow-unsigned"]].concat());
    assert_eq!(measured(at, "c.toml"), "c".repeat(96));
}
