//! A confidential guest without a TPM on the real protocol, whoever signs its reports: what an honest one says, so that a
//! test can say one thing otherwise.

use evidence::{
    Authentic, Endorsements, Evidence, EvidenceKind, TrustAnchors,
    binding::Binding,
    challenge::{Challenge, Demands},
    cose::KeySet,
    digest::Sha256Digest,
    names::ItemName,
    node_key::XWingPublicKey,
    tee::{EnrolledPlatform, PlatformId},
    time::UnixSeconds,
    verify,
};
use firmware_refs::{
    InForce,
    capture::{CaptureHeader, capture},
    observed::Observed,
};
use hpke::{
    Deserializable as _, Kem as _, OpModeR, Serializable as _, aead::AesGcm256, kdf::HkdfSha256, kem::XWing,
    single_shot_open,
};
use policy::{
    ear::EndorsementUsed,
    result::{Answers, Reliance, RelyingResult},
};
use verifier::{
    config::Admission,
    evidence_store,
    nodes::{self, NodeStatus},
};
use wire::{
    bounded::{demand::kind_message, verifier::ChallengeTerms},
    proto::{self, enrol_reply, enrol_request, node_message::Message as Says, verifier_message::Message as Hears},
    protocol::{EXECUTION_KEY_INFO, execution_key_aad},
};

use crate::{
    bed::{Bed, domain, issuer, now, signed_set},
    node::{EnrolStream, Node, Stream},
};

type PrivateKey = <XWing as hpke::Kem>::PrivateKey;

/// What the report is about, when a test wants it otherwise than the challenge says.
pub(crate) type Bend = fn(&mut Challenge);

/// A machine that runs guests, with everything that its vendor says of it.
pub(crate) trait Hardware: Clone {
    /// Kind of its evidence.
    const KIND: EvidenceKind;
    /// A machine that is up to date.
    fn new() -> Self;
    /// Anchors of a lab that pinned its vendor's root.
    fn anchors(&self) -> TrustAnchors;
    /// Everything that evidence of it can come with.
    fn demands() -> Demands;
    /// Evidence over `report_data`, for this node key (COSE_Key).
    fn evidence(&self, report_data: [u8; 64], node_key: &[u8], demands: &Demands) -> Vec<u8>;
    /// What its evidence is judged by.
    fn endorsements(&self, enrolled: impl FnOnce(PlatformId) -> EnrolledPlatform) -> Endorsements;
    /// What an operator must import at least.
    async fn import(&self, bed: &Bed);
}

/// A guest; what it signs with its record key, it says as any node does.
pub(crate) struct Guest<H> {
    pub(crate) node: Node,
    pub(crate) hardware: H,
    pub(crate) private: PrivateKey,
    pub(crate) public: XWingPublicKey,
}

impl<H: Hardware> Guest<H> {
    pub(crate) fn new(id: &str, seed: u8) -> Self {
        let mut node = Node::new().sibling(id, seed);
        node.machine.now = now();
        let (private, public) = node_key(seed);
        Self { node, hardware: H::new(), private, public }
    }

    /// An enrolled guest on a stream, and a domain that knows it and holds the key `db`.
    pub(crate) async fn ready() -> (Bed, Self, Stream) {
        let mut guest = Self::new("guest-1", 21);
        let bed = guest.bed().await;
        bed.put_key("db", b"the secret").await;
        guest.enrol(&bed).await.unwrap();
        let stream = guest.node.connect(&bed).await;
        (bed, guest, stream)
    }

    /// The same guest with a node key made anew, as at each start of its daemon.
    pub(crate) fn start_anew(&mut self) {
        (self.private, self.public) = node_key(99);
    }

    /// The guest's domain, which holds what its vendor states; certificates come with the evidence.
    pub(crate) async fn bed(&self) -> Bed {
        self.bed_admitting(Admission::Endorsed).await
    }

    pub(crate) async fn bed_admitting(&self, admission: Admission) -> Bed {
        let bed = Bed::trusting(self.hardware.anchors(), vec![self.reference_set()], admission).await;
        self.hardware.import(&bed).await;
        bed
    }

