//! One request to one witness: its answer capped before it is kept, one deadline over all of it, no redirects.

use std::sync::Arc;
use std::time::Duration;

use audit::note::{NoteKey, NoteSignature};
use audit::witness::{self, ANSWER_CAP_BYTES, AddCheckpoint, SIZE_TYPE};
use axum::http::{Request, StatusCode, Uri, header};
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::partner_endpoint::PartnerEndpoint;
use governance::trust_bundle::TrustBundle;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use super::serve::PREFIX;
use crate::federation::{self, Https};

/// A domain that cosigns our log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessPeer {
    /// Which.
    pub domain: DomainName,
    /// The keys that its cosignatures verify by, under its witness name.
    pub keys: Vec<NoteKey>,
    /// Where it answers.
    pub at: WitnessAt,
}

/// Where a witness answers, and by what it is known there. `/add-checkpoint` comes after the submission prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessAt {
    /// Under a partner's public surface, by TLS, known by its bundle or by the roots of the web's PKI.
    Partner {
        /// The surface.
        endpoint: PartnerEndpoint,
        /// The partner's newest bundle.
        bundle: Box<TrustBundle>,
        /// CA certificates (DER) for endpoints of profile `https_web`.
        web_roots: Arc<Vec<Vec<u8>>>,
    },
    /// At this submission prefix by plain HTTP: between the processes of one machine. Cosignatures prove themselves.
    Plain(String),
}

/// Longest wait for one answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why a witness gave no cosignature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskFailure {
    /// No connection, or it broke, or nothing whole came in time.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It holds another size than the proof starts at.
    #[error("it holds our log at {0} entries")]
    Holds(u64),
    /// It has cosigned another tree of this size, or none that ours continues.
    #[error("it says that our log is not the one it cosigned (status {0})")]
    Contradicts(u16),
    /// It does not watch us, or answered with something else.
    #[error("status {status}: {what}")]
    Status {
        /// HTTP status code.
        status: u16,
        /// What it said, shortened and printable.
        what: String,
    },
    /// Its answer holds no cosignature of its own on what was asked about.
    #[error("its answer does not count: {0}")]
    NotCosigned(audit::AuditDenial),
}

/// A client of one witness.
#[derive(Debug, Clone)]
pub(super) struct WitnessClient {
    uri: Uri,
    client: Https,
}

impl WitnessClient {
    /// A client of this witness.
    pub(super) fn new(peer: &WitnessPeer) -> Result<Self, String> {
        let (prefix, client) = match &peer.at {
            WitnessAt::Partner { endpoint, bundle, web_roots } => {
                let client = federation::https(endpoint, &peer.domain, bundle, web_roots);
                (format!("{}{PREFIX}", endpoint.url), client.map_err(|failure| failure.to_string())?)
            }
            WitnessAt::Plain(prefix) => (prefix.clone(), plain()?),
        };
        let uri = format!("{prefix}/add-checkpoint");
        Ok(Self { uri: uri.parse().map_err(|_| format!("{uri} is no URL"))?, client })
    }

    /// Asks once.
    pub(super) async fn ask(
        &self,
        request: &AddCheckpoint,
        keys: &[NoteKey],
        now: UnixSeconds,
    ) -> Result<NoteSignature, AskFailure> {
        let late = AskFailure::Unreachable(format!("no whole answer in {} ms", DEADLINE.as_millis()));
        tokio::time::timeout(DEADLINE, self.exchange(request, keys, now)).await.unwrap_or(Err(late))
    }

    async fn exchange(
        &self,
        request: &AddCheckpoint,
        keys: &[NoteKey],
        now: UnixSeconds,
    ) -> Result<NoteSignature, AskFailure> {
        let http = Request::post(self.uri.clone())
            .header(header::USER_AGENT, concat!("attestd-verifier/", env!("CARGO_PKG_VERSION")))
            .body(Full::from(request.encode()))
            .map_err(|error| AskFailure::Unreachable(error.to_string()))?;
        let response = self.client.request(http).await.map_err(|error| AskFailure::Unreachable(causes(&error)))?;
        let (head, body) = response.into_parts();
        let names_size = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == SIZE_TYPE);
        let body = Limited::new(body, ANSWER_CAP_BYTES).collect().await;
        let body = body.map_err(|error| AskFailure::Unreachable(error.to_string()))?.to_bytes();
        match head.status {
            StatusCode::OK => witness::read_answer(&request.note, &body, keys, now).map_err(AskFailure::NotCosigned),
            StatusCode::CONFLICT if names_size => match size(&body) {
                Some(size) if size != request.old => Err(AskFailure::Holds(size)),
                Some(_) | None => Err(AskFailure::Contradicts(head.status.as_u16())),
            },
            StatusCode::UNPROCESSABLE_ENTITY => Err(AskFailure::Contradicts(head.status.as_u16())),
            other => Err(AskFailure::Status { status: other.as_u16(), what: printable(&body) }),
        }
    }
}

/// A client that knows no server by a certificate, and so reaches none by TLS.
fn plain() -> Result<Https, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(1).build(connector))
}

/// A decimal size and a newline (tlog-witness, "add-checkpoint").
fn size(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?.strip_suffix('\n')?;
    text.parse().ok().filter(|size: &u64| size.to_string() == text)
}

fn printable(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(80).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_one_spelling() {
        assert_eq!(size(b"0\n"), Some(0));
        assert_eq!(size(b"20852163\n"), Some(20_852_163));
        for bad in [&b""[..], b"\n", b"7", b"07\n", b"+7\n", b"7\n\n", b"-7\n", b"7 \n", b"\xff\n"] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }
}
