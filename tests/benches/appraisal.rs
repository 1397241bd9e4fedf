//! What a whole TPM appraisal costs (parse, signature, PCR digest, replay of a 60-event log, comparison, policy),
//! as a ratio to what it cannot do without: aws-lc-rs verifying the same signature and hashing the same bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

mod measure;

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey},
};
use criterion::Criterion;
use evidence::{
    Claims, Endorsements, Evidence, TrustAnchors, challenge::Challenge, cose::SigningKey, digest::Sha256Digest,
    event_log::EventLog, names::DomainName, threshold::Authority, time::UnixSeconds, tpm::TpmEndorsement, verify,
};
use firmware_refs::{
    InForce, ReferenceValues,
    capture::{CaptureHeader, capture},
    observed::{Observed, ObservedTpm},
    signed::{SignedSet, sign},
};
use policy::{
    Trust, decide,
    set::{PolicyDocument, PolicySet},
    trust::GovernanceBasis,
};
use tests::{
    boot::{BootEvent, kind},
    genuine::Machine,
};

const EVENTS: usize = 60;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let case = Case::new();
    let bytes = case.evidence.bytes().to_vec();

    let whole = measure::best_us_given(
        &mut criterion,
        "appraisal/whole",
        || bytes.clone(),
        |received| {
            let evidence = Evidence::decode(received).expect("reads");
            decide(&evidence, &case.endorsements, &case.challenge, &case.trust, case.now).expect("affirmed")
        },
    );
    let signature = case.bare_signature();
    let bare_verify = measure::best_us(&mut criterion, "appraisal/bare-signature", || {
        signature.key.verify_sig(&signature.message, &signature.der).expect("verifies")
    });
    let hashed = case.hashed_bytes();
    let bare_hash = measure::best_us(&mut criterion, "appraisal/bare-hashing", || {
        hashed.iter().fold(0u8, |sum, part| sum ^ digest(&SHA256, black_box(part)).as_ref()[0])
    });

    let verified = measure::best_us(&mut criterion, "appraisal/step-authentic", || {
        verify(&case.evidence, &case.endorsements, &case.anchors, case.now).expect("authentic").ledger()
    });
    let bound = measure::best_us(&mut criterion, "appraisal/step-bound", || {
        let authentic = verify(&case.evidence, &case.endorsements, &case.anchors, case.now).expect("authentic");
        authentic.bind(&case.challenge, case.now).expect("bound").ledger()
    });
    println!("appraisal: whole {whole:.1} µs; bare: signature {bare_verify:.1} µs, hashing {bare_hash:.1} µs");
    println!("appraisal: of it authentic {verified:.1} µs, binding {:.1} µs", bound - verified);
    measure::report("TPM appraisal to bare signature and hashing", whole / (bare_verify + bare_hash), "", 1.5);
}

struct Case {
    evidence: Evidence,
    endorsements: Endorsements,
    challenge: Challenge,
    anchors: TrustAnchors,
    trust: Trust,
    now: UnixSeconds,
    quote: Vec<u8>,
    tpmt_signature: Vec<u8>,
    ak_point: Vec<u8>,
}

struct BareSignature {
    key: ParsedPublicKey,
    message: Vec<u8>,
    der: Vec<u8>,
}

impl Case {
    /// A machine with a log of 60 events, its identity and node key proven before: a renewal.
    fn new() -> Self {
        let mut machine = Machine::default();
        while machine.boot.events.len() + 1 < EVENTS {
            let n = machine.boot.events.len();
            let image = format!("image {n}").into_bytes();
            machine.boot.events.push(BootEvent::of_image(4, kind::BOOT_SERVICES_APPLICATION, &[n as u8; 200], &image));
        }
        let mut challenge = machine.challenge();
        let demands = challenge.demands.tpm_mut().expect("a TPM's challenge");
        (demands.ima_log, demands.pcrs) = (false, (0..10).collect());
        let answer = machine.answer(&challenge);
        let evidence = answer.evidence();
        let Endorsements::Tpm(cold) = machine.endorsements() else { panic!("not of a TPM") };
        let anchors = machine.anchors();
        let (endorsements, trust) = {
            let endorsements = Endorsements::Tpm(cold.clone());
            let authentic = verify(&evidence, &endorsements, &anchors, machine.now).expect("authentic");
            let bound = authentic.bind(&challenge, machine.now).expect("bound");
            let Claims::Tpm(claims) = bound.claims() else { panic!("not of a TPM") };
            let warm = TpmEndorsement { node_key: Some(Arc::clone(claims.node_key())), ..cold };
            (Endorsements::Tpm(warm), trust(&ObservedTpm::of(claims), anchors.clone(), &machine))
        };
        Self {
            evidence,
            endorsements,
            trust,
            anchors,
            now: machine.now,
            quote: answer.quote,
            tpmt_signature: answer.signature,
            ak_point: machine.ak.spki().split_off(26), // after the fixed head of a P-256 SubjectPublicKeyInfo
            challenge,
        }
    }

