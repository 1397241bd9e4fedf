//! A partner's word in the place of evidence: how far it reaches, and that whoever stole the partner's issuer key reaches no
//! further. Every refusal here is of something that the partner's own key signed.

use std::sync::Arc;

use evidence::cbor::{self, Caps};
use evidence::cose::{KeySet, Purpose, SigningKey, claimed_payload, sign1};
use evidence::digest::Sha256Digest;
use evidence::kind::EvidenceKind;
use evidence::names::{DomainName, NodeId};
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use governance::artifact::{Artifact, ArtifactTerms, ReceiptReference};
use governance::federation_grant::FederationGrant;
use governance::governance_state::{GovernanceState, STATE_VERSION};
use governance::intent::{Domains, Intent};
use governance::partner::{Growth, LogHead, Partner, PartnerEvent};
use governance::partner_endpoint::{EndpointProfile, PartnerEndpoint};
use governance::passport::{PASSPORT_VERSION, Passport};
use governance::revocation::{RevocationList, Revoked};
use governance::text::Text;
use governance::trust_bundle::{BUNDLE_VERSION, FEDERATION_LIFETIME_CAP_S, KeyRecord, TrustBundle};
use policy::ear::Ear;
use serde_bytes::ByteBuf;
use verifier::federation::{HeldPartner, Partners};
use wire::proto::{self, node_message::Message as Says, verifier_message::Message as Hears};

use crate::bed::{Bed, domain, named_reference_set, now};
use crate::node::{Node, Stream};

/// What this domain permits on the word of its partner, and what it calls that environment.
const RULES: &str = r#"
@id("federate-b") permit (principal == Domain::"b.example", action == Action::"federate", resource is Domain)
when { context.kind == "tpm" && context.subject == "spiffe://b.example/node/node-1" && context.result_age_s < 300 };
@id("execute-b") permit (principal is Node, action == Action::"execute", resource is Scope)
when { context.claims.environment == "b.example/lab" };
@id("release-b") permit (principal is Node, action == Action::"release", resource is Key)
when { context.claims.environment == "b.example/lab" };
"#;

fn partner() -> DomainName {
    DomainName::new("b.example").unwrap()
}

/// The partner's issuer key, which is the one that was stolen.
fn stolen() -> SigningKey {
    SigningKey::from_seed(&[31; 32]).unwrap()
}

fn grant() -> FederationGrant {
    FederationGrant {
        path_prefix: Text::new("/node/").unwrap(),
        kinds: [EvidenceKind::Tpm].into(),
        lease_ms: 30_000,
        rate_per_minute: 60,
        witness: false,
        results: true,
        max_staleness_s: 600,
    }
}

/// The partner, seen a moment ago.
fn seen(grant: FederationGrant) -> Arc<Partners> {
    let (name, authority) = (partner(), SigningKey::from_seed(&[33; 32]).unwrap());
    let counts = |seed: u8| KeyRecord {
        key: SigningKey::from_seed(&[seed; 32]).unwrap().public().clone(),
        from: UnixSeconds(0),
        until: now().plus(3_600),
    };
    let bundle = TrustBundle {
        version: BUNDLE_VERSION,
        domain: name.clone(),
        sequence: 1,
        issued_at: now().minus(60),
        expires_at: now().plus(3_600),
        refresh_hint_s: 300,
        issuer: vec![counts(31)],
        log_origin: "log.b.example".into(),
        log: vec![counts(32)],
        witness: vec![],
        jwt: vec![],
        ca: vec![],
        authority: Authority::new(vec![authority.public().clone()], 1).unwrap(),
    };
    let cose = bundle.sign(&authority).unwrap();
    let pinned =
        TrustBundle::verify(std::slice::from_ref(&cose), &name, &bundle.authority, FEDERATION_LIFETIME_CAP_S, now())
            .unwrap();
    let state = GovernanceState {
        version: STATE_VERSION,
        domain: name.clone(),
        epoch: 1,
        issued_at: now(),
        expires_at: now().plus(600),
        policy_set: Sha256Digest::of(b"policies"),
        reference_values: Sha256Digest::of(b"values"),
        revocations: RevocationList::default().digest().unwrap(),
        bundle: pinned.digest(),
        tcb_floor: Sha256Digest::ZERO,
        previous: None,
    };
    let signed = state.sign(&stolen()).unwrap();
    let newest = GovernanceState::verify(&signed, &name, &KeySet::new([stolen().public()]), now()).unwrap();
    let url = Text::new("https://verifier.b.example:8443").unwrap();
    let endpoint = PartnerEndpoint { url, profile: EndpointProfile::HttpsSpiffe };
    let head = LogHead { size: 4, root: Sha256Digest::of(b"root") };
    let (state, revocations) = (newest.digest(), RevocationList::default());
    let events = [
        PartnerEvent::Head { head, growth: Growth::Proven },
        PartnerEvent::State { newest: Box::new(newest), between: vec![] },
        PartnerEvent::Proven { state, head, revocations },
    ];
    let held =
        events.into_iter().fold(Partner::pinned(pinned, endpoint, grant, now()), |held, event| held.on(event, now()).0);
    held.fresh(now()).unwrap();
    Arc::new(Partners::default().with(HeldPartner {
        partner: held,
        bundle: Arc::new(vec![cose]),
        state: Arc::new(signed),
    }))
}

