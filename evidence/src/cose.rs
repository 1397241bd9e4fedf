//! COSE_Sign1 (RFC 9052 §4.2), read strictly: tag 18, deterministic bytes, one protected header map of
//! exactly {alg, content type, kid}, nothing unprotected, payload attached.
//!
//! The algorithm comes from the key's record, never from the header; the header must agree. The external
//! AAD names purpose, domain and version, so that a statement of one kind or domain is never one of another.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use coset::{
    CborSerializable as _, CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _,
    iana::{self, EnumI64 as _},
};
use zeroize::Zeroizing;

use crate::{
    cbor::{self, Caps, CborError},
    digest::Sha256Digest,
    names::DomainName,
};

/// Longest COSE_Sign1 that is read where no smaller cap is named, in bytes.
pub const STATEMENT_CAP_BYTES: usize = 4 << 20;

/// Version of the signing context, last part of the external AAD.
const CONTEXT_VERSION: &[u8] = b"1";

/// What a signature is for. A signature made for one purpose never verifies for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::EnumIter)]
pub enum Purpose {
    /// Authorization artifact, by a domain's issuer key.
    Artifact,
    /// Attestation Result (EAR), by a domain's issuer key.
    AttestationResult,
    /// Reference value set, by policy-authority keys.
    ReferenceValues,
    /// Policy set, by policy-authority keys.
    PolicySet,
    /// Trust bundle, by policy-authority keys.
    TrustBundle,
    /// Governance state, by the issuer key.
    GovernanceState,
    /// Threshold-signed operator statement, by policy-authority keys.
    Statement,
    /// Revocation, by the issuer key; a threshold-signed one is a [`Purpose::Statement`].
    Revocation,
    /// Lineage record of a domain, by its issuer key.
    LineageRecord,
    /// Intent, by a node's record key.
    Intent,
    /// Halt record, by a node's record key.
    HaltRecord,
    /// End record, by a node's record key.
    EndRecord,
}

impl Purpose {
    /// The content type header, also the first part of the external AAD.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Artifact => "application/attestd-artifact+cbor",
            // RFC 9782 §4; its eat_profile parameter stays in the claim: with a profile URI, which has a slash, the
            // header could be written but no longer be read by coset.
            Self::AttestationResult => "application/eat+cwt",
            Self::ReferenceValues => "application/attestd-reference-values+cbor",
            Self::PolicySet => "application/attestd-policy-set+cbor",
            Self::TrustBundle => "application/attestd-trust-bundle+cbor",
            Self::GovernanceState => "application/attestd-governance-state+cbor",
            Self::Statement => "application/attestd-statement+cbor",
            Self::Revocation => "application/attestd-revocation+cbor",
            Self::LineageRecord => "application/attestd-lineage-record+cbor",
            Self::Intent => "application/attestd-intent+cbor",
            Self::HaltRecord => "application/attestd-halt-record+cbor",
            Self::EndRecord => "application/attestd-end-record+cbor",
        }
    }
}

/// Why a COSE_Sign1 is not a statement we accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseDenial {
    /// Not deterministic CBOR, or beyond its caps.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Not a tagged COSE_Sign1 of the one shape we write.
    #[error("not a COSE_Sign1 in the accepted form: {what}")]
    Form {
        /// Which rule.
        what: &'static str,
    },
    /// The content type names another purpose.
    #[error("COSE content type is not {wanted}")]
    Purpose {
        /// The purpose that was asked for.
        wanted: &'static str,
    },
    /// No key with this key id may sign here.
    #[error("no accepted key has key id {kid}")]
    UnknownKey {
        /// The key id in the header, hexadecimal.
        kid: String,
    },
    /// The header's algorithm is not the key's.
    #[error("COSE algorithm {got} in the header, the key's is {wanted}")]
    Algorithm {
        /// COSE algorithm number in the header.
        got: i64,
        /// COSE algorithm number of the key.
        wanted: i64,
    },
    /// The signature does not verify.
    #[error("COSE signature does not verify under key {kid}")]
    Signature {
        /// Key id, hexadecimal.
        kid: String,
    },
    /// A public key is not one of the two kinds we use.
    #[error("not an accepted COSE_Key: {what}")]
    Key {
        /// Which rule.
        what: &'static str,
    },
}

/// Signature algorithms of keys in our records (RFC 9053 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alg {
    /// Ed25519 (COSE EdDSA, -8).
    Ed25519,
    /// ECDSA P-256 with SHA-256 (COSE ES256, -7).
    Es256,
}

