//! The node key (T10).

use evidence::{denial::EvidenceDenialKind as Kind, digest::HashAlg, ledger::CheckId::T10};

use super::{
    Defect,
    Place::{Answer, Challenge, Draft},
    defect, ignore, tpm,
};
use crate::{
    genuine::{Draft as D, Machine as M},
    soft_tpm::{Ak, AkKind, AttestDraft, PublicArea, Unique},
};

/// Another node key, certified as it is.
fn key(draft: &mut D, machine: &M, edit: impl FnOnce(&mut PublicArea)) {
    edit(&mut draft.node_key);
    draft.certification = AttestDraft::certification(&draft.node_key.name(), machine.clock, machine.firmware_version);
}

#[rustfmt::skip]
pub(super) const DEFECTS: &[Defect] = &[
    defect(T10, Kind::NodeKeyTemplate, "without fixedTPM", Draft(|d, m| key(d, m, |k| k.attributes &= !(1 << 1)))),
    defect(T10, Kind::NodeKeyTemplate, "without fixedParent", Draft(|d, m| key(d, m, |k| k.attributes &= !(1 << 4)))),
    defect(T10, Kind::NodeKeyTemplate, "without sensitiveDataOrigin", Draft(|d, m| key(d, m, |k| k.attributes &= !(1 << 5)))),
    defect(T10, Kind::NodeKeyTemplate, "without decrypt", Draft(|d, m| key(d, m, |k| k.attributes &= !(1 << 17)))),
    defect(T10, Kind::NodeKeyTemplate, "without noDA", Draft(|d, m| key(d, m, |k| k.attributes &= !(1 << 10)))),
    defect(T10, Kind::NodeKeyTemplate, "with userWithAuth", Draft(|d, m| key(d, m, |k| k.attributes |= 1 << 6))),
    defect(T10, Kind::NodeKeyTemplate, "with adminWithPolicy", Draft(|d, m| key(d, m, |k| k.attributes |= 1 << 7))),
    defect(T10, Kind::NodeKeyTemplate, "with restricted", Draft(|d, m| key(d, m, |k| k.attributes |= 1 << 16))),
    defect(T10, Kind::NodeKeyTemplate, "with sign", Draft(|d, m| key(d, m, |k| k.attributes |= 1 << 18))),
    defect(T10, Kind::NodeKeyTemplate, "with x509sign", Draft(|d, m| key(d, m, |k| k.attributes |= 1 << 19))),
    defect(T10, Kind::NodeKeyTemplate, "with encryptedDuplication", Draft(|d, m| key(d, m, |k| k.attributes |= 1 << 11))),
    defect(T10, Kind::NodeKeyTemplate, "with SHA-1 names", Draft(|d, m| key(d, m, |k| k.name_alg = HashAlg::Sha1))),
    defect(T10, Kind::NodeKeyTemplate, "with a signing scheme", Draft(|d, m| key(d, m, |k| k.scheme = vec![0x00, 0x18, 0x00, 0x0b]))),
    defect(T10, Kind::NodeKeyTemplate, "a storage key", Draft(|d, m| key(d, m, |k| k.symmetric = vec![0, 6, 0, 128, 0, 0x43]))),
    defect(T10, Kind::NodeKeyTemplate, "on P-384", Draft(|d, m| key(d, m, |k| k.unique = Ak::generate(AkKind::EcdsaP384).public().unique))),
    defect(T10, Kind::NodeKeyTemplate, "an RSA key", Draft(|d, m| key(d, m, |k| k.unique = Ak::generate(AkKind::RsaSsa).public().unique))),
    defect(T10, Kind::NodeKeyTemplate, "without a policy", Draft(|d, m| key(d, m, |k| k.auth_policy.clear()))),
    defect(T10, Kind::KeyUnusable, "not a point of the curve", Draft(|d, m| key(d, m, |k| k.unique = Unique::Ecc(vec![1; 32], vec![2; 32])))),
    defect(T10, Kind::NodeKeyPolicy, "another policy", Draft(|d, m| key(d, m, |k| k.auth_policy[0] ^= 1))),
    defect(T10, Kind::NodeKeyPolicy, "policy over fewer PCRs", Draft(|d, m| key(d, m, |k| k.auth_policy = m.node_key(HashAlg::Sha256, &[0]).auth_policy))),
    defect(T10, Kind::NodeKeyPolicy, "policy over another bank", Draft(|d, m| key(d, m, |k| k.auth_policy = m.node_key(HashAlg::Sha384, &crate::genuine::NODE_KEY_PCRS).auth_policy))),
    defect(T10, Kind::NodeKeyPolicy, "policy over a state that was", Draft(|d, m| key(d, m, |k| {
        let mut before = M::default();
        before.boot.events.pop();
        k.auth_policy = before.node_key(HashAlg::Sha256, &crate::genuine::NODE_KEY_PCRS).auth_policy;
        let _ = m;
    }))),
    defect(T10, Kind::NodeKeyPolicy, "the verifier asks for another policy", Challenge(|c| ignore(tpm(c).node_key_pcrs.pop()))),
    defect(T10, Kind::NodeKeyPolicy, "the verifier asks for no policy", Challenge(|c| tpm(c).node_key_pcrs.clear())),
    defect(T10, Kind::NodeKeyPolicy, "a PCR of the policy was not quoted", Challenge(|c| tpm(c).node_key_pcrs.push(11))),
    defect(T10, Kind::NodeKeyNotCertified, "another object certified", Draft(|d, m| d.certification = AttestDraft::certification(&m.ak_public.name(), m.clock, 0))),
    defect(T10, Kind::NodeKeyNotCertified, "public area altered after certification", Answer(|a, _| *a.node_key.last_mut().unwrap() ^= 1)),
    defect(T10, Kind::SignatureInvalid, "certified by another AK", Answer(|a, _| a.certification_signature = Ak::generate(AkKind::EcdsaP256).sign(&a.certification))),
    defect(T10, Kind::SignatureInvalid, "certification altered", Answer(|a, _| *a.certification.last_mut().unwrap() ^= 1)),
    defect(T10, Kind::Malformed, "a quote as certification", Answer(|a, _| {
        a.certification = a.quote.clone();
        a.certification_signature = a.signature.clone();
    })),
    defect(T10, Kind::TrailingBytes, "a byte after the public area", Answer(|a, _| a.node_key.push(0))),
    defect(T10, Kind::Malformed, "no public area", Answer(|a, _| a.node_key.clear())),
];
