//! A simulated trust domain without a TPM, from enrolment to halt, over the real protocol.

use std::sync::Arc;

use evidence::{
    Endorsements, EvidenceKind, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    binding::Binding,
    challenge::{Demands, TdxDemands},
    digest::Sha256Digest,
    names::NodeId,
    tdx::{Collateral, TdxEndorsement, TdxEvidence, TdxParts, VerifiedCollateral},
    tee::{EnrolledPlatform, PlatformId},
};
use simulators::{
    ccel::EventLog,
    intel::{IntelAuthority, IntelKeys, PckChain, TdxMachine},
    x509::RevokedCertificate,
};
use verifier::{
    config::Admission,
    endorsements::{At, TdxKey, key::PckCa},
    fault::Fault,
    nodes::{self, NodeStatus},
};

use crate::{
    bed::{Bed, now},
    guest::{Bend, Guest, Hardware},
};

type Td = Guest<Platform>;

/// A machine with the PCK certificate that its quotes carry until something about it changes.
#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) machine: TdxMachine,
    pck: Arc<PckChain>,
}

impl Platform {
    pub(crate) fn of(machine: TdxMachine) -> Self {
        Self { pck: Arc::new(machine.pck_chain().unwrap()), machine }
    }

    /// Another platform: quotes and certificate alike.
    fn set_ppid(&mut self, ppid: [u8; 16]) {
        self.machine.pck.ppid = ppid;
        *self = Self::of(self.machine.clone());
    }

    pub(crate) fn quote(&self, report_data: [u8; 64]) -> Vec<u8> {
        self.machine.quote_with(report_data, &self.pck).unwrap()
    }

    pub(crate) fn collateral(&self) -> Vec<u8> {
        self.machine.collateral().unwrap().to_json().unwrap().into_bytes()
    }

    pub(crate) fn endorsement(&self, enrolled: EnrolledPlatform, anchors: &TrustAnchors) -> TdxEndorsement {
        let collateral = Collateral::from_json(&self.collateral()).unwrap();
        let collateral = VerifiedCollateral::verify(&collateral, &anchors.tdx_roots(), now()).unwrap();
        TdxEndorsement { collateral: Arc::new(collateral), pck: None, enrolled: Arc::new(enrolled) }
    }

    pub(crate) fn id(&self) -> PlatformId {
        PlatformId::IntelPpid(self.machine.pck.ppid)
    }

    pub(crate) fn root(&self) -> RootPin {
        RootPin::Certificate(Sha256Digest::of(&self.machine.authority.root))
    }
}

impl Hardware for Platform {
    const KIND: EvidenceKind = EvidenceKind::Tdx;

    fn new() -> Self {
        Self::of(TdxMachine::new(4, now().0).unwrap())
    }

    fn anchors(&self) -> TrustAnchors {
        let simulated_tdx_roots = [self.root()].into();
        TrustAnchors::lab_accepting_simulated(AnchorSet { simulated_tdx_roots, ..AnchorSet::default() }).unwrap()
    }

    fn demands() -> Demands {
        Demands::Tdx(TdxDemands { event_log: true })
    }

    fn evidence(&self, report_data: [u8; 64], node_key: &[u8], demands: &Demands) -> Vec<u8> {
        let Demands::Tdx(TdxDemands { event_log }) = demands else { panic!("not asked of a trust domain") };
        let log = event_log.then(|| self.machine.event_log.encode());
        let quote = self.quote(report_data);
        let parts = TdxParts { quote: &quote, node_key, event_log: log.as_deref() };
        TdxEvidence::assemble(parts).unwrap().bytes().to_vec()
    }

    fn endorsements(&self, enrolled: impl FnOnce(PlatformId) -> EnrolledPlatform) -> Endorsements {
        Endorsements::Tdx(self.endorsement(enrolled(self.id()), &self.anchors()))
    }

    async fn import(&self, bed: &Bed) {
        bed.import_files(&[&self.collateral()]).await;
    }
}

