//! Keys of our records: verification keys as COSE_Key (RFC 9052 §7), and the Ed25519 signing key.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use coset::iana;
use zeroize::Zeroizing;

use super::CoseDenial;
use crate::{
    cbor::{self, Caps},
    digest::Sha256Digest,
};

/// Signature algorithms of keys in our records (RFC 9053 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alg {
    /// Ed25519 (COSE EdDSA, -8).
    Ed25519,
    /// ECDSA P-256 with SHA-256 (COSE ES256, -7).
    Es256,
}

impl Alg {
    pub(super) const fn cose(self) -> iana::Algorithm {
        match self {
            Self::Ed25519 => iana::Algorithm::EdDSA,
            Self::Es256 => iana::Algorithm::ES256,
        }
    }
}

/// First 16 bytes of SHA-256 over the deterministic COSE_Key: enough to find a key, never to trust it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A signature verification key, parsed once. Its form in records is a deterministic COSE_Key.
#[derive(Clone)]
pub struct PublicKey {
    alg: Alg,
    /// Ed25519: 32 bytes; P-256: 65 bytes, uncompressed point.
    raw: Vec<u8>,
    parsed: ParsedPublicKey,
    cose_key: Vec<u8>,
    kid: KeyId,
}

impl PublicKey {
    /// An Ed25519 key from its 32 bytes.
    ///
    /// # Errors
    /// [`CoseDenial::Key`] when the bytes are not a key.
    pub fn ed25519(raw: &[u8]) -> Result<Self, CoseDenial> {
        let key = BTreeMap::from([
            (1i64, ciborium::Value::from(1)),           // kty: OKP
            (-1, ciborium::Value::from(6)),             // crv: Ed25519
            (-2, ciborium::Value::Bytes(raw.to_vec())), // x
        ]);
        Self::build(Alg::Ed25519, raw, &key)
    }

    /// A P-256 key from its uncompressed point, 65 bytes.
    ///
    /// # Errors
    /// [`CoseDenial::Key`] when the bytes are not a point of the curve.
    pub fn p256(point: &[u8]) -> Result<Self, CoseDenial> {
        let cose_key = p256_cose_key_map(point)?;
        Self::build(Alg::Es256, point, &cose_key)
    }

    fn build(alg: Alg, raw: &[u8], key: &BTreeMap<i64, ciborium::Value>) -> Result<Self, CoseDenial> {
        let what = match alg {
            Alg::Ed25519 => "not an Ed25519 public key",
            Alg::Es256 => "not a P-256 point",
        };
        let parsed = match alg {
            Alg::Ed25519 => ParsedPublicKey::new(&signature::ED25519, raw),
            Alg::Es256 => ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, raw),
        }
        .map_err(|_| CoseDenial::Key { what })?;
        let cose_key = cbor::to_vec(key)?;
        let Sha256Digest(hash) = Sha256Digest::of(&cose_key);
        let mut kid = [0u8; 16];
        kid.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Ok(Self { alg, raw: raw.to_vec(), parsed, cose_key, kid: KeyId(kid) })
    }

    /// Reads a deterministic COSE_Key of one of the two kinds.
    ///
    /// # Errors
    /// [`CoseDenial::Key`] for any other key, parameter or encoding.
    pub fn from_cose_key(bytes: &[u8]) -> Result<Self, CoseDenial> {
        let map: BTreeMap<i64, ciborium::Value> = cbor::from_slice(bytes, Caps::bytes(256))?;
        let x = match map.get(&-2) {
            Some(ciborium::Value::Bytes(x)) => x.as_slice(),
            _ => return Err(CoseDenial::Key { what: "no x coordinate" }),
        };
        let key = match map.get(&-3) {
            None => Self::ed25519(x)?,
            Some(ciborium::Value::Bytes(y)) if x.len() == 32 && y.len() == 32 => {
                Self::p256(&[&[4u8][..], x, y].concat())?
            }
            Some(_) => return Err(CoseDenial::Key { what: "y coordinate of another form" }),
        };
        if key.cose_key == bytes {
            Ok(key)
        } else {
            Err(CoseDenial::Key { what: "other parameters than kty, crv and the point" })
        }
    }

    /// Its deterministic COSE_Key.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        &self.cose_key
    }

    /// Its key id.
    #[must_use]
    pub const fn kid(&self) -> KeyId {
        self.kid
    }

    /// Its algorithm.
    #[must_use]
    pub const fn alg(&self) -> Alg {
        self.alg
    }

    /// Raw key: 32 bytes (Ed25519) or the 65-byte point (P-256).
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether `signature` (64 bytes) over `message` is this key's.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.cose_key == other.cose_key
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?} {})", self.alg, self.kid)
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(&self.cose_key))
        } else {
            serializer.serialize_bytes(&self.cose_key)
        }
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let bytes = if deserializer.is_human_readable() {
            hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?
        } else {
            serde_bytes::ByteBuf::deserialize(deserializer)?.into_vec()
        };
        Self::from_cose_key(&bytes).map_err(D::Error::custom)
    }
}

