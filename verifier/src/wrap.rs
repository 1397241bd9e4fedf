//! Wrapping execution keys to a node key that never leaves its TPM or its TEE's memory.

use std::sync::Arc;

use evidence::names::ItemName;
use evidence::node_key::{AttestedNodeKey, XWingPublicKey};
use evidence::tpm::CertifiedNodeKey;
use governance::GovernanceDenial;
use governance::key_share::KeyShare;
use governance::node_key::NodeKey;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _, single_shot_seal_with_rng};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePublicKey};
use thiserror::Error;
use wire::proto::{HpkeSuite, WrappedKey};
use wire::protocol::{EXECUTION_KEY_INFO, execution_key_aad, key_share_aad};

use crate::random::Drawn;

/// Whom an execution key is wrapped for.
#[derive(Clone, Copy, Debug)]
pub enum Recipient<'k> {
    /// A key in a TPM: its 65-byte P-256 point.
    Tpm(&'k [u8]),
    /// A key in a TEE's memory.
    Tee(&'k XWingPublicKey),
}

/// A node key that is known to be out of anybody's reach but the node's: from evidence, or by the word of a partner.
#[derive(Clone, Debug)]
pub(crate) enum HolderKey {
    /// We attested it.
    Attested(AttestedNodeKey),
    /// A partner attested a key in a TPM: its 65-byte P-256 point.
    VouchedTpm(Vec<u8>),
    /// A partner attested a key in a TEE's memory.
    VouchedTee(XWingPublicKey),
}

impl HolderKey {
    /// The key that a partner's artifact is bound to.
    pub(crate) fn vouched(key: &NodeKey) -> Result<Self, GovernanceDenial> {
        let unusable = || GovernanceDenial::FieldInvalid {
            what: "artifact",
            field: "cnf",
            rule: "a P-256 or X-Wing key in its one form",
        };
        if let Ok(key) = XWingPublicKey::from_cose_key(key.cose_key()) {
            return Ok(Self::VouchedTee(key));
        }
        key.p256_point().map(Self::VouchedTpm).ok_or_else(unusable)
    }

    /// The TPM's key that we verified ourselves, if it is one.
    pub(crate) const fn certified(&self) -> Option<&Arc<CertifiedNodeKey>> {
        match self {
            Self::Attested(key) => key.tpm(),
            Self::VouchedTpm(_) | Self::VouchedTee(_) => None,
        }
    }
}

impl<'k> From<&'k HolderKey> for Recipient<'k> {
    fn from(key: &'k HolderKey) -> Self {
        match key {
            HolderKey::Attested(AttestedNodeKey::Tpm(key)) => Self::Tpm(key.point()),
            HolderKey::Attested(AttestedNodeKey::XWing(key)) | HolderKey::VouchedTee(key) => Self::Tee(key),
            HolderKey::VouchedTpm(point) => Self::Tpm(point),
        }
    }
}

/// The attested key is no key of its kind, or the system gave no randomness: nothing is released.
#[derive(Debug, Error)]
#[error("execution key {name} cannot be wrapped: {why}")]
pub struct WrapError {
    name: ItemName,
    why: String,
}

/// Seals `key` so that only the holder of the attested node key opens it, and only as this key of this artifact.
pub fn to_node_key(
    recipient: Recipient<'_>,
    artifact_id: &[u8; 16],
    name: &ItemName,
    key: &[u8],
) -> Result<WrappedKey, WrapError> {
    wrap(recipient, &execution_key_aad(artifact_id, name.as_str()), name, key, Vec::new())
}

/// Seals a share of a split key in the same way, its header with it: it opens as this share of this splitting alone.
pub fn share_to_node_key(
    recipient: Recipient<'_>,
    artifact_id: &[u8; 16],
    share: &KeyShare,
) -> Result<WrappedKey, WrapError> {
    let name = &share.header().group.name;
    let header = share.header().encode();
    let header = header.map_err(|denial| WrapError { name: name.clone(), why: denial.to_string() })?;
    let aad = key_share_aad(artifact_id, name.as_str(), &header);
    wrap(recipient, &aad, name, share.secret(), header)
}

fn wrap(
    recipient: Recipient<'_>,
    aad: &[u8],
    name: &ItemName,
    key: &[u8],
    share: Vec<u8>,
) -> Result<WrappedKey, WrapError> {
    let (suite, sealed) = match recipient {
        Recipient::Tpm(point) => (HpkeSuite::P256, to_p256(point, aad, key)),
        Recipient::Tee(public) => (HpkeSuite::XWing, to_x_wing(public, aad, key)),
    };
    let (encapsulated, sealed) = sealed.map_err(|why| WrapError { name: name.clone(), why })?;
    Ok(WrappedKey { name: name.to_string(), encapsulated, sealed, suite: i32::from(suite), share })
}

/// HPKE encapsulation and ciphertext.
type Sealed = (Vec<u8>, Vec<u8>);

