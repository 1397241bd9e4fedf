//! Who is connected now, so that a revocation or a halt reaches its node at once.
//!
//! A push is a courtesy: what bounds a revoked execution is its lease. A node that does not
//! read its pushes loses its stream and, with it, its leases.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::names::NodeId;
use tokio::sync::mpsc;

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
}

/// The streams open now, at most one for a node.
#[derive(Clone, Debug, Default)]
pub struct Live {
    seats: Arc<Mutex<Seats>>,
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
