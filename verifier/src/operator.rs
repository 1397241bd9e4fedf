//! The operator's side door: one gRPC method on a Unix socket that only this user
//! can reach. It carries commands; what needs the policy authority arrives signed.

mod answers;
mod commands;
mod endorsements;
mod federation;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use evidence::names::{DomainName, NodeId};
use evidence::time::UnixSeconds;
use serde_json::Value;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;
use wire::proto::operator_server::{Operator, OperatorServer};
use wire::proto::{Backtest, OperatorAnswer, OperatorCommand, Refusal};

use crate::clock::ClockWentBack;
use crate::endorsements::EndorsementStore;
use crate::federation::sync::Following;
use crate::governor::{Governor, OrderRefusal};
use crate::health::HealthService;
use crate::keys::KeyEncryptionKey;
use crate::log::Log;
use crate::store::{Store, StoreError};
use crate::witness::Quorum;

/// Largest command: evidence to be appraised.
pub const COMMAND_CAP_BYTES: usize = evidence::evidence::EVIDENCE_CAP_BYTES + 4096;
/// Largest answer: a proof bundle.
pub const ANSWER_CAP_BYTES: usize = 80 << 20;

/// What only the appraising side can answer.
#[tonic::async_trait]
pub trait Judgements: Send + Sync + 'static {
    /// Explains a logged decision; `replay` makes it again and compares.
    async fn explain(&self, entry: u64, replay: bool) -> Result<Value, OrderRefusal>;
    /// The Attestation Result of a logged decision, signed once more as JWT.
    async fn result_jwt(&self, entry: u64) -> Result<Value, OrderRefusal>;
    /// Judges the evidence of a logged decision by what is trusted now.
    async fn appraise_entry(&self, entry: u64) -> Result<Value, OrderRefusal>;
    /// Judges evidence of a node that answers a nonce of the caller's by what is trusted now.
    async fn appraise_file(&self, node: &NodeId, nonce: [u8; 32], cmw: Vec<u8>) -> Result<Value, OrderRefusal>;
    /// Proposes a reference value set from the newest evidence captured of a node, or from that of a decision about it:
    /// facts about it, and the set as TOML.
    async fn capture(&self, node: &NodeId, entry: Option<u64>) -> Result<(Value, String), OrderRefusal>;
    /// Judges a page of logged decisions with a candidate in the place of what was in force.
    async fn backtest(&self, asked: Backtest) -> Result<Value, OrderRefusal>;
    /// Holds what a node sent last against a reference value set, which need not be in force.
    async fn compare(&self, node: &NodeId, set: &str) -> Result<Value, OrderRefusal>;
}

/// What commands work on.
pub struct OperatorParts {
    /// The domain.
    pub domain: DomainName,
    /// The tables.
    pub store: Store,
    /// The log.
    pub log: Log,
    /// The rules.
    pub governor: Governor,
    /// Seals execution keys.
    pub kek: KeyEncryptionKey,
    /// Vendors' certificates and collateral.
    pub endorsements: EndorsementStore,
    /// Follows partners.
    pub sync: Following,
    /// What witnesses have cosigned.
    pub quorum: Quorum,
    /// Time to judge by.
    pub now: Arc<dyn Fn() -> Result<UnixSeconds, ClockWentBack> + Send + Sync>,
    /// Decisions and captures.
    pub judgements: Arc<dyn Judgements>,
}

/// What a command came to: a document, and bytes for a file.
struct Done {
    json: Value,
    attachment: Vec<u8>,
}

impl From<Value> for Done {
    fn from(json: Value) -> Self {
        Self { json, attachment: Vec::new() }
    }
}

struct OperatorService {
    parts: Arc<OperatorParts>,
}

/// Serves commands on `socket` until `stopped`. The caller holds the state
/// folder's lock: a socket that is already there was left by a dead process.
pub async fn serve(
    socket: &Path,
    parts: OperatorParts,
    health: HealthServer<HealthService>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> Result<(), std::io::Error> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    let service = OperatorServer::new(OperatorService { parts: Arc::new(parts) })
        .max_decoding_message_size(COMMAND_CAP_BYTES)
        .max_encoding_message_size(ANSWER_CAP_BYTES);
    let served = tonic::transport::Server::builder()
        .add_service(service)
        .add_service(health)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
        .await
        .map_err(std::io::Error::other);
    // A socket that nobody answers would only mislead.
    drop(std::fs::remove_file(socket));
    served
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn run(&self, request: Request<OperatorCommand>) -> Result<Response<OperatorAnswer>, Status> {
        same_user(&request)?;
        let Some(command) = request.into_inner().command else {
            return Err(Status::invalid_argument("an empty command"));
        };
        let name = commands::name(&command);
        // A command that began is finished even if its caller goes away.
        let parts = self.parts.clone();
        let outcome = tokio::spawn(async move { commands::run(&parts, command).await })
            .await
            .map_err(|_| Status::internal("the command ended abnormally"))?;
        let answer = match outcome {
            Ok(Done { json, attachment }) => {
                tracing::info!(command = name, "operator command");
                OperatorAnswer { json: json.to_string(), attachment, refusal: None }
            }
            Err(refusal) => {
                tracing::warn!(command = name, code = refusal.code(), %refusal, "operator command refused");
                refused(&refusal)
            }
        };
        Ok(Response::new(answer))
    }
}

fn refused(refusal: &OrderRefusal) -> OperatorAnswer {
    let (class, code) = (refusal.class(), refusal.code());
    let what = refusal.to_string();
    OperatorAnswer {
        json: Value::String(what).to_string(),
        attachment: Vec::new(),
        refusal: Some(Refusal { class: class.to_owned(), code: code.to_owned(), ..Refusal::default() }),
    }
}

/// The socket's mode keeps others out; this says so a second time.
fn same_user<T>(request: &Request<T>) -> Result<(), Status> {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    let own = rustix::process::geteuid().as_raw();
    match peer {
        Some(peer) if peer.uid() == own => Ok(()),
        Some(_) | None => Err(Status::permission_denied("only the verifier's own user may command it")),
    }
}

fn stopped() -> OrderRefusal {
    StoreError::Stopped.into()
}