    pub(crate) async fn empty_bed(&self) -> Bed {
        Bed::trusting(self.hardware.anchors(), vec![self.reference_set()], Admission::Endorsed).await
    }

    /// A set that knows exactly this guest on this platform.
    fn reference_set(&self) -> InForce {
        let evidence = Evidence::decode(self.answer(&challenge(H::demands()))).unwrap();
        let key = self.node.machine.record_key.public().clone();
        let id = self.node.machine.node_id.clone();
        let endorsements = self.hardware.endorsements(|platform| EnrolledPlatform::new(id, platform, key));
        known(&verify(&evidence, &endorsements, &self.hardware.anchors(), now()).unwrap())
    }

    pub(crate) fn answer(&self, challenge: &Challenge) -> Vec<u8> {
        let data = Binding::answering(challenge, self.public.cose_key(), None).report_data().unwrap();
        self.hardware.evidence(data, self.public.cose_key(), &challenge.demands)
    }

    fn platform(&self) -> proto::EnrolPlatform {
        let request = rcgen::CertificateParams::new(vec!["root.example".to_owned()]).unwrap();
        proto::EnrolPlatform {
            node_id: self.node.machine.node_id.to_string(),
            kind: i32::from(kind_message(H::KIND)),
            record_key: self.node.machine.record_key.public().cose_key().to_vec(),
            csr: request.serialize_request(&self.node.record_key_pair()).unwrap().der().to_vec(),
        }
    }

    pub(crate) async fn enrol(&mut self, bed: &Bed) -> Result<proto::EnrolGrant, proto::Refusal> {
        self.enrol_bent(bed, |_| {}).await
    }

