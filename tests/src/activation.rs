//! TPM2_ActivateCredential in software: what a TPM does with a credential, for a machine that has none
//! (TPM2 Library Part 1 §24, annex C.6.4). P-256 EK, SHA-256, AES-128.

use aws_lc_rs::{
    agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey},
    cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey},
    digest, hmac,
    iv::FixedLength,
};

/// An EK that can open credentials.
pub struct ActivatingEk {
    private: PrivateKey,
    /// Its point, uncompressed.
    pub point: Vec<u8>,
}

impl Default for ActivatingEk {
    fn default() -> Self {
        let private = PrivateKey::generate(&ECDH_P256).unwrap();
        let point = private.compute_public_key().unwrap().as_ref().to_vec();
        Self { private, point }
    }
}

impl ActivatingEk {
    /// The secret in a credential made for this EK and an object with this Name; nothing when it was made for others.
    pub fn activate(&self, blob: &[u8], encrypted_secret: &[u8], object_name: &[u8]) -> Option<Vec<u8>> {
        let (point, _) = sized(encrypted_secret)?;
        let (x, rest) = sized(point)?;
        let (y, _) = sized(rest)?;
        let ephemeral = [&[4u8][..], x, y].concat();
        let own_x = &self.point[1..33];
        let seed = agreement::agree(&self.private, UnparsedPublicKey::new(&ECDH_P256, &ephemeral), (), |z| {
            Ok(hash(&[&1u32.to_be_bytes(), z, b"IDENTITY\0", x, own_x]))
        })
        .ok()?;
        let (object, _) = sized(blob)?;
        let (mac, identity) = sized(object)?;
        let mac_key = kdfa(&seed, b"INTEGRITY\0", &[], 256);
        let mut message = identity.to_vec();
        message.extend_from_slice(object_name);
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &mac_key), &message, mac).ok()?;
        let key = kdfa(&seed, b"STORAGE\0", object_name, 128);
        let key = UnboundCipherKey::new(&AES_128, &key[..16]).ok()?;
        let mut plain = identity.to_vec();
        let iv = DecryptionContext::Iv128(FixedLength::from([0; 16]));
        DecryptingKey::cfb128(key).ok()?.decrypt(&mut plain, iv).ok()?;
        sized(&plain).map(|(secret, _)| secret.to_vec())
    }
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    digest::digest(&digest::SHA256, &parts.concat()).as_ref().to_vec()
}

fn kdfa(key: &[u8], label: &[u8], context: &[u8], bits: u32) -> Vec<u8> {
    let message = [&1u32.to_be_bytes()[..], label, context, &bits.to_be_bytes()].concat();
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &message).as_ref().to_vec()
}
