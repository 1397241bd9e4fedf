//! A software TPM in a simulated trust domain, each bound to the other, over the real protocol.

use evidence::{
    Endorsements, Evidence, EvidenceKind, TrustAnchors,
    anchors::AnchorSet,
    binding::Binding,
    challenge::{Challenge, Demands, TpmOnTdxDemands},
    tee::EnrolledPlatform,
    tpm::{TpmOnTdxEvidence, TpmOnTdxParts},
    verify,
};
use simulators::intel::TdxMachine;
use tests::genuine::Machine;
use verifier::{config::Admission, nodes::NodeStatus};
use wire::proto::{self, enrol_reply::Message as Replies, enrol_request};

use crate::{
    bed::{Bed, now},
    guest::{challenge, challenged, known, understood},
    node::{EnrolStream, Node, Stream},
    tdx::Platform,
};

const KIND: EvidenceKind = EvidenceKind::TpmOnTdx;

/// A trust domain with a TPM in it.
struct Both {
    node: Node,
    td: Platform,
}

impl Both {
    fn new() -> Self {
        Self { node: Node::new(), td: Platform::of(TdxMachine::new(5, now().0).unwrap()) }
    }

    fn anchors(&self) -> TrustAnchors {
        let simulated_tdx_roots = [self.td.root()].into();
        let set = AnchorSet { simulated_tdx_roots, ..self.node.machine.anchors().set().clone() };
        TrustAnchors::lab_accepting_simulated(set).unwrap()
    }

    fn answer(&mut self, challenge: &Challenge) -> Vec<u8> {
        let Demands::TpmOnTdx(TpmOnTdxDemands { ccel, .. }) = &challenge.demands else { panic!("not asked of both") };
        let (ccel, data) =
            (ccel.then(|| self.td.machine.event_log.encode()), report_data(&self.node.machine, challenge));
        self.answer_with(challenge, data, ccel.as_deref())
    }

    fn answer_with(&mut self, challenge: &Challenge, data: [u8; 64], ccel: Option<&[u8]>) -> Vec<u8> {
        self.node.machine.clock.clock_ms += 1_000;
        let (answer, quote) = (self.node.machine.answer(challenge), self.td.quote(data));
        let parts = TpmOnTdxParts { tpm: answer.parts(), quote: &quote, ccel };
        TpmOnTdxEvidence::assemble(parts).unwrap().bytes().to_vec()
    }

    /// A domain that knows exactly this machine.
    async fn bed(&mut self) -> Bed {
        let mut demands = self.node.machine.challenge().demands;
        let tpm = demands.tpm_mut().unwrap();
        (tpm.pcrs, tpm.ima_log) = ((0..8).collect(), false);
        tpm.node_key_pcrs = tpm.pcrs.clone();
        let asked = challenge(Demands::TpmOnTdx(TpmOnTdxDemands { tpm: tpm.clone(), ccel: true }));
        let evidence = Evidence::decode(self.answer(&asked)).unwrap();
        let (machine, anchors) = (&self.node.machine, self.anchors());
        let (_, enrolled) = machine.enrol_under(&anchors).unwrap();
        let platform =
            EnrolledPlatform::new(machine.node_id.clone(), self.td.id(), machine.record_key.public().clone());
        let endorsements =
            Endorsements::TpmOnTdx(machine.endorsement(enrolled), self.td.endorsement(platform, &anchors));
        let set = known(&verify(&evidence, &endorsements, &anchors, now()).unwrap());
        let bed = Bed::trusting(anchors, vec![set], Admission::Endorsed).await;
        bed.import_files(&[&self.td.collateral()]).await;
        bed
    }

