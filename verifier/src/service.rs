//! `Attestation.Attest`: opens a conversation for a node whose certificate let it in.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use wire::proto;

use crate::conversation::{ANSWERS_CAP, Conversation};
use crate::desk::Desk;
use crate::tls::Peer;

/// A message of this stream is at most one Evidence with its logs.
pub const MESSAGE_CAP_BYTES: usize = evidence::evidence::EVIDENCE_CAP_BYTES + 4096;

/// Serves the nodes' listener.
pub struct AttestationService {
    desk: Arc<Desk>,
    stopping: watch::Receiver<bool>,
}

impl AttestationService {
    /// Conversations end when `stopping` turns true.
    pub fn new(desk: Arc<Desk>, stopping: watch::Receiver<bool>) -> Self {
        Self { desk, stopping }
    }
}

#[tonic::async_trait]
impl proto::attestation_server::Attestation for AttestationService {
    type AttestStream = ReceiverStream<Result<proto::VerifierMessage, Status>>;

    async fn attest(
        &self,
        request: Request<Streaming<proto::NodeMessage>>,
    ) -> Result<Response<Self::AttestStream>, Status> {
        // Whoever put this service on a listener without client certificates serves nobody.
        let peer = request.extensions().get::<Peer>();
        let Some((node, channel)) = peer.and_then(|peer| Some((peer.node.clone()?, peer.channel))) else {
            return Err(Status::unauthenticated("protocol.no_node_certificate"));
        };
        let (out, answers) = mpsc::channel(ANSWERS_CAP);
        let conversation = Conversation::new(self.desk.clone(), node, channel, out, self.stopping.clone());
        tokio::spawn(conversation.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
