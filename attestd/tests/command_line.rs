//! The program itself: exit codes, JSON on stdout alone, evidence of a real software TPM.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::Path;
use std::process::{Command, Output};

use attestd::config::Tcti;
use serde_json::Value;

mod common;
use common::Node;

fn attestd(state: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_attestd"))
        .arg("--state")
        .arg(state)
        .args(["--format", "json"])
        .args(arguments)
        .env_remove("TSS2_LOG")
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn configure(state: &Path, tcti: &Tcti) {
    let text = format!(
        "node_id = \"node-1\"\ntpm.tcti = \"{tcti}\"\ntpm.ek = \"ecc-p256\"\ntpm.command_deadline_ms = 2000\n\
         watch.pcrs = [0, 4, 7]\nhalt.action = \"kill\"\n\
         [[domain]]\nname = \"a.example\"\nnodes = \"127.0.0.1:1\"\nenrolment = \"127.0.0.1:1\"\n\
         server_name = \"verifier.a.example\"\nca = \"ca.pem\"\n"
    );
    std::fs::write(state.join("attestd.toml"), text).unwrap();
}

#[test]
fn config_check_says_what_is_enforced_or_why_not() {
    let node = Node::start();
    let state = node.state.path().to_owned();
    configure(&state, &node.swtpm.tcti());
    let output = attestd(&state, &["config", "check"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(json(&output)["config"], "accepted");
    assert!(json(&output)["enforced"].as_array().unwrap().len() > 5);
    std::fs::write(state.join("attestd.toml"), "colour = 1\n").unwrap();
    let output = attestd(&state, &["config", "check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(json(&output)["config"], "refused");
}

#[test]
fn evidence_of_this_machine_is_shown_and_saved() {
    let node = Node::start();
    let state = node.state.path().to_owned();
    configure(&state, &node.swtpm.tcti());
    let nonce = "ab".repeat(32);
    let output = attestd(&state, &["evidence", "--nonce", &nonce]);
    assert_eq!(output.status.code(), Some(4), "this test still holds the state directory");
    assert_eq!(json(&output)["failures"][0]["code"], "fault.state_in_use");
    let Node { swtpm, dir, tpm, state: held } = node;
    drop((held, tpm));
    let (out, parts) = (dir.path().join("evidence.cmw"), dir.path().join("parts"));
    std::fs::create_dir(&parts).unwrap();
    let arguments = ["evidence", "--nonce", &nonce, "--out", out.to_str().unwrap(), "--parts", parts.to_str().unwrap()];
    let output = attestd(&state, &arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = json(&output);
    assert_eq!(shown["nonce"], nonce.as_str());
    assert_eq!(shown["pcrs"].as_object().unwrap().len(), 8);
    assert_eq!(shown["evidence_bytes"], std::fs::metadata(&out).unwrap().len());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("ERROR:"), "libtss2 is quiet");
    let again = json(&attestd(&state, &arguments));
    assert_eq!((&again["ak_name"], &again["node_key"]), (&shown["ak_name"], &shown["node_key"]), "keys are kept");
    for name in ["quote.bin", "quote.sig", "ak.pub", "pcrs.txt", "node-key.pub", "node-key.certify", "node-key.sig"] {
        assert!(parts.join(name).exists(), "{name}");
    }
    for bad in [vec!["evidence", "--nonce", "ab"], vec!["evidence", "--nonce", &nonce, "--pcrs", "24"]] {
        assert_eq!(attestd(&state, &bad).status.code(), Some(2), "{bad:?}");
    }
    drop(swtpm);
    let output = attestd(&state, &arguments);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(json(&output)["failures"][0]["code"], "fault.tpm_unreachable");
}

#[test]
fn enrolment_without_a_verifier_is_a_fault_and_an_unknown_domain_misuse() {
    let Node { swtpm, dir: _dir, tpm, state: held } = Node::start();
    let state = held.path().to_owned();
    drop((held, tpm));
    configure(&state, &swtpm.tcti());
    let output = attestd(&state, &["enrol"]);
    assert_eq!((output.status.code(), &json(&output)["failures"][0]["code"]), (Some(4), &"fault.configuration".into()));
    assert_eq!(attestd(&state, &["enrol", "--domain", "b.example"]).status.code(), Some(2));
    let output =
        attestd(Path::new("/nonexistent"), &["--config", state.join("attestd.toml").to_str().unwrap(), "enrol"]);
    assert_eq!((output.status.code(), &json(&output)["failures"][0]["code"]), (Some(4), &"fault.state".into()));
}
