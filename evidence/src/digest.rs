//! Digests: of any TPM hash algorithm as measured values, and SHA-256 as the name of our own records.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Hash algorithms that TPMs and their logs use (TCG Algorithm Registry, TPM_ALG_ID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlg {
    /// TPM_ALG_SHA1, 20 bytes. Parsed in old logs; never trusted.
    Sha1,
    /// TPM_ALG_SHA256, 32 bytes.
    Sha256,
    /// TPM_ALG_SHA384, 48 bytes.
    Sha384,
    /// TPM_ALG_SHA512, 64 bytes.
    Sha512,
}

impl HashAlg {
    /// All algorithms, weakest first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The algorithm with this TPM_ALG_ID, if known.
    #[must_use]
    pub const fn from_tpm(id: u16) -> Option<Self> {
        match id {
            0x0004 => Some(Self::Sha1),
            0x000b => Some(Self::Sha256),
            0x000c => Some(Self::Sha384),
            0x000d => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Its TPM_ALG_ID.
    #[must_use]
    pub const fn tpm_id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
        }
    }

    /// Digest size in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a size, not a container")]
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Lower-case name, as in configuration and claims.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The algorithm of this lower-case name, if known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }

    fn algorithm(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::Sha1 => &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &aws_lc_rs::digest::SHA256,
            Self::Sha384 => &aws_lc_rs::digest::SHA384,
            Self::Sha512 => &aws_lc_rs::digest::SHA512,
        }
    }

    /// Hash of the concatenation of `parts`.
    #[must_use]
    pub fn hash(self, parts: &[&[u8]]) -> Digest {
        let algorithm = self.algorithm();
        let mut room = [0u8; SHORT_BYTES];
        let whole = match parts {
            [whole] => Some(*whole),
            parts => joined(parts, &mut room),
        };
        let hashed = match whole {
            // in one call there is no context to allocate
            Some(whole) => aws_lc_rs::digest::digest(algorithm, whole),
            None => {
                let mut context = aws_lc_rs::digest::Context::new(algorithm);
                parts.iter().for_each(|part| context.update(part));
                context.finish()
            }
        };
        let mut bytes = [0u8; 64];
        for (to, from) in bytes.iter_mut().zip(hashed.as_ref()) {
            *to = *from;
        }
        Digest { alg: self, bytes }
    }
}

/// Parts of at most this length in all are hashed in one call: a register and what extends it, in any algorithm.
const SHORT_BYTES: usize = 128;

/// The parts one after the other in `room`, if it takes them.
fn joined<'r>(parts: &[&[u8]], room: &'r mut [u8; SHORT_BYTES]) -> Option<&'r [u8]> {
    let mut length = 0_usize;
    for part in parts {
        let end = length.checked_add(part.len())?;
        room.get_mut(length..end)?.copy_from_slice(part);
        length = end;
    }
    room.get(..length)
}

