//! End record: a node's signed word that an execution ended by itself.

use std::collections::BTreeMap;

use evidence::{
    cose::{KeySet, Purpose, SigningKey},
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
    halt::{HALT_LIST_CAP, authorizations_bounded},
};

/// Version of the record.
pub const END_VERSION: u8 = 1;
/// Longest encoded end record, in bytes.
pub const END_CAP_BYTES: usize = 8 * 1024;

const KIND: Kind = Kind { name: "end record", cap_bytes: END_CAP_BYTES };

/// The record itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndRecord {
    /// [`END_VERSION`].
    pub version: u8,
    /// The domain that is told: each has a record of its own.
    pub domain: DomainName,
    /// Which node.
    pub node: NodeId,
    /// Digest of the intent that ended.
    pub intent: Sha256Digest,
    /// Digests of the artifacts that were live.
    pub artifacts: Vec<Sha256Digest>,
    /// The lineage records by which each domain last authorized them, by domain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorizations: BTreeMap<DomainName, Vec<Sha256Digest>>,
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// How many execution keys were wiped.
    pub keys_wiped: u32,
    /// When it ended, by the node's clock.
    pub ended_at: UnixSeconds,
    /// Newest record of its lineage that the node knows.
    pub lineage_head: Sha256Digest,
}

impl EndRecord {
    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a list is too long.
    pub fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        self.bounded()?;
        codec::write(KIND, self)
    }

    /// Reads an end record; its signature is not judged here.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        let record: Self = codec::read(KIND, payload)?;
        record.bounded()?;
        Ok(record)
    }

    /// SHA-256 of its deterministic CBOR.
    ///
    /// # Errors
    /// As for [`EndRecord::encode`].
    pub fn digest(&self) -> Result<Sha256Digest, GovernanceDenial> {
        Ok(Sha256Digest::of(&self.encode()?))
    }

    /// Signs it with the node's record key.
    ///
    /// # Errors
    /// As for [`EndRecord::encode`].
    pub fn sign(&self, record_key: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        codec::sign(KIND, Purpose::EndRecord, &self.domain, &self.encode()?, record_key)
    }

    /// Reads an end record of `node` for `told`, signed by that node's record key.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify(
        bytes: &[u8],
        told: &DomainName,
        node: &NodeId,
        record_keys: &KeySet,
    ) -> Result<Self, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::EndRecord, told, bytes, record_keys)?;
        let record = Self::decode(signed.payload())?;
        codec::addressed(KIND.name, (&record.domain, told), (&record.node, node))?;
        Ok(record)
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(KIND.name, self.version, END_VERSION)?;
        authorizations_bounded(KIND.name, &self.authorizations)?;
        if self.artifacts.len() > HALT_LIST_CAP {
            let rule = "at most 64";
            return Err(GovernanceDenial::FieldInvalid { what: KIND.name, field: "artifacts", rule });
        }
        Ok(())
    }
}
