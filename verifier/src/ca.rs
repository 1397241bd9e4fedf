//! The domain's certificate authority: it opens doors, it vouches for nothing else.
//!
//! A certificate names who may hold a connection; what a node *is* comes from its
//! Evidence. So every name in a certificate is computed by us from the enrolment
//! record, and nothing in a request ever reaches one.

use std::net::IpAddr;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use evidence::cose::PublicKey;
use evidence::names::{DomainName, NodeId};
use evidence::time::UnixSeconds;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::Zeroizing;

/// A node's client certificate lives this long; the node enrols again (same EK, same
/// AK, same record key) to get the next one.
pub const NODE_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The service's own certificate; replaced at half its life, while serving.
pub const SERVER_CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The authority's certificate is replaced with the trust bundle, not by expiry.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// Tolerated difference between our clock and a node's, in certificates only.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
/// A certificate request larger than this is refused unread.
const REQUEST_CAP_BYTES: usize = 4096;

/// Why a certificate could not be made or read.
#[derive(Debug, Error)]
pub enum CaError {
    /// The authority's files do not hold what they should.
    #[error("certificate authority: {what}: {source}")]
    Unusable {
        /// What was being read or made.
        what: &'static str,
        /// The library's reason.
        source: rcgen::Error,
    },
    /// The request is not PKCS#10 signed by the record key that came with it.
    #[error("certificate request is not signed by the record key")]
    RequestRefused,
    /// A name of ours cannot be written into a certificate.
    #[error("name {0:?} cannot be written into a certificate")]
    Name(String),
    /// rustls refused the key it is to serve with.
    #[error("serving key: {0}")]
    ServingKey(rustls::Error),
}

/// The domain's certificate authority, opened.
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    domain: DomainName,
}

impl CertificateAuthority {
    /// Makes a new authority for `domain`: its certificate (DER) and its private key (PKCS#8 DER).
    pub fn create(domain: &DomainName, now: UnixSeconds) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), CaError> {
        let unusable = |source| CaError::Unusable { what: "making the authority", source };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("attestd CA {domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
        set_window(&mut params, now, AUTHORITY_LIFETIME);
        let certificate = params.self_signed(&key).map_err(unusable)?;
        Ok((certificate.der().to_vec(), Zeroizing::new(key.serialize_der())))
    }

    /// Opens an authority made by [`CertificateAuthority::create`].
    pub fn open(domain: DomainName, certificate: &[u8], key: &[u8]) -> Result<Self, CaError> {
        let unusable = |what| move |source| CaError::Unusable { what, source };
        let key = PrivatePkcs8KeyDer::from(key);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(unusable("reading its key"))?;
        let certificate = CertificateDer::from(certificate.to_vec());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(unusable("reading its certificate"))?;
        Ok(Self { certificate, issuer, domain })
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The domain whose nodes this authority names.
    pub fn domain(&self) -> &DomainName {
        &self.domain
    }

    /// A client certificate for an enrolled node: names from the enrolment, key from the enrolment.
    pub fn node_certificate(
        &self,
        node: &NodeId,
        record_key: &[u8; 32],
        serial: [u8; 16],
        now: UnixSeconds,
    ) -> Result<CertificateDer<'static>, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(node.as_str());
        params.subject_alt_names = vec![uri(&self.domain.node_spiffe_id(node))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.leaf(params, &Ed25519Public(*record_key), serial, now, NODE_CERTIFICATE_LIFETIME)
    }

    /// An X509-SVID (SPIFFE X509-SVID §2–4): one URI, no authority, for either end of a connection.
    pub fn svid(
        &self,
        spiffe_id: &str,
        key: &PublicKey,
        serial: [u8; 16],
        now: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<CertificateDer<'static>, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("workload");
        params.subject_alt_names = vec![uri(spiffe_id)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let lifetime = Duration::from_secs(until.0.saturating_sub(now.0));
        self.leaf(params, &P256Public(key), serial, now, lifetime)
    }

    /// A certificate and a fresh key for this process to serve with; the key never leaves memory.
    pub fn server_key(
        &self,
        names: &[String],
        serial: [u8; 16],
        now: UnixSeconds,
    ) -> Result<Arc<CertifiedKey>, CaError> {
        let unusable = |source| CaError::Unusable { what: "making a serving key", source };
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("verifier {}", self.domain));
        params.subject_alt_names = names.iter().map(|name| host(name)).collect::<Result<_, _>>()?;
        params.subject_alt_names.push(uri(&self.domain.verifier_spiffe_id())?);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = self.leaf(params, &key, serial, now, SERVER_CERTIFICATE_LIFETIME)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(CaError::ServingKey)?;
        Ok(Arc::new(CertifiedKey::new(vec![certificate], key)))
    }

    fn leaf(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        mut serial: [u8; 16],
        now: UnixSeconds,
        lifetime: Duration,
    ) -> Result<CertificateDer<'static>, CaError> {
        // RFC 5280 §4.1.2.2: a serial number is positive and not zero.
        let [first, ..] = &mut serial;
        *first = (*first & 0x7f) | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_window(&mut params, now, lifetime);
        let certificate = params
            .signed_by(key, &self.issuer)
            .map_err(|source| CaError::Unusable { what: "signing a certificate", source })?;
        Ok(certificate.der().clone())
    }
}

