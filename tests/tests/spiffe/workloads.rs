//! What runs under leases: this test program, asked for one of these by name. Each leaves what it saw in a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use spiffe::{TrustDomain, WorkloadApiClient, X509Context};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use wire::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;

use crate::jwt_workloads::LEDGER;
use crate::tls;

/// The last argument: libtest takes it for one more name of a test, and finds none.
pub(crate) fn folder() -> PathBuf {
    std::env::args().next_back().map(PathBuf::from).unwrap()
}

/// Seen whole or not at all.
pub(crate) fn leave(folder: &Path, name: &str, text: &str) {
    let unfinished = folder.join(format!(".{name}"));
    std::fs::write(&unfinished, text).unwrap();
    std::fs::rename(unfinished, folder.join(name)).unwrap();
}

pub(crate) async fn found(folder: &Path, name: &str) -> String {
    for _ in 0..WAITS {
        if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
            return text;
        }
        tokio::time::sleep(WAIT).await;
    }
    panic!("{name} never came");
}

pub(crate) async fn client() -> WorkloadApiClient {
    WorkloadApiClient::connect_env().await.unwrap()
}

/// What it is, and the bundle of another domain beside its own.
async fn context(of: &str) -> (X509Context, Vec<Vec<u8>>) {
    let context = client().await.fetch_x509_context().await.unwrap();
    let bundle = context.bundle_set().get(&TrustDomain::new(of).unwrap()).expect("the partner's bundle");
    let authorities = bundle.authorities().iter().map(|authority| authority.as_bytes().to_vec()).collect();
    (context, authorities)
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn serves() {
    let folder = folder();
    let (context, partners) = context("a.example").await;
    let svid = context.default_svid().unwrap();
    leave(&folder, "server", &svid.spiffe_id().to_string());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    leave(&folder, "address", &listener.local_addr().unwrap().to_string());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // Whoever does not trust this server goes away in the handshake.
        let Ok(mut stream) = tls::accept(svid, &partners, stream).await else { continue };
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "who am I?");
        let peer = tls::peer(stream.get_ref().1.peer_certificates());
        stream.write_all(peer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        leave(&folder, "heard-by-server", &peer);
        return;
    }
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn calls() {
    let folder = folder();
    let (context, partners) = context("b.example").await;
    let svid = context.default_svid().unwrap();
    let own = context.bundle_set().get(&TrustDomain::new("a.example").unwrap()).unwrap();
    let own: Vec<Vec<u8>> = own.authorities().iter().map(|authority| authority.as_bytes().to_vec()).collect();
    leave(&folder, "caller", &svid.spiffe_id().to_string());
    let address = found(&folder, "address").await;
    let by_own = tls::connect(LEDGER, svid, &own, TcpStream::connect(&address).await.unwrap()).await;
    leave(&folder, "refused-by-caller", &tls::why(&by_own.unwrap_err()));
    let mut stream = tls::connect(LEDGER, svid, &partners, TcpStream::connect(&address).await.unwrap()).await.unwrap();
    let peer = tls::peer(stream.get_ref().1.peer_certificates());
    stream.write_all(b"who am I?").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, svid.spiffe_id().to_string());
    leave(&folder, "heard-by-caller", &peer);
}

#[tokio::test]
#[ignore = "runs as a workload"]
async fn watches() {
    let folder = folder();
    let client = client().await;
    let mut svids = client.stream_x509_svids().await.unwrap();
    let first = svids.next().await.unwrap().unwrap();
    let bundles = client.fetch_x509_bundles().await.unwrap();
    let mut domains: Vec<&str> = bundles.iter().map(|(domain, _)| domain.as_str()).collect();
    domains.sort_unstable();
    leave(&folder, "bundles", &domains.join(" "));
    leave(&folder, "without-header", &without_header().await);
    leave(&folder, "first", &first.spiffe_id().to_string());
    loop {
        let next = svids.next().await.unwrap().unwrap();
        if next.leaf().as_bytes() != first.leaf().as_bytes() {
            assert_eq!(next.private_key().as_bytes(), first.private_key().as_bytes());
            leave(&folder, "second", &next.spiffe_id().to_string());
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// How a request is answered that does not say what a browser cannot be made to say.
async fn without_header() -> String {
    let refused = raw().await.fetch_x509svid(wire::spiffe::X509svidRequest {}).await.unwrap_err();
    format!("{:?}", refused.code())
}

/// A client that asks for whatever it is told to ask for.
pub(crate) async fn raw() -> SpiffeWorkloadApiClient<Channel> {
    let endpoint = std::env::var("SPIFFE_ENDPOINT_SOCKET").unwrap();
    let path = endpoint.strip_prefix("unix://").unwrap().to_owned();
    let connect = move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
    };
    let channel = tonic::transport::Endpoint::from_static("http://localhost");
    SpiffeWorkloadApiClient::new(channel.connect_with_connector(tower::service_fn(connect)).await.unwrap())
}

const WAITS: usize = 600;
const WAIT: Duration = Duration::from_millis(50);
