//! SNP reports and certificate tables of the corpus of genuine evidence named by `ATTEST_CORPUS`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use std::path::PathBuf;

use der::Document;
use evidence::{
    EvidenceDenial,
    sev_snp::{AuthenticReport, CertificateTable, Revocation, SnpReport, SnpRoots, VerifiedVek},
    time::UnixSeconds,
};
use serde_json::Value;

struct Corpus {
    root: PathBuf,
    cases: Vec<Value>,
}

impl Corpus {
    /// The cases of one kind, or `None` after saying that there is no corpus here.
    fn of(kind: &str) -> Option<Self> {
        let Some(root) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
            println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
            return None;
        };
        let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("MANIFEST.json")).unwrap()).unwrap();
        let cases = manifest["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind).cloned().collect();
        Some(Self { root, cases })
    }

    fn bytes(&self, path: &Value) -> Vec<u8> {
        std::fs::read(self.root.join(path.as_str().unwrap())).unwrap()
    }

    /// DER of a file that may be PEM, with text around it.
    fn der(&self, path: &Value) -> Vec<u8> {
        let bytes = self.bytes(path);
        let Some(begin) = bytes.windows(10).position(|w| w == b"-----BEGIN") else { return bytes };
        let text = std::str::from_utf8(&bytes[begin..]).unwrap();
        Document::from_pem(text).unwrap().1.as_bytes().to_vec()
    }
}

/// RFC 3339 in UTC.
fn at(text: &str) -> UnixSeconds {
    UnixSeconds(text.parse::<der::DateTime>().unwrap().unix_duration().as_secs())
}

fn judge<'a>(corpus: &Corpus, case: &Value, report: &'a [u8]) -> Result<AuthenticReport<'a>, EvidenceDenial> {
    let (files, now) = (&case["files"], at(case["expected"]["at"].as_str().unwrap()));
    let report = SnpReport::parse(report)?;
    let (leaf, issuer, root) =
        (corpus.der(&files["vek"]), corpus.der(&files["intermediate"]), corpus.der(&files["root"]));
    let roots = SnpRoots::genuine();
    let vek = VerifiedVek::verify(&leaf, Some(&issuer), Some(&root), Revocation::Unjudged, &roots, now)?;
    vek.authenticate(&report)
}

#[test]
fn genuine_reports_are_authentic_and_say_what_they_say_and_each_altered_one_is_refused() {
    let Some(corpus) = Corpus::of("snp-report") else { return };
    for case in &corpus.cases {
        let (id, expected) = (case["id"].as_str().unwrap(), &case["expected"]);
        let bytes = corpus.bytes(&case["files"]["report"]);
        let is_debug = expected["report"]["policy_debug"] == Value::Bool(true);
        match (judge(&corpus, case, &bytes), expected["verdict"].as_str().unwrap()) {
            (Err(EvidenceDenial::SnpGuestPolicy { .. }), "accept") if is_debug => {}
            (Ok(authentic), "accept") => {
                let (report, want) = (authentic.report(), &expected["report"]);
                if want.is_null() {
                    continue;
                }
                assert_eq!(Value::from(report.version), want["version"], "{id}");
                assert_eq!(Value::from(report.guest_svn), want["guest_svn"], "{id}");
                assert_eq!(Value::from(format!("{:#x}", report.policy.bits())), want["policy"], "{id}");
                assert_eq!(Value::from(report.vmpl), want["vmpl"], "{id}");
                for (got, name) in [
                    (&report.report_data[..], "report_data"),
                    (report.measurement, "measurement"),
                    (report.host_data, "host_data"),
                    (report.id_key_digest, "id_key_digest"),
                    (report.author_key_digest, "author_key_digest"),
                    (report.chip_id, "chip_id"),
                    (&authentic.tcbs().current.to_bytes(), "current_tcb"),
                    (&authentic.tcbs().reported.to_bytes(), "reported_tcb"),
                    (&authentic.tcbs().committed.to_bytes(), "committed_tcb"),
                    (&authentic.tcbs().launch.to_bytes(), "launch_tcb"),
                ] {
                    assert_eq!(Value::from(hex::encode(got)), want[name], "{id} {name}");
                }
                assert_eq!(Value::from(authentic.tcbs().reported.microcode), expected["tcb"]["ucodeSPL"], "{id}");
                assert_eq!(Value::from(authentic.tcbs().reported.snp), expected["tcb"]["snpSPL"], "{id}");
            }
            (Ok(authentic), "reject") => {
                // the verifier's expectations, which are not the report's
                let report = authentic.report();
                let nonce = &expected["expect_report_data"];
                let measurement = &expected["expect_measurement"];
                assert!(nonce.is_string() || measurement.is_string(), "{id} accepted");
                assert_ne!(Value::from(hex::encode(report.report_data)), *nonce, "{id}");
                assert_ne!(Value::from(hex::encode(report.measurement)), *measurement, "{id}");
            }
            (Err(_), "reject") => {}
            (got, verdict) => panic!("{id}: {got:?}, must be {verdict}"),
        }
    }
}

#[test]
fn every_bit_of_a_genuine_report_matters() {
    let Some(corpus) = Corpus::of("snp-report") else { return };
    for id in ["snp-milan-v2", "snp-turin-aci"] {
        let case = corpus.cases.iter().find(|case| case["id"] == id).unwrap();
        let files = &case["files"];
        let (leaf, issuer) = (corpus.der(&files["vek"]), corpus.der(&files["intermediate"]));
        let now = at(case["expected"]["at"].as_str().unwrap());
        let roots = SnpRoots::genuine();
        let vek = VerifiedVek::verify(&leaf, Some(&issuer), None, Revocation::Unjudged, &roots, now).unwrap();
        let genuine = corpus.bytes(&files["report"]);
        vek.authenticate(&SnpReport::parse(&genuine).unwrap()).unwrap();
        for byte in 0..genuine.len() {
            let mut altered = genuine.clone();
            altered[byte] ^= 1 << (byte % 8);
            let got = SnpReport::parse(&altered).and_then(|report| vek.authenticate(&report).map(|_| ()));
            assert!(got.is_err(), "{id}: byte {byte:#x}");
        }
    }
}

#[test]
fn a_genuine_table_gives_the_chain_and_each_broken_one_is_refused() {
    let Some(corpus) = Corpus::of("snp-cert-table") else { return };
    for case in &corpus.cases {
        let got = CertificateTable::parse(&corpus.bytes(&case["files"]["cert_table"])).map(|_| ());
        assert_eq!(got.is_ok(), case["expected"]["verdict"] == "accept", "{}", case["id"]);
    }
    let reports = Corpus::of("snp-report").unwrap();
    let case = reports.cases.iter().find(|case| case["files"]["cert_table"].is_string()).unwrap();
    let (bytes, report) = (corpus.bytes(&case["files"]["cert_table"]), corpus.bytes(&case["files"]["report"]));
    let table = CertificateTable::parse(&bytes).unwrap();
    let now = at(case["expected"]["at"].as_str().unwrap());
    let leaf = table.vek().unwrap().unwrap();
    let vek = VerifiedVek::verify(&leaf, None, None, Revocation::Unjudged, &SnpRoots::genuine(), now).unwrap();
    vek.authenticate(&SnpReport::parse(&report).unwrap()).unwrap();
}
