//! End to end: a process of an execution gets its keys again, by descriptors, and nobody else does.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::faults::{Scene, running_with};
use super::hostile::said;
use super::story::HALTED_EXIT_CODE;
use super::watched::Watched;
use crate::cli::DemoPlatform;
use crate::supervise::control;

const LEASE_MS: u32 = 20_000;

/// What the manual shows, word for word, and then again and again what it is told.
fn asks() -> String {
    let manual = include_str!("../../../docs/executions.md");
    let (_, from) = manual.split_once("```python\n").unwrap();
    let (written, _) = from.split_once("```").unwrap();
    format!(
        "{written}
import time
handed = os.fdopen(int(os.environ['ATTESTD_KEY_FD_LEDGER']), 'rb').read()
again = os.pread(keys['ledger'], 8192, 0)
key = 'the same' if handed == again else 'another'
os.close(descriptors[0])
while True:
    asked = socket.socket(socket.AF_UNIX)
    asked.connect(os.environ['ATTESTD_KEYS_SOCKET'])
    said, descriptors, _, _ = socket.recv_fds(asked, 65536, 32)
    print('told', key, len(descriptors), said.decode(), flush=True)
    for descriptor in descriptors: os.close(descriptor)
    time.sleep(0.05)
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_asks_gets_the_keys_of_its_execution_until_they_are_revoked() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let mut workload = Watched::start(&stage, &["--key", "ledger", "--", "python3", "-c", &asks()]).unwrap();
    assert_eq!(said(&mut workload, "key of ").await, "32 bytes");
    assert_eq!(said(&mut workload, "told the same ").await, r#"1 {"keys":["ledger"]}"#);

    // Of the daemon's own user, and of no execution.
    let stranger = UnixStream::connect(stage.path("attestd/run/keys.sock")).unwrap();
    let (answer, descriptors) = control::receive::<Value>(&stranger).unwrap().unwrap();
    assert!(answer["refused"].as_str().unwrap().contains("only a process of an execution"), "{answer}");
    assert!(descriptors.is_empty());

    // One without keys.
    let script =
        asks().split_once("import time").unwrap().0.replace("print(\"key of\"", "print('told', said.decode()) #");
    let mut keyless = Watched::start(&stage, &["--", "python3", "-c", &script]).unwrap();
    assert_eq!(said(&mut keyless, "told ").await, json!({ "keys": [] }).to_string().replace(": ", ":"));

    let halt = ["halt", "--reason", "a test", "--mode", "revoke-keys"];
    stage.ask_attestd(&halt, HALTED_EXIT_CODE).await.unwrap();
    let mut told = said(&mut workload, "told the same ").await;
    while told.starts_with('1') {
        told = said(&mut workload, "told the same ").await; // before the halt
    }
    assert_eq!(told, r#"0 {"refused":"the execution is over"}"#);
}
