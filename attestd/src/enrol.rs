//! Enrolment: this machine proves itself to a domain and vouches for the record key, the domain grants.
//!
//! A TPM proves its EK and AK, and the AK signs for the record key; a TEE gives Evidence whose challenge names it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evidence::cose::SigningKey;
use evidence::digest::{HashAlg, Sha256Digest};
use evidence::tee::enrolment_subject;
use evidence::tpm::enrolment::{ek_digest, enrolment_qualifying_data};
use evidence::tpm::pcr::{PcrSelection, PcrSet};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::bounded::FieldDenial;
use wire::bounded::demand::kind_message;
use wire::bounded::enrolment::{EnrolChallenge, EnrolGrant};
use wire::bounded::verifier::{Refusal, RefusalClass};
use wire::proto::enrolment_client::EnrolmentClient;
use wire::proto::{self, enrol_reply::Message as Reply, enrol_request};
use zeroize::Zeroizing;

use crate::clock::unix_now;
use crate::collect::{Asked, ChallengeDenial, CollectFault, Demand, TpmCollector};
use crate::config::{Config, DomainConfig, EkKind, TpmConfig};
use crate::grants::{Grant, GrantDenial, JudgedGrant};
use crate::machine::Machine;
use crate::record_key;
use crate::state::{StateDir, StateError};
use crate::tls::{ClientIdentity, ConnectFault, Connection};
use crate::tpm::error::TpmError;
use crate::tpm::objects::{Endorsement, KeyFault};

/// Each answer of the verifier must come by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// An answer is at most: a certificate chain, a trust bundle and its signatures.
const ANSWER_CAP_BYTES: usize = 1024 * 1024;
/// As the verifier reads them.
const CHAIN_CAP: usize = 6;
const CERTIFICATE_CAP_BYTES: usize = 16 * 1024;

