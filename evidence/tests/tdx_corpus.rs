//! DCAP quotes and CC event logs of the corpus of genuine evidence named by `ATTEST_CORPUS`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use std::path::PathBuf;

use evidence::{
    EvidenceDenial,
    event_log::{CcEventLog, TdxJsonLog},
    tdx::{
        Collateral, Quote, TcbVerdict, TdxRoots, VerifiedCollateral, VerifiedPck, body::Body,
        td_attributes::TdAttributes,
    },
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
}

/// Verifies a case as evidence would be, but for what it is bound to: authentic, not of a debug TD, worth something.
fn judge(corpus: &Corpus, case: &Value) -> Result<Option<TcbVerdict>, EvidenceDenial> {
    let at = case["expected"]["at"].as_str().map_or(UnixSeconds(1_790_000_000), instant);
    let bytes = corpus.bytes(&case["files"]["quote"]);
    let (quote, rest) = Quote::parse_prefix(&bytes)?;
    let trimmed = Quote::trimmed(&bytes).map(<[u8]>::len).ok();
    let is_padding = rest.iter().all(|byte| *byte == 0);
    assert_eq!(trimmed, is_padding.then_some(bytes.len() - rest.len()));
    let roots = TdxRoots::genuine();
    let pck = VerifiedPck::verify(quote.pck_chain(), &roots, at)?;
    let authentic = pck.authenticate(&quote)?;
    match &quote.body {
        Body::Td10(_) | Body::Td15(_) => TdAttributes::of(quote.td_report()?).refuse_debug()?,
        Body::Sgx(report) => report.refuse_debug("enclave")?,
    }
    if case["files"]["collateral"].is_null() {
        return Ok(None);
    }
    let collateral = Collateral::from_json(&corpus.bytes(&case["files"]["collateral"]))?;
    assert_eq!(Collateral::from_json(&collateral.to_json())?.digest(), collateral.digest());
    let collateral = VerifiedCollateral::verify(&collateral, &roots, at)?;
    collateral.current(&roots, at).expect("verified for this instant");
    collateral.current(&roots, collateral.current_until().plus(1)).expect_err("over by then");
    let verdict = authentic.judge(&collateral)?;
    if let Some(expected) = case["expected"]["expect_report_data"].as_str() {
        let got = hex::encode(quote.td_report().map_or_else(|_| [0; 64], |report| *report.report_data));
        if got != expected {
            return Err(EvidenceDenial::BindingMismatch { got, expected: expected.to_owned() });
        }
    }
    Ok(Some(verdict))
}

fn instant(text: &str) -> UnixSeconds {
    UnixSeconds(text.parse::<der::DateTime>().unwrap().unix_duration().as_secs())
}

fn class(denial: &EvidenceDenial) -> &'static str {
    match denial.code() {
        "evidence.signature_invalid" => "signature",
        "evidence.attestation_key_unbound" => "binding",
        "evidence.binding_mismatch" => "nonce",
        "evidence.debug_enabled" | "evidence.td_attributes" => "policy",
        "evidence.collateral_signature"
        | "evidence.collateral_field"
        | "evidence.collateral_mismatch"
        | "evidence.certificate_list_signature"
        | "evidence.qe_identity_mismatch" => "collateral",
        "evidence.collateral_validity" | "evidence.certificate_list_validity" | "evidence.certificate_validity" => {
            "validity"
        }
        "evidence.tcb_level_missing" | "evidence.tdx_module_unknown" => "tcb",
        "evidence.chain_unanchored"
        | "evidence.certificate_signature"
        | "evidence.certificate_constraint"
        | "evidence.certificate_extension" => "chain",
        "evidence.rtmr_replay_mismatch" => "replay",
        "evidence.malformed"
        | "evidence.trailing_bytes"
        | "evidence.too_large"
        | "evidence.missing"
        | "evidence.quote_field" => "parse",
        other => panic!("no class for {other}"),
    }
}

