//! What the two TLS listeners let in, judged from outside with a plain client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evidence::names::{DomainName, NodeId};
use evidence::time::UnixSeconds;
use rcgen::KeyPair;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use verifier::ca::CertificateAuthority;
use verifier::listen::{ConnectionCaps, Door, accepted};
use verifier::tls::{Peer, ServingCertificate, enrolment_config, nodes_config, unchanging};
use wire::protocol::CHANNEL_LABEL;

const CAPS: ConnectionCaps = ConnectionCaps { total: 4, per_address: 3 };

fn now() -> UnixSeconds {
    UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

fn authority() -> CertificateAuthority {
    let (certificate, key) = CertificateAuthority::create(&domain(), now()).unwrap();
    CertificateAuthority::open(domain(), &certificate, &key).unwrap()
}

struct Listener {
    address: SocketAddr,
    peers: tokio::sync::mpsc::UnboundedReceiver<Peer>,
    _authority: CertificateAuthority,
    root: CertificateDer<'static>,
}

/// Serves and reports who came in; every stream is kept open.
async fn listener(authority: CertificateAuthority, clients: bool) -> Listener {
    let serving = ServingCertificate::new(
        authority.server_key(&["127.0.0.1".into(), "localhost".into()], [1; 16], now()).unwrap(),
    );
    let config = if clients {
        nodes_config(serving, std::slice::from_ref(authority.certificate()))
    } else {
        enrolment_config(serving)
    }
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = accepted(
        listener,
        unchanging(config),
        if clients { Door::NodesOf(Arc::new(domain())) } else { Door::Strangers },
        CAPS,
    );
    let (report, peers) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(stream) = incoming.next().await {
            let mut stream = stream.unwrap();
            report.send(stream.connect_info()).unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.flush().await.unwrap();
            open.push(stream);
        }
    });
    Listener { address, peers, root: authority.certificate().clone(), _authority: authority }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn node_identity(authority: &CertificateAuthority, node: &str) -> Identity {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let public: [u8; 32] = key.public_key_raw().try_into().unwrap();
    let certificate = authority.node_certificate(&NodeId::new(node).unwrap(), &public, [2; 16], now()).unwrap();
    (vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn client(root: &CertificateDer<'static>, identity: Option<Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

/// Connects and reads the greeting: in TLS 1.3 a refusal of the client's certificate shows only then.
async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(config).connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await?;
    stream.read_exact(&mut [0; 5]).await?;
    Ok(stream)
}

fn exporter(stream: &Tls) -> [u8; 32] {
    stream.get_ref().1.export_keying_material([0; 32], CHANNEL_LABEL, None).unwrap()
}

#[tokio::test]
async fn both_ends_export_the_same_channel_and_each_connection_its_own() {
    let mut server = listener(authority(), false).await;
    let config = Arc::new(client(&server.root, None));
    let first = connect(server.address, config.clone()).await.unwrap();
    let second = connect(server.address, config).await.unwrap();
    let (one, two) = (server.peers.recv().await.unwrap(), server.peers.recv().await.unwrap());
    assert_eq!(exporter(&first), one.channel);
    assert_eq!(exporter(&second), two.channel);
    assert_ne!(one.channel, two.channel);
    assert!(one.node.is_none());
}

#[tokio::test]
async fn a_client_that_would_resume_gets_no_ticket() {
    let server = listener(authority(), false).await;
    let mut config = client(&server.root, None);
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    let config = Arc::new(config);
    for _ in 0..2 {
        let mut stream = connect(server.address, config.clone()).await.unwrap();
        assert!(matches!(
            stream.get_ref().1.handshake_kind(),
            Some(rustls::HandshakeKind::Full | rustls::HandshakeKind::FullWithHelloRetryRequest)
        ));
        assert!(!stream.get_ref().1.is_early_data_accepted());
        assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
        stream.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let server = listener(authority(), false).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    // A TLS 1.2 ClientHello (RFC 5246 §7.4.1.2): no supported_versions extension, so nothing newer is on offer.
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]); // random
    hello.push(0); // no session id
    hello.extend([0, 2, 0xc0, 0x2b]); // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    hello.extend([1, 0]); // null compression
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3, 0, 11, 0, 2, 1, 0]; // P-256, ecdsa_secp256r1_sha256, uncompressed points
    hello.extend([0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let mut record =
        vec![22, 3, 1, 0, u8::try_from(hello.len() + 4).unwrap(), 1, 0, 0, u8::try_from(hello.len()).unwrap()];
    record.extend(hello);
    tcp.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    // RFC 8446 §6.2: fatal alert protocol_version (70), and nothing else.
    assert_eq!((answer[0], &answer[5..]), (21, &[2, 70][..]));
}

#[tokio::test]
async fn only_h2_is_spoken() {
    let server = listener(authority(), false).await;
    for offered in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = client(&server.root, None);
        config.alpn_protocols = offered;
        assert!(connect(server.address, Arc::new(config)).await.is_err());
    }
}

#[tokio::test]
async fn the_nodes_listener_wants_a_certificate_of_our_authority_naming_a_node_of_ours() {
    let ours = authority();
    let good = node_identity(&ours, "node-1");
    let foreign = node_identity(&authority(), "node-1");
    // The service's own certificate is not a node's.
    let server_names = {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = ours.server_key(&["localhost".into()], [3; 16], now()).unwrap().cert[0].clone();
        let _ = key;
        certificate
    };
    let mut server = listener(ours, true).await;
    assert!(connect(server.address, Arc::new(client(&server.root, None))).await.is_err(), "no certificate");
    assert!(
        connect(server.address, Arc::new(client(&server.root, Some(foreign)))).await.is_err(),
        "certificate of another authority"
    );
    assert!(verifier::tls::node_of(&server_names, &domain()).is_err(), "a server's certificate names no node");
    let stream = connect(server.address, Arc::new(client(&server.root, Some(good)))).await.unwrap();
    let peer = server.peers.recv().await.unwrap();
    assert_eq!(peer.node, Some(NodeId::new("node-1").unwrap()));
    assert_eq!(peer.channel, exporter(&stream));
    assert!(server.peers.try_recv().is_err(), "nobody else came in");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let ours = authority();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let public: [u8; 32] = key.public_key_raw().try_into().unwrap();
    let long_ago = now().minus(30 * 24 * 3600);
    let certificate = ours.node_certificate(&NodeId::new("node-1").unwrap(), &public, [2; 16], long_ago).unwrap();
    let identity = (vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into());
    let server = listener(ours, true).await;
    assert!(connect(server.address, Arc::new(client(&server.root, Some(identity)))).await.is_err());
}

#[tokio::test]
async fn connections_beyond_the_cap_are_shed_and_the_places_come_back() {
    let server = listener(authority(), false).await;
    // Three that never say a word take every place of this address.
    let mut idle = Vec::new();
    for _ in 0..CAPS.per_address {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let config = Arc::new(client(&server.root, None));
    let refused = tokio::time::timeout(Duration::from_secs(4), connect(server.address, config.clone()))
        .await
        .expect("shed at once");
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ));
    drop(idle);
    // The places come back as soon as the service notices that the connections are gone.
    let served = async {
        while connect(server.address, config.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(4), served).await.expect("served again");
}
