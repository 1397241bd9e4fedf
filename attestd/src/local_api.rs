//! The daemon's local services: gRPC on Unix sockets in a directory of mode 0700, for its own user and root only. One
//! socket is the operator's, another is for workloads, so that neither waits for the other.

mod admission;
mod caller;
mod crowd;
#[cfg(test)]
pub(crate) mod dial;
mod keys;
mod peers;
mod spiffe;
mod workload;

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evidence::digest::Sha256Digest;
use governance::on_halt::OnHalt;
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::bounded::local::{EvidenceRequest, ExecRequest};
use wire::proto::{self, exec_event::Event, local_server};

use crate::collect::{Inspected, InspectionFault};
use crate::node::{Governed, Node, Refused};
use admission::Admitting;
pub(crate) use caller::{Caller, Place, Process, UNTOLD};
pub(crate) use crowd::Crowd;
use crowd::{Caps, Crowds, Patience};
use peers::Peers;

/// A bound socket.
pub(crate) struct LocalApi {
    listener: UnixListener,
}

impl LocalApi {
    /// Binds the socket. A socket that a killed daemon left is replaced: the state directory's lock says that it is dead.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        removed(path)?;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener })
    }

    /// Serves running executions until an error of the listener's.
    pub(crate) async fn serve_workloads(self, node: Arc<Node>) -> io::Result<()> {
        let routes = Routes::new(workload::service(Arc::clone(&node))).add_service(spiffe::service(Arc::clone(&node)));
        self.serve_routes(routes, node, Caps { workloads: 256, others: 32, patience: PATIENCE }).await
    }

    /// Hands running executions their keys again.
    pub(crate) async fn serve_keys(self, node: Arc<Node>) -> Infallible {
        let of = Arc::clone(&node);
        let crowds = Crowds::new(Caps { workloads: 64, others: 16, patience: PATIENCE });
        keys::serve(node, Peers::of(self.listener, crowds, move |caller: &Caller| of.crowd_of(caller))).await
    }

    /// Serves the operator until an error of the listener's.
    pub(crate) async fn serve(self, node: Arc<Node>) -> io::Result<()> {
        let local = Local { node: Arc::clone(&node), shown_at: Mutex::default() };
        let service = local_server::LocalServer::new(local).max_decoding_message_size(REQUEST_CAP_BYTES);
        // Every execution that an operator starts keeps a connection as long as it lasts.
        self.serve_routes(Routes::new(service), node, Caps { workloads: 64, others: 256, patience: PATIENCE }).await
    }

    async fn serve_routes(self, routes: Routes, node: Arc<Node>, caps: Caps) -> io::Result<()> {
        let peers = Peers::of(self.listener, Crowds::new(caps), move |caller: &Caller| node.crowd_of(caller));
        let served = admission::server(caps.patience).serve_with_incoming(Admitting(routes.prepare()), peers);
        served.await.map_err(io::Error::other)
    }
}

/// Gives a socket another name in its folder.
pub(crate) fn name_also(socket: &Path, name: &Path) -> io::Result<()> {
    removed(name)?;
    std::os::unix::fs::symlink(socket.file_name().unwrap_or(socket.as_os_str()), name)
}

