//! TPMT_SIGNATURE (TPM2 Library Part 2 §11.3.4) and its verification with a key parsed once.

use aws_lc_rs::{
    rsa::PublicKeyComponents,
    signature::{self, ParsedPublicKey, RsaParameters, RsaPssSaltLength, VerificationAlgorithm},
};

use super::{
    attest::{ATTEST_CAP_BYTES, Attest},
    public::{Curve, Public, PublicKey, Scheme, SignatureScheme},
    wire::Reader,
};
use crate::{EvidenceDenial, digest::HashAlg};

/// A TPMT_SIGNATURE, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    /// Scheme and hash.
    pub scheme: SignatureScheme,
    value: SignatureValue<'a>,
}

#[derive(Clone, Copy, Debug)]
enum SignatureValue<'a> {
    Rsa(&'a [u8]),
    Ecc { r: &'a [u8], s: &'a [u8] },
}

impl<'a> Signature<'a> {
    /// Reads exactly one TPMT_SIGNATURE by RSASSA, RSAPSS or ECDSA with SHA-256 or SHA-384.
    ///
    /// # Errors
    /// A denial for any other scheme or hash, and for bytes left over.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        let mut reader = Reader::new("TPMT_SIGNATURE", bytes);
        let alg = reader.u16("sigAlg")?;
        let scheme = SignatureScheme::read_after(alg, &mut reader)?;
        let value = match scheme {
            SignatureScheme::RsaSsa(_) | SignatureScheme::RsaPss(_) => {
                SignatureValue::Rsa(reader.sized("sig", CAP_RSA_BYTES)?)
            }
            SignatureScheme::EcDsa(_) => SignatureValue::Ecc {
                r: reader.sized("signatureR", CAP_SCALAR_BYTES)?,
                s: reader.sized("signatureS", CAP_SCALAR_BYTES)?,
            },
        };
        reader.finish()?;
        Ok(Self { scheme, value })
    }
}

/// A public key that verifies signatures of exactly one scheme. Parsed once, used often.
pub struct VerifyingKey {
    scheme: SignatureScheme,
    parsed: Parsed,
}

enum Parsed {
    One(ParsedPublicKey),
    /// RSAPSS: a TPM salts with the digest's length or with all the room there is (TPM2 Library Part 1 §B.7,
    /// which changed between revisions), and the signature does not say which.
    Pss {
        by_digest: ParsedPublicKey,
        by_room: ParsedPublicKey,
    },
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// A TPMS_ATTEST whose signature a [`VerifyingKey`] verified. Made only by [`VerifyingKey::verify`].
#[derive(Clone, Copy, Debug)]
pub struct SignedAttest<'a> {
    attest: Attest<'a>,
    scheme: SignatureScheme,
}

impl<'a> SignedAttest<'a> {
    /// What was signed.
    #[must_use]
    pub const fn attest(&self) -> &Attest<'a> {
        &self.attest
    }

    /// How it was signed.
    #[must_use]
    pub const fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

impl VerifyingKey {
    /// The key of a public area whose scheme is fixed in it.
    ///
    /// # Errors
    /// [`EvidenceDenial::KeyUnusable`] when the scheme is not explicit, does not fit the key, or the point or
    /// modulus is not one.
    pub fn from_public(public: &Public<'_>) -> Result<Self, EvidenceDenial> {
        let Scheme::Sign(scheme) = public.scheme else {
            return Err(EvidenceDenial::KeyUnusable { what: "no signing scheme fixed in the key" });
        };
        match (&public.key, scheme) {
            (PublicKey::Rsa { modulus, .. }, SignatureScheme::RsaSsa(_) | SignatureScheme::RsaPss(_)) => {
                let components = PublicKeyComponents { n: *modulus, e: &PublicKey::rsa_exponent()[..] };
                Self::rsa(scheme, |params| components.to_parsed_public_key(params).ok())
            }
            (key @ PublicKey::Ecc { curve, .. }, SignatureScheme::EcDsa(hash)) => {
                let point = key.uncompressed_point().unwrap_or_default();
                Self::ecdsa(scheme, ecdsa_algorithm(*curve, hash), &point)
            }
            (PublicKey::Rsa { .. }, SignatureScheme::EcDsa(_))
            | (PublicKey::Ecc { .. }, SignatureScheme::RsaSsa(_) | SignatureScheme::RsaPss(_)) => {
                Err(EvidenceDenial::KeyUnusable { what: "scheme of another kind of key" })
            }
        }
    }

