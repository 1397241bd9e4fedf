use std::collections::BTreeMap;

use audit::record::{LineageRecord, RECORD_VERSION};
use audit::tlog::{TreeHash, leaf_hash};
use evidence::cose::SigningKey;
use evidence::digest::HashAlg;
use evidence::names::ItemName;
use evidence::threshold::Authority;
use governance::artifact::{
    ArtifactId, ArtifactTerms, Attribution, Confirmation, EnvironmentalConditions, GovernanceMetadata, LeaseTerms,
    PolicyValidation, ReceiptReference, RuntimeBindings,
};
use governance::intent::{Domains, INTENT_VERSION, Workload};
use governance::isolation::Isolation;
use governance::on_halt::OnHalt;
use governance::scope::Scope;
use governance::text::Text;
use governance::trust_bundle::{BUNDLE_VERSION, KeyRecord, OWN_LIFETIME_CAP_S, TrustBundle};
use serde_bytes::ByteArray;
use wire::bounded::verifier::HpkeSuite;

use super::*;

#[path = "jwt_svid_tests.rs"]
mod jwt_svid;
#[path = "domain_key_tests.rs"]
mod keys;
#[path = "domain_witness_tests.rs"]
mod witnesses;

const NOW: UnixSeconds = UnixSeconds(1_000_000);
const STATE: Sha256Digest = Sha256Digest([8; 32]);
const EVIDENCE: Sha256Digest = Sha256Digest([5; 32]);

/// A domain with its keys in hand, and an intent of its node's.
struct Bench {
    domain: Domain,
    authority: SigningKey,
    issuer: SigningKey,
    log_key: SigningKey,
    intent: Intent,
    node_key: NodeKey,
    authority_of_svids: Arc<super::super::svid::fixture::Authority>,
}

/// What the verifier says, before it is signed: each test bends one thing.
struct Said {
    terms: ArtifactTerms,
    record: LineageRecord,
    result: Vec<u8>,
    keys: Vec<WrappedKey>,
    svid: Vec<u8>,
    log_size: u64,
    index: u64,
}

impl Bench {
    fn new() -> Self {
        let [authority, issuer, log_key, node_key] =
            [1, 2, 3, 4].map(|seed| SigningKey::from_seed(&[seed; 32]).unwrap());
        let record =
            |key: &SigningKey| KeyRecord { key: key.public().clone(), from: UnixSeconds(0), until: NOW.plus(1_000) };
        let name = DomainName::new("a.example").unwrap();
        let authority_of_svids = Arc::new(super::super::svid::fixture::Authority::new());
        let pinned = Authority::new(vec![authority.public().clone()], 1).unwrap();
        let bundle = TrustBundle {
            version: BUNDLE_VERSION,
            domain: name.clone(),
            sequence: 1,
            issued_at: NOW.minus(10),
            expires_at: NOW.plus(1_000),
            refresh_hint_s: 60,
            issuer: vec![record(&issuer)],
            log_origin: "a.example/log".to_owned(),
            log: vec![record(&log_key)],
            witness: vec![record(&SigningKey::from_seed(&[40; 32]).unwrap())],
            jwt: vec![],
            ca: vec![authority_of_svids.certificate.clone()],
            authority: pinned.clone(),
        };
        let signed = bundle.sign(&authority).unwrap();
        let bundle = TrustBundle::verify(&[signed], &name, &pinned, OWN_LIFETIME_CAP_S, NOW).unwrap();
        let node = NodeId::new("node-1").unwrap();
        let keys = [ItemName::new("db").unwrap()].into();
        let intent = Intent {
            version: INTENT_VERSION,
            requester: Text::new("uid:0").unwrap(),
            workload: Workload {
                argv: vec!["sh".into()],
                environment: [].into(),
                executable: Sha256Digest([1; 32]),
                attach: None,
                image: None,
            },
            scope: Scope { keys, ..Scope::default() },
            isolation: Isolation::default(),
            on_halt: OnHalt::Kill,
            domains: Domains::All([name.clone()].into()),
            parents: std::collections::BTreeMap::new(),
            node: node.clone(),
            created_at: NOW,
            svid_key: super::super::svid::fixture::key(),
            nonce: [1; 16],
        };
        let node_key = NodeKey::from_cose_key(node_key.public().cose_key()).unwrap();
        let domain = Domain::new(name, node, pinned, bundle, true);
        Self { domain, authority, issuer, log_key, intent, node_key, authority_of_svids }
    }

    /// The held bundle with something changed, signed by whoever holds this key.
    fn bundle(&self, signer: &SigningKey, change: impl FnOnce(&mut TrustBundle)) -> Vec<Vec<u8>> {
        let mut next = self.domain.bundle().bundle().clone();
        change(&mut next);
        vec![next.sign(signer).unwrap()]
    }

