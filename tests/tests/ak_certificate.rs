//! AK certificates, one defect at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that goes wrong here should stop at once")]

use evidence::{
    EvidenceDenial,
    denial::EvidenceDenialKind as Kind,
    time::UnixSeconds,
    tpm::{AkCertificate, Public},
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use tests::{
    authority::{Authority, EkCertificateParams},
    soft_tpm::{Ak, AkKind},
};

const NOW: UnixSeconds = UnixSeconds(1_800_000_000); // 2027

fn params() -> EkCertificateParams {
    let mut params = EkCertificateParams::default();
    params.certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
    params
}

fn judge(
    authority: &Authority,
    ak: &Ak,
    params: &EkCertificateParams,
    now: UnixSeconds,
) -> Result<AkCertificate, EvidenceDenial> {
    let chain = authority.chain(authority.certify(&ak.spki(), params));
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    AkCertificate::verify(&chain, &authority.anchors(), now)
}

#[test]
fn a_certificate_is_of_its_own_key_alone() {
    let authority = Authority::default();
    for kind in AkKind::ALL {
        let (ak, other) = (Ak::generate(kind), Ak::generate(kind));
        let certificate = judge(&authority, &ak, &params(), NOW).unwrap();
        certificate.is_for_key_info(&ak.spki()).unwrap();
        certificate.is_for(&Public::read(&ak.public().write()).unwrap()).unwrap();
        let denial = certificate.is_for_key_info(&other.spki()).unwrap_err();
        assert_eq!(Kind::from(&denial), Kind::AkKeyMismatch);
        let denial = certificate.is_for(&Public::read(&other.public().write()).unwrap()).unwrap_err();
        assert_eq!(Kind::from(&denial), Kind::AkKeyMismatch);
    }
}

#[test]
fn a_certificate_for_another_use_is_denied() {
    let (authority, ak) = (Authority::default(), Ak::generate(AkKind::EcdsaP256));
    let changes: [fn(&mut EkCertificateParams); 5] = [
        |params| params.certificate.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        |params| params.certificate.key_usages.push(KeyUsagePurpose::KeyCertSign),
        |params| params.certificate.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        |params| params.certificate.extended_key_usages.clear(),
        |params| params.certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
    ];
    for change in changes {
        let mut params = params();
        change(&mut params);
        let denial = judge(&authority, &ak, &params, NOW).unwrap_err();
        assert_eq!(Kind::from(&denial), Kind::CertificateConstraint, "{denial}");
    }
}

#[test]
fn a_chain_must_be_short_current_and_lead_to_a_pinned_root() {
    let (authority, ak) = (Authority::default(), Ak::generate(AkKind::EcdsaP256));
    let kind = |judged: Result<AkCertificate, EvidenceDenial>| Kind::from(&judged.unwrap_err());
    for now in [UnixSeconds(0), UnixSeconds(4_000_000_000)] {
        assert_eq!(kind(judge(&authority, &ak, &params(), now)), Kind::CertificateValidity);
    }
    let chain = authority.chain(authority.certify(&ak.spki(), &params()));
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let foreign = Authority::default().anchors();
    assert_eq!(kind(AkCertificate::verify(&chain, &foreign, NOW)), Kind::ChainUnanchored);
    assert_eq!(kind(AkCertificate::verify(&[], &authority.anchors(), NOW)), Kind::Missing);
    assert_eq!(kind(AkCertificate::verify(&chain.repeat(3), &authority.anchors(), NOW)), Kind::TooMany);
    // Another authority of the same name, which did not sign it.
    let namesake = Authority::default();
    let swapped = [chain.first().copied().unwrap(), &namesake.intermediate, &namesake.root];
    assert_eq!(kind(AkCertificate::verify(&swapped, &namesake.anchors(), NOW)), Kind::CertificateSignature);
}
