//! A node of software on the real protocol: what an honest one says, so that a test can say one thing otherwise.

use std::sync::{Arc, Mutex};

use evidence::{
    challenge::{Challenge, Demands, TpmDemands},
    cose::SigningKey,
    digest::{HashAlg, Sha256Digest},
    names::{ItemName, NodeId},
    time::UnixSeconds,
};
use governance::{
    end::{END_VERSION, EndRecord},
    halt::{HALT_VERSION, HaltReason, HaltRecord},
    intent::{Domains, INTENT_VERSION, Intent, Workload},
    isolation::Isolation,
    on_halt::OnHalt,
    scope::Scope,
    text::Text,
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};
use tests::{
    activation::ActivatingEk,
    authority::EkCertificateParams,
    genuine::{Machine, ek_area, p256_spki},
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use wire::{
    proto::{
        self, attestation_client::AttestationClient, enrol_reply, enrol_request, enrolment_client::EnrolmentClient,
        node_message::Message as Says, verifier_message::Message as Hears,
    },
    protocol::CHANNEL_LABEL,
};

use verifier::serve::Addresses;

use crate::bed::{Bed, domain, now};

/// A service that nodes can speak to.
pub(crate) trait Reachable {
    fn addresses(&self) -> Addresses;
    fn root(&self) -> CertificateDer<'static>;
}

impl Reachable for Bed {
    fn addresses(&self) -> Addresses {
        self.addresses
    }

    fn root(&self) -> CertificateDer<'static> {
        Bed::root(self)
    }
}

pub(crate) struct Node {
    pub(crate) machine: Machine,
    pub(crate) ek: ActivatingEk,
    pub(crate) certificate: Option<CertificateDer<'static>>,
    pub(crate) head: Sha256Digest,
}

impl Node {
    pub(crate) fn new() -> Self {
        let (mut machine, ek) = (Machine::default(), ActivatingEk::default());
        machine.ek = ek_area(&ek.point);
        let certificate = machine.authority.certify(&p256_spki(&ek.point), &EkCertificateParams::default());
        machine.ek_chain = machine.authority.chain(certificate);
        machine.now = now();
        Self { machine, ek, certificate: None, head: Sha256Digest::ZERO }
    }

    /// A second node whose TPM the same manufacturer certified.
    pub(crate) fn sibling(&self, id: &str, seed: u8) -> Self {
        let mut other = Self::new();
        other.machine.node_id = NodeId::new(id).unwrap();
        other.machine.record_key = SigningKey::from_seed(&[seed; 32]).unwrap();
        let certificate = self.machine.authority.certify(&p256_spki(&other.ek.point), &EkCertificateParams::default());
        other.machine.ek_chain = self.machine.authority.chain(certificate);
        other
    }

