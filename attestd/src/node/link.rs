//! The link to one domain's verifier: one stream at a time, one request in flight, reconnected with backoff.
//!
//! A lost link changes no lease: executions are told that nobody answered, and their leases run out by themselves.

use std::sync::Arc;
use std::time::Duration;

use evidence::names::DomainName;
use governance::artifact::{ArtifactId, VerifiedArtifact};
use governance::governance_state::VerifiedState;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::Node;
use super::conversation::{Conversation, Parted};
use super::domain::{Accepted, Domain, Seen};
use super::execution::SignedIntent;
use super::jwt_svid::GivenJwt;
use super::passport::Vouchers;
use super::refused::Refused;
use crate::collect::HeldKey;

/// What an execution wants of a domain: a first authorization, or the renewal of the one it holds.
pub(crate) struct Ask {
    pub(crate) intent: Arc<SignedIntent>,
    pub(crate) held: Option<VerifiedArtifact>,
    /// Newest artifacts of what it descends from.
    pub(crate) parents: Vec<Vec<u8>>,
    /// What the other domains have granted.
    pub(crate) vouchers: watch::Receiver<Vouchers>,
    pub(crate) reply: ReplyTo,
}

/// An execution wants a JWT-SVID of a domain that authorizes it.
pub(crate) struct JwtAsk {
    pub(crate) intent: Arc<SignedIntent>,
    /// Id of the domain's artifact.
    pub(crate) artifact: ArtifactId,
    pub(crate) audiences: Vec<String>,
    pub(crate) reply: oneshot::Sender<Result<Arc<GivenJwt>, Refused>>,
}

/// Where the answers go, with the domain's name.
#[derive(Clone)]
pub(crate) struct ReplyTo {
    pub(crate) domain: DomainName,
    pub(crate) replies: mpsc::UnboundedSender<(DomainName, Reply)>,
}

impl ReplyTo {
    pub(crate) fn send(&self, reply: Reply) {
        let _ = self.replies.send((self.domain.clone(), reply)); // an execution that is gone needs no answer
    }
}

/// What comes of an ask.
pub(crate) enum Reply {
    /// The governance under which it is asked, and the size of the log.
    Governance(Arc<VerifiedState>, u64),
    /// Accepted here, offline, and the node key that its execution keys are wrapped to.
    Accepted(Box<Accepted>, HeldKey),
    /// Refused, by the verifier or by this node.
    Refused(Refused),
}

/// How the link is, for `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkStatus {
    pub(crate) connected: bool,
    pub(crate) epoch: u64,
    /// Why there is no connection, as a code.
    pub(crate) fault: Option<String>,
}

/// Handle on a link's task.
pub(crate) struct Link {
    asks: mpsc::Sender<Ask>,
    jwt_asks: mpsc::Sender<JwtAsk>,
    pub(crate) status: watch::Receiver<LinkStatus>,
}

impl Link {
    /// Queues an ask; false if the link is not connected or has too many waiting.
    pub(crate) fn ask(&self, ask: Ask) -> bool {
        self.status.borrow().connected && self.asks.try_send(ask).is_ok()
    }

    /// The same for a JWT-SVID; they wait apart, so that they never keep a lease from its renewal.
    pub(crate) fn ask_jwt(&self, ask: JwtAsk) -> bool {
        self.status.borrow().connected && self.jwt_asks.try_send(ask).is_ok()
    }
}

/// The task's end of a link.
pub(crate) struct LinkTask {
    pub(crate) domain: Domain,
    pub(crate) asks: Asks,
    pub(crate) status: watch::Sender<LinkStatus>,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

/// What waits for an answer. Leases come first.
pub(crate) struct Asks {
    pub(crate) leases: mpsc::Receiver<Ask>,
    pub(crate) jwt: mpsc::Receiver<JwtAsk>,
}

/// Makes both ends.
pub(crate) fn link(domain: Domain, seen: Seen) -> (Link, LinkTask) {
    let (asks_sender, leases) = mpsc::channel(ASKS_CAP);
    let (jwt_sender, jwt) = mpsc::channel(JWT_ASKS_CAP);
    let (status_sender, status) = watch::channel(LinkStatus::default());
    let handle = Link { asks: asks_sender, jwt_asks: jwt_sender, status };
    (handle, LinkTask { domain, asks: Asks { leases, jwt }, status: status_sender, seen: Arc::new(Mutex::new(seen)) })
}

impl LinkTask {
    /// Keeps the link up until the node is gone.
    pub(crate) async fn run(mut self, node: Arc<Node>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let begun = Instant::now();
            let parted = self.one_stream(&node).await;
            self.status.send_modify(|status| status.connected = false);
            match &parted {
                Ok(Parted::Rehello) => backoff = REHELLO_AFTER,
                Ok(Parted::Closed) | Err(_) => {
                    // A stream that lasted shows a verifier that restarted, not one that keeps refusing.
                    backoff = if begun.elapsed() > BACKOFF_MAX {
                        BACKOFF_MIN
                    } else {
                        backoff.saturating_mul(2).min(BACKOFF_MAX)
                    };
                }
                Ok(Parted::NodeGone) => return,
            }
            if let Err(refused) = parted {
                tracing::warn!(domain = %self.domain.name, %refused, "no stream to the verifier");
                self.status.send_modify(|status| status.fault = Some(refused.code.clone()));
            }
            if !self.pause(backoff).await {
                return;
            }
        }
    }

    async fn one_stream(&mut self, node: &Arc<Node>) -> Result<Parted, Refused> {
        let mut conversation = Conversation::open(node, &self.domain, &self.seen).await?;
        let epoch = conversation.epoch();
        self.status.send_replace(LinkStatus { connected: true, epoch, fault: None });
        tracing::info!(domain = %self.domain.name, epoch, "stream to the verifier is open");
        let parted = conversation.serve(&mut self.asks, &self.status).await?;
        match parted {
            Parted::Rehello | Parted::NodeGone => conversation.part().await,
            Parted::Closed => {}
        }
        Ok(parted)
    }

    /// Waits, answering meanwhile that nobody is there. False: the node is gone.
    async fn pause(&mut self, how_long: Duration) -> bool {
        let until = sleep(how_long);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                ask = self.asks.leases.recv() => match ask {
                    Some(ask) => ask.reply.send(Reply::Refused(Refused::fault("fault.verifier_unreachable", "no stream"))),
                    None => return false,
                },
                // Whoever waits for it hears that nobody will answer.
                Some(ask) = self.asks.jwt.recv() => drop(ask),
            }
        }
    }
}

/// Asks that may wait behind the one in flight.
const ASKS_CAP: usize = 64;
/// The same for JWT-SVIDs.
const JWT_ASKS_CAP: usize = 16;
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A halted node asks again for its readmission.
const REHELLO_AFTER: Duration = Duration::from_millis(50);