fn p256_cose_key_map(point: &[u8]) -> Result<BTreeMap<i64, ciborium::Value>, CoseDenial> {
    let (Some(4), Some(x), Some(y), 65) = (point.first(), point.get(1..33), point.get(33..65), point.len()) else {
        return Err(CoseDenial::Key { what: "not a 65-byte uncompressed P-256 point" });
    };
    Ok(BTreeMap::from([
        (1i64, ciborium::Value::from(2)),         // kty: EC2
        (-1, ciborium::Value::from(1)),           // crv: P-256
        (-2, ciborium::Value::Bytes(x.to_vec())), // x
        (-3, ciborium::Value::Bytes(y.to_vec())), // y
    ]))
}

/// Deterministic COSE_Key of a P-256 public key given as its 65-byte uncompressed point.
///
/// # Errors
/// [`CoseDenial::Key`] when `point` has another form. Membership in the curve is judged by whoever uses it.
pub fn p256_cose_key(point: &[u8]) -> Result<Vec<u8>, CoseDenial> {
    Ok(cbor::to_vec(&p256_cose_key_map(point)?)?)
}

/// An Ed25519 signing key. No `Debug`, no `Clone`; its document is zeroized when dropped.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Reads a PKCS#8 document (RFC 8410).
    ///
    /// # Errors
    /// [`CoseDenial::Key`] when it holds no Ed25519 key.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, CoseDenial> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map_err(|_| CoseDenial::Key { what: "not an Ed25519 PKCS#8 document" })?;
        Self::from_pair(pair)
    }

    /// The key of a 32-byte seed (RFC 8032 §5.1.5). Randomness is the caller's: this crate draws none.
    ///
    /// # Errors
    /// [`CoseDenial::Key`] when the seed is refused.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, CoseDenial> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| CoseDenial::Key { what: "seed refused" })?;
        Self::from_pair(pair)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Result<Self, CoseDenial> {
        let public = PublicKey::ed25519(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The PKCS#8 document (v1, RFC 8410), zeroized when dropped.
    ///
    /// # Errors
    /// [`CoseDenial::Key`] when the key cannot be written.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, CoseDenial> {
        let document = self.pair.to_pkcs8v1().map_err(|_| CoseDenial::Key { what: "cannot be written as PKCS#8" })?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Its public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Raw Ed25519 signature, 64 bytes. Deterministic (RFC 8032).
    #[must_use]
    pub fn sign_raw(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// Keys that may sign, found by key id.
#[derive(Clone, Debug, Default)]
pub struct KeySet(BTreeMap<KeyId, PublicKey>);

impl KeySet {
    /// The set of `keys`. An empty set verifies nothing.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.kid(), key.clone())).collect())
    }

    /// The key with this id.
    #[must_use]
    pub fn get(&self, kid: &KeyId) -> Option<&PublicKey> {
        self.0.get(kid)
    }

    /// Number of distinct keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
