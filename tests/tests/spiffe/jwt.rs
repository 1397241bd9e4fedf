//! JWT-SVIDs by the crate `spiffe`: who gets one, who knows it, and until when.

use spiffe::{WorkloadApiClient, WorkloadApiError};

use crate::jwt_workloads::LEDGER;
use crate::records::records;
use crate::{A, B, Bed};

const C: &str = "c.example";
const BILLING: &str = "spiffe://a.example/node/node-1/workload/billing";

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_knows_another_domain_s_by_the_jwt_svid_that_is_for_it() {
    let bed = Bed::founded(30_000).await;
    let folder = bed.mesh.folder("said").unwrap();
    let judge = bed.workload("node-2", Some("ledger"), "jwt_workloads::judges", &folder);
    let asker = bed.workload("node-1", Some("billing"), "jwt_workloads::shows", &folder);
    assert_eq!(bed.left(&folder, "asker").await, BILLING);
    let misused = bed.left(&folder, "misused").await;
    let [audience, other, no_header] =
        ["InvalidArgument governance.field_invalid", "PermissionDenied", "InvalidArgument"];
    let wanted = [audience, audience, audience, audience, other, no_header, no_header, no_header];
    assert_eq!(misused.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(bed.left(&folder, "judged").await, BILLING);
    let refused = bed.left(&folder, "refused").await;
    let codes = ["field_invalid", "audience", "malformed", "too_large", "field_invalid"];
    let codes = [&codes[..], &["signature_invalid"; 3], &["partner_unknown"]].concat();
    let wanted: Vec<_> = codes.iter().map(|code| format!("InvalidArgument governance.{code}")).collect();
    assert_eq!(refused.lines().collect::<Vec<_>>(), wanted);
    for mut execution in [asker, judge] {
        bed.explained(execution.until(|seen| seen.is("exit"), |_| Ok(())).await);
        assert_eq!(bed.explained(execution.exit_code().await), 0);
    }
    // Each is a record of the node's lineage: two for the asker, one for the judge.
    for (domain, node, count) in [(A, "node-1", 2), (B, "node-2", 1)] {
        assert_eq!(records(&bed.mesh, domain, node).await.iter().filter(|kind| *kind == "jwt_svid").count(), count);
    }
    // This process is of the same user, on the same machine, on the same socket.
    let socket = format!("unix://{}", bed.mesh.path("node-1/run/workload.sock").display());
    let stranger = WorkloadApiClient::connect_to(&socket).await.unwrap();
    let denied = |error: &WorkloadApiError| matches!(error, WorkloadApiError::PermissionDenied(_));
    assert!(denied(&stranger.fetch_jwt_svid([LEDGER], None).await.unwrap_err()));
    assert!(denied(&stranger.fetch_jwt_bundles().await.unwrap_err()));
    assert!(denied(&stranger.validate_jwt_token(LEDGER, "a.b.c").await.unwrap_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlasts_trust_lease_or_execution() {
    let bed = Bed::with(6_000, &[A, B, C]).await;
    let folder = bed.mesh.folder("said").unwrap();
    let execution = bed.workload("node-1", None, "jwt_workloads::follows", &folder);
    let lives_s: u64 = bed.left(&folder, "lives").await.parse().unwrap();
    assert!((1..=6).contains(&lives_s), "no longer than the lease: {lives_s}");
    bed.leaves(&folder, "known", "a.example b.example c.example").await;
    assert_eq!(bed.left(&folder, "expired").await, "InvalidArgument governance.expired");
    // Keys of a domain whose trust was taken back are given no more.
    let signer = bed.mesh.signer(A);
    let untrust = ["domain", "untrust", B, "--signer", &signer, "--reason", "an incident there"];
    bed.explained(bed.mesh.ask(A, &untrust, 0).await);
    bed.leaves(&folder, "known", "a.example c.example").await;
    // A halt that lets the workload go on until its lease ends: it sees what is left to it.
    let halt = ["halt", "--reason", "a test", "--mode", "revoke-keys"];
    bed.explained(bed.mesh.ask_node("node-1", &halt, HALTED).await);
    let over = bed.left(&folder, "over").await;
    assert!(over.starts_with("Some(0) PermissionDenied PermissionDenied permission denied: "), "{over}");
    drop(execution);
}

/// Exit code of what is halted.
const HALTED: i32 = 5;
