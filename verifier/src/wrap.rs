//! Wrapping execution keys to a node key that never leaves its TPM.

use evidence::names::ItemName;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePublicKey};
use thiserror::Error;
use wire::proto::{HpkeSuite, WrappedKey};
use wire::protocol::{EXECUTION_KEY_INFO, execution_key_aad};

/// The attested key is no point of the curve, or the system gave no randomness: nothing is released.
#[derive(Debug, Error)]
#[error("execution key {name} cannot be wrapped: {source}")]
pub struct WrapError {
    name: ItemName,
    source: rustls::Error,
}

/// Seals `key` so that only the holder of `node_key` (65-byte P-256 point) opens it, and only as this key of this artifact.
pub fn to_node_key(
    node_key: &[u8],
    artifact_id: &[u8; 16],
    name: &ItemName,
    key: &[u8],
) -> Result<WrappedKey, WrapError> {
    let aad = execution_key_aad(artifact_id, name.as_str());
    let recipient = HpkePublicKey(node_key.to_vec());
    let (encapsulated, sealed) = DH_KEM_P256_HKDF_SHA256_AES_256
        .seal(EXECUTION_KEY_INFO, &aad, key, &recipient)
        .map_err(|source| WrapError { name: name.clone(), source })?;
    let suite = i32::from(HpkeSuite::P256);
    Ok(WrappedKey { name: name.to_string(), encapsulated: encapsulated.0, sealed, suite })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::hpke::EncapsulatedSecret;
    use wire::protocol::HPKE_P256_SUITE;

    #[test]
    fn only_the_named_key_of_the_named_artifact_opens() {
        let suite = DH_KEM_P256_HKDF_SHA256_AES_256.suite();
        assert_eq!(HPKE_P256_SUITE, (u16::from(suite.kem), u16::from(suite.sym.kdf_id), u16::from(suite.sym.aead_id)));
        let (public, private) = DH_KEM_P256_HKDF_SHA256_AES_256.generate_key_pair().unwrap();
        let name = ItemName::new("db").unwrap();
        let wrapped = to_node_key(&public.0, &[1; 16], &name, b"secret").unwrap();
        let open = |aad: &[u8]| {
            let enc = EncapsulatedSecret(wrapped.encapsulated.clone());
            DH_KEM_P256_HKDF_SHA256_AES_256.open(&enc, EXECUTION_KEY_INFO, aad, &wrapped.sealed, &private)
        };
        assert_eq!(open(&execution_key_aad(&[1; 16], "db")).unwrap(), b"secret");
        assert!(open(&execution_key_aad(&[2; 16], "db")).is_err());
        assert!(open(&execution_key_aad(&[1; 16], "dc")).is_err());
        assert!(to_node_key(&[4; 65], &[1; 16], &name, b"secret").is_err(), "not a point");
        assert!(to_node_key(&[], &[1; 16], &name, b"secret").is_err());
    }
}
