//! TPM2B_PUBLIC and TPMT_PUBLIC (TPM2 Library Part 2 §12.2) of RSA and ECC keys, and the Name made from them.
//!
//! Only what some template of ours can use is readable; every other algorithm is refused where it stands.

use super::wire::{Reader, put_sized, put_u16, put_u32};
use crate::{
    EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// Longest TPM2B_PUBLIC accepted: RSA-4096 with a SHA-512 policy is about 600 bytes.
pub const PUBLIC_CAP_BYTES: usize = 1024;

/// The public area of a TPM object, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public<'a> {
    /// The TPMT_PUBLIC as received: what the Name is a hash of.
    area: &'a [u8],
    /// nameAlg.
    pub name_alg: HashAlg,
    /// objectAttributes.
    pub attributes: Attributes,
    /// authPolicy, empty when there is none.
    pub auth_policy: &'a [u8],
    /// What protects children, for a storage key.
    pub symmetric: Symmetric,
    /// Scheme fixed in the key.
    pub scheme: Scheme,
    /// The key itself.
    pub key: PublicKey<'a>,
}

/// parameters and unique of a TPMT_PUBLIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKey<'a> {
    /// TPM_ALG_RSA.
    Rsa {
        /// Modulus size in bits.
        key_bits: u16,
        /// Public exponent as written; 0 stands for 65537.
        exponent: u32,
        /// Modulus, big-endian.
        modulus: &'a [u8],
    },
    /// TPM_ALG_ECC.
    Ecc {
        /// The curve.
        curve: Curve,
        /// Affine x, big-endian, at most as long as the field.
        x: &'a [u8],
        /// Affine y, likewise.
        y: &'a [u8],
    },
}

/// TPM_ECC_CURVE, as far as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// TPM_ECC_NIST_P256.
    P256,
    /// TPM_ECC_NIST_P384.
    P384,
}

impl Curve {
    /// Length of a coordinate in bytes.
    #[must_use]
    pub const fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    const fn tpm_id(self) -> u16 {
        match self {
            Self::P256 => 0x0003,
            Self::P384 => 0x0004,
        }
    }

    fn from_tpm(id: u16) -> Option<Self> {
        [Self::P256, Self::P384].into_iter().find(|curve| curve.tpm_id() == id)
    }
}

/// TPMT_SYM_DEF_OBJECT, as far as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symmetric {
    /// TPM_ALG_NULL: not a storage key.
    None,
    /// AES in CFB mode with this key length in bits.
    AesCfb(u16),
}

/// TPMT_RSA_SCHEME or TPMT_ECC_SCHEME, as far as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TPM_ALG_NULL: chosen at use.
    None,
    /// A signing scheme.
    Sign(SignatureScheme),
    /// TPM_ALG_ECDH.
    Ecdh(HashAlg),
}

/// A signing scheme with its hash. SHA-1 and SHA-512 are never signing hashes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa(HashAlg),
    /// RSASSA-PSS.
    RsaPss(HashAlg),
    /// ECDSA.
    EcDsa(HashAlg),
}

impl SignatureScheme {
    /// The hash of the scheme: signs the attested structure, and hashes quoted PCR values.
    #[must_use]
    pub const fn hash(self) -> HashAlg {
        match self {
            Self::RsaSsa(hash) | Self::RsaPss(hash) | Self::EcDsa(hash) => hash,
        }
    }

    const fn tpm_id(self) -> u16 {
        match self {
            Self::RsaSsa(_) => TPM_ALG_RSASSA,
            Self::RsaPss(_) => TPM_ALG_RSAPSS,
            Self::EcDsa(_) => TPM_ALG_ECDSA,
        }
    }

    /// Reads a scheme's hash; the scheme's own identifier was read already.
    pub(crate) fn read_after(alg: u16, reader: &mut Reader<'_>) -> Result<Self, EvidenceDenial> {
        let build = match alg {
            TPM_ALG_RSASSA => Self::RsaSsa,
            TPM_ALG_RSAPSS => Self::RsaPss,
            TPM_ALG_ECDSA => Self::EcDsa,
            got => return Err(EvidenceDenial::AlgorithmRefused { what: "signing scheme", got }),
        };
        let got = reader.u16("hash of the signing scheme")?;
        match HashAlg::from_tpm(got) {
            Some(hash @ (HashAlg::Sha256 | HashAlg::Sha384)) => Ok(build(hash)),
            Some(HashAlg::Sha1 | HashAlg::Sha512) | None => {
                Err(EvidenceDenial::AlgorithmRefused { what: "hash of the signing scheme", got })
            }
        }
    }
}

impl std::fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::RsaSsa(_) => "RSASSA",
            Self::RsaPss(_) => "RSAPSS",
            Self::EcDsa(_) => "ECDSA",
        };
        write!(f, "{name} with {}", self.hash())
    }
}

