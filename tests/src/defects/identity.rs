//! EK, AK and enrolment (T1-T4).

use std::mem;

use evidence::{
    denial::EvidenceDenialKind as Kind,
    digest::{HashAlg, Sha256Digest},
    ledger::CheckId::{T1, T2, T3, T4},
    names::NodeId,
};
use rcgen::{BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, date_time_ymd};
use serde_bytes::ByteBuf;

use super::{
    Defect,
    Place::{Anchors, Enrolment, Machine, Time},
    defect, ignore,
};
use crate::{
    authority::{Authority, EkCertificateParams},
    genuine::Machine as M,
    soft_tpm::{Ak, AkKind, Unique},
};

fn certify(m: &mut M, edit: impl FnOnce(&mut EkCertificateParams)) {
    let authority = mem::take(&mut m.authority);
    m.recertify(authority, edit);
}

fn under(m: &mut M, root: impl FnOnce(&mut rcgen::CertificateParams), ca: impl FnOnce(&mut rcgen::CertificateParams)) {
    let mut root_params = Authority::ca_params("Root", Some(1));
    root(&mut root_params);
    let mut ca_params = Authority::ca_params("CA", Some(0));
    ca(&mut ca_params);
    m.recertify(Authority::with("", root_params, ca_params), |_| {});
}

fn attribute(bit: u32, set: bool, m: &mut M) {
    m.ak_public.attributes = if set { m.ak_public.attributes | 1 << bit } else { m.ak_public.attributes & !(1 << bit) };
}

fn critical(oid: &[u64]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, vec![0x05, 0x00]);
    extension.set_criticality(true);
    extension
}

