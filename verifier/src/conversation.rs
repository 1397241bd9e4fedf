//! One node's stream: who may speak when, and until when.
//!
//! Requests are answered in order and one is in flight at a time, so a node costs at most one
//! appraisal. What is decided about a request stands in [`crate::desk`]; here stands only the order of messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use evidence::names::NodeId;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info};
use wire::bounded::node::NodeRequest;
use wire::proto::{self, verifier_message::Message as Answer};

use crate::challenges::Outstanding;
use crate::desk::{Desk, Recorded};
use crate::fault::Fault;
use crate::intake::Request;
use crate::live::{Push, Seat};
use crate::refusal::{ProtocolDenial, Refused};

/// A node says hello by then, or the stream ends.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A node takes an answer by then, or the stream ends: no answer waits in memory for longer.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that may wait for one node.
pub(crate) const ANSWERS_CAP: usize = 4;

type Out = mpsc::Sender<Result<proto::VerifierMessage, Status>>;

/// One stream, from hello to its end.
pub(crate) struct Conversation {
    desk: Arc<Desk>,
    node: NodeId,
    channel: [u8; 32],
    seat: Seat,
    out: Out,
    stopping: watch::Receiver<bool>,
    asked: Option<Asked>,
}

/// A request that waits for its evidence.
struct Asked {
    request: Request,
    outstanding: Outstanding,
}

/// What answers a challenge.
enum Shown {
    /// Evidence, to be judged here.
    Evidence(Vec<u8>),
    /// What a partner said of it.
    Passport(Vec<u8>),
}

/// Why a stream ended. For our log; the node was told in the stream, where it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Closed,
    Displaced,
    Stopping,
    Misused,
    Unread,
}

impl Conversation {
    pub(crate) fn new(
        desk: Arc<Desk>,
        node: NodeId,
        channel: [u8; 32],
        out: Out,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let seat = desk.live().sit(&node);
        Self { desk, node, channel, seat, out, stopping, asked: None }
    }

    /// Serves the stream until it ends.
    pub(crate) async fn run(mut self, mut inbound: Streaming<proto::NodeMessage>) {
        self.desk.metrics().streams.inc();
        let ended = match self.greet(&mut inbound).await {
            Ok(()) => self.serve(&mut inbound).await,
            Err(ended) => ended,
        };
        self.desk.metrics().streams.dec();
        info!(node = %self.node, ?ended, "stream ended");
    }

    async fn greet(&mut self, inbound: &mut Streaming<proto::NodeMessage>) -> Result<(), Ended> {
        let first = match timeout(HELLO_TIMEOUT, inbound.message()).await {
            Ok(first) => self.received(first).await?,
            Err(_) => return Err(Ended::Closed),
        };
        let NodeRequest::Hello(hello) = first else {
            return Err(self.misused(ProtocolDenial::Unexpected { got: "a request", wanted: "hello" }).await);
        };
        if hello.node_id != self.node {
            return Err(self.misused(ProtocolDenial::OtherNode).await);
        }
        match self.desk.welcome(&self.node, &hello).await {
            Ok((welcome, readmission)) => {
                self.send(Answer::Welcome(welcome)).await?;
                match readmission {
                    Some(readmission) => self.send(Answer::Readmission(readmission)).await,
                    None => Ok(()),
                }
            }
            Err(refused) => {
                self.refuse(refused).await?;
                Err(Ended::Misused)
            }
        }
    }