/// TPMA_OBJECT (TPM2 Library Part 2 §8.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// Cannot leave its TPM.
    pub const FIXED_TPM: Self = Self(1 << 1);
    /// Gone after a TPM reset.
    pub const ST_CLEAR: Self = Self(1 << 2);
    /// Cannot leave its parent.
    pub const FIXED_PARENT: Self = Self(1 << 4);
    /// The TPM made the private part.
    pub const SENSITIVE_DATA_ORIGIN: Self = Self(1 << 5);
    /// A password or HMAC with authValue authorizes its use.
    pub const USER_WITH_AUTH: Self = Self(1 << 6);
    /// Only the policy authorizes administration.
    pub const ADMIN_WITH_POLICY: Self = Self(1 << 7);
    /// Failed authorizations do not count towards lockout.
    pub const NO_DA: Self = Self(1 << 10);
    /// Duplication must be encrypted.
    pub const ENCRYPTED_DUPLICATION: Self = Self(1 << 11);
    /// Works only on structures that the TPM knows.
    pub const RESTRICTED: Self = Self(1 << 16);
    /// Decrypts or agrees keys.
    pub const DECRYPT: Self = Self(1 << 17);
    /// Signs.
    pub const SIGN: Self = Self(1 << 18);
    /// Signs certificates.
    pub const X509_SIGN: Self = Self(1 << 19);

    /// Both sets of attributes.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Are all of `other` set?
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Is none of `other` set?
    #[must_use]
    pub const fn lacks(self, other: Self) -> bool {
        self.0 & other.0 == 0
    }

    const DEFINED: Self = Self(0x000f_0cf6);
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// Name of a TPM object: nameAlg and the hash of its public area by it (TPM2 Library Part 1 §16).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Digest);

impl Name {
    /// The Name as the TPM writes it: nameAlg (two bytes) and digest.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.0.alg().tpm_id().to_be_bytes()[..], self.0.as_bytes()].concat()
    }

    /// A Name from the bytes the TPM writes, `None` when they are not one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (alg, digest) = bytes.split_first_chunk::<2>()?;
        Digest::from_bytes(HashAlg::from_tpm(u16::from_be_bytes(*alg))?, digest).map(Self)
    }

    /// Does the TPM write this Name so?
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        Self::from_bytes(bytes) == Some(*self)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl<'a> Public<'a> {
    /// Reads exactly one TPM2B_PUBLIC.
    ///
    /// # Errors
    /// A denial for other structures, algorithms no template uses, and bytes left over.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        let mut outer = Reader::new("TPM2B_PUBLIC", bytes);
        let area = outer.sized("TPM2B_PUBLIC", PUBLIC_CAP_BYTES)?;
        outer.finish()?;
        Self::read_area(area)
    }

    /// Reads exactly one TPMT_PUBLIC.
    ///
    /// # Errors
    /// As [`Public::read`].
    pub fn read_area(area: &'a [u8]) -> Result<Self, EvidenceDenial> {
        let mut reader = Reader::new(STRUCTURE, area);
        let kind = reader.u16("type")?;
        let got = reader.u16("nameAlg")?;
        let name_alg = HashAlg::from_tpm(got).ok_or(EvidenceDenial::AlgorithmRefused { what: "nameAlg", got })?;
        let attributes = Attributes(reader.u32("objectAttributes")?);
        if !Attributes::DEFINED.has(attributes) {
            return Err(reader.malformed("reserved bits of objectAttributes"));
        }
        let auth_policy = reader.sized("authPolicy", 64)?;
        let symmetric = Symmetric::read(&mut reader)?;
        let scheme = Scheme::read(&mut reader)?;
        let key = match kind {
            TPM_ALG_RSA => PublicKey::read_rsa(&mut reader)?,
            TPM_ALG_ECC => PublicKey::read_ecc(&mut reader)?,
            got => return Err(EvidenceDenial::AlgorithmRefused { what: "key type", got }),
        };
        reader.finish()?;
        let public = Self { area, name_alg, attributes, auth_policy, symmetric, scheme, key };
        if public.write_area() == area {
            Ok(public)
        } else {
            Err(EvidenceDenial::Malformed { structure: STRUCTURE, offset: 0, what: "another encoding of itself" })
        }
    }

    /// The TPMT_PUBLIC as received.
    #[must_use]
    pub const fn area(&self) -> &'a [u8] {
        self.area
    }

    /// The object's Name, computed here from its public area.
    #[must_use]
    pub fn name(&self) -> Name {
        Name(self.name_alg.hash(&[self.area]))
    }

    /// The one encoding of what was read.
    fn write_area(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.area.len());
        put_u16(
            &mut out,
            match self.key {
                PublicKey::Rsa { .. } => TPM_ALG_RSA,
                PublicKey::Ecc { .. } => TPM_ALG_ECC,
            },
        );
        put_u16(&mut out, self.name_alg.tpm_id());
        put_u32(&mut out, self.attributes.0);
        put_sized(&mut out, self.auth_policy);
        self.symmetric.write(&mut out);
        self.scheme.write(&mut out);
        match self.key {
            PublicKey::Rsa { key_bits, exponent, modulus } => {
                put_u16(&mut out, key_bits);
                put_u32(&mut out, exponent);
                put_sized(&mut out, modulus);
            }
            PublicKey::Ecc { curve, x, y } => {
                put_u16(&mut out, curve.tpm_id());
                put_u16(&mut out, TPM_ALG_NULL);
                put_sized(&mut out, x);
                put_sized(&mut out, y);
            }
        }
        out
    }
}

