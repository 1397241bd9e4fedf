//! A domain replaces each of its own keys, one step after the other, under an execution that is renewed all the time.

use std::time::{Duration, Instant};

use evidence::cose::{Purpose, SigningKey, sign1, verify1};
use evidence::names::DomainName;
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use governance::rotation::authority_name;
use governance::trust_bundle::{OWN_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle};
use serde_bytes::ByteBuf;
use serde_json::Value;

use crate::bed::{A, B, Bed, C, DENIED, phases, refusals};
use crate::proxy::Network;

const ROLES: [&str; 5] = ["issuer", "log", "witness", "ca", "jwt"];
/// Life of A's bundles: a successor waits for two of them.
const LIFE_S: &str = "15";
/// A bundle of that life is replaced this often.
const RENEWED_AFTER: Duration = Duration::from_secs(3);
const STEP_WITHIN: Duration = Duration::from_secs(120);
/// Longer than all three steps take.
const RUNS_FOR_S: &str = "100";

/// A's side of a rotation.
struct Rotating<'b> {
    bed: &'b Bed,
    signer: String,
    renewed: Instant,
}

impl Rotating<'_> {
    async fn renew(&mut self) {
        let renew = ["domain", "bundle", "--renew", "--key", &self.signer, "--lifetime-s", LIFE_S];
        self.bed.explained(self.bed.mesh.ask(A, &renew, 0).await);
        self.renewed = Instant::now();
    }

    async fn prepare(&mut self, role: &str) {
        let prepare = ["keys", "rotate", "--role", role, "--prepare", "--key", &self.signer, "--lifetime-s", LIFE_S];
        self.bed.explained(self.bed.mesh.ask(A, &prepare, 0).await);
        self.renewed = Instant::now();
    }

    async fn activate(&self, role: &str, code: i32) -> Value {
        let activate = ["keys", "rotate", "--role", role, "--activate"];
        self.bed.explained(self.bed.mesh.ask(A, &activate, code).await)
    }

    async fn retire(&mut self, role: &str, code: i32) -> Value {
        let retire = ["keys", "rotate", "--role", role, "--retire", "--key", &self.signer, "--lifetime-s", LIFE_S];
        let told = self.bed.explained(self.bed.mesh.ask(A, &retire, code).await);
        self.renewed = Instant::now();
        told
    }

    /// A's keys, as `keys list` tells them.
    async fn keys(&self) -> Vec<Value> {
        let listed = self.bed.explained(self.bed.mesh.ask(A, &["keys", "list"], 0).await);
        listed["domain_keys"].as_array().unwrap().clone()
    }

    async fn kid(&self, role: &str, state: &str) -> String {
        let keys = self.keys().await;
        let key = keys.iter().find(|key| key["role"] == role && key["state"] == state);
        key.unwrap_or_else(|| panic!("no {role} key is {state}: {keys:?}"))["kid"].as_str().unwrap().to_owned()
    }

    /// Waits until the next step of every key in this state is due. Meanwhile A's bundle is renewed as ever, and both
    /// partners rely on A all the time.
    async fn until_due(&mut self, state: &str) {
        let begun = Instant::now();
        loop {
            if self.renewed.elapsed() > RENEWED_AFTER {
                self.renew().await;
            }
            for domain in [B, C] {
                let standing = self.bed.explained(self.bed.mesh.standing(domain, A).await);
                assert_eq!(standing.as_deref(), Some("fresh"), "for {domain}");
            }
            let (keys, now) = (self.keys().await, now().0);
            let mut waiting = keys.iter().filter(|key| key["state"] == state);
            if waiting.all(|key| key["next_step_at"].as_u64().is_some_and(|at| at <= now)) {
                return;
            }
            assert!(begun.elapsed() < STEP_WITHIN, "{keys:?}");
        }
    }

    /// A's bundle in force, by the pinned authority.
    async fn bundle(&self, file: &str) -> VerifiedBundle {
        let out = self.bed.mesh.path(file).display().to_string();
        self.bed.explained(self.bed.mesh.ask(A, &["domain", "bundle", "--out", &out], 0).await);
        let bytes = std::fs::read(&out).unwrap();
        let signatures: Vec<ByteBuf> =
            evidence::cbor::from_slice(&bytes, evidence::cbor::Caps::bytes(bytes.len())).unwrap();
        let authority = SigningKey::from_pkcs8(&std::fs::read(&self.signer).unwrap()).unwrap();
        let authority = Authority::new(vec![authority.public().clone()], 1).unwrap();
        let domain = DomainName::new(A).unwrap();
        TrustBundle::verify(&signatures, &domain, &authority, OWN_LIFETIME_CAP_S, now()).unwrap()
    }

    fn key(&self, name: &str) -> SigningKey {
        let path = self.bed.mesh.path(A).join("keys").join(name);
        SigningKey::from_pkcs8(&std::fs::read(path).unwrap()).unwrap()
    }
}

fn now() -> UnixSeconds {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixSeconds(since.as_secs())
}