/// Why a node was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The verifier cannot be reached, or is not the pinned one.
    #[error(transparent)]
    Connect(#[from] ConnectFault),
    /// A key, the TPM or the state directory.
    #[error(transparent)]
    Key(#[from] KeyFault),
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The EK certificate is neither configured nor in the TPM as it should be.
    #[error("EK certificate {path}: {why}")]
    EkCertificate {
        /// The configured file.
        path: String,
        /// Why.
        why: String,
    },
    /// The verifier judged and said no, or could not judge.
    #[error("the verifier refused: {code}{}", .ek.as_ref().map(admitted_by).unwrap_or_default())]
    Refused {
        /// Whether it judged.
        denied: bool,
        /// Its code.
        code: String,
        /// SHA-256 of the TPM2B_PUBLIC that was shown as EK, of machines that have one: what an operator admits it by.
        ek: Option<Sha256Digest>,
    },
    /// The stream broke.
    #[error("enrolment stream: {why}")]
    Stream {
        /// Why.
        why: String,
    },
    /// The verifier answered something else than the protocol says.
    #[error("the verifier answered {got} where {want} was due")]
    Unexpected {
        /// What came.
        got: &'static str,
        /// What was due.
        want: &'static str,
    },
    /// Its answer is not within the protocol's bounds.
    #[error("the verifier's answer: {0}")]
    Malformed(#[from] FieldDenial),
    /// The grant does not hold.
    #[error(transparent)]
    Grant(#[from] GrantDenial),
    /// The evidence that it asked for could not be collected.
    #[error(transparent)]
    Collect(#[from] CollectFault),
    /// Its challenge is not about this enrolment.
    #[error(transparent)]
    Challenge(#[from] ChallengeDenial),
    /// The certificate request cannot be made; a defect here.
    #[error("certificate request: {0}")]
    Request(String),
}

fn admitted_by(ek: &Sha256Digest) -> String {
    format!("; the EK of this TPM is {ek}: an operator may admit it (verifier node admit NODE --ek {ek})")
}

impl EnrolError {
    /// What the verifier refused is a TPM with this EK.
    fn about(self, ek: Option<Sha256Digest>) -> Self {
        if let Self::Refused { denied, code, .. } = self { Self::Refused { denied, code, ek } } else { self }
    }

    /// `denied` or `fault`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Refused { denied: true, .. } | Self::Challenge(_) => "denied",
            Self::Tpm(error)
            | Self::Key(KeyFault::Tpm(error))
            | Self::Collect(CollectFault::Tpm(error) | CollectFault::Key(KeyFault::Tpm(error))) => error.class(),
            Self::Grant(denial) if !denial.code().starts_with("fault.") => "denied",
            Self::Refused { denied: false, .. }
            | Self::Connect(_)
            | Self::Malformed(_)
            | Self::Key(_)
            | Self::State(_)
            | Self::EkCertificate { .. }
            | Self::Collect(_)
            | Self::Stream { .. }
            | Self::Unexpected { .. }
            | Self::Grant(_)
            | Self::Request(_) => "fault",
        }
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Connect(fault) => fault.code(),
            Self::Key(fault) => fault.code(),
            Self::Tpm(error) => error.code(),
            Self::State(_) => "fault.state",
            Self::EkCertificate { .. } => "fault.ek_certificate",
            Self::Collect(fault) => fault.code(),
            Self::Challenge(denial) => denial.code(),
            Self::Refused { code, .. } => code,
            Self::Stream { .. } | Self::Unexpected { .. } | Self::Malformed(_) => "fault.verifier_protocol",
            Self::Grant(denial) => denial.code(),
            Self::Request(_) => "fault.bug",
        }
    }
}

/// Enrols this node with `domain` and stores what it grants.
///
/// Repeating it is safe: the same keys are shown again, and a verifier that knows them grants again.
///
/// # Errors
/// [`EnrolError`]; nothing is stored of a grant that does not hold.
pub async fn enrol(
    config: &Config,
    domain: &DomainConfig,
    machine: &Machine,
    state: &Arc<StateDir>,
) -> Result<Grant, EnrolError> {
    let record_key = record_key::load_or_create(state)?;
    let pkcs8 = record_key.to_pkcs8().map_err(|denial| EnrolError::Request(denial.to_string()))?;
    let connection = Connection::for_enrolment(domain).await?;
    let channel = connection.exporter;
    let collector = machine.with_keys(config, state).await?;
    let of_tpm = collector.tpm().zip(config.identity.tpm());
    let mut ek = None;
    let first = match of_tpm {
        Some((tpm, tpm_config)) => {
            let identity = identity(config, tpm_config, tpm, &record_key, &pkcs8).await?;
            ek = Some(ek_digest(&identity.ek_public));
            enrol_request::Message::Identity(identity)
        }
        None => enrol_request::Message::Platform(proto::EnrolPlatform {
            node_id: config.node_id.to_string(),
            kind: i32::from(kind_message(config.identity.kind())),
            record_key: record_key.public().cose_key().to_vec(),
            csr: certificate_request(&pkcs8)?,
        }),
    };
    let granted = async {
        let mut stream = Conversation::open(connection, first).await?;
        if let Some((tpm, tpm_config)) = of_tpm {
            let challenge = stream.credential().await?;
            let proof = prove(tpm_config.ek, tpm, &record_key, challenge).await?;
            stream.send(enrol_request::Message::Proof(proof)).await?;
        }
        if config.identity.tee().is_some() {
            let challenge = stream.challenge().await?;
            let asked = Asked {
                kind: config.identity.kind(),
                audience: domain.name.verifier_spiffe_id(),
                subject: enrolment_subject(&config.node_id, record_key.public()),
                // A stranger has no lineage.
                lineage_head: Sha256Digest::ZERO,
                channel,
            };
            let collected = collector.collect(&Demand::accept(&challenge, asked)?).await?;
            let cmw = collected.evidence.bytes().to_vec();
            stream.send(enrol_request::Message::Evidence(proto::Evidence { cmw })).await?;
        }
        let judged = JudgedGrant::judge(stream.grant().await?, &domain.name, unix_now())?;
        let certificate_pem = &judged.grant().certificate_pem;
        // A certificate for another key would only show at the next connection.
        ClientIdentity { certificate_pem, key_pkcs8: &pkcs8 }.usable()?;
        Ok(judged.store(state)?)
    };
    granted.await.map_err(|error: EnrolError| error.about(ek))
}

async fn identity(
    config: &Config,
    tpm_config: &TpmConfig,
    tpm: &TpmCollector,
    record_key: &SigningKey,
    pkcs8: &[u8],
) -> Result<proto::EnrolIdentity, EnrolError> {
    let endorsement = Endorsement::read(tpm.tpm(), tpm_config.ek).await?;
    let mut chain = match &tpm_config.ek_certificate {
        Some(path) => certificates(path)?,
        None => endorsement.certificate.into_iter().collect(),
    };
    if let Some(path) = &tpm_config.ek_intermediates {
        chain.extend(certificates(path)?);
    }
    if chain.len() > CHAIN_CAP || chain.iter().any(|der| der.len() > CERTIFICATE_CAP_BYTES) {
        let why = format!("chain has more than {CHAIN_CAP} certificates or one above {CERTIFICATE_CAP_BYTES} bytes");
        return Err(EnrolError::EkCertificate { path: "chain".to_owned(), why });
    }
    Ok(proto::EnrolIdentity {
        node_id: config.node_id.to_string(),
        ek_public: endorsement.public,
        ek_chain: chain,
        ak_public: tpm.ak().public().to_vec(),
        record_key: record_key.public().cose_key().to_vec(),
        csr: certificate_request(pkcs8)?,
        kind: i32::from(kind_message(config.identity.kind())),
    })
}

/// DER, or one or more PEM blocks.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, EnrolError> {
    let unusable = |why: String| EnrolError::EkCertificate { path: path.display().to_string(), why };
    let bytes = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes]);
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable("neither DER nor PEM".to_owned()));
    }
    Ok(chain.iter().map(|der| der.to_vec()).collect())
}