    pub(crate) fn record_key_pair(&self) -> KeyPair {
        let document = self.machine.record_key.to_pkcs8().unwrap();
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(document.as_slice()), &rcgen::PKCS_ED25519)
            .unwrap()
    }

    pub(crate) fn identity(&self) -> proto::EnrolIdentity {
        let identity = self.machine.identity();
        // The names in the request are not those of the node: nothing of them may reach the certificate.
        let request = CertificateParams::new(vec!["root.example".to_owned()]).unwrap();
        proto::EnrolIdentity {
            node_id: identity.node_id.to_string(),
            ek_public: identity.ek_public.into_vec(),
            ek_chain: identity.ek_chain.into_iter().map(serde_bytes::ByteBuf::into_vec).collect(),
            ak_public: identity.ak_public.into_vec(),
            record_key: identity.record_key.into_vec(),
            csr: request.serialize_request(&self.record_key_pair()).unwrap().der().to_vec(),
            kind: i32::from(proto::Kind::Tpm),
        }
    }

    pub(crate) fn activate(&self, challenge: &proto::EnrolChallenge) -> Option<Vec<u8>> {
        let name = self.machine.ak_public.name().to_bytes();
        self.ek.activate(&challenge.credential_blob, &challenge.encrypted_secret, &name)
    }

    pub(crate) fn proof(&self, secret: &[u8]) -> proto::EnrolProof {
        let quote = self.machine.enrolment_proof(secret).write();
        proto::EnrolProof {
            secret: secret.to_vec(),
            record_key_signature: self.machine.ak.sign(&quote),
            record_key_certify: quote,
        }
    }

    /// Enrols honestly.
    pub(crate) async fn enrol(&mut self, bed: &impl Reachable) -> Result<proto::EnrolGrant, proto::Refusal> {
        let mut stream = EnrolStream::open(bed, self.identity()).await;
        let challenge = match stream.next().await {
            enrol_reply::Message::Challenge(challenge) => challenge,
            enrol_reply::Message::Refusal(refusal) => return Err(refusal),
            enrol_reply::Message::Grant(_) => panic!("granted without proof"),
            enrol_reply::Message::Platform(_) => panic!("challenged as another kind"),
        };
        let secret = self.activate(&challenge).expect("made for this TPM");
        stream.say(enrol_request::Message::Proof(self.proof(&secret))).await;
        match stream.next().await {
            enrol_reply::Message::Grant(grant) => Ok(self.granted(grant)),
            enrol_reply::Message::Refusal(refusal) => Err(refusal),
            enrol_reply::Message::Challenge(_) | enrol_reply::Message::Platform(_) => panic!("challenged twice"),
        }
    }

    pub(crate) fn granted(&mut self, grant: proto::EnrolGrant) -> proto::EnrolGrant {
        let pem = String::from_utf8(grant.client_certificate.clone()).unwrap();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        use base64::Engine as _;
        let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
        self.certificate = Some(CertificateDer::from(der));
        self.head = Sha256Digest::try_from(grant.lineage_head.as_slice()).unwrap();
        grant
    }

    /// Opens a stream and says hello.
    pub(crate) async fn connect(&mut self, bed: &impl Reachable) -> Stream {
        let (mut stream, welcome) = self.hello(bed, false).await;
        self.head = Sha256Digest::try_from(welcome.lineage_head.as_slice()).unwrap();
        assert!(stream.pending().is_none());
        stream
    }

    pub(crate) async fn hello(&self, bed: &impl Reachable, halted: bool) -> (Stream, proto::Welcome) {
        let mut stream = Stream::open(bed, self.client(bed)).await;
        stream.say(Says::Hello(self.hello_message(halted))).await;
        match stream.next().await {
            Hears::Welcome(welcome) => (stream, welcome),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn hello_message(&self, halted: bool) -> proto::Hello {
        let node_id = self.machine.node_id.to_string();
        proto::Hello {
            node_id,
            version: "0.1.0".to_owned(),
            newest_checkpoint: Vec::new(),
            halted,
            other_checkpoints: vec![],
        }
    }

    pub(crate) fn client(&self, bed: &impl Reachable) -> ClientConfig {
        let chain = vec![self.certificate.clone().expect("enrolled")];
        let key = self.machine.record_key.to_pkcs8().unwrap();
        let key = PrivatePkcs8KeyDer::from(key.to_vec()).into();
        builder(&bed.root()).with_client_auth_cert(chain, key).map(h2).unwrap()
    }

    pub(crate) fn intent(&self, keys: &[&str]) -> Intent {
        Intent {
            version: INTENT_VERSION,
            requester: Text::new("uid 1000").unwrap(),
            workload: Workload {
                argv: vec!["/usr/bin/app".to_owned()],
                environment: Default::default(),
                executable: Sha256Digest::of(b"app"),
                attach: None,
                image: None,
            },
            scope: Scope { keys: keys.iter().map(|name| ItemName::new(*name).unwrap()).collect(), ..Scope::default() },
            isolation: Isolation::default(),
            on_halt: OnHalt::Kill,
            domains: Domains::All([domain()].into()),
            parents: Default::default(),
            node: self.machine.node_id.clone(),
            created_at: now(),
            svid_key: svid_key(),
            nonce: aws_lc_rs::rand::generate::<[u8; 16]>(&aws_lc_rs::rand::SystemRandom::new()).unwrap().expose(),
        }
    }

    pub(crate) fn authorize(&self, intent: &Intent) -> Says {
        let intent = intent.sign(&domain(), &self.machine.record_key).unwrap();
        Says::Authorize(proto::Authorize { intent, lineage_head: self.head.0.to_vec(), parents: Vec::new() })
    }

    pub(crate) fn renew(&self, artifact: &[u8]) -> Says {
        let artifacts = vec![Sha256Digest::of(artifact).0.to_vec()];
        let (parents, other_checkpoints) = (Vec::new(), Vec::new());
        Says::Renew(proto::Renew { artifacts, lineage_head: self.head.0.to_vec(), parents, other_checkpoints })
    }

    /// What a challenge on this stream demands, as the node understands it.
    pub(crate) fn understood(&self, channel: [u8; 32], asked: &proto::Challenge) -> Challenge {
        let Some(proto::challenge::Demand::Tpm(demand)) = &asked.demand else { panic!("not asked of a TPM") };
        let pcrs = |pcrs: &[u32]| pcrs.iter().map(|pcr| u8::try_from(*pcr).unwrap()).collect();
        Challenge {
            nonce: asked.nonce.as_slice().try_into().unwrap(),
            channel,
            audience: asked.audience.clone(),
            epoch: asked.epoch,
            subject: Sha256Digest::try_from(asked.subject.as_slice()).unwrap(),
            lineage_head: self.head,
            issued_at: UnixSeconds(0),
            expires_at: UnixSeconds(u64::MAX),
            demands: Demands::Tpm(TpmDemands {
                pcr_bank: HashAlg::from_name(&demand.pcr_bank).unwrap(),
                pcrs: pcrs(&demand.pcrs),
                node_key_pcrs: pcrs(&demand.node_key_pcrs),
                event_log: demand.event_log,
                ima_log: demand.ima_log,
            }),
        }
    }

    /// Its genuine evidence; the TPM's clock goes on.
    pub(crate) fn evidence(&mut self, challenge: &Challenge) -> Vec<u8> {
        self.machine.clock.clock_ms += 1_000;
        self.machine.answer(challenge).evidence().bytes().to_vec()
    }

    /// Asks, answers the challenge genuinely and hears the verdict.
    pub(crate) async fn ask(
        &mut self,
        stream: &mut Stream,
        request: Says,
    ) -> Result<proto::Authorization, proto::Refusal> {
        stream.say(request).await;
        let asked = match stream.next().await {
            Hears::Challenge(asked) => asked,
            Hears::Refusal(refusal) => return Err(self.heard(refusal)),
            other => panic!("{other:?}"),
        };
        let challenge = self.understood(stream.channel, &asked);
        let cmw = self.evidence(&challenge);
        self.conclude(stream, cmw).await
    }

    pub(crate) async fn conclude(
        &mut self,
        stream: &mut Stream,
        cmw: Vec<u8>,
    ) -> Result<proto::Authorization, proto::Refusal> {
        stream.say(Says::Evidence(proto::Evidence { cmw })).await;
        match stream.next().await {
            Hears::Authorization(authorization) => {
                self.head = Sha256Digest::try_from(authorization.lineage_head.as_slice()).unwrap();
                Ok(authorization)
            }
            Hears::Refusal(refusal) => Err(self.heard(refusal)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn heard(&mut self, refusal: proto::Refusal) -> proto::Refusal {
        if let Ok(head) = Sha256Digest::try_from(refusal.lineage_head.as_slice()) {
            self.head = head;
        }
        refusal
    }

    pub(crate) fn halt_record(&self, artifacts: Vec<Sha256Digest>) -> Vec<u8> {
        let record = HaltRecord {
            version: HALT_VERSION,
            domain: domain(),
            node: self.machine.node_id.clone(),
            reason: HaltReason::PcrChanged { pcr: 4 },
            artifacts,
            authorizations: std::collections::BTreeMap::new(),
            last_evidence: None,
            killed: Vec::new(),
            keys_wiped: 1,
            keys_wiped_at: now(),
            halted_at: now(),
            lineage_head: self.head,
        };
        record.sign(&self.machine.record_key).unwrap()
    }

    pub(crate) fn end_record(&self, intent: &Intent, artifact: &[u8]) -> Vec<u8> {
        let record = EndRecord {
            version: END_VERSION,
            domain: domain(),
            node: self.machine.node_id.clone(),
            intent: intent.digest().unwrap(),
            artifacts: vec![Sha256Digest::of(artifact)],
            authorizations: std::collections::BTreeMap::new(),
            exit_code: 0,
            keys_wiped: 1,
            ended_at: now(),
            lineage_head: self.head,
        };
        record.sign(&self.machine.record_key).unwrap()
    }
}

/// A stream to the nodes' listener.
pub(crate) struct Stream {
    pub(crate) channel: [u8; 32],
    says: mpsc::Sender<proto::NodeMessage>,
    hears: Streaming<proto::VerifierMessage>,
    ahead: Option<Hears>,
}

impl Stream {
    pub(crate) async fn open(bed: &impl Reachable, config: ClientConfig) -> Self {
        Self::try_open(bed, config).await.unwrap()
    }

    pub(crate) async fn try_open(bed: &impl Reachable, config: ClientConfig) -> Result<Self, Status> {
        let (connection, channel) = dial(bed.addresses().nodes, config).await?;
        let (says, said) = mpsc::channel(4);
        let mut client = AttestationClient::new(connection).max_encoding_message_size(64 << 20);
        let hears = client.attest(ReceiverStream::new(said)).await?.into_inner();
        let channel = channel.lock().unwrap().expect("connected");
        Ok(Self { channel, says, hears, ahead: None })
    }

    pub(crate) async fn say(&self, message: Says) {
        self.says.send(proto::NodeMessage { message: Some(message) }).await.unwrap();
    }

    pub(crate) fn pending(&mut self) -> Option<Hears> {
        self.ahead.take()
    }

    pub(crate) async fn next(&mut self) -> Hears {
        self.heard().await.expect("the stream is open").expect("an answer")
    }

    /// What comes next, or how the stream ended.
    pub(crate) async fn heard(&mut self) -> Result<Option<Hears>, Status> {
        Ok(self.hears.message().await?.map(|message| message.message.expect("an answer has content")))
    }
}

/// A stream to the enrolment listener.
pub(crate) struct EnrolStream {
    pub(crate) channel: [u8; 32],
    says: mpsc::Sender<proto::EnrolRequest>,
    hears: Streaming<proto::EnrolReply>,
}

impl EnrolStream {
    pub(crate) async fn open(bed: &impl Reachable, identity: proto::EnrolIdentity) -> Self {
        Self::opening(bed, enrol_request::Message::Identity(identity)).await
    }

    pub(crate) async fn opening(bed: &impl Reachable, first: enrol_request::Message) -> Self {
        let (connection, channel) =
            dial(bed.addresses().enrolment, h2(builder(&bed.root()).with_no_client_auth())).await.unwrap();
        let (says, said) = mpsc::channel(4);
        Self::say_to(&says, first).await;
        let hears = EnrolmentClient::new(connection).enrol(ReceiverStream::new(said)).await.unwrap().into_inner();
        let channel = channel.lock().unwrap().expect("connected");
        Self { channel, says, hears }
    }

    async fn say_to(says: &mpsc::Sender<proto::EnrolRequest>, message: enrol_request::Message) {
        says.send(proto::EnrolRequest { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn say(&self, message: enrol_request::Message) {
        Self::say_to(&self.says, message).await;
    }

    pub(crate) async fn next(&mut self) -> enrol_reply::Message {
        self.hears.message().await.unwrap().expect("an answer").message.expect("an answer has content")
    }
}

pub(crate) fn builder(
    root: &CertificateDer<'static>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
}

pub(crate) fn h2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub(crate) type Exported = Arc<Mutex<Option<[u8; 32]>>>;

pub(crate) async fn dial(address: std::net::SocketAddr, config: ClientConfig) -> Result<(Channel, Exported), Status> {
    let (config, exported) = (Arc::new(config), Exported::default());
    let export = exported.clone();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let (config, export) = (config.clone(), export.clone());
        async move {
            let tcp = TcpStream::connect(address).await?;
            let tls = tokio_rustls::TlsConnector::from(config);
            let stream = tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
            let value = stream.get_ref().1.export_keying_material([0; 32], CHANNEL_LABEL, None).unwrap();
            *export.lock().unwrap() = Some(value);
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map(|channel| (channel, exported)).map_err(|error| Status::unavailable(error.to_string()))
}

/// The generator of P-256 (SEC 2 §2.4.2): nobody here uses its SVIDs.
fn svid_key() -> evidence::cose::PublicKey {
    let point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                 4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    evidence::cose::PublicKey::p256(&hex::decode(point).unwrap()).unwrap()
}