/// Whether something that this key signs as A's issuer is by a key of the bundle.
fn counts(key: &SigningKey, bundle: &VerifiedBundle) -> bool {
    let domain = DomainName::new(A).unwrap();
    let signed = sign1(Purpose::GovernanceState, &domain, b"anything", key).unwrap();
    verify1(Purpose::GovernanceState, &domain, &signed, &bundle.keys(Role::Issuer, now())).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_a_domain_is_replaced_under_load_without_a_denial_or_a_halt() {
    let bed = Bed::founded(9_000).await;
    let mut execution = bed.exec(&["--", "sleep", RUNS_FOR_S]);
    bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    let mut rotating = Rotating { bed: &bed, signer: bed.mesh.signer(A), renewed: Instant::now() };
    let (old_issuer, before) = (rotating.key("issuer.key"), rotating.bundle("before.bundle").await);
    assert!(counts(&old_issuer, &before));
    let export = |name: &str| bed.mesh.path(name).display().to_string();
    // From bundles of a day to short ones, before anything is announced.
    rotating.renew().await;

    // Nobody announced a successor: it cannot sign.
    assert!(rotating.activate("issuer", DENIED).await.to_string().contains("order.unknown"));
    for role in ROLES {
        rotating.prepare(role).await;
        let early = rotating.activate(role, DENIED).await;
        assert!(early.to_string().contains("governance.key_too_early"), "{role}: {early}");
    }
    rotating.until_due("announced").await;
    let mut retired = Vec::new();
    for role in ROLES {
        let old = rotating.kid(role, "active").await;
        rotating.activate(role, 0).await;
        assert_ne!(rotating.kid(role, "active").await, old);
        retired.push((role, old));
        let early = rotating.retire(role, DENIED).await;
        assert!(early.to_string().contains("governance.key_in_use"), "{role}: {early}");
    }
    rotating.until_due("retiring").await;
    for role in ROLES {
        rotating.retire(role, 0).await;
    }
    // Nobody renews it while the execution goes on to its end: a bundle of a day again.
    bed.explained(bed.mesh.renew_bundle(A).await);

    // What was retired is gone from the bundle, and what it signs is refused by whoever follows it.
    let after = rotating.bundle("after.bundle").await;
    let (new_issuer, log) = (rotating.key("issuer.key"), after.bundle().records(Role::Log));
    assert!(!counts(&old_issuer, &after) && counts(&new_issuer, &after));
    let kept: Vec<_> = rotating.keys().await.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect();
    assert!(retired.iter().all(|(_, old)| !kept.contains(old)), "{retired:?}: {kept:?}");
    assert_eq!((kept.len(), log.len(), after.bundle().ca.len(), after.bundle().jwt.len()), (5, 1, 1, 1));
    assert_ne!(before.bundle().jwt, after.bundle().jwt);
    assert_ne!(authority_name(&before.bundle().ca[0]), authority_name(&after.bundle().ca[0]));
    for domain in [B, C] {
        bed.until_stands(domain, A, "fresh").await;
    }

    // What was running all the time was renewed by all three, and never refused.
    let (seen, exit_code) = bed.ended(execution).await;
    // A state that changes while an answer is being judged makes that answer a fault, and the node ask again.
    let refused: Vec<_> = refusals(&seen).into_iter().filter(|code| *code != "fault.epoch_moved").collect();
    assert_eq!((exit_code, refused), (0, Vec::<&str>::new()));
    for domain in [A, B, C] {
        assert!(phases(&seen, 6, Some(domain)) > 10, "{domain}: {}", phases(&seen, 6, Some(domain)));
    }

    // The node comes back by a certificate of the new CA, and starts something new with all three domains.
    bed.proxies[0].be(Network::Refusing);
    bed.explained(bed.mesh.until("the node's link to A being down", async || down(&bed).await).await);
    bed.proxies[0].be(Network::Whole);
    bed.explained(bed.mesh.until("the node's link to A being up", async || up(&bed).await).await);
    let (seen, exit_code) = bed.ended(bed.exec(&["--", "true"])).await;
    assert_eq!((phases(&seen, 5, None), exit_code), (1, 0), "{:?}", refusals(&seen));

    // Records by the retired keys are proven by the history of bundles that comes with them.
    let proofs = [A, B, C].map(|domain| export(&format!("{domain}.rotated.proof")));
    for (domain, proof) in [A, B, C].iter().zip(&proofs) {
        bed.explained(bed.mesh.ask(domain, &["proof", "export", crate::bed::NODE, "--out", proof], 0).await);
    }
    let (whole, pins) = (export("rotated.proof"), [A, B, C].map(|domain| export(&format!("{domain}/pin.toml"))));
    let merge = ["proof", "merge", &proofs[0], &proofs[1], &proofs[2], "--out", &whole];
    bed.explained(bed.mesh.ask_nobody(&merge, 0).await);
    let verify = ["proof", "verify", &whole, "--pin", &pins[0], "--pin", &pins[1], "--pin", &pins[2]];
    bed.explained(bed.mesh.ask_nobody(&verify, 0).await);
    let bytes = std::fs::read(&proofs[0]).unwrap();
    let bundles = &audit::bundle::ProofBundle::decode(&bytes).unwrap().domains[0].trust_bundles;
    assert!(bundles.len() >= 7, "{} bundles tell of three rotations", bundles.len());
}

async fn link(bed: &Bed) -> Option<bool> {
    let status = bed.status().await;
    let domains = status["domains"].as_array()?;
    domains.iter().find(|domain| domain["name"] == A)?["connected"].as_bool()
}

async fn down(bed: &Bed) -> Result<Option<()>, attestd::demo::DemoFault> {
    Ok((link(bed).await == Some(false)).then_some(()))
}

async fn up(bed: &Bed) -> Result<Option<()>, attestd::demo::DemoFault> {
    Ok((link(bed).await == Some(true)).then_some(()))
}