#[tokio::test]
async fn the_result_names_each_endorsement_with_its_age() {
    let (bed, mut guest, mut stream) = Td::ready().await;
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let challenge = guest.challenged(&mut stream, request).await.unwrap();
    let cmw = guest.answer(&challenge);
    let granted = guest.node.conclude(&mut stream, cmw).await.unwrap();
    let used = guest.endorsed_by(&bed, &challenge, &granted).await;
    let kinds: Vec<_> = used.iter().map(|used| used.kind.as_str()).collect();
    assert_eq!(kinds, ["tcb-info", "qe-identity", "intel-root", "root-ca-crl", "pck-ca", "pck-crl"]);
    let authority = &guest.hardware.machine.authority;
    assert_eq!(used[2].digest, Sha256Digest::of(&authority.root));
    assert_eq!(used[4].digest, Sha256Digest::of(&authority.platform_ca));
    // of a week and of a day before the machine was made, moments ago
    let day_s = 24 * 3600;
    assert!((7 * day_s..7 * day_s + 600).contains(&used[0].age_s), "{}", used[0].age_s);
    assert!((day_s..day_s + 600).contains(&used[5].age_s), "{}", used[5].age_s);
    bed.finish().await;
}

/// Runs under a lease, changes, and is denied at the next renewal.
async fn denied_at_renewal(change: fn(&mut Platform)) -> String {
    let (bed, mut guest, mut stream) = Td::ready().await;
    let granted = guest.authorize(&mut stream, &[]).await.unwrap();
    let renewed = guest.renew(&mut stream, &granted.artifact).await.unwrap();
    change(&mut guest.hardware);
    let refusal = guest.renew(&mut stream, &renewed.artifact).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.halt), ("denied", true), "{}", refusal.code);
    assert_eq!(guest.status(&bed).await, NodeStatus::Quarantined);
    bed.finish().await;
    refusal.code
}

#[tokio::test]
async fn authorize_open_the_key_and_renew() {
    let (bed, mut guest, mut stream) = Td::ready().await;
    let granted = guest.authorize(&mut stream, &["db"]).await.unwrap();
    assert_eq!(guest.opens(&granted), b"the secret");
    let renewed = guest.renew(&mut stream, &granted.artifact).await.unwrap();
    assert!(renewed.keys.is_empty());
    bed.finish().await;
}

#[tokio::test]
async fn what_is_measured_otherwise_halts_at_renewal() {
    let image = denied_at_renewal(|platform| platform.machine.quote.body.mr_td = [0x6b; 48]).await;
    assert_eq!(image, "reference.measurement_unknown");
    let runtime = denied_at_renewal(|platform| {
        let mut log = platform.machine.event_log.clone();
        log.extend_runtime(b"an application that nobody approved");
        platform.machine.set_event_log(log);
    });
    assert_eq!(runtime.await, "reference.measurement_unknown");
    let untold = denied_at_renewal(|platform| platform.machine.event_log = EventLog::default()).await;
    assert_eq!(untold, "evidence.rtmr_replay_mismatch");
}

#[tokio::test]
async fn an_older_tdx_module_or_platform_halts_at_renewal() {
    let module = denied_at_renewal(|platform| platform.machine.quote.body.tee_tcb_svn[0] = 5).await;
    assert_eq!(module, "reference.tcb_status_refused");
    let platform = denied_at_renewal(|platform| {
        platform.machine.pck.components = [2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        *platform = Platform::of(platform.machine.clone());
    });
    assert_eq!(platform.await, "reference.tcb_status_refused");
}

#[tokio::test]
async fn what_intel_says_later_is_judged_by_at_the_next_renewal() {
    let (bed, mut guest, mut stream) = Td::ready().await;
    let granted = guest.authorize(&mut stream, &[]).await.unwrap();
    let mut later = guest.hardware.machine.collateral.clone();
    (later.pck_crl.this_update, later.pck_crl.next_update) = (now().0 - 60, now().0 + 3600);
    let serial = guest.hardware.machine.pck.serial.clone();
    later.pck_crl.revoked.push(RevokedCertificate { serial, at: now().0 - 60, reason: 1 });
    let signed = later.sign(&guest.hardware.machine.authority).unwrap();
    bed.import(&[&hex::decode(signed.pck_crl).unwrap()]).await;
    let refusal = guest.renew(&mut stream, &granted.artifact).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("evidence.revoked", true));
    bed.finish().await;
}

