//! The attestation key beside a quote, in the forms it is saved in.

use std::path::Path;

use evidence::{
    EvidenceDenial,
    digest::HashAlg,
    tpm::{
        Public, VerifyingKey,
        public::{PublicKey, Scheme, SignatureScheme},
        signature::Signature,
    },
};
use x509_cert::{
    der::{Decode as _, Encode as _, asn1::Uint},
    spki::{ObjectIdentifier, SubjectPublicKeyInfoRef},
};

use super::{
    case::Case,
    ek_chain, files,
    outcome::{Refusal, Report},
};

const AK_CAP_BYTES: usize = 16 * 1024;
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// An attestation key as given.
pub(super) enum AttestationKey {
    /// The key's public area, which fixes its scheme: TPMT_PUBLIC.
    Tpm(Vec<u8>),
    /// The bare key: SubjectPublicKeyInfo. The signature says the scheme.
    Spki(Vec<u8>),
}

impl AttestationKey {
    /// Reads PEM or DER of a key or certificate, TPM2B_PUBLIC or TPMT_PUBLIC.
    pub(super) fn read(path: &Path) -> Result<Self, Refusal> {
        let bytes = files::read(path, "AK", AK_CAP_BYTES)?;
        if let Some((label, der)) = files::pem_block(&bytes, &["PUBLIC KEY", "CERTIFICATE"]) {
            return Ok(Self::Spki(if label == "PUBLIC KEY" { der } else { spki_of_certificate(&der)? }));
        }
        if Public::read_area(&bytes).is_ok() {
            return Ok(Self::Tpm(bytes));
        }
        match bytes.split_first_chunk::<2>() {
            Some((size, area)) if usize::from(u16::from_be_bytes(*size)) == area.len() => {
                Public::read_area(area)?;
                Ok(Self::Tpm(area.to_vec()))
            }
            _ if SubjectPublicKeyInfoRef::from_der(&bytes).is_ok() => Ok(Self::Spki(bytes)),
            _ => Ok(Self::Spki(spki_of_certificate(&bytes)?)),
        }
    }

    /// Is it the key of this SubjectPublicKeyInfo?
    pub(super) fn is_spki(&self, spki: &[u8]) -> bool {
        match self {
            Self::Spki(own) => own == spki,
            // a public area of the AK says more than the key; comparing it needs the key alone
            Self::Tpm(area) => Public::read_area(area).is_ok_and(|public| modulus_of(&public, spki)),
        }
    }

    /// The signature as TPMT_SIGNATURE: as it is, or made from the raw value with the key's scheme.
    pub(super) fn tpmt_signature(&self, bytes: &[u8]) -> Result<Vec<u8>, EvidenceDenial> {
        let as_given = Signature::read(bytes).map(|_| bytes.to_vec());
        if as_given.is_ok() {
            return as_given;
        }
        let scheme = self.scheme_of_raw(bytes);
        scheme.and_then(|scheme| wrap(scheme, bytes)).map_or(as_given, Ok)
    }

    /// The key, for the one scheme of this signature or of its own public area.
    pub(super) fn verifying_key(&self, signature: &[u8]) -> Result<(VerifyingKey, SignatureScheme), EvidenceDenial> {
        let given = Signature::read(signature)?.scheme;
        match self {
            Self::Spki(spki) => VerifyingKey::from_spki(spki, given).map(|key| (key, given)),
            Self::Tpm(area) => {
                let public = Public::read_area(area)?;
                evidence::tpm::template::ak_template(&public)?;
                VerifyingKey::from_public(&public).map(|key| (key, given))
            }
        }
    }

    /// The certificate beside the key, if any: of this key, and leading to the roots given.
    pub(super) fn verify_certificate(&self, case: &Case, report: &mut Report) -> Result<(), Refusal> {
        let Some(path) = case.file("ak_cert")? else { return Ok(()) };
        ek_chain::verify_ak_certificate(path, case, self, report)
    }

    fn scheme_of_raw(&self, signature: &[u8]) -> Option<SignatureScheme> {
        match self {
            Self::Tpm(area) => match Public::read_area(area).ok()?.scheme {
                Scheme::Sign(scheme) => Some(scheme),
                Scheme::None | Scheme::Ecdh(_) => None,
            },
            // A raw RSA signature is as long as a modulus; the TPM's usual scheme is taken for it.
            Self::Spki(spki) => {
                let is_rsa = SubjectPublicKeyInfoRef::from_der(spki).is_ok_and(|info| info.algorithm.oid == RSA);
                let is_long = matches!(signature.len(), 256 | 384 | 512);
                match (is_rsa, is_long) {
                    (true, true) => Some(SignatureScheme::RsaSsa(HashAlg::Sha256)),
                    (false, _) => Some(SignatureScheme::EcDsa(HashAlg::Sha256)),
                    (true, false) => None,
                }
            }
        }
    }
}

fn spki_of_certificate(der: &[u8]) -> Result<Vec<u8>, EvidenceDenial> {
    let malformed = |what| EvidenceDenial::Malformed { structure: "AK", offset: 0, what };
    let certificate = x509_cert::Certificate::from_der(der).map_err(|_| malformed("no form of key that is known"))?;
    let spki = certificate.tbs_certificate().subject_public_key_info();
    spki.to_der().map_err(|_| malformed("key cannot be encoded"))
}

/// Is the RSA key of this public area the one in `spki`? Its modulus stands there as it stands here.
fn modulus_of(public: &Public<'_>, spki: &[u8]) -> bool {
    let PublicKey::Rsa { modulus, .. } = &public.key else { return false };
    SubjectPublicKeyInfoRef::from_der(spki)
        .ok()
        .and_then(|info| info.subject_public_key.as_bytes())
        .and_then(|key| Vec::<Uint>::from_der(key).ok())
        .is_some_and(|numbers| numbers.first().is_some_and(|own| own.as_bytes() == *modulus))
}

/// TPMT_SIGNATURE (TPM2 Library Part 2 §11.3.4) around a raw value; `None` when that is not one of the scheme.
fn wrap(scheme: SignatureScheme, raw: &[u8]) -> Option<Vec<u8>> {
    let (alg, values) = match scheme {
        SignatureScheme::RsaSsa(_) => (0x0014u16, vec![raw.to_vec()]),
        SignatureScheme::RsaPss(_) => (0x0016, vec![raw.to_vec()]),
        SignatureScheme::EcDsa(_) => (0x0018, ecdsa_values(raw)?),
    };
    let mut out = [alg.to_be_bytes(), scheme.hash().tpm_id().to_be_bytes()].concat();
    for value in values {
        out.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
        out.extend(value);
    }
    Some(out)
}

/// r and s of an ECDSA-Sig-Value (RFC 3279 §2.2.3), or of both one after the other.
fn ecdsa_values(raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    if matches!(raw.len(), 64 | 96) {
        let (r, s) = raw.split_at_checked(raw.len().div_euclid(2))?;
        return Some(vec![r.to_vec(), s.to_vec()]);
    }
    let values = Vec::<Uint>::from_der(raw).ok().filter(|values| values.len() == 2)?;
    Some(values.iter().map(|value| value.as_bytes().to_vec()).collect())
}
