//! A TPM manufacturer's certificate authority: a root, an intermediate, and EK certificates of genuine form.

use std::collections::BTreeSet;

use evidence::{
    TrustAnchors,
    anchors::{AnchorSet, RootPin},
    digest::Sha256Digest,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SubjectPublicKeyInfo, date_time_ymd,
};

/// Extended key usage of EK certificates, 2.23.133.8.1.
pub const EK_USAGE: [u64; 4] = [2, 23, 133, 8];

/// What an EK certificate will say; change it before [`Authority::certify`].
#[derive(Clone, Debug)]
pub struct EkCertificateParams {
    /// tpmManufacturer, tpmModel, tpmVersion: object identifier's last arc and value.
    pub attributes: Vec<(u8, String)>,
    /// Parameters as rcgen takes them, without the subjectAltName.
    pub certificate: CertificateParams,
}

impl Default for EkCertificateParams {
    fn default() -> Self {
        let mut certificate = CertificateParams::default();
        certificate.distinguished_name = DistinguishedName::new();
        certificate.not_before = date_time_ymd(2020, 1, 1);
        certificate.not_after = date_time_ymd(2040, 1, 1);
        certificate.is_ca = IsCa::ExplicitNoCa;
        certificate.key_usages = vec![KeyUsagePurpose::KeyAgreement, KeyUsagePurpose::KeyEncipherment];
        certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1])];
        let attributes = [(1, "id:41545354"), (2, "TM-1"), (3, "id:00010002")];
        Self { attributes: attributes.map(|(arc, value)| (arc, value.to_owned())).into(), certificate }
    }
}

/// The authority, with its keys.
pub struct Authority {
    /// DER of the self-signed root.
    pub root: Vec<u8>,
    /// DER of the intermediate.
    pub intermediate: Vec<u8>,
    root_issuer: Issuer<'static, KeyPair>,
    issuer: Issuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new("Test TPM")
    }
}

impl Authority {
    /// A fresh authority whose certificates bear `name`.
    pub fn new(name: &str) -> Self {
        Self::with(
            name,
            Self::ca_params(&format!("{name} Root CA"), Some(1)),
            Self::ca_params(&format!("{name} CA 1"), Some(0)),
        )
    }

    /// A fresh authority with these parameters of root and intermediate.
    pub fn with(_name: &str, root: CertificateParams, intermediate: CertificateParams) -> Self {
        let root_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let root_der = root.self_signed(&root_key).unwrap().der().to_vec();
        let root_issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let intermediate_der = intermediate.signed_by(&key, &root_issuer).unwrap().der().to_vec();
        let issuer = Issuer::new(intermediate, key);
        Self { root: root_der, intermediate: intermediate_der, root_issuer, issuer }
    }

    /// Parameters of a certificate authority's certificate.
    pub fn ca_params(common_name: &str, path_length: Option<u8>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Test TPM Makers");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.not_before = date_time_ymd(2015, 1, 1);
        params.not_after = date_time_ymd(2045, 1, 1);
        params.is_ca = IsCa::Ca(path_length.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// An EK certificate by the intermediate for the key in `spki` (DER).
    pub fn certify(&self, spki: &[u8], params: &EkCertificateParams) -> Vec<u8> {
        Self::issue(&self.issuer, spki, params)
    }

    /// An EK certificate by the root itself.
    pub fn certify_by_root(&self, spki: &[u8], params: &EkCertificateParams) -> Vec<u8> {
        Self::issue(&self.root_issuer, spki, params)
    }

    fn issue(issuer: &Issuer<'static, KeyPair>, spki: &[u8], params: &EkCertificateParams) -> Vec<u8> {
        let mut certificate = params.certificate.clone();
        if !params.attributes.is_empty() {
            let mut names = CustomExtension::from_oid_content(&[2, 5, 29, 17], general_names(&params.attributes));
            names.set_criticality(true);
            certificate.custom_extensions.push(names);
        }
        let key = SubjectPublicKeyInfo::from_der(spki).unwrap();
        certificate.signed_by(&key, issuer).unwrap().der().to_vec()
    }

    /// The chain for an EK certificate: it, the intermediate, the root.
    pub fn chain(&self, ek: Vec<u8>) -> Vec<Vec<u8>> {
        vec![ek, self.intermediate.clone(), self.root.clone()]
    }

    /// Anchors as data that pin this authority's root by certificate, as hardware.
    pub fn anchor_set(&self) -> AnchorSet {
        let tpm_roots = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(&self.root))]);
        AnchorSet { tpm_roots, ..AnchorSet::default() }
    }

    /// Anchors that trust this authority as a manufacturer of hardware.
    pub fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new(self.anchor_set()).unwrap()
    }
}

/// GeneralNames with one directoryName whose attributes are 2.23.133.2.n.
fn general_names(attributes: &[(u8, String)]) -> Vec<u8> {
    let rdns = attributes.iter().flat_map(|(arc, value)| {
        let oid = tlv(0x06, &[0x67, 0x81, 0x05, 0x02, *arc]);
        let attribute = tlv(0x30, &[oid, tlv(0x0c, value.as_bytes())].concat());
        tlv(0x31, &attribute)
    });
    let name = tlv(0x30, &rdns.collect::<Vec<_>>());
    tlv(0x30, &tlv(0xa4, &name))
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend_from_slice(value);
    out
}
