//! A simulated SNP guest without a TPM, from enrolment to halt, over the real protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evidence::{
    Endorsements, Evidence, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    binding::Binding,
    challenge::{Challenge, Demands},
    cose::KeySet,
    digest::Sha256Digest,
    names::{ItemName, NodeId},
    node_key::XWingPublicKey,
    sev_snp::{
        Launch, Revocation, SnpEndorsement, SnpEvidence, SnpParts, VerifiedVek,
        cert_table::{CertificateKind, CertificateTable},
    },
    tee::EnrolledPlatform,
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
use policy::result::{Reliance, RelyingResult};
use simulators::amd::{Product, SnpMachine};
use verifier::{
    config::Admission,
    evidence_store,
    nodes::{self, NodeStatus},
};
use wire::{
    proto::{self, enrol_reply, enrol_request, node_message::Message as Says, verifier_message::Message as Hears},
    protocol::{EXECUTION_KEY_INFO, execution_key_aad},
};

use crate::{
    bed::{Bed, domain, issuer, now, signed_set},
    node::{EnrolStream, Node, Stream},
};

type PrivateKey = <XWing as hpke::Kem>::PrivateKey;

/// What the report is about, when a test wants it otherwise than the challenge says.
type Bend = fn(&mut Challenge);

/// An SNP guest; what it signs with its record key, it says as any node does.
struct Guest {
    node: Node,
    snp: SnpMachine,
    private: PrivateKey,
    public: XWingPublicKey,
}

impl Guest {
    fn new(id: &str, seed: u8) -> Self {
        let mut node = Node::new().sibling(id, seed);
        node.machine.now = now();
        let (private, public) = XWing::derive_keypair(&[seed; 32]);
        let public = XWingPublicKey::new(&public.to_bytes()).unwrap();
        Self { node, snp: SnpMachine::new(Product::Milan, now().0).unwrap(), private, public }
    }

    fn anchors(&self) -> TrustAnchors {
        let root = RootPin::Certificate(Sha256Digest::of(&self.snp.authority.ark));
        let simulated_snp_roots = BTreeMap::from([("Milan".to_owned(), BTreeSet::from([root]))]);
        TrustAnchors::lab_accepting_simulated(AnchorSet { simulated_snp_roots, ..AnchorSet::default() }).unwrap()
    }

