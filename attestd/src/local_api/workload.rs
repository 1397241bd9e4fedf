//! What a workload may ask about its own execution, and nobody else.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::proto::{self, workload_server};

use super::{Caller, ExecEvents, execute};
use crate::clock::boottime_ms;
use crate::node::{Governed, Node, Standing};

pub(super) fn service(node: Arc<Node>) -> workload_server::WorkloadServer<Workload> {
    workload_server::WorkloadServer::new(Workload { node }).max_decoding_message_size(super::REQUEST_CAP_BYTES)
}

pub(super) struct Workload {
    node: Arc<Node>,
}

impl Workload {
    async fn governed<T>(&self, request: &Request<T>) -> Result<Arc<Governed>, Status> {
        let caller = Caller::of(request)?;
        self.node.governed(&caller).await.map_err(|not| Status::permission_denied(not.to_string()))
    }
}

#[tonic::async_trait]
impl workload_server::Workload for Workload {
    type WatchStream = ReceiverStream<Result<proto::Standing, Status>>;
    type ExecStream = ExecEvents;

    async fn exec(&self, request: Request<proto::ExecRequest>) -> Result<Response<ExecEvents>, Status> {
        let (uid, governed) = (Caller::of(&request)?.uid(), self.governed(&request).await?);
        execute(&self.node, request.into_inner(), (uid, Some(governed))).await
    }

    async fn watch(&self, request: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let governed = self.governed(&request).await?;
        let (to_client, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut standing = governed.standing();
            loop {
                let now = standing.borrow_and_update().clone();
                if to_client.send(Ok(message(&governed, &now))).await.is_err() || now.over.is_some() {
                    return;
                }
                tokio::select! {
                    changed = standing.changed() => if changed.is_err() { return },
                    () = to_client.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn message(governed: &Governed, standing: &Standing) -> proto::Standing {
    let artifacts = standing.in_force.iter().map(|(domain, given)| proto::InForce {
        domain: domain.to_string(),
        artifact: given.artifact.to_vec(),
        spiffe_id: given.svid.spiffe_id.clone(),
    });
    proto::Standing {
        intent: governed.intent.digest.as_bytes().to_vec(),
        artifacts: artifacts.collect(),
        ends_in_ms: match standing.over {
            Some(_) if !standing.keys_revoked => 0,
            Some(_) | None => standing.ends_at_ms.saturating_sub(boottime_ms()),
        },
        over: standing.over.unwrap_or_default().to_owned(),
        keys_revoked: standing.keys_revoked,
    }
}
