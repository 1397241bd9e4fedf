//! TPM2_MakeCredential without a TPM (TPM2 Library Part 1 §24, Credential Protection, and the secret sharing of
//! its annexes B and C).
//!
//! Only the TPM that holds the EK's private part *and* an object of exactly the given Name can open the result.

use aws_lc_rs::{
    agreement,
    cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    hmac,
    iv::FixedLength,
    rsa::{
        OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicEncryptingKey,
        PublicKeyComponents,
    },
};
use zeroize::Zeroizing;

use super::{
    public::{Curve, Name, Public, PublicKey, Symmetric},
    wire::put_sized,
};
use crate::{EvidenceDenial, digest::HashAlg};

/// What goes to the node: both structures as TPM2_ActivateCredential takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// TPM2B_ID_OBJECT.
    pub blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: Vec<u8>,
}

/// 48 random bytes of the caller, used for one credential.
pub type Randomness = Zeroizing<[u8; 48]>;

/// Wraps `secret` so that only the TPM with this EK and an object named `object` can open it.
///
/// `randomness` gives the seed (RSA) or the ephemeral key (ECC). For an RSA EK, OAEP's own padding seed is drawn
/// inside aws-lc, whose interface takes none: the one place in this crate where randomness is not an argument.
///
/// # Errors
/// [`EvidenceDenial::KeyUnusable`] when the EK cannot be encrypted to, or (once in 2³² for P-256) when
/// `randomness` is not a private key of the curve: the caller tries again with other bytes.
pub fn make_credential(
    ek: &Public<'_>,
    object: &Name,
    secret: &[u8],
    randomness: &Randomness,
) -> Result<Credential, EvidenceDenial> {
    let Symmetric::AesCfb(key_bits) = ek.symmetric else { return Err(unusable("EK without a symmetric algorithm")) };
    let alg = ek.name_alg;
    let name = object.to_bytes();
    let (seed, encrypted_secret) = match &ek.key {
        PublicKey::Rsa { modulus, .. } => rsa_seed(modulus, alg, randomness)?,
        PublicKey::Ecc { curve, .. } => ecc_seed(*curve, &ek.key, alg, randomness)?,
    };
    let mut identity = Zeroizing::new(Vec::new());
    put_sized(&mut identity, secret);
    let key = kdfa(alg, &seed, b"STORAGE", &name, key_bits)?;
    encrypt_cfb(&key, &mut identity)?;
    let digest_bits = u16::try_from(alg.len().saturating_mul(8)).map_err(|_| unusable("nameAlg"))?;
    let mac_key = kdfa(alg, &seed, b"INTEGRITY", &[], digest_bits)?;
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac_algorithm(alg)?, &mac_key));
    mac.update(&identity);
    mac.update(&name);
    let mut object = Vec::new();
    put_sized(&mut object, mac.sign().as_ref());
    object.extend_from_slice(&identity);
    let mut blob = Vec::new();
    put_sized(&mut blob, &object);
    Ok(Credential { blob, encrypted_secret })
}

type Seed = Zeroizing<Vec<u8>>;

/// RSA: the seed is as long as a nameAlg digest, encrypted by OAEP with that hash and the label "IDENTITY", whose
/// terminating zero is part of it.
fn rsa_seed(modulus: &[u8], alg: HashAlg, randomness: &Randomness) -> Result<(Seed, Vec<u8>), EvidenceDenial> {
    let failed = || unusable("RSA EK");
    let oaep = match alg {
        HashAlg::Sha256 => &OAEP_SHA256_MGF1SHA256,
        HashAlg::Sha384 => &OAEP_SHA384_MGF1SHA384,
        HashAlg::Sha1 | HashAlg::Sha512 => return Err(unusable("nameAlg")),
    };
    let key: PublicEncryptingKey =
        PublicKeyComponents { n: modulus, e: &PublicKey::rsa_exponent()[..] }.try_into().map_err(|_| failed())?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| failed())?;
    let seed = Zeroizing::new(randomness.iter().copied().take(alg.len()).collect::<Vec<_>>());
    let mut ciphertext = vec![0u8; key.ciphertext_size()];
    let written = key.encrypt(oaep, &seed, &mut ciphertext, Some(b"IDENTITY\0")).map_err(|_| failed())?.len();
    ciphertext.truncate(written);
    let mut encrypted = Vec::new();
    put_sized(&mut encrypted, &ciphertext);
    Ok((seed, encrypted))
}

