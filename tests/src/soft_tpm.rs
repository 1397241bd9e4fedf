//! A TPM in software, as far as evidence is concerned: keys, public areas, and structures signed by them. Every
//! field can be changed before signing, every byte after.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self, EcdsaKeyPair, KeyPair as _},
};
use evidence::{
    digest::HashAlg,
    tpm::{Name, PcrSelection, Public, attest::ClockInfo},
};

/// Kinds of AK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AkKind {
    /// ECDSA P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA P-384 with SHA-384.
    EcdsaP384,
    /// RSASSA-2048 with SHA-256.
    RsaSsa,
    /// RSAPSS-2048 with SHA-256.
    RsaPss,
}

impl AkKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EcdsaP256, Self::EcdsaP384, Self::RsaSsa, Self::RsaPss];

    /// Its hash.
    pub const fn hash(self) -> HashAlg {
        match self {
            Self::EcdsaP384 => HashAlg::Sha384,
            Self::EcdsaP256 | Self::RsaSsa | Self::RsaPss => HashAlg::Sha256,
        }
    }

    const fn scheme_id(self) -> u16 {
        match self {
            Self::EcdsaP256 | Self::EcdsaP384 => 0x0018,
            Self::RsaSsa => 0x0014,
            Self::RsaPss => 0x0016,
        }
    }
}

enum Key {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A signing key of a kind.
pub struct Ak {
    /// Its kind.
    pub kind: AkKind,
    key: Key,
}

impl Ak {
    /// A fresh key.
    pub fn generate(kind: AkKind) -> Self {
        let key = match kind {
            AkKind::EcdsaP256 => {
                Key::Ecdsa(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            AkKind::EcdsaP384 => {
                Key::Ecdsa(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
            }
            AkKind::RsaSsa | AkKind::RsaPss => Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Self { kind, key }
    }

    /// TPMT_SIGNATURE over `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        let mut out = Vec::new();
        u16be(&mut out, self.kind.scheme_id());
        u16be(&mut out, self.kind.hash().tpm_id());
        match &self.key {
            Key::Ecdsa(key) => {
                let rs = key.sign(&rng, message).unwrap();
                let (r, s) = rs.as_ref().split_at(rs.as_ref().len() / 2);
                sized(&mut out, r);
                sized(&mut out, s);
            }
            Key::Rsa(key) => {
                let padding: &'static dyn signature::RsaEncoding = match self.kind {
                    AkKind::RsaPss => &signature::RSA_PSS_SHA256,
                    AkKind::RsaSsa | AkKind::EcdsaP256 | AkKind::EcdsaP384 => &signature::RSA_PKCS1_SHA256,
                };
                let mut value = vec![0; key.public_modulus_len()];
                key.sign(padding, &rng, message, &mut value).unwrap();
                sized(&mut out, &value);
            }
        }
        out
    }

    /// Its public area.
    pub fn public(&self) -> PublicArea {
        let unique = match &self.key {
            Key::Ecdsa(key) => Unique::point(key.public_key().as_ref()),
            Key::Rsa(key) => Unique::Rsa(key.public_key().modulus().big_endian_without_leading_zero().to_vec()),
        };
        PublicArea {
            name_alg: HashAlg::Sha256,
            attributes: 0x0005_0472, // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign
            auth_policy: vec![],
            symmetric: vec![0x00, 0x10],
            scheme: [self.kind.scheme_id().to_be_bytes(), self.kind.hash().tpm_id().to_be_bytes()].concat(),
            unique,
        }
    }

    /// SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.key {
            Key::Ecdsa(key) => key.public_key().as_der().unwrap(),
            Key::Rsa(key) => key.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }
}

/// parameters' key part and unique of a TPMT_PUBLIC.
#[derive(Clone, Debug)]
pub enum Unique {
    /// Modulus of a 2048-bit key with the default exponent.
    Rsa(Vec<u8>),
    /// Coordinates; their length says which curve.
    Ecc(Vec<u8>, Vec<u8>),
}

impl Unique {
    /// From an uncompressed point.
    pub fn point(point: &[u8]) -> Self {
        let (x, y) = point[1..].split_at(point.len() / 2);
        Self::Ecc(x.to_vec(), y.to_vec())
    }
}

/// A TPMT_PUBLIC, to be changed before it is written.
#[derive(Clone, Debug)]
pub struct PublicArea {
    /// nameAlg.
    pub name_alg: HashAlg,
    /// objectAttributes.
    pub attributes: u32,
    /// authPolicy.
    pub auth_policy: Vec<u8>,
    /// TPMT_SYM_DEF_OBJECT.
    pub symmetric: Vec<u8>,
    /// TPMT_RSA_SCHEME or TPMT_ECC_SCHEME.
    pub scheme: Vec<u8>,
    /// The key.
    pub unique: Unique,
}

impl PublicArea {
    /// TPM2B_PUBLIC.
    pub fn write(&self) -> Vec<u8> {
        let mut area = Vec::new();
        u16be(
            &mut area,
            match self.unique {
                Unique::Rsa(_) => 0x0001,
                Unique::Ecc(..) => 0x0023,
            },
        );
        u16be(&mut area, self.name_alg.tpm_id());
        area.extend(self.attributes.to_be_bytes());
        sized(&mut area, &self.auth_policy);
        area.extend(&self.symmetric);
        area.extend(&self.scheme);
        match &self.unique {
            Unique::Rsa(modulus) => {
                u16be(&mut area, (modulus.len() * 8) as u16);
                area.extend(0u32.to_be_bytes());
                sized(&mut area, modulus);
            }
            Unique::Ecc(x, y) => {
                u16be(&mut area, if x.len() > 32 { 4 } else { 3 });
                u16be(&mut area, 0x0010);
                sized(&mut area, x);
                sized(&mut area, y);
            }
        }
        let mut out = Vec::new();
        sized(&mut out, &area);
        out
    }

