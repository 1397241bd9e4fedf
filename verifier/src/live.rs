//! Who is connected now, so that a revocation or a halt reaches its node at once.
//!
//! A push is a courtesy: what bounds a revoked execution is its lease. A node that does not
//! read its pushes loses its stream and, with it, its leases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use governance::artifact::ArtifactId;
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

/// Acknowledgements that a listener may be behind.
const FOLLOWED_CAP: usize = 4_096;
/// Pushes that a node may leave unread.
const UNREAD_CAP: usize = 16;

/// What is sent to a node unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// A signed revocation, as the bytes that were signed.
    Revocation(Arc<[u8]>),
    /// The node must halt.
    Halt {
        /// Denial or trigger code.
        code: String,
        /// For people.
        reason: String,
    },
    /// Our newest checkpoint.
    Checkpoint(Arc<str>),
    /// Our newest trust bundle, one COSE_Sign1 for each authority key that signed.
    TrustBundle(Arc<[Vec<u8>]>),
    /// The client certificate for the node's next connection, PEM.
    ClientCertificate(Arc<[u8]>),
    /// What an execution of the node's descends from is over.
    ParentOver {
        /// Id of the execution's artifact.
        artifact: ArtifactId,
        /// Stable code.
        code: &'static str,
    },
    /// Whose cosignatures count from now on: the statement, by each key that signed it.
    WitnessPolicy(Arc<Vec<Vec<u8>>>),
}

/// The streams open now, at most one for a node.
#[derive(Clone, Debug)]
pub struct Live {
    seats: Arc<Mutex<Seats>>,
    /// Revocations that nodes followed.
    followed: broadcast::Sender<Followed>,
}

impl Default for Live {
    fn default() -> Self {
        Self { seats: Arc::default(), followed: broadcast::Sender::new(FOLLOWED_CAP) }
    }
}

/// A node says that what depended on a revocation is over, or, having halted, that everything is.
#[derive(Clone, Debug)]
struct Followed {
    node: NodeId,
    /// None: everything.
    revocation: Option<Sha256Digest>,
    at: Instant,
}

/// Who followed a revocation, and who was told and has not said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Heard {
    /// Nodes on which what depended on it is over.
    pub acknowledged: Vec<Acknowledged>,
    /// Nodes that have not said so in time; their leases bound it.
    pub unacknowledged: Vec<NodeId>,
}

/// One node's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// Which.
    pub node: NodeId,
    /// When, counted from the push.
    pub after_ms: u64,
}

/// Listens for acknowledgements from before the push on.
#[derive(Debug)]
pub struct Listening {
    heard: broadcast::Receiver<Followed>,
    since: Instant,
}

impl Listening {
    /// Waits until each of these nodes followed the revocation, but not for longer than `within`.
    pub async fn until_followed(mut self, revocation: Sha256Digest, by: Vec<NodeId>, within: Duration) -> Heard {
        let (mut missing, mut acknowledged) = (by, Vec::new());
        let hearing = async {
            while !missing.is_empty() {
                let followed = match self.heard.recv().await {
                    Ok(followed) => followed,
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if followed.revocation.is_none_or(|of| of == revocation) && missing.contains(&followed.node) {
                    missing.retain(|node| *node != followed.node);
                    let after = followed.at.saturating_duration_since(self.since);
                    let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    acknowledged.push(Acknowledged { node: followed.node, after_ms });
                }
            }
        };
        let _ = timeout(within, hearing).await; // whoever is missing by then is named
        Heard { acknowledged, unacknowledged: missing }
    }
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    nodes: HashMap<NodeId, (u64, mpsc::Sender<Push>)>,
}

impl Live {
    /// Takes the node's seat. A stream that held it before is displaced: its pushes end.
    pub fn sit(&self, node: &NodeId) -> Seat {
        let (sender, pushes) = mpsc::channel(UNREAD_CAP);
        let mut seats = self.lock();
        let number = seats.next;
        seats.next = number.wrapping_add(1);
        seats.nodes.insert(node.clone(), (number, sender));
        Seat { node: node.clone(), number, pushes, live: self.clone() }
    }

    /// Sends to one node. False: it is not connected here, or it was and did not read.
    pub fn push(&self, node: &NodeId, push: Push) -> bool {
        let mut seats = self.lock();
        let sent = seats.nodes.get(node).is_some_and(|(_, sender)| sender.try_send(push).is_ok());
        if !sent {
            seats.nodes.remove(node);
        }
        sent
    }

