//! What appraising a quote costs beyond its bare signature and the hashing that it needs.

mod measure;

use std::sync::Arc;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use criterion::Criterion;
use evidence::{Endorsements, digest::HashAlg, verify};
use tests::{
    genuine::Machine,
    soft_tpm::{Ak, AkKind},
};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for kind in AkKind::ALL {
        quote(&mut criterion, kind, false);
    }
    quote(&mut criterion, AkKind::EcdsaP256, true);
}

/// `verify` and `bind` of warm evidence against the signature and the hashes that no verifier can spare.
fn quote(criterion: &mut Criterion, kind: AkKind, with_event_log: bool) {
    let machine = Machine::new(kind);
    let mut challenge = machine.challenge();
    let demands = challenge.demands.tpm_mut().expect("a TPM's challenge");
    (demands.event_log, demands.ima_log) = (with_event_log, false);
    let answer = machine.answer(&challenge);
    let evidence = answer.evidence();
    let (anchors, now) = (machine.anchors(), machine.now);
    let cold = machine.endorsements();
    let node_key = Arc::clone(verify(&evidence, &cold, &anchors, now).expect("genuine").tpm().unwrap().node_key());
    let Endorsements::Tpm(mut endorsement) = cold else { panic!("not of a TPM") };
    endorsement.node_key = Some(node_key);
    let endorsements = Endorsements::Tpm(endorsement);

    let key = ParsedPublicKey::new(algorithm(kind), machine.ak.spki()).expect("a key");
    let bare_signature = bare_signature(&machine.ak, &answer.signature);
    let values: Vec<_> = answer.pcrs.iter().map(|(_, value)| *value).collect();
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    let log_hashes = machine.boot.events.len() * usize::from(with_event_log);
    let bare = measure::best_us(criterion, &format!("tpm/{kind:?}/log={with_event_log}/bare"), || {
        key.verify_sig(&answer.quote, &bare_signature).expect("genuine");
        // the quoted digest, the policy digest, and the binding
        let hashed = [0; 3].map(|_| HashAlg::Sha256.hash(&values));
        // each event extends a register and is the digest of its data
        for event in machine.boot.events.iter().take(log_hashes) {
            std::hint::black_box(HashAlg::Sha256.hash(&[&event.data]));
            std::hint::black_box(hashed[0].extend(hashed[1].as_bytes()));
        }
        hashed
    });
    let whole = measure::best_us(criterion, &format!("tpm/{kind:?}/log={with_event_log}/appraised"), || {
        verify(&evidence, &endorsements, &anchors, now)
            .and_then(|authentic| authentic.bind(&challenge, now))
            .expect("genuine")
    });
    let what = if with_event_log { " with its event log" } else { "" };
    measure::report(&format!("{kind:?} quote{what}, appraised over bare ({bare:.1} µs)"), whole / bare, " ×", 1.25);
}

fn algorithm(kind: AkKind) -> &'static dyn VerificationAlgorithm {
    match kind {
        AkKind::EcdsaP256 => &signature::ECDSA_P256_SHA256_FIXED,
        AkKind::EcdsaP384 => &signature::ECDSA_P384_SHA384_FIXED,
        AkKind::RsaSsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        AkKind::RsaPss => &signature::RSA_PSS_2048_8192_SHA256,
    }
}

/// The value in a TPMT_SIGNATURE by `ak`: r and s side by side, or the RSA value.
fn bare_signature(ak: &Ak, signature: &[u8]) -> Vec<u8> {
    match ak.kind {
        AkKind::EcdsaP256 => [&signature[6..38], &signature[40..72]].concat(),
        AkKind::EcdsaP384 => [&signature[6..54], &signature[56..104]].concat(),
        AkKind::RsaSsa | AkKind::RsaPss => signature[6..].to_vec(),
    }
}
