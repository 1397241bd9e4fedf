//! Between HTTP/2 and the services: each request takes a place of its crowd until it is answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::Server;
use tower::Service;

use super::crowd::Patience;
use super::peers::Arrived;

/// A server for clients who may mean harm: what a connection can make us keep is bounded. It sends no pings: a process that ends
/// closes its socket, and one that stands still, by a signal or an operator's pause, is not gone.
pub(super) fn server(patience: Patience) -> Server {
    Server::builder()
        .http2_max_header_list_size(HEADER_LIST_CAP_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .timeout(patience.answer)
}

/// A service that answers nobody who asks too much.
#[derive(Clone, Debug)]
pub(super) struct Admitting<S>(pub(super) S);

impl<S> Service<Request<Body>> for Admitting<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let arrived = request.extensions().get::<Arrived>();
        let unknown = || Status::unauthenticated("peer credentials unknown");
        match arrived.ok_or_else(unknown).and_then(|arrived| arrived.seat.ask(Instant::now())) {
            Ok(asking) => {
                let answer = self.0.call(request);
                Box::pin(async move {
                    let answered = answer.await;
                    drop(asking);
                    answered
                })
            }
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}

const HEADER_LIST_CAP_BYTES: u32 = 8 * 1024;
/// A workload watches its standing, its identities and its partners' bundles, and asks a little beside.
const STREAMS_PER_CONNECTION: u32 = 8;
/// What may be sent ahead of being read.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