fn removed(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

struct Local {
    node: Arc<Node>,
    /// When Evidence was last collected for a workload: what collects it is what renews leases.
    shown_at: Mutex<Option<Instant>>,
}

/// What a client of an execution hears.
type ExecEvents = ReceiverStream<Result<proto::ExecEvent, Status>>;

/// Starts an execution, of an operator's or as the child of a workload's, and tells of it until it has ended.
async fn execute(
    node: &Arc<Node>,
    request: proto::ExecRequest,
    asks: (u32, Option<Arc<Governed>>),
) -> Result<Response<ExecEvents>, Status> {
    let wanted = ExecRequest::try_from(request).map_err(|denial| Status::invalid_argument(denial.to_string()))?;
    let (events_sender, mut events) = mpsc::channel(EVENTS_CAP);
    let (to_client, stream) = mpsc::channel(1);
    if let Err(refused) = node.exec(wanted, asks, events_sender).await {
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

impl Local {
    /// Whether Evidence is shown to a workload now.
    fn shows_workloads(&self) -> bool {
        let mut shown_at = self.shown_at.lock().unwrap_or_else(PoisonError::into_inner);
        let shows = shown_at.is_none_or(|shown_at| shown_at.elapsed() >= SHOWN_EVERY);
        if shows {
            *shown_at = Some(Instant::now());
        }
        shows
    }

    /// Orders are the operator's. A workload runs under the same user, and neither halts the node nor starts what would
    /// have no parent.
    fn operator<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = Caller::of(request)?;
        self.node.operator(&caller).map_err(Status::permission_denied)?;
        Ok(caller)
    }
}

#[tonic::async_trait]
impl local_server::Local for Local {
    type ExecStream = ExecEvents;

    async fn exec(&self, request: Request<proto::ExecRequest>) -> Result<Response<Self::ExecStream>, Status> {
        let uid = self.operator(&request)?.uid();
        execute(&self.node, request.into_inner(), (uid, None)).await
    }

    async fn status(&self, _request: Request<proto::StatusRequest>) -> Result<Response<proto::StatusAnswer>, Status> {
        Ok(Response::new(proto::StatusAnswer { json: self.node.status().await.to_string() }))
    }

    async fn halt(&self, request: Request<proto::HaltRequest>) -> Result<Response<proto::StatusAnswer>, Status> {
        self.operator(&request)?;
        let request = request.into_inner();
        let instead = halt_mode(&request).map_err(Status::invalid_argument)?;
        let halted = self.node.halt_by_operator(&request.reason, instead).await;
        halted.map_err(|refused| Status::invalid_argument(refused.to_string()))?;
        Ok(Response::new(proto::StatusAnswer { json: self.node.status().await.to_string() }))
    }

    async fn pause(&self, request: Request<proto::PauseRequest>) -> Result<Response<proto::StatusAnswer>, Status> {
        self.operator(&request)?;
        let paused = self.node.pause(named_intent(&request.into_inner())?).await;
        paused.map_err(|refused| Status::failed_precondition(refused.to_string()))?;
        Ok(Response::new(proto::StatusAnswer { json: self.node.status().await.to_string() }))
    }

    async fn resume(&self, request: Request<proto::PauseRequest>) -> Result<Response<proto::StatusAnswer>, Status> {
        self.operator(&request)?;
        let resumed = self.node.resume_paused(named_intent(&request.into_inner())?).await;
        resumed.map_err(|refused| Status::failed_precondition(refused.to_string()))?;
        Ok(Response::new(proto::StatusAnswer { json: self.node.status().await.to_string() }))
    }

    async fn evidence(
        &self,
        request: Request<proto::EvidenceRequest>,
    ) -> Result<Response<proto::EvidenceAnswer>, Status> {
        if self.operator(&request).is_err() && !self.shows_workloads() {
            return Err(Status::resource_exhausted("fault.overloaded: Evidence was collected for a workload just now"));
        }
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

fn halt_mode(request: &proto::HaltRequest) -> Result<Option<OnHalt>, String> {
    let mode = match request.mode.as_str() {
        "" => return Ok(None),
        "kill" => OnHalt::Kill,
        "freeze" => OnHalt::Freeze,
        "drain" => OnHalt::Drain { grace_ms: request.grace_ms },
        "revoke_keys" => OnHalt::RevokeKeys,
        _ => return Err("mode: kill, freeze, drain or revoke_keys".to_owned()),
    };
    mode.bounded("halt").map_err(|denial| denial.to_string())?;
    Ok(Some(mode))
}

fn named_intent(request: &proto::PauseRequest) -> Result<Option<Sha256Digest>, Status> {
    if request.intent.is_empty() {
        return Ok(None);
    }
    let digest = <[u8; 32]>::try_from(request.intent.as_slice());
    digest.map(|digest| Some(Sha256Digest(digest))).map_err(|_| Status::invalid_argument("intent: not 32 bytes"))
}

/// An intent file, or what a supervisor is told in one message; and parents.
const REQUEST_CAP_BYTES: usize = 256 * 1024;
/// A halt answers when its longest drain is over and recorded.
const PATIENCE: Patience = Patience { first_request: Duration::from_secs(10), answer: Duration::from_secs(60) };
/// Between Evidence that workloads ask for, all of them together.
const SHOWN_EVERY: Duration = Duration::from_secs(2);
/// Events that may wait for a client before its workload's output has to.
const EVENTS_CAP: usize = 256;
