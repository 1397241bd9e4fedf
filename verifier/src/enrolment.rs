//! First contact: a node proves its EK and AK before anything about it is stored (T1–T4).
//!
//! identity → judged, credential made → the activation secret comes back once, with the AK's quote over it and the
//! record key → (id, EK, AK) fixed for good → client certificate, computed from what was proven.

use std::sync::Arc;
use std::time::Duration;

use evidence::cose::PublicKey;
use evidence::tpm::{EnrolledTpm, Enrolment, Identity, PendingActivation};
use serde_bytes::ByteBuf;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{info, warn};
use wire::bounded::enrolment::{EnrolIdentity, EnrolRequest, TpmKind};
use wire::proto::{self, enrol_reply};
use zeroize::Zeroizing;

use crate::admission::Enrolling;
use crate::ca::request_is_by;
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
        let address = request.extensions().get::<Peer>().map(|peer| peer.address);
        let place =
            self.places.clone().try_acquire_owned().map_err(|_| Status::resource_exhausted("fault.overloaded"))?;
        let (replies, stream) = mpsc::channel(2);
        let (desk, inbound, mut stopping) = (self.desk.clone(), request.into_inner(), self.stopping.clone());
        tokio::spawn(async move {
            let _place = place;
            let outcome = tokio::select! {
                outcome = enrol(&desk, inbound, &replies) => outcome,
                _ = stopping.wait_for(|stopping| *stopping) => Err(Fault::ShuttingDown.into()),
            };
            let reply = match outcome {
                Ok(grant) => enrol_reply::Message::Grant(grant),
                Err(refused) => {
                    desk.count(&refused);
                    warn!(?address, code = refused.code(), %refused, "enrolment refused");
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
    mut inbound: Streaming<proto::EnrolRequest>,
    replies: &Replies,
) -> Result<proto::EnrolGrant, Refused> {
    let EnrolRequest::Identity(claimed) = next(&mut inbound).await? else {
        return Err(ProtocolDenial::Unexpected { got: "proof", wanted: "identity" }.into());
    };
    if claimed.kind != TpmKind::Tpm {
        return Err(ProtocolDenial::Field { name: "kind" }.into());
    }
    let (identity, record_key) = read_identity(claimed)?;
    let trust = desk.trust()?;
    let secret = Zeroizing::new(random::bytes().map_err(Fault::from)?);
    let randomness = Zeroizing::new(random::bytes().map_err(Fault::from)?);
    let now = desk.now()?;
    let (pending, credential) =
        PendingActivation::start(identity, trust.epoch(), secret, &randomness, trust.anchors(), now)
            .map_err(stranger)?;
    let challenge =
        proto::EnrolChallenge { credential_blob: credential.blob, encrypted_secret: credential.encrypted_secret };
    let reply = proto::EnrolReply { message: Some(enrol_reply::Message::Challenge(challenge)) };
    replies.send(Ok(reply)).await.map_err(|_| ProtocolDenial::Empty)?;
    let EnrolRequest::Proof(proof) = next(&mut inbound).await? else {
        return Err(ProtocolDenial::Unexpected { got: "identity", wanted: "proof" }.into());
    };
    let now = desk.now()?;
    // Taking the answer consumes the activation: a second try needs a second secret.
    let secret = Zeroizing::new(proof.secret);
    let (enrolment, enrolled) = pending
        .complete(&secret, &proof.record_key_certify, &proof.record_key_signature, trust.anchors(), now)
        .map_err(stranger)?;
    grant(desk, &trust, enrolment, enrolled, &record_key).await
}

/// Nothing is logged about strangers: their TPM proved nothing yet.
fn stranger(denial: evidence::EvidenceDenial) -> Refused {
    Refused::unproven(denial)
}

async fn next(inbound: &mut Streaming<proto::EnrolRequest>) -> Result<EnrolRequest, Refused> {
    match timeout(MESSAGE_TIMEOUT, inbound.message()).await {
        Ok(Ok(Some(message))) => {
            EnrolRequest::try_from(message).map_err(|denial| ProtocolDenial::Field { name: denial.field }.into())
        }
        Ok(Ok(None)) => Err(ProtocolDenial::Empty.into()),
        Ok(Err(status)) if status.code() == Code::OutOfRange => Err(ProtocolDenial::TooLarge.into()),
        Ok(Err(_)) => Err(ProtocolDenial::Malformed.into()),
        Err(_) => Err(Fault::ChallengeUnanswered.into()),
    }
}

/// Reads what the node says it is, and proves that it holds the record key.
fn read_identity(claimed: EnrolIdentity) -> Result<(Identity, [u8; 32]), Refused> {
    let field = |name| Refused::from(ProtocolDenial::Field { name });
    let record_key = PublicKey::from_cose_key(&claimed.record_key).map_err(|_| field("record_key"))?;
    let raw: [u8; 32] = record_key.raw().try_into().map_err(|_| field("record_key"))?;
    request_is_by(&claimed.csr, &raw).map_err(|_| field("csr"))?;
    let identity = Identity {
        node_id: claimed.node_id,
        ek_public: ByteBuf::from(claimed.ek_public),
        ek_chain: claimed.ek_chain.into_iter().map(ByteBuf::from).collect(),
        ak_public: ByteBuf::from(claimed.ak_public),
        record_key: ByteBuf::from(claimed.record_key),
    };
    Ok((identity, raw))
}

async fn grant(
    desk: &Arc<Desk>,
    trust: &Trust,
    enrolment: Enrolment,
    enrolled: EnrolledTpm,
    record_key: &[u8; 32],
) -> Result<proto::EnrolGrant, Refused> {
    let node = enrolment.identity.node_id.clone();
    let admitted = desk.enrol(Enrolling::tpm(&enrolment, &enrolled)?, trust).await?;
    desk.proven.keep(&node, enrolled);
    let certificate = desk
        .ca()
        .node_certificate(&node, record_key, random::bytes().map_err(Fault::from)?, desk.now()?)
        .map_err(Fault::from)?;
    info!(%node, status = ?admitted.status, entry = admitted.entry, "enrolled");
    desk.metrics().enrolments.inc();
    let bundle = trust.bundle.clone();
    let mut signatures = bundle.signatures.into_iter();
    let trust_bundle = signatures.next().unwrap_or_default();
    Ok(proto::EnrolGrant {
        client_certificate: pem(&certificate),
        trust_bundle,
        further_trust_bundle: signatures.collect(),
        lineage_head: admitted.head.0.to_vec(),
        audience: desk.audience().to_owned(),
        policy_authority_keys: bundle.authority.iter().map(|key| key.cose_key().to_vec()).collect(),
        policy_authority_threshold: u32::from(bundle.threshold),
    })
}

fn pem(der: &[u8]) -> Vec<u8> {
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
