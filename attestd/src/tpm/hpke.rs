//! HPKE open (RFC 9180, base mode) with the recipient's private key inside the TPM.
//!
//! The TPM does the one operation that needs the key, ECDH (TPM2_ECDH_ZGen); the rest is a key schedule over public
//! values and the shared point. Suite: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use aws_lc_rs::hmac;
use evidence::tpm::pcr::PcrSelection;
use zeroize::Zeroizing;

use super::actor::Tpm;
use super::device::EccPointBytes;
use super::error::TpmError;
use super::types::KeyBlob;
use crate::locked::{LOCKED_CAP_BYTES, Locked, scrub_stack};

/// Uncompressed P-256 point (SEC 1, 2.3.3).
const POINT_BYTES: usize = 65;
/// Largest sealed message: what fits into locked memory.
pub const SEALED_CAP_BYTES: usize = LOCKED_CAP_BYTES;

/// What can do ECDH with the recipient's key: a TPM, or in tests a key in memory.
pub trait EcdhZGen {
    /// x coordinate of private key × `point`.
    ///
    /// # Errors
    /// [`TpmError`].
    fn z_gen(&mut self, point: &EccPointBytes) -> Result<Zeroizing<[u8; 32]>, TpmError>;
}

/// A sealed message and what it was sealed with.
#[derive(Clone, Debug)]
pub struct SealedMessage {
    /// HPKE `enc`: the sender's ephemeral point.
    pub encapsulated: Vec<u8>,
    /// Ciphertext with tag.
    pub sealed: Vec<u8>,
    /// HPKE `info`.
    pub info: Vec<u8>,
    /// Additional authenticated data.
    pub aad: Vec<u8>,
}

impl Tpm {
    /// Opens a message sealed to the node key, while the PCRs in `bound_to` are what the key is bound to.
    ///
    /// # Errors
    /// [`TpmError::PolicyNotMet`] if the PCRs changed, [`TpmError::NotForThisKey`] if it was sealed to another key or
    /// altered, or a fault.
    pub async fn hpke_open(
        &self,
        key: KeyBlob,
        recipient_point: Vec<u8>,
        bound_to: PcrSelection,
        message: SealedMessage,
    ) -> Result<Locked, TpmError> {
        self.call(move |device| {
            struct InTpm<'a> {
                device: &'a mut dyn super::device::TpmDevice,
                key: KeyBlob,
                bound_to: PcrSelection,
            }
            impl EcdhZGen for InTpm<'_> {
                fn z_gen(&mut self, point: &EccPointBytes) -> Result<Zeroizing<[u8; 32]>, TpmError> {
                    self.device.z_gen(&self.key, &self.bound_to, point)
                }
            }
            open(&mut InTpm { device, key, bound_to }, &recipient_point, &message)
        })
        .await
    }
}

/// Opens `message` for the recipient with public key `recipient_point` (uncompressed).
///
/// # Errors
/// [`TpmError::NotForThisKey`] or what `ecdh` returned.
pub fn open(ecdh: &mut dyn EcdhZGen, recipient_point: &[u8], message: &SealedMessage) -> Result<Locked, TpmError> {
    let opened = open_with(&AES_256, ecdh, recipient_point, message);
    scrub_stack();
    opened
}

/// An AEAD of RFC 9180 §7.3. The published vectors for this KEM use another than we do.
struct Aead {
    id: u16,
    algorithm: &'static Algorithm,
}

const AES_256: Aead = Aead { id: 0x0002, algorithm: &AES_256_GCM };

fn open_with(
    aead: &Aead,
    ecdh: &mut dyn EcdhZGen,
    recipient_point: &[u8],
    message: &SealedMessage,
) -> Result<Locked, TpmError> {
    if message.sealed.len() > SEALED_CAP_BYTES {
        return Err(TpmError::NotForThisKey);
    }
    let shared_secret = decapsulate(ecdh, &message.encapsulated, recipient_point)?;
    let schedule = Schedule::base(aead, &shared_secret, &message.info)?;
    schedule.open_first(aead, &message.aad, &message.sealed)
}