/// PKCS#10 with nothing in it but the record key and the proof that this node holds it: names are the verifier's.
fn certificate_request(pkcs8: &[u8]) -> Result<Vec<u8>, EnrolError> {
    let failed = |error: rcgen::Error| EnrolError::Request(error.to_string());
    let key = rcgen::KeyPair::try_from(pkcs8).map_err(failed)?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(&key).map_err(failed)?.der().to_vec())
}

/// Opens the activation secret in the TPM and has the AK sign for it together with the record key.
async fn prove(
    ek: EkKind,
    tpm: &TpmCollector,
    record_key: &SigningKey,
    challenge: EnrolChallenge,
) -> Result<proto::EnrolProof, EnrolError> {
    let blob = tpm.ak().blob().clone();
    let secret: Zeroizing<Vec<u8>> = tpm
        .tpm()
        .call(move |device| device.activate(ek, &blob, &challenge.credential_blob, &challenge.encrypted_secret))
        .await?;
    let qualifying = enrolment_qualifying_data(&secret, record_key.public().cose_key());
    let pcrs = (0..=7).try_fold(PcrSet::EMPTY, PcrSet::with).unwrap_or(PcrSet::EMPTY);
    let quote =
        tpm.tpm().quote(tpm.ak().blob().clone(), qualifying, PcrSelection { bank: HashAlg::Sha256, pcrs }).await?;
    Ok(proto::EnrolProof {
        secret: secret.to_vec(),
        record_key_certify: quote.signed.attest,
        record_key_signature: quote.signed.signature,
    })
}

fn refused(refusal: proto::Refusal) -> Result<EnrolError, FieldDenial> {
    let refusal = Refusal::try_from(refusal)?;
    Ok(EnrolError::Refused { denied: refusal.class == RefusalClass::Denied, code: refusal.code, ek: None })
}

/// The enrolment stream, one message each way at a time.
struct Conversation {
    requests: mpsc::Sender<proto::EnrolRequest>,
    replies: Streaming<proto::EnrolReply>,
}

impl Conversation {
    async fn open(connection: Connection, first: enrol_request::Message) -> Result<Self, EnrolError> {
        let (requests, outbound) = mpsc::channel(1);
        let mut client = EnrolmentClient::new(connection.channel).max_decoding_message_size(ANSWER_CAP_BYTES);
        requests.send(proto::EnrolRequest { message: Some(first) }).await.map_err(|_| closed())?;
        let opening = client.enrol(ReceiverStream::new(outbound));
        let replies = in_time(opening).await?.map_err(|status| broken(&status))?.into_inner();
        Ok(Self { requests, replies })
    }

    async fn send(&self, message: enrol_request::Message) -> Result<(), EnrolError> {
        self.requests.send(proto::EnrolRequest { message: Some(message) }).await.map_err(|_| closed())
    }

    /// What only the TPM opens.
    async fn credential(&mut self) -> Result<EnrolChallenge, EnrolError> {
        match self.answer().await? {
            Reply::Challenge(challenge) => Ok(EnrolChallenge::try_from(challenge)?),
            other @ (Reply::Platform(_) | Reply::Grant(_) | Reply::Refusal(_)) => Err(not_due(other, "a credential")),
        }
    }

    /// What Evidence must answer.
    async fn challenge(&mut self) -> Result<proto::Challenge, EnrolError> {
        match self.answer().await? {
            Reply::Platform(challenge) => Ok(challenge),
            other @ (Reply::Challenge(_) | Reply::Grant(_) | Reply::Refusal(_)) => Err(not_due(other, "a challenge")),
        }
    }

    async fn grant(&mut self) -> Result<EnrolGrant, EnrolError> {
        match self.answer().await? {
            Reply::Grant(grant) => Ok(EnrolGrant::try_from(grant)?),
            other @ (Reply::Challenge(_) | Reply::Platform(_) | Reply::Refusal(_)) => Err(not_due(other, "a grant")),
        }
    }

    async fn answer(&mut self) -> Result<Reply, EnrolError> {
        let reply = in_time(self.replies.message()).await?.map_err(|status| broken(&status))?;
        reply.and_then(|reply| reply.message).ok_or_else(closed)
    }
}

/// A refusal, or an answer that was not due.
fn not_due(got: Reply, want: &'static str) -> EnrolError {
    let got = match got {
        Reply::Refusal(refusal) => return refused(refusal).unwrap_or_else(EnrolError::from),
        Reply::Challenge(_) => "a credential",
        Reply::Platform(_) => "a challenge",
        Reply::Grant(_) => "a grant",
    };
    EnrolError::Unexpected { got, want }
}

async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, EnrolError> {
    tokio::time::timeout(ANSWER_WITHIN, answer)
        .await
        .map_err(|_| EnrolError::Stream { why: format!("no answer within {} s", ANSWER_WITHIN.as_secs()) })
}

fn broken(status: &tonic::Status) -> EnrolError {
    EnrolError::Stream { why: status.code().description().to_owned() }
}

fn closed() -> EnrolError {
    EnrolError::Stream { why: "it was closed".to_owned() }
}
