//! What a proof needs to know of the signed payloads whose types belong to another crate.
//!
//! This crate checks signatures, digests and the log; what an artifact or a bundle *says* is read by whoever knows its
//! type, and compared here.

use std::collections::BTreeMap;

use evidence::{
    cose::PublicKey,
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    time::UnixSeconds,
};

/// A key and the time in which its signatures count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedKey {
    /// The key.
    pub key: PublicKey,
    /// First second.
    pub from: UnixSeconds,
    /// First second after.
    pub until: UnixSeconds,
}

/// A domain's keys, from a trust bundle that its authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainKeys {
    /// Whose.
    pub domain: DomainName,
    /// Grows with every bundle of the domain.
    pub sequence: u64,
    /// When the bundle was issued: keys of the one before that it lacks count no more.
    pub issued_at: UnixSeconds,
    /// Issuer keys.
    pub issuer: Vec<TimedKey>,
    /// Origin line of its log.
    pub log_origin: String,
    /// Log keys.
    pub log: Vec<TimedKey>,
    /// Witness keys.
    pub witness: Vec<TimedKey>,
}

/// What an artifact says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactFacts {
    /// Its id.
    pub id: [u8; 16],
    /// Digest of its terms.
    pub terms: Sha256Digest,
    /// Index of the log entry that it refers to.
    pub index: u64,
    /// Digest of that entry.
    pub entry: Sha256Digest,
    /// Digest of its intent.
    pub intent: Sha256Digest,
    /// Its node.
    pub node: NodeId,
    /// Its lease sequence number.
    pub lease_seq: u64,
}

/// What a node's own statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Which node it is about.
    pub node: NodeId,
    /// The intent that ended, for an end record.
    pub intent: Option<Sha256Digest>,
    /// Code of the trigger, for a halt record.
    pub code: Option<String>,
    /// The records by which each domain last authorized what is over, for end and halt.
    pub authorizations: BTreeMap<DomainName, Vec<Sha256Digest>>,
}

/// What a readmission says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadmissionFacts {
    /// Which node.
    pub node: NodeId,
    /// Digest of the halt record that it answers.
    pub halt: Sha256Digest,
    /// Epoch from which it counts.
    pub epoch: u64,
}

/// What a passport says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassportFacts {
    /// Which node.
    pub node: NodeId,
    /// The domain that judged its evidence.
    pub partner: DomainName,
    /// Digest of that domain's Attestation Result, as signed.
    pub result: Sha256Digest,
    /// Digest of the record in that domain's log that granted it.
    pub entry: Sha256Digest,
}

/// Reads verified payloads. Every method refuses, with a reason, what is not of its type.
pub trait PayloadReader {
    /// A trust bundle.
    ///
    /// # Errors
    /// Why it is none.
    fn domain_keys(&self, payload: &[u8]) -> Result<DomainKeys, String>;
    /// An intent.
    ///
    /// # Errors
    /// Why it is none.
    fn intent(&self, payload: &[u8]) -> Result<NodeFacts, String>;
    /// An artifact.
    ///
    /// # Errors
    /// Why it is none.
    fn artifact(&self, payload: &[u8]) -> Result<ArtifactFacts, String>;
    /// A halt record.
    ///
    /// # Errors
    /// Why it is none.
    fn halt(&self, payload: &[u8]) -> Result<NodeFacts, String>;
    /// An end record.
    ///
    /// # Errors
    /// Why it is none.
    fn end(&self, payload: &[u8]) -> Result<NodeFacts, String>;
    /// A statement that readmits a node.
    ///
    /// # Errors
    /// Why it is none.
    fn readmission(&self, payload: &[u8]) -> Result<ReadmissionFacts, String>;
    /// A passport.
    ///
    /// # Errors
    /// Why it is none.
    fn passport(&self, payload: &[u8]) -> Result<PassportFacts, String>;
}