    pub(crate) async fn enrol_bent(&mut self, bed: &Bed, bend: Bend) -> Result<proto::EnrolGrant, proto::Refusal> {
        let mut stream = EnrolStream::opening(bed, enrol_request::Message::Platform(self.platform())).await;
        let asked = match stream.next().await {
            enrol_reply::Message::Platform(asked) => asked,
            enrol_reply::Message::Refusal(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let mut challenge = understood(H::KIND, stream.channel, asked, Sha256Digest::ZERO);
        bend(&mut challenge);
        let cmw = self.answer(&challenge);
        stream.say(enrol_request::Message::Evidence(proto::Evidence { cmw })).await;
        match stream.next().await {
            enrol_reply::Message::Grant(grant) => Ok(self.node.granted(grant)),
            enrol_reply::Message::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn challenged(&mut self, stream: &mut Stream, request: Says) -> Result<Challenge, proto::Refusal> {
        challenged(&mut self.node, H::KIND, stream, request).await
    }

    pub(crate) async fn ask(
        &mut self,
        stream: &mut Stream,
        request: Says,
    ) -> Result<proto::Authorization, proto::Refusal> {
        let challenge = self.challenged(stream, request).await?;
        let cmw = self.answer(&challenge);
        self.node.conclude(stream, cmw).await
    }

    pub(crate) async fn authorize(
        &mut self,
        stream: &mut Stream,
        keys: &[&str],
    ) -> Result<proto::Authorization, proto::Refusal> {
        let request = self.node.authorize(&self.node.intent(keys));
        self.ask(stream, request).await
    }

    pub(crate) async fn renew(
        &mut self,
        stream: &mut Stream,
        artifact: &[u8],
    ) -> Result<proto::Authorization, proto::Refusal> {
        let request = self.node.renew(artifact);
        self.ask(stream, request).await
    }

    /// Kind, digest and age of each endorsement that the Attestation Result of a grant names.
    pub(crate) async fn endorsed_by(
        &self,
        bed: &Bed,
        challenge: &Challenge,
        granted: &proto::Authorization,
    ) -> Vec<EndorsementUsed> {
        let payload = evidence::cose::claimed_payload(&granted.artifact).unwrap();
        let artifact = governance::artifact::Artifact::decode(&payload).unwrap();
        let result = evidence_store::get(bed.store(), &artifact.policy.result).await.unwrap().unwrap();
        let keys = KeySet::new([issuer().public()]);
        let audience = domain().node_spiffe_id(&self.node.machine.node_id);
        let (answers, now) = (Answers::Nonce(&challenge.nonce), now());
        let reliance = Reliance { domain: &domain(), keys: &keys, audience: &audience, answers, now };
        let result = RelyingResult::read(&result, &reliance).unwrap();
        result.ear().submods[H::KIND.name()].verifier.endorsed_by.clone()
    }

    pub(crate) async fn status(&self, bed: &Bed) -> NodeStatus {
        nodes::find(bed.store(), &self.node.machine.node_id).await.unwrap().unwrap().status
    }

    /// The execution key `db` opens with the key that the report named, for this artifact alone.
    pub(crate) fn opens(&self, granted: &proto::Authorization) -> Vec<u8> {
        let payload = evidence::cose::claimed_payload(&granted.artifact).unwrap();
        let terms = governance::artifact::Artifact::decode(&payload).unwrap().terms();
        let [wrapped] = granted.keys.as_slice() else { panic!("{:?}", granted.keys) };
        assert_eq!(wrapped.suite(), proto::HpkeSuite::XWing);
        assert_eq!(terms.confirmation.key.cose_key(), self.public.cose_key());
        let encapsulated = <XWing as hpke::Kem>::EncappedKey::from_bytes(&wrapped.encapsulated).unwrap();
        let opened = single_shot_open::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            EXECUTION_KEY_INFO,
            &wrapped.sealed,
            &execution_key_aad(&terms.id.0, "db"),
        );
        opened.unwrap()
    }
}

fn node_key(seed: u8) -> (PrivateKey, XWingPublicKey) {
    let (private, public) = XWing::derive_keypair(&[seed; 32]);
    (private, XWingPublicKey::new(&public.to_bytes()).unwrap())
}

/// Asks, and takes the challenge.
pub(crate) async fn challenged(
    node: &mut Node,
    kind: EvidenceKind,
    stream: &mut Stream,
    request: Says,
) -> Result<Challenge, proto::Refusal> {
    stream.say(request).await;
    match stream.next().await {
        Hears::Challenge(asked) => Ok(understood(kind, stream.channel, asked, node.head)),
        Hears::Refusal(refusal) => Err(node.heard(refusal)),
        other => panic!("{other:?}"),
    }
}

/// What a challenge on this channel demands, as the node understands it.
pub(crate) fn understood(
    kind: EvidenceKind,
    channel: [u8; 32],
    asked: proto::Challenge,
    lineage_head: Sha256Digest,
) -> Challenge {
    let ChallengeTerms { nonce, audience, epoch, subject, demands, .. } = ChallengeTerms::try_from(asked).unwrap();
    assert_eq!(demands.kind(), kind);
    let (issued_at, expires_at) = (UnixSeconds(0), UnixSeconds(u64::MAX));
    Challenge { nonce, channel, audience, epoch, subject, lineage_head, issued_at, expires_at, demands }
}

/// Nobody's challenge, to capture by.
pub(crate) fn challenge(demands: Demands) -> Challenge {
    Challenge {
        nonce: [1; 32],
        channel: [2; 32],
        audience: "spiffe://a.example/verifier".into(),
        epoch: 1,
        subject: Sha256Digest::ZERO,
        lineage_head: Sha256Digest::ZERO,
        issued_at: now(),
        expires_at: now().plus(10),
        demands,
    }
}

/// A set that knows exactly what this evidence shows.
pub(crate) fn known(authentic: &Authentic<'_>) -> InForce {
    let header = CaptureHeader {
        id: ItemName::new("guests").unwrap(),
        version: 1,
        domain: domain(),
        environment: ItemName::new("lab").unwrap(),
        node: "guest".to_owned(),
        now: now().minus(60),
        lifetime_s: 3600 * 24,
    };
    InForce::active(signed_set(&capture(&Observed::of(&authentic.claims(), now()), header).unwrap()))
}
