//! What a domain publishes for everybody: its trust bundle in both forms, its governance states each with the proof that
//! it is logged, its revocations, its log; and the one thing that others may say, that they have something new.
//!
//! Nobody is authenticated here: everything that is given out is signed, and a hint only makes us look ourselves.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit::tile::TileId;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use evidence::cbor;
use serde::Serialize;
use serde_bytes::ByteBuf;

use super::jwks;
use super::messages::{
    BUNDLE_PATH, CBOR_TYPE, HINT_CAP_BYTES, HINT_PATH, Hint, LoggedState, REVOCATIONS_PATH, SPIFFE_PATH, STATE_PATH,
    STATES_PAGE, STATES_PATH, read,
};
use super::sync::Following;
use crate::governance_state::{self, StateInForce};
use crate::governor::Governor;
use crate::log::Log;
use crate::rate::PerPeer;
use crate::store::{Store, StoreError};
use crate::tls::Peer;

/// Longest work on one request. A hint waits for a pull.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);
/// Requests that one address may make at once, and then one for each of these.
const BURST: u32 = 512;
const REFILL: Duration = Duration::from_millis(5);
/// Hints that one address may give at once, and then one for each of these.
const HINT_BURST: u32 = 64;
const HINT_REFILL: Duration = Duration::from_millis(250);

/// What the routes answer from.
#[derive(Clone)]
pub struct Surface {
    /// The rules and partners.
    pub governor: Governor,
    /// The tables.
    pub store: Store,
    /// The log.
    pub log: Log,
    /// Folder of its published files.
    pub tiles: PathBuf,
    /// Looks at partners.
    pub sync: Following,
}

/// Nothing to give out: not there, or not to be had now.
#[derive(Debug)]
enum Nothing {
    Absent,
    Failed,
}

impl IntoResponse for Nothing {
    fn into_response(self) -> Response {
        match self {
            Self::Absent => StatusCode::NOT_FOUND,
            Self::Failed => StatusCode::SERVICE_UNAVAILABLE,
        }
        .into_response()
    }
}

impl From<StoreError> for Nothing {
    fn from(fault: StoreError) -> Self {
        tracing::warn!(code = fault.code(), %fault, "the public surface cannot answer");
        Self::Failed
    }
}

/// The routes. Others may be merged with them; [`guarded`] goes around all.
pub fn routes(surface: Surface) -> Router {
    let hints = Arc::new(PerPeer::<IpAddr>::new(HINT_BURST, HINT_REFILL));
    Router::new()
        .route(SPIFFE_PATH, get(spiffe_bundle))
        .route(BUNDLE_PATH, get(bundle))
        .route(STATE_PATH, get(newest_state))
        .route(&format!("{STATE_PATH}/{{epoch}}"), get(state_of_epoch))
        .route(&format!("{STATES_PATH}/{{first}}/{{last}}"), get(states))
        .route(REVOCATIONS_PATH, get(revocations))
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route(HINT_PATH, post(hint))
        .layer(Extension(hints))
        .layer(DefaultBodyLimit::max(HINT_CAP_BYTES))
        .with_state(surface)
}

/// Bounds how often one address asks, and how long an answer takes.
pub fn guarded(routes: Router) -> Router {
    let rate = Arc::new(PerPeer::<IpAddr>::new(BURST, REFILL));
    routes.layer(middleware::from_fn(move |Extension(peer): Extension<Peer>, request: Request, next: Next| {
        let admitted = rate.admits(&peer.address.ip());
        async move {
            if !admitted {
                return StatusCode::TOO_MANY_REQUESTS.into_response();
            }
            let answer = tokio::time::timeout(REQUEST_DEADLINE, next.run(request)).await;
            answer.unwrap_or_else(|_| StatusCode::GATEWAY_TIMEOUT.into_response())
        }
    }))
}

async fn spiffe_bundle(State(surface): State<Surface>) -> Result<Response, Nothing> {
    let snapshot = surface.governor.current();
    let document = jwks::bundle(snapshot.bundle.verified.bundle()).map_err(|error| {
        tracing::error!(%error, "the bundle has no SPIFFE form");
        Nothing::Failed
    })?;
    Ok(Json(document).into_response())
}

