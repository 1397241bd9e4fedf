//! `verifier artifact check` as a relying party runs it: what passes, and one defect each for what does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use evidence::cbor;
use evidence::cose::SigningKey;
use evidence::digest::{HashAlg, Sha256Digest};
use evidence::names::{DomainName, ItemName, NodeId};
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use governance::artifact::*;
use governance::governance_state::{GovernanceState, STATE_VERSION};
use governance::node_key::NodeKey;
use governance::revocation::{REVOCATION_VERSION, Revocation, RevocationList, Revoked};
use governance::scope::Scope;
use governance::text::Text;
use governance::trust_bundle::{BUNDLE_VERSION, KeyRecord, TrustBundle};
use serde::Serialize;
use serde_bytes::ByteBuf;
use serde_json::Value;

/// 2027-01-15T08:00:00Z.
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const AT: &str = "2027-01-15T08:00:00Z";
const AUDIENCE: &str = "spiffe://a.example/node/n1";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

fn digest(of: &str) -> Sha256Digest {
    Sha256Digest::of(of.as_bytes())
}

fn text(of: &str) -> Text {
    Text::new(of).unwrap()
}

fn terms(seq: u64) -> ArtifactTerms {
    let node = NodeId::new("n1").unwrap();
    ArtifactTerms {
        issuer: domain().verifier_spiffe_id(),
        subject: AUDIENCE.to_owned(),
        audience: AUDIENCE.to_owned(),
        expires_at: NOW.plus(30),
        not_before: NOW.minus(5),
        issued_at: NOW,
        id: ArtifactId([7; 16]),
        confirmation: Confirmation { key: NodeKey::from_cose_key(key(5).public().cose_key()).unwrap() },
        version: ARTIFACT_VERSION,
        intent: digest("intent"),
        scope: Scope { keys: [ItemName::new("db").unwrap()].into(), ..Scope::default() },
        bindings: RuntimeBindings {
            node,
            enrolment: digest("enrolment"),
            evidence: digest("evidence"),
            executable: digest("worker"),
            measurements: BTreeMap::new(),
        },
        policy: PolicyValidation {
            policy_set: digest("policies"),
            version: 1,
            determining: Vec::new(),
            result: digest("result"),
            reference_sets: Vec::new(),
        },
        conditions: EnvironmentalConditions {
            tcb_floor: BTreeMap::new(),
            register_digest: HashAlg::Sha256.hash(&[b"pcrs"]),
            labels: BTreeMap::new(),
        },
        lease: LeaseTerms { seq, duration_ms: 30_000, renew_after_ms: 10_000 },
        governance: GovernanceMetadata { domain: domain(), epoch: 4, state: digest("state") },
        attribution: Attribution { requester: text("ops"), approvers: vec![], ancestors: vec![] },
    }
}

/// As the public surface serves it.
#[derive(Serialize)]
struct Logged {
    state: ByteBuf,
    receipt: ByteBuf,
    growth: Vec<ByteBuf>,
}

/// What a relying party was given once.
struct Party {
    folder: tempfile::TempDir,
}

impl Party {
    fn new() -> Self {
        let party = Self { folder: tempfile::tempdir().unwrap() };
        let authority = Authority::new(vec![key(1).public().clone()], 1).unwrap();
        let lasting =
            |seed: u8| KeyRecord { key: key(seed).public().clone(), from: NOW.minus(60), until: NOW.plus(3600) };
        let bundle = TrustBundle {
            version: BUNDLE_VERSION,
            domain: domain(),
            sequence: 1,
            issued_at: NOW.minus(60),
            expires_at: NOW.plus(3600),
            refresh_hint_s: 300,
            issuer: vec![lasting(2)],
            log_origin: "a.example/log".into(),
            log: vec![lasting(3)],
            witness: vec![],
            jwt: vec![],
            ca: vec![],
            authority: authority.clone(),
        };
        party.write("bundle.cbor", &cbor::to_vec(&vec![ByteBuf::from(bundle.sign(&key(1)).unwrap())]).unwrap());
        let pin = toml::to_string(&verifier::pin::PinFile::of(&domain(), &authority)).unwrap();
        party.write("pin.toml", pin.as_bytes());
        party
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// State and revocations of an epoch.
    fn governed(&self, epoch: u64, revoked: &[Revoked]) {
        let reason = text("withdrawn");
        let list = RevocationList::new(revoked.iter().map(|revoked| (revoked.clone(), reason.clone())));
        let state = GovernanceState {
            version: STATE_VERSION,
            domain: domain(),
            epoch,
            issued_at: NOW.minus(10),
            expires_at: NOW.plus(600),
            policy_set: digest("policies"),
            reference_values: digest("references"),
            revocations: list.digest().unwrap(),
            bundle: digest("bundle"),
            tcb_floor: digest("floor"),
            previous: Some(digest("previous")),
        };
        let state = ByteBuf::from(state.sign(&key(2)).unwrap());
        let logged = Logged { state, receipt: ByteBuf::new(), growth: Vec::new() };
        self.write("state.cbor", &cbor::to_vec(&logged).unwrap());
        let signed = (1..).zip(revoked).map(|(sequence, revoked)| {
            let (revoked, reason) = (revoked.clone(), reason.clone());
            let version = REVOCATION_VERSION;
            let revocation = Revocation { version, domain: domain(), sequence, revoked, reason, issued_at: NOW };
            ByteBuf::from(revocation.sign(&key(2)).unwrap())
        });
        self.write("revocations.cbor", &cbor::to_vec(&signed.collect::<Vec<_>>()).unwrap());
    }

    fn check(&self, artifact: &Path, more: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_verifier"));
        command.args(["artifact", "check"]).arg(artifact);
        command.args(["--format", "json", "--audience", AUDIENCE]);
        command.arg("--bundle").arg(self.path("bundle.cbor")).arg("--pin").arg(self.path("pin.toml")).args(more);
        if !more.contains(&"--revocations-unknown") {
            command.arg("--state").arg(self.path("state.cbor"));
            command.arg("--revocations").arg(self.path("revocations.cbor"));
        }
        if !more.contains(&"--at") {
            command.args(["--at", AT]);
        }
        let output = command.output().unwrap();
        let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), document)
    }

    fn artifact(&self, name: &str, terms: ArtifactTerms) -> PathBuf {
        let receipt = ReceiptReference { index: 12, entry: digest("entry") };
        self.write(name, &Artifact::issue(terms, receipt, &key(2)).unwrap())
    }
}

