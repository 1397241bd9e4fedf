//! `verifier endorsements` through the real programs and sockets: what one domain got from a vendor's files, another
//! domain gets from its bundle, and judges by it with nothing else at hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod programs;

use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use programs::{Domain, Node, Place, Simulator};

fn code(document: &Value) -> &str {
    document["failures"][0]["code"].as_str().or(document["code"].as_str()).unwrap_or_default()
}

fn kinds(list: &Value) -> Vec<&str> {
    let rows = list["endorsements"].as_array().unwrap();
    let mut kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_one_domain_is_what_another_judges_by() {
    let place = Place::new();
    let guest = Simulator::start(&place).await;
    let vendor = guest.vendor_files(&place).await;
    let host_s_table = guest.host_s_table(&place).await;
    // From here on the host gives the guest nothing: reports come without certificates.
    guest.set(serde_json::json!({ "snp": { "provides_certificates": false } }));

    // One domain has the vendor's files.
    let first = Domain::found(&place, "a.example", &vendor).await;
    let imported = first.ask(&["endorsements", "import", &place.text(&vendor)], 0).await;
    assert!(imported["stored"].as_u64() >= Some(5), "{imported}");
    let listed = first.ask(&["endorsements", "list"], 0).await;
    let of_first: Vec<String> = kinds(&listed).into_iter().map(str::to_owned).collect();
    for kind in ["ark", "ask", "asvk", "snp-crl", "vcek"] {
        assert!(of_first.iter().any(|one| one == kind), "{kind}: {of_first:?}");
    }
    let bundle = place.text("endorsements.bundle");
    let export = ["endorsements", "export", "--out", &bundle, "--sign", &first.authority_key()];
    let exported = first.ask(&export, 0).await;
    assert_eq!(exported["endorsements"], of_first.len());
    let signer = exported["signer"].as_str().unwrap().to_owned();

    // The other has nothing: it cannot judge, and says what to import.
    let mut second = Domain::found(&place, "b.example", &vendor).await;
    assert!(kinds(&second.ask(&["endorsements", "list"], 0).await).is_empty());
    let node = Node::configured(&place, &guest, &second);
    let refused = node.ask(&["enrol"], 4).await;
    assert_eq!(code(&refused), "fault.endorsements_unavailable", "{refused}");
    let stranger = "a401012006215820".to_owned() + &"07".repeat(32);
    second.ask(&["endorsements", "import", &bundle, "--signer", &stranger], 2).await;
    let imported = second.ask(&["endorsements", "import", &bundle, "--signer", &signer], 0).await;
    assert_eq!(imported["stored"], of_first.len());
    let listed = second.ask(&["endorsements", "list"], 0).await;
    assert_eq!(kinds(&listed), of_first);
    assert!(listed["endorsements"][0]["origin"].as_str().unwrap().contains("a.example"), "{listed:#}");
    node.ask(&["enrol"], 0).await;
    second.trust_what_runs_on(&place, &node).await;

    // The very evidence that is affirmed with the bundle is a fault without it.
    let (file, nonce) = (place.text("evidence.cmw"), "5a".repeat(32));
    node.ask(&["evidence", "--nonce", &nonce, "--out", &file], 0).await;
    let appraise = ["appraise", "--node", programs::NODE, "--evidence", &file, "--nonce", &nonce];
    assert_eq!(second.ask(&appraise, 0).await["decision"], "affirmed");
    second.stop().await;
    second.sql("DELETE FROM endorsements").await;
    second.start().await;
    let fault = second.ask(&appraise, 4).await;
    assert_eq!((&fault["decision"], code(&fault)), (&"fault".into(), "fault.endorsements_unavailable"));
    let what = fault["error"].as_str().unwrap();
    for said in ["VCEK of Milan", "ARK", "verifier endorsements import"] {
        assert!(what.contains(said), "{said}: {what}");
    }
    // A host's table brings certificates, not the list that they are judged by.
    assert_eq!(second.ask(&["endorsements", "import", &host_s_table], 0).await["stored"], 3);
    let fault = second.ask(&appraise, 4).await;
    let what = fault["error"].as_str().unwrap();
    assert!(what.contains("revocation list of ARK Milan") && !what.contains("VCEK"), "{what}");
    second.ask(&["endorsements", "import", &bundle, "--signer", &signer], 0).await;
    let affirmed = second.ask(&appraise, 0).await;
    assert_eq!(affirmed["decision"], "affirmed");
    assert_eq!(affirmed["endorsements"].as_array().map(Vec::len), Some(4), "{affirmed:#}");

    // Operators' probes speak gRPC too.
    assert_eq!(health(&second, "attestd.v1.Operator").await, Some(ServingStatus::Serving));
    assert_eq!(health(&second, "attestd.v1.Attestation").await, None);
    second.stop().await;
    first.stop_and_check().await;
}

async fn health(domain: &Domain, service: &str) -> Option<ServingStatus> {
    let socket = domain.operator_socket();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://operator");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel).check(request).await.ok().map(|answer| answer.into_inner().status())
}