/// RFC 9180 §4.1 Decap: the TPM refuses a point that is not on the curve (Part 3, 14.6: TPM_RC_ECC_POINT).
fn decapsulate(
    ecdh: &mut dyn EcdhZGen,
    encapsulated: &[u8],
    recipient_point: &[u8],
) -> Result<Zeroizing<[u8; 32]>, TpmError> {
    let point = uncompressed(encapsulated).ok_or(TpmError::NotForThisKey)?;
    uncompressed(recipient_point).ok_or(TpmError::NotForThisKey)?;
    let dh = ecdh.z_gen(&point)?;
    let suite = [b"KEM".as_slice(), &KEM_ID.to_be_bytes()].concat();
    let eae_prk = labelled_extract(&suite, &[], b"eae_prk", dh.as_slice());
    let mut shared_secret = Zeroizing::new([0u8; 32]);
    let context = [encapsulated, recipient_point].concat();
    labelled_expand(&suite, &eae_prk, b"shared_secret", &context, shared_secret.as_mut_slice())?;
    Ok(shared_secret)
}

const KEM_ID: u16 = 0x0010;
const KDF_ID: u16 = 0x0001;
const MODE_BASE: u8 = 0x00;

struct Schedule {
    key: Zeroizing<Vec<u8>>,
    base_nonce: [u8; 12],
}

impl Schedule {
    /// RFC 9180 §5.1 KeySchedule with mode_base: no PSK.
    fn base(aead: &Aead, shared_secret: &[u8; 32], info: &[u8]) -> Result<Self, TpmError> {
        let suite = [b"HPKE".as_slice(), &KEM_ID.to_be_bytes(), &KDF_ID.to_be_bytes(), &aead.id.to_be_bytes()].concat();
        let psk_id_hash = labelled_extract(&suite, &[], b"psk_id_hash", &[]);
        let info_hash = labelled_extract(&suite, &[], b"info_hash", info);
        let context = [[MODE_BASE].as_slice(), psk_id_hash.as_slice(), info_hash.as_slice()].concat();
        let secret = labelled_extract(&suite, shared_secret, b"secret", &[]);
        let mut key = Zeroizing::new(vec![0u8; aead.algorithm.key_len()]);
        labelled_expand(&suite, &secret, b"key", &context, &mut key)?;
        let mut base_nonce = [0u8; 12];
        labelled_expand(&suite, &secret, b"base_nonce", &context, &mut base_nonce)?;
        Ok(Self { key, base_nonce })
    }

