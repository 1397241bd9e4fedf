//! `verifier evidence` as a program: exit codes, JSON, batches, and the corpus of genuine evidence.
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
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

fn verifier(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verifier"));
    command.arg("evidence").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A program that ends early closes the pipe.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A SHA-1-only log of one separator in PCR 0, with its digest or another.
fn log(folder: &Path, name: &str, digest: &str) -> String {
    let bytes = format!("0000000004000000{digest}0400000000000000");
    let path = folder.join(name);
    std::fs::write(&path, hex::decode(bytes).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

const OF_ZERO: &str = "9069ca78e7450a285173431b3e52c5c25299e473";
const OF_ANOTHER: &str = "9069ca78e7450a285173431b3e52c5c25299e474";

#[test]
fn exit_codes_say_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let good = log(folder.path(), "good", OF_ZERO);
    let bad = log(folder.path(), "bad", OF_ANOTHER);
    let event_log =
        |path: &str| verifier(&["verify", "--kind", "event-log", "--format", "json", "--event-log", path], b"");
    let done = event_log(&good);
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(json_of(&done)["decision"], "authentic");
    assert_eq!(json_of(&done)["claims"]["format"], "sha1-only");
    let denied = event_log(&bad);
    assert_eq!(denied.status.code(), Some(3));
    let failure = &json_of(&denied)["failures"][0];
    assert_eq!(failure["code"], "evidence.event_data_mismatch");
    for field in ["code", "claim", "got", "accepted", "reference", "hint"] {
        assert!(failure.get(field).is_some(), "{field}");
    }
    let fault = event_log("/nonexistent");
    assert_eq!(fault.status.code(), Some(4));
    assert_eq!(json_of(&fault)["code"], "fault.file_unreadable");
    for usage in [
        &["verify"][..],
        &["verify", "--kind", "event-log"],
        &["verify", "--kind", "event-log", "--event-log", &good, "--quote", &good],
        &["verify", "--kind", "event-log", "--event-log", &good, "--at", "yesterday"],
        &["verify", "--kind", "tpm", "--quote", &good, "--signature", &good, "--ak", &good, "--nonce", "xyz"],
        &["verify", "--kind", "nonsense"],
        &["inspect"],
    ] {
        assert_eq!(verifier(usage, b"").status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn inspect_shows_every_event_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    // What does not hash is shown all the same, and said to be uncovered.
    let path = log(folder.path(), "bad", OF_ANOTHER);
    let json = verifier(&["inspect", "--kind", "event-log", "--format", "json", "--event-log", &path], b"");
    let event = &json_of(&json)["event log"]["events"][0];
    assert_eq!(event["type"], "EV_SEPARATOR");
    assert_eq!(event["data_covered"], "display-only");
    assert_eq!(event["digests"]["sha1"], OF_ANOTHER);
    let text = verifier(&["inspect", "--kind", "event-log", "--event-log", &path], b"");
    assert!(String::from_utf8(text.stdout).unwrap().contains("EV_SEPARATOR"));
}

#[test]
fn a_batch_answers_every_line_once_and_survives_the_bad_ones() {
    let folder = tempfile::tempdir().unwrap();
    let good = log(folder.path(), "good", OF_ZERO);
    let bad = log(folder.path(), "bad", OF_ANOTHER);
    let mut input = Vec::new();
    let mut expected = BTreeMap::new();
    for number in 0..3000 {
        let (path, decision) =
            [(good.as_str(), "authentic"), (bad.as_str(), "denied"), ("/nonexistent", "fault")][number % 3];
        let line = json!({"id": format!("case {number}"), "kind": "tcg-event-log", "files": {"log": path}});
        writeln!(input, "{line}").unwrap();
        expected.insert(format!("case {number}"), decision);
    }
    for line in [&b"not json"[..], b"{\"id\":7}", &vec![b'['; 1 << 20], b"\xff\xfe", b"null"] {
        input.extend(line);
        input.push(b'\n');
    }
    let output = verifier(&["verify", "--batch"], &input);
    assert_eq!(output.status.code(), Some(4), "a fault was among them");
    let answers: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 3005);
    let (named, unnamed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer["id"].is_string());
    assert_eq!(unnamed.len(), 5);
    assert!(unnamed.iter().all(|answer| answer["code"] == "fault.request_malformed"));
    let got: BTreeMap<String, &str> = named
        .iter()
        .map(|answer| (answer["id"].as_str().unwrap().to_owned(), answer["decision"].as_str().unwrap()))
        .collect();
    assert_eq!(got, expected);
    assert_eq!(verifier(&["verify", "--batch"], b"").status.code(), Some(0));
}

/// The parts of a case that are answers, not questions.
const ANSWERS: [&str; 4] = ["replay", "events", "upstream_parse", "expected"];
const KINDS: [&str; 10] = [
    "tpm-quote",
    "tcg-event-log",
    "ima-log",
    "tpm-ek-chain",
    "dcap-quote",
    "ccel-log",
    "checkpoint",
    "tlog",
    "tlog-proof",
    "merkle-proofs",
];
/// What a case of a log expects of the claims, under their names.
const OF_LOGS: [&str; 7] = ["origin", "size", "entries", "checkpoints", "index", "vectors", "negative"];

#[test]
fn the_corpus_of_genuine_evidence_is_judged_as_it_says() {
    let Some(corpus) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
        println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
        return;
    };
    let manifest: Value = serde_json::from_slice(&std::fs::read(corpus.join("MANIFEST.json")).unwrap()).unwrap();
    let cases = manifest["cases"].as_array().unwrap().iter();
    let cases: Vec<&Value> = cases.filter(|case| KINDS.contains(&case["kind"].as_str().unwrap())).collect();
    let mut input = Vec::new();
    for case in &cases {
        writeln!(input, "{}", question(case, &corpus)).unwrap();
    }
    let output = verifier(&["verify", "--batch"], &input);
    let mut answers = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let answer: Value = serde_json::from_slice(line).unwrap();
        answers.insert(answer["id"].as_str().unwrap().to_owned(), answer);
    }
    let by_id: BTreeMap<&str, &Value> = cases.iter().map(|case| (case["id"].as_str().unwrap(), *case)).collect();
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let (answer, expected) = (&answers[id], &case["expected"]);
        match expected["verdict"].as_str().unwrap() {
            "accept" | "per vector (wantErr)" => {
                assert_eq!(answer["decision"], "authentic", "{id}: {answer}");
                for name in OF_LOGS.into_iter().filter(|_| case["files"].get("log").is_none()) {
                    let said = &answer["claims"][name];
                    assert!(expected.get(name).is_none_or(|value| said == value), "{id}: {name} {said}");
                }
                for name in ["tcb_status", "advisory_ids"] {
                    assert!(
                        expected.get(name).is_none_or(|value| answer["claims"][name] == sorted(value)),
                        "{id}: {name}"
                    );
                }
                let stated = ["attest", "quote"].iter().filter_map(|group| expected[group].as_object()).flatten();
                for (name, value) in stated.filter(|(name, _)| *name != "tee_type") {
                    let is_claimed = answer["claims"].get(name).is_none_or(|claim| claim == value);
                    assert!(is_claimed, "{id}: {name}");
                }
            }
            "reject" if is_undecidable(case, &by_id, &corpus) => println!("{id}: nothing in it shows what is missing"),
            "reject" => {
                assert_eq!(answer["decision"], "denied", "{id}: {answer}");
                assert!(expected["error_class"].as_array().unwrap().contains(&answer["class"]), "{id}: {answer}");
            }
            _ => assert_ne!(answer["decision"], Value::Null, "{id}"),
        }
    }
}

