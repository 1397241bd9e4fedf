//! Event logs and IMA lists of the corpus of genuine evidence named by `ATTEST_CORPUS`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::disallowed_methods
)]

use std::{collections::BTreeMap, path::PathBuf};

use evidence::{
    digest::{Digest, HashAlg},
    event_log::{DataBinding, EventLog},
    ima::{ImaBankForm, ImaKey, ImaLog},
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

    fn json(&self, path: &Value) -> Value {
        serde_json::from_slice(&self.bytes(path)).unwrap()
    }
}

fn registers(document: &Value) -> Vec<(u8, Digest)> {
    let mut out = Vec::new();
    for (bank, values) in document["banks"].as_object().unwrap() {
        for (pcr, value) in values.as_object().unwrap() {
            let value = format!("{bank}:{}", value.as_str().unwrap());
            out.push((pcr.parse().unwrap(), value.parse().unwrap()));
        }
    }
    out
}

#[test]
fn genuine_event_logs_replay_to_the_recorded_registers() {
    let Some(corpus) = Corpus::of("tcg-event-log") else { return };
    for case in corpus.cases.iter().filter(|case| case["expected"]["verdict"] == "accept") {
        let id = case["id"].as_str().unwrap();
        let bytes = corpus.bytes(&case["files"]["log"]);
        let log = EventLog::parse(&bytes).unwrap_or_else(|denial| panic!("{id}: {denial}"));
        for role in ["replay", "pcrs"] {
            if case["files"][role].is_null() {
                continue;
            }
            let values = registers(&corpus.json(&case["files"][role]));
            if !values.is_empty() {
                log.verify_replay(&values).unwrap_or_else(|denial| panic!("{id}: {denial}"));
            }
        }
        if let Some(events) = case["expected"]["events"].as_u64() {
            assert_eq!(log.events().len() as u64, events, "{id}");
        }
        let mut types = BTreeMap::<String, u64>::new();
        for event in log.events() {
            *types.entry(event.kind().name().to_owned()).or_default() += 1;
        }
        if let Some(expected) = case["expected"]["event_types"].as_object() {
            let expected: BTreeMap<String, u64> =
                expected.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap())).collect();
            assert_eq!(types, expected, "{id}");
        }
        for alg in HashAlg::ALL {
            log.verify_event_data(alg).unwrap_or_else(|denial| panic!("{id}: {denial}"));
        }
        if let Some(checks) = case["expected"]["data_digest_check"].as_object() {
            for (kind, counts) in checks {
                let mut got = (0, 0);
                for event in log.events().iter().filter(|event| event.kind().name() == kind && event.is_extended()) {
                    for digest in event.known_digests() {
                        let is_whole = event.data_binding(digest.alg()) == DataBinding::Whole;
                        if is_whole { got.0 += 1 } else { got.1 += 1 }
                    }
                }
                let expected = (counts["equal"].as_u64().unwrap(), counts["differs"].as_u64().unwrap());
                assert_eq!(got, expected, "{id}: {kind}");
            }
        }
    }
}

#[test]
fn altered_event_logs_are_refused_for_their_reason() {
    let Some(corpus) = Corpus::of("tcg-event-log") else { return };
    for case in corpus.cases.iter().filter(|case| case["expected"]["verdict"] == "reject") {
        let id = case["id"].as_str().unwrap();
        let values = registers(&corpus.json(&case["files"]["pcrs"]));
        let bytes = corpus.bytes(&case["files"]["log"]);
        let judged = EventLog::parse(&bytes).and_then(|log| {
            log.verify_replay(&values)?;
            HashAlg::ALL.into_iter().try_for_each(|alg| log.verify_event_data(alg))
        });
        let denial = judged.expect_err(id);
        let class = match denial.code() {
            "evidence.replay_mismatch" | "evidence.bank_missing" => "replay",
            "evidence.event_data_mismatch" => "event-digest",
            _ => "parse",
        };
        let classes = case["expected"]["error_class"].as_array().unwrap();
        assert!(classes.contains(&Value::from(class)), "{id}: {denial}");
    }
}