impl Alg {
    const fn cose(self) -> iana::Algorithm {
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

/// A payload whose signature verified.
#[derive(Clone, Debug)]
pub struct Signed {
    payload: Vec<u8>,
    signer: KeyId,
}

impl Signed {
    /// The signed bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whose key signed.
    #[must_use]
    pub const fn signer(&self) -> KeyId {
        self.signer
    }
}

/// External AAD: purpose, domain and context version, each preceded by its length (8 bytes, big-endian).
fn external_aad(purpose: Purpose, domain: &DomainName) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in [purpose.content_type().as_bytes(), domain.as_str().as_bytes(), CONTEXT_VERSION] {
        aad.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

/// Signs `payload` for `purpose` within `domain`. Same inputs, same bytes.
///
/// # Errors
/// [`CoseDenial::Form`] when the structure cannot be encoded.
pub fn sign1(purpose: Purpose, domain: &DomainName, payload: &[u8], key: &SigningKey) -> Result<Vec<u8>, CoseDenial> {
    let protected = HeaderBuilder::new()
        .algorithm(key.public.alg.cose())
        .content_type(purpose.content_type().to_owned())
        .key_id(key.public.kid.0.to_vec())
        .build();
    let unsigned = CoseSign1Builder::new().protected(protected).payload(payload.to_vec());
    let signed = unsigned.create_signature(&external_aad(purpose, domain), |message| key.sign_raw(message)).build();
    signed.to_tagged_vec().map_err(|_| CoseDenial::Form { what: "cannot be encoded" })
}

/// Verifies a COSE_Sign1 for `purpose` within `domain` by one of `keys`, at most [`STATEMENT_CAP_BYTES`] long.
///
/// # Errors
/// The first rule that the bytes break.
pub fn verify1(purpose: Purpose, domain: &DomainName, bytes: &[u8], keys: &KeySet) -> Result<Signed, CoseDenial> {
    let message = read(bytes)?;
    let (kid, key) = admitted(&message, purpose, keys)?;
    let payload = message.payload.clone().unwrap_or_default();
    message
        .verify_signature(
            &external_aad(purpose, domain),
            |signature, data| {
                if key.verifies(data, signature) { Ok(()) } else { Err(()) }
            },
        )
        .map_err(|()| CoseDenial::Signature { kid: kid.to_string() })?;
    Ok(Signed { payload, signer: kid })
}

/// The payload of a COSE_Sign1 in the accepted form, its signature NOT verified: only to find out which
/// domain or key a statement claims, before [`verify1`] is asked about that claim.
///
/// # Errors
/// The first rule of form that the bytes break.
pub fn claimed_payload(bytes: &[u8]) -> Result<Vec<u8>, CoseDenial> {
    read(bytes)?.payload.ok_or(CoseDenial::Form { what: "payload detached" })
}

/// Checks the outer form: one canonical tagged COSE_Sign1 that this module would have written.
fn read(bytes: &[u8]) -> Result<CoseSign1, CoseDenial> {
    cbor::inspect(bytes, Caps::bytes(STATEMENT_CAP_BYTES))?;
    let message =
        CoseSign1::from_tagged_slice(bytes).map_err(|_| CoseDenial::Form { what: "not a tagged COSE_Sign1" })?;
    if !message.unprotected.is_empty() {
        return Err(CoseDenial::Form { what: "unprotected headers" });
    }
    if message.payload.is_none() {
        return Err(CoseDenial::Form { what: "payload detached" });
    }
    // The bstr around the protected map hides it from the walk above; re-encoding shows every other form.
    let original = message.protected.original_data.clone().unwrap_or_default();
    cbor::inspect(&original, Caps::bytes(512))?;
    let rewritten =
        message.protected.header.clone().to_vec().map_err(|_| CoseDenial::Form { what: "protected headers" })?;
    let same = cbor::from_slice::<ciborium::Value>(&original, Caps::bytes(512))?
        == ciborium::from_reader::<ciborium::Value, _>(rewritten.as_slice())
            .map_err(|_| CoseDenial::Form { what: "protected headers" })?;
    if same { Ok(message) } else { Err(CoseDenial::Form { what: "protected headers" }) }
}

fn admitted<'k>(message: &CoseSign1, purpose: Purpose, keys: &'k KeySet) -> Result<(KeyId, &'k PublicKey), CoseDenial> {
    let header = &message.protected.header;
    let only_ours = header.crit.is_empty()
        && header.iv.is_empty()
        && header.partial_iv.is_empty()
        && header.counter_signatures.is_empty()
        && header.rest.is_empty();
    if !only_ours {
        return Err(CoseDenial::Form { what: "headers other than alg, content type and kid" });
    }
    let wanted = purpose.content_type();
    if header.content_type != Some(coset::ContentType::Text(wanted.to_owned())) {
        return Err(CoseDenial::Purpose { wanted });
    }
    let kid = <[u8; 16]>::try_from(header.key_id.as_slice())
        .map(KeyId)
        .map_err(|_| CoseDenial::Form { what: "kid is not 16 bytes" })?;
    let key = keys.get(&kid).ok_or_else(|| CoseDenial::UnknownKey { kid: kid.to_string() })?;
    let wanted = key.alg.cose();
    match &header.alg {
        Some(coset::RegisteredLabelWithPrivate::Assigned(got)) if *got == wanted => Ok((kid, key)),
        Some(coset::RegisteredLabelWithPrivate::Assigned(got)) => {
            Err(CoseDenial::Algorithm { got: got.to_i64(), wanted: wanted.to_i64() })
        }
        _ => Err(CoseDenial::Form { what: "alg missing or private" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&[n; 32]).unwrap()
    }

    fn domain(name: &str) -> DomainName {
        DomainName::new(name).unwrap()
    }

    fn verify(bytes: &[u8]) -> Result<Signed, CoseDenial> {
        verify1(Purpose::Artifact, &domain("a.example"), bytes, &KeySet::new([key(1).public()]))
    }

    fn genuine() -> Vec<u8> {
        sign1(Purpose::Artifact, &domain("a.example"), b"payload", &key(1)).unwrap()
    }

    #[test]
    fn a_genuine_statement_verifies_and_is_reproduced_bit_for_bit() {
        let signed = verify(&genuine()).unwrap();
        assert_eq!(signed.payload(), b"payload");
        assert_eq!(signed.signer(), key(1).public().kid());
        assert_eq!(genuine(), genuine());
    }

    #[test]
    fn a_statement_of_every_purpose_can_be_read_back_and_only_as_that() {
        use strum::IntoEnumIterator as _;
        let keys = KeySet::new([key(1).public()]);
        for purpose in Purpose::iter() {
            let bytes = sign1(purpose, &domain("a.example"), b"payload", &key(1)).unwrap();
            for read_as in Purpose::iter() {
                let read = verify1(read_as, &domain("a.example"), &bytes, &keys);
                assert_eq!(read.is_ok(), read_as == purpose, "{purpose:?} read as {read_as:?}: {read:?}");
            }
        }
    }

    #[test]
    fn another_purpose_domain_or_key_is_refused() {
        let keys = KeySet::new([key(1).public()]);
        let other_domain = verify1(Purpose::Artifact, &domain("b.example"), &genuine(), &keys);
        assert!(matches!(other_domain, Err(CoseDenial::Signature { .. })));
        let other_purpose = verify1(Purpose::PolicySet, &domain("a.example"), &genuine(), &keys);
        assert!(matches!(other_purpose, Err(CoseDenial::Purpose { .. })));
        let nobody = verify1(Purpose::Artifact, &domain("a.example"), &genuine(), &KeySet::default());
        assert!(matches!(nobody, Err(CoseDenial::UnknownKey { .. })));
    }

    #[test]
    fn every_single_bit_flip_and_truncation_is_refused() {
        let bytes = genuine();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(verify(&bytes[..length]).is_err(), "length {length}");
        }
        assert!(verify(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn headers_other_than_ours_are_refused_even_when_signed() {
        let aad = external_aad(Purpose::Artifact, &domain("a.example"));
        let ours = || {
            HeaderBuilder::new()
                .algorithm(iana::Algorithm::EdDSA)
                .content_type(Purpose::Artifact.content_type().to_owned())
                .key_id(key(1).public().kid().0.to_vec())
        };
        let sign = |protected, unprotected| {
            CoseSign1Builder::new()
                .protected(protected)
                .unprotected(unprotected)
                .payload(b"payload".to_vec())
                .create_signature(&aad, |m| key(1).sign_raw(m))
                .build()
        };
        let none = coset::Header::default();
        assert!(verify(&sign(ours().build(), none.clone()).to_tagged_vec().unwrap()).is_ok());
        let refused = [
            sign(ours().add_critical(iana::HeaderParameter::Alg).build(), none.clone()),
            sign(ours().value(1000, ciborium::Value::from(1)).build(), none.clone()),
            sign(ours().algorithm(iana::Algorithm::ES256).build(), none.clone()),
            sign(ours().key_id(vec![1; 15]).build(), none.clone()),
            sign(ours().build(), HeaderBuilder::new().key_id(vec![1]).build()),
            sign(HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build(), none.clone()),
        ];
        for (n, message) in refused.into_iter().enumerate() {
            assert!(verify(&message.to_tagged_vec().unwrap()).is_err(), "{n}");
        }
        let untagged = sign(ours().build(), none).to_vec().unwrap();
        assert!(verify(&untagged).is_err());
    }

    #[test]
    fn public_keys_round_trip_and_other_parameters_are_refused() {
        let public = key(1).public().clone();
        assert_eq!(PublicKey::from_cose_key(public.cose_key()).unwrap(), public);
        let document = key(1).to_pkcs8().unwrap();
        assert_eq!(SigningKey::from_pkcs8(&document).unwrap().public(), &public);
        let extra = cbor::to_vec(&BTreeMap::from([
            (1i64, ciborium::Value::from(1)),
            (-1, ciborium::Value::from(6)),
            (-2, ciborium::Value::Bytes(public.raw().to_vec())),
            (3, ciborium::Value::from(-8)),
        ]))
        .unwrap();
        assert!(PublicKey::from_cose_key(&extra).is_err());
        assert!(PublicKey::ed25519(&[0; 31]).is_err());
        assert!(PublicKey::p256(&[4; 65]).is_err());
    }
}
