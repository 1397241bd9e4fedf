//! `grpc.health.v1` (gRPC Health Checking Protocol): what `/healthz` says, where only gRPC is spoken. Whoever may open a
//! connection hears whether anything could be released now, and nothing of why not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::desk::Desk;

/// How often a watcher's answer is made anew; the store's own changes wake it at once.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Longest request: a service's name.
const REQUEST_CAP_BYTES: usize = 1024;

/// Answers for one listener.
#[derive(Clone)]
pub struct HealthService {
    desk: Arc<Desk>,
    /// The service that this listener serves, by its full name.
    service: &'static str,
    stopping: watch::Receiver<bool>,
}

impl HealthService {
    /// Answers for `service`, and for the server as a whole, until `stopping` turns true.
    pub fn new(desk: Arc<Desk>, service: &'static str, stopping: watch::Receiver<bool>) -> HealthServer<Self> {
        let answers = Self { desk, service, stopping };
        HealthServer::new(answers).max_decoding_message_size(REQUEST_CAP_BYTES)
    }

    async fn answer(&self) -> HealthCheckResponse {
        let healthy = self.desk.health().await.problems.is_empty();
        let status = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
        HealthCheckResponse { status: i32::from(status) }
    }

    fn knows(&self, request: &HealthCheckRequest) -> bool {
        request.service.is_empty() || request.service == self.service
    }

    /// Tells `watcher` every change until it goes, or the service stops.
    async fn tell(mut self, watcher: mpsc::Sender<Result<HealthCheckResponse, Status>>) {
        let mut store = self.desk.parts.store.health();
        let mut told = None;
        loop {
            let answer = self.answer().await;
            if told != Some(answer.status) {
                told = Some(answer.status);
                if watcher.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
                () = watcher.closed() => return,
                changed = store.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_AGAIN_AFTER) => {}
            }
        }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.knows(request.get_ref()) {
            return Err(Status::not_found("no such service here"));
        }
        Ok(Response::new(self.answer().await))
    }

    /// A service that is not here may come: it is told as unknown, and the call goes on (protocol of `Watch`).
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (watcher, answers) = mpsc::channel(1);
        if self.knows(request.get_ref()) {
            tokio::spawn(self.clone().tell(watcher));
        } else {
            let unknown = HealthCheckResponse { status: i32::from(ServingStatus::ServiceUnknown) };
            let mut stopping = self.stopping.clone();
            tokio::spawn(async move {
                if watcher.send(Ok(unknown)).await.is_ok() {
                    tokio::select! {
                        _ = stopping.wait_for(|stopping| *stopping) => {}
                        () = watcher.closed() => {}
                    }
                }
            });
        }
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