    async fn enrol(&mut self, bed: &Bed) -> Result<proto::EnrolGrant, proto::Refusal> {
        let identity = proto::EnrolIdentity { kind: i32::from(proto::Kind::TpmOnTdx), ..self.node.identity() };
        let mut stream = EnrolStream::open(bed, identity).await;
        let credential = match stream.next().await {
            Replies::Challenge(credential) => credential,
            other => panic!("{other:?}"),
        };
        let secret = self.node.activate(&credential).expect("made for this TPM");
        stream.say(enrol_request::Message::Proof(self.node.proof(&secret))).await;
        let asked = match stream.next().await {
            Replies::Platform(asked) => asked,
            Replies::Refusal(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        };
        let challenge = understood(KIND, stream.channel, asked, evidence::digest::Sha256Digest::ZERO);
        let cmw = self.answer(&challenge);
        stream.say(enrol_request::Message::Evidence(proto::Evidence { cmw })).await;
        match stream.next().await {
            Replies::Grant(grant) => Ok(self.node.granted(grant)),
            Replies::Refusal(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    async fn authorize(&mut self, stream: &mut Stream) -> Result<proto::Authorization, proto::Refusal> {
        let request = self.node.authorize(&self.node.intent(&[]));
        let challenge = challenged(&mut self.node, KIND, stream, request).await?;
        let cmw = self.answer(&challenge);
        self.node.conclude(stream, cmw).await
    }

    async fn renew(&mut self, stream: &mut Stream, artifact: &[u8]) -> Result<proto::Authorization, proto::Refusal> {
        let request = self.node.renew(artifact);
        let challenge = challenged(&mut self.node, KIND, stream, request).await?;
        let cmw = self.answer(&challenge);
        self.node.conclude(stream, cmw).await
    }

    async fn ready() -> (Bed, Self, Stream) {
        let mut both = Self::new();
        let bed = both.bed().await;
        both.enrol(&bed).await.unwrap();
        let stream = both.node.connect(&bed).await;
        (bed, both, stream)
    }
}

/// What the report of a TEE around this TPM must cover to be bound to its answer to `challenge`.
fn report_data(machine: &Machine, challenge: &Challenge) -> [u8; 64] {
    let (node_key, ak_name) = (machine.node_key_cose(), machine.ak_public.name().to_bytes());
    Binding::answering(challenge, &node_key, Some(&ak_name)).report_data().unwrap()
}

/// Runs under a lease, changes, and is denied at the next renewal.
async fn denied_at_renewal(change: fn(&mut Both)) -> String {
    let (bed, mut both, mut stream) = Both::ready().await;
    let granted = both.authorize(&mut stream).await.unwrap();
    let renewed = both.renew(&mut stream, &granted.artifact).await.unwrap();
    change(&mut both);
    let refusal = both.renew(&mut stream, &renewed.artifact).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.halt), ("denied", true), "{}", refusal.code);
    let node = verifier::nodes::find(bed.store(), &both.node.machine.node_id).await.unwrap().unwrap();
    assert_eq!(node.status, NodeStatus::Quarantined);
    bed.finish().await;
    refusal.code
}

#[tokio::test]
async fn either_half_that_changes_halts_at_renewal() {
    let image = denied_at_renewal(|both| both.td.machine.quote.body.mr_td = [0x6b; 48]).await;
    assert_eq!(image, "reference.measurement_unknown");
    let module = denied_at_renewal(|both| both.td.machine.quote.body.tee_tcb_svn[0] = 5).await;
    assert_eq!(module, "reference.tcb_status_refused");
    // The TPM in a trust domain that was launched anew was reset with it.
    let relaunch = denied_at_renewal(|both| both.node.machine.clock.reset_count += 1).await;
    assert_eq!(relaunch, "evidence.tpm_restarted");
}

#[tokio::test]
async fn a_tpm_whose_key_is_not_in_the_quote_proves_nothing_about_the_trust_domain() {
    let (bed, mut both, mut stream) = Both::ready().await;
    // Genuine quotes of TPM and trust domain over one challenge, but the latter over another TPM's attestation key.
    let request = both.node.authorize(&both.node.intent(&[]));
    let challenge = challenged(&mut both.node, KIND, &mut stream, request).await.unwrap();
    let other = report_data(&Node::new().machine, &challenge);
    let ccel = both.td.machine.event_log.encode();
    let cmw = both.answer_with(&challenge, other, Some(&ccel));
    assert_eq!(both.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.binding_mismatch");

    // Each half alone is not what was demanded.
    let request = both.node.authorize(&both.node.intent(&[]));
    let asked = challenged(&mut both.node, KIND, &mut stream, request).await.unwrap();
    let alone = Challenge { demands: Demands::Tpm(asked.demands.tpm().unwrap().clone()), ..asked };
    let cmw = both.node.evidence(&alone);
    assert_eq!(both.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.kind_unexpected");
    bed.finish().await;
}