    fn bare_signature(&self) -> BareSignature {
        let (r, s) = ecdsa_values(&self.tpmt_signature);
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.ak_point).expect("a point");
        BareSignature { key, message: self.quote.clone(), der: der(r, s) }
    }

    /// Every message that an appraisal has to hash, the signed one apart: the evidence (its name in the log), one
    /// extension for each event, the data that events bind, the quoted values.
    fn hashed_bytes(&self) -> Vec<Vec<u8>> {
        let Evidence::Tpm(tpm) = &self.evidence else { panic!("not of a TPM") };
        let log = EventLog::parse(tpm.parts().event_log.expect("a log")).expect("reads");
        let mut all = vec![self.evidence.bytes().to_vec(), vec![0; 32 * 10], vec![0; 32 * 9]];
        for event in log.events().iter().filter(|event| event.is_extended()) {
            all.push(vec![0; 64]);
            if event.is_digest_of_data() {
                all.push(event.data().to_vec());
            }
        }
        all
    }
}

fn trust(observed: &ObservedTpm<'_>, anchors: TrustAnchors, machine: &Machine) -> Trust {
    let domain = DomainName::new("a.example").expect("a name");
    let header = CaptureHeader {
        id: "rack".parse().expect("a name"),
        version: 1,
        domain: domain.clone(),
        environment: "production".parse().expect("a name"),
        node: "node-1".into(),
        now: machine.now,
        lifetime_s: 86_400,
    };
    let key = SigningKey::from_seed(&[1; 32]).expect("a key");
    let authority = Authority::new(vec![key.public().clone()], 1).expect("an authority");
    let captured = capture(&Observed::Tpm(observed.clone()), header).expect("captured");
    let signed = SignedSet::open(&[sign(captured.set(), &key).expect("signed")], &domain, &authority).expect("opens");
    let values = ReferenceValues::new(vec![InForce::active(signed)]).expect("in force");
    let document = PolicyDocument {
        id: "production".parse().expect("a name"),
        version: 1,
        domain,
        issued_at: UnixSeconds(1).into(),
        not_after: UnixSeconds(4_000_000_000).into(),
        reason: "bench".to_owned().try_into().expect("a text"),
        cedar: include_str!("../../policy/default.cedar").to_owned(),
    };
    let policy = PolicySet::from_document(document).expect("loads");
    Trust::new(anchors, values, policy, GovernanceBasis { state: Sha256Digest::ZERO, epoch: machine.epoch })
}

/// r and s of a TPMT_SIGNATURE (scheme, hash, two TPM2B).
fn ecdsa_values(signature: &[u8]) -> (&[u8], &[u8]) {
    let sized = |at: usize| {
        let length = usize::from(u16::from_be_bytes([signature[at], signature[at + 1]]));
        (&signature[at + 2..at + 2 + length], at + 2 + length)
    };
    let (r, next) = sized(4);
    (r, sized(next).0)
}

/// Ecdsa-Sig-Value (RFC 3279 §2.2.3).
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |value: &[u8]| {
        let value = &value[value.iter().position(|b| *b != 0).unwrap_or(0)..];
        let padding: &[u8] = if value[0] & 0x80 != 0 { &[0] } else { &[] };
        [&[2, (value.len() + padding.len()) as u8], padding, value].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, body.len() as u8][..], &body].concat()
}
