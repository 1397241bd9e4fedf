//! Connections to a verifier: TLS 1.3, one root, one whole handshake, HTTP/2, and the exporter of that handshake.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use wire::protocol::{CHANNEL_BYTES, CHANNEL_LABEL};

use crate::config::DomainConfig;

const ALPN_H2: &[u8] = b"h2";
/// Connecting and shaking hands together.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A peer that answers no HTTP/2 ping for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Why there is no connection to a verifier.
#[derive(Debug, thiserror::Error)]
pub enum ConnectFault {
    /// The configured CA file could not be used.
    #[error("CA certificate {path}: {why}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A CA certificate of the domain's trust bundle could not be used.
    #[error("CA certificate of the trust bundle: {why}")]
    Bundle {
        /// Why.
        why: String,
    },
    /// The configured server name is none.
    #[error("server_name {name} is neither a DNS name nor an address")]
    ServerName {
        /// What is configured.
        name: String,
    },
    /// This node's own certificate or key cannot be used.
    #[error("client certificate: {why}")]
    Identity {
        /// Why.
        why: String,
    },
    /// TCP or TLS failed, also because the verifier's certificate is not under the pinned CA.
    #[error("connecting to {address}: {source}")]
    Connect {
        /// The verifier's address.
        address: String,
        /// What happened.
        source: io::Error,
    },
    /// No connection in time.
    #[error("no connection to {address} within {within_ms} ms")]
    TimedOut {
        /// The verifier's address.
        address: String,
        /// How long was waited.
        within_ms: u128,
    },
    /// Not one whole TLS 1.3 handshake with HTTP/2: its exporter would not bind.
    #[error("connection to {address} is not one full TLS 1.3 handshake with h2")]
    Handshake {
        /// The verifier's address.
        address: String,
    },
    /// HTTP/2 over the connection failed.
    #[error("HTTP/2 with {address}: {why}")]
    Http {
        /// The verifier's address.
        address: String,
        /// Why.
        why: String,
    },
}

impl ConnectFault {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Connect { source, .. } if is_unproven(source) => "fault.verifier_unproven",
            Self::Authority { .. } | Self::ServerName { .. } => "fault.configuration",
            Self::Bundle { .. } => "fault.verifier_unproven",
            Self::Identity { .. } => "fault.client_certificate",
            Self::Connect { .. } | Self::TimedOut { .. } | Self::Handshake { .. } | Self::Http { .. } => {
                "fault.verifier_unreachable"
            }
        }
    }
}

/// Somebody answered, and its certificate is not under the CA that the domain is pinned by.
fn is_unproven(source: &io::Error) -> bool {
    let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// What this node shows the verifier: the certificate granted at enrolment and the record key in it.
pub struct ClientIdentity<'a> {
    /// PEM chain.
    pub certificate_pem: &'a [u8],
    /// PKCS#8 of the record key.
    pub key_pkcs8: &'a [u8],
}

impl ClientIdentity<'_> {
    /// Whether it can be shown at all: the certificate parses and is for this key.
    ///
    /// # Errors
    /// [`ConnectFault::Identity`].
    pub fn usable(&self) -> Result<(), ConnectFault> {
        client_config(RootCertStore::empty(), Some(self)).map(|_| ())
    }
}

/// One connection: what is asked over `channel` is bound to `exporter`. It never reconnects by itself, because
/// another connection has another exporter.
#[derive(Clone, Debug)]
pub struct Connection {
    /// For tonic's clients.
    pub channel: Channel,
    /// TLS exporter value (RFC 8446 §7.5).
    pub exporter: [u8; CHANNEL_BYTES],
}

impl Connection {
    /// Connects to the domain's listener for enrolment: the server proves itself, this node has no certificate yet.
    ///
    /// # Errors
    /// [`ConnectFault`].
    pub async fn for_enrolment(domain: &DomainConfig) -> Result<Self, ConnectFault> {
        open(&domain.enrolment, &domain.server_name, client_config(configured(&domain.ca)?, None)?).await
    }

