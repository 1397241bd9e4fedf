//! File signatures in entries: security.ima as evmctl writes it (security/integrity/integrity.h,
//! signature_v2_hdr), checked with keys that an operator gives.

use aws_lc_rs::{
    digest,
    signature::{self, ParsedPublicKey, VerificationAlgorithm},
};
use der::{Decode as _, asn1::ObjectIdentifier};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::{ImaEntry, ImaLog};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

const HEADER_BYTES: usize = 9;
/// EVM_IMA_XATTR_DIGSIG: a signature over the file's digest.
const KIND_DIGEST: u8 = 3;
/// IMA_VERITY_DIGSIG: a signature over the file's fs-verity digest.
const KIND_VERITY: u8 = 6;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const K256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
    K256,
}

/// A public key that file signatures may be made with.
#[derive(Clone, Debug)]
pub struct ImaKey {
    kind: KeyKind,
    spki: Vec<u8>,
    keyid: [u8; 4],
}

impl ImaKey {
    /// A key from a SubjectPublicKeyInfo: RSA, or ECDSA on P-256, P-384, P-521 or secp256k1.
    ///
    /// # Errors
    /// [`EvidenceDenial::Malformed`] when it is none of these.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, EvidenceDenial> {
        let malformed = |what| EvidenceDenial::Malformed { structure: "IMA key", offset: 0, what };
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| malformed("not a SubjectPublicKeyInfo"))?;
        let curve = info.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let kind = match (info.algorithm.oid, curve) {
            (RSA, _) => KeyKind::Rsa,
            (EC, Some(P256)) => KeyKind::P256,
            (EC, Some(P384)) => KeyKind::P384,
            (EC, Some(P521)) => KeyKind::P521,
            (EC, Some(K256)) => KeyKind::K256,
            _ => return Err(malformed("neither RSA nor ECDSA on a curve that is supported")),
        };
        // Without a certificate's subject key identifier, evmctl and the kernel name a key by the end of the
        // SHA-1 of its bits.
        let name = HashAlg::Sha1.hash(&[info.subject_public_key.raw_bytes()]);
        let keyid = name.as_bytes().last_chunk::<4>().copied().unwrap_or_default();
        Ok(Self { kind, spki: spki.to_vec(), keyid })
    }

    /// The key's name in signatures, hexadecimal.
    #[must_use]
    pub fn keyid(&self) -> String {
        hex::encode(self.keyid)
    }

    /// The algorithm for digests of `alg`; `None` for pairs that are not supported.
    fn algorithm(&self, alg: HashAlg) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match (self.kind, alg) {
            (KeyKind::Rsa, HashAlg::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa, HashAlg::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, HashAlg::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (KeyKind::P256, HashAlg::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, HashAlg::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P384, HashAlg::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, HashAlg::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (KeyKind::P521, HashAlg::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
            (KeyKind::K256, HashAlg::Sha256) => &signature::ECDSA_P256K1_SHA256_ASN1,
            _ => return None,
        })
    }
}

pub(super) fn verify(log: &ImaLog<'_>, keys: &[ImaKey]) -> Result<usize, EvidenceDenial> {
    let mut signed = 0usize;
    for entry in &log.entries {
        let Some(bytes) = entry.signature() else { continue };
        verify_one(entry, bytes, keys).map_err(|what| EvidenceDenial::ImaSignature {
            entry: entry.index,
            path: entry.path_escaped(),
            keyid: hex::encode(bytes.get(3..7).unwrap_or(&[])),
            what,
        })?;
        signed = signed.saturating_add(1);
    }
    Ok(signed)
}

fn verify_one(entry: &ImaEntry<'_>, bytes: &[u8], keys: &[ImaKey]) -> Result<(), &'static str> {
    let (header, signature) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or("shorter than its header")?;
    let [kind, version, hash, k0, k1, k2, k3, size_high, size_low] = *header;
    if usize::from(u16::from_be_bytes([size_high, size_low])) != signature.len() {
        return Err("length is not the one in its header");
    }
    let alg = match hash {
        4 => HashAlg::Sha256,
        5 => HashAlg::Sha384,
        6 => HashAlg::Sha512,
        _ => return Err("hash algorithm is not accepted"),
    };
    let file = entry.known_file_digest().filter(|digest| digest.alg() == alg);
    let file = file.ok_or("hash algorithm is not the entry's")?;
    let signed = match (kind, version) {
        (KIND_DIGEST, 2) => file,
        // struct ima_file_id: what kind of digest, of which algorithm, and the digest, hashed.
        (KIND_DIGEST | KIND_VERITY, 3) => alg.hash(&[&[kind, hash], file.as_bytes()]),
        _ => return Err("kind or version is not known"),
    };
    let key = keys.iter().find(|key| key.keyid == [k0, k1, k2, k3]).ok_or("key is not among the given ones")?;
    let algorithm = key.algorithm(alg).ok_or("hash algorithm does not go with the key")?;
    let parsed = ParsedPublicKey::new(algorithm, &key.spki).map_err(|_| "key does not parse")?;
    let digest = imported(&signed).ok_or("hash algorithm is not accepted")?;
    parsed.verify_digest_sig(&digest, signature).map_err(|_| "does not verify")
}

fn imported(signed: &Digest) -> Option<digest::Digest> {
    let algorithm = match signed.alg() {
        HashAlg::Sha1 => return None,
        HashAlg::Sha256 => &digest::SHA256,
        HashAlg::Sha384 => &digest::SHA384,
        HashAlg::Sha512 => &digest::SHA512,
    };
    digest::Digest::import_less_safe(signed.as_bytes(), algorithm).ok()
}