    /// A key given as SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), to be used with `scheme` only.
    ///
    /// For judging saved evidence whose key came without its public area. RSA from 2048 bits, P-256 or P-384.
    ///
    /// # Errors
    /// [`EvidenceDenial::KeyUnusable`] when it is not such a key or the scheme is for another kind.
    pub fn from_spki(der: &[u8], scheme: SignatureScheme) -> Result<Self, EvidenceDenial> {
        match scheme {
            SignatureScheme::RsaSsa(_) | SignatureScheme::RsaPss(_) => {
                Self::rsa(scheme, |params| ParsedPublicKey::new(params, der).ok())
            }
            SignatureScheme::EcDsa(hash) => [Curve::P256, Curve::P384]
                .into_iter()
                .find_map(|curve| Self::ecdsa(scheme, ecdsa_algorithm(curve, hash), der).ok())
                .ok_or(EvidenceDenial::KeyUnusable { what: "not a P-256 or P-384 key" }),
        }
    }

    fn rsa(
        scheme: SignatureScheme,
        parse: impl Fn(&'static RsaParameters) -> Option<ParsedPublicKey>,
    ) -> Result<Self, EvidenceDenial> {
        let unusable = EvidenceDenial::KeyUnusable { what: "not an RSA key" };
        let sha384 = scheme.hash() == HashAlg::Sha384;
        let parsed = match scheme {
            SignatureScheme::RsaPss(_) => {
                let (by_digest, by_room) = if sha384 {
                    (&signature::RSA_PSS_2048_8192_SHA384, &PSS_SHA384_BY_ROOM)
                } else {
                    (&signature::RSA_PSS_2048_8192_SHA256, &PSS_SHA256_BY_ROOM)
                };
                parse(by_digest).zip(parse(by_room)).map(|(by_digest, by_room)| Parsed::Pss { by_digest, by_room })
            }
            SignatureScheme::RsaSsa(_) | SignatureScheme::EcDsa(_) => {
                let params = if sha384 {
                    &signature::RSA_PKCS1_2048_8192_SHA384
                } else {
                    &signature::RSA_PKCS1_2048_8192_SHA256
                };
                parse(params).map(Parsed::One)
            }
        };
        Ok(Self { scheme, parsed: parsed.ok_or(unusable)? })
    }

    fn ecdsa(
        scheme: SignatureScheme,
        algorithm: &'static dyn VerificationAlgorithm,
        key: &[u8],
    ) -> Result<Self, EvidenceDenial> {
        let parsed = ParsedPublicKey::new(algorithm, key)
            .map_err(|_| EvidenceDenial::KeyUnusable { what: "not a point of the curve" })?;
        Ok(Self { scheme, parsed: Parsed::One(parsed) })
    }

    /// The scheme it verifies.
    #[must_use]
    pub const fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    /// Verifies `signature` over `message` and reads the message (T5).
    ///
    /// # Errors
    /// [`EvidenceDenial::Malformed`] when either is not the structure it should be,
    /// [`EvidenceDenial::SchemeMismatch`] when the signature is by another scheme than the key's, and
    /// [`EvidenceDenial::SignatureInvalid`] when it does not verify.
    pub fn verify<'a>(&self, message: &'a [u8], signature: &[u8]) -> Result<SignedAttest<'a>, EvidenceDenial> {
        if message.len() > ATTEST_CAP_BYTES {
            let (got_bytes, cap_bytes) = (message.len(), ATTEST_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "TPMS_ATTEST", got_bytes, cap_bytes });
        }
        let attest = Attest::read(message)?;
        let signature = Signature::read(signature)?;
        if signature.scheme != self.scheme {
            return Err(EvidenceDenial::SchemeMismatch { got: signature.scheme, want: self.scheme });
        }
        if self.signed(message, &signature) {
            Ok(SignedAttest { attest, scheme: self.scheme })
        } else {
            Err(EvidenceDenial::SignatureInvalid { over: "TPMS_ATTEST" })
        }
    }

    fn signed(&self, message: &[u8], signature: &Signature<'_>) -> bool {
        match (&self.parsed, signature.value) {
            (Parsed::One(key), SignatureValue::Rsa(value)) => key.verify_sig(message, value).is_ok(),
            (Parsed::Pss { by_digest, by_room }, SignatureValue::Rsa(value)) => {
                by_digest.verify_sig(message, value).is_ok() || by_room.verify_sig(message, value).is_ok()
            }
            (Parsed::One(key), SignatureValue::Ecc { r, s }) => {
                let der = DerSignature::new(r, s);
                der.is_some_and(|der| key.verify_sig(message, der.as_bytes()).is_ok())
            }
            (Parsed::Pss { .. }, SignatureValue::Ecc { .. }) => false,
        }
    }
}

