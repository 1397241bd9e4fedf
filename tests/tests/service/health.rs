//! gRPC health says what `/healthz` says.

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    bed::Bed,
    node::{Node, dial},
};

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn it_is_red_while_the_store_does_not_commit() {
    let mut node = Node::new();
    let bed = Bed::knowing(&node.machine).await;
    node.enrol(&bed).await.unwrap();
    let (connection, _) = dial(bed.addresses.nodes, node.client(&bed)).await.unwrap();
    let mut health = HealthClient::new(connection);
    let mut watched = health.watch(about("attestd.v1.Attestation")).await.unwrap().into_inner();
    let mut next = async || watched.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::Serving);
    for service in ["", "attestd.v1.Attestation"] {
        assert_eq!(health.check(about(service)).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    // Only what this listener serves: operators are elsewhere.
    let unknown = health.check(about("attestd.v1.Operator")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    bed.sql("CREATE TRIGGER broken BEFORE UPDATE ON log_head BEGIN SELECT RAISE(ABORT, 'broken'); END").await;
    let mut stream = node.connect(&bed).await;
    let request = node.authorize(&node.intent(&[]));
    assert_eq!(node.ask(&mut stream, request).await.unwrap_err().code, "fault.store_unavailable");
    assert_eq!(next().await, ServingStatus::NotServing);
    assert_eq!(health.check(about("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    assert!(bed.get("/healthz").await.starts_with("HTTP/1.1 503"));

    bed.sql("DROP TRIGGER broken").await;
    let request = node.authorize(&node.intent(&[]));
    node.ask(&mut stream, request).await.unwrap();
    assert_eq!(next().await, ServingStatus::Serving);
    assert!(bed.get("/healthz").await.starts_with("HTTP/1.1 200"));
    bed.finish().await;
    // A watcher does not hold up the end of the service.
    assert!(watched.message().await.is_ok_and(|last| last.is_none()));
}
