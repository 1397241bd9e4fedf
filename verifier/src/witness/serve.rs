//! `POST /witness/add-checkpoint` (C2SP tlog-witness). Nobody is authenticated but by the log's signature.

use std::sync::Arc;

use audit::witness::{REQUEST_CAP_BYTES, SIZE_TYPE};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::cosigned::Quorum;
use super::keeper::{Keeper, NotCosigned};

/// The submission prefix, after where the public surface is.
pub const PREFIX: &str = "/witness";

/// What the public listener serves for the witness.
pub fn routes(keeper: Arc<Keeper>) -> Router {
    Router::new()
        .route(&format!("{PREFIX}/add-checkpoint"), post(add_checkpoint))
        .layer(DefaultBodyLimit::max(REQUEST_CAP_BYTES))
        .with_state(keeper)
}

/// The newest checkpoint of our own log that enough witnesses cosigned, at `/log/checkpoint`. The one at `/checkpoint` is
/// newer, and our own word alone.
pub fn cosigned_routes(quorum: Quorum) -> Router {
    Router::new().route("/log/checkpoint", get(cosigned_checkpoint)).with_state(quorum)
}

async fn cosigned_checkpoint(State(quorum): State<Quorum>) -> Response {
    match quorum.newest() {
        Some(cosigned) => (StatusCode::OK, cosigned.note().to_owned()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn add_checkpoint(State(keeper): State<Arc<Keeper>>, body: Bytes) -> Response {
    match keeper.add(&body).await {
        Ok(line) => (StatusCode::OK, line).into_response(),
        Err(not) => {
            tracing::info!(code = not.code(), %not, "a checkpoint is not cosigned");
            refusal(&not)
        }
    }
}

fn refusal(not: &NotCosigned) -> Response {
    let NotCosigned::Refused(refusal) = not else {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", not.code())).into_response();
    };
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match refusal.held() {
        Some(size) => (status, [(header::CONTENT_TYPE, SIZE_TYPE)], format!("{size}\n")).into_response(),
        None => (status, format!("{}\n", refusal.code())).into_response(),
    }
}
