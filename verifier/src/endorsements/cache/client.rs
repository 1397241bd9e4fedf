//! One HTTP request to a configured cache: answer capped before it is kept, one deadline over all of it, no redirects.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::request::Request;
use crate::config::CacheUrl;
use crate::endorsements::document::DOCUMENT_CAP_BYTES;

/// Longest head of an answer: it has a chain of certificates in it.
const HEAD_CAP_BYTES: usize = 64 * 1024;
/// How long a cache that is too busy is left alone when it does not say.
const BUSY_S: u64 = 60;
/// Longest it may ask to be left alone.
const BUSY_CAP_S: u64 = 3600;

/// Why a cache gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailure {
    /// It has no such thing.
    #[error("the cache has none")]
    NotFound,
    /// It asked to be left alone.
    #[error("the cache is busy for {retry_after_s} s")]
    Busy {
        /// For how long.
        retry_after_s: u64,
    },
    /// It answered with another status.
    #[error("the cache answered with status {status}")]
    Status {
        /// HTTP status code.
        status: u16,
    },
    /// The answer is longer than any endorsement.
    #[error("the cache's answer is longer than {DOCUMENT_CAP_BYTES} bytes")]
    TooLarge,
    /// No whole answer in time.
    #[error("the cache gave no whole answer in {deadline_ms} ms")]
    Deadline {
        /// The deadline.
        deadline_ms: u64,
    },
    /// No connection, or it broke.
    #[error("the cache cannot be reached: {why}")]
    Unreachable {
        /// The transport's reason.
        why: String,
    },
    /// The answer is not what was asked for.
    #[error("the cache answered with something else: {why}")]
    Wrong {
        /// What it was.
        why: String,
    },
    /// We may not ask again yet.
    #[error("too many requests to the cache")]
    RateLimited,
    /// What it answered could not be stored.
    #[error("the cache's answer could not be stored: {why}")]
    NotStored {
        /// The store's reason.
        why: String,
    },
}

/// An answer with status 200.
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// PEM of the issuers, where the service sends them in a header.
    pub(super) chain: Option<String>,
}

/// A client of one cache.
#[derive(Debug, Clone)]
pub(super) struct CacheClient {
    base: CacheUrl,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    deadline: Duration,
}

impl CacheClient {
    /// A client of the cache at `base`; an https one is known by `roots`.
    pub(super) fn new(base: CacheUrl, roots: &[Vec<u8>], deadline: Duration) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root.as_slice())).map_err(|error| error.to_string())?;
        }
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1)
            .http1_max_buf_size(HEAD_CAP_BYTES)
            .build(connector);
        Ok(Self { base, client, deadline })
    }

    pub(super) fn base(&self) -> &CacheUrl {
        &self.base
    }

    /// Asks once.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, FetchFailure> {
        let deadline_ms = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
        tokio::time::timeout(self.deadline, self.exchange(request))
            .await
            .unwrap_or(Err(FetchFailure::Deadline { deadline_ms }))
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, FetchFailure> {
        let unreachable = |why: String| FetchFailure::Unreachable { why };
        let uri = format!("{}{}", self.base.as_str(), request.path());
        let uri = uri.parse::<Uri>().map_err(|error| unreachable(error.to_string()))?;
        let http = HttpRequest::get(uri)
            .header(header::USER_AGENT, concat!("attestd-verifier/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| unreachable(error.to_string()))?;
        let response = self.client.request(http).await.map_err(|error| unreachable(causes(&error)))?;
        let (head, body) = response.into_parts();
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(FetchFailure::NotFound),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Err(FetchFailure::Busy { retry_after_s: retry_after_s(&head.headers) });
            }
            other => return Err(FetchFailure::Status { status: other.as_u16() }),
        }
        let chain = match request.chain_header().and_then(|name| head.headers.get(name)) {
            Some(value) => Some(percent_decoded(value.as_bytes()).ok_or_else(|| FetchFailure::Wrong {
                why: "its chain of issuers is not percent-encoded text".to_owned(),
            })?),
            None => None,
        };
        let collected = Limited::new(body, DOCUMENT_CAP_BYTES).collect().await.map_err(|error| match error
            .downcast_ref::<LengthLimitError>(
        ) {
            Some(_) => FetchFailure::TooLarge,
            None => unreachable(error.to_string()),
        })?;
        Ok(Answer { body: collected.to_bytes(), chain })
    }
}

/// Seconds of a Retry-After header (RFC 9110 §10.2.3); its date form counts as not saying.
fn retry_after_s(headers: &HeaderMap) -> u64 {
    let text = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(BUSY_S).clamp(1, BUSY_CAP_S)
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

/// Percent-encoded text (RFC 3986 §2.1).
fn percent_decoded(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>()?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).ok()?;
        out.extend(byte);
        rest = after;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_in_headers_are_percent_encoded() {
        assert_eq!(percent_decoded(b"a%0Ab%2B+c").as_deref(), Some("a\nb++c"));
        for bad in [b"%".as_slice(), b"%4", b"%zz", b"%ff"] {
            assert_eq!(percent_decoded(bad), None);
        }
    }
}
