//! The identity that an execution shows others: its own key pair, made here, and the X509-SVIDs that its domains give it.

use std::sync::Arc;
use std::time::Duration;

use audit::AuditDenial;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use zeroize::Zeroizing;

use super::refused::Refused;

/// A P-256 key pair of one execution. Its private half leaves this process over the workload's own connection alone.
pub(crate) struct SvidKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

impl SvidKey {
    /// A fresh one.
    pub(super) fn generate() -> Result<Self, Refused> {
        let random = |_| Refused::fault("fault.randomness_unavailable", "no randomness");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(random)?;
        let document = pair.to_pkcs8v1().map_err(random)?;
        let public = PublicKey::p256(pair.public_key().as_ref()).map_err(|error| Refused::fault("fault.bug", error))?;
        Ok(Self { pkcs8: Zeroizing::new(document.as_ref().to_vec()), public })
    }

    /// As its intent names it.
    pub(super) const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// PKCS#8, DER.
    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

impl std::fmt::Debug for SvidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SvidKey({})", self.public.kid())
    }
}

/// An X509-SVID that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Svid {
    pub(crate) spiffe_id: String,
    /// The certificate, DER: its domain's authority signs it itself.
    pub(crate) certificate: Arc<[u8]>,
}

/// What an SVID must be.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// As the record of the authorization names it.
    pub(super) recorded: Sha256Digest,
    pub(super) spiffe_id: &'a str,
    pub(super) key: &'a PublicKey,
    /// The artifact's end: an identity that outlives its authorization would be one without.
    pub(super) until: UnixSeconds,
    /// Pinned CA certificates of the domain.
    pub(super) authorities: &'a [serde_bytes::ByteBuf],
}

impl Svid {
    /// Judges a certificate that came with an authorization: the one that the log names, for this execution and its key, by
    /// the domain's authority, and for no longer than it is authorized.
    pub(super) fn accept(der: &[u8], wanted: Wanted<'_>, now: UnixSeconds) -> Result<Self, AuditDenial> {
        if Sha256Digest::of(der) != wanted.recorded {
            return Err(mismatch("digest"));
        }
        let parsed = Certificate::from_der(der).map_err(|_| mismatch("certificate"))?;
        let tbs = parsed.tbs_certificate();
        if tbs.subject_public_key_info().subject_public_key.raw_bytes() != wanted.key.raw() {
            return Err(mismatch("key"));
        }
        if only_uri(&parsed).as_deref() != Some(wanted.spiffe_id) {
            return Err(mismatch("spiffe_id"));
        }
        if tbs.validity().not_after.to_unix_duration() > Duration::from_secs(wanted.until.0) {
            return Err(mismatch("not_after"));
        }
        signed(der, wanted.authorities, now).ok_or_else(|| mismatch("authority"))?;
        Ok(Self { spiffe_id: wanted.spiffe_id.to_owned(), certificate: der.into() })
    }
}

/// The name, if there is one and it is a URI (X509-SVID §2).
fn only_uri(certificate: &Certificate) -> Option<String> {
    let (_, names) = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    match names.0.as_slice() {
        [GeneralName::UniformResourceIdentifier(uri)] => Some(uri.as_str().to_owned()),
        _ => None,
    }
}

fn signed(der: &[u8], authorities: &[serde_bytes::ByteBuf], now: UnixSeconds) -> Option<()> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.as_slice())).ok()?;
    }
    let certificate = CertificateDer::from(der);
    let certificate = ParsedCertificate::try_from(&certificate).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.0));
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], now, algorithms).ok()
}

const fn mismatch(field: &'static str) -> AuditDenial {
    AuditDenial::AttachmentMismatch { what: "svid", field }
}

#[cfg(test)]
pub(super) mod fixture {
    use rcgen::{
        CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    };
    use std::ops::Add as _;

    use super::*;

    /// A domain's authority.
    pub(crate) struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pub(crate) certificate: serde_bytes::ByteBuf,
    }

    struct Point<'k>(&'k PublicKey);

    impl PublicKeyData for Point<'_> {
        fn der_bytes(&self) -> &[u8] {
            self.0.raw()
        }

        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }

    /// The generator of P-256 (SEC 2 §2.4.2).
    pub(crate) fn key() -> PublicKey {
        let point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                     4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        PublicKey::p256(&hex::decode(point).unwrap()).unwrap()
    }

    impl Authority {
        pub(crate) fn new() -> Self {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.not_before = rcgen::date_time_ymd(1970, 1, 1);
            let certificate = params.self_signed(&key).unwrap().der().to_vec();
            Self { issuer: Issuer::new(params, key), certificate: certificate.into() }
        }

        pub(crate) fn svid(&self, names: &[&str], key: &PublicKey, until: UnixSeconds) -> Vec<u8> {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            params.not_before = rcgen::date_time_ymd(1970, 1, 1);
            params.not_after = rcgen::date_time_ymd(1970, 1, 1).add(Duration::from_secs(until.0));
            params.signed_by(&Point(key), &self.issuer).unwrap().der().to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{Authority, key};
    use super::*;

    const ID: &str = "spiffe://a.example/node/node-1/workload/billing";
    const NOW: UnixSeconds = UnixSeconds(1_000_000);
    const UNTIL: UnixSeconds = UnixSeconds(1_000_030);

    fn judged(der: &[u8], wanted: Wanted<'_>) -> Result<(), &'static str> {
        match Svid::accept(der, Wanted { recorded: Sha256Digest::of(der), ..wanted }, NOW) {
            Ok(svid) => {
                assert_eq!((svid.spiffe_id.as_str(), &*svid.certificate), (wanted.spiffe_id, der));
                Ok(())
            }
            Err(AuditDenial::AttachmentMismatch { what: "svid", field }) => Err(field),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_svid_is_taken_only_for_this_execution_its_key_and_its_lease() {
        let (domain, other, key) = (Authority::new(), Authority::new(), key());
        let authorities = [domain.certificate.clone()];
        let recorded = Sha256Digest([0; 32]);
        let wanted = Wanted { recorded, spiffe_id: ID, key: &key, until: UNTIL, authorities: &authorities };
        let genuine = domain.svid(&[ID], &key, UNTIL);
        assert_eq!(judged(&genuine, wanted), Ok(()));
        let another_key = SvidKey::generate().unwrap();
        for (der, field) in [
            (domain.svid(&[ID], another_key.public(), UNTIL), "key"),
            (domain.svid(&["spiffe://a.example/node/node-2"], &key, UNTIL), "spiffe_id"),
            (domain.svid(&[ID, ID], &key, UNTIL), "spiffe_id"),
            (domain.svid(&[], &key, UNTIL), "spiffe_id"),
            (domain.svid(&[ID], &key, UNTIL.plus(1)), "not_after"),
            (domain.svid(&[ID], &key, NOW.minus(1)), "authority"),
            (other.svid(&[ID], &key, UNTIL), "authority"),
            (genuine[1..].to_vec(), "certificate"),
        ] {
            assert_eq!(judged(&der, wanted), Err(field));
        }
        assert_eq!(judged(&genuine, Wanted { authorities: &[], ..wanted }), Err("authority"));
        assert!(Svid::accept(&genuine, wanted, NOW).is_err(), "the log names another");
    }
}
