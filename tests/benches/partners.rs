//! What a verifier's process costs that follows a hundred partners, each looked at every five seconds and looking back:
//! its processor time over a stretch in which nothing else happens. The partners are in this process.
//! `BENCH_PARTNERS` and `BENCH_STRETCH_S` make it smaller; the budget is about the figures that stand here.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

#[allow(dead_code, reason = "the clock of this bench is the kernel's, of another process")]
mod measure;
#[path = "../../verifier/tests/federation/member.rs"]
#[allow(dead_code, reason = "tests ask more of it")]
mod member;
#[allow(dead_code, reason = "shared with benches that need more of it")]
mod meshed;

use std::time::{Duration, Instant};

use attestd::demo::mesh::Mesh;
use evidence::cbor;
use evidence::digest::Sha256Digest;
use governance::partner_endpoint::{EndpointProfile, PartnerEndpoint};
use governance::statement::{Order, TrustedDomain};
use governance::text::Text;
use member::{Member, grant, name};
use serde_bytes::ByteBuf;
use tokio::runtime::Runtime;

const PARTNERS: usize = 100;
const STRETCH_S: u64 = 30;
const HINT_S: u64 = 5;
const OWN: &str = "a.example";

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    // Processes are started, and let go of, within it.
    let _within = runtime.enter();
    let stretch = Duration::from_secs(meshed::figure("BENCH_STRETCH_S", STRETCH_S));
    let percent = runtime.block_on(followed(meshed::figure("BENCH_PARTNERS", PARTNERS), stretch));
    measure::report("100 partners at a 5 s hint, of one core", percent, " %", 5.0);
}

async fn followed(partners: usize, stretch: Duration) -> f64 {
    let (mesh, _) = meshed::domains(&[OWN], 0).await;
    renew(&mesh).await;
    let mut members = Vec::new();
    for number in 0..partners {
        let member = Member::founded(&format!("p{number}.example")).await;
        member.renew(HINT_S).await.expect("a bundle");
        trust_each_other(&mesh, &member).await;
        members.push(member);
    }
    for member in &members {
        meshed::told(&mesh, mesh.stands(OWN, member.domain.as_str(), "fresh").await);
        member.until("fresh", |member| member.standing(OWN) == governance::partner::Standing::Fresh).await;
    }
    // What they have to tell each other of the last order is over.
    tokio::time::sleep(Duration::from_secs(2 * HINT_S)).await;
    let pid = mesh.pid(OWN).expect("a verifier");
    let (before, begun) = (meshed::processor_time(pid), Instant::now());
    tokio::time::sleep(stretch).await;
    let used = meshed::processor_time(pid) - before;
    100.0 * used.as_secs_f64() / begun.elapsed().as_secs_f64()
}

/// The hint that the partners follow.
async fn renew(mesh: &Mesh) {
    let (signer, hint) = (mesh.signer(OWN), HINT_S.to_string());
    let renew = ["domain", "bundle", "--renew", "--key", &signer, "--refresh-hint-s", &hint];
    meshed::told(mesh, mesh.ask(OWN, &renew, 0).await);
}

async fn trust_each_other(mesh: &Mesh, member: &Member) {
    let file = format!("{}.bundle", member.domain);
    let theirs: Vec<_> = member.governor.current().bundle.signatures.iter().cloned().map(ByteBuf::from).collect();
    let path = mesh.write(&file, &cbor::to_vec(&theirs).expect("a bundle")).expect("a file").display().to_string();
    let (pin, url) =
        (member.governor.current().bundle.verified.digest().to_string(), format!("https://{}", member.address));
    let signer = mesh.signer(OWN);
    let mut trust = vec!["domain", "trust", &path, "--pin", &pin, "--url", &url, "--profile", "https-spiffe"];
    trust.extend(["--path-prefix", "/node/", "--lease-ms", "60000", "--rate-per-minute", "6000", "--kind", "tpm"]);
    trust.extend(["--max-staleness-s", "600", "--signer", &signer, "--reason", "a bench"]);
    meshed::told(mesh, mesh.ask(OWN, &trust, 0).await);
    let ours = mesh.path(&format!("{}-gets.bundle", member.domain));
    let out = ours.display().to_string();
    let shown = meshed::told(mesh, mesh.ask(OWN, &["domain", "bundle", "--out", &out], 0).await);
    let bytes = std::fs::read(&ours).expect("our bundle");
    let ours: Vec<ByteBuf> = cbor::from_slice(&bytes, cbor::Caps::bytes(bytes.len())).expect("our bundle");
    let digest: Sha256Digest = shown["bundle"].as_str().expect("a digest").parse().expect("a digest");
    let url = Text::new(format!("https://{}", mesh.public(OWN).expect("a surface"))).expect("a URL");
    let trusted = TrustedDomain {
        domain: name(OWN),
        bundle: digest,
        endpoint: PartnerEndpoint { url, profile: EndpointProfile::HttpsSpiffe },
        grant: grant(),
    };
    let ours: Vec<Vec<u8>> = ours.into_iter().map(ByteBuf::into_vec).collect();
    member.order(Order::TrustDomain(Box::new(trusted)), &ours).await.expect("trust");
}
