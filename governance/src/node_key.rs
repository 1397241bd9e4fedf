//! The node key: the HPKE recipient that never leaves the TPM or the TEE, named in artifacts as `cnf` (RFC 8747).

use std::collections::BTreeMap;

use ciborium::Value;
use evidence::{
    cbor::{self, Caps},
    cose::p256_cose_key,
    digest::Sha256Digest,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::denial::GovernanceDenial;

/// Longest COSE_Key of a node key: an X-Wing key (1,216 bytes) and its parameters.
pub const NODE_KEY_CAP_BYTES: usize = 1_536;

/// A node key as the exact bytes of its deterministic COSE_Key. Which kinds are accepted is judged by appraisal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeKey(Vec<u8>);

impl NodeKey {
    /// Reads a deterministic COSE_Key map.
    ///
    /// # Errors
    /// [`GovernanceDenial::Malformed`] when the bytes are something else.
    pub fn from_cose_key(bytes: &[u8]) -> Result<Self, GovernanceDenial> {
        match cbor::from_slice::<BTreeMap<i64, Value>>(bytes, Caps::bytes(NODE_KEY_CAP_BYTES)) {
            Ok(map) if !map.is_empty() => Ok(Self(bytes.to_vec())),
            Ok(_) => Err(GovernanceDenial::Malformed { what: "node key", cause: "empty map".into() }),
            Err(cause) => Err(GovernanceDenial::Malformed { what: "node key", cause: cause.to_string() }),
        }
    }

    /// The COSE_Key.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        &self.0
    }

    /// Its uncompressed point, where it is a P-256 key in the one form that TPMs' node keys have (RFC 9053 §7.1.1).
    #[must_use]
    pub fn p256_point(&self) -> Option<Vec<u8>> {
        let map: BTreeMap<i64, Value> = cbor::from_slice(&self.0, Caps::bytes(NODE_KEY_CAP_BYTES)).ok()?;
        let (x, y) = (map.get(&-2)?.as_bytes()?, map.get(&-3)?.as_bytes()?);
        let point = [&[0x04], x.as_slice(), y.as_slice()].concat();
        (p256_cose_key(&point).ok()? == self.0).then_some(point)
    }

    /// Does an execution that was authorized for the key named `held` go on with its holder?
    ///
    /// # Errors
    /// [`GovernanceDenial::NodeKeyChanged`] when this is another key.
    pub fn continues(&self, held: Sha256Digest) -> Result<(), GovernanceDenial> {
        let got = self.digest();
        if got == held { Ok(()) } else { Err(GovernanceDenial::NodeKeyChanged { got, held }) }
    }

    /// SHA-256 of the COSE_Key: its name in denials and records.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(&self.0)
    }
}

impl Serialize for NodeKey {
    /// The COSE_Key map itself, not a byte string around it, as RFC 8747 §3.2 has it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let map: BTreeMap<i64, Value> =
            cbor::from_slice(&self.0, Caps::bytes(NODE_KEY_CAP_BYTES)).map_err(S::Error::custom)?;
        map.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NodeKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<i64, Value>::deserialize(deserializer)?;
        let bytes = cbor::to_vec(&map).map_err(D::Error::custom)?;
        Self::from_cose_key(&bytes).map_err(D::Error::custom)
    }
}
