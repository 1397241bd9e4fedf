//! A node enrols and collects over real TLS with a real software TPM. The verifier here judges by `evidence` alone and
//! then misbehaves in one way at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod swtpm;

use std::sync::{Arc, Mutex};

use attestd::collect::{Asked, Demand};
use attestd::enrol::{EnrolError, enrol};
use attestd::grants;
use attestd::machine::Machine;
use attestd::tls::{ClientIdentity, Connection};
use evidence::anchors::AnchorSet;
use evidence::challenge::{Challenge, Demands, TpmDemands};
use evidence::cose::{PublicKey, SigningKey};
use evidence::digest::{HashAlg, Sha256Digest};
use evidence::names::{DomainName, NodeId};
use evidence::threshold::Authority as PolicyAuthority;
use evidence::time::UnixSeconds;
use evidence::tpm::{ClockState, EnrolledTpm, Enrolment, Identity, PendingActivation, TpmEndorsement};
use evidence::{Endorsements, Evidence, EvidenceKind, TrustAnchors};
use governance::trust_bundle::{BUNDLE_VERSION, KeyRecord, TrustBundle};
use serde_bytes::ByteBuf;
use swtpm::{SwtpmNode, VerifierAddress, pem};
use tests::authority::Authority;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected as _;
use tonic::{Request, Response, Status, Streaming};
use verifier::ca::CertificateAuthority;
use verifier::listen::{ConnectionCaps, Door, accepted};
use verifier::tls::{Peer, ServingCertificate, enrolment_config, nodes_config, unchanging};
use wire::proto::enrolment_server::{Enrolment as EnrolmentRpc, EnrolmentServer};
use wire::proto::{self, enrol_reply, enrol_request};
use zeroize::Zeroizing;

const DOMAIN: &str = "a.example";

fn now() -> UnixSeconds {
    UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

/// In which way the verifier misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    RefusesTheIdentity,
    OtherAudience,
    BundleOfAnotherDomain,
    BundleBySomeoneElse,
    AuthorityOtherThanTheBundles,
    ThresholdNotMet,
    CertificateForAnotherKey,
    CertificateIsNone,
    ChallengeAltered,
    GrantAtOnce,
    ShortHead,
    HangsUp,
}

/// The verifier's side.
struct Verifier {
    defect: Defect,
    anchors: TrustAnchors,
    ca: CertificateAuthority,
    policy: SigningKey,
    /// Signed once: two bundles of one sequence would be a fork.
    bundle: Vec<u8>,
    enrolled: Arc<Mutex<Option<(Enrolment, EnrolledTpm)>>>,
}

/// The bundle that the verifier gives its nodes.
fn signed_bundle(policy: &SigningKey, defect: Defect) -> Vec<u8> {
    let record = |seed: u8| KeyRecord {
        key: SigningKey::from_seed(&[seed; 32]).unwrap().public().clone(),
        from: UnixSeconds(0),
        until: UnixSeconds(u64::MAX >> 1),
    };
    let domain = if defect == Defect::BundleOfAnotherDomain { "b.example" } else { DOMAIN };
    let bundle = TrustBundle {
        version: BUNDLE_VERSION,
        domain: DomainName::new(domain).unwrap(),
        sequence: 1,
        issued_at: now().minus(10),
        expires_at: now().plus(3600),
        refresh_hint_s: 60,
        issuer: vec![record(2)],
        log_origin: "a.example/log".to_owned(),
        log: vec![record(3)],
        witness: vec![],
        jwt: vec![],
        ca: vec![],
        authority: PolicyAuthority::new(vec![policy.public().clone()], 1).unwrap(),
    };
    let signer = match defect {
        Defect::BundleBySomeoneElse => &SigningKey::from_seed(&[99; 32]).unwrap(),
        _ => policy,
    };
    bundle.sign(signer).unwrap()
}

