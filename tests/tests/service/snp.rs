//! A simulated SNP guest without a TPM, from enrolment to halt, over the real protocol.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use evidence::{
    Endorsements, Evidence, EvidenceKind, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    binding::Binding,
    challenge::Demands,
    digest::Sha256Digest,
    names::NodeId,
    sev_snp::{
        Launch, Revocation, SnpEndorsement, SnpEvidence, SnpParts, VerifiedVek,
        cert_table::{CertificateKind, CertificateTable},
    },
    tee::{EnrolledPlatform, PlatformId},
};
use simulators::amd::{Product, SnpMachine};
use verifier::nodes::{self, NodeStatus};

use crate::{
    bed::{Bed, now},
    guest::{Bend, Guest, Hardware},
    node::Node,
};

type Snp = Guest<SnpMachine>;

impl Hardware for SnpMachine {
    const KIND: EvidenceKind = EvidenceKind::SevSnp;

    fn new() -> Self {
        Self::new(Product::Milan, now().0).unwrap()
    }

    fn anchors(&self) -> TrustAnchors {
        let root = RootPin::Certificate(Sha256Digest::of(&self.authority.ark));
        let simulated_snp_roots = BTreeMap::from([("Milan".to_owned(), BTreeSet::from([root]))]);
        TrustAnchors::lab_accepting_simulated(AnchorSet { simulated_snp_roots, ..AnchorSet::default() }).unwrap()
    }

    fn demands() -> Demands {
        Demands::SevSnp
    }

    fn evidence(&self, report_data: [u8; 64], node_key: &[u8], _demands: &Demands) -> Vec<u8> {
        let reported = self.report(report_data).unwrap();
        let certificates = Some(reported.certificates.as_slice()).filter(|table| !table.is_empty());
        let parts = SnpParts { report: &reported.report, certificates, node_key };
        SnpEvidence::assemble(parts).unwrap().bytes().to_vec()
    }

    fn endorsements(&self, enrolled: impl FnOnce(PlatformId) -> EnrolledPlatform) -> Endorsements {
        let (authority, anchors) = (&self.authority, self.anchors());
        let (leaf, list) = (self.vek().unwrap().certificate, Revocation::List(&authority.crl));
        let (ask, ark) = (Some(&authority.ask[..]), Some(&authority.ark[..]));
        let vek = VerifiedVek::verify(&leaf, ask, ark, list, &anchors.snp_roots(), now()).unwrap();
        let enrolled = Arc::new(enrolled(vek.platform()));
        Endorsements::SevSnp(SnpEndorsement { vek: Arc::new(vek), enrolled, launch: Launch::Any })
    }

    async fn import(&self, bed: &Bed) {
        bed.import(&[&self.authority.crl]).await;
    }
}

#[tokio::test]
async fn authorize_open_the_key_renew_changed_measurement_denial_quarantine() {
    let (bed, mut guest, mut stream) = Snp::ready().await;
    let granted = guest.authorize(&mut stream, &["db"]).await.unwrap();

    assert_eq!(guest.opens(&granted), b"the secret");

    let renewed = guest.renew(&mut stream, &granted.artifact).await.unwrap();
    assert!(renewed.keys.is_empty());

    // Another measurement at renewal: refused, halted, quarantined.
    guest.hardware.fields.measurement = [0x6b; 48];
    let refusal = guest.renew(&mut stream, &renewed.artifact).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.halt), ("denied", true));
    assert!(refusal.code.starts_with("reference."), "{}", refusal.code);
    assert_eq!(guest.status(&bed).await, NodeStatus::Quarantined);
    bed.finish().await;
}

#[tokio::test]
async fn the_result_names_each_endorsement_with_its_age() {
    let (bed, mut guest, mut stream) = Snp::ready().await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let challenge = guest.challenged(&mut stream, request).await.unwrap();
    let cmw = guest.answer(&challenge);
    let Evidence::SevSnp(sent) = Evidence::decode(cmw.clone()).unwrap() else { panic!("not of SNP") };
    let table = CertificateTable::parse(sent.parts().certificates.unwrap()).unwrap();
    let vcek = table.der(CertificateKind::Vcek).unwrap().unwrap().into_owned();
    let granted = guest.node.conclude(&mut stream, cmw).await.unwrap();
    let used = guest.endorsed_by(&bed, &challenge, &granted).await;
    let authority = &guest.hardware.authority;
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
    let (bed, mut guest, mut stream) = Snp::ready().await;
    let granted = guest.authorize(&mut stream, &[]).await.unwrap();
    let mut tcb = guest.hardware.vek_tcb;
    tcb.snp -= 1;
    guest.hardware.set_tcb(tcb);
    let refusal = guest.renew(&mut stream, &granted.artifact).await.unwrap_err();
    assert!(refusal.code.starts_with("reference."), "{}", refusal.code);
    assert!(refusal.halt);
    bed.finish().await;
}