#[test]
fn genuine_quotes_are_worth_what_intel_says_and_each_altered_one_is_refused_for_its_reason() {
    let Some(corpus) = Corpus::of("dcap-quote") else { return };
    for case in &corpus.cases {
        let id = case["id"].as_str().unwrap();
        let expected = &case["expected"];
        match (expected["verdict"].as_str().unwrap(), judge(&corpus, case)) {
            ("accept", Ok(verdict)) => {
                let Some(status) = expected["tcb_status"].as_str() else { continue };
                let verdict = verdict.unwrap_or_else(|| panic!("{id}: no verdict"));
                assert_eq!(verdict.standing.status.name(), status, "{id}");
                let advisories: Vec<&String> = verdict.standing.advisory_ids.iter().collect();
                let mut wanted: Vec<&str> =
                    expected["advisory_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
                wanted.sort_unstable();
                assert_eq!(advisories, wanted, "{id}");
            }
            ("accept", Err(denial)) => panic!("{id}: {denial}"),
            ("reject", Ok(_)) => panic!("{id}: ACCEPTED"),
            ("reject", Err(denial)) => {
                let classes = expected["error_class"].as_array().unwrap();
                assert!(classes.contains(&Value::from(class(&denial))), "{id}: {denial}");
            }
            _ => {}
        }
    }
}

#[test]
fn quotes_read_as_what_they_hold_and_no_cut_of_one_reads() {
    let Some(corpus) = Corpus::of("dcap-quote") else { return };
    for case in corpus.cases.iter().filter(|case| case["expected"]["verdict"] == "accept") {
        let id = case["id"].as_str().unwrap();
        let bytes = corpus.bytes(&case["files"]["quote"]);
        let (quote, rest) = Quote::parse_prefix(&bytes).unwrap();
        let padding = rest.len();
        let expected = &case["expected"]["quote"];
        assert_eq!(padding as u64, expected["trailing"].as_u64().unwrap(), "{id}");
        assert_eq!(u64::from(quote.version), expected["version"].as_u64().unwrap(), "{id}");
        assert_eq!(Quote::parse(&bytes).is_ok(), padding == 0, "{id}");
        if let Ok(report) = quote.td_report() {
            assert_eq!(hex::encode(report.mr_td), expected["mr_td"].as_str().unwrap(), "{id}");
            assert_eq!(hex::encode(report.xfam), expected["xfam"].as_str().unwrap(), "{id}");
            assert_eq!(hex::encode(report.rtmrs[3]), expected["rtmr3"].as_str().unwrap(), "{id}");
        }
        let exact = Quote::trimmed(&bytes).unwrap();
        for cut in 0..exact.len() {
            assert!(Quote::parse_prefix(&exact[..cut]).is_err(), "{id} cut at {cut}");
        }
    }
}

#[test]
fn genuine_cc_logs_replay_and_hold_to_the_boot_grammar() {
    let Some(corpus) = Corpus::of("ccel-log") else { return };
    for case in &corpus.cases {
        let id = case["id"].as_str().unwrap();
        let bytes = corpus.bytes(&case["files"]["log"]);
        let log = CcEventLog::parse(&bytes).unwrap_or_else(|denial| panic!("{id}: {denial}"));
        assert_eq!(log.events().len() as u64, case["expected"]["events"].as_u64().unwrap(), "{id}");
        let padding = case["expected"]["padding"]["bytes"].as_u64().unwrap_or(0);
        let trimmed = CcEventLog::trimmed(&bytes).unwrap();
        assert_eq!(bytes.len() as u64 - trimmed.len() as u64, padding, "{id}");
        assert_eq!(CcEventLog::parse(trimmed).unwrap().replay(), log.replay(), "{id}");
        log.verify_event_data().unwrap_or_else(|denial| panic!("{id}: {denial}"));
        log.verify_boot_grammar().unwrap_or_else(|denial| panic!("{id}: {denial}"));
        let replay: Value = serde_json::from_slice(&corpus.bytes(&case["files"]["replay"])).unwrap();
        for (register, value) in replay["banks"]["sha384"].as_object().unwrap() {
            let rtmr = register.parse::<usize>().unwrap() - 1;
            assert_eq!(log.replay().unwrap()[rtmr].hex(), value.as_str().unwrap(), "{id}");
        }
        if !case["files"]["quote"].is_null() {
            let quote = corpus.bytes(&case["files"]["quote"]);
            let (quote, _) = Quote::parse_prefix(&quote).unwrap();
            assert!(log.verify_replay(&quote.td_report().unwrap().rtmrs).unwrap(), "{id}");
        }
    }
}

#[test]
fn logs_in_json_lead_to_the_registers_of_their_quote_or_are_refused() {
    let Some(corpus) = Corpus::of("tdx-json-event-log") else { return };
    for case in &corpus.cases {
        let id = case["id"].as_str().unwrap();
        let quote = corpus.bytes(&case["files"]["quote"]);
        let (quote, _) = Quote::parse_prefix(&quote).unwrap();
        let log = TdxJsonLog::parse(&corpus.bytes(&case["files"]["events"])).unwrap();
        let judged = log.verify_replay(&quote.td_report().unwrap().rtmrs);
        match case["expected"]["verdict"].as_str().unwrap() {
            "accept" => judged.unwrap_or_else(|denial| panic!("{id}: {denial}")),
            _ => assert_eq!(class(&judged.unwrap_err()), "replay", "{id}"),
        }
    }
}
