//! The daemon's local service: gRPC on a Unix socket in a directory of mode 0700, for its own user and root only.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use wire::bounded::local::{EvidenceRequest, ExecRequest};
use wire::proto::{self, exec_event::Event, local_server};

use crate::collect::{Inspected, InspectionFault};
use crate::node::{Node, Refused};

/// A bound socket.
pub(crate) struct LocalApi {
    listener: UnixListener,
}

impl LocalApi {
    /// Binds the socket. A socket that a killed daemon left is replaced: the state directory's lock says that it is dead.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener })
    }

    /// Serves until an error of the listener's.
    pub(crate) async fn serve(self, node: Arc<Node>) -> io::Result<()> {
        let service = local_server::LocalServer::new(Local { node }).max_decoding_message_size(REQUEST_CAP_BYTES);
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(Peers { listener: self.listener })
            .await
            .map_err(io::Error::other)
    }
}

struct Local {
    node: Arc<Node>,
}

#[tonic::async_trait]
impl local_server::Local for Local {
    type ExecStream = ReceiverStream<Result<proto::ExecEvent, Status>>;

    async fn exec(&self, request: Request<proto::ExecRequest>) -> Result<Response<Self::ExecStream>, Status> {
        let uid = request.extensions().get::<PeerUid>().map(|peer| peer.0);
        let uid = uid.ok_or_else(|| Status::unauthenticated("peer credentials unknown"))?;
        let wanted = ExecRequest::try_from(request.into_inner())
            .map_err(|denial| Status::invalid_argument(denial.to_string()))?;
        let (events_sender, mut events) = mpsc::channel(EVENTS_CAP);
        let (to_client, stream) = mpsc::channel(1);
        if let Err(refused) = self.node.exec(wanted, uid, events_sender).await {
            tracing::warn!(%refused, "refused");
            let event = proto::ExecEvent { event: Some(Event::Refusal(refused.to_message())) };
            let _ = to_client.try_send(Ok(event));
            return Ok(Response::new(ReceiverStream::new(stream)));
        }
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    event = events.recv() => match event {
                        Some(event) => if to_client.send(Ok(event)).await.is_err() { return },
                        None => return,
                    },
                    // Dropping the receiver tells the execution that its client is gone.
                    () = to_client.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(&self, _request: Request<proto::StatusRequest>) -> Result<Response<proto::StatusAnswer>, Status> {
        Ok(Response::new(proto::StatusAnswer { json: self.node.status().await.to_string() }))
    }

    async fn halt(&self, request: Request<proto::HaltRequest>) -> Result<Response<proto::StatusAnswer>, Status> {
        let halted = self.node.halt_by_operator(&request.into_inner().reason).await;
        halted.map_err(|refused| Status::invalid_argument(refused.to_string()))?;
        Ok(Response::new(proto::StatusAnswer { json: self.node.status().await.to_string() }))
    }

    async fn evidence(
        &self,
        request: Request<proto::EvidenceRequest>,
    ) -> Result<Response<proto::EvidenceAnswer>, Status> {
        let misused = |denial: &dyn std::fmt::Display| Status::invalid_argument(denial.to_string());
        let request = EvidenceRequest::try_from(request.into_inner()).map_err(|denial| misused(&denial))?;
        Ok(Response::new(match self.node.inspect(&request).await {
            Ok(Inspected { document, cmw }) => proto::EvidenceAnswer { json: document.to_string(), cmw, refusal: None },
            Err(InspectionFault::Asked(denial)) => return Err(misused(&denial)),
            Err(InspectionFault::Collect(fault)) => {
                tracing::warn!(%fault, "no evidence could be shown");
                let refusal = Refused::fault(fault.code(), &fault).to_message();
                proto::EvidenceAnswer {
                    json: Value::String(fault.to_string()).to_string(),
                    cmw: Vec::new(),
                    refusal: Some(refusal),
                }
            }
        }))
    }
}

/// Connections of this user and of root; others are closed before a byte is read.
struct Peers {
    listener: UnixListener,
}

impl Stream for Peers {
    type Item = io::Result<Peer>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Peer>>> {
        let ours = rustix::process::geteuid().as_raw();
        loop {
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => match stream.peer_cred().map(|credentials| credentials.uid()) {
                    Ok(uid) if uid == ours || uid == 0 => {
                        return Poll::Ready(Some(Ok(Peer { stream, uid: PeerUid(uid) })));
                    }
                    Ok(uid) => tracing::warn!(uid, "a local client of another user was turned away"),
                    Err(error) => tracing::warn!(%error, "a local client without credentials was turned away"),
                },
                // A client that gave up, or no descriptor left: the listener itself is sound.
                Err(error) => {
                    tracing::warn!(%error, "accepting a local client");
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }
}

/// A connection whose peer is known.
struct Peer {
    stream: UnixStream,
    uid: PeerUid,
}

#[derive(Clone, Copy)]
struct PeerUid(u32);

impl Connected for Peer {
    type ConnectInfo = PeerUid;

    fn connect_info(&self) -> PeerUid {
        self.uid
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An intent file and arguments within their own caps.
const REQUEST_CAP_BYTES: usize = 2 * 1024 * 1024;
/// Events that may wait for a client before its workload's output has to.
const EVENTS_CAP: usize = 256;