    /// Its Name.
    pub fn name(&self) -> Name {
        Public::read(&self.write()).unwrap().name()
    }
}

/// A TPMS_ATTEST, to be changed before it is signed.
#[derive(Clone, Debug)]
pub struct AttestDraft {
    /// magic.
    pub magic: u32,
    /// type.
    pub kind: u16,
    /// qualifiedSigner.
    pub qualified_signer: Vec<u8>,
    /// extraData.
    pub extra_data: Vec<u8>,
    /// clockInfo.
    pub clock: ClockInfo,
    /// firmwareVersion.
    pub firmware_version: u64,
    /// attested, as it stands.
    pub attested: Vec<u8>,
    /// Anything after it.
    pub trailing: Vec<u8>,
}

impl AttestDraft {
    fn of(kind: u16, extra_data: &[u8], clock: ClockInfo, firmware_version: u64, attested: Vec<u8>) -> Self {
        let qualified_signer = [&[0x00, 0x0b][..], &[0x5a; 32]].concat();
        let extra_data = extra_data.to_vec();
        Self {
            magic: 0xff54_4347,
            kind,
            qualified_signer,
            extra_data,
            clock,
            firmware_version,
            attested,
            trailing: vec![],
        }
    }

    /// A quote.
    pub fn quote(
        extra_data: &[u8],
        clock: ClockInfo,
        firmware_version: u64,
        selection: PcrSelection,
        pcr_digest: &[u8],
    ) -> Self {
        let mut attested = Vec::new();
        selection.write(&mut attested);
        sized(&mut attested, pcr_digest);
        Self::of(0x8018, extra_data, clock, firmware_version, attested)
    }

    /// A certification of the object `name`.
    pub fn certification(name: &Name, clock: ClockInfo, firmware_version: u64) -> Self {
        let mut attested = Vec::new();
        sized(&mut attested, &name.to_bytes());
        sized(&mut attested, &[&[0x00, 0x0b][..], &[0xa5; 32]].concat());
        Self::of(0x8017, &[], clock, firmware_version, attested)
    }

    /// The structure.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.magic.to_be_bytes());
        u16be(&mut out, self.kind);
        sized(&mut out, &self.qualified_signer);
        sized(&mut out, &self.extra_data);
        out.extend(self.clock.clock_ms.to_be_bytes());
        out.extend(self.clock.reset_count.to_be_bytes());
        out.extend(self.clock.restart_count.to_be_bytes());
        out.push(u8::from(self.clock.safe));
        out.extend(self.firmware_version.to_be_bytes());
        out.extend(&self.attested);
        out.extend(&self.trailing);
        out
    }
}

fn u16be(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_be_bytes());
}

/// Appends a TPM2B.
pub fn sized(out: &mut Vec<u8>, value: &[u8]) {
    u16be(out, value.len() as u16);
    out.extend(value);
}