fn refused(outcome: (i32, Value)) -> String {
    let (code, document) = outcome;
    assert_eq!((code, document["decision"].as_str()), (3, Some("denied")), "{document}");
    document["failures"][0]["code"].as_str().unwrap().to_owned()
}

#[test]
fn what_holds_passes_and_says_what_was_known() {
    let party = Party::new();
    party.governed(4, &[]);
    let artifact = party.artifact("one.cose", terms(3));
    let (code, document) = party.check(&artifact, &["--seen", "3"]);
    assert_eq!((code, document["decision"].as_str(), document["seq"].as_u64()), (0, Some("affirmed"), Some(3)));
    assert_eq!(document["revocations"], "known");
    let (code, document) = party.check(&artifact, &["--revocations-unknown"]);
    assert_eq!((code, document["revocations"].as_str()), (0, Some("unknown")), "{document}");
}

#[test]
fn a_cloned_or_paused_holders_effects_are_refused() {
    let party = Party::new();
    party.governed(4, &[]);
    // The clone went on with the lease from before the last renewal; the service has seen the renewed one.
    let (old, renewed) = (party.artifact("old.cose", terms(3)), party.artifact("renewed.cose", terms(4)));
    assert_eq!(party.check(&renewed, &["--seen", "3"]).0, 0);
    assert_eq!(refused(party.check(&old, &["--seen", "4"])), "governance.lease_seq_stale");
    // The paused one comes back after its window.
    assert_eq!(refused(party.check(&old, &["--at", "2027-01-15T08:00:30Z"])), "governance.expired");
    assert_eq!(refused(party.check(&old, &["--at", "2027-01-15T07:59:54Z"])), "governance.not_yet_valid");
}

#[test]
fn each_defect_has_its_code() {
    let party = Party::new();
    party.governed(4, &[]);
    let good = party.artifact("good.cose", terms(3));
    let mut other = terms(3);
    other.audience = "spiffe://a.example/node/n2".to_owned();
    assert_eq!(refused(party.check(&party.artifact("other.cose", other), &[])), "governance.audience");
    let mut forged = std::fs::read(&good).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(refused(party.check(&party.write("forged.cose", &forged), &[])), "governance.signature_invalid");
    party.governed(5, &[]);
    assert_eq!(refused(party.check(&good, &[])), "governance.epoch_stale");
    party.governed(4, &[Revoked::Artifact(ArtifactId([7; 16]))]);
    assert_eq!(refused(party.check(&good, &[])), "governance.revoked");
    // A list that is not the one that the state names, in either direction.
    let full = std::fs::read(party.path("revocations.cbor")).unwrap();
    party.governed(4, &[]);
    party.write("revocations.cbor", &full);
    assert_eq!(refused(party.check(&good, &[])), "governance.trust_inconsistent");
    party.governed(4, &[]);
    let outdated = refused(party.check(&good, &["--at", "2027-01-15T09:30:00Z"]));
    assert_eq!(outdated, "governance.bundle_expired");
}

#[test]
fn nothing_is_left_unchecked_by_leaving_it_out() {
    let party = Party::new();
    let artifact = party.artifact("one.cose", terms(3));
    let output = Command::new(env!("CARGO_BIN_EXE_verifier"))
        .args(["artifact", "check"])
        .arg(&artifact)
        .args(["--audience", AUDIENCE, "--at", AT])
        .arg("--bundle")
        .arg(party.path("bundle.cbor"))
        .arg("--pin")
        .arg(party.path("pin.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