async fn bundle(State(surface): State<Surface>) -> Result<Response, Nothing> {
    let snapshot = surface.governor.current();
    document(&byte_strings(snapshot.bundle.signatures.iter().cloned()))
}

async fn newest_state(State(surface): State<Surface>, RawQuery(query): RawQuery) -> Result<Response, Nothing> {
    let since = query.as_deref().and_then(|query| query.strip_prefix("since="));
    let since = since.map_or(Ok(0), str::parse).map_err(|_| Nothing::Absent)?;
    let newest = governance_state::newest(&surface.store).await?.ok_or(Nothing::Absent)?;
    logged_state(&surface, newest, since).await
}

async fn state_of_epoch(State(surface): State<Surface>, Path(epoch): Path<u64>) -> Result<Response, Nothing> {
    let state = governance_state::at_epoch(&surface.store, epoch).await?.ok_or(Nothing::Absent)?;
    logged_state(&surface, state, 0).await
}

async fn logged_state(surface: &Surface, state: StateInForce, since: u64) -> Result<Response, Nothing> {
    let entry = surface.log.entry(state.log_index).await?.ok_or(Nothing::Failed)?;
    let (logged, growth) = surface.log.prove_since(&entry, since)?;
    let receipt = logged.receipt.encode().map_err(|_| Nothing::Failed)?;
    document(&LoggedState { state: ByteBuf::from(state.cose), receipt: ByteBuf::from(receipt), growth })
}

async fn states(State(surface): State<Surface>, Path((first, last)): Path<(u64, u64)>) -> Result<Response, Nothing> {
    if last < first || last.saturating_sub(first) >= STATES_PAGE {
        return Err(Nothing::Absent);
    }
    let states = governance_state::range(&surface.store, first, last).await?;
    let payloads = states.iter().map(|state| evidence::cose::claimed_payload(&state.cose));
    let payloads = payloads.collect::<Result<Vec<_>, _>>().map_err(|_| Nothing::Failed)?;
    document(&byte_strings(payloads))
}

async fn revocations(State(surface): State<Surface>) -> Result<Response, Nothing> {
    document(&byte_strings(surface.governor.signed_revocations().await?))
}

async fn checkpoint(State(surface): State<Surface>) -> Result<Response, Nothing> {
    file(surface.tiles.join("checkpoint"), "text/plain; charset=utf-8").await
}

async fn tile(State(surface): State<Surface>, Path(path): Path<String>) -> Result<Response, Nothing> {
    let id = TileId::parse(&format!("tile/{path}")).map_err(|_| Nothing::Absent)?;
    file(surface.tiles.join(id.path()), "application/octet-stream").await
}

async fn hint(
    State(surface): State<Surface>,
    Extension(peer): Extension<Peer>,
    Extension(hints): Extension<Arc<PerPeer<IpAddr>>>,
    body: Bytes,
) -> Result<Response, StatusCode> {
    if !hints.admits(&peer.address.ip()) {
        return Err(StatusCode::TOO_MANY_REQUESTS);
    }
    let hint: Hint = read(&body, HINT_CAP_BYTES).map_err(|_| StatusCode::BAD_REQUEST)?;
    let held = surface.sync.look(&hint.domain, hint.epoch).await.ok_or(StatusCode::NOT_FOUND)?;
    document(&held).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

async fn file(path: PathBuf, kind: &'static str) -> Result<Response, Nothing> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(([(header::CONTENT_TYPE, kind)], bytes).into_response()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Nothing::Absent),
        Err(error) => Err(StoreError::from_io("reading the published log", &error).into()),
    }
}

fn byte_strings(bytes: impl IntoIterator<Item = Vec<u8>>) -> Vec<ByteBuf> {
    bytes.into_iter().map(ByteBuf::from).collect()
}

fn document<T: Serialize>(value: &T) -> Result<Response, Nothing> {
    let bytes = cbor::to_vec(value).map_err(|_| Nothing::Failed)?;
    Ok(([(header::CONTENT_TYPE, CBOR_TYPE)], bytes).into_response())
}