#[tokio::test]
async fn a_guest_launched_anew_starts_anew_and_never_goes_on() {
    let (bed, mut guest, mut stream) = Snp::ready().await;
    let granted = guest.authorize(&mut stream, &[]).await.unwrap();
    guest.hardware.fields.report_id = [7; 32];
    guest.authorize(&mut stream, &[]).await.unwrap();
    // What was held before the launch is over.
    assert_eq!(guest.renew(&mut stream, &granted.artifact).await.unwrap_err().code, "governance.artifact_id");
    bed.finish().await;

    let (bed, mut guest, mut stream) = Snp::ready().await;
    let granted = guest.authorize(&mut stream, &[]).await.unwrap();
    guest.hardware.fields.report_id = [7; 32];
    let refusal = guest.renew(&mut stream, &granted.artifact).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("evidence.snp_report_id", true));
    bed.finish().await;
}

#[tokio::test]
async fn a_daemon_started_anew_in_the_same_guest_does_not_go_on() {
    let (bed, mut guest, mut stream) = Snp::ready().await;
    let granted = guest.authorize(&mut stream, &[]).await.unwrap();
    guest.start_anew();
    let refusal = guest.renew(&mut stream, &granted.artifact).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.node_key_changed", true));
    bed.finish().await;
}

#[tokio::test]
async fn a_report_answers_its_own_challenge_on_its_own_connection_with_its_own_key() {
    let (bed, mut guest, mut stream) = Snp::ready().await;
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
    let reported = guest.hardware.report(data).unwrap();
    let foreign = Snp::new("x", 99).public;
    let parts =
        SnpParts { report: &reported.report, certificates: Some(&reported.certificates), node_key: foreign.cose_key() };
    let cmw = SnpEvidence::assemble(parts).unwrap().bytes().to_vec();
    assert_eq!(guest.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.binding_mismatch", "key");
    bed.finish().await;
}

#[tokio::test]
async fn another_chip_or_record_key_is_another_node() {
    let (bed, mut guest, mut stream) = Snp::ready().await;
    let chip = guest.hardware.chip_id;
    guest.hardware.set_chip_id([0x11; 64]);
    assert_eq!(guest.authorize(&mut stream, &[]).await.unwrap_err().code, "evidence.platform_mismatch");

    // Nor does enrolling again move the id to it.
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("denied", "governance.node_identity"));
    guest.hardware.set_chip_id(chip);
    let mut other = Snp { hardware: guest.hardware.clone(), ..Guest::new("guest-1", 22) };
    assert_eq!(other.enrol(&bed).await.unwrap_err().code, "governance.node_identity");
    // The chip may run another node.
    let mut sibling = Snp { hardware: guest.hardware.clone(), ..Guest::new("guest-2", 23) };
    sibling.enrol(&bed).await.unwrap();
    // And as a TPM, the id is taken too: evidence of another kind is not its own.
    let mut tpm = Node::new();
    tpm.machine.node_id = NodeId::new("guest-1").unwrap();
    assert!(tpm.enrol(&bed).await.is_err());
    bed.finish().await;
}

#[tokio::test]
async fn nothing_is_stored_of_a_stranger_whose_evidence_proves_nothing() {
    let mut guest = Snp::new("guest-1", 21);
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
    guest.hardware.fields.policy |= 1 << 19;
    assert_eq!(guest.enrol(&bed).await.unwrap_err().code, "evidence.snp_guest_policy", "debugging");
    assert!(nodes::list(bed.store()).await.unwrap().is_empty());
    assert_eq!(bed.log().size(), size, "nothing is logged about strangers");
    bed.finish().await;
}

#[tokio::test]
async fn certificates_that_proved_evidence_are_there_for_the_next() {
    let (bed, mut guest, mut stream) = Snp::ready().await;
    // What proves nothing brings nothing.
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let mut challenge = guest.challenged(&mut stream, request).await.unwrap();
    challenge.nonce[0] ^= 1;
    let cmw = guest.answer(&challenge);
    assert_eq!(guest.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.binding_mismatch");
    guest.hardware.provides_certificates = false;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    assert_eq!(guest.ask(&mut stream, request).await.unwrap_err().code, "fault.endorsements_unavailable");

    guest.hardware.provides_certificates = true;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    guest.ask(&mut stream, request).await.unwrap();
    guest.hardware.provides_certificates = false;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    guest.ask(&mut stream, request).await.unwrap();
    bed.finish().await;
}

#[tokio::test]
async fn an_empty_endorsement_store_is_a_fault_that_says_what_to_import() {
    let mut guest = Snp::new("guest-1", 21);
    let bed = guest.empty_bed().await;
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("fault", "fault.endorsements_unavailable"));
    // A host's table does not bring the list that its own key is judged by; an operator does.
    bed.import(&[&guest.hardware.authority.crl]).await;
    guest.enrol(&bed).await.unwrap();
    // Without the host's certificates, what an operator imported is enough.
    guest.hardware.provides_certificates = false;
    let mut stream = guest.node.connect(&bed).await;
    assert_eq!(guest.authorize(&mut stream, &[]).await.unwrap_err().code, "fault.endorsements_unavailable");
    let vek = guest.hardware.vek().unwrap().certificate;
    bed.import(&[&guest.hardware.authority.ark, &guest.hardware.authority.ask, &vek]).await;
    guest.authorize(&mut stream, &[]).await.unwrap();
    bed.finish().await;
}