fn to_p256(point: &[u8], aad: &[u8], key: &[u8]) -> Result<Sealed, String> {
    let recipient = HpkePublicKey(point.to_vec());
    let sealed = DH_KEM_P256_HKDF_SHA256_AES_256.seal(EXECUTION_KEY_INFO, aad, key, &recipient);
    sealed.map(|(encapsulated, sealed)| (encapsulated.0, sealed)).map_err(|error| error.to_string())
}

fn to_x_wing(public: &XWingPublicKey, aad: &[u8], key: &[u8]) -> Result<Sealed, String> {
    // ML-KEM's own check of a public key (FIPS 203 §7.2) is made here.
    let recipient = <XWing as Kem>::PublicKey::from_bytes(public.public()).map_err(|error| error.to_string())?;
    let mut drawn = Drawn::of(64).map_err(|error| error.to_string())?;
    let sealed = single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &recipient,
        EXECUTION_KEY_INFO,
        key,
        aad,
        &mut drawn,
    );
    let (encapsulated, sealed) = sealed.map_err(|error| error.to_string())?;
    match drawn.is_short() {
        false => Ok((encapsulated.to_bytes().to_vec(), sealed)),
        true => Err("an encapsulation asked for more randomness than X-Wing needs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpke::aead::Aead as _;
    use hpke::kdf::Kdf as _;
    use hpke::{OpModeR, single_shot_open};
    use rustls::crypto::hpke::EncapsulatedSecret;
    use wire::protocol::{HPKE_P256_SUITE, HPKE_X_WING_SUITE};

    fn name() -> ItemName {
        ItemName::new("db").unwrap()
    }

    #[test]
    fn only_the_named_key_of_the_named_artifact_opens_in_a_tpm() {
        let suite = DH_KEM_P256_HKDF_SHA256_AES_256.suite();
        assert_eq!(HPKE_P256_SUITE, (u16::from(suite.kem), u16::from(suite.sym.kdf_id), u16::from(suite.sym.aead_id)));
        let (public, private) = DH_KEM_P256_HKDF_SHA256_AES_256.generate_key_pair().unwrap();
        let wrapped = to_node_key(Recipient::Tpm(&public.0), &[1; 16], &name(), b"secret").unwrap();
        assert_eq!(wrapped.suite(), HpkeSuite::P256);
        let open = |aad: &[u8]| {
            let enc = EncapsulatedSecret(wrapped.encapsulated.clone());
            DH_KEM_P256_HKDF_SHA256_AES_256.open(&enc, EXECUTION_KEY_INFO, aad, &wrapped.sealed, &private)
        };
        assert_eq!(open(&execution_key_aad(&[1; 16], "db")).unwrap(), b"secret");
        assert!(open(&execution_key_aad(&[2; 16], "db")).is_err());
        assert!(open(&execution_key_aad(&[1; 16], "dc")).is_err());
        let to = |point: &[u8]| to_node_key(Recipient::Tpm(point), &[1; 16], &name(), b"secret");
        assert!(to(&[4; 65]).is_err(), "not a point");
        assert!(to(&[]).is_err());
    }

    #[test]
    fn only_the_named_key_of_the_named_artifact_opens_in_a_tee() {
        assert_eq!(HPKE_X_WING_SUITE, (XWing::KEM_ID, HkdfSha256::KDF_ID, AesGcm256::AEAD_ID));
        let (private, public) = XWing::derive_keypair(&[7; 32]);
        let (other, _) = XWing::derive_keypair(&[8; 32]);
        let public = XWingPublicKey::new(&public.to_bytes()).unwrap();
        let wrap = || to_node_key(Recipient::Tee(&public), &[1; 16], &name(), b"secret").unwrap();
        let wrapped = wrap();
        assert_eq!((wrapped.suite(), wrapped.encapsulated.len()), (HpkeSuite::XWing, 1_120));
        assert_ne!(wrap().encapsulated, wrapped.encapsulated, "each encapsulation has its own randomness");
        let enc = <XWing as Kem>::EncappedKey::from_bytes(&wrapped.encapsulated).unwrap();
        let open = |private, aad: &[u8]| {
            single_shot_open::<AesGcm256, HkdfSha256, XWing>(
                &OpModeR::Base,
                private,
                &enc,
                EXECUTION_KEY_INFO,
                &wrapped.sealed,
                aad,
            )
        };
        assert_eq!(open(&private, &execution_key_aad(&[1; 16], "db")).unwrap(), b"secret");
        assert!(open(&private, &execution_key_aad(&[2; 16], "db")).is_err());
        assert!(open(&private, &execution_key_aad(&[1; 16], "dc")).is_err());
        assert!(open(&other, &execution_key_aad(&[1; 16], "db")).is_err());
        let unusable = XWingPublicKey::new(&[0xff; 1216]).unwrap();
        assert!(to_node_key(Recipient::Tee(&unusable), &[1; 16], &name(), b"secret").is_err(), "coefficients above q");
    }
}