    async fn serve(&mut self, inbound: &mut Streaming<proto::NodeMessage>) -> Ended {
        loop {
            let unanswered_at = self.asked.as_ref().map(|asked| asked.outstanding.ends());
            let step = tokio::select! {
                () = stopped(&mut self.stopping) => {
                    // The node learns that this is no judgement; it comes back to another replica or later.
                    let told = self.refuse(Refused::Fault(Fault::ShuttingDown)).await;
                    return told.err().unwrap_or(Ended::Stopping);
                }
                push = self.seat.next() => match push {
                    Some(push) => self.send(Answer::Push(push_message(push))).await,
                    None => Err(Ended::Displaced),
                },
                () = at(unanswered_at) => {
                    self.asked = None;
                    self.refuse(Refused::Fault(Fault::ChallengeUnanswered)).await
                }
                message = inbound.message() => match self.received(message).await {
                    Ok(message) => self.answer(message).await,
                    Err(ended) => Err(ended),
                },
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn answer(&mut self, request: NodeRequest) -> Result<(), Ended> {
        let outcome = match request {
            NodeRequest::Hello(_) => {
                return Err(self.misused(ProtocolDenial::Unexpected { got: "hello", wanted: "a request" }).await);
            }
            NodeRequest::Authorize { intent, lineage_head, parents } => {
                self.desk.begin_authorize(&self.node, intent, &parents, lineage_head).await
            }
            NodeRequest::Renew { artifacts, lineage_head, parents, other_checkpoints } => {
                self.desk.parts.gossip.told(&self.node, other_checkpoints);
                match artifacts.as_slice() {
                    // Exactly one, so that each renewal has its own quote.
                    [artifact] => self.desk.begin_renew(&self.node, *artifact, &parents, lineage_head).await,
                    _ => return Err(self.misused(ProtocolDenial::Field { name: "artifacts" }).await),
                }
            }
            NodeRequest::Acknowledge { revocation } => {
                self.desk.live().acknowledged(&self.node, revocation);
                return Ok(());
            }
            NodeRequest::AskJwtSvid { artifact, audiences, lineage_head } => {
                return match self.desk.jwt_svid(&self.node, artifact, &audiences, lineage_head).await {
                    Ok(answer) => self.send(answer).await,
                    Err(refused) => self.refuse(refused).await,
                };
            }
            NodeRequest::Capture { lineage_head } => self.desk.begin_capture(&self.node, lineage_head).await,
            NodeRequest::Evidence { cmw } => return self.conclude(Shown::Evidence(cmw)).await,
            NodeRequest::Passport { cose } => return self.conclude(Shown::Passport(cose)).await,
            NodeRequest::Halt { cose } => {
                let outcome = self.desk.halted(&self.node, cose).await;
                return self.recorded(outcome).await;
            }
            NodeRequest::End { cose } => {
                let outcome = self.desk.ended(&self.node, cose).await;
                return self.recorded(outcome).await;
            }
        };
        match outcome {
            Ok(request) => self.challenge(request).await,
            Err(refused) => self.refuse(refused).await,
        }
    }

    /// Sends a challenge. A request that was still waiting for its evidence is dropped with its own.
    async fn challenge(&mut self, request: Request) -> Result<(), Ended> {
        match self.desk.challenge(&request, self.channel, Instant::now()) {
            Ok(outstanding) => {
                let mut message = outstanding.to_message();
                match self.desk.vouchers(&request) {
                    Ok(vouchers) => message.vouchers = vouchers.iter().map(ToString::to_string).collect(),
                    Err(fault) => return self.refuse(Refused::Fault(fault)).await,
                }
                self.asked = Some(Asked { request, outstanding });
                self.send(Answer::Challenge(message)).await
            }
            Err(fault) => self.refuse(Refused::Fault(fault)).await,
        }
    }

    async fn conclude(&mut self, shown: Shown) -> Result<(), Ended> {
        // Taken out before anything looks at the evidence: whatever comes of it, this challenge is used up.
        let Some(Asked { request, outstanding }) = self.asked.take() else {
            return Err(self.misused(ProtocolDenial::Unexpected { got: "evidence", wanted: "a request" }).await);
        };
        let Some(challenge) = outstanding.consume(Instant::now()) else {
            return self.refuse(Refused::Fault(Fault::ChallengeUnanswered)).await;
        };
        let concluded = match shown {
            Shown::Evidence(cmw) => self.desk.conclude(request, challenge, cmw).await,
            Shown::Passport(cose) => self.desk.conclude_passport(request, challenge, cose).await,
        };
        match concluded {
            Ok(answer) => self.send(answer).await,
            Err(refused) => self.refuse(refused).await,
        }
    }

    async fn recorded(&mut self, outcome: Result<Recorded, Refused>) -> Result<(), Ended> {
        match outcome {
            Ok(recorded) => self.send(Answer::Recorded(recorded.to_message())).await,
            Err(refused) => self.refuse(refused).await,
        }
    }

    async fn refuse(&mut self, refused: Refused) -> Result<(), Ended> {
        self.desk.count(&refused);
        info!(node = %self.node, code = refused.code(), %refused, "refused");
        self.send(Answer::Refusal(refused.to_message())).await
    }

    /// The peer broke the protocol: it is told how, and the stream ends.
    async fn misused(&mut self, denial: ProtocolDenial) -> Ended {
        let told = self.refuse(Refused::Protocol(denial)).await;
        told.err().unwrap_or(Ended::Misused)
    }

    async fn received(&mut self, message: Result<Option<proto::NodeMessage>, Status>) -> Result<NodeRequest, Ended> {
        match message {
            Ok(Some(message)) => match NodeRequest::try_from(message) {
                Ok(request) => Ok(request),
                Err(denial) => Err(self.misused(ProtocolDenial::Field { name: denial.field }).await),
            },
            Ok(None) => Err(Ended::Closed),
            // tonic says OutOfRange for a message above the cap and Internal for bytes that are no message.
            Err(status) if status.code() == Code::OutOfRange => Err(self.misused(ProtocolDenial::TooLarge).await),
            Err(status) if status.code() == Code::Internal => Err(self.misused(ProtocolDenial::Malformed).await),
            Err(status) => {
                debug!(node = %self.node, %status, "stream broke");
                Err(Ended::Closed)
            }
        }
    }

    async fn send(&mut self, message: Answer) -> Result<(), Ended> {
        let message = proto::VerifierMessage { message: Some(message) };
        match timeout(SEND_TIMEOUT, self.out.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::Closed),
            Err(_) => Err(Ended::Unread),
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A closed channel means that whoever would stop us is gone: stop as well.
    stopping.wait_for(|stopping| *stopping).await.map(drop).unwrap_or_default();
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

fn push_message(push: Push) -> proto::Push {
    use proto::push::Push as Kind;
    let push = match push {
        Push::Revocation(cose) => Kind::Revocation(proto::Revocation { cose: cose.to_vec() }),
        Push::Halt { code, reason } => Kind::Halt(proto::Halt { code, reason }),
        Push::Checkpoint(note) => Kind::Checkpoint(note.as_bytes().to_vec()),
        Push::TrustBundle(cose) => Kind::TrustBundle(proto::ByAuthority { cose: cose.to_vec() }),
        Push::ClientCertificate(pem) => Kind::ClientCertificate(pem.to_vec()),
        Push::ParentOver { artifact, code } => {
            Kind::ParentOver(proto::ParentOver { artifact: artifact.0.to_vec(), code: code.to_owned() })
        }
        Push::WitnessPolicy(statements) => Kind::WitnessPolicy(proto::ByAuthority { cose: statements.to_vec() }),
    };
    proto::Push { push: Some(push) }
}