    /// Sends to every node connected here; says how many took it.
    pub fn push_all(&self, push: &Push) -> usize {
        let mut seats = self.lock();
        seats.nodes.retain(|_, (_, sender)| sender.try_send(push.clone()).is_ok());
        seats.nodes.len()
    }

    /// Listens for acknowledgements, from now on.
    pub fn listen(&self) -> Listening {
        Listening { heard: self.followed.subscribe(), since: Instant::now() }
    }

    /// A node followed a revocation.
    pub fn acknowledged(&self, node: &NodeId, revocation: Sha256Digest) {
        self.follows(node, Some(revocation));
    }

    /// A node halted: nothing depends on anything there any more, whatever became of its acknowledgement.
    pub fn halted(&self, node: &NodeId) {
        self.follows(node, None);
    }

    fn follows(&self, node: &NodeId, revocation: Option<Sha256Digest>) {
        let followed = Followed { node: node.clone(), revocation, at: Instant::now() };
        let _ = self.followed.send(followed); // nobody may be listening any more
    }

    /// Nodes connected here, by name.
    pub fn connected(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.lock().nodes.keys().cloned().collect();
        nodes.sort_unstable();
        nodes
    }

    /// Whether the node is connected here.
    pub fn holds(&self, node: &NodeId) -> bool {
        self.lock().nodes.contains_key(node)
    }

    /// Nodes connected here.
    pub fn count(&self) -> usize {
        self.lock().nodes.len()
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's place; given back when dropped, unless it was displaced before.
#[derive(Debug)]
pub struct Seat {
    node: NodeId,
    number: u64,
    pushes: mpsc::Receiver<Push>,
    live: Live,
}

impl Seat {
    /// The next push, or nothing once the stream is displaced.
    pub async fn next(&mut self) -> Option<Push> {
        self.pushes.recv().await
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.live.lock();
        if seats.nodes.get(&self.node).is_some_and(|(number, _)| *number == self.number) {
            seats.nodes.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halt() -> Push {
        Push::Halt { code: "governance.revoked".to_owned(), reason: String::new() }
    }

    #[tokio::test]
    async fn a_new_stream_displaces_the_old_one_and_leaving_late_harms_nobody() {
        let (live, node) = (Live::default(), NodeId::new("node-1").unwrap());
        let mut old = live.sit(&node);
        let mut new = live.sit(&node);
        assert!(live.push(&node, halt()));
        assert_eq!(old.next().await, None);
        drop(old);
        assert_eq!(new.next().await, Some(halt()));
        assert!(live.holds(&node));
        drop(new);
        assert_eq!(live.count(), 0);
        assert!(!live.push(&node, halt()));
    }

    #[tokio::test]
    async fn who_followed_a_revocation_is_told_from_who_did_not() {
        let live = Live::default();
        let (one, other) = (NodeId::new("node-1").unwrap(), NodeId::new("node-2").unwrap());
        let listening = live.listen();
        live.acknowledged(&other, Sha256Digest::of(b"another"));
        live.acknowledged(&one, Sha256Digest::of(b"this"));
        live.acknowledged(&one, Sha256Digest::of(b"this"));
        let nodes = vec![one.clone(), other.clone()];
        let heard = listening.until_followed(Sha256Digest::of(b"this"), nodes, Duration::from_millis(20)).await;
        assert_eq!(heard.acknowledged.iter().map(|by| &by.node).collect::<Vec<_>>(), [&one]);
        assert_eq!(heard.unacknowledged, [other]);
    }

    #[tokio::test]
    async fn a_node_that_halted_followed_though_its_stream_ended_before_it_said_so() {
        let live = Live::default();
        let (one, other) = (NodeId::new("node-1").unwrap(), NodeId::new("node-2").unwrap());
        let listening = live.listen();
        drop(live.sit(&one));
        live.halted(&one);
        let nodes = vec![one.clone(), other.clone()];
        let heard = listening.until_followed(Sha256Digest::of(b"this"), nodes, Duration::from_millis(20)).await;
        assert_eq!(heard.acknowledged.iter().map(|by| &by.node).collect::<Vec<_>>(), [&one]);
        assert_eq!(heard.unacknowledged, [other]);
    }

    #[tokio::test]
    async fn a_node_that_does_not_read_loses_its_stream() {
        let (live, node) = (Live::default(), NodeId::new("node-1").unwrap());
        let mut seat = live.sit(&node);
        for _ in 0..UNREAD_CAP {
            assert_eq!(live.push_all(&halt()), 1);
        }
        assert_eq!(live.push_all(&halt()), 0);
        for _ in 0..UNREAD_CAP {
            assert!(seat.next().await.is_some());
        }
        assert_eq!(seat.next().await, None);
    }
}