    /// The code by which a bundle is refused, or how it is taken.
    fn follows(&self, signer: &SigningKey, now: UnixSeconds, change: impl FnOnce(&mut TrustBundle)) -> &'static str {
        match self.domain.newer(&self.bundle(signer, change), now) {
            Ok(Some(_)) => "taken",
            Ok(None) => "held",
            Err(denial) => denial.code(),
        }
    }

    fn said(&self, seq: u64) -> Said {
        let result = b"attestation result".to_vec();
        let terms = ArtifactTerms {
            issuer: self.domain.name.verifier_spiffe_id(),
            subject: self.domain.audience(),
            audience: self.domain.audience(),
            expires_at: NOW.plus(60),
            not_before: NOW.minus(5),
            issued_at: NOW,
            id: ArtifactId([3; 16]),
            confirmation: Confirmation { key: self.node_key.clone() },
            version: governance::artifact::ARTIFACT_VERSION,
            intent: self.intent.digest().unwrap(),
            scope: self.intent.scope.clone(),
            bindings: RuntimeBindings {
                node: self.domain.node.clone(),
                enrolment: Sha256Digest([4; 32]),
                evidence: EVIDENCE,
                executable: self.intent.workload.executable,
                measurements: BTreeMap::new(),
            },
            policy: PolicyValidation {
                policy_set: Sha256Digest([6; 32]),
                version: 1,
                determining: vec![],
                result: Sha256Digest::of(&result),
                reference_sets: vec![],
            },
            conditions: EnvironmentalConditions {
                tcb_floor: BTreeMap::new(),
                register_digest: HashAlg::Sha256.hash(&[b"pcrs"]),
                labels: BTreeMap::new(),
            },
            lease: LeaseTerms { seq, duration_ms: 30_000, renew_after_ms: 10_000 },
            governance: GovernanceMetadata { domain: self.domain.name.clone(), epoch: 7, state: STATE },
            attribution: Attribution { requester: Text::new("uid:0").unwrap(), approvers: vec![], ancestors: vec![] },
        };
        let spiffe_id = self.intent.spiffe_id(&self.domain.name).unwrap();
        let svid = self.authority_of_svids.svid(&[&spiffe_id], &self.intent.svid_key, NOW.plus(30));
        let record = self.record(&terms, &svid, seq == 1);
        let (name, suite) = (ItemName::new("db").unwrap(), HpkeSuite::P256);
        let key = WrappedKey { name, suite, encapsulated: vec![1], sealed: vec![1], share: None };
        let keys = if seq == 1 { vec![key] } else { vec![] };
        Said { terms, record, result, keys, svid, log_size: 2, index: 0 }
    }

    fn record(&self, terms: &ArtifactTerms, svid: &[u8], first: bool) -> LineageRecord {
        let (artifact, lease_seq) = (ByteArray::new(terms.id.0), terms.lease.seq);
        let (terms_digest, result) = (terms.digest().unwrap(), terms.policy.result);
        let svid = Sha256Digest::of(svid);
        let body = if first {
            RecordBody::Authorization {
                artifact,
                terms: terms_digest,
                result,
                evidence: EVIDENCE,
                state: STATE,
                lease_seq,
                svid,
            }
        } else {
            RecordBody::Renewal {
                artifact,
                terms: terms_digest,
                result,
                evidence: EVIDENCE,
                state: STATE,
                lease_seq,
                svid,
            }
        };
        LineageRecord {
            version: RECORD_VERSION,
            domain: self.domain.name.clone(),
            node: Some(self.domain.node.clone()),
            subject: terms.intent,
            parents: vec![],
            elsewhere: std::collections::BTreeMap::new(),
            at: NOW,
            body,
        }
    }

    /// Signs what was said and logs it in a tree of `log_size` entries, the other ones made up.
    fn sign(&self, said: &Said) -> Authorization {
        let entry = said.record.sign(&self.issuer).unwrap();
        let (root, proof) = two_leaves(&entry, said.log_size);
        let receipt = Receipt::new(entry.clone(), said.index, proof, self.checkpoint(said.log_size, root));
        let reference = ReceiptReference { index: 0, entry: Sha256Digest::of(&entry) };
        Authorization {
            artifact: Artifact::issue(said.terms.clone(), reference, &self.issuer).unwrap(),
            result: said.result.clone(),
            keys: said.keys.clone(),
            receipt: receipt.encode().unwrap(),
            lineage_head: Sha256Digest::of(&entry),
            svid: said.svid.clone(),
            partners: vec![],
        }
    }

    fn checkpoint(&self, size: u64, root: TreeHash) -> String {
        Checkpoint { origin: "a.example/log".to_owned(), size, root }.sign(&self.log_key).unwrap()
    }

    fn accept(&self, answer: Authorization, seen: &mut Seen, held: Option<&VerifiedArtifact>) -> Result<u64, String> {
        let asked = Asked {
            intent: &self.intent,
            intent_digest: self.intent.digest().unwrap(),
            node_key: &self.node_key,
            evidence: EVIDENCE,
            held,
        };
        let judged = self.domain.accept(&answer, asked, seen, NOW);
        judged.map(|accepted| accepted.log_index).map_err(|denial| denial.code().to_owned())
    }

    fn verdict(&self, bend: impl FnOnce(&mut Said)) -> Result<u64, String> {
        let mut said = self.said(1);
        bend(&mut said);
        self.accept(self.sign(&said), &mut seen(), None)
    }
}

