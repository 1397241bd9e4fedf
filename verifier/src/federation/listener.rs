//! The public HTTPS listener: any client, HTTP/1.1 or HTTP/2, everything about a connection bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::transport::server::Connected as _;
use tower::ServiceExt as _;

use crate::listen::{ConnectionCaps, Door, accepted};
use crate::tls::{PeerStream, ServingCertificate, TlsError, public_config, unchanging};

/// Longest wait for the head of a request, the next one on a connection too: a partner that looks every few seconds need
/// not make a new connection for each look.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// Longest life of a connection: whoever wants more makes another one.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);
/// Longest head of a request, in bytes.
const HEAD_CAP_BYTES: usize = 16 * 1024;
/// Streams at once on an HTTP/2 connection.
const STREAMS_CAP: u32 = 16;

/// Where to listen, as whom, and what to answer.
#[derive(Clone, Debug)]
pub struct PublicListener {
    /// Where.
    pub at: SocketAddr,
    /// Names in the certificate that our own CA makes.
    pub names: Vec<String>,
    /// A certificate of the web's PKI in place of one of our own CA.
    pub web: Option<Arc<CertifiedKey>>,
    /// The routes, guarded.
    pub routes: Router,
}

/// Serves until `stopped`; connections are cut then.
pub async fn serve(
    listener: TcpListener,
    serving: Arc<ServingCertificate>,
    caps: ConnectionCaps,
    routes: Router,
    stopped: impl Future<Output = ()>,
) -> Result<(), TlsError> {
    let mut incoming = accepted(listener, unchanging(public_config(serving)?), Door::Anyone, caps);
    let mut connections = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            stream = incoming.next() => match stream {
                Some(Ok(stream)) => drop(connections.spawn(connection(stream, routes.clone()))),
                Some(Err(error)) => tracing::debug!(%error, "public connection"),
                None => break,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    connections.shutdown().await;
    Ok(())
}

async fn connection(stream: PeerStream, routes: Router) {
    let peer = stream.connect_info();
    let service = tower::service_fn(move |request: axum::http::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        routes.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD_CAP_BYTES);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_CAP);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_LIFE, served).await {
        tracing::debug!(error, "public connection ended");
    }
}
