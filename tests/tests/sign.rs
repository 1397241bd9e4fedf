//! Two people of a policy authority sign one order at different places: real programs, a domain that wants two of three.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(60);
const LAB: &str = include_str!("../../policy/lab.cedar");
const DENIED: i32 = 3;

/// Beside the folder that tests are built in.
fn verifier() -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("verifier");
    assert!(path.is_file(), "{} is not built: `cargo build --workspace --bins`", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

struct Domain {
    folder: tempfile::TempDir,
    service: Child,
}

impl Drop for Domain {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

impl Domain {
    async fn founded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (state, authority) = (folder.path().join("state"), folder.path().join("authority"));
        let any = "127.0.0.1:0";
        let mut init = verifier();
        init.args(["init", "--domain", "a.example", "--listen-enrolment", any, "--listen-nodes", any]);
        init.arg("--state").arg(&state).arg("--authority-dir").arg(&authority);
        let made = init.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut serve = verifier();
        serve.args(["serve", "--log", "warn", "--state"]).arg(&state).stdout(Stdio::null());
        let domain = Self { folder, service: serve.spawn().unwrap() };
        let begun = Instant::now();
        while domain.run(&["keys", "list"]).0 != Some(0) {
            assert!(begun.elapsed() < WITHIN, "it does not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        domain
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn key(&self, number: usize) -> String {
        self.text(&format!("authority/authority-{number}.key"))
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut command = verifier();
        command.args(arguments).args(["--format", "json", "--state"]).arg(self.path("state"));
        let output = command.output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn ask(&self, arguments: &[&str], code: i32) -> Value {
        let (ended, document) = self.run(arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {document}");
        document
    }

    /// Signs, or only shows, away from the service.
    fn sign(&self, file: &str, signers: &[String], code: i32) -> Value {
        let pin = self.text("state/pin.toml");
        let mut sign = vec!["sign", file, "--pin", &pin];
        signers.iter().for_each(|signer| sign.extend(["--signer", signer]));
        self.ask(&sign, code)
    }

    fn submit(&self, file: &str, code: i32) -> Value {
        self.ask(&["sign", file, "--submit"], code)
    }

    fn policies(&self) -> usize {
        self.ask(&["policy", "show"], 0)["sets"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn a_policy_that_two_sign_apart_is_in_force_once_both_have_and_not_before() {
    let domain = Domain::founded().await;
    std::fs::write(domain.path("next.cedar"), LAB).unwrap();
    let (cedar, file, first) = (domain.text("next.cedar"), domain.text("next.order"), domain.key(1));
    let before = domain.policies();
    let activate = ["policy", "activate", &cedar, "--name", "next", "--signer", &first, "--reason", "a new rule"];
    // One alone is not enough, given to the service at once or in a file.
    domain.ask(&activate, DENIED);
    let begun = domain.ask(&[&activate[..], &["--collect", &file]].concat(), 0);
    assert_eq!(begun["parts"].as_array().unwrap().len(), 2, "the set and the order: {begun}");
    let refused = domain.submit(&file, DENIED);
    assert!(refused.to_string().contains("threshold_not_met"), "{refused}");
    // The same person twice is one person.
    let again = domain.sign(&file, &[domain.key(1)], 0);
    assert_eq!((again["complete"].as_bool(), again["parts"][1]["signatures"].as_str()), (Some(false), Some("1 of 2")));
    assert_eq!(again["parts"][1]["says"]["reason"], "a new rule");
    domain.submit(&file, DENIED);
    // Whoever changed a byte of what is signed gets no other signature for it.
    let signed = std::fs::read(&file).unwrap();
    let mut bent = signed.clone();
    let at = bent.windows(10).rposition(|bytes| bytes == b"a new rule").unwrap();
    bent[at] ^= 1;
    std::fs::write(domain.path("bent.order"), &bent).unwrap();
    let refused = domain.sign(&domain.text("bent.order"), &[domain.key(2)], DENIED);
    assert!(refused.to_string().contains("governance.signature_invalid"), "{refused}");
    let both = domain.sign(&file, &[domain.key(2)], 0);
    assert_eq!((both["complete"].as_bool(), both["parts"][0]["signatures"].as_str()), (Some(true), Some("2 of 2")));
    assert_eq!(domain.sign(&file, &[], 0), both, "shown as it was written");
    domain.submit(&file, 0);
    assert!(domain.policies() > before);
    // An order is obeyed once.
    let replayed = domain.submit(&file, DENIED);
    assert!(replayed.to_string().contains("statement_replayed"), "{replayed}");
}

#[tokio::test]
async fn orders_and_bundles_are_collected_alike() {
    let domain = Domain::founded().await;
    let first = domain.key(1);
    let revoke = domain.text("revoke.order");
    let order = ["revoke", "--signer", &first, "--reason", "gone", "--collect", &revoke, "key", "ledger"];
    domain.ask(&order, 0);
    let shown = domain.sign(&revoke, &[domain.key(3)], 0);
    assert_eq!(shown["complete"], true, "{shown}");
    domain.submit(&revoke, 0);
    let bundle = domain.text("bundle.order");
    domain.ask(&["domain", "bundle", "--renew", "--key", &first, "--collect", &bundle], 0);
    domain.submit(&bundle, DENIED);
    assert_eq!(domain.sign(&bundle, &[domain.key(2)], 0)["parts"][0]["kind"], "trust bundle");
    let sequence = |shown: &Value| shown["sequence"].as_u64().unwrap();
    let before = sequence(&domain.ask(&["domain", "bundle"], 0));
    domain.submit(&bundle, 0);
    assert_eq!(sequence(&domain.ask(&["domain", "bundle"], 0)), before + 1);
    // A file that is there is not begun anew.
    domain.ask(&["domain", "bundle", "--renew", "--key", &first, "--collect", &bundle], 2);
}