#[rustfmt::skip]
pub(super) const DEFECTS: &[Defect] = &[
    // T1: who vouches for the EK
    defect(T1, Kind::EkUnanchored, "no certificate and no pin", Machine(|m| m.ek_chain.clear())),
    defect(T1, Kind::ChainUnanchored, "EK certificate alone", Machine(|m| m.ek_chain.truncate(1))),
    defect(T1, Kind::ChainUnanchored, "chain without its root", Machine(|m| m.ek_chain.truncate(2))),
    defect(T1, Kind::ChainUnanchored, "another root is pinned", Anchors(|a, _| *a = Authority::default().anchor_set())),
    defect(T1, Kind::EkUnanchored, "another EK is pinned", Machine(|m| {
        m.ek_chain.clear();
        m.authority = Authority::default();
    })),
    defect(T1, Kind::CertificateValidity, "EK certificate expired", Machine(|m| certify(m, |p| p.certificate.not_after = date_time_ymd(2025, 1, 1)))),
    defect(T1, Kind::CertificateValidity, "EK certificate not yet valid", Machine(|m| certify(m, |p| p.certificate.not_before = date_time_ymd(2026, 1, 1)))),
    defect(T1, Kind::CertificateValidity, "root expired", Machine(|m| under(m, |root| root.not_after = date_time_ymd(2024, 1, 1), |_| {}))),
    defect(T1, Kind::CertificateValidity, "intermediate not yet valid", Machine(|m| under(m, |_| {}, |ca| ca.not_before = date_time_ymd(2030, 1, 1)))),
    defect(T1, Kind::CertificateConstraint, "EK usage absent", Machine(|m| certify(m, |p| p.certificate.extended_key_usages.clear()))),
    defect(T1, Kind::CertificateConstraint, "another usage", Machine(|m| certify(m, |p| p.certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])]))),
    defect(T1, Kind::CertificateConstraint, "key usage absent", Machine(|m| certify(m, |p| p.certificate.key_usages.clear()))),
    defect(T1, Kind::CertificateConstraint, "key usage of a signer", Machine(|m| certify(m, |p| p.certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature]))),
    defect(T1, Kind::CertificateConstraint, "key usage of an authority", Machine(|m| certify(m, |p| p.certificate.key_usages.push(KeyUsagePurpose::KeyCertSign)))),
    defect(T1, Kind::CertificateConstraint, "EK certificate is an authority", Machine(|m| certify(m, |p| p.certificate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)))),
    defect(T1, Kind::CertificateConstraint, "no TPM attributes", Machine(|m| certify(m, |p| p.attributes.clear()))),
    defect(T1, Kind::CertificateConstraint, "no TPM manufacturer", Machine(|m| certify(m, |p| ignore(p.attributes.remove(0))))),
    defect(T1, Kind::CertificateConstraint, "no TPM version", Machine(|m| certify(m, |p| ignore(p.attributes.pop())))),
    defect(T1, Kind::Malformed, "TPM model twice", Machine(|m| certify(m, |p| p.attributes.push((2, "other".into()))))),
    defect(T1, Kind::Malformed, "control character in the model", Machine(|m| certify(m, |p| p.attributes[1].1 = "a\u{1b}[31m".into()))),
    defect(T1, Kind::CertificateExtension, "unknown critical extension in the EK certificate", Machine(|m| certify(m, |p| p.certificate.custom_extensions.push(critical(&[1, 3, 6, 1, 4, 1, 99, 1]))))),
    defect(T1, Kind::CertificateExtension, "unknown critical extension in the intermediate", Machine(|m| under(m, |_| {}, |ca| ca.custom_extensions.push(critical(&[1, 3, 6, 1, 4, 1, 99, 1]))))),
    defect(T1, Kind::CertificateConstraint, "intermediate is no authority", Machine(|m| under(m, |_| {}, |ca| ca.is_ca = IsCa::ExplicitNoCa))),
    defect(T1, Kind::CertificateConstraint, "intermediate may not sign certificates", Machine(|m| under(m, |_| {}, |ca| ca.key_usages = vec![KeyUsagePurpose::CrlSign]))),
    defect(T1, Kind::CertificateConstraint, "root may not sign certificates", Machine(|m| under(m, |root| root.key_usages = vec![KeyUsagePurpose::DigitalSignature], |_| {}))),
    defect(T1, Kind::CertificateConstraint, "path longer than the root allows", Machine(|m| under(m, |root| root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), |_| {}))),
    defect(T1, Kind::CertificateConstraint, "chain in another order", Machine(|m| m.ek_chain.swap(1, 2))),
    defect(T1, Kind::CertificateConstraint, "a certificate after the root", Machine(|m| m.ek_chain.push(m.authority.root.clone()))),
    defect(T1, Kind::CertificateSignature, "intermediate of the same name with another key", Machine(|m| m.ek_chain[1] = Authority::default().intermediate)),
    defect(T1, Kind::CertificateSignature, "signature of the EK certificate flipped", Machine(|m| *m.ek_chain[0].last_mut().unwrap() ^= 1)),
    defect(T1, Kind::CertificateSignature, "signature of the intermediate flipped", Machine(|m| *m.ek_chain[1].last_mut().unwrap() ^= 1)),
    defect(T1, Kind::Malformed, "EK certificate cut", Machine(|m| ignore(m.ek_chain[0].pop()))),
    defect(T1, Kind::Malformed, "byte after the intermediate", Machine(|m| m.ek_chain[1].push(0))),
    defect(T1, Kind::TrailingBytes, "bytes after the EK certificate that are no padding", Machine(|m| m.ek_chain[0].extend([0xff, 0x00]))),
    defect(T1, Kind::TooLarge, "certificate above its cap", Machine(|m| m.ek_chain[1] = [&[0x30, 0x83, 0x01, 0x00, 0x00][..], &[0; 65_536]].concat())),
    defect(T1, Kind::TooMany, "seven certificates", Machine(|m| (0..4).for_each(|_| m.ek_chain.push(m.authority.root.clone())))),
    defect(T1, Kind::Revoked, "EK revoked", Anchors(|a, m| ignore(a.revoked.insert(Sha256Digest::of(&m.ek.write()))))),
    defect(T1, Kind::Revoked, "EK certificate revoked", Anchors(|a, m| ignore(a.revoked.insert(Sha256Digest::of(&m.ek_chain[0]))))),
    defect(T1, Kind::Revoked, "EK certificate revoked though its EK is pinned", Anchors(|a, m| {
        a.revoked.insert(Sha256Digest::of(&m.ek_chain[0]));
        a.pinned_eks.insert(Sha256Digest::of(&m.ek.write()));
    })),
    defect(T1, Kind::Revoked, "intermediate revoked", Anchors(|a, m| ignore(a.revoked.insert(Sha256Digest::of(&m.authority.intermediate))))),
    defect(T1, Kind::Revoked, "key of the EK certificate revoked", Anchors(|a, m| ignore(a.revoked.insert(Sha256Digest::of(&m.ek_spki()))))),
    defect(T1, Kind::SimulatedTpm, "swtpm under a manufacturer's root", Machine(|m| certify(m, |p| p.attributes[1].1 = "swtpm".into()))),
    // T2: the EK itself
    defect(T2, Kind::EkKeyMismatch, "certificate of another EK", Machine(|m| m.ek.unique = M::default().ek.unique)),
    defect(T2, Kind::EkTemplate, "EK without restricted", Machine(|m| m.ek.attributes &= !(1 << 16))),
    defect(T2, Kind::EkTemplate, "EK with userWithAuth in the low range", Machine(|m| m.ek.attributes |= 1 << 6)),
    defect(T2, Kind::EkTemplate, "EK with another policy", Machine(|m| m.ek.auth_policy[0] ^= 1)),
    defect(T2, Kind::EkTemplate, "EK without policy", Machine(|m| m.ek.auth_policy.clear())),
    defect(T2, Kind::EkTemplate, "EK with AES-256", Machine(|m| m.ek.symmetric[2..4].copy_from_slice(&[1, 0]))),
    defect(T2, Kind::EkTemplate, "EK with a signing scheme", Machine(|m| m.ek.scheme = vec![0x00, 0x18, 0x00, 0x0b])),
    defect(T2, Kind::EkTemplate, "EK with SHA-384 names", Machine(|m| m.ek.name_alg = HashAlg::Sha384)),
    defect(T2, Kind::Malformed, "EK with reserved attributes", Machine(|m| m.ek.attributes |= 1)),
    defect(T2, Kind::AlgorithmRefused, "EK with AES in another mode", Machine(|m| m.ek.symmetric[5] = 0x44)),
    // T3: the AK
    defect(T3, Kind::AkTemplate, "AK without fixedTPM", Machine(|m| attribute(1, false, m))),
    defect(T3, Kind::AkTemplate, "AK without fixedParent", Machine(|m| attribute(4, false, m))),
    defect(T3, Kind::AkTemplate, "AK without sensitiveDataOrigin", Machine(|m| attribute(5, false, m))),
    defect(T3, Kind::AkTemplate, "AK without restricted", Machine(|m| attribute(16, false, m))),
    defect(T3, Kind::AkTemplate, "AK without sign", Machine(|m| attribute(18, false, m))),
    defect(T3, Kind::AkTemplate, "AK with decrypt", Machine(|m| attribute(17, true, m))),
    defect(T3, Kind::AkTemplate, "AK with x509sign", Machine(|m| attribute(19, true, m))),
    defect(T3, Kind::AkTemplate, "AK without a scheme", Machine(|m| m.ak_public.scheme = vec![0x00, 0x10])),
    defect(T3, Kind::AkTemplate, "AK with ECDH", Machine(|m| m.ak_public.scheme = vec![0x00, 0x19, 0x00, 0x0b])),
    defect(T3, Kind::AkTemplate, "ECC AK with an RSA scheme", Machine(|m| m.ak_public.scheme = vec![0x00, 0x14, 0x00, 0x0b])),
    defect(T3, Kind::AkTemplate, "AK with SHA-1 names", Machine(|m| m.ak_public.name_alg = HashAlg::Sha1)),
    defect(T3, Kind::AkTemplate, "AK with a symmetric algorithm", Machine(|m| m.ak_public.symmetric = vec![0, 6, 0, 128, 0, 0x43])),
    defect(T3, Kind::AlgorithmRefused, "AK that signs with SHA-1", Machine(|m| m.ak_public.scheme = vec![0x00, 0x18, 0x00, 0x04])),
    defect(T3, Kind::AlgorithmRefused, "AK with ECDAA", Machine(|m| m.ak_public.scheme = vec![0x00, 0x1a, 0x00, 0x0b, 0, 0])),
    defect(T3, Kind::Malformed, "RSA AK of 1024 bits", Machine(|m| m.ak_public.unique = Unique::Rsa(vec![0xff; 128]))),
    defect(T3, Kind::KeyUnusable, "AK that is no point", Machine(|m| m.ak_public.unique = Unique::Ecc(vec![1; 32], vec![2; 32]))),
    // T4: the activation
    defect(T4, Kind::ActivationMismatch, "activation digest altered", Enrolment(|e, _| e.activation.0[0] ^= 1)),
    defect(T4, Kind::ActivationMismatch, "node renamed", Enrolment(|e, _| e.identity.node_id = NodeId::new("node-2").unwrap())),
    defect(T4, Kind::ActivationMismatch, "record key replaced", Enrolment(|e, _| {
        let other = evidence::cose::SigningKey::from_seed(&[8; 32]).unwrap();
        e.identity.record_key = ByteBuf::from(other.public().cose_key());
    })),
    defect(T4, Kind::ActivationMismatch, "another epoch", Enrolment(|e, _| e.epoch += 1)),
    defect(T4, Kind::ActivationMismatch, "AK of another TPM", Enrolment(|e, _| e.identity.ak_public = ByteBuf::from(M::default().ak_public.write()))),
    defect(T4, Kind::ActivationMismatch, "EK of another TPM of the same maker", Enrolment(|e, m| {
        let other = M::default();
        e.identity.ek_chain[0] = ByteBuf::from(m.authority.certify(&other.ek_spki(), &EkCertificateParams::default()));
        e.identity.ek_public = ByteBuf::from(other.ek.write());
    })),
    defect(T4, Kind::ActivationMismatch, "another secret", Enrolment(|e, _| e.secret[0] ^= 1)),
    defect(T4, Kind::ActivationMismatch, "AK signed for another secret", Enrolment(|e, m| {
        e.proof = ByteBuf::from(m.enrolment_proof(&[0x12; 32]).write());
        e.proof_signature = ByteBuf::from(m.ak.sign(&e.proof));
    })),
    defect(T4, Kind::SignatureInvalid, "proof by another AK", Enrolment(|e, _| e.proof_signature = ByteBuf::from(Ak::generate(AkKind::EcdsaP256).sign(&e.proof)))),
    defect(T4, Kind::SignatureInvalid, "proof altered", Enrolment(|e, _| *e.proof.last_mut().unwrap() ^= 1)),
    defect(T4, Kind::Malformed, "proof absent", Enrolment(|e, _| e.proof.clear())),
    defect(T4, Kind::EnrolmentNotCurrent, "judged after the EK certificate ended", Time(|now| now.0 += 500_000_000)),
    defect(T4, Kind::EnrolmentNotCurrent, "judged before the EK certificate began", Time(|now| now.0 -= 500_000_000)),
];
