//! What the tests of simulated evidence share: openssl as a second opinion, and the shape of DER.

#![allow(dead_code)]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// 2026-11-22T05:15:00Z.
pub(crate) const NOW: u64 = 1_795_324_500;

/// The folder of genuine evidence, or none and a line that says so.
pub(crate) fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from);
    if root.is_none() {
        println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
    }
    root
}

/// The corpus' cases of that kind which a verifier must accept.
pub(crate) fn genuine_cases(root: &Path, kind: &str) -> Vec<serde_json::Value> {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("MANIFEST.json")).unwrap()).unwrap();
    let cases: Vec<_> = manifest["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["kind"] == kind && case["expected"]["verdict"] == "accept")
        .filter(|case| case["derived_from"].is_null())
        .cloned()
        .collect();
    assert!(!cases.is_empty(), "the corpus has {kind} cases");
    cases
}

/// openssl with `args` in `folder`: whether it succeeded, and all it said.
pub(crate) fn openssl(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The DER of a certificate file, DER or PEM.
pub(crate) fn der_of(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    if bytes.starts_with(b"-----") { pem_blocks(&bytes).remove(0) } else { bytes }
}

/// The DER of each PEM block.
pub(crate) fn pem_blocks(pem: &[u8]) -> Vec<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut blocks = Vec::new();
    let mut text = String::new();
    for line in std::str::from_utf8(pem).unwrap().lines() {
        match line {
            "-----BEGIN CERTIFICATE-----" => text.clear(),
            "-----END CERTIFICATE-----" => blocks.push(STANDARD.decode(&text).unwrap()),
            _ => text.push_str(line),
        }
    }
    blocks
}

/// One line per element: depth, tag; for OIDs, booleans and text the value, for octet strings the length.
pub(crate) fn shape(der: &[u8]) -> String {
    let mut out = String::new();
    walk(der, 0, &mut out);
    out
}

fn walk(mut der: &[u8], depth: usize, out: &mut String) {
    while !der.is_empty() {
        let (tag, content, rest) = element(der);
        der = rest;
        write!(out, "{:depth$}{tag:02x}", "").unwrap();
        match tag {
            0x01 | 0x06 => writeln!(out, " {}", hex::encode(content)).unwrap(),
            0x0c | 0x13 | 0x16 => writeln!(out, " {}", String::from_utf8_lossy(content)).unwrap(),
            0x04 => writeln!(out, " {} bytes", content.len()).unwrap(),
            _ => out.push('\n'),
        }
        if tag & 0x20 != 0 {
            walk(content, depth + 1, out);
        }
    }
}

/// Tag, content and what follows.
pub(crate) fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (start, len) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        other => panic!("length form {other:#x}"),
    };
    (der[0], &der[start..start + len], &der[start + len..])
}

/// Hex of a JSON string.
pub(crate) fn hex_of(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}
