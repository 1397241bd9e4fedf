//! What a verifier gives as a JWT-SVID, one defect each.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::cose::PublicKey;
use governance::jwt_svid::{Claims, JWT_SVID_LIFETIME_CAP_S};

use super::*;
use crate::node::execution::SignedIntent;
use crate::node::jwt_svid::JwtWanted;

const ARTIFACT: ArtifactId = ArtifactId([3; 16]);

/// What is given, before it is signed.
struct Said {
    sub: String,
    aud: Vec<String>,
    exp: UnixSeconds,
    recorded_exp: UnixSeconds,
    artifact: [u8; 16],
    node: NodeId,
    subject: Sha256Digest,
    digest: Option<Sha256Digest>,
    body: Option<RecordBody>,
}

struct JwtBench {
    bench: Bench,
    key: EcdsaKeyPair,
}

fn public(key: &EcdsaKeyPair) -> PublicKey {
    PublicKey::p256(key.public_key().as_ref()).unwrap()
}

impl JwtBench {
    fn new() -> Self {
        let (bench, key) = (Bench::new(), EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        let record = KeyRecord { key: public(&key), from: NOW, until: NOW.plus(1_000) };
        let signed = bench.bundle(&bench.authority, |next| {
            next.sequence = 2;
            next.jwt = vec![record];
        });
        let bundle = bench.domain.newer(&signed, NOW).unwrap().unwrap();
        bench.domain.hold(bundle);
        Self { bench, key }
    }

    fn said(&self) -> Said {
        Said {
            sub: self.bench.intent.spiffe_id(&self.bench.domain.name).unwrap(),
            aud: vec!["one".into(), "two".into()],
            exp: NOW.plus(30),
            recorded_exp: NOW.plus(30),
            artifact: ARTIFACT.0,
            node: self.bench.domain.node.clone(),
            subject: self.bench.intent.digest().unwrap(),
            digest: None,
            body: None,
        }
    }

    /// By whom it is signed, and when it is judged.
    fn judged(&self, said: Said, key: &EcdsaKeyPair, now: UnixSeconds) -> Result<(), &'static str> {
        let claims = Claims { sub: &said.sub, aud: &said.aud, exp: said.exp, iat: NOW };
        let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, public(&self.key).kid());
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let claims = encoded(serde_json::to_string(&claims).unwrap().as_bytes());
        let signed = format!("{}.{claims}", encoded(header.as_bytes()));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let svid = format!("{signed}.{}", encoded(signature.as_ref()));
        let digest = said.digest.unwrap_or_else(|| Sha256Digest::of(svid.as_bytes()));
        let body = RecordBody::JwtSvid {
            artifact: ByteArray::new(said.artifact),
            svid: digest,
            expires_at: said.recorded_exp,
        };
        let record = LineageRecord {
            version: RECORD_VERSION,
            domain: self.bench.domain.name.clone(),
            node: Some(said.node),
            subject: said.subject,
            parents: vec![],
            elsewhere: BTreeMap::new(),
            at: NOW,
            body: said.body.unwrap_or(body),
        };
        let entry = record.sign(&self.bench.issuer).unwrap();
        let (root, proof) = two_leaves(&entry, 2);
        let receipt = Receipt::new(entry.clone(), 0, proof, self.bench.checkpoint(2, root)).encode().unwrap();
        let answer = wire::bounded::verifier::JwtSvid { svid, receipt, lineage_head: Sha256Digest::of(&entry) };
        let (intent, signed) = (self.bench.intent.clone(), BTreeMap::new());
        let intent = SignedIntent { digest: intent.digest().unwrap(), intent, signed };
        let wanted = ["one".to_owned(), "two".to_owned()];
        let wanted = JwtWanted { intent: &intent, artifact: ARTIFACT, audiences: &wanted };
        let judged = self.bench.domain.accept_jwt(&answer, wanted, &mut seen(), now);
        judged.map(drop).map_err(|denial| denial.code())
    }
}

#[test]
fn only_the_one_that_was_asked_for_and_logged_is_taken() {
    let bench = JwtBench::new();
    let bent = |bend: &dyn Fn(&mut Said)| {
        let mut said = bench.said();
        bend(&mut said);
        bench.judged(said, &bench.key, NOW)
    };
    assert_eq!(bent(&|_| {}), Ok(()));
    let bends: [&dyn Fn(&mut Said); 10] = [
        &|said| said.sub = "spiffe://a.example/node/node-1/workload/other".into(),
        &|said| said.aud = vec!["one".into()],
        &|said| said.aud = vec!["one".into(), "two".into(), "three".into()],
        &|said| said.recorded_exp = NOW.plus(31),
        &|said| (said.exp, said.recorded_exp) = (NOW.plus(JWT_SVID_LIFETIME_CAP_S + 6), NOW.plus(306)),
        &|said| said.artifact = [4; 16],
        &|said| said.node = NodeId::new("node-2").unwrap(),
        &|said| said.subject = Sha256Digest([9; 32]),
        &|said| said.digest = Some(Sha256Digest([9; 32])),
        &|said| said.body = Some(RecordBody::Release { artifact: ByteArray::new(ARTIFACT.0), keys: vec![] }),
    ];
    for (at, bend) in bends.into_iter().enumerate() {
        assert_eq!(bent(bend), Err("audit.attachment_mismatch"), "bend {at}");
    }
    assert_eq!(bent(&|said| said.aud = vec!["two".into()]), Err("governance.audience"));
    assert_eq!(bent(&|said| said.sub = "spiffe://b.example/x".into()), Err("audit.attachment_mismatch"));
    let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    assert_eq!(bench.judged(bench.said(), &stranger, NOW), Err("governance.signature_invalid"));
    assert_eq!(bench.judged(bench.said(), &bench.key, NOW.plus(30)), Err("governance.expired"));
    // A key that does not count yet.
    assert_eq!(bench.judged(bench.said(), &bench.key, NOW.minus(1)), Err("governance.signature_invalid"));
}