    /// A set that knows exactly this guest on this platform.
    fn reference_set(&self) -> InForce {
        let challenge = Challenge {
            nonce: [1; 32],
            channel: [2; 32],
            audience: "spiffe://a.example/verifier".into(),
            epoch: 1,
            subject: Sha256Digest::ZERO,
            lineage_head: Sha256Digest::ZERO,
            issued_at: now(),
            expires_at: now().plus(10),
            demands: Demands::SevSnp,
        };
        let evidence = Evidence::decode(self.answer(&challenge)).unwrap();
        let vek = VerifiedVek::verify(
            &self.snp.vek().unwrap().certificate,
            Some(&self.snp.authority.ask),
            Some(&self.snp.authority.ark),
            Revocation::List(&self.snp.authority.crl),
            &self.anchors().snp_roots(),
            now(),
        )
        .unwrap();
        let key = self.node.machine.record_key.public().clone();
        let enrolled = EnrolledPlatform::new(self.node.machine.node_id.clone(), vek.platform(), key);
        let endorsement = SnpEndorsement { vek: Arc::new(vek), enrolled: Arc::new(enrolled), launch: Launch::Any };
        let endorsements = Endorsements::SevSnp(endorsement);
        let authentic = verify(&evidence, &endorsements, &self.anchors(), now()).unwrap();
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

    /// The guest's domain, which holds AMD's revocation list; certificates come with the evidence.
    async fn bed(&self) -> Bed {
        let bed = Bed::trusting(self.anchors(), vec![self.reference_set()], Admission::Endorsed).await;
        bed.import(&[&self.snp.authority.crl]).await;
        bed
    }

    fn understood(&self, channel: [u8; 32], asked: &proto::Challenge, head: Sha256Digest) -> Challenge {
        assert!(matches!(asked.demand, Some(proto::challenge::Demand::SevSnp(_))));
        Challenge {
            nonce: asked.nonce.as_slice().try_into().unwrap(),
            channel,
            audience: asked.audience.clone(),
            epoch: asked.epoch,
            subject: Sha256Digest::try_from(asked.subject.as_slice()).unwrap(),
            lineage_head: head,
            issued_at: UnixSeconds(0),
            expires_at: UnixSeconds(u64::MAX),
            demands: Demands::SevSnp,
        }
    }

    fn answer(&self, challenge: &Challenge) -> Vec<u8> {
        let data = Binding::answering(challenge, self.public.cose_key(), None).report_data().unwrap();
        let reported = self.snp.report(data).unwrap();
        let certificates = Some(reported.certificates.as_slice()).filter(|table| !table.is_empty());
        let parts = SnpParts { report: &reported.report, certificates, node_key: self.public.cose_key() };
        SnpEvidence::assemble(parts).unwrap().bytes().to_vec()
    }

    fn platform(&self) -> proto::EnrolPlatform {
        let request = rcgen::CertificateParams::new(vec!["root.example".to_owned()]).unwrap();
        proto::EnrolPlatform {
            node_id: self.node.machine.node_id.to_string(),
            kind: i32::from(proto::Kind::SevSnp),
            record_key: self.node.machine.record_key.public().cose_key().to_vec(),
            csr: request.serialize_request(&self.node.record_key_pair()).unwrap().der().to_vec(),
        }
    }

    async fn enrol(&mut self, bed: &Bed) -> Result<proto::EnrolGrant, proto::Refusal> {
        self.enrol_bent(bed, |_| {}).await
    }

    async fn enrol_bent(&mut self, bed: &Bed, bend: Bend) -> Result<proto::EnrolGrant, proto::Refusal> {
        let mut stream = EnrolStream::opening(bed, enrol_request::Message::Platform(self.platform())).await;
        let asked = match stream.next().await {
            enrol_reply::Message::Platform(asked) => asked,
            enrol_reply::Message::Refusal(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let mut challenge = self.understood(stream.channel, &asked, Sha256Digest::ZERO);
        bend(&mut challenge);
        let cmw = self.answer(&challenge);
        stream.say(enrol_request::Message::Evidence(proto::Evidence { cmw })).await;
        match stream.next().await {
            enrol_reply::Message::Grant(grant) => Ok(self.node.granted(grant)),
            enrol_reply::Message::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn challenged(&mut self, stream: &mut Stream, request: Says) -> Result<Challenge, proto::Refusal> {
        stream.say(request).await;
        match stream.next().await {
            Hears::Challenge(asked) => Ok(self.understood(stream.channel, &asked, self.node.head)),
            Hears::Refusal(refusal) => Err(self.node.heard(refusal)),
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&mut self, stream: &mut Stream, request: Says) -> Result<proto::Authorization, proto::Refusal> {
        let challenge = self.challenged(stream, request).await?;
        let cmw = self.answer(&challenge);
        self.node.conclude(stream, cmw).await
    }

    async fn status(&self, bed: &Bed) -> NodeStatus {
        nodes::find(bed.store(), &self.node.machine.node_id).await.unwrap().unwrap().status
    }
}

/// An enrolled guest on a stream.
async fn ready() -> (Bed, Guest, Stream) {
    let mut guest = Guest::new("guest-1", 21);
    let bed = guest.bed().await;
    bed.put_key("db", b"the secret").await;
    guest.enrol(&bed).await.unwrap();
    let stream = guest.node.connect(&bed).await;
    (bed, guest, stream)
}

#[tokio::test]
async fn authorize_open_the_key_renew_changed_measurement_denial_quarantine() {
    let (bed, mut guest, mut stream) = ready().await;
    let request = guest.node.authorize(&guest.node.intent(&["db"]));
    let granted = guest.ask(&mut stream, request).await.unwrap();

    // The execution key opens with the key that the report named, for this artifact.
    let payload = evidence::cose::claimed_payload(&granted.artifact).unwrap();
    let terms = governance::artifact::Artifact::decode(&payload).unwrap().terms();
    let [wrapped] = granted.keys.as_slice() else { panic!("{:?}", granted.keys) };
    assert_eq!(wrapped.suite(), proto::HpkeSuite::XWing);
    let encapsulated = <XWing as hpke::Kem>::EncappedKey::from_bytes(&wrapped.encapsulated).unwrap();
    let opened = single_shot_open::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        &guest.private,
        &encapsulated,
        EXECUTION_KEY_INFO,
        &wrapped.sealed,
        &execution_key_aad(&terms.id.0, "db"),
    );
    assert_eq!(opened.unwrap(), b"the secret");
    assert_eq!(terms.confirmation.key.cose_key(), guest.public.cose_key());

    let request = guest.node.renew(&granted.artifact);
    let renewed = guest.ask(&mut stream, request).await.unwrap();
    assert!(renewed.keys.is_empty());

    // Another measurement at renewal: refused, halted, quarantined.
    guest.snp.fields.measurement = [0x6b; 48];
    let request = guest.node.renew(&renewed.artifact);
    let refusal = guest.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.halt), ("denied", true));
    assert!(refusal.code.starts_with("reference."), "{}", refusal.code);
    assert_eq!(guest.status(&bed).await, NodeStatus::Quarantined);
    bed.finish().await;
}

#[tokio::test]
async fn the_result_names_each_endorsement_with_its_age() {
    let (bed, mut guest, mut stream) = ready().await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let challenge = guest.challenged(&mut stream, request).await.unwrap();
    let cmw = guest.answer(&challenge);
    let Evidence::SevSnp(sent) = Evidence::decode(cmw.clone()).unwrap() else { panic!("not of SNP") };
    let table = CertificateTable::parse(sent.parts().certificates.unwrap()).unwrap();
    let vcek = table.der(CertificateKind::Vcek).unwrap().unwrap().into_owned();
    let granted = guest.node.conclude(&mut stream, cmw).await.unwrap();
    let payload = evidence::cose::claimed_payload(&granted.artifact).unwrap();
    let artifact = governance::artifact::Artifact::decode(&payload).unwrap();
    let result = evidence_store::get(bed.store(), &artifact.policy.result).await.unwrap().unwrap();
    let keys = KeySet::new([issuer().public()]);
    let audience = domain().node_spiffe_id(&guest.node.machine.node_id);
    let (nonce, now) = (&challenge.nonce, now());
    let reliance = Reliance { domain: &domain(), keys: &keys, audience: &audience, nonce, now };
    let result = RelyingResult::read(&result, &reliance).unwrap();
    let used = &result.ear().submods["sev-snp"].verifier.endorsed_by;
    let authority = &guest.snp.authority;
    let expected = [("vcek", &vcek), ("ask", &authority.ask), ("ark", &authority.ark), ("snp-crl", &authority.crl)];
    let named: Vec<_> = used.iter().map(|used| (used.kind.as_str(), used.digest)).collect();
    assert_eq!(named, expected.map(|(kind, der)| (kind, Sha256Digest::of(der))));
    // the list is of the day before the machine was made, moments ago
    let day_s = 24 * 3600;
    assert!((day_s..day_s + 600).contains(&used[3].age_s), "{}", used[3].age_s);
    bed.finish().await;
}

#[tokio::test]
async fn an_older_tcb_is_refused() {
    let (bed, mut guest, mut stream) = ready().await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let granted = guest.ask(&mut stream, request).await.unwrap();
    let mut tcb = guest.snp.vek_tcb;
    tcb.snp -= 1;
    guest.snp.set_tcb(tcb);
    let request = guest.node.renew(&granted.artifact);
    let refusal = guest.ask(&mut stream, request).await.unwrap_err();
    assert!(refusal.code.starts_with("reference."), "{}", refusal.code);
    assert!(refusal.halt);
    bed.finish().await;
}

#[tokio::test]
async fn a_guest_launched_anew_starts_anew_and_never_goes_on() {
    let (bed, mut guest, mut stream) = ready().await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let granted = guest.ask(&mut stream, request).await.unwrap();
    guest.snp.fields.report_id = [7; 32];
    let request = guest.node.authorize(&guest.node.intent(&[]));
    guest.ask(&mut stream, request).await.unwrap();
    // What was held before the launch is over.
    let request = guest.node.renew(&granted.artifact);
    assert_eq!(guest.ask(&mut stream, request).await.unwrap_err().code, "governance.artifact_id");
    bed.finish().await;

    let (bed, mut guest, mut stream) = ready().await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let granted = guest.ask(&mut stream, request).await.unwrap();
    guest.snp.fields.report_id = [7; 32];
    let request = guest.node.renew(&granted.artifact);
    let refusal = guest.ask(&mut stream, request).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("evidence.snp_report_id", true));
    bed.finish().await;
}

#[tokio::test]
async fn a_report_answers_its_own_challenge_on_its_own_connection_with_its_own_key() {
    let (bed, mut guest, mut stream) = ready().await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let challenge = guest.challenged(&mut stream, request).await.unwrap();
    let good = guest.answer(&challenge);
    guest.node.conclude(&mut stream, good.clone()).await.unwrap();

    let request = guest.node.authorize(&guest.node.intent(&[]));
    guest.challenged(&mut stream, request).await.unwrap();
    let replayed = guest.node.conclude(&mut stream, good).await.unwrap_err();
    assert_eq!(replayed.code, "evidence.binding_mismatch", "replayed");

    let request = guest.node.authorize(&guest.node.intent(&[]));
    let mut challenge = guest.challenged(&mut stream, request).await.unwrap();
    challenge.channel = [7; 32];
    let cmw = guest.answer(&challenge);
    assert_eq!(guest.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.binding_mismatch", "channel");

    // A genuine report for one key, sent with another.
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let challenge = guest.challenged(&mut stream, request).await.unwrap();
    let data = Binding::answering(&challenge, guest.public.cose_key(), None).report_data().unwrap();
    let reported = guest.snp.report(data).unwrap();
    let foreign = Guest::new("x", 99).public;
    let parts =
        SnpParts { report: &reported.report, certificates: Some(&reported.certificates), node_key: foreign.cose_key() };
    let cmw = SnpEvidence::assemble(parts).unwrap().bytes().to_vec();
    assert_eq!(guest.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.binding_mismatch", "key");
    bed.finish().await;
}

#[tokio::test]
async fn another_chip_or_record_key_is_another_node() {
    let (bed, mut guest, mut stream) = ready().await;
    let chip = guest.snp.chip_id;
    guest.snp.set_chip_id([0x11; 64]);
    let request = guest.node.authorize(&guest.node.intent(&[]));
    assert_eq!(guest.ask(&mut stream, request).await.unwrap_err().code, "evidence.platform_mismatch");

    // Nor does enrolling again move the id to it.
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("denied", "governance.node_identity"));
    guest.snp.set_chip_id(chip);
    let mut other = Guest { snp: guest.snp.clone(), ..Guest::new("guest-1", 22) };
    assert_eq!(other.enrol(&bed).await.unwrap_err().code, "governance.node_identity");
    // The chip may run another node.
    let mut sibling = Guest { snp: guest.snp.clone(), ..Guest::new("guest-2", 23) };
    sibling.enrol(&bed).await.unwrap();
    // And as a TPM, the id is taken too: evidence of another kind is not its own.
    let mut tpm = Node::new();
    tpm.machine.node_id = NodeId::new("guest-1").unwrap();
    assert!(tpm.enrol(&bed).await.is_err());
    bed.finish().await;
}

#[tokio::test]
async fn nothing_is_stored_of_a_stranger_whose_evidence_proves_nothing() {
    let mut guest = Guest::new("guest-1", 21);
    let bed = guest.bed().await;
    let size = bed.log().size();
    let bends: [(&str, Bend); 3] = [
        ("nonce", |challenge| challenge.nonce[0] ^= 1),
        ("channel", |challenge| challenge.channel = [7; 32]),
        ("subject", |challenge| challenge.subject = Sha256Digest([1; 32])),
    ];
    for (what, bend) in bends {
        let refusal = guest.enrol_bent(&bed, bend).await.unwrap_err();
        assert_eq!(refusal.code, "evidence.binding_mismatch", "{what}");
    }
    guest.snp.fields.policy |= 1 << 19;
    assert_eq!(guest.enrol(&bed).await.unwrap_err().code, "evidence.snp_guest_policy", "debugging");
    assert!(nodes::list(bed.store()).await.unwrap().is_empty());
    assert_eq!(bed.log().size(), size, "nothing is logged about strangers");
    bed.finish().await;
}

#[tokio::test]
async fn an_empty_endorsement_store_is_a_fault_that_says_what_to_import() {
    let mut guest = Guest::new("guest-1", 21);
    let bed = Bed::trusting(guest.anchors(), vec![guest.reference_set()], Admission::Endorsed).await;
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("fault", "fault.endorsements_unavailable"));
    // A host's table does not bring the list that its own key is judged by; an operator does.
    bed.import(&[&guest.snp.authority.crl]).await;
    guest.enrol(&bed).await.unwrap();
    // Without the host's certificates, what an operator imported is enough.
    guest.snp.provides_certificates = false;
    let mut stream = guest.node.connect(&bed).await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    assert_eq!(guest.ask(&mut stream, request).await.unwrap_err().code, "fault.endorsements_unavailable");
    let vek = guest.snp.vek().unwrap().certificate;
    bed.import(&[&guest.snp.authority.ark, &guest.snp.authority.ask, &vek]).await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    guest.ask(&mut stream, request).await.unwrap();
    bed.finish().await;
}