/// A list in the order of its texts; anything else as it is.
fn sorted(value: &Value) -> Value {
    let Some(list) = value.as_array() else { return value.clone() };
    let mut list: Vec<&str> = list.iter().map(|text| text.as_str().unwrap()).collect();
    list.sort_unstable();
    json!(list)
}

fn question(case: &Value, corpus: &Path) -> Value {
    let whole = |path: &Value| Value::from(corpus.join(path.as_str().unwrap()).to_str().unwrap());
    let files: serde_json::Map<String, Value> = case["files"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(role, _)| !ANSWERS.contains(&role.as_str()))
        .map(|(role, paths)| {
            let paths = paths.as_array().map_or_else(|| whole(paths), |many| many.iter().map(whole).collect());
            (role.clone(), paths)
        })
        .collect();
    let mut question = json!({"id": case["id"], "kind": case["kind"], "files": files});
    for input in ["at", "expect_nonce", "expect_report_data"] {
        if let Some(value) = case["expected"].get(input) {
            question[input] = value.clone();
        }
    }
    question
}

/// A measurement list by itself is as good without one of its lines: only PCR 10 shows that one is missing.
fn is_undecidable(case: &Value, by_id: &BTreeMap<&str, &Value>, corpus: &Path) -> bool {
    let lines = |case: &Value| -> Vec<String> {
        let path = corpus.join(case["files"]["log"].as_str().unwrap());
        String::from_utf8_lossy(&std::fs::read(path).unwrap()).lines().map(str::to_owned).collect()
    };
    let Some(whole) = case["derived_from"].as_str().and_then(|id| by_id.get(id)).filter(|_| case["kind"] == "ima-log")
    else {
        return false;
    };
    let (mut whole, altered) = (lines(whole).into_iter().peekable(), lines(case));
    let starts_alike = whole.peek() == altered.first();
    starts_alike && altered.iter().all(|line| whole.by_ref().any(|other| other == *line))
}
