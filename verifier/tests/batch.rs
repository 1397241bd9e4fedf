//! What a batch keeps between its cases never changes an answer: not for the corpus of genuine evidence, not for
//! endorsements with one byte changed, not for another time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test that goes wrong here should stop at once"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use verifier::evidence_cli::judge_lines;

/// Files of a case that are answers, not questions.
const ANSWERS: [&str; 4] = ["replay", "events", "upstream_parse", "expected"];
const KINDS: [&str; 4] = ["snp-report", "snp-cert-table", "dcap-quote", "azure-vtpm"];
/// Files that endorse evidence.
const ENDORSEMENTS: [&str; 8] = ["vek", "vcek", "vlek", "intermediate", "root", "crl", "cert_table", "collateral"];
/// A byte changed out of so many.
const STEP: usize = 97;

#[test]
fn the_corpus_is_answered_in_one_batch_as_case_by_case() {
    let Some(corpus) = Corpus::find() else { return };
    let questions = corpus.questions(&KINDS);
    assert!(questions.len() > 200, "{}", questions.len());
    // twice, so that every case meets what it left itself
    let twice: Vec<Value> = questions.iter().chain(&questions).cloned().collect();
    assert_as_by_itself(&twice);
}

#[test]
fn what_is_kept_never_stands_for_endorsements_with_one_byte_changed() {
    let Some(corpus) = Corpus::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    for id in ["snp-genoa-aci", "snp-milan-v3-vlek-aws", "snp-genoa-v3-tsm", "dcap-tdx-v4-uptodate"] {
        let genuine = corpus.question(id);
        let mut questions = vec![genuine.clone()];
        for (role, path) in genuine["files"].as_object().unwrap() {
            if ENDORSEMENTS.contains(&role.as_str()) {
                let changed = changed_files(Path::new(path.as_str().unwrap()), folder.path(), &format!("{id}-{role}"));
                questions.extend(changed.iter().map(|path| {
                    let mut question = genuine.clone();
                    question["files"][role] = json!(path);
                    question
                }));
            }
        }
        questions.push(genuine);
        let answers = assert_as_by_itself(&questions);
        let authentic = answers.iter().filter(|answer| answer["decision"] == "authentic").count();
        assert!(authentic >= 2 && authentic * 2 < answers.len(), "{id}: {authentic} of {} authentic", answers.len());
    }
}

#[test]
fn what_is_kept_is_held_against_the_time_of_each_case() {
    let Some(corpus) = Corpus::find() else { return };
    for id in ["snp-genoa-aci", "dcap-tdx-v4-uptodate"] {
        let genuine = corpus.question(id);
        let times = ["2001-01-01T00:00:00Z", genuine["at"].as_str().unwrap(), "2099-01-01T00:00:00Z"];
        let at = |time: &&str| {
            let mut question = genuine.clone();
            question["at"] = json!(time);
            question
        };
        let questions: Vec<Value> = times.iter().chain(times.iter().rev()).chain(&times).map(at).collect();
        let answers = assert_as_by_itself(&questions);
        let decisions: Vec<&Value> = answers.iter().take(3).map(|answer| &answer["decision"]).collect();
        assert_eq!(decisions, ["denied", "authentic", "denied"], "{id}");
    }
}

/// Asks all in one batch, on one thread and on two, and each by itself: the answers are the same. Returns them.
fn assert_as_by_itself(questions: &[Value]) -> Vec<Value> {
    let numbered: Vec<Value> = questions
        .iter()
        .enumerate()
        .map(|(number, question)| {
            let mut question = question.clone();
            question["id"] = json!(number);
            question
        })
        .collect();
    let alone: Vec<Value> = numbered.iter().flat_map(|question| answers(std::slice::from_ref(question), 1)).collect();
    for threads in [1, 2] {
        let together = answers(&numbered, threads);
        assert_eq!(together.len(), alone.len());
        for ((alone, together), question) in alone.iter().zip(&together).zip(&numbered) {
            assert_eq!(together, alone, "{threads} threads: {question}");
        }
    }
    alone
}

/// Answers of one batch, by number.
fn answers(questions: &[Value], threads: usize) -> Vec<Value> {
    let input: String = questions.iter().map(|question| format!("{question}\n")).collect();
    let mut output = Vec::new();
    judge_lines(input.as_bytes(), &mut output, threads).unwrap();
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let answers = lines.map(|line| serde_json::from_slice(line).unwrap());
    let by_number: BTreeMap<u64, Value> =
        answers.map(|answer: Value| (answer["id"].as_u64().unwrap(), answer)).collect();
    by_number.into_values().collect()
}

/// Copies of a file, each with one bit of another byte changed.
fn changed_files(path: &Path, folder: &Path, name: &str) -> Vec<PathBuf> {
    let bytes = std::fs::read(path).unwrap();
    (0..bytes.len())
        .step_by(STEP)
        .map(|at| {
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            let path = folder.join(format!("{name}-{at}"));
            std::fs::write(&path, changed).unwrap();
            path
        })
        .collect()
}

/// The corpus of genuine evidence.
struct Corpus {
    folder: PathBuf,
    cases: Vec<Value>,
}

impl Corpus {
    fn find() -> Option<Self> {
        let Some(folder) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
            println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
            return None;
        };
        let manifest: Value = serde_json::from_slice(&std::fs::read(folder.join("MANIFEST.json")).unwrap()).unwrap();
        Some(Self { cases: manifest["cases"].as_array().unwrap().clone(), folder })
    }

    fn question(&self, id: &str) -> Value {
        let case = self.cases.iter().find(|case| case["id"] == id).unwrap();
        self.ask(case)
    }

    fn questions(&self, kinds: &[&str]) -> Vec<Value> {
        let cases = self.cases.iter().filter(|case| kinds.contains(&case["kind"].as_str().unwrap()));
        cases.map(|case| self.ask(case)).collect()
    }

    fn ask(&self, case: &Value) -> Value {
        let whole = |path: &Value| json!(self.folder.join(path.as_str().unwrap()));
        let files = case["files"].as_object().unwrap().iter();
        let files: serde_json::Map<String, Value> = files
            .filter(|(role, _)| !ANSWERS.contains(&role.as_str()))
            .map(|(role, paths)| {
                let paths = paths.as_array().map_or_else(|| whole(paths), |many| many.iter().map(whole).collect());
                (role.clone(), paths)
            })
            .collect();
        let mut question = json!({"id": case["id"], "kind": case["kind"], "files": files});
        // a time of its own for every case, so that asking twice is asking the same
        question["at"] = json!("2026-03-01T00:00:00Z");
        for input in ["at", "expect_nonce", "expect_report_data", "expect_measurement"] {
            if let Some(value) = case["expected"].get(input) {
                question[input] = value.clone();
            }
        }
        question
    }
}
