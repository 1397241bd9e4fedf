//! The node key of a TEE without a TPM: X-Wing, made when the daemon starts, in memory alone.
//!
//! The private part stands in a page of its own that is locked into RAM and zeroized with the key; it is never written
//! anywhere, so a restarted daemon has another key and nothing that was wrapped for the old one opens any more.

use evidence::node_key::XWingPublicKey;
use hpke::aead::{AeadTag, AesGcm256};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem, OpModeR, Serializable as _, single_shot_open_inout_detached};

use crate::locked::{Locked, NotLocked, scrub_stack};
use crate::tpm::hpke::{SEALED_CAP_BYTES, SealedMessage};

/// X-Wing's private key: the seed that the rest is expanded from (draft-connolly-cfrg-xwing-kem §5.2).
const SEED_BYTES: usize = 32;
/// AES-256-GCM's tag, behind the ciphertext (RFC 9180 §5.2, RFC 5116 §5.1).
const TAG_BYTES: usize = 16;

/// Why a node key in memory cannot be made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XWingKeyError {
    /// Its memory, or that of what it opens, cannot be locked.
    #[error(transparent)]
    NotLocked(#[from] NotLocked),
    /// The system gives no randomness.
    #[error("the system gives no randomness for the node key")]
    NoRandomness,
    /// A defect here: the library's public key is not X-Wing's.
    #[error("the node key's public part: {why}")]
    Unusable {
        /// Why.
        why: String,
    },
    /// It was sealed to another key or altered: the one denial here.
    #[error("not sealed to this node's key, or altered")]
    NotForThisKey,
}

impl XWingKeyError {
    /// `denied` or `fault`.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::NotForThisKey => "denied",
            Self::NotLocked(_) | Self::NoRandomness | Self::Unusable { .. } => "fault",
        }
    }

    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotLocked(_) => "fault.memory_not_locked",
            Self::NoRandomness => "fault.no_randomness",
            Self::Unusable { .. } => "fault.bug",
            Self::NotForThisKey => "governance.key_not_for_this_node",
        }
    }
}

/// A node key in locked memory. Not cloned: there is one copy of it.
pub struct XWingKey {
    seed: Locked,
    public: XWingPublicKey,
}

impl XWingKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`XWingKeyError`]; nothing is used that is not locked.
    pub fn generate() -> Result<Self, XWingKeyError> {
        let mut seed = Locked::zeros(SEED_BYTES)?;
        aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| XWingKeyError::NoRandomness)?;
        let unusable = |why: String| XWingKeyError::Unusable { why };
        let public = XWing::sk_to_pk(&private(&seed)?).to_bytes();
        let public = XWingPublicKey::new(&public).map_err(|denial| unusable(denial.to_string()))?;
        Ok(Self { seed, public })
    }

    /// Its public part.
    #[must_use]
    pub const fn public(&self) -> &XWingPublicKey {
        &self.public
    }

    /// Opens a message sealed to this key (`wire::protocol::HPKE_X_WING_SUITE`), in locked memory from the start.
    ///
    /// # Errors
    /// [`XWingKeyError::NotForThisKey`], [`XWingKeyError::NotLocked`].
    pub fn open(&self, message: &SealedMessage) -> Result<Locked, XWingKeyError> {
        let refuse = |_| XWingKeyError::NotForThisKey;
        if message.sealed.len() > SEALED_CAP_BYTES {
            return Err(XWingKeyError::NotForThisKey);
        }
        let (sealed, tag) = message.sealed.split_last_chunk::<TAG_BYTES>().ok_or(XWingKeyError::NotForThisKey)?;
        let tag = AeadTag::<AesGcm256>::from_bytes(tag).map_err(refuse)?;
        let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(&message.encapsulated).map_err(refuse)?;
        let mut opened = Locked::copy_of(sealed)?;
        let outcome = single_shot_open_inout_detached::<AesGcm256, HkdfSha256, XWing>(
            &OpModeR::Base,
            &private(&self.seed)?,
            &encapsulated,
            &message.info,
            InOutBuf::from(opened.as_mut_slice()),
            &message.aad,
            &tag,
        );
        scrub_stack();
        outcome.map(|()| opened).map_err(refuse)
    }
}

impl std::fmt::Debug for XWingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XWingKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The library's form of the key, for one operation; it zeroizes itself.
fn private(seed: &Locked) -> Result<<XWing as Kem>::PrivateKey, XWingKeyError> {
    <XWing as Kem>::PrivateKey::from_bytes(seed.as_slice())
        .map_err(|error| XWingKeyError::Unusable { why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use hpke::{OpModeS, single_shot_seal};

    use super::*;

    fn seal(to: &XWingPublicKey, secret: &[u8]) -> SealedMessage {
        let recipient = <XWing as Kem>::PublicKey::from_bytes(to.public()).unwrap();
        let (encapsulated, sealed) =
            single_shot_seal::<AesGcm256, HkdfSha256, XWing>(&OpModeS::Base, &recipient, b"info", secret, b"aad")
                .unwrap();
        let encapsulated = encapsulated.to_bytes().to_vec();
        SealedMessage { encapsulated, sealed, info: b"info".to_vec(), aad: b"aad".to_vec() }
    }

    #[test]
    fn only_its_holder_opens_what_is_sealed_to_it() {
        let (key, other) = (XWingKey::generate().unwrap(), XWingKey::generate().unwrap());
        assert_ne!(key.public(), other.public());
        let message = seal(key.public(), b"execution key");
        assert_eq!(key.open(&message).unwrap().as_slice(), b"execution key");
        assert_eq!(other.open(&message), Err(XWingKeyError::NotForThisKey));
    }

    #[test]
    fn one_changed_bit_anywhere_does_not_open() {
        let key = XWingKey::generate().unwrap();
        let genuine = seal(key.public(), b"execution key");
        let parts: [fn(&mut SealedMessage) -> &mut Vec<u8>; 4] =
            [|m| &mut m.encapsulated, |m| &mut m.sealed, |m| &mut m.info, |m| &mut m.aad];
        for part in parts {
            for at in [0, 1] {
                let mut message = genuine.clone();
                let bytes = part(&mut message);
                let at = at * (bytes.len() - 1);
                bytes[at] ^= 1;
                assert_eq!(key.open(&message), Err(XWingKeyError::NotForThisKey));
            }
        }
        for length in [0, 1, 15, 1119] {
            let mut message = genuine.clone();
            message.encapsulated.truncate(length);
            assert_eq!(key.open(&message), Err(XWingKeyError::NotForThisKey));
            let mut message = genuine.clone();
            message.sealed.truncate(length.min(12));
            assert_eq!(key.open(&message), Err(XWingKeyError::NotForThisKey));
        }
        let huge = SealedMessage { sealed: vec![0; SEALED_CAP_BYTES + 1], ..genuine };
        assert_eq!(key.open(&huge), Err(XWingKeyError::NotForThisKey));
    }

    #[test]
    fn it_is_not_shown() {
        let key = XWingKey::generate().unwrap();
        assert_eq!(key.seed.as_slice().len(), SEED_BYTES);
        assert!(!format!("{key:?}").contains(&hex::encode(key.seed.as_slice())));
    }
}