impl std::fmt::Display for HashAlg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A digest with its algorithm; text form `sha256:<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    alg: HashAlg,
    /// Zero beyond `alg.len()`.
    bytes: [u8; 64],
}

impl Digest {
    /// All-zero digest: a PCR's value after reset.
    #[must_use]
    pub const fn zero(alg: HashAlg) -> Self {
        Self { alg, bytes: [0; 64] }
    }

    /// A digest from exactly `alg.len()` bytes; `None` for any other length.
    #[must_use]
    pub fn from_bytes(alg: HashAlg, given: &[u8]) -> Option<Self> {
        if given.len() != alg.len() {
            return None;
        }
        let mut bytes = [0u8; 64];
        for (to, from) in bytes.iter_mut().zip(given) {
            *to = *from;
        }
        Some(Self { alg, bytes })
    }

    /// Its algorithm.
    #[must_use]
    pub const fn alg(&self) -> HashAlg {
        self.alg
    }

    /// The digest's bytes, `alg().len()` of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.alg.len()).unwrap_or(&[])
    }

    /// The value of a PCR that held `self` after extending it with `event` (TPM2 Library Part 1 §17.2).
    #[must_use]
    pub fn extend(&self, event: &[u8]) -> Self {
        self.alg.hash(&[self.as_bytes(), event])
    }

    /// Hexadecimal without the algorithm's name.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.as_bytes())
    }
}

impl std::hash::Hash for Digest {
    /// Not over the zeros beyond its length.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::hash::Hash::hash(&self.alg, state);
        state.write(self.as_bytes());
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.alg, self.hex())
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Text was not `alg:hex` of the right length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written sha256:<64 hexadecimal digits> (or sha1, sha384, sha512 with their lengths)")]
pub struct DigestTextError;

impl std::str::FromStr for Digest {
    type Err = DigestTextError;
    fn from_str(text: &str) -> Result<Self, DigestTextError> {
        let (alg, digits) = text.split_once(':').ok_or(DigestTextError)?;
        let alg = HashAlg::from_name(alg).ok_or(DigestTextError)?;
        if digits.len() != alg.len().saturating_mul(2) {
            return Err(DigestTextError);
        }
        let bytes = hex::decode(digits).map_err(|_| DigestTextError)?;
        Self::from_bytes(alg, &bytes).ok_or(DigestTextError)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// SHA-256 of one of our own byte strings: its name in records, logs and stores.
///
/// A byte string in CBOR, hexadecimal in JSON and TOML.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// All zeros: the head of an empty lineage.
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::concat(&[bytes])
    }

    /// SHA-256 over the plain concatenation of `parts`. Only for formats that fix every length themselves.
    #[must_use]
    pub fn concat(parts: &[&[u8]]) -> Self {
        let mut out = [0u8; 32];
        for (to, from) in out.iter_mut().zip(HashAlg::Sha256.hash(parts).as_bytes()) {
            *to = *from;
        }
        Self(out)
    }

    /// SHA-256 over `label` and `parts`, each preceded by its length as eight big-endian bytes, so that no
    /// two different lists share a preimage.
    #[must_use]
    pub fn labelled(label: &str, parts: &[&[u8]]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in std::iter::once(&label.as_bytes()).chain(parts) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut out = [0u8; 32];
        for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(out)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Sha256Digest {
    type Error = DigestTextError;
    fn try_from(bytes: &[u8]) -> Result<Self, DigestTextError> {
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|_| DigestTextError)
    }
}

impl std::str::FromStr for Sha256Digest {
    type Err = DigestTextError;
    fn from_str(text: &str) -> Result<Self, DigestTextError> {
        let mut out = [0u8; 32];
        hex::decode_to_slice(text, &mut out).map_err(|_| DigestTextError)?;
        Ok(Self(out))
    }
}

impl std::fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::try_from(bytes.as_slice()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_text_round_trips_and_wrong_lengths_are_refused() {
        for alg in HashAlg::ALL {
            let digest = alg.hash(&[b"a", b"bc"]);
            assert_eq!(digest, alg.hash(&[b"abc"]));
            assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            assert_eq!(HashAlg::from_tpm(alg.tpm_id()), Some(alg));
            assert!(Digest::from_bytes(alg, &[0; 21]).is_none());
        }
        for bad in ["", "sha256", "sha256:", "sha256:00", "md5:00", &format!("sha256:{}", "0".repeat(63))] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn how_bytes_are_split_does_not_change_their_hash() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * SHORT_BYTES).collect();
        for alg in HashAlg::ALL {
            for length in [0, 1, SHORT_BYTES - 1, SHORT_BYTES, SHORT_BYTES + 1, bytes.len()] {
                let whole = &bytes[..length];
                let mut context = aws_lc_rs::digest::Context::new(alg.algorithm());
                context.update(whole);
                let expected = context.finish();
                for at in [0, length / 3, length] {
                    let (first, second) = whole.split_at(at);
                    assert_eq!(alg.hash(&[first, second]).as_bytes(), expected.as_ref(), "{alg} {length} {at}");
                    assert_eq!(alg.hash(&[first, &[], second]).as_bytes(), expected.as_ref(), "{alg} {length} {at}");
                }
                assert_eq!(alg.hash(&[whole]).as_bytes(), expected.as_ref(), "{alg} {length}");
            }
            assert_eq!(alg.hash(&[]), alg.hash(&[b""]));
        }
    }

    #[test]
    fn sha256_of_abc_is_the_fips_180_example() {
        assert_eq!(
            Sha256Digest::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn labelled_digests_do_not_run_into_each_other() {
        let a = Sha256Digest::labelled("l", &[b"ab", b"c"]);
        assert_ne!(a, Sha256Digest::labelled("l", &[b"a", b"bc"]));
        assert_ne!(a, Sha256Digest::labelled("la", &[b"b", b"c"]));
    }
}