    /// RFC 9180 §5.2 ContextR.Open with sequence number 0: each context carries one message.
    /// Opens in locked memory from the start.
    fn open_first(&self, aead: &Aead, aad: &[u8], sealed: &[u8]) -> Result<Locked, TpmError> {
        let key = UnboundKey::new(aead.algorithm, &self.key).map_err(|_| TpmError::NotForThisKey)?;
        let mut buffer = Locked::copy_of(sealed)?;
        let length = LessSafeKey::new(key)
            .open_in_place(Nonce::assume_unique_for_key(self.base_nonce), Aad::from(aad), buffer.as_mut_slice())
            .map_err(|_| TpmError::NotForThisKey)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// RFC 9180 §4 LabeledExtract. HKDF-Extract is HMAC keyed by the salt (RFC 5869 §2.2), zeros if there is none.
fn labelled_extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    for part in [b"HPKE-v1".as_slice(), suite, label, ikm] {
        mac.update(part);
    }
    let mut prk = Zeroizing::new([0u8; 32]);
    prk.iter_mut().zip(mac.sign().as_ref()).for_each(|(to, from)| *to = *from);
    prk
}

/// RFC 9180 §4 LabeledExpand.
fn labelled_expand(suite: &[u8], prk: &[u8; 32], label: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), TpmError> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let impossible = |_| TpmError::Malformed { command: "HPKE", what: "output length".to_owned() };
    let length = u16::try_from(out.len())
        .map_err(|_| TpmError::Malformed { command: "HPKE", what: "output length".to_owned() })?
        .to_be_bytes();
    Prk::new_less_safe(HKDF_SHA256, prk)
        .expand(&[&length, b"HPKE-v1", suite, label, info], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(impossible)
}

/// Coordinates of an uncompressed point; whether it is on the curve is for the TPM to say.
fn uncompressed(bytes: &[u8]) -> Option<EccPointBytes> {
    if bytes.len() != POINT_BYTES {
        return None;
    }
    let (&[tag], rest) = bytes.split_first_chunk::<1>()?;
    let (x, rest) = rest.split_first_chunk::<32>()?;
    let (y, _) = rest.split_first_chunk::<32>()?;
    (tag == 0x04).then_some(EccPointBytes { x: *x, y: *y })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::AES_128_GCM;
    use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
    use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
    use rustls::crypto::hpke::{Hpke as _, HpkePublicKey};

    use super::*;

    /// The private key in memory instead of in a TPM.
    struct Software(PrivateKey);

    impl EcdhZGen for Software {
        fn z_gen(&mut self, point: &EccPointBytes) -> Result<Zeroizing<[u8; 32]>, TpmError> {
            let peer = UnparsedPublicKey::new(&ECDH_P256, [&[4u8][..], &point.x, &point.y].concat());
            agreement::agree(&self.0, peer, TpmError::NotForThisKey, |z| {
                Ok(Zeroizing::new(<[u8; 32]>::try_from(z).unwrap()))
            })
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    const AES_128: Aead = Aead { id: 0x0001, algorithm: &AES_128_GCM };

    /// RFC 9180 A.3.1: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, base mode, first encryption.
    fn published() -> (Software, Vec<u8>, SealedMessage) {
        let private = hex("f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2");
        let recipient = hex(
            "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a826a779b4cf969b8a0e539c7f62fb3d30ad6aa8f80e30f1d128aafd68a2ce72ea0",
        );
        let message = SealedMessage {
            encapsulated: hex(
                "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4",
            ),
            sealed: hex("5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f9076ac232e3ab2523f39513434"),
            info: hex("4f6465206f6e2061204772656369616e2055726e"),
            aad: hex("436f756e742d30"),
        };
        (Software(PrivateKey::from_private_key(&ECDH_P256, &private).unwrap()), recipient, message)
    }

    #[test]
    fn the_published_vector_opens() {
        let (mut key, recipient, message) = published();
        let shared = decapsulate(&mut key, &message.encapsulated, &recipient).unwrap();
        assert_eq!(shared.as_slice(), hex("c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8"));
        let schedule = Schedule::base(&AES_128, &shared, &message.info).unwrap();
        assert_eq!(schedule.key.as_slice(), hex("868c066ef58aae6dc589b6cfdd18f97e"));
        assert_eq!(schedule.base_nonce.as_slice(), hex("4e0bc5018beba4bf004cca59"));
        let plain = open_with(&AES_128, &mut key, &recipient, &message).unwrap();
        assert_eq!(plain.as_slice(), hex("4265617574792069732074727574682c20747275746820626561757479"));
    }

    #[test]
    fn one_changed_bit_anywhere_does_not_open() {
        let (mut key, recipient, genuine) = published();
        let parts: [fn(&mut SealedMessage) -> &mut Vec<u8>; 4] =
            [|m| &mut m.encapsulated, |m| &mut m.sealed, |m| &mut m.info, |m| &mut m.aad];
        for part in parts {
            let mut message = genuine.clone();
            *part(&mut message).last_mut().unwrap() ^= 1;
            assert_eq!(open_with(&AES_128, &mut key, &recipient, &message), Err(TpmError::NotForThisKey));
        }
        for length in [0, 1, 15, 64] {
            let mut message = genuine.clone();
            message.sealed.truncate(length.min(15));
            message.encapsulated.truncate(65 - length.min(1));
            assert_eq!(open_with(&AES_128, &mut key, &recipient, &message), Err(TpmError::NotForThisKey));
        }
    }

    #[test]
    fn what_rustls_seals_opens_here() {
        let suite = rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256;
        let private = PrivateKey::generate(&ECDH_P256).unwrap();
        let recipient = private.compute_public_key().unwrap().as_ref().to_vec();
        let bytes: EcPrivateKeyBin<'_> = private.as_be_bytes().unwrap();
        let mut key = Software(PrivateKey::from_private_key(&ECDH_P256, bytes.as_ref()).unwrap());
        let (encapsulated, sealed) =
            suite.seal(b"info", b"aad", b"execution key", &HpkePublicKey(recipient.clone())).unwrap();
        let message =
            SealedMessage { encapsulated: encapsulated.0, sealed, info: b"info".to_vec(), aad: b"aad".to_vec() };
        assert_eq!(open(&mut key, &recipient, &message).unwrap().as_slice(), b"execution key");
    }
}
