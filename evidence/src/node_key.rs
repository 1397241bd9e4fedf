//! The node key of a TEE without a TPM: an X-Wing HPKE recipient key, as the COSE_Key that stands in the binding.

use std::{collections::BTreeMap, sync::Arc};

use ciborium::Value;

use crate::{
    EvidenceDenial,
    cbor::{self, Caps},
    tpm::CertifiedNodeKey,
};

/// Length of an X-Wing public key: ML-KEM-768 (1184 bytes), then X25519 (32 bytes)
/// (draft-connolly-cfrg-xwing-kem §5.2).
pub const XWING_PUBLIC_KEY_BYTES: usize = 1216;

/// HPKE KEM identifier of X-Wing (draft-connolly-cfrg-xwing-kem §8.1).
pub const XWING_KEM_ID: u16 = 0x647a;

/// COSE `alg` of an X-Wing key here: private use, -65537 less the KEM id (RFC 9053 §2: below -65536).
pub const XWING_COSE_ALG: i64 = -91_259;

/// COSE key type AKP: a key whose algorithm says everything (draft-ietf-cose-dilithium §3).
const KTY_AKP: i64 = 7;
/// COSE_Key labels: kty, alg, and `pub` of AKP.
const KTY: i64 = 1;
const ALG: i64 = 3;
const PUB: i64 = -1;

/// Longest COSE_Key of an X-Wing key, in bytes.
const COSE_KEY_CAP_BYTES: usize = XWING_PUBLIC_KEY_BYTES + 32;

/// An X-Wing public key that came as a deterministic COSE_Key.
#[derive(Clone, PartialEq, Eq)]
pub struct XWingPublicKey {
    public: Box<[u8; XWING_PUBLIC_KEY_BYTES]>,
    cose_key: Box<[u8]>,
}

impl XWingPublicKey {
    /// The key of these bytes. Whether they are a usable ML-KEM key is judged by whoever encapsulates to them.
    ///
    /// # Errors
    /// [`EvidenceDenial::KeyUnusable`] when they are not 1216 bytes.
    pub fn new(public: &[u8]) -> Result<Self, EvidenceDenial> {
        let sized = <Box<[u8; XWING_PUBLIC_KEY_BYTES]>>::try_from(Box::<[u8]>::from(public))
            .map_err(|_| EvidenceDenial::KeyUnusable { what: "not the 1216 bytes of an X-Wing public key" })?;
        let key = BTreeMap::from([
            (KTY, Value::from(KTY_AKP)),
            (ALG, Value::from(XWING_COSE_ALG)),
            (PUB, Value::Bytes(public.to_vec())),
        ]);
        Ok(Self { public: sized, cose_key: cbor::to_vec(&key)?.into() })
    }

    /// Reads the deterministic COSE_Key of an X-Wing key.
    ///
    /// # Errors
    /// [`EvidenceDenial::Cbor`] when it is not deterministic; [`EvidenceDenial::KeyUnusable`] for any other key,
    /// parameter or length.
    pub fn from_cose_key(bytes: &[u8]) -> Result<Self, EvidenceDenial> {
        let map: BTreeMap<i64, Value> = cbor::from_slice(bytes, Caps::bytes(COSE_KEY_CAP_BYTES))?;
        let public = map.get(&PUB).and_then(Value::as_bytes);
        let key = Self::new(public.map_or(&[], Vec::as_slice))?;
        if *key.cose_key == *bytes {
            Ok(key)
        } else {
            Err(EvidenceDenial::KeyUnusable { what: "a COSE_Key of another type, algorithm or form than X-Wing's" })
        }
    }

    /// The 1216 bytes of the public key.
    #[must_use]
    pub fn public(&self) -> &[u8; XWING_PUBLIC_KEY_BYTES] {
        &self.public
    }

    /// Its deterministic COSE_Key: `{1: 7, 3: -91259, -1: bytes}`, the form it has in the binding.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        &self.cose_key
    }
}

impl std::fmt::Debug for XWingPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XWingPublicKey({})", crate::digest::Sha256Digest::of(&self.cose_key))
    }
}

/// A node key that appraisal accepts: proven to be out of anybody's reach but the node's.
#[derive(Clone, Debug)]
pub enum AttestedNodeKey {
    /// In a TPM, certified by its AK.
    Tpm(Arc<CertifiedNodeKey>),
    /// In the memory of a TEE, named by its report.
    XWing(XWingPublicKey),
}

impl AttestedNodeKey {
    /// Its deterministic COSE_Key.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        match self {
            Self::Tpm(key) => key.cose_key(),
            Self::XWing(key) => key.cose_key(),
        }
    }

    /// The TPM's key, if it is one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&Arc<CertifiedNodeKey>> {
        match self {
            Self::Tpm(key) => Some(key),
            Self::XWing(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_nothing_else_reads_as_one() {
        assert_eq!(XWING_COSE_ALG, -65_537 - i64::from(XWING_KEM_ID));
        let key = XWingPublicKey::new(&[7; XWING_PUBLIC_KEY_BYTES]).unwrap();
        assert_eq!(XWingPublicKey::from_cose_key(key.cose_key()).unwrap(), key);
        assert!(XWingPublicKey::new(&[7; XWING_PUBLIC_KEY_BYTES - 1]).is_err());
        assert!(XWingPublicKey::new(&[7; XWING_PUBLIC_KEY_BYTES + 1]).is_err());
        let public = || Value::Bytes(vec![7; XWING_PUBLIC_KEY_BYTES]);
        let with = |kty: i64, alg: i64, extra: Option<(i64, Value)>| {
            let mut map = BTreeMap::from([(1, Value::from(kty)), (3, Value::from(alg)), (-1, public())]);
            map.extend(extra);
            cbor::to_vec(&map).unwrap()
        };
        assert_eq!(with(7, XWING_COSE_ALG, None), key.cose_key());
        for wrong in [
            with(2, XWING_COSE_ALG, None),
            with(7, XWING_COSE_ALG - 1, None),
            with(7, XWING_COSE_ALG, Some((4, Value::from(1)))),
            [key.cose_key(), &[0]].concat(),
            key.cose_key()[..key.cose_key().len() - 1].to_vec(),
            cbor::to_vec(&BTreeMap::from([(1i64, Value::from(7))])).unwrap(),
        ] {
            assert!(XWingPublicKey::from_cose_key(&wrong).is_err(), "{}", hex::encode(&wrong[..8]));
        }
    }
}