impl Verifier {
    fn grant(&self, record_key: &[u8], defect: Defect) -> proto::EnrolGrant {
        let mut key: [u8; 32] = PublicKey::from_cose_key(record_key).unwrap().raw().try_into().unwrap();
        if defect == Defect::CertificateForAnotherKey {
            key = SigningKey::from_seed(&[77; 32]).unwrap().public().raw().try_into().unwrap();
        }
        let certificate = self.ca.node_certificate(&NodeId::new("node-1").unwrap(), &key, [2; 16], now()).unwrap();
        let mut keys = vec![self.policy.public().cose_key().to_vec()];
        if defect == Defect::AuthorityOtherThanTheBundles {
            keys.push(SigningKey::from_seed(&[55; 32]).unwrap().public().cose_key().to_vec());
        }
        proto::EnrolGrant {
            client_certificate: match defect {
                Defect::CertificateIsNone => b"no certificate".to_vec(),
                _ => pem("CERTIFICATE", &certificate).into_bytes(),
            },
            trust_bundle: self.bundle.clone(),
            further_trust_bundle: vec![],
            lineage_head: if defect == Defect::ShortHead { vec![1; 31] } else { vec![4; 32] },
            audience: match defect {
                Defect::OtherAudience => "spiffe://b.example/verifier".to_owned(),
                _ => "spiffe://a.example/verifier".to_owned(),
            },
            policy_authority_keys: keys,
            lab: false,
            policy_authority_threshold: if defect == Defect::ThresholdNotMet { 2 } else { 1 },
        }
    }

    async fn converse(
        &self,
        inbound: &mut Streaming<proto::EnrolRequest>,
        replies: &tokio::sync::mpsc::Sender<Result<proto::EnrolReply, Status>>,
    ) -> Option<enrol_reply::Message> {
        let refusal = |code: &str| {
            enrol_reply::Message::Refusal(proto::Refusal {
                class: "denied".to_owned(),
                code: code.to_owned(),
                ..proto::Refusal::default()
            })
        };
        let Some(enrol_request::Message::Identity(claimed)) = inbound.message().await.unwrap()?.message else {
            panic!("identity expected")
        };
        match self.defect {
            Defect::HangsUp => return None,
            Defect::RefusesTheIdentity => return Some(refusal("evidence.ek_unknown")),
            Defect::GrantAtOnce => {
                return Some(enrol_reply::Message::Grant(self.grant(&claimed.record_key, self.defect)));
            }
            _ => {}
        }
        let identity = Identity {
            node_id: NodeId::new(claimed.node_id).unwrap(),
            ek_public: ByteBuf::from(claimed.ek_public),
            ek_chain: claimed.ek_chain.into_iter().map(ByteBuf::from).collect(),
            ak_public: ByteBuf::from(claimed.ak_public),
            record_key: ByteBuf::from(claimed.record_key.clone()),
        };
        let randomness = Zeroizing::new([3; 48]);
        let secret = Zeroizing::new([8; 32]);
        let (pending, mut credential) =
            match PendingActivation::start(identity, 1, secret, &randomness, &self.anchors, now()) {
                Ok(started) => started,
                Err(denial) => return Some(refusal(denial.code())),
            };
        if self.defect == Defect::ChallengeAltered {
            *credential.blob.last_mut().unwrap() ^= 1;
        }
        let challenge =
            proto::EnrolChallenge { credential_blob: credential.blob, encrypted_secret: credential.encrypted_secret };
        let message = Some(enrol_reply::Message::Challenge(challenge));
        replies.send(Ok(proto::EnrolReply { message })).await.unwrap();
        let Some(enrol_request::Message::Proof(proof)) = inbound.message().await.ok()??.message else {
            panic!("proof expected")
        };
        let (certify, signature) = (&proof.record_key_certify, &proof.record_key_signature);
        match pending.complete(&proof.secret, certify, signature, &self.anchors, now()) {
            Ok(enrolled) => {
                *self.enrolled.lock().unwrap() = Some(enrolled);
                Some(enrol_reply::Message::Grant(self.grant(&claimed.record_key, self.defect)))
            }
            Err(denial) => Some(refusal(denial.code())),
        }
    }
}