#[test]
fn no_cut_of_a_genuine_log_leads_to_its_registers() {
    let Some(corpus) = Corpus::of("tcg-event-log") else { return };
    for case in corpus.cases.iter().filter(|case| case["expected"]["verdict"] == "accept") {
        let bytes = corpus.bytes(&case["files"]["log"]);
        let whole = EventLog::parse(&bytes).unwrap();
        for cut in 0..bytes.len() {
            // Every length of a small log; of a large one those around the edges of events.
            let distance = whole.events().iter().map(|event| event.offset().abs_diff(cut)).min().unwrap();
            if bytes.len() > 4096 && distance > 50 {
                continue;
            }
            let Ok(log) = EventLog::parse(&bytes[..cut]) else { continue };
            // Only a cut between events can be read, and only as the events before it.
            let left = log.events().len();
            assert_eq!(whole.events()[left].offset(), cut);
            assert_eq!(whole.events()[..left], *log.events());
            for alg in whole.banks() {
                let lost = whole.events()[left..].iter().filter(|event| event.is_extended()).count();
                assert_eq!(log.replay(alg) == whole.replay(alg), lost == 0);
            }
        }
    }
}

#[test]
fn genuine_ima_lists_lead_to_pcr_10() {
    let Some(corpus) = Corpus::of("ima-log") else { return };
    for case in corpus.cases.iter().filter(|case| case["expected"]["verdict"] == "accept") {
        let id = case["id"].as_str().unwrap();
        let bytes = corpus.bytes(&case["files"]["log"]);
        let log = ImaLog::parse(&bytes).unwrap_or_else(|denial| panic!("{id}: {denial}"));
        log.verify_entries().unwrap_or_else(|denial| panic!("{id}: {denial}"));
        log.verify_order().unwrap_or_else(|denial| panic!("{id}: {denial}"));
        let expected = &case["expected"]["replay"];
        assert_eq!(log.entries().len() as u64, expected["entries"].as_u64().unwrap());
        for (name, alg, form) in [
            ("pcr10_sha1", HashAlg::Sha1, ImaBankForm::Rehashed),
            ("pcr10_sha256_zero_padded_sha1", HashAlg::Sha256, ImaBankForm::ZeroPadded),
            ("pcr10_sha256_rehashed_template", HashAlg::Sha256, ImaBankForm::Rehashed),
        ] {
            let value = log.replay(alg, form);
            assert_eq!(value.hex(), expected[name].as_str().unwrap(), "{id}");
            assert_eq!(log.match_prefix(&value).unwrap().covered, log.entries().len());
        }
        let keys = case["files"]["keys"].as_array().into_iter().flatten();
        let keys: Vec<ImaKey> = keys.map(|path| key(&corpus.bytes(path))).collect();
        if let Some(expected) = case["expected"]["file_signatures"].as_array() {
            assert_eq!(log.verify_signatures(&keys).unwrap(), expected.len());
            assert!(expected.iter().all(|one| keys.iter().any(|key| one["keyid"] == key.keyid())));
        }
    }
}

fn key(pem: &[u8]) -> ImaKey {
    let (_, der) = x509_cert::der::pem::decode_vec(pem).unwrap();
    ImaKey::from_spki_der(&der).unwrap()
}

#[test]
fn altered_ima_lists_are_refused_for_their_reason() {
    let Some(corpus) = Corpus::of("ima-log") else { return };
    for case in corpus.cases.iter().filter(|case| case["expected"]["verdict"] == "reject") {
        let id = case["id"].as_str().unwrap();
        let bytes = corpus.bytes(&case["files"]["log"]);
        let keys = case["files"]["keys"].as_array().into_iter().flatten();
        let keys: Vec<ImaKey> = keys.map(|path| key(&corpus.bytes(path))).collect();
        let pcr10 = case["expected"]["expected_pcr10"]["pcr10_sha256_rehashed_template"].as_str();
        let pcr10: Option<Digest> = pcr10.map(|hex| format!("sha256:{hex}").parse().unwrap());
        let judged = ImaLog::parse(&bytes).and_then(|log| {
            log.verify_entries()?;
            if !keys.is_empty() {
                log.verify_signatures(&keys)?;
            }
            // A list that is a whole prefix of the quoted one is refused as not reaching PCR 10.
            if let Some(pcr10) = &pcr10 {
                let covered = log.match_prefix(pcr10)?.covered;
                assert_eq!(covered, log.entries().len() - usize::from(id.ends_with("appended")), "{id}");
            }
            log.verify_order()
        });
        let denial = judged.expect_err(id);
        let class = match denial.code() {
            "evidence.ima_replay_mismatch" | "evidence.ima_order" | "evidence.ima_register" => "replay",
            "evidence.ima_template_mismatch" | "evidence.ima_violation" => "event-digest",
            "evidence.ima_signature" => "signature",
            _ => "parse",
        };
        let classes = case["expected"]["error_class"].as_array().unwrap();
        assert!(classes.contains(&Value::from(class)), "{id}: {denial}");
    }
}
