//! One stream with a verifier, from hello to its end.

mod jwt;

use std::sync::Arc;
use std::time::Duration;

use evidence::digest::Sha256Digest;
use governance::governance_state::VerifiedState;
use governance::node_key::NodeKey;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::bounded::verifier::{Authorization, Push, Refusal, VerifierAnswer as Answer};
use wire::proto::{self, node_message::Message};
use wire::protocol::{capture_subject, renewal_subject};

use super::Node;
use super::domain::{Accepted, Asked, Domain, Seen};
use super::link::{Ask, Asks, LinkStatus, Reply};
use super::passport::Vouchers;
use super::refused::Refused;
use crate::clock::unix_now;
use crate::collect::{self, Collected, Demand, HeldKey};
use crate::outbox::{RecordKind, Unsent};

/// Why a stream ended without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parted {
    /// The verifier closed it.
    Closed,
    /// Ours, to say hello again.
    Rehello,
    /// The daemon stops.
    NodeGone,
}

/// What a challenge was answered with.
struct Shown {
    /// Digest of what was sent.
    digest: Sha256Digest,
    /// The key that execution keys come wrapped to.
    node_key: HeldKey,
    /// The evidence; none where another domain's word was shown.
    collected: Option<Collected>,
}

pub(crate) struct Conversation<'a> {
    node: Arc<Node>,
    domain: &'a Domain,
    seen: &'a Mutex<Seen>,
    exporter: [u8; 32],
    to: mpsc::Sender<proto::NodeMessage>,
    from: Streaming<proto::VerifierMessage>,
    state: Arc<VerifiedState>,
    log_size: u64,
}

impl<'a> Conversation<'a> {
    /// Connects, says hello and judges the welcome.
    pub(crate) async fn open(node: &Arc<Node>, domain: &'a Domain, seen: &'a Mutex<Seen>) -> Result<Self, Refused> {
        let connection = node.connect(domain).await?;
        let mut client = proto::attestation_client::AttestationClient::new(connection.channel)
            .max_decoding_message_size(MESSAGE_CAP_BYTES);
        let (to, messages) = mpsc::channel(1);
        let newest_checkpoint = seen.lock().await.checkpoint.clone().unwrap_or_default().into_bytes();
        let hello = proto::Hello {
            node_id: node.id().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            newest_checkpoint,
            halted: node.is_halted(),
            other_checkpoints: node.checkpoints_beside(&domain.name),
        };
        // Queued first: the server answers the call itself only after it read something.
        to.try_send(message(Message::Hello(hello))).map_err(|_| unreachable_peer("hello not sent"))?;
        let opening = client.attest(ReceiverStream::new(messages));
        let from = timeout(ANSWER_WITHIN, opening).await.map_err(|_| unreachable_peer("no answer to hello"))?;
        let mut from = from.map_err(|status| unreachable_peer(status.message()))?.into_inner();
        let welcome = match heard(timeout(ANSWER_WITHIN, from.message()).await)?.answer {
            Answer::Welcome(welcome) => welcome,
            Answer::Refusal(refusal) => return Err(Refused::by_verifier(refusal)),
            other @ (Answer::Challenge(_)
            | Answer::Authorization(_)
            | Answer::Recorded(_)
            | Answer::JwtSvid(_)
            | Answer::Push(_)
            | Answer::Readmission { .. }) => return Err(unexpected_instead(&other, "welcome")),
        };
        node.follow_bundle(domain, &welcome.trust_bundle)?;
        let (state, log_size) = {
            let mut seen = seen.lock().await;
            let state = node.judged(domain, domain.welcomed(&welcome, &mut seen, unix_now())).await?;
            node.remember_seen(&domain.name, &seen)?;
            (Arc::new(state), log_size(&welcome.checkpoint))
        };
        node.compare_elsewhere(&domain.name, &welcome.other_checkpoints);
        node.welcomed(&domain.name, welcome.lineage_head)?;
        node.show_certificate(&domain.name, welcome.client_certificate)?;
        Ok(Self { node: Arc::clone(node), domain, seen, exporter: connection.exporter, to, from, state, log_size })
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.state.state().epoch
    }

