//! First contact: a node proves what it is before anything about it is stored.
//!
//! A TPM (T1–T4): identity → judged, credential made → the activation secret comes back once, with the AK's quote over it
//! and the record key. A TEE: platform → challenge → evidence over the node id and the record key, judged as all
//! evidence is. A TPM in a TEE proves both, on one stream. Then the identity is fixed for good, and the client certificate
//! is computed from what was proven.

mod platform;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use evidence::EvidenceKind;
use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tee::enrolment_subject;
use evidence::tpm::{EnrolledTpm, Enrolment, Identity, PendingActivation};
use serde_bytes::ByteBuf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{info, warn};
use wire::bounded::enrolment::{EnrolIdentity, EnrolRequest, TeeKind, TpmKind};
use wire::proto::{self, enrol_reply};
use zeroize::Zeroizing;

use self::platform::Answered;
pub use self::record::PlatformEnrolment;
use crate::admission::Enrolling;
use crate::ca::request_is_by;
use crate::challenges::{About, Outstanding};
use crate::desk::Desk;
use crate::fault::Fault;
use crate::random;
use crate::refusal::{ProtocolDenial, Refused};
use crate::tls::Peer;
use crate::trust::Trust;

/// A request of this stream is at most: six certificates of 16 KiB, two public areas, a CSR.
pub const REQUEST_CAP_BYTES: usize = 112 * 1024;
/// Each message must come by then; the second one waits for the node's TPM.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Strangers whose TPM is being asked at once.
const AT_ONCE: usize = 64;

/// Serves `Enrolment.Enrol` to anyone.
pub struct EnrolmentService {
    desk: Arc<Desk>,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl EnrolmentService {
    /// Enrols at this desk until `stopping` turns true.
    pub fn new(desk: Arc<Desk>, stopping: watch::Receiver<bool>) -> Self {
        Self { desk, places: Arc::new(Semaphore::new(AT_ONCE)), stopping }
    }
}

type Replies = mpsc::Sender<Result<proto::EnrolReply, Status>>;

#[tonic::async_trait]
impl proto::enrolment_server::Enrolment for EnrolmentService {
    type EnrolStream = ReceiverStream<Result<proto::EnrolReply, Status>>;