/// Root over the entry and one other leaf, and the entry's inclusion proof (RFC 9162 §2.1.3).
fn two_leaves(entry: &[u8], other: u64) -> (TreeHash, Vec<TreeHash>) {
    let (ours, other) = (leaf_hash(entry), leaf_hash(&other.to_be_bytes()));
    (audit::tlog::node_hash(&ours, &other), vec![other])
}

fn seen() -> Seen {
    Seen { epoch: 7, state: Some(STATE), checkpoint: None, witnesses: None }
}

#[test]
fn a_genuine_authorization_is_accepted_and_moves_the_log_on() {
    let bench = Bench::new();
    let mut seen = Seen::default();
    assert_eq!(bench.accept(bench.sign(&bench.said(1)), &mut seen, None), Ok(0));
    assert_eq!((seen.epoch, seen.state), (7, Some(STATE)));
    assert!(seen.checkpoint.is_some());
}

#[test]
fn one_defect_each_is_denied() {
    let bench = Bench::new();
    let rerecorded = |said: &mut Said| said.record = bench.record(&said.terms, &said.svid, true);
    type Bend<'a> = (Box<dyn FnOnce(&mut Said) + 'a>, &'a str);
    let bends: Vec<Bend<'_>> = vec![
        (Box::new(|s| s.terms.bindings.executable = Sha256Digest([9; 32])), "governance.workload"),
        (Box::new(|s| s.terms.bindings.evidence = Sha256Digest([9; 32])), "audit.attachment_mismatch"),
        (Box::new(|s| s.result.push(0)), "audit.attachment_mismatch"),
        (Box::new(|s| s.terms.governance.state = Sha256Digest([9; 32])), "governance.state_mismatch"),
        (Box::new(|s| s.terms.governance.epoch = 6), "governance.epoch_stale"),
        (Box::new(|s| s.terms.expires_at = NOW), "governance.expired"),
        (Box::new(|s| s.terms.audience = "spiffe://a.example/node/node-2".into()), "governance.audience"),
        (Box::new(|s| s.keys.clear()), "audit.attachment_mismatch"),
        (Box::new(|s| s.keys.push(s.keys[0].clone())), "audit.attachment_mismatch"),
        (Box::new(|s| s.svid.push(0)), "audit.attachment_mismatch"),
        (Box::new(|s| s.svid.clear()), "audit.attachment_mismatch"),
        (Box::new(|s| s.index = 1), "audit.inclusion_proof_wrong"),
        (Box::new(|s| s.record.at = NOW.plus(1)), "ok"),
        (Box::new(|s| s.record.subject = Sha256Digest([9; 32])), "audit.attachment_mismatch"),
        (Box::new(|s| s.record.node = Some(NodeId::new("node-2").unwrap())), "audit.attachment_mismatch"),
        (Box::new(|s| s.record.body = RecordBody::Intent { intent: s.terms.intent }), "audit.attachment_mismatch"),
        (Box::new(|s| s.record = bench.record(&s.terms, &s.svid, false)), "audit.attachment_mismatch"),
        (Box::new(|s| s.terms.lease.duration_ms = 20_000), "audit.attachment_mismatch"),
        (
            Box::new(|s| {
                s.terms.lease.duration_ms = 20_000;
                rerecorded(s)
            }),
            "ok",
        ),
    ];
    for (n, (bend, code)) in bends.into_iter().enumerate() {
        let verdict = bench.verdict(bend);
        assert_eq!(verdict.err().as_deref().unwrap_or("ok"), code, "bend {n}");
    }
}

