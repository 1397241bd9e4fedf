//! A domain that is no lab: what it refuses to be configured as, and what it does without its partners' witnesses.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tests::authority::Authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::machine::{A, Machine};
use crate::pem;
use crate::programs::{Domain, command, finished, terminated, until};

const USAGE: i32 = 2;
const DENIED: i32 = 3;
/// A service that does not start says so at once.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// `verifier init` of a domain in `state`, with these arguments besides.
async fn init(state: &Path, more: &[&str], code: i32) {
    let mut verifier = command("verifier");
    verifier.args([
        "init",
        "--domain",
        Domain::NAME,
        "--listen-enrolment",
        "127.0.0.1:0",
        "--listen-nodes",
        "127.0.0.1:0",
    ]);
    verifier.args(["--listen-admin", "127.0.0.1:0", "--state"]).arg(state).args(more);
    finished(verifier, code).await;
}

/// What `serve` says on a configuration that it refuses.
async fn refused(state: &Path) -> String {
    let mut verifier = command("verifier");
    verifier.args(["serve", "--log", "warn", "--state"]).arg(state).kill_on_drop(true);
    let output = timeout(REFUSED_WITHIN, verifier.output()).await.expect("it does not start").unwrap();
    assert!(!output.status.success());
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The answer of the address for operators.
async fn got(at: &str, path: &str) -> String {
    let mut tcp = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_a_lab_nothing_simulated_is_trusted_and_nothing_is_released_without_witnesses() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let (maker, software) = (Authority::new("maker"), Authority::new("swtpm"));
    let file = |name: &str, text: String| {
        let path = place.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let root = file("root.pem", pem(&[&maker.root]));
    let simulated = file("simulated.pem", pem(&[&software.root]));
    let chain = place.join("chain.pem");
    std::fs::write(&chain, pem(&[&software.intermediate, &software.root])).unwrap();
    let (state, keys) = (place.join("verifier"), place.join("authority"));
    let authority = keys.display().to_string();
    let founding = ["--authority-dir", &authority, "--tpm-root", &root];

    // It cannot be founded so.
    let elsewhere = |name: &str| place.join(name);
    for (name, more) in [
        ("simulated", ["--simulated-root", simulated.as_str()]),
        ("unwitnessed", ["--witness-quorum", "0"]),
        ("alone", ["--threshold", "1"]),
    ] {
        init(&elsewhere(name), &[&founding[..], &more].concat(), USAGE).await;
    }
    init(&state, &founding, 0).await;

    // Nor is it served when its configuration was changed to be so.
    let config = state.join("verifier.toml");
    let founded = std::fs::read_to_string(&config).unwrap();
    let lists = format!("simulated_roots = [\"{simulated}\"]");
    for (from, to, key) in [
        ("simulated_roots = []", lists.as_str(), "tpm.simulated_roots"),
        ("witness_quorum = 1", "witness_quorum = 0", "log.witness_quorum"),
        ("threshold = 2", "threshold = 1", "authority.threshold"),
    ] {
        assert!(founded.contains(from), "{from}: {founded}");
        std::fs::write(&config, founded.replacen(from, to, 1)).unwrap();
        let said = refused(&state).await;
        assert!(said.contains(key), "{key}: {said}");
    }
    std::fs::write(&config, &founded).unwrap();

    let mut serve = command("verifier");
    serve.args(["serve", "--log", "warn", "--state"]).arg(&state);
    let serving = serve.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let domain = Domain::served(state.clone());
    until("the verifier listens", async || domain.addresses()).await;
    let socket = verifier::state::StateFolder::open(&state).unwrap().operator_socket();
    until("the verifier obeys", async || std::os::unix::net::UnixStream::connect(&socket).ok()).await;

    // No partner, no witness: what could not be released is told to whoever watches.
    let admin = domain.addresses().unwrap()["admin"].as_str().unwrap().to_owned();
    let health = got(&admin, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("fault.witness_quorum"), "{health}");
    let metrics = got(&admin, "/metrics").await;
    assert!(metrics.contains("verifier_cosignatures_missing 1"), "{metrics}");

    // One key alone orders nothing.
    let key = |number: u8| keys.join(format!("authority-{number}.key")).display().to_string();
    let alone = key(1);
    let revoke = ["revoke", "--signer", &alone, "--reason", "alone", "key", "ledger"];
    let denied = domain.ask(&revoke, DENIED).await;
    assert_eq!(denied["failures"][0]["code"], "governance.threshold_not_met", "{denied}");
    let both = key(2);
    let revoke = ["revoke", "--signer", &alone, "--signer", &both, "--reason", "two of three", "key", "ledger"];
    domain.ask(&revoke, 0).await;

    // A software TPM is nobody that it knows, whatever certificate it shows.
    let machine = Machine::manufacture(&place, "node-1", &software, &A).await;
    machine.configure(&domain, &chain);
    let refusal = finished(machine.attestd(&["enrol"]), DENIED).await;
    assert!(refusal.to_string().contains("evidence."), "{refusal}");
    terminated(serving).await;
}