/// What the partner says of an execution: made from what this domain itself granted the same node, by its evidence.
#[derive(Clone)]
struct Said {
    terms: ArtifactTerms,
    ear: Ear,
    artifact_by: u8,
    result_by: u8,
}

impl Said {
    /// As the partner would say it of another execution of the same node.
    fn of(granted: &proto::Authorization, intent: &Intent) -> Self {
        let terms = Artifact::decode(&claimed_payload(&granted.artifact).unwrap()).unwrap().terms();
        let payload = claimed_payload(&granted.result).unwrap();
        let mut ear: Ear = cbor::from_slice(&payload, Caps::bytes(payload.len())).unwrap();
        let node = partner().node_spiffe_id(&intent.node);
        (ear.issuer, ear.audience) = (partner().verifier_spiffe_id(), node.clone());
        ear.submods.values_mut().for_each(|appraisal| appraisal.verifier.domain = partner().to_string());
        let mut said = Self { terms, ear, artifact_by: 31, result_by: 31 };
        let terms = &mut said.terms;
        terms.issuer = partner().verifier_spiffe_id();
        (terms.subject, terms.audience) = (node.clone(), node);
        (terms.governance.domain, terms.intent) = (partner(), intent.digest().unwrap());
        said
    }

    fn signed(&self) -> (Vec<u8>, Vec<u8>) {
        let key = |seed: u8| SigningKey::from_seed(&[seed; 32]).unwrap();
        let result =
            sign1(Purpose::AttestationResult, &partner(), &cbor::to_vec(&self.ear).unwrap(), &key(self.result_by));
        let result = result.unwrap();
        let mut terms = self.terms.clone();
        if terms.policy.result != Sha256Digest::ZERO {
            terms.policy.result = Sha256Digest::of(&result);
        }
        let receipt = ReceiptReference { index: 3, entry: Sha256Digest::of(b"the partner's record") };
        (Artifact::issue(terms, receipt, &key(self.artifact_by)).unwrap(), result)
    }
}

/// A domain, one of its nodes, and what it granted that node by evidence a moment ago.
struct Stand {
    bed: Bed,
    node: Node,
    stream: Stream,
    granted: proto::Authorization,
}

impl Stand {
    async fn with(grant: FederationGrant) -> Self {
        let mut node = Node::new();
        let mut bed = Bed::knowing(&node.machine).await;
        bed.put_key("db", b"the secret").await;
        bed.rules.cedar.push_str(RULES);
        bed.govern().await;
        bed.partner_with(seen(grant));
        node.enrol(&bed).await.unwrap();
        let mut stream = node.connect(&bed).await;
        let intent = node.intent(&[]);
        let granted = node.ask(&mut stream, node.authorize(&intent)).await.unwrap();
        Self { bed, node, stream, granted }
    }