#[test]
fn a_stranger_signs_nothing() {
    let genuine = Bench::new();
    let stranger = SigningKey::from_seed(&[9; 32]).unwrap();
    let other_issuer = Bench { issuer: SigningKey::from_seed(&[9; 32]).unwrap(), ..Bench::new() };
    let signed = other_issuer.sign(&other_issuer.said(1));
    assert_eq!(genuine.accept(signed, &mut seen(), None).unwrap_err(), "governance.signature_invalid");
    let other_log = Bench { log_key: stranger, ..Bench::new() };
    let signed = other_log.sign(&other_log.said(1));
    assert_eq!(genuine.accept(signed, &mut seen(), None).unwrap_err(), "audit.not_signed_by_log");
}

#[test]
fn a_renewal_continues_the_held_artifact_with_a_higher_seq() {
    let bench = Bench::new();
    let first = bench.sign(&bench.said(1));
    let held = {
        let asked = Asked {
            intent: &bench.intent,
            intent_digest: bench.intent.digest().unwrap(),
            node_key: &bench.node_key,
            evidence: EVIDENCE,
            held: None,
        };
        bench.domain.accept(&first, asked, &mut seen(), NOW).unwrap().artifact
    };
    let renewed = |bend: &dyn Fn(&mut Said)| {
        let mut said = bench.said(2);
        bend(&mut said);
        said.record = bench.record(&said.terms, &said.svid, said.terms.lease.seq == 1);
        bench.accept(bench.sign(&said), &mut seen(), Some(&held)).err().unwrap_or_default()
    };
    assert_eq!(renewed(&|_| {}), "");
    assert_eq!(renewed(&|said| said.terms.lease.seq = 1), "governance.lease_seq_stale");
    assert_eq!(renewed(&|said| said.terms.id = ArtifactId([4; 16])), "governance.artifact_id");
}

#[test]
fn a_log_with_two_trees_of_one_size_is_forked_and_an_older_one_is_not() {
    let bench = Bench::new();
    let mut seen = seen();
    bench.accept(bench.sign(&bench.said(1)), &mut seen, None).unwrap();
    let newest = seen.checkpoint.clone();
    let older = Bench::new().checkpoint(1, leaf_hash(b"first"));
    bench.domain.checkpointed(older.as_bytes(), &mut seen, NOW).unwrap();
    assert_eq!(seen.checkpoint, newest);
    let forked = bench.checkpoint(2, leaf_hash(b"another history"));
    let denial = bench.domain.checkpointed(forked.as_bytes(), &mut seen, NOW).unwrap_err();
    assert!(matches!(denial, AcceptDenial::LogForked { size: 2 }));
    let newer = bench.checkpoint(3, leaf_hash(b"more"));
    bench.domain.checkpointed(newer.as_bytes(), &mut seen, NOW).unwrap();
    assert_ne!(seen.checkpoint, newest);
}

#[test]
fn a_welcome_never_goes_back() {
    let bench = Bench::new();
    let welcome = |epoch: u64, policy: u8| {
        let digest = Sha256Digest([policy; 32]);
        let state = GovernanceState {
            version: governance::governance_state::STATE_VERSION,
            domain: bench.domain.name.clone(),
            epoch,
            issued_at: NOW.minus(1),
            expires_at: NOW.plus(60),
            policy_set: digest,
            reference_values: digest,
            revocations: digest,
            bundle: bench.domain.bundle().digest(),
            tcb_floor: digest,
            previous: Some(digest),
        };
        let governance_state = state.sign(&bench.issuer).unwrap();
        let checkpoint = bench.checkpoint(1, leaf_hash(b"first")).into_bytes();
        Welcome {
            governance_state,
            checkpoint,
            lineage_head: Sha256Digest::ZERO,
            trust_bundle: vec![vec![1]],
            client_certificate: vec![1],
            witness_policy: vec![],
            other_checkpoints: vec![],
        }
    };
    let mut seen = Seen::default();
    let mut judge =
        |welcome| bench.domain.welcomed(&welcome, &mut seen, NOW).map(|_| ()).map_err(|denial| denial.code());
    assert_eq!(judge(welcome(7, 1)), Ok(()));
    assert_eq!(judge(welcome(7, 1)), Ok(()));
    assert_eq!(judge(welcome(7, 2)), Err("governance.state_forked"));
    assert_eq!(judge(welcome(6, 1)), Err("governance.state_rolled_back"));
    assert_eq!(judge(welcome(9, 3)), Ok(()));
    let signed = bench.bundle(&bench.authority, |next| next.sequence = 2);
    let older = welcome(10, 3);
    bench.domain.hold(bench.domain.newer(&signed, NOW).unwrap().unwrap());
    assert_eq!(judge(older), Err("governance.trust_inconsistent"));
}