    async fn enrol(
        &self,
        request: Request<Streaming<proto::EnrolRequest>>,
    ) -> Result<Response<Self::EnrolStream>, Status> {
        // A listener that knows no channel can bind no evidence to it: it enrols nobody.
        let peer = request.extensions().get::<Peer>().map(|peer| (peer.address, peer.channel));
        let (address, channel) = peer.ok_or_else(|| Status::unauthenticated("protocol.no_channel"))?;
        let place =
            self.places.clone().try_acquire_owned().map_err(|_| Status::resource_exhausted("fault.overloaded"))?;
        let (replies, stream) = mpsc::channel(2);
        let (desk, inbound, mut stopping) = (self.desk.clone(), request.into_inner(), self.stopping.clone());
        tokio::spawn(async move {
            let _place = place;
            let outcome = tokio::select! {
                outcome = enrol(&desk, channel, inbound, &replies) => outcome,
                _ = stopping.wait_for(|stopping| *stopping) => Err(Fault::ShuttingDown.into()),
            };
            let reply = match outcome {
                Ok(grant) => enrol_reply::Message::Grant(grant),
                Err(refused) => {
                    desk.count(&refused);
                    warn!(%address, code = refused.code(), %refused, "enrolment refused");
                    enrol_reply::Message::Refusal(refused.to_message())
                }
            };
            // A peer that has gone needs no answer.
            replies.send(Ok(proto::EnrolReply { message: Some(reply) })).await.unwrap_or_default();
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn enrol(
    desk: &Arc<Desk>,
    channel: [u8; 32],
    inbound: Streaming<proto::EnrolRequest>,
    replies: &Replies,
) -> Result<proto::EnrolGrant, Refused> {
    let trust = desk.trust()?;
    let mut stranger = Stranger { desk, trust: &trust, channel, inbound, replies };
    match stranger.next().await? {
        EnrolRequest::Identity(claimed) => {
            let kind = claimed.kind;
            let (identity, record_key) = read_identity(claimed)?;
            let (enrolment, enrolled) = stranger.prove_tpm(identity).await?;
            let tpm = Enrolling::tpm(&enrolment, &enrolled)?;
            let enrolled = Arc::new(enrolled);
            let enrolling = match kind {
                TpmKind::Tpm => tpm,
                TpmKind::OnSevSnp => stranger.prove_around(EvidenceKind::TpmOnSevSnp, tpm, &enrolled).await?,
                TpmKind::OnTdx => stranger.prove_around(EvidenceKind::TpmOnTdx, tpm, &enrolled).await?,
            };
            stranger.grant(enrolling, Some(enrolled), &record_key).await
        }
        EnrolRequest::Platform(claimed) => {
            let kind = match claimed.kind {
                TeeKind::SevSnp => EvidenceKind::SevSnp,
                TeeKind::Tdx => EvidenceKind::Tdx,
            };
            let (key, record_key) = read_record_key(&claimed.record_key, &claimed.csr)?;
            let enrolling = stranger.prove_tee(kind, claimed.node_id, key).await?;
            stranger.grant(enrolling, None, &record_key).await
        }
        EnrolRequest::Proof(_) => Err(unexpected("proof", "identity or platform")),
        EnrolRequest::Evidence { .. } => Err(unexpected("evidence", "identity or platform")),
    }
}

/// Somebody who enrols: nothing about them is stored, and nothing is logged, before they proved what they are.
struct Stranger<'s> {
    desk: &'s Arc<Desk>,
    trust: &'s Arc<Trust>,
    channel: [u8; 32],
    inbound: Streaming<proto::EnrolRequest>,
    replies: &'s Replies,
}

impl Stranger<'_> {
    async fn next(&mut self) -> Result<EnrolRequest, Refused> {
        match timeout(MESSAGE_TIMEOUT, self.inbound.message()).await {
            Ok(Ok(Some(message))) => {
                EnrolRequest::try_from(message).map_err(|denial| ProtocolDenial::Field { name: denial.field }.into())
            }
            Ok(Ok(None)) => Err(ProtocolDenial::Empty.into()),
            Ok(Err(status)) if status.code() == Code::OutOfRange => Err(ProtocolDenial::TooLarge.into()),
            Ok(Err(_)) => Err(ProtocolDenial::Malformed.into()),
            Err(_) => Err(Fault::ChallengeUnanswered.into()),
        }
    }

    async fn ask(&self, question: enrol_reply::Message) -> Result<(), Refused> {
        let reply = proto::EnrolReply { message: Some(question) };
        self.replies.send(Ok(reply)).await.map_err(|_| ProtocolDenial::Empty.into())
    }

    /// T1-T4: the TPM's EK and AK.
    async fn prove_tpm(&mut self, identity: Identity) -> Result<(Enrolment, EnrolledTpm), Refused> {
        let (desk, trust) = (self.desk, self.trust);
        let secret = Zeroizing::new(random::bytes().map_err(Fault::from)?);
        let randomness = Zeroizing::new(random::bytes().map_err(Fault::from)?);
        let now = desk.now()?;
        let (pending, credential) =
            PendingActivation::start(identity, trust.epoch(), secret, &randomness, trust.anchors(), now)
                .map_err(Refused::unproven)?;
        self.ask(enrol_reply::Message::Challenge(proto::EnrolChallenge {
            credential_blob: credential.blob,
            encrypted_secret: credential.encrypted_secret,
        }))
        .await?;
        let proof = match self.next().await? {
            EnrolRequest::Proof(proof) => proof,
            EnrolRequest::Identity(_) => return Err(unexpected("identity", "proof")),
            EnrolRequest::Platform(_) => return Err(unexpected("platform", "proof")),
            EnrolRequest::Evidence { .. } => return Err(unexpected("evidence", "proof")),
        };
        let now = desk.now()?;
        // Taking the answer consumes the activation: a second try needs a second secret.
        let secret = Zeroizing::new(proof.secret);
        pending
            .complete(&secret, &proof.record_key_certify, &proof.record_key_signature, trust.anchors(), now)
            .map_err(Refused::unproven)
    }

    /// The platform of a TEE without a TPM.
    async fn prove_tee(&mut self, kind: EvidenceKind, id: NodeId, key: PublicKey) -> Result<Enrolling, Refused> {
        let answered = self.challenged(kind, &id, &key).await?;
        let proven = platform::prove(self.desk, self.trust, answered, id, key, None).await?;
        Ok(proven.alone()?)
    }

    /// The platform around a TPM that proved itself on this very stream.
    async fn prove_around(
        &mut self,
        kind: EvidenceKind,
        tpm: Enrolling,
        enrolled: &Arc<EnrolledTpm>,
    ) -> Result<Enrolling, Refused> {
        let (id, key) = (tpm.identity.id.clone(), tpm.identity.record_key.clone());
        let answered = self.challenged(kind, &id, &key).await?;
        let proven = platform::prove(self.desk, self.trust, answered, id, key, Some(enrolled)).await?;
        Ok(proven.around(tpm)?)
    }

    /// Asks for evidence of `kind` about the id and the record key, and takes the answer.
    async fn challenged(&mut self, kind: EvidenceKind, id: &NodeId, key: &PublicKey) -> Result<Answered, Refused> {
        let about = About {
            channel: self.channel,
            audience: self.desk.audience(),
            epoch: self.trust.epoch(),
            subject: enrolment_subject(id, key),
            lineage_head: Sha256Digest::ZERO,
        };
        let demands = self.trust.enrolment_demands(kind);
        let outstanding = Outstanding::issue(demands, about, self.desk.now()?, Instant::now()).map_err(Fault::from)?;
        self.ask(enrol_reply::Message::Platform(outstanding.to_message())).await?;
        let cmw = match self.next().await? {
            EnrolRequest::Evidence { cmw } => cmw,
            EnrolRequest::Identity(_) => return Err(unexpected("identity", "evidence")),
            EnrolRequest::Proof(_) => return Err(unexpected("proof", "evidence")),
            EnrolRequest::Platform(_) => return Err(unexpected("platform", "evidence")),
        };
        // Used up before anything looks at the evidence.
        let challenge = outstanding.consume(Instant::now()).ok_or(Fault::ChallengeUnanswered)?;
        Ok(Answered { cmw, challenge })
    }

    async fn grant(
        &self,
        enrolling: Enrolling,
        tpm: Option<Arc<EnrolledTpm>>,
        record_key: &[u8; 32],
    ) -> Result<proto::EnrolGrant, Refused> {
        let (desk, trust, node) = (self.desk, self.trust, enrolling.identity.id.clone());
        let admitted = desk.enrol(enrolling, trust).await?;
        if let Some(enrolled) = tpm {
            desk.proven.keep(&node, enrolled);
        }
        let client_certificate = desk.certificate_for(&node, record_key).await?;
        info!(%node, status = ?admitted.status, entry = admitted.entry, "enrolled");
        desk.metrics().enrolments.inc();
        let bundle = trust.bundle.clone();
        let mut signatures = bundle.signatures.into_iter();
        let trust_bundle = signatures.next().unwrap_or_default();
        Ok(proto::EnrolGrant {
            client_certificate,
            trust_bundle,
            further_trust_bundle: signatures.collect(),
            lineage_head: admitted.head.0.to_vec(),
            audience: desk.audience().to_owned(),
            policy_authority_keys: bundle.authority.iter().map(|key| key.cose_key().to_vec()).collect(),
            policy_authority_threshold: u32::from(bundle.threshold),
            lab: trust.inputs.lab,
        })
    }
}

fn unexpected(got: &'static str, wanted: &'static str) -> Refused {
    ProtocolDenial::Unexpected { got, wanted }.into()
}

/// Reads what the node says it is, and proves that it holds the record key.
fn read_identity(claimed: EnrolIdentity) -> Result<(Identity, [u8; 32]), Refused> {
    let (_, raw) = read_record_key(&claimed.record_key, &claimed.csr)?;
    let identity = Identity {
        node_id: claimed.node_id,
        ek_public: ByteBuf::from(claimed.ek_public),
        ek_chain: claimed.ek_chain.into_iter().map(ByteBuf::from).collect(),
        ak_public: ByteBuf::from(claimed.ak_public),
        record_key: ByteBuf::from(claimed.record_key),
    };
    Ok((identity, raw))
}

/// The record key, shown to be held by whoever asks for a certificate for it.
fn read_record_key(cose_key: &[u8], csr: &[u8]) -> Result<(PublicKey, [u8; 32]), Refused> {
    let field = |name| Refused::from(ProtocolDenial::Field { name });
    let record_key = PublicKey::from_cose_key(cose_key).map_err(|_| field("record_key"))?;
    let raw: [u8; 32] = record_key.raw().try_into().map_err(|_| field("record_key"))?;
    request_is_by(csr, &raw).map_err(|_| field("csr"))?;
    Ok((record_key, raw))
}

/// A certificate as text.
pub(crate) fn pem(der: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    // RFC 7468 §2: lines of 64 characters.
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().copied().map(char::from));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out.into_bytes()
}
