//! Mutual TLS as a user of SVIDs does it: the chain by the peer's trust bundle, the peer by its SPIFFE ID, no host name.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};
use spiffe::X509Svid;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use verifier::federation::SpiffeServer;

pub(crate) async fn accept(
    svid: &X509Svid,
    bundle: &[Vec<u8>],
    stream: TcpStream,
) -> io::Result<server::TlsStream<TcpStream>> {
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(bundle)), Arc::clone(&provider)).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.unwrap().with_client_cert_verifier(verifier).with_single_cert(chain(svid), key(svid)).unwrap();
    TlsAcceptor::from(Arc::new(config)).accept(stream).await
}

/// To the server of this SPIFFE ID.
pub(crate) async fn connect(
    peer: &str,
    svid: &X509Svid,
    bundle: &[Vec<u8>],
    stream: TcpStream,
) -> io::Result<client::TlsStream<TcpStream>> {
    let provider = Arc::new(default_provider());
    let config =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&rustls::version::TLS13]);
    let verifier = SpiffeServer::new(peer.to_owned(), roots(bundle), provider);
    let config = config.unwrap().dangerous().with_custom_certificate_verifier(verifier);
    let config = config.with_client_auth_cert(chain(svid), key(svid)).unwrap();
    let anybody = ServerName::try_from("workload.invalid").unwrap();
    TlsConnector::from(Arc::new(config)).connect(anybody, stream).await
}

/// The peer's SPIFFE ID.
pub(crate) fn peer(chain: Option<&[CertificateDer<'_>]>) -> String {
    spiffe::cert::spiffe_id_from_der(&chain.unwrap()[0]).unwrap().to_string()
}

/// Why a certificate was refused.
pub(crate) fn why(error: &io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(why)) => format!("{why:?}"),
        other => format!("{other:?}"),
    }
}

fn chain(svid: &X509Svid) -> Vec<CertificateDer<'static>> {
    svid.cert_chain().iter().map(|certificate| CertificateDer::from(certificate.as_bytes().to_vec())).collect()
}

fn key(svid: &X509Svid) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec()).into()
}

fn roots(bundle: &[Vec<u8>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    bundle.iter().for_each(|der| roots.add(CertificateDer::from(der.clone())).unwrap());
    roots
}