fn ecdsa_algorithm(curve: Curve, hash: HashAlg) -> &'static dyn VerificationAlgorithm {
    match (curve, hash == HashAlg::Sha384) {
        (Curve::P256, false) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, true) => &signature::ECDSA_P256_SHA384_ASN1,
        (Curve::P384, false) => &signature::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, true) => &signature::ECDSA_P384_SHA384_ASN1,
    }
}

/// ECDSA-Sig-Value (RFC 3279 §2.2.3) made from the TPM's r and s, whatever padding those carry.
struct DerSignature {
    bytes: [u8; CAP_DER_BYTES],
    len: usize,
}

impl DerSignature {
    fn new(r: &[u8], s: &[u8]) -> Option<Self> {
        let (r, s) = (DerInteger::new(r)?, DerInteger::new(s)?);
        let content_len = r.len().checked_add(s.len())?;
        // P-384 at most: 2 × (2 + 1 + 48) = 102, so the short length form always does
        let head = [&[0x30, u8::try_from(content_len).ok().filter(|len| *len < 0x80)?][..]];
        let parts = head.into_iter().chain(r.parts()).chain(s.parts());
        let mut out = Self { bytes: [0; CAP_DER_BYTES], len: 0 };
        for part in parts {
            let end = out.len.checked_add(part.len())?;
            out.bytes.get_mut(out.len..end)?.copy_from_slice(part);
            out.len = end;
        }
        Some(out)
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }
}

/// A positive INTEGER: head with or without the zero that keeps it positive, and the digits.
struct DerInteger<'a> {
    head: [u8; 3],
    head_len: usize,
    digits: &'a [u8],
}

impl<'a> DerInteger<'a> {
    /// `None` for zero and for what no curve here can have.
    fn new(value: &'a [u8]) -> Option<Self> {
        let start = value.iter().position(|b| *b != 0)?;
        let digits = value.get(start..).filter(|d| d.len() <= CAP_SCALAR_BYTES)?;
        let pad = usize::from(digits.first().is_some_and(|b| b & 0x80 != 0));
        let len = u8::try_from(digits.len().checked_add(pad)?).ok()?;
        Some(Self { head: [0x02, len, 0], head_len: pad.checked_add(2)?, digits })
    }

    fn len(&self) -> usize {
        self.head_len.saturating_add(self.digits.len())
    }

    fn parts(&self) -> [&[u8]; 2] {
        [self.head.get(..self.head_len).unwrap_or(&[]), self.digits]
    }
}

static PSS_SHA256_BY_ROOM: RsaParameters =
    signature::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
static PSS_SHA384_BY_ROOM: RsaParameters =
    signature::RSA_PSS_2048_8192_SHA384.with_pss_salt_length(RsaPssSaltLength::Max);
const CAP_RSA_BYTES: usize = 512; // RSA-4096
const CAP_SCALAR_BYTES: usize = 48; // P-384
const CAP_DER_BYTES: usize = 104;