struct Shared(Arc<Verifier>);

#[tonic::async_trait]
impl EnrolmentRpc for Shared {
    type EnrolStream = ReceiverStream<Result<proto::EnrolReply, Status>>;

    async fn enrol(
        &self,
        request: Request<Streaming<proto::EnrolRequest>>,
    ) -> Result<Response<Self::EnrolStream>, Status> {
        let (replies, stream) = tokio::sync::mpsc::channel(2);
        let (verifier, mut inbound) = (Arc::clone(&self.0), request.into_inner());
        tokio::spawn(async move {
            if let Some(reply) = verifier.converse(&mut inbound, &replies).await {
                let _ = replies.send(Ok(proto::EnrolReply { message: Some(reply) })).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct Running {
    address: VerifierAddress,
    enrolled: Arc<Mutex<Option<(Enrolment, EnrolledTpm)>>>,
    anchors: TrustAnchors,
    /// Who came to the listener for nodes.
    peers: tokio::sync::mpsc::UnboundedReceiver<Peer>,
}

const CAPS: ConnectionCaps = ConnectionCaps { total: 8, per_address: 8 };

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Serves one verifier for enrolment.
async fn serve(defect: Defect, anchors: TrustAnchors) -> Running {
    let domain = DomainName::new(DOMAIN).unwrap();
    let (certificate, key) = CertificateAuthority::create(&domain, now()).unwrap();
    let ca = CertificateAuthority::open(domain.clone(), &certificate, &key).unwrap();
    let ca_der = ca.certificate().clone();
    let serving = ServingCertificate::new(ca.server_key(&["verifier.a.example".into()], [1; 16], now()).unwrap());
    let (enrolling, nodes) = (listener().await, listener().await);
    let addresses = [&enrolling, &nodes].map(|listener| listener.local_addr().unwrap().to_string());
    let enrolled = Arc::default();
    let policy = SigningKey::from_seed(&[1; 32]).unwrap();
    let bundle = signed_bundle(&policy, defect);
    let verifier = Verifier { defect, anchors: anchors.clone(), ca, policy, bundle, enrolled: Arc::clone(&enrolled) };
    let incoming =
        accepted(enrolling, unchanging(enrolment_config(Arc::clone(&serving)).unwrap()), Door::Strangers, CAPS);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(EnrolmentServer::new(Shared(Arc::new(verifier))))
            .serve_with_incoming(incoming),
    );
    let (came, peers) = tokio::sync::mpsc::unbounded_channel();
    let mut incoming = accepted(
        nodes,
        unchanging(nodes_config(serving, std::slice::from_ref(&ca_der)).unwrap()),
        Door::NodesOf(Arc::new(domain)),
        CAPS,
    );
    tokio::spawn(async move {
        while let Some(Ok(stream)) = incoming.next().await {
            let _ = came.send(stream.connect_info());
        }
    });
    let [enrolment, nodes] = addresses;
    let address = VerifierAddress {
        domain: DOMAIN.to_owned(),
        nodes,
        enrolment,
        server_name: "verifier.a.example".to_owned(),
        ca_pem: pem("CERTIFICATE", &ca_der),
    };
    Running { address, enrolled, anchors, peers }
}

#[tokio::test]
async fn an_enrolled_node_collects_evidence_that_binds() {
    let manufacturer = Authority::default();
    let node = SwtpmNode::boot(Some(&manufacturer)).await;
    let mut verifier = serve(Defect::None, manufacturer.anchors()).await;
    let config = node.configure("node-1", &verifier.address);
    let state = node.state();
    let grant = enrol(&config, &config.domains[0], &Machine::Tpm(node.tpm.clone()), &state).await.unwrap();
    let stored = grants::load(&state, &grant.domain).unwrap().unwrap();
    assert_eq!((stored.bundle.clone(), stored.certificate_pem), (grant.bundle, grant.certificate_pem.clone()));
    assert_eq!(state.lineage_head(&grant.domain).unwrap(), Sha256Digest([4; 32]));
    // The certificate is for the record key: the node can connect with it.
    let key = attestd::record_key::load(&state).unwrap().unwrap().to_pkcs8().unwrap();
    let identity = ClientIdentity { certificate_pem: &grant.certificate_pem, key_pkcs8: &key };
    let connection = Connection::for_node(&config.domains[0], &stored.bundle.bundle().ca, &identity).await.unwrap();
    let peer = verifier.peers.recv().await.unwrap();
    assert_eq!((peer.node.unwrap().as_str(), peer.channel), ("node-1", connection.exporter));

    let (enrolment, enrolled) = verifier.enrolled.lock().unwrap().take().unwrap();
    assert_eq!(enrolment.identity.node_id.as_str(), "node-1");
    let pcrs: Vec<u8> = vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let challenge = Challenge {
        nonce: [6; 32],
        channel: connection.exporter,
        audience: "spiffe://a.example/verifier".to_owned(),
        epoch: 1,
        subject: Sha256Digest::of(b"intent"),
        lineage_head: Sha256Digest([4; 32]),
        issued_at: now(),
        expires_at: now().plus(10),
        demands: Demands::Tpm(TpmDemands {
            pcr_bank: HashAlg::Sha256,
            pcrs: pcrs.clone(),
            node_key_pcrs: pcrs.clone(),
            event_log: true,
            ima_log: false,
        }),
    };
    let wire = proto::Challenge {
        nonce: challenge.nonce.to_vec(),
        expires_after_ms: 10_000,
        audience: challenge.audience.clone(),
        epoch: 1,
        subject: challenge.subject.as_bytes().to_vec(),
        vouchers: Vec::new(),
        demand: Some(proto::challenge::Demand::Tpm(proto::TpmDemand {
            pcr_bank: "sha256".to_owned(),
            pcrs: pcrs.iter().map(|pcr| u32::from(*pcr)).collect(),
            node_key_pcrs: pcrs.iter().map(|pcr| u32::from(*pcr)).collect(),
            event_log: true,
            ima_log: false,
        })),
    };
    let asked = Asked {
        kind: EvidenceKind::Tpm,
        audience: challenge.audience.clone(),
        subject: challenge.subject,
        lineage_head: challenge.lineage_head,
        channel: challenge.channel,
    };
    let collector = node.collector(&state, &config).await;
    let demand = Demand::accept(&wire, asked).unwrap();
    let collected = collector.collect(&demand).await.unwrap();
    let again = collector.collect(&demand).await.unwrap();
    assert_eq!(collected.node_key.cose_key(), again.node_key.cose_key(), "one node key while the PCRs stay");

    let clock = ClockState::at(enrolled.baseline());
    let endorsement = TpmEndorsement { enrolled: Arc::new(enrolled), clock, node_key: None };
    let endorsements = Endorsements::Tpm(endorsement);
    let evidence = Evidence::decode(collected.evidence.bytes().to_vec()).unwrap();
    evidence::verify(&evidence, &endorsements, &verifier.anchors, now())
        .and_then(|authentic| authentic.bind(&challenge, now()))
        .unwrap();
    let other_channel = Challenge { channel: [0; 32], ..challenge.clone() };
    let relayed = evidence::verify(&evidence, &endorsements, &verifier.anchors, now())
        .and_then(|authentic| authentic.bind(&other_channel, now()));
    assert!(relayed.is_err(), "evidence of another connection");

    // Enrolling again shows the same keys.
    enrol(&config, &config.domains[0], &Machine::Tpm(node.tpm.clone()), &state).await.unwrap();
    let (second, _) = verifier.enrolled.lock().unwrap().take().unwrap();
    assert_eq!(second.identity, enrolment.identity);
    assert_eq!(node.tpm.handles().await.unwrap(), attestd::tpm::HandleCounts::default());
}

#[tokio::test]
async fn each_misbehaviour_of_a_verifier_has_its_own_code_and_stores_nothing() {
    let node = SwtpmNode::boot(None).await;
    let pinned = AnchorSet { pinned_eks: [Sha256Digest::of(&node.ek_public)].into(), ..AnchorSet::default() };
    let anchors = TrustAnchors::new(pinned).unwrap();
    let cases = [
        (Defect::RefusesTheIdentity, "denied", "evidence.ek_unknown"),
        (Defect::OtherAudience, "denied", "governance.grant_mismatch"),
        (Defect::BundleOfAnotherDomain, "denied", "governance."),
        (Defect::BundleBySomeoneElse, "denied", "governance."),
        (Defect::AuthorityOtherThanTheBundles, "denied", "governance.grant_mismatch"),
        (Defect::ThresholdNotMet, "fault", "fault.verifier_protocol"),
        (Defect::CertificateForAnotherKey, "fault", "fault.client_certificate"),
        (Defect::CertificateIsNone, "fault", "fault.client_certificate"),
        (Defect::ChallengeAltered, "fault", "fault.tpm_refused"),
        (Defect::GrantAtOnce, "fault", "fault.verifier_protocol"),
        (Defect::ShortHead, "fault", "fault.verifier_protocol"),
        (Defect::HangsUp, "fault", "fault.verifier_protocol"),
    ];
    let state = node.state();
    let domain = DomainName::new(DOMAIN).unwrap();
    for (defect, class, code) in cases {
        let verifier = serve(defect, anchors.clone()).await;
        let config = node.configure("node-1", &verifier.address);
        let error = enrol(&config, &config.domains[0], &Machine::Tpm(node.tpm.clone()), &state).await.unwrap_err();
        assert_eq!(error.class(), class, "{defect:?}: {error}");
        assert!(error.code().starts_with(code), "{defect:?}: {} ({error})", error.code());
        assert!(grants::load(&state, &domain).unwrap().is_none(), "{defect:?}");
    }
    let verifier = serve(Defect::None, anchors).await;
    let config = node.configure("node-1", &verifier.address);
    enrol(&config, &config.domains[0], &Machine::Tpm(node.tpm.clone()), &state).await.unwrap();
}

#[tokio::test]
async fn only_the_pinned_verifier_is_spoken_with() {
    let node = SwtpmNode::boot(None).await;
    let anchors =
        TrustAnchors::new(AnchorSet { pinned_eks: [Sha256Digest::of(&node.ek_public)].into(), ..AnchorSet::default() })
            .unwrap();
    let (verifier, other) = (serve(Defect::None, anchors.clone()).await, serve(Defect::None, anchors).await);
    let state = node.state();
    let wrong_ca = VerifierAddress { ca_pem: other.address.ca_pem, ..verifier.address };
    let config = node.configure("node-1", &wrong_ca);
    let error = enrol(&config, &config.domains[0], &Machine::Tpm(node.tpm.clone()), &state).await.unwrap_err();
    assert!(matches!(error, EnrolError::Connect(_)), "{error}");
    assert_eq!(error.code(), "fault.verifier_unproven");
    let wrong_name = VerifierAddress {
        ca_pem: wrong_ca.ca_pem,
        enrolment: other.address.enrolment,
        server_name: "verifier.b.example".to_owned(),
        ..wrong_ca
    };
    let config = node.configure("node-1", &wrong_name);
    let error = enrol(&config, &config.domains[0], &Machine::Tpm(node.tpm.clone()), &state).await.unwrap_err();
    assert_eq!(error.code(), "fault.verifier_unproven");
}
