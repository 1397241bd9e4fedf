//! End to end: a workload with the files of an OCI image, which speaks with its daemon from in there and ends as any.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;
use serde_json::Value;
use wire::proto::{self, workload_client::WorkloadClient};

use super::faults::{Scene, gone, running_with};
use super::hostile::{pid, said, say, sockets};
use super::image_layouts::{Layer, Layout};
use super::story::HALTED_EXIT_CODE;
use super::watched::Watched;
use crate::cli::DemoPlatform;
use crate::gateway::{ATTESTD_KEYS_SOCKET, WORKLOAD_SOCKET};
use crate::local_api::dial::dial;
use crate::supervise::control;

const SOON: Duration = Duration::from_secs(8);
const LEASE_MS: u32 = 6_000;

#[tokio::test]
#[ignore = "runs as a workload"]
async fn looks_around() {
    let [operators, socket] = sockets();
    assert_eq!((socket.as_path(), operators.exists()), (Path::new(WORKLOAD_SOCKET), false));
    say(&format!("motto {}", std::fs::read_to_string("/etc/motto").unwrap()));
    let asked = UnixStream::connect(std::env::var(ATTESTD_KEYS_SOCKET).unwrap()).unwrap();
    let (handed, keys) = control::receive::<Value>(&asked).unwrap().unwrap();
    let mut key = Vec::new();
    File::from(keys.into_iter().next().unwrap()).read_to_end(&mut key).unwrap();
    say(&format!("key of {} bytes of {handed}", key.len()));
    let mut client = WorkloadClient::new(dial(socket).await.unwrap());
    let mut told = client.watch(proto::WatchRequest {}).await.unwrap().into_inner();
    while let Some(standing) = told.message().await.unwrap() {
        say(&format!("governed by {}", standing.artifacts[0].domain));
    }
}

fn image(motto: &str) -> Layout {
    let itself = std::env::current_exe().unwrap();
    let layer = Layer::new().and_programs(&[itself.to_str().unwrap()]).file("etc/motto", motto);
    let mut layout = Layout::new(vec![layer.bytes()]);
    let arguments = ["--ignored", "--exact", "demo::images::looks_around", "--nocapture"];
    layout.configuration["config"] = serde_json::json!({ "Entrypoint": [itself], "Cmd": arguments });
    layout.write()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_in_an_image_is_named_by_it_and_known_renewed_and_killed_as_any() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let layout = image("of the image\n");
    let digest = crate::gateway::Image::open(layout.path()).unwrap().digest().to_string();
    let pinned = format!("{}@sha256:{digest}", layout.path());
    let mut execution = Watched::start(&stage, &["--key", "ledger", "--image", &pinned]).unwrap();
    let intent = execution.until(|seen| seen.phase() == Some(1) || seen.is("refusal"), |_| Ok(())).await.unwrap();
    if intent.field("code") == "fault.isolation_unavailable" {
        return eprintln!("no user namespaces here: left out");
    }
    assert_eq!(intent.fact("image"), digest);
    let first: Pid = pid(&mut execution).await;
    assert_eq!(said(&mut execution, "motto ").await, "of the image");
    assert_eq!(said(&mut execution, "key of ").await, r#"32 bytes of {"keys":["ledger"]}"#);
    // Told again at each renewal.
    for _ in 0..2 {
        said(&mut execution, "governed by demo.example").await;
    }
    stage.ask_attestd(&["halt", "--reason", "a test"], HALTED_EXIT_CODE).await.unwrap();
    assert!(gone(first, SOON), "it outlived the halt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_what_it_says_is_denied_before_any_domain_is_asked() {
    let Scene { stage, machine: _machine, _verifier, node: _node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let layout = image("of the image\n");
    super::image_layouts::flip(&layout.blob_path(&layout.manifest["layers"][0]));
    let mut execution = Watched::start(&stage, &["--image", layout.path()]).unwrap();
    let refused = execution.until(|seen| seen.is("refusal"), |_| Ok(())).await.unwrap();
    if refused.field("code") == "fault.isolation_unavailable" {
        return eprintln!("no user namespaces here: left out");
    }
    assert_eq!((refused.field("decision"), refused.field("code")), ("denied", "governance.workload"));
}
