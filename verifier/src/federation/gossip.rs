//! Gossip: checkpoints of partners' logs that others were shown, brought by nodes. A log that shows one history to nodes and
//! another to us is found, since it cannot lead from the one to the other.

use std::collections::BTreeMap;

use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use governance::partner::LogHead;
use tokio::sync::mpsc;

use super::sync::Following;

/// Heads of one partner that wait to be asked about. One more is dropped: whoever holds it brings it again.
const RUMOURS_CAP: usize = 8;
/// Heads of one partner that are remembered as settled.
const SETTLED_CAP: usize = 32;
/// Checkpoints that may wait to be looked at, of all nodes.
const WAITING_CAP: usize = 256;

/// Where the nodes' side puts what it heard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gossip(mpsc::Sender<Vec<u8>>);

/// The other end.
#[derive(Debug)]
pub struct GossipHeard(mpsc::Receiver<Vec<u8>>);

/// Both ends.
#[must_use]
pub fn gossip() -> (Gossip, GossipHeard) {
    let (sender, receiver) = mpsc::channel(WAITING_CAP);
    (Gossip(sender), GossipHeard(receiver))
}

impl Gossip {
    /// Passes on what a node holds of other domains' logs. Nothing waits for it.
    pub fn told(&self, node: &NodeId, checkpoints: Vec<Vec<u8>>) {
        for note in checkpoints {
            if self.0.try_send(note).is_err() {
                // The node brings the newest again with its next renewal.
                tracing::debug!(%node, "too much gossip to look at");
                return;
            }
        }
    }
}

impl GossipHeard {
    /// Looks at what comes until `stopped`.
    pub async fn follow(mut self, following: Following, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            let note = tokio::select! {
                () = &mut stopped => return,
                note = self.0.recv() => note,
            };
            let Some(note) = note else { return };
            if let Err(refusal) = following.rumour(&note).await {
                tracing::error!(code = refusal.code(), %refusal, "what a node was shown of a partner was not judged");
            }
        }
    }
}

/// What came of hearing a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It was heard before, or is the one that is held.
    Known,
    /// It must be asked about.
    New,
    /// Another root of that size is known.
    Contradicts(Sha256Digest),
}

/// Heads of one partner's log that others were shown, by size.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    unsettled: BTreeMap<u64, Sha256Digest>,
    settled: BTreeMap<u64, Sha256Digest>,
}

impl Rumours {
    /// Hears of a head, beside the one that is held of the partner.
    pub(super) fn hear(&mut self, head: LogHead, held: Option<LogHead>) -> Heard {
        let held = held.filter(|held| held.size == head.size).map(|held| held.root);
        let known = held.or_else(|| self.settled.get(&head.size).or_else(|| self.unsettled.get(&head.size)).copied());
        match known {
            Some(root) if root == head.root => Heard::Known,
            Some(root) => Heard::Contradicts(root),
            None if self.unsettled.len() >= RUMOURS_CAP => Heard::Known,
            None => {
                self.unsettled.insert(head.size, head.root);
                Heard::New
            }
        }
    }

    /// What must be asked about.
    pub(super) fn unsettled(&self) -> Vec<LogHead> {
        self.unsettled.iter().map(|(size, root)| LogHead { size: *size, root: *root }).collect()
    }

    /// The log was shown to go on from these.
    pub(super) fn settle(&mut self, heads: &[LogHead]) {
        for head in heads {
            self.unsettled.remove(&head.size);
            self.settled.insert(head.size, head.root);
        }
        while self.settled.len() > SETTLED_CAP {
            self.settled.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(size: u64, root: u8) -> LogHead {
        LogHead { size, root: Sha256Digest([root; 32]) }
    }

    #[test]
    fn two_heads_of_one_size_contradict_wherever_they_came_from() {
        let mut rumours = Rumours::default();
        assert_eq!(rumours.hear(head(7, 1), Some(head(7, 1))), Heard::Known);
        assert_eq!(rumours.hear(head(7, 2), Some(head(7, 1))), Heard::Contradicts(Sha256Digest([1; 32])));
        assert_eq!(rumours.hear(head(9, 1), Some(head(7, 1))), Heard::New);
        assert_eq!(rumours.hear(head(9, 1), None), Heard::Known);
        assert_eq!(rumours.hear(head(9, 3), None), Heard::Contradicts(Sha256Digest([1; 32])));
        rumours.settle(&[head(9, 1)]);
        assert!(rumours.unsettled().is_empty());
        assert_eq!(rumours.hear(head(9, 3), None), Heard::Contradicts(Sha256Digest([1; 32])));
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut rumours = Rumours::default();
        for size in 1..100 {
            rumours.hear(head(size, 1), None);
        }
        assert_eq!(rumours.unsettled().len(), RUMOURS_CAP);
        rumours.settle(&(1..100).map(|size| head(size, 1)).collect::<Vec<_>>());
        assert_eq!((rumours.unsettled().len(), rumours.settled.len()), (0, SETTLED_CAP));
    }
}