impl<'a> PublicKey<'a> {
    fn read_rsa(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        let key_bits = reader.u16("keyBits")?;
        if !matches!(key_bits, 2048 | 3072 | 4096) {
            return Err(reader.malformed("keyBits"));
        }
        let exponent = reader.u32("exponent")?;
        if exponent != 0 && exponent != RSA_EXPONENT {
            return Err(reader.malformed("exponent"));
        }
        let modulus = reader.sized("unique.rsa", usize::from(key_bits) / 8)?;
        let full = modulus.len() == usize::from(key_bits) / 8 && modulus.first().is_some_and(|b| b & 0x80 != 0);
        if full { Ok(Self::Rsa { key_bits, exponent, modulus }) } else { Err(reader.malformed("unique.rsa")) }
    }

    fn read_ecc(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        let got = reader.u16("curveID")?;
        let curve = Curve::from_tpm(got).ok_or(EvidenceDenial::AlgorithmRefused { what: "curve", got })?;
        reader.expect_algorithm("kdf", TPM_ALG_NULL)?;
        let x = reader.sized("unique.ecc.x", curve.coordinate_bytes())?;
        let y = reader.sized("unique.ecc.y", curve.coordinate_bytes())?;
        Ok(Self::Ecc { curve, x, y })
    }

    /// RSA public exponent, with the TPM's 0 resolved.
    pub(crate) const fn rsa_exponent() -> [u8; 3] {
        [1, 0, 1]
    }

    /// SEC 1 §2.3.3 uncompressed point, coordinates padded to the field; `None` for RSA.
    #[must_use]
    pub fn uncompressed_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Rsa { .. } => None,
            Self::Ecc { curve, x, y } => {
                let size = curve.coordinate_bytes();
                let mut point = vec![0x04];
                for coordinate in [x, y] {
                    point.resize(point.len().saturating_add(size.saturating_sub(coordinate.len())), 0);
                    point.extend_from_slice(coordinate);
                }
                Some(point)
            }
        }
    }
}

impl Symmetric {
    fn read(reader: &mut Reader<'_>) -> Result<Self, EvidenceDenial> {
        match reader.u16("symmetric")? {
            TPM_ALG_NULL => Ok(Self::None),
            TPM_ALG_AES => {
                let bits = reader.u16("symmetric.keyBits")?;
                if !matches!(bits, 128 | 256) {
                    return Err(reader.malformed("symmetric.keyBits"));
                }
                reader.expect_algorithm("symmetric.mode", TPM_ALG_CFB)?;
                Ok(Self::AesCfb(bits))
            }
            got => Err(EvidenceDenial::AlgorithmRefused { what: "symmetric", got }),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::None => put_u16(out, TPM_ALG_NULL),
            Self::AesCfb(bits) => {
                put_u16(out, TPM_ALG_AES);
                put_u16(out, bits);
                put_u16(out, TPM_ALG_CFB);
            }
        }
    }
}

impl Scheme {
    fn read(reader: &mut Reader<'_>) -> Result<Self, EvidenceDenial> {
        match reader.u16("scheme")? {
            TPM_ALG_NULL => Ok(Self::None),
            TPM_ALG_ECDH => {
                let got = reader.u16("scheme.hashAlg")?;
                HashAlg::from_tpm(got)
                    .map(Self::Ecdh)
                    .ok_or(EvidenceDenial::AlgorithmRefused { what: "scheme.hashAlg", got })
            }
            alg => SignatureScheme::read_after(alg, reader).map(Self::Sign),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::None => put_u16(out, TPM_ALG_NULL),
            Self::Ecdh(hash) => {
                put_u16(out, TPM_ALG_ECDH);
                put_u16(out, hash.tpm_id());
            }
            Self::Sign(scheme) => {
                put_u16(out, scheme.tpm_id());
                put_u16(out, scheme.hash().tpm_id());
            }
        }
    }
}

const STRUCTURE: &str = "TPMT_PUBLIC";
const TPM_ALG_RSA: u16 = 0x0001;
const TPM_ALG_AES: u16 = 0x0006;
const TPM_ALG_NULL: u16 = 0x0010;
const TPM_ALG_RSASSA: u16 = 0x0014;
const TPM_ALG_RSAPSS: u16 = 0x0016;
const TPM_ALG_ECDSA: u16 = 0x0018;
const TPM_ALG_ECDH: u16 = 0x0019;
const TPM_ALG_ECC: u16 = 0x0023;
const TPM_ALG_CFB: u16 = 0x0043;
const RSA_EXPONENT: u32 = 65_537;