/// ECC: the seed comes from one-pass ECDH with an ephemeral key, which is what is sent.
fn ecc_seed(
    curve: Curve,
    ek: &PublicKey<'_>,
    alg: HashAlg,
    randomness: &Randomness,
) -> Result<(Seed, Vec<u8>), EvidenceDenial> {
    let failed = || unusable("ECC EK");
    let size = curve.coordinate_bytes();
    let algorithm = match curve {
        Curve::P256 => &agreement::ECDH_P256,
        Curve::P384 => &agreement::ECDH_P384,
    };
    let scalar = randomness.get(..size).ok_or_else(failed)?;
    let ephemeral = agreement::PrivateKey::from_private_key(algorithm, scalar)
        .map_err(|_| unusable("randomness is not a private key of the curve"))?;
    let public = ephemeral.compute_public_key().map_err(|_| failed())?;
    let (x, y) = public.as_ref().split_first().and_then(|(_, xy)| xy.split_at_checked(size)).ok_or_else(failed)?;
    let peer = ek.uncompressed_point().ok_or_else(failed)?;
    let peer_x = peer.get(1..).and_then(|xy| xy.get(..size)).ok_or_else(failed)?;
    let seed = agreement::agree(&ephemeral, agreement::UnparsedPublicKey::new(algorithm, &peer), failed(), |z| {
        Ok(kdfe(alg, z, b"IDENTITY", x, peer_x))
    })?;
    let mut point = Vec::new();
    put_sized(&mut point, x);
    put_sized(&mut point, y);
    let mut encrypted = Vec::new();
    put_sized(&mut encrypted, &point);
    Ok((seed, encrypted))
}

/// KDFa (Part 1 §11.4.10.2): counter-mode HMAC. contextV is empty in both uses here.
fn kdfa(alg: HashAlg, key: &[u8], label: &[u8], context_u: &[u8], bits: u16) -> Result<Seed, EvidenceDenial> {
    let key = hmac::Key::new(hmac_algorithm(alg)?, key);
    let bytes = usize::from(bits) / 8;
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.saturating_add(alg.len())));
    for counter in 1u32.. {
        if out.len() >= bytes {
            break;
        }
        let mut mac = hmac::Context::with_key(&key);
        for part in [&counter.to_be_bytes()[..], label, &[0], context_u, &u32::from(bits).to_be_bytes()] {
            mac.update(part);
        }
        out.extend_from_slice(mac.sign().as_ref());
    }
    out.truncate(bytes);
    Ok(out)
}

/// KDFe (Part 1 §11.4.10.3) for one digest of output, which is one round.
fn kdfe(alg: HashAlg, z: &[u8], label: &[u8], party_u: &[u8], party_v: &[u8]) -> Seed {
    let digest = alg.hash(&[&1u32.to_be_bytes(), z, label, &[0], party_u, party_v]);
    Zeroizing::new(digest.as_bytes().to_vec())
}

/// AES-CFB with full feedback and a zero IV: every seed is used once.
fn encrypt_cfb(key: &[u8], in_out: &mut [u8]) -> Result<(), EvidenceDenial> {
    let failed = |_| unusable("AES-CFB");
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, key).map_err(failed)?;
    let iv = EncryptionContext::Iv128(FixedLength::from([0u8; 16]));
    EncryptingKey::cfb128(key).map_err(failed)?.less_safe_encrypt(in_out, iv).map_err(failed)?;
    Ok(())
}

fn hmac_algorithm(alg: HashAlg) -> Result<hmac::Algorithm, EvidenceDenial> {
    match alg {
        HashAlg::Sha256 => Ok(hmac::HMAC_SHA256),
        HashAlg::Sha384 => Ok(hmac::HMAC_SHA384),
        HashAlg::Sha1 | HashAlg::Sha512 => Err(unusable("nameAlg")),
    }
}

const fn unusable(what: &'static str) -> EvidenceDenial {
    EvidenceDenial::KeyUnusable { what }
}
