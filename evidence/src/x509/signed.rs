//! What certificates and revocation lists have in common: something signed, by an algorithm, into a bit string
//! (RFC 5280 §4.1.1, §5.1.1).

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use der::{
    Decode as _, Reader as _, SliceReader, Tag,
    asn1::{BitStringRef, ObjectIdentifier},
};
use x509_cert::spki::AlgorithmIdentifierRef;

use super::{
    Certificate, SubjectKey,
    certificate::{CURVE_P256, CURVE_P384},
};

/// The outer structure. The signature is over the bytes as received.
#[derive(Clone, Debug)]
pub(super) struct Signed<'a> {
    pub(super) to_be_signed: &'a [u8],
    /// AlgorithmIdentifier, as it stands.
    pub(super) algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn decode(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let (to_be_signed, algorithm, signature) = reader.sequence(|body| {
            Ok::<_, der::Error>((body.tlv_bytes()?, body.tlv_bytes()?, BitStringRef::decode(body)?))
        })?;
        reader.finish()?;
        let signature = signature.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
        AlgorithmIdentifierRef::from_der(algorithm)?;
        Ok(Self { to_be_signed, algorithm, signature })
    }

    /// Does `issuer`'s key verify the signature? Says why not.
    pub(super) fn is_signed_by(&self, issuer: &Certificate<'_>) -> Result<(), &'static str> {
        let algorithm = self.verification_algorithm(issuer)?;
        let key = ParsedPublicKey::new(algorithm, issuer.public_key_info).map_err(|_| "issuer's key is unusable")?;
        key.verify_sig(self.to_be_signed, self.signature).map_err(|_| "signature does not verify")
    }

    fn verification_algorithm(
        &self,
        issuer: &Certificate<'_>,
    ) -> Result<&'static dyn VerificationAlgorithm, &'static str> {
        let identifier = AlgorithmIdentifierRef::from_der(self.algorithm).map_err(|_| "unknown signature algorithm")?;
        let rsa: &'static dyn VerificationAlgorithm = match identifier.oid {
            SHA256_WITH_RSA => &signature::RSA_PKCS1_2048_8192_SHA256,
            SHA384_WITH_RSA => &signature::RSA_PKCS1_2048_8192_SHA384,
            SHA512_WITH_RSA => &signature::RSA_PKCS1_2048_8192_SHA512,
            RSASSA_PSS if PSS_SHA384_SALT48.contains(&self.algorithm) => &signature::RSA_PSS_2048_8192_SHA384,
            RSASSA_PSS => return Err("RSA-PSS other than SHA-384 with 48 bytes of salt"),
            SHA1_WITH_RSA | ECDSA_WITH_SHA1 => return Err("SHA-1 is not accepted"),
            oid @ (ECDSA_WITH_SHA256 | ECDSA_WITH_SHA384 | ECDSA_WITH_SHA512) => return ecdsa_algorithm(oid, issuer),
            _ => return Err("unknown signature algorithm"),
        };
        match issuer.subject_key() {
            Ok(SubjectKey::Rsa { .. }) => Ok(rsa),
            Ok(SubjectKey::Ecc { .. }) | Err(_) => Err("RSA signature under a key that is not RSA"),
        }
    }
}

fn ecdsa_algorithm(
    oid: ObjectIdentifier,
    issuer: &Certificate<'_>,
) -> Result<&'static dyn VerificationAlgorithm, &'static str> {
    let Ok(SubjectKey::Ecc { curve, .. }) = issuer.subject_key() else {
        return Err("ECDSA signature under a key that is not on a curve");
    };
    match (curve, oid) {
        (CURVE_P256, ECDSA_WITH_SHA256) => Ok(&signature::ECDSA_P256_SHA256_ASN1),
        (CURVE_P256, ECDSA_WITH_SHA384) => Ok(&signature::ECDSA_P256_SHA384_ASN1),
        (CURVE_P256, ECDSA_WITH_SHA512) => Ok(&signature::ECDSA_P256_SHA512_ASN1),
        (CURVE_P384, ECDSA_WITH_SHA256) => Ok(&signature::ECDSA_P384_SHA256_ASN1),
        (CURVE_P384, ECDSA_WITH_SHA384) => Ok(&signature::ECDSA_P384_SHA384_ASN1),
        (CURVE_P384, ECDSA_WITH_SHA512) => Ok(&signature::ECDSA_P384_SHA512_ASN1),
        (CURVE_P521, ECDSA_WITH_SHA256) => Ok(&signature::ECDSA_P521_SHA256_ASN1),
        (CURVE_P521, ECDSA_WITH_SHA384) => Ok(&signature::ECDSA_P521_SHA384_ASN1),
        (CURVE_P521, ECDSA_WITH_SHA512) => Ok(&signature::ECDSA_P521_SHA512_ASN1),
        _ => Err("curve is not accepted"),
    }
}

const SHA1_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_WITH_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const CURVE_P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// AlgorithmIdentifier of RSASSA-PSS with SHA-384, MGF1 over it and 48 bytes of salt (RFC 4055 §3.1), without the
/// default trailerField as DER has it, and with it as AMD's key service writes it.
const PSS_SHA384_SALT48: [&[u8]; 2] = [
    &[
        0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x34, 0xa0, 0x0f, 0x30,
        0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a,
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48,
        0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30,
    ],
    &[
        0x30, 0x46, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30,
        0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c, 0x30, 0x1a,
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48,
        0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01, 0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
    ],
];