    /// Serves asks, unsent records and pushes until the stream ends.
    pub(crate) async fn serve(
        &mut self,
        asks: &mut Asks,
        status: &watch::Sender<LinkStatus>,
    ) -> Result<Parted, Refused> {
        let node = Arc::clone(&self.node);
        let hello_again = tokio::time::sleep(HELLO_AGAIN_AFTER);
        tokio::pin!(hello_again);
        loop {
            // Taken before looking, so that nothing that is added in between is missed.
            let added = node.outbox.added();
            if let Some((number, unsent)) = node.outbox.oldest(&self.domain.name) {
                self.send_record(number, unsent).await?;
                continue;
            }
            if node.wants_capture(&self.domain.name) {
                self.capture().await?;
                continue;
            }
            tokio::select! {
                biased;
                received = self.from.message() => match received {
                    Ok(None) => return Ok(Parted::Closed),
                    received => self.unasked(heard(Ok(received))?.answer).await?,
                },
                ask = asks.leases.recv() => match ask {
                    Some(ask) => self.answer(ask).await?,
                    None => return Ok(Parted::NodeGone),
                },
                () = added => {}
                Some(ask) = asks.jwt.recv() => self.identify(ask).await?,
                () = &mut hello_again, if node.is_halted() => return Ok(Parted::Rehello),
            }
            let epoch = self.seen.lock().await.epoch;
            status.send_if_modified(|status| std::mem::replace(&mut status.epoch, epoch) != epoch);
        }
    }

    /// Ends the stream after what was sent last: whoever drops it at once may drop an acknowledgement with it.
    pub(crate) async fn part(self) {
        let Self { to, mut from, .. } = self;
        drop(to);
        let ended = async { while let Ok(Some(_)) = from.message().await {} };
        let _ = timeout(PARTED_WITHIN, ended).await; // a verifier that does not end it loses it
    }

    /// One ask from request to answer. An error ends the stream; the execution was told by then.
    async fn answer(&mut self, ask: Ask) -> Result<(), Refused> {
        let reply = ask.reply.clone();
        reply.send(Reply::Governance(Arc::clone(&self.state), self.log_size));
        match self.exchange(&ask).await {
            Ok(Ok((accepted, node_key))) => {
                reply.send(Reply::Accepted(Box::new(accepted), node_key));
                Ok(())
            }
            Ok(Err(refused)) => {
                reply.send(Reply::Refused(refused));
                Ok(())
            }
            Err(broken) => {
                reply.send(Reply::Refused(broken.clone()));
                Err(broken)
            }
        }
    }

    /// The outer error ends the stream, the inner one only this request.
    async fn exchange(&mut self, ask: &Ask) -> Result<Result<(Accepted, HeldKey), Refused>, Refused> {
        let lineage_head = self.node.state.lineage_head(&self.domain.name)?;
        let head = lineage_head.as_bytes().to_vec();
        let (request, subject) = match &ask.held {
            None => {
                let signed = ask.intent.signed.get(&self.domain.name).cloned();
                let intent =
                    signed.ok_or_else(|| Refused::fault("fault.bug", "an intent that does not name the domain"))?;
                (
                    Message::Authorize(proto::Authorize { intent, lineage_head: head, parents: ask.parents.clone() }),
                    ask.intent.digest,
                )
            }
            Some(held) => {
                let artifacts = vec![held.digest().as_bytes().to_vec()];
                let (parents, other_checkpoints) =
                    (ask.parents.clone(), self.node.checkpoints_beside(&self.domain.name));
                let renew = proto::Renew { artifacts, lineage_head: head, parents, other_checkpoints };
                (Message::Renew(renew), renewal_subject(&[held.digest()]))
            }
        };
        let shown = match self.attest(request, subject, lineage_head, Some(&ask.vouchers)).await? {
            Ok(shown) => shown,
            Err(refused) => return Ok(Err(refused)),
        };
        match self.next_answer().await?.answer {
            Answer::Authorization(answer) => {
                self.accept(answer, ask, &shown).await.map(|accepted| Ok((accepted, shown.node_key)))
            }
            Answer::Refusal(refusal) => self.refused(refusal).map(Err),
            other @ (Answer::Welcome(_)
            | Answer::Challenge(_)
            | Answer::Recorded(_)
            | Answer::JwtSvid(_)
            | Answer::Push(_)
            | Answer::Readmission { .. }) => Err(unexpected_instead(&other, "authorization")),
        }
    }

