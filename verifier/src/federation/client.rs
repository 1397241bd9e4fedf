//! HTTPS to one partner: its server known by what was pinned, answers capped before they are kept, one deadline over all
//! of an exchange, no redirects.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, Uri, header};
use evidence::names::DomainName;
use governance::partner_endpoint::{EndpointProfile, PartnerEndpoint};
use governance::trust_bundle::TrustBundle;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::messages::CBOR_TYPE;
use super::spiffe::SpiffeServer;

/// Longest head of an answer.
const HEAD_CAP_BYTES: usize = 16 * 1024;
/// Longest exchange.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How much of a transport's own words is kept.
const CAUSE_CAP_CHARS: usize = 200;

/// Why an exchange with a partner came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFailure {
    /// No connection to a server that is known to be the partner's, or it broke.
    #[error("the partner cannot be reached: {why}")]
    Unreachable {
        /// The transport's reason.
        why: String,
    },
    /// Another status than 200.
    #[error("the partner answered {path} with status {status}")]
    Status {
        /// What was asked for.
        path: String,
        /// HTTP status code.
        status: u16,
    },
    /// The answer is longer than its cap.
    #[error("the partner's answer to {path} is longer than {cap_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        path: String,
        /// The cap.
        cap_bytes: usize,
    },
    /// No whole answer in time.
    #[error("the partner gave no whole answer to {path} in time")]
    Deadline {
        /// What was asked for.
        path: String,
    },
    /// The answer is not what was asked for.
    #[error("the partner answered with something else: {why}")]
    Wrong {
        /// What was wrong.
        why: String,
    },
    /// Judged, and refused.
    #[error("{0}")]
    Refused(#[from] governance::GovernanceDenial),
    /// What is in its log does not prove what it must.
    #[error("{0}")]
    Unproven(#[from] audit::AuditDenial),
}

impl ExchangeFailure {
    /// An answer of another shape.
    pub(super) fn wrong(why: impl std::fmt::Display) -> Self {
        Self::Wrong { why: shown(&why.to_string()) }
    }
}

/// A client of one partner.
#[derive(Clone, Debug)]
pub(super) struct PartnerClient {
    base: String,
    client: Https,
}

/// A client of HTTPS servers that are known to be one partner's.
pub(crate) type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

impl PartnerClient {
    /// A client of the partner at `endpoint`, known by its held bundle or, where the endpoint says so, by `web_roots`.
    pub(super) fn new(
        endpoint: &PartnerEndpoint,
        partner: &DomainName,
        bundle: &TrustBundle,
        web_roots: &[Vec<u8>],
    ) -> Result<Self, ExchangeFailure> {
        Ok(Self { base: endpoint.url.to_string(), client: https(endpoint, partner, bundle, web_roots)? })
    }

    /// Asks for a document of at most `cap_bytes`.
    pub(super) async fn get(&self, path: &str, cap_bytes: usize) -> Result<Bytes, ExchangeFailure> {
        self.timed(Method::GET, path, Bytes::new(), cap_bytes).await
    }

    /// Hands a message in, and reads the answer of at most `cap_bytes`.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>, cap_bytes: usize) -> Result<Bytes, ExchangeFailure> {
        self.timed(Method::POST, path, body.into(), cap_bytes).await
    }

    async fn timed(&self, method: Method, path: &str, body: Bytes, cap_bytes: usize) -> Result<Bytes, ExchangeFailure> {
        let late = || ExchangeFailure::Deadline { path: path.to_owned() };
        tokio::time::timeout(DEADLINE, self.exchange(method, path, body, cap_bytes))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        cap_bytes: usize,
    ) -> Result<Bytes, ExchangeFailure> {
        let unreachable = |why: String| ExchangeFailure::Unreachable { why: shown(&why) };
        let uri = format!("{}{path}", self.base).parse::<Uri>().map_err(|error| unreachable(error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::USER_AGENT, concat!("attestd-verifier/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, CBOR_TYPE)
            .body(Full::new(body))
            .map_err(|error| unreachable(error.to_string()))?;
        let response = self.client.request(request).await.map_err(|error| unreachable(causes(&error)))?;
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(ExchangeFailure::Status { path: path.to_owned(), status: head.status.as_u16() });
        }
        let collected = Limited::new(body, cap_bytes).collect().await.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                ExchangeFailure::TooLarge { path: path.to_owned(), cap_bytes }
            } else {
                unreachable(error.to_string())
            }
        })?;
        Ok(collected.to_bytes())
    }
}

/// The client of a partner at `endpoint`, known by its held bundle or, where the endpoint says so, by `web_roots`.
pub(crate) fn https(
    endpoint: &PartnerEndpoint,
    partner: &DomainName,
    bundle: &TrustBundle,
    web_roots: &[Vec<u8>],
) -> Result<Https, ExchangeFailure> {
    let unusable = |why: String| ExchangeFailure::Unreachable { why: shown(&why) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?;
    let tls = match endpoint.profile {
        EndpointProfile::HttpsSpiffe => {
            let roots = roots(bundle.ca.iter().map(|der| der.as_slice())).map_err(unusable)?;
            let server = SpiffeServer::new(partner.verifier_spiffe_id(), roots, provider);
            builder.dangerous().with_custom_certificate_verifier(server).with_no_client_auth()
        }
        EndpointProfile::HttpsWeb => {
            let roots = roots(web_roots.iter().map(Vec::as_slice)).map_err(unusable)?;
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(1)
        .http1_max_buf_size(HEAD_CAP_BYTES)
        .build(connector);
    Ok(client)
}

fn roots<'d>(certificates: impl Iterator<Item = &'d [u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for der in certificates {
        roots.add(CertificateDer::from(der.to_vec())).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no CA certificate to know it by".to_owned()) } else { Ok(roots) }
}

/// An error with what caused it: the outermost alone says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Text that may hold a peer's words, for tables and logs.
fn shown(text: &str) -> String {
    text.chars().filter(|c| *c == ' ' || c.is_ascii_graphic()).take(CAUSE_CAP_CHARS).collect()
}
