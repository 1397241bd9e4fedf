//! Lineage records as this domain writes them: one chain per node, each record naming the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use audit::record::{LineageRecord, RECORD_VERSION, RecordBody};
use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, NodeId};
use evidence::time::UnixSeconds;

use crate::fault::Fault;
use crate::online_keys::Issuer;
use crate::store::NewEntry;

/// A signed record, ready to be logged, and its name.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// The log entry.
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 of the entry: how other records name it.
    pub(crate) digest: Sha256Digest,
}

impl Signed {
    /// As an entry listed under these subjects.
    pub(crate) fn entry(self, subjects: &[String]) -> NewEntry {
        subjects.iter().fold(NewEntry::new(self.bytes), |entry, subject| entry.about(subject.clone()))
    }
}

/// A node's chain, growing at its end.
pub(crate) struct Chain<'k> {
    issuer: Arc<SigningKey>,
    domain: &'k DomainName,
    node: Option<NodeId>,
    at: UnixSeconds,
    head: Option<Sha256Digest>,
    elsewhere: BTreeMap<DomainName, Vec<Sha256Digest>>,
}

impl<'k> Chain<'k> {
    /// Goes on after `head`, the node's newest record.
    pub(crate) fn after(
        issuer: &Issuer,
        domain: &'k DomainName,
        node: &NodeId,
        head: Sha256Digest,
        at: UnixSeconds,
    ) -> Self {
        Self {
            issuer: issuer.signing(),
            domain,
            node: Some(node.clone()),
            at,
            head: Some(head),
            elsewhere: BTreeMap::new(),
        }
    }

    /// Starts a node's chain.
    pub(crate) fn origin(issuer: &Issuer, domain: &'k DomainName, node: &NodeId, at: UnixSeconds) -> Self {
        Self { issuer: issuer.signing(), domain, node: Some(node.clone()), at, head: None, elsewhere: BTreeMap::new() }
    }

    /// A record about somebody who has no chain here.
    pub(crate) fn stranger(issuer: &Issuer, domain: &'k DomainName, at: UnixSeconds) -> Self {
        Self { issuer: issuer.signing(), domain, node: None, at, head: None, elsewhere: BTreeMap::new() }
    }

    /// What the next record follows from in other domains' logs, as the node says; what it says of ours is in ours.
    pub(crate) fn follows(mut self, authorizations: &BTreeMap<DomainName, Vec<Sha256Digest>>) -> Self {
        self.follow(authorizations);
        self
    }

    /// The same, for a chain that has begun.
    pub(crate) fn follow(&mut self, records: &BTreeMap<DomainName, Vec<Sha256Digest>>) {
        self.elsewhere = records.clone();
        self.elsewhere.remove(self.domain);
    }

    /// The next record; `also` are parents besides the record before.
    pub(crate) fn next(
        &mut self,
        subject: Sha256Digest,
        also: &[Sha256Digest],
        body: RecordBody,
    ) -> Result<Signed, Fault> {
        let record = LineageRecord {
            version: RECORD_VERSION,
            domain: self.domain.clone(),
            node: self.node.clone(),
            subject,
            parents: self.head.iter().chain(also).copied().collect(),
            elsewhere: std::mem::take(&mut self.elsewhere),
            at: self.at,
            body,
        };
        // Our own record within our own rules; a refusal here is a mistake of ours.
        let bytes = record.sign(&self.issuer).map_err(|error| Fault::Bug { what: error.to_string() })?;
        let digest = Sha256Digest::of(&bytes);
        self.head = Some(digest);
        Ok(Signed { bytes, digest })
    }
}