    /// An intent of both domains.
    fn intent(&self) -> Intent {
        Intent { domains: Domains::All([domain(), partner()].into()), ..self.node.intent(&["db"]) }
    }

    /// Asks, and hears the challenge.
    async fn challenged(&mut self, request: Says) -> proto::Challenge {
        self.stream.say(request).await;
        match self.stream.next().await {
            Hears::Challenge(asked) => asked,
            other => panic!("{other:?}"),
        }
    }

    /// What the node signs as its answer to a challenge.
    fn passport(&self, asked: &proto::Challenge, said: &Said) -> Passport {
        let (artifact, result) = said.signed();
        Passport {
            version: PASSPORT_VERSION,
            domain: domain(),
            node: self.node.machine.node_id.clone(),
            partner: partner(),
            artifact: ByteBuf::from(artifact),
            result: ByteBuf::from(result),
            nonce: asked.nonce.as_slice().try_into().unwrap(),
            channel: self.stream.channel,
            epoch: asked.epoch,
            subject: Sha256Digest::try_from(asked.subject.as_slice()).unwrap(),
            lineage_head: self.node.head,
        }
    }

    async fn show(&mut self, passport: &Passport) -> Result<proto::Authorization, proto::Refusal> {
        let cose = passport.sign(&self.node.machine.record_key).unwrap();
        self.stream.say(Says::Passport(proto::Passport { cose })).await;
        match self.stream.next().await {
            Hears::Authorization(authorization) => {
                self.node.head = Sha256Digest::try_from(authorization.lineage_head.as_slice()).unwrap();
                Ok(authorization)
            }
            Hears::Refusal(refusal) => Err(self.node.heard(refusal)),
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a new execution on the word of the partner, as it is bent.
    async fn vouched(&mut self, bend: impl FnOnce(&mut Said)) -> Result<proto::Authorization, proto::Refusal> {
        let intent = self.intent();
        let asked = self.challenged(self.node.authorize(&intent)).await;
        let mut said = Said::of(&self.granted, &intent);
        bend(&mut said);
        let passport = self.passport(&asked, &said);
        self.show(&passport).await
    }

    /// Nothing is granted, by this code; the node is no worse for it.
    async fn refused(&mut self, code: &str, bend: impl FnOnce(&mut Said)) {
        let before = self.authorizations().await;
        let refusal = self.vouched(bend).await.expect_err(code);
        assert_eq!((refusal.class.as_str(), refusal.code.as_str(), refusal.halt), ("denied", code, false));
        assert_eq!(self.authorizations().await, before, "{code}");
    }

    /// How many executions were ever granted.
    async fn authorizations(&self) -> String {
        let metrics = self.bed.get("/metrics").await;
        metrics.lines().find(|line| line.contains("authorizations_total")).unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_partners_word_is_taken_for_this_execution_as_long_as_the_partner_grants_it() {
    let mut stand = Stand::with(grant()).await;
    let intent = stand.intent();
    let asked = stand.challenged(stand.node.authorize(&intent)).await;
    assert_eq!(asked.vouchers, ["b.example"]);
    let mut said = Said::of(&stand.granted, &intent);
    said.terms.expires_at = now().plus(12);
    let passport = stand.passport(&asked, &said);
    let granted = stand.show(&passport).await.unwrap();
    let terms = Artifact::decode(&claimed_payload(&granted.artifact).unwrap()).unwrap().terms();
    // What is granted rests on the partner's own result and measurements, for the same node key, and no longer.
    assert_eq!(granted.result, passport.result.to_vec());
    assert_eq!(terms.policy.result, Sha256Digest::of(&passport.result));
    assert_eq!(
        (&terms.confirmation, &terms.bindings.measurements),
        (&said.terms.confirmation, &said.terms.bindings.measurements)
    );
    assert!(terms.lease.duration_ms <= 12_000 && terms.lease.renew_after_ms < terms.lease.duration_ms);
    assert!(terms.policy.determining.iter().any(|rule| rule.as_str() == "federate-b"));
    assert_eq!(granted.keys.len(), 1);
    // It goes on in the same way, and under the same node key alone.
    let asked = stand.challenged(stand.node.renew(&granted.artifact)).await;
    assert_eq!(asked.vouchers, ["b.example"]);
    said.terms.lease.seq = 2;
    said.terms.expires_at = now().plus(30);
    let passport = stand.passport(&asked, &said);
    let renewed = stand.show(&passport).await.unwrap();
    assert!(renewed.keys.is_empty());
    // Evidence is as good as ever.
    let request = stand.node.renew(&renewed.artifact);
    stand.node.ask(&mut stand.stream, request).await.unwrap();
    stand.bed.finish().await;
}

#[tokio::test]
async fn a_stolen_partner_key_signs_for_no_name_outside_those_granted() {
    let narrow = FederationGrant { path_prefix: Text::new("/node/prod-").unwrap(), ..grant() };
    let mut stand = Stand::with(narrow).await;
    let asked = stand.challenged(stand.node.authorize(&stand.intent())).await;
    assert!(asked.vouchers.is_empty(), "nobody is asked for what is not granted: {:?}", asked.vouchers);
    stand.refused("governance.grant_name", |_| ()).await;
    // Whom it names instead is not this node.
    let inside = NodeId::new("prod-1").unwrap();
    stand
        .refused("governance.audience", |said| {
            said.terms.bindings.node = inside.clone();
            let name = partner().node_spiffe_id(&inside);
            (said.terms.subject, said.terms.audience) = (name.clone(), name);
        })
        .await;
    stand.bed.finish().await;
}

#[tokio::test]
async fn kinds_lease_rate_and_results_are_limits_each_with_its_own_code() {
    let other_kind = FederationGrant { kinds: [EvidenceKind::SevSnp].into(), ..grant() };
    let shorter = FederationGrant { lease_ms: 29_999, ..grant() };
    let none = FederationGrant { results: false, ..grant() };
    for (code, grant) in
        [("governance.grant_kind", other_kind), ("governance.grant_lease", shorter), ("governance.grant_results", none)]
    {
        let mut stand = Stand::with(grant).await;
        stand.refused(code, |_| ()).await;
        stand.bed.finish().await;
    }
    let mut stand = Stand::with(FederationGrant { rate_per_minute: 2, ..grant() }).await;
    // What is refused anyway uses nothing up.
    stand.refused("governance.workload", |said| said.terms.intent = Sha256Digest::ZERO).await;
    stand.vouched(|_| ()).await.unwrap();
    stand.vouched(|_| ()).await.unwrap();
    stand.refused("governance.grant_rate", |_| ()).await;
    stand.bed.finish().await;
}

#[tokio::test]
async fn a_word_about_another_execution_machine_moment_or_domain_is_refused() {
    let mut stand = Stand::with(grant()).await;
    const MISMATCH: &str = "governance.passport_mismatch";
    stand.refused("governance.workload", |said| said.terms.intent = Sha256Digest::of(b"another")).await;
    stand.refused("governance.signature_invalid", |said| said.artifact_by = 32).await;
    stand.refused("governance.signature_invalid", |said| said.result_by = 32).await;
    stand.refused("governance.expired", |said| said.terms.expires_at = now()).await;
    stand.refused("governance.signature_invalid", |said| said.terms.governance.domain = domain()).await;
    stand.refused("governance.passport_result", |said| said.ear.expires_at = said.ear.issued_at).await;
    stand.refused(MISMATCH, |said| said.terms.policy.result = Sha256Digest::ZERO).await;
    let attester = |said: &mut Said, change: fn(&mut policy::ear::AttesterClaims)| {
        said.ear.submods.values_mut().for_each(|appraisal| change(&mut appraisal.attester));
    };
    stand.refused(MISMATCH, |said| attester(said, |of| of.tpm.as_mut().unwrap().ek = Sha256Digest::ZERO)).await;
    stand.refused(MISMATCH, |said| attester(said, |of| of.node_key = Sha256Digest::ZERO)).await;
    stand.refused(MISMATCH, |said| attester(said, |of| of.registers.clear())).await;
    stand.refused(MISMATCH, |said| attester(said, |of| of.node = "node-2".into())).await;
    // A partner that took a third domain's word has nothing of its own to show.
    stand
        .refused("governance.passport_transitive", |said| said.ear.issuer = "spiffe://c.example/verifier".into())
        .await;
    stand
        .refused("policy.not_permitted", |said| {
            said.ear.submods.values_mut().for_each(|appraisal| appraisal.verifier.environment = "elsewhere".into());
        })
        .await;
    // What was taken back here counts on nobody's word.
    let measured = *stand.granted_terms().bindings.measurements.values().next().unwrap();
    stand.bed.rules.revoked = vec![Revoked::Measurement(measured)];
    stand.bed.govern().await;
    stand.refused("governance.revoked", |_| ()).await;
    stand.bed.finish().await;
}

impl Stand {
    fn granted_terms(&self) -> ArtifactTerms {
        Artifact::decode(&claimed_payload(&self.granted.artifact).unwrap()).unwrap().terms()
    }
}

#[tokio::test]
async fn a_passport_is_for_one_challenge_on_one_connection_by_one_node() {
    let mut stand = Stand::with(grant()).await;
    let intent = stand.intent();
    let asked = stand.challenged(stand.node.authorize(&intent)).await;
    let said = Said::of(&stand.granted, &intent);
    let passport = stand.passport(&asked, &said);
    // Another connection of the same node.
    let elsewhere = Passport { channel: [7; 32], ..passport.clone() };
    assert_eq!(stand.show(&elsewhere).await.unwrap_err().code, "governance.passport_mismatch");
    // The same bytes again, when another challenge is out.
    stand.challenged(stand.node.authorize(&intent)).await;
    assert_eq!(stand.show(&passport).await.unwrap_err().code, "governance.passport_mismatch");
    // Another node of ours, with all that the first one held.
    let mut other = stand.node.sibling("node-2", 77);
    other.enrol(&stand.bed).await.unwrap();
    let mut reached = other.connect(&stand.bed).await;
    std::mem::swap(&mut stand.node, &mut other);
    std::mem::swap(&mut stand.stream, &mut reached);
    let named = stand.intent();
    let asked = stand.challenged(stand.node.authorize(&named)).await;
    let stolen = Passport {
        artifact: passport.artifact.clone(),
        result: passport.result.clone(),
        ..stand.passport(&asked, &said)
    };
    assert_eq!(stand.show(&stolen).await.unwrap_err().code, "governance.audience");
    // And signed anew in its name by a stolen key: the machine in the result is another one.
    let asked = stand.challenged(stand.node.authorize(&named)).await;
    let mut renamed = Said::of(&stand.granted, &named);
    renamed.terms.bindings.node = named.node.clone();
    renamed.ear.submods.values_mut().for_each(|appraisal| appraisal.attester.node = named.node.to_string());
    let forged = stand.passport(&asked, &renamed);
    assert_eq!(stand.show(&forged).await.unwrap_err().code, "governance.passport_mismatch");
    stand.bed.finish().await;
}

#[tokio::test]
async fn who_has_no_values_for_a_machine_relies_on_a_partner_that_has() {
    let mut stand = Stand::with(grant()).await;
    let mut foreign = Node::new();
    foreign.machine.boot.events.retain(|event| event.measured != b"kernel");
    stand.bed.rules.references =
        vec![firmware_refs::InForce::active(named_reference_set(&foreign.machine, "another", 1))];
    stand.bed.govern().await;
    let intent = stand.intent();
    let refused = stand.node.ask(&mut stand.stream, stand.node.authorize(&intent)).await.unwrap_err();
    assert!(refused.code.starts_with("reference."), "{refused:?}");
    stand.vouched(|_| ()).await.unwrap();
    stand.bed.finish().await;
}
