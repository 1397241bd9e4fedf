//! The admin listener: is it healthy, what has it counted, and by which key do its results as JWT verify. Nothing here
//! changes anything.

use std::future::Future;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::desk::Desk;
use crate::ear_key::JWK_SET_TYPE;

/// What stops this process from releasing anything, if something does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// "serving" or "failing".
    pub status: &'static str,
    /// Fault codes with what is behind them.
    pub problems: Vec<Problem>,
}

/// One reason to be unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Fault code.
    pub code: &'static str,
    /// For the operator.
    pub what: String,
}

impl Health {
    /// Healthy when there is no problem.
    pub fn of(problems: Vec<Problem>) -> Self {
        Self { status: if problems.is_empty() { "serving" } else { "failing" }, problems }
    }
}

/// Serves `/healthz`, `/metrics` and `/jwks.json` until `stopped`.
pub async fn serve(
    listener: TcpListener,
    desk: Arc<Desk>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/jwks.json", get(jwks))
        .with_state(desk);
    axum::serve(listener, routes).with_graceful_shutdown(stopped).await
}

async fn healthz(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    let health = desk.health().await;
    let status = if health.problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}

async fn jwks(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    match desk.parts.ear.jwk_set() {
        Ok(set) => ([(header::CONTENT_TYPE, JWK_SET_TYPE)], set).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(State(desk): State<Arc<Desk>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    desk.count_witnesses();
    ([(header::CONTENT_TYPE, kind)], desk.metrics().to_text())
}