    /// Connects to the domain's listener for nodes. The verifier must be under one of the `authorities` (DER), the CA
    /// certificates of the domain's newest trust bundle; under the configured CA where that names none.
    ///
    /// # Errors
    /// [`ConnectFault`].
    pub async fn for_node<D: AsRef<[u8]>>(
        domain: &DomainConfig,
        authorities: &[D],
        identity: &ClientIdentity<'_>,
    ) -> Result<Self, ConnectFault> {
        let roots = if authorities.is_empty() { configured(&domain.ca)? } else { bundled(authorities)? };
        open(&domain.nodes, &domain.server_name, client_config(roots, Some(identity))?).await
    }
}

fn configured(ca: &Path) -> Result<RootCertStore, ConnectFault> {
    let authority = |why: String| ConnectFault::Authority { path: ca.to_owned(), why };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).map_err(|e| authority(e.to_string()))?;
    for certificate in certificates {
        roots.add(certificate.map_err(|e| authority(e.to_string()))?).map_err(|e| authority(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(authority("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

fn bundled<D: AsRef<[u8]>>(authorities: &[D]) -> Result<RootCertStore, ConnectFault> {
    let mut roots = RootCertStore::empty();
    for der in authorities {
        let added = roots.add(CertificateDer::from(der.as_ref()).into_owned());
        added.map_err(|error| ConnectFault::Bundle { why: error.to_string() })?;
    }
    Ok(roots)
}

fn client_config(roots: RootCertStore, identity: Option<&ClientIdentity<'_>>) -> Result<ClientConfig, ConnectFault> {
    let unusable = |error: rustls::Error| ConnectFault::Identity { why: error.to_string() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.certificate_pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| ConnectFault::Identity { why: e.to_string() })?;
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key_pkcs8)).clone_key();
            builder.with_client_auth_cert(chain, key).map_err(unusable)?
        }
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    // SECURITY.md P3: a resumed session would carry an older handshake's keys, early data none of its own.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

async fn open(address: &str, server_name: &str, config: ClientConfig) -> Result<Connection, ConnectFault> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|_| ConnectFault::ServerName { name: server_name.to_owned() })?;
    let connecting = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    };
    let stream = match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(ConnectFault::Connect { address: address.to_owned(), source }),
        Err(_) => {
            let within_ms = CONNECT_WITHIN.as_millis();
            return Err(ConnectFault::TimedOut { address: address.to_owned(), within_ms });
        }
    };
    let exporter = exporter_of_full_handshake(&stream, address)?;
    let channel = over(stream, address).await?;
    Ok(Connection { channel, exporter })
}

fn exporter_of_full_handshake(
    stream: &TlsStream<TcpStream>,
    address: &str,
) -> Result<[u8; CHANNEL_BYTES], ConnectFault> {
    let session = stream.get_ref().1;
    let full = matches!(session.handshake_kind(), Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest));
    let modern = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let exported = session.export_keying_material([0u8; CHANNEL_BYTES], CHANNEL_LABEL, None);
    match exported {
        Ok(exporter) if full && modern && session.alpn_protocol() == Some(ALPN_H2) => Ok(exporter),
        Ok(_) | Err(_) => Err(ConnectFault::Handshake { address: address.to_owned() }),
    }
}

/// HTTP/2 over this one stream. TLS is done below tonic, hence the plain scheme.
async fn over(stream: TlsStream<TcpStream>, address: &str) -> Result<Channel, ConnectFault> {
    let http = |why: String| ConnectFault::Http { address: address.to_owned(), why };
    let endpoint = Endpoint::try_from(format!("http://{address}"))
        .map_err(|e| http(e.to_string()))?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let once = Mutex::new(Some(stream));
    endpoint
        .connect_with_connector(tower::service_fn(move |_| {
            let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        }))
        .await
        .map_err(|e| http(e.to_string()))
}