#[tokio::test]
async fn a_trust_domain_launched_anew_starts_anew_and_never_goes_on() {
    let (bed, mut guest, mut stream) = Td::ready().await;
    let granted = guest.authorize(&mut stream, &[]).await.unwrap();
    guest.start_anew();
    // What it runs now is its own; what ran before the launch is nobody's.
    let anew = guest.authorize(&mut stream, &["db"]).await.unwrap();
    assert_eq!(guest.opens(&anew), b"the secret");
    let anew = guest.renew(&mut stream, &anew.artifact).await.unwrap();
    let refusal = guest.renew(&mut stream, &granted.artifact).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.halt), ("governance.node_key_changed", true));
    // Judged again from what was logged, it is denied for the same reason: the decision names the key that was held.
    let again = bed.desk.appraise_entry(refusal.entry.parse().unwrap()).await.unwrap();
    assert_eq!((&again["failures"][0]["code"], &again["differs"]), (&refusal.code.as_str().into(), &false.into()));
    assert_eq!(guest.status(&bed).await, NodeStatus::Quarantined);
    assert_eq!(guest.renew(&mut stream, &anew.artifact).await.unwrap_err().code, "governance.node_quarantined");
    bed.finish().await;
}

#[tokio::test]
async fn a_quote_answers_its_own_challenge_on_its_own_connection_with_its_own_key_and_log() {
    let (bed, mut guest, mut stream) = Td::ready().await;
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

    // A genuine quote for one key, sent with another.
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let challenge = guest.challenged(&mut stream, request).await.unwrap();
    let data = Binding::answering(&challenge, guest.public.cose_key(), None).report_data().unwrap();
    let foreign = Td::new("x", 98).public;
    let cmw = guest.hardware.evidence(data, foreign.cose_key(), &challenge.demands);
    assert_eq!(guest.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.binding_mismatch", "key");

    // And without the log that its registers are judged by.
    let request = guest.node.authorize(&guest.node.intent(&[]));
    let challenge = guest.challenged(&mut stream, request).await.unwrap();
    let data = Binding::answering(&challenge, guest.public.cose_key(), None).report_data().unwrap();
    let without = Demands::Tdx(TdxDemands { event_log: false });
    let cmw = guest.hardware.evidence(data, guest.public.cose_key(), &without);
    assert_eq!(guest.node.conclude(&mut stream, cmw).await.unwrap_err().code, "evidence.missing", "log");
    bed.finish().await;
}

#[tokio::test]
async fn another_platform_or_record_key_is_another_node() {
    let (bed, mut guest, mut stream) = Td::ready().await;
    let ppid = guest.hardware.machine.pck.ppid;
    guest.hardware.set_ppid([0x11; 16]);
    assert_eq!(guest.authorize(&mut stream, &[]).await.unwrap_err().code, "evidence.platform_mismatch");

    // Nor does enrolling again move the id to it.
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("denied", "governance.node_identity"));
    guest.hardware.set_ppid(ppid);
    let mut other = Td { hardware: guest.hardware.clone(), ..Guest::new("guest-1", 22) };
    assert_eq!(other.enrol(&bed).await.unwrap_err().code, "governance.node_identity");
    // The platform may run another node.
    let mut sibling = Td { hardware: guest.hardware.clone(), ..Guest::new("guest-2", 23) };
    sibling.enrol(&bed).await.unwrap();
    bed.finish().await;
}