    /// Request, challenge, evidence: what is the same for all three requests. A domain that takes the word of another that
    /// granted this execution is shown that instead.
    async fn attest(
        &mut self,
        request: Message,
        subject: Sha256Digest,
        lineage_head: Sha256Digest,
        vouchers: Option<&watch::Receiver<Vouchers>>,
    ) -> Result<Result<Shown, Refused>, Refused> {
        self.send(request).await?;
        let (terms, challenge) = match self.next_answer().await? {
            Heard { answer: Answer::Challenge(terms), challenge: Some(challenge) } => (terms, challenge),
            Heard { answer: Answer::Refusal(refusal), .. } => return self.refused(refusal).map(Err),
            Heard { answer: other, .. } => return Err(unexpected_instead(&other, "challenge")),
        };
        let audience = self.domain.name.verifier_spiffe_id();
        let kind = self.node.config.identity.kind();
        let asked = collect::Asked { kind, audience, subject, lineage_head, channel: self.exporter };
        // A challenge that is not about what was asked is no answer: the verifier is not to be spoken with further.
        let demand = Demand::accept(&challenge, asked)?;
        let epoch_seen = self.seen.lock().await.epoch;
        if demand.epoch() < epoch_seen {
            return Err(Refused::denied("governance.state_rolled_back", "challenge of an older epoch"));
        }
        let told = &self.domain.name;
        let vouched = match vouchers {
            Some(vouchers) => self.node.vouched(vouchers, told, &terms.vouchers).await,
            None => None,
        };
        if let Some((partner, vouched)) = vouched {
            let cose = self.node.passport(told, (partner, &vouched), &terms, self.exporter, lineage_head)?;
            let shown = Shown { digest: Sha256Digest::of(&cose), node_key: vouched.node_key, collected: None };
            self.send(Message::Passport(proto::Passport { cose })).await?;
            return Ok(Ok(shown));
        }
        match self.node.collector.collect(&demand).await {
            Ok(collected) => {
                self.send(Message::Evidence(proto::Evidence { cmw: collected.evidence.bytes().to_vec() })).await?;
                let (digest, node_key) = (collected.evidence.digest(), collected.node_key.clone());
                Ok(Ok(Shown { digest, node_key, collected: Some(collected) }))
            }
            // The challenge stays unanswered and its verifier will say so later; a new stream is the clean way on.
            Err(fault) => Err(fault.into()),
        }
    }

    async fn accept(&mut self, answer: Authorization, ask: &Ask, shown: &Shown) -> Result<Accepted, Refused> {
        let head = answer.lineage_head;
        let node_key = NodeKey::from_cose_key(shown.node_key.cose_key())
            .map_err(|denial| Refused::denied(denial.code(), &denial))?;
        let asked = Asked {
            intent: &ask.intent.intent,
            intent_digest: ask.intent.digest,
            node_key: &node_key,
            evidence: shown.digest,
            held: ask.held.as_ref(),
        };
        let mut accepted = {
            let mut seen = self.seen.lock().await;
            let accepted =
                self.node.judged(self.domain, self.domain.accept(&answer, asked, &mut seen, unix_now())).await?;
            self.node.note_seen(&self.domain.name, &seen);
            accepted
        };
        // Durable before the artifact is used: what runs goes on by it; what does not run yet keeps what all domains said before
        // it starts. The next request names this head, and is durable first.
        self.node.state.hear_lineage_head(&self.domain.name, head)?;
        if ask.held.is_some() {
            self.node.keep_heard()?;
        }
        match &shown.collected {
            Some(collected) => self.node.attested(collected),
            // The result that it names is another domain's, and says nothing to a third.
            None => accepted.result = None,
        }
        Ok(accepted)
    }

