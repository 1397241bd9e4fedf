//! TLS as this service speaks it: 1.3 only, whole handshakes only, HTTP/2 only.
//!
//! Evidence is bound to the connection by the TLS exporter (SECURITY.md P2, P3), so a
//! connection must be one handshake between one pair of peers: no tickets, no
//! resumption, no early data, no older version.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use evidence::names::{DomainName, NodeId};
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use wire::protocol::{CHANNEL_BYTES, CHANNEL_LABEL};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::listen::Door;

const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why a connection was not let in. Logged, never told to the peer.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The configuration cannot be built from the keys at hand.
    #[error("TLS configuration: {0}")]
    Configuration(String),
    /// Older than TLS 1.3, or resumed.
    #[error("not one full TLS 1.3 handshake")]
    Handshake,
    /// The peer did not agree to HTTP/2 by ALPN.
    #[error("peer does not speak h2")]
    Protocol,
    /// The exporter could not be read.
    #[error("TLS exporter: {0}")]
    Exporter(rustls::Error),
    /// The client certificate names no node of ours.
    #[error("client certificate: {0}")]
    Identity(&'static str),
}

/// What handlers know of the connection that a request came by.
#[derive(Clone, Debug)]
pub struct Peer {
    /// TLS exporter of this very connection.
    pub channel: [u8; CHANNEL_BYTES],
    /// The node that the client certificate names; none on the enrolment listener.
    pub node: Option<NodeId>,
    /// For the log and the caps, never for a decision.
    pub address: std::net::SocketAddr,
}

/// The certificate being served; replaced while serving.
#[derive(Debug)]
pub struct ServingCertificate(RwLock<Arc<CertifiedKey>>);

impl ServingCertificate {
    /// Serves with `key` until replaced.
    pub fn new(key: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(key)))
    }

    /// New connections get `key` from now on.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// First contact: the server proves itself, the client proves its TPM in the stream.
pub fn enrolment_config(serving: Arc<ServingCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = builder()?.with_no_client_auth();
    Ok(Arc::new(hardened(builder.with_cert_resolver(serving))))
}

/// Enrolled nodes only: a client certificate of our own authority, or of one that it takes the place of, is mandatory.
pub fn nodes_config(
    serving: Arc<ServingCertificate>,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| TlsError::Configuration(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| TlsError::Configuration(error.to_string()))?;
    let builder = builder()?.with_client_cert_verifier(verifier);
    Ok(Arc::new(hardened(builder.with_cert_resolver(serving))))
}

/// Anyone: the server proves itself, by HTTP/1.1 or HTTP/2.
pub fn public_config(serving: Arc<ServingCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = hardened(builder()?.with_no_client_auth().with_cert_resolver(serving));
    config.alpn_protocols.push(ALPN_HTTP1.to_vec());
    Ok(Arc::new(config))
}

/// A configuration that no other takes the place of.
#[must_use]
pub fn unchanging(config: Arc<ServerConfig>) -> watch::Receiver<Arc<ServerConfig>> {
    watch::channel(config).1
}

fn builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError> {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Configuration(error.to_string()))
}

fn hardened(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config
}

/// One accepted connection, with what it proved; it gives its place back when dropped.
pub struct PeerStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _places: [OwnedSemaphorePermit; 2],
}

impl PeerStream {
    /// Reads what the finished handshake proved.
    pub(crate) fn accept(
        stream: TlsStream<TcpStream>,
        door: &Door,
        places: [OwnedSemaphorePermit; 2],
    ) -> Result<Self, TlsError> {
        let (tcp, session) = stream.get_ref();
        let full =
            matches!(session.handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
        if !full || session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err(TlsError::Handshake);
        }
        if !matches!(door, Door::Anyone) && session.alpn_protocol() != Some(ALPN_H2) {
            return Err(TlsError::Protocol);
        }
        let channel =
            session.export_keying_material([0; CHANNEL_BYTES], CHANNEL_LABEL, None).map_err(TlsError::Exporter)?;
        let address = tcp.peer_addr().map_err(|_| TlsError::Identity("the peer is gone"))?;
        let node = match door {
            Door::Strangers | Door::Anyone => None,
            Door::NodesOf(domain) => {
                let leaf =
                    session.peer_certificates().and_then(<[_]>::first).ok_or(TlsError::Identity("none given"))?;
                Some(node_of(leaf, domain)?)
            }
        };
        Ok(Self { stream, peer: Peer { channel, node, address }, _places: places })
    }
}

/// The node that a client certificate (already chained to our authority) names: exactly one SPIFFE ID of ours.
pub fn node_of(certificate: &CertificateDer<'_>, domain: &DomainName) -> Result<NodeId, TlsError> {
    let certificate = Certificate::from_der(certificate).map_err(|_| TlsError::Identity("unreadable"))?;
    let Ok(Some((_, names))) = certificate.tbs_certificate().get_extension::<SubjectAltName>() else {
        return Err(TlsError::Identity("no readable subject alternative name"));
    };
    let [GeneralName::UniformResourceIdentifier(uri)] = names.0.as_slice() else {
        return Err(TlsError::Identity("not exactly one URI"));
    };
    let (_, name) = uri.as_str().rsplit_once('/').ok_or(TlsError::Identity("names no node"))?;
    let node = NodeId::new(name).map_err(|_| TlsError::Identity("names no node"))?;
    let ours = domain.node_spiffe_id(&node) == uri.as_str();
    ours.then_some(node).ok_or(TlsError::Identity("names no node of this domain"))
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