#[tokio::test]
async fn where_operators_decide_a_platform_is_admitted_for_a_node() {
    let mut guest = Td::new("guest-1", 21);
    let bed = guest.bed_admitting(Admission::Operator).await;
    guest.enrol(&bed).await.unwrap();
    assert_eq!(guest.status(&bed).await, NodeStatus::Pending);
    let mut stream = guest.node.connect(&bed).await;
    assert_eq!(guest.authorize(&mut stream, &[]).await.unwrap_err().code, "governance.node_pending");
    // Beforehand, by the text that an operator writes; for this node alone.
    let named = format!("intel-ppid:{}", hex::encode(guest.hardware.machine.pck.ppid));
    let (platform, id): (PlatformId, _) = (named.parse().unwrap(), NodeId::new("guest-2").unwrap());
    let admitted = bed.store().write::<_, nodes::NodeRefusal, _>(move |transaction| {
        Box::pin(async move { nodes::admit_platform(transaction, &platform, &id, "a test").await })
    });
    admitted.await.unwrap();
    for (id, seed, status) in [("guest-2", 23, NodeStatus::Active), ("guest-3", 24, NodeStatus::Pending)] {
        let mut other = Td { hardware: guest.hardware.clone(), ..Guest::new(id, seed) };
        other.enrol(&bed).await.unwrap();
        assert_eq!(other.status(&bed).await, status, "{id}");
    }
    bed.finish().await;
}

#[tokio::test]
async fn nothing_is_stored_of_a_stranger_whose_evidence_proves_nothing() {
    let mut guest = Td::new("guest-1", 21);
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
    let genuine = guest.hardware.clone();
    guest.hardware.machine.quote.body.td_attributes |= 1;
    assert_eq!(guest.enrol(&bed).await.unwrap_err().code, "evidence.debug_enabled", "debugging");
    // Somebody who calls himself Intel: refused before anything is looked up.
    let keys = Arc::new(IntelKeys::from_seed(b"of nobody").unwrap());
    let forged = TdxMachine::with_authority(4, IntelAuthority::new(keys, now().0).unwrap()).unwrap();
    guest.hardware = Platform::of(forged);
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("denied", "evidence.chain_unanchored"));
    assert!(nodes::list(bed.store()).await.unwrap().is_empty());
    assert_eq!(bed.log().size(), size, "nothing is logged about strangers");
    guest.hardware = genuine;
    guest.enrol(&bed).await.unwrap();
    bed.finish().await;
}

#[tokio::test]
async fn an_empty_endorsement_store_is_a_fault_that_says_what_to_import() {
    let mut guest = Td::new("guest-1", 21);
    let bed = guest.empty_bed().await;
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!((refusal.class.as_str(), refusal.code.as_str()), ("fault", "fault.endorsements_unavailable"));
    let key = TdxKey { fmspc: guest.hardware.machine.pck.fmspc, ca: PckCa::Platform };
    let missing = async || {
        let unavailable = bed.endorsements.tdx(key, &[], At::Now(now())).await.unwrap_err();
        Fault::from(unavailable).to_string()
    };
    let all = [
        "TDX TCB info of FMSPC 90c06f000000 is not stored",
        "identity of the TD quoting enclave is not stored",
        "Intel SGX root CA certificate is not stored",
        "revocation list of Intel SGX Root CA is not stored",
        "certificate of Intel SGX PCK Platform CA is not stored",
        "revocation list of Intel SGX PCK Platform CA is not stored",
        "verifier endorsements import FILE|DIR",
    ];
    let told = missing().await;
    all.iter().for_each(|what| assert!(told.contains(what), "{what} in {told}"));

    // The quote brings certificates, never the statements that its own platform is judged by; an operator does.
    let machine = &guest.hardware.machine;
    let collateral = machine.collateral().unwrap();
    let [root_crl, pck_crl] = [&collateral.root_ca_crl, &collateral.pck_crl].map(|list| hex::decode(list).unwrap());
    bed.import(&[&root_crl, &pck_crl]).await;
    let refusal = guest.enrol(&bed).await.unwrap_err();
    assert_eq!(refusal.code, "fault.endorsements_unavailable");
    guest.hardware.import(&bed).await;
    guest.enrol(&bed).await.unwrap();
    let mut stream = guest.node.connect(&bed).await;
    guest.authorize(&mut stream, &[]).await.unwrap();
    bed.finish().await;
}