    fn refused(&self, refusal: Refusal) -> Result<Refused, Refused> {
        if let Some(head) = refusal.lineage_head {
            self.node.advance_lineage(&self.domain.name, head)?;
        }
        Ok(Refused::by_verifier(refusal))
    }

    /// Gives the verifier evidence to keep, as a source of reference values; nothing is granted.
    async fn capture(&mut self) -> Result<(), Refused> {
        let lineage_head = self.node.state.lineage_head(&self.domain.name)?;
        let request = Message::Capture(proto::Capture { lineage_head: lineage_head.as_bytes().to_vec() });
        let refused = match self.attest(request, capture_subject(), lineage_head, None).await? {
            Err(refused) => refused,
            Ok(_) => match self.next_answer().await?.answer {
                Answer::Recorded(recorded) => {
                    self.node.advance_lineage(&self.domain.name, recorded.lineage_head)?;
                    self.node.captured(&self.domain.name);
                    return Ok(());
                }
                Answer::Refusal(refusal) => self.refused(refusal)?,
                other @ (Answer::Welcome(_)
                | Answer::Challenge(_)
                | Answer::Authorization(_)
                | Answer::JwtSvid(_)
                | Answer::Push(_)
                | Answer::Readmission { .. }) => return Err(unexpected_instead(&other, "recorded")),
            },
        };
        tracing::warn!(domain = %self.domain.name, %refused, "capture refused");
        self.node.captured(&self.domain.name);
        Ok(())
    }

    async fn send_record(&mut self, number: u64, unsent: Unsent) -> Result<(), Refused> {
        let record = proto::Record { cose: unsent.cose.into_vec() };
        self.send(match unsent.kind {
            RecordKind::Halt => Message::Halt(record),
            RecordKind::End => Message::End(record),
        })
        .await?;
        match self.next_answer().await?.answer {
            Answer::Recorded(recorded) => {
                self.node.advance_lineage(&self.domain.name, recorded.lineage_head)?;
                self.node.recorded(&self.domain.name, unsent.kind, number, recorded.index).await?;
                Ok(())
            }
            Answer::Refusal(refusal) => {
                let refused = self.refused(refusal)?;
                if refused.is_denial() {
                    // It will never be taken; the verifier has its own record of that.
                    tracing::error!(domain = %self.domain.name, %refused, "a signed record was refused");
                    self.node.outbox.acknowledged(number)?;
                    return Ok(());
                }
                Err(refused)
            }
            other @ (Answer::Welcome(_)
            | Answer::Challenge(_)
            | Answer::Authorization(_)
            | Answer::JwtSvid(_)
            | Answer::Push(_)
            | Answer::Readmission { .. }) => Err(unexpected_instead(&other, "recorded")),
        }
    }

    /// The next answer to our request; pushes that come between are followed at once.
    async fn next_answer(&mut self) -> Result<Heard, Refused> {
        let until = tokio::time::sleep(ANSWER_WITHIN);
        tokio::pin!(until);
        loop {
            let heard = tokio::select! {
                received = self.from.message() => heard(Ok(received))?,
                () = &mut until => return Err(unreachable_peer("no answer in time")),
            };
            match &heard.answer {
                Answer::Push(_) | Answer::Readmission { .. } => self.unasked(heard.answer).await?,
                Answer::Welcome(_) => return Err(unexpected_instead(&heard.answer, "an answer")),
                Answer::Challenge(_)
                | Answer::Authorization(_)
                | Answer::Refusal(_)
                | Answer::Recorded(_)
                | Answer::JwtSvid(_) => return Ok(heard),
            }
        }
    }