/// Proves that whoever sent this PKCS#10 request holds the record key. Nothing else in it is read.
pub fn request_is_by(request: &[u8], record_key: &[u8; 32]) -> Result<(), CaError> {
    if request.len() > REQUEST_CAP_BYTES {
        return Err(CaError::RequestRefused);
    }
    // Reading the request verifies its own signature (proof of possession).
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|_| CaError::RequestRefused)?;
    let by_record_key =
        request.public_key.algorithm() == &rcgen::PKCS_ED25519 && request.public_key.der_bytes() == record_key;
    by_record_key.then_some(()).ok_or(CaError::RequestRefused)
}

/// RFC 8410 public key: the 32 bytes as they are.
struct Ed25519Public([u8; 32]);

impl PublicKeyData for Ed25519Public {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// SEC 1 §2.3.3: the point, uncompressed. That it is one of P-256 was found when the key was read.
struct P256Public<'k>(&'k PublicKey);

impl PublicKeyData for P256Public<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.raw()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn uri(text: &str) -> Result<SanType, CaError> {
    text.try_into().map(SanType::URI).map_err(|_| CaError::Name(text.to_owned()))
}

fn host(text: &str) -> Result<SanType, CaError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    text.try_into().map(SanType::DnsName).map_err(|_| CaError::Name(text.to_owned()))
}

fn set_window(params: &mut CertificateParams, now: UnixSeconds, lifetime: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1).add(Duration::from_secs(now.0));
    params.not_before = now.sub(CLOCK_SKEW);
    params.not_after = now.add(lifetime);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> CertificateAuthority {
        let domain = DomainName::new("a.example").unwrap();
        let (certificate, key) = CertificateAuthority::create(&domain, UnixSeconds(1_790_000_000)).unwrap();
        CertificateAuthority::open(domain, &certificate, &key).unwrap()
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::new(vec!["root.example".to_owned()]).unwrap().serialize_request(&key).unwrap();
        let record_key: [u8; 32] = key.public_key_raw().try_into().unwrap();
        assert!(request_is_by(request.der(), &record_key).is_ok());
        assert!(request_is_by(request.der(), &[7; 32]).is_err());
        let mut broken = request.der().to_vec();
        *broken.last_mut().unwrap() ^= 1;
        assert!(request_is_by(&broken, &record_key).is_err());
        assert!(request_is_by(&vec![0; REQUEST_CAP_BYTES + 1], &record_key).is_err());
    }

    #[test]
    fn a_node_certificate_names_the_enrolled_node_only() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let record_key: [u8; 32] = key.public_key_raw().try_into().unwrap();
        let node = NodeId::new("node-1").unwrap();
        let certificate =
            authority().node_certificate(&node, &record_key, [0; 16], UnixSeconds(1_790_000_000)).unwrap();
        assert_eq!(crate::tls::node_of(&certificate, &DomainName::new("a.example").unwrap()).unwrap(), node);
        assert!(crate::tls::node_of(&certificate, &DomainName::new("b.example").unwrap()).is_err());
    }
}
