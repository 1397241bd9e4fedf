//! Signing keys: RSA-4096 with PSS (the fake AMD's CAs), P-384 (its leaves) and P-256 (the fake Intel).

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PSS_SHA384,
    },
};
use der::oid::ObjectIdentifier;

use crate::{SimulatorError, asn1};

/// RSA-4096; signs RSASSA-PSS with SHA-384, MGF1-SHA384 and a salt of 48 bytes (the form of AMD's ARK and ASK).
#[derive(Debug)]
pub struct RsaKey(rsa::KeyPair);

impl RsaKey {
    /// From PKCS#8 DER.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SimulatorError> {
        rsa::KeyPair::from_pkcs8(pkcs8).map(Self).map_err(|_| SimulatorError::Key("RSA PKCS#8"))
    }

    /// A new key and its PKCS#8 DER: takes seconds.
    pub fn generate() -> Result<(Self, Vec<u8>), SimulatorError> {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        let pair =
            rsa::KeyPair::generate(rsa::KeySize::Rsa4096).map_err(|_| SimulatorError::Key("RSA-4096 generation"))?;
        let pkcs8: Pkcs8V1Der<'static> = pair.as_der().map_err(|_| SimulatorError::Key("RSA PKCS#8"))?;
        let pkcs8 = pkcs8.as_ref().to_vec();
        Ok((Self(pair), pkcs8))
    }

    /// SubjectPublicKeyInfo DER: rsaEncryption.
    pub fn public_key_info(&self) -> Vec<u8> {
        let algorithm = asn1::sequence(&[asn1::oid(RSA_ENCRYPTION), asn1::null()]);
        asn1::sequence(&[algorithm, asn1::bits(self.0.public_key().as_ref())])
    }

    /// Key identifier: SHA-1 of the PKCS#1 public key.
    pub fn key_id(&self) -> Vec<u8> {
        sha1(self.0.public_key().as_ref())
    }

    /// 512 bytes of RSASSA-PSS signature.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| SimulatorError::Signing)?;
        Ok(signature)
    }
}

/// The two curves in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1, signs with SHA-256.
    P256,
    /// secp384r1, signs with SHA-384.
    P384,
}

/// An ECDSA key derived from a seed: the same seed gives the same key.
#[derive(Debug)]
pub struct EcKey {
    pair: EcdsaKeyPair,
    curve: Curve,
}

impl EcKey {
    /// The key whose scalar is the hash of `parts`, each length-prefixed (SHA-256 for P-256, SHA-384 for P-384).
    pub fn derive(curve: Curve, parts: &[&[u8]]) -> Result<Self, SimulatorError> {
        let (hash, name, signing) = match curve {
            Curve::P256 => (&digest::SHA256, PRIME256V1, &ECDSA_P256_SHA256_FIXED_SIGNING),
            Curve::P384 => (&digest::SHA384, SECP384R1, &ECDSA_P384_SHA384_FIXED_SIGNING),
        };
        let mut context = digest::Context::new(hash);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let scalar = context.finish();
        let private = asn1::sequence(&[asn1::small(1), asn1::octets(scalar.as_ref())]);
        let algorithm = asn1::sequence(&[asn1::oid(EC_PUBLIC_KEY), asn1::oid(name)]);
        let pkcs8 = asn1::sequence(&[asn1::small(0), algorithm, asn1::octets(&private)]);
        let pair = EcdsaKeyPair::from_pkcs8(signing, &pkcs8).map_err(|_| SimulatorError::Key("derived EC key"))?;
        Ok(Self { pair, curve })
    }

    /// Which curve it is on.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The uncompressed point: 0x04, x, y.
    pub fn public_point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// SubjectPublicKeyInfo DER: id-ecPublicKey with the named curve.
    pub fn public_key_info(&self) -> Vec<u8> {
        let name = match self.curve {
            Curve::P256 => PRIME256V1,
            Curve::P384 => SECP384R1,
        };
        let algorithm = asn1::sequence(&[asn1::oid(EC_PUBLIC_KEY), asn1::oid(name)]);
        asn1::sequence(&[algorithm, asn1::bits(self.public_point())])
    }

    /// Key identifier: SHA-1 of the point.
    pub fn key_id(&self) -> Vec<u8> {
        sha1(self.public_point())
    }

    /// r then s, each big-endian and as wide as the curve.
    pub fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| SimulatorError::Signing)?;
        Ok(signature.as_ref().to_vec())
    }

    /// ECDSA-Sig-Value DER, as certificates carry it.
    pub fn sign_der(&self, message: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        let fixed = self.sign_fixed(message)?;
        let (r, s) = fixed.split_at(fixed.len() / 2);
        Ok(asn1::sequence(&[asn1::unsigned(r), asn1::unsigned(s)]))
    }
}

/// Who signs a certificate or a CRL, and what its AlgorithmIdentifier says.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// RSASSA-PSS SHA-384 with the trailer field written out, as in AMD's CAs and in leaves before 2024.
    RsaPssTrailer(&'a RsaKey),
    /// RSASSA-PSS SHA-384 with the trailer field left to its default, as in later leaves.
    RsaPss(&'a RsaKey),
    /// ECDSA with the hash of its curve.
    Ec(&'a EcKey),
}

impl Signer<'_> {
    /// AlgorithmIdentifier DER.
    pub fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::RsaPssTrailer(_) => pss_algorithm(true),
            Self::RsaPss(_) => pss_algorithm(false),
            Self::Ec(key) => asn1::sequence(&[asn1::oid(match key.curve {
                Curve::P256 => ECDSA_WITH_SHA256,
                Curve::P384 => ECDSA_WITH_SHA384,
            })]),
        }
    }

    /// The signature in the form that stands in a certificate.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        match self {
            Self::RsaPssTrailer(key) | Self::RsaPss(key) => key.sign(message),
            Self::Ec(key) => key.sign_der(message),
        }
    }
}

/// RSASSA-PSS-params (RFC 4055, 3.1) with SHA-384, MGF1-SHA384, salt 48.
fn pss_algorithm(trailer: bool) -> Vec<u8> {
    let hash = asn1::sequence(&[asn1::oid(SHA384), asn1::null()]);
    let mask = asn1::sequence(&[asn1::oid(MGF1), hash.clone()]);
    let mut parameters = vec![asn1::explicit(0, &hash), asn1::explicit(1, &mask), asn1::explicit(2, &asn1::small(48))];
    if trailer {
        parameters.push(asn1::explicit(3, &asn1::small(1)));
    }
    asn1::sequence(&[asn1::oid(RSASSA_PSS), asn1::sequence(&parameters)])
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