    async fn unasked(&mut self, answer: Answer) -> Result<(), Refused> {
        match answer {
            Answer::Push(push) => {
                let revocation = match &push {
                    Push::Revocation(cose) => Some(Sha256Digest::of(cose)),
                    Push::Halt { .. }
                    | Push::Checkpoint(_)
                    | Push::TrustBundle(_)
                    | Push::ClientCertificate(_)
                    | Push::ParentOver { .. }
                    | Push::WitnessPolicy(_) => None,
                };
                self.node.pushed(self.domain, push, self.seen).await?;
                match revocation {
                    Some(digest) => {
                        let revocation = digest.as_bytes().to_vec();
                        self.send(Message::Acknowledge(proto::Acknowledge { revocation })).await
                    }
                    None => Ok(()),
                }
            }
            Answer::Readmission { statements } => self.node.readmitted(self.domain, &statements, self.seen).await,
            // Says that the verifier stops, or that a challenge of ours went unanswered.
            Answer::Refusal(refusal) => {
                let refused = Refused::by_verifier(refusal);
                tracing::warn!(domain = %self.domain.name, %refused, "unasked refusal");
                Ok(())
            }
            Answer::Welcome(_)
            | Answer::Challenge(_)
            | Answer::Authorization(_)
            | Answer::Recorded(_)
            | Answer::JwtSvid(_) => Err(unexpected_instead(&answer, "a push")),
        }
    }

    async fn send(&self, content: Message) -> Result<(), Refused> {
        match timeout(ANSWER_WITHIN, self.to.send(message(content))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(unreachable_peer("the stream does not take messages")),
        }
    }
}

fn message(content: Message) -> proto::NodeMessage {
    proto::NodeMessage { message: Some(content) }
}

fn log_size(checkpoint: &[u8]) -> u64 {
    // Verified with the welcome; here only for display.
    let text = String::from_utf8_lossy(checkpoint);
    text.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
}

fn unreachable_peer(what: impl std::fmt::Display) -> Refused {
    Refused::fault("fault.verifier_unreachable", what)
}

fn unexpected_instead(got: &Answer, wanted: &str) -> Refused {
    let got = match got {
        Answer::Welcome(_) => "welcome",
        Answer::Challenge(_) => "challenge",
        Answer::Authorization(_) => "authorization",
        Answer::Refusal(_) => "refusal",
        Answer::Recorded(_) => "recorded",
        Answer::JwtSvid(_) => "a JWT-SVID",
        Answer::Push(_) => "push",
        Answer::Readmission { .. } => "readmission",
    };
    Refused::fault("fault.verifier_protocol", format_args!("{got} came where {wanted} was expected"))
}

/// A message within its bounds; a challenge also in the form that the collector reads.
struct Heard {
    answer: Answer,
    challenge: Option<proto::Challenge>,
}

fn heard(received: Result<Result<Option<proto::VerifierMessage>, Status>, Elapsed>) -> Result<Heard, Refused> {
    let message = match received {
        Ok(Ok(Some(message))) => message,
        Ok(Ok(None)) => return Err(unreachable_peer("the stream ended")),
        Ok(Err(status)) => return Err(unreachable_peer(status.message())),
        Err(_) => return Err(unreachable_peer("no answer in time")),
    };
    let challenge = match &message.message {
        Some(proto::verifier_message::Message::Challenge(challenge)) => Some(challenge.clone()),
        Some(_) | None => None,
    };
    let answer = Answer::try_from(message).map_err(|denial| Refused::fault("fault.verifier_protocol", denial))?;
    Ok(Heard { answer, challenge })
}

/// Longest time to an answer; appraisal takes milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A halted node says hello again after this, to ask for its readmission.
const HELLO_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A verifier ends its side of a stream as soon as it has read the end of ours.
const PARTED_WITHIN: Duration = Duration::from_secs(1);
/// Artifact, result, keys and receipt with room to spare.
const MESSAGE_CAP_BYTES: usize = 1024 * 1024;
