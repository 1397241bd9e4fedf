//! Revocations: what a domain no longer stands by. A list only grows; its digest is in the governance state.

use evidence::{
    cose::{KeySet, Purpose, SigningKey},
    digest::Sha256Digest,
    names::{DomainName, ItemName, NodeId},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{ArtifactId, ArtifactTerms},
    codec::{self, Kind},
    denial::GovernanceDenial,
    text::Text,
};

/// Version of the record.
pub const REVOCATION_VERSION: u8 = 1;
/// Longest encoded revocation, in bytes.
pub const REVOCATION_CAP_BYTES: usize = 2048;

const KIND: Kind = Kind { name: "revocation", cap_bytes: REVOCATION_CAP_BYTES };

/// What kind of thing was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RevokedKind {
    /// An authorization artifact, over all its renewals.
    Artifact,
    /// A node.
    Node,
    /// An execution key.
    Key,
    /// A measured value.
    Measurement,
    /// A reference value set.
    ReferenceSet,
}

impl std::fmt::Display for RevokedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Artifact => "artifact",
            Self::Node => "node",
            Self::Key => "key",
            Self::Measurement => "measurement",
            Self::ReferenceSet => "reference set",
        })
    }
}

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Revoked {
    /// An authorization artifact, over all its renewals.
    Artifact(ArtifactId),
    /// A node.
    Node(NodeId),
    /// An execution key.
    Key(ItemName),
    /// A measured value, wherever it stands, as `alg:hex`.
    Measurement(evidence::digest::Digest),
    /// A reference value set.
    ReferenceSet(Sha256Digest),
}

impl Revoked {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> RevokedKind {
        match self {
            Self::Artifact(_) => RevokedKind::Artifact,
            Self::Node(_) => RevokedKind::Node,
            Self::Key(_) => RevokedKind::Key,
            Self::Measurement(_) => RevokedKind::Measurement,
            Self::ReferenceSet(_) => RevokedKind::ReferenceSet,
        }
    }

    /// Its name as text.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Artifact(id) => id.to_string(),
            Self::Node(node) => node.to_string(),
            Self::Key(name) => name.to_string(),
            Self::Measurement(value) => value.to_string(),
            Self::ReferenceSet(digest) => digest.to_string(),
        }
    }
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// [`REVOCATION_VERSION`].
    pub version: u8,
    /// Who revokes.
    pub domain: DomainName,
    /// Counts the domain's revocations, from 1.
    pub sequence: u64,
    /// What.
    pub revoked: Revoked,
    /// Why.
    pub reason: Text,
    /// When.
    pub issued_at: UnixSeconds,
}

impl Revocation {
    /// Signs it with the domain's issuer key, to be pushed.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when it is too long.
    pub fn sign(&self, issuer: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        let payload = codec::write(KIND, self)?;
        codec::sign(KIND, Purpose::Revocation, &self.domain, &payload, issuer)
    }

    /// Reads a revocation by `domain`.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify(bytes: &[u8], domain: &DomainName, issuer_keys: &KeySet) -> Result<Self, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::Revocation, domain, bytes, issuer_keys)?;
        let revocation: Self = codec::read(KIND, signed.payload())?;
        codec::version(KIND.name, revocation.version, REVOCATION_VERSION)?;
        if revocation.domain != *domain {
            let (got, expected) = (revocation.domain, domain.clone());
            return Err(GovernanceDenial::Domain { what: KIND.name, got, expected });
        }
        Ok(revocation)
    }
}

/// Everything that one domain has revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationList {
    entries: std::collections::BTreeMap<Revoked, Text>,
}

impl RevocationList {
    /// The list of these revocations; the first reason given for a thing stays.
    pub fn new(revocations: impl IntoIterator<Item = (Revoked, Text)>) -> Self {
        let mut list = Self::default();
        for (revoked, reason) in revocations {
            list.revoke(revoked, reason);
        }
        list
    }

    /// Adds one. Nothing is ever taken off.
    pub fn revoke(&mut self, revoked: Revoked, reason: Text) {
        self.entries.entry(revoked).or_insert(reason);
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is on it, and why, sorted.
    pub fn entries(&self) -> impl Iterator<Item = (&Revoked, &Text)> {
        self.entries.iter()
    }

    /// SHA-256 over the sorted list, for the governance state.
    ///
    /// # Errors
    /// [`GovernanceDenial::Malformed`] when it cannot be encoded.
    pub fn digest(&self) -> Result<Sha256Digest, GovernanceDenial> {
        let entries: Vec<_> = self.entries.iter().collect();
        let bytes = evidence::cbor::to_vec(&entries)
            .map_err(|cause| GovernanceDenial::Malformed { what: "revocation list", cause: cause.to_string() })?;
        Ok(Sha256Digest::of(&bytes))
    }

    /// Refuses a thing that is on the list.
    ///
    /// # Errors
    /// [`GovernanceDenial::Revoked`].
    pub fn admits(&self, thing: &Revoked) -> Result<(), GovernanceDenial> {
        let Some(reason) = self.entries.get(thing) else { return Ok(()) };
        let (kind, subject, reason) = (thing.kind(), thing.subject(), reason.to_string());
        Err(GovernanceDenial::Revoked { kind, subject, reason })
    }

    /// Refuses an artifact when it, its node, one of its keys, measurements or reference sets is on the list, or one that
    /// it descends from.
    ///
    /// # Errors
    /// [`GovernanceDenial::Revoked`], [`GovernanceDenial::ParentRevoked`]: the first.
    pub fn admits_artifact(&self, terms: &ArtifactTerms) -> Result<(), GovernanceDenial> {
        self.admits(&Revoked::Artifact(terms.id))?;
        for ancestor in &terms.attribution.ancestors {
            if let Some(reason) = self.entries.get(&Revoked::Artifact(ancestor.artifact)) {
                let (artifact, reason) = (ancestor.artifact, format!("revoked: {reason}"));
                return Err(GovernanceDenial::ParentRevoked { artifact, reason });
            }
        }
        self.admits(&Revoked::Node(terms.bindings.node.clone()))?;
        terms.scope.keys.iter().try_for_each(|key| self.admits(&Revoked::Key(key.clone())))?;
        terms.bindings.measurements.values().try_for_each(|value| self.admits(&Revoked::Measurement(*value)))?;
        terms.policy.reference_sets.iter().try_for_each(|set| self.admits(&Revoked::ReferenceSet(*set)))
    }
}
