//! Execution keys for whoever of an execution asks again: a process whose parent closed every descriptor, say.
//!
//! What is handed over is a descriptor of the sealed memory that the workload got at its start, never the key: so no buffer of
//! this daemon's or of gRPC's ever holds one. Who connects to `run/keys.sock` is sent one JSON document, [`Handed`], with the
//! descriptors (`SCM_RIGHTS`, unix(7)), and the connection ends. Nothing is asked, so nothing is read.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use futures_util::StreamExt as _;
use serde::Serialize;

use super::peers::{Peer, Peers};
use super::{Caller, Crowd};
use crate::node::Node;
use crate::supervise::control;

/// What a process is sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Handed {
    /// The names of its keys, in the order of the descriptors.
    Keys(Vec<String>),
    /// Why it gets none.
    Refused(String),
}

/// Serves for as long as it is polled.
pub(super) async fn serve<F: Fn(&Caller) -> Crowd + Unpin>(node: Arc<Node>, mut peers: Peers<F>) -> Infallible {
    loop {
        if let Some(Ok(peer)) = peers.next().await {
            tokio::spawn(answer(Arc::clone(&node), peer));
        }
    }
}

async fn answer(node: Arc<Node>, peer: Peer) {
    let (handed, descriptors) = match node.governed(peer.caller()).await {
        Err(not) => (Handed::Refused(not.to_string()), Vec::new()),
        Ok(governed) => match governed.keys_again() {
            Ok(Some((names, descriptors))) => (Handed::Keys(names), descriptors),
            Ok(None) => (Handed::Refused("the execution is over".to_owned()), Vec::new()),
            Err(error) => {
                tracing::error!(%error, "keys cannot be handed over again");
                (Handed::Refused("fault.state_unavailable".to_owned()), Vec::new())
            }
        },
    };
    let borrowed: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
    if let Err(error) = control::send(peer.stream(), &handed, &borrowed) {
        tracing::debug!(%error, "a process that asked for its keys is gone");
    }
}
