//! Authorization artifact: a domain's word that this intent may run on this node, with this key, until then (phase 3).
//!
//! A CWT (RFC 8392) in COSE_Sign1 by the domain's issuer key. Registered claims have their registered keys, ours are
//! private (below -65536, RFC 8392 §9.1). Renewals keep the id (`cti`) and count the lease's `seq` up: the seq is a
//! fencing token that whoever relies on the artifact checks against the newest it has seen.

use std::collections::BTreeMap;

use evidence::{
    cose::{KeySet, Purpose, SigningKey},
    digest::{Digest, Sha256Digest},
    names::{DomainName, ItemName, NodeId},
    register::Register,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
    node_key::NodeKey,
    parentage::Ancestor,
    scope::Scope,
    text::Text,
};

#[path = "artifact_claims.rs"]
mod claims;
pub use claims::{Artifact, ArtifactTerms, Confirmation};

/// Version of the claims set.
pub const ARTIFACT_VERSION: u8 = 1;
/// Longest encoded artifact, in bytes.
pub const ARTIFACT_CAP_BYTES: usize = 32 * 1024;
/// Longest window from `nbf` to `exp`, in seconds.
pub const ARTIFACT_LIFETIME_CAP_S: u64 = 3_600;
/// Longest lease, in milliseconds.
pub const LEASE_CAP_MS: u64 = 900_000;
/// Most determining rules, reference sets, approvers or measured registers.
pub const LIST_CAP: usize = 64;

const KIND: Kind = Kind { name: "artifact", cap_bytes: ARTIFACT_CAP_BYTES };

/// Constant over all renewals of one authorization.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArtifactId(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl std::fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for ArtifactId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for ArtifactId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut out = [0; 16];
        hex::decode_to_slice(text, &mut out)?;
        Ok(Self(out))
    }
}

/// What the authorization is tied to at run time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeBindings {
    /// Node identity.
    pub node: NodeId,
    /// Digest of the enrolment (EK, AK, record key) that the evidence chained to.
    pub enrolment: Sha256Digest,
    /// Digest of the evidence that was appraised.
    pub evidence: Sha256Digest,
    /// SHA-256 of the executable.
    pub executable: Sha256Digest,
    /// Measured registers with their values.
    pub measurements: BTreeMap<Register, Digest>,
}

/// By which rules it was allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyValidation {
    /// Digest of the policy set.
    pub policy_set: Sha256Digest,
    /// Its version.
    pub version: u64,
    /// Ids of the rules that determined the decision.
    pub determining: Vec<Text>,
    /// Digest of the Attestation Result (its COSE bytes).
    pub result: Sha256Digest,
    /// Digests of the reference value sets that matched.
    pub reference_sets: Vec<Sha256Digest>,
}

/// What must stay so while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentalConditions {
    /// Lowest security version accepted, by component; empty where the evidence has none.
    pub tcb_floor: BTreeMap<ItemName, u64>,
    /// Digest over the measured registers: a TPM quote's own, or over their names and values.
    pub register_digest: Digest,
    /// Network and region labels under which the decision was made.
    pub labels: BTreeMap<ItemName, Text>,
}

/// How long, and how it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseTerms {
    /// Counts renewals, from 1: the fencing token.
    pub seq: u64,
    /// Length, counted by the node from the moment it sent the request.
    pub duration_ms: u64,
    /// When to renew, counted from the same moment.
    pub renew_after_ms: u64,
}

/// Under which governance it was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernanceMetadata {
    /// Issuing domain.
    pub domain: DomainName,
    /// Version (epoch) of its governance state.
    pub epoch: u64,
    /// Digest of that state.
    pub state: Sha256Digest,
}

/// Where the decision stands in the issuing domain's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptReference {
    /// Index of the entry.
    pub index: u64,
    /// SHA-256 of the entry (the lineage record).
    pub entry: Sha256Digest,
}

/// Who is answerable for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribution {
    /// Who asked.
    pub requester: Text,
    /// Who approved, where policy wanted approval.
    pub approvers: Vec<Text>,
    /// The executions that this one descends from, its parent's artifacts first; none for one without parent.
    pub ancestors: Vec<Ancestor>,
}

/// Which artifact is expected: a first one, or the renewal of one that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continues {
    /// A new authorization.
    Nothing,
    /// A renewal of this one.
    Artifact(ArtifactId),
}

/// What an artifact must say to be accepted. Nothing in it is optional.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// Who accepts it (the node's SPIFFE ID).
    pub audience: &'a str,
    /// Which domain was asked.
    pub domain: &'a DomainName,
    /// On which node.
    pub node: &'a NodeId,
    /// Digest of the intent.
    pub intent: Sha256Digest,
    /// Scope of the intent: what was granted must lie within it.
    pub scope: &'a Scope,
    /// Node key that its keys are wrapped to.
    pub node_key: &'a NodeKey,
    /// Newest governance epoch of that domain that is known.
    pub epoch_min: u64,
    /// Lowest lease seq that is not used up: one more than the newest seen, 1 if none.
    pub seq_min: u64,
    /// Whether it starts or renews.
    pub continues: Continues,
}

impl Artifact {
    /// Signs the terms, once the decision stands in the log at `receipt`.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a field breaks its rule.
    pub fn issue(
        terms: ArtifactTerms,
        receipt: ReceiptReference,
        issuer: &SigningKey,
    ) -> Result<Vec<u8>, GovernanceDenial> {
        terms.bounded()?;
        let domain = terms.governance.domain.clone();
        let payload = codec::write(KIND, &Self::of(terms, receipt))?;
        codec::sign(KIND, Purpose::Artifact, &domain, &payload, issuer)
    }

    /// Judges an artifact with nothing but the issuing domain's issuer keys.
    ///
    /// # Errors
    /// The first [`GovernanceDenial`], in the order of the body.
    pub fn verify_offline(
        bytes: &[u8],
        issuer_keys: &KeySet,
        expected: &Expectation<'_>,
        now: UnixSeconds,
    ) -> Result<VerifiedArtifact, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::Artifact, expected.domain, bytes, issuer_keys)?;
        let artifact = Self::decode(signed.payload())?;
        let (terms, receipt) = artifact.into_parts();
        terms.meets(expected)?;
        terms.in_force(now)?;
        Ok(VerifiedArtifact { terms, receipt, digest: Sha256Digest::of(bytes) })
    }

    /// Judges an artifact that somebody presents: issued by `domain`, for `audience`, in force now. What it authorizes,
    /// and whether it is the newest, is for the caller to judge.
    ///
    /// # Errors
    /// The first [`GovernanceDenial`].
    pub fn verify_presented(
        bytes: &[u8],
        issuer_keys: &KeySet,
        domain: &DomainName,
        audience: &str,
        now: UnixSeconds,
    ) -> Result<VerifiedArtifact, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::Artifact, domain, bytes, issuer_keys)?;
        let (terms, receipt) = Self::decode(signed.payload())?.into_parts();
        terms.of_domain(domain)?;
        terms.for_audience(audience)?;
        terms.in_force(now)?;
        Ok(VerifiedArtifact { terms, receipt, digest: Sha256Digest::of(bytes) })
    }

    /// Judges that `domain` issued an artifact, whenever and for whomever: what a child comes from is judged with it by
    /// [`crate::parentage`].
    ///
    /// # Errors
    /// The first [`GovernanceDenial`].
    pub fn verify_issued(
        bytes: &[u8],
        issuer_keys: &KeySet,
        domain: &DomainName,
    ) -> Result<VerifiedArtifact, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::Artifact, domain, bytes, issuer_keys)?;
        let (terms, receipt) = Self::decode(signed.payload())?.into_parts();
        terms.of_domain(domain)?;
        Ok(VerifiedArtifact { terms, receipt, digest: Sha256Digest::of(bytes) })
    }

    /// Reads the payload of an artifact whose signature was verified elsewhere.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        let artifact: Self = codec::read(KIND, payload)?;
        artifact.terms().bounded()?;
        Ok(artifact)
    }
}

impl ArtifactTerms {
    /// SHA-256 of the terms' deterministic CBOR: what the authorization record in the log names, since the artifact
    /// itself, which names that record, cannot exist yet.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a field breaks its rule.
    pub fn digest(&self) -> Result<Sha256Digest, GovernanceDenial> {
        self.bounded()?;
        Ok(Sha256Digest::of(&codec::write(KIND, self)?))
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(KIND.name, self.version, ARTIFACT_VERSION)?;
        if self.subject.rsplit_once("/node/").map(|(_, node)| node) != Some(self.bindings.node.as_str()) {
            let rule = "the SPIFFE ID of the node that it binds";
            return Err(GovernanceDenial::FieldInvalid { what: KIND.name, field: "sub", rule });
        }
        let window_s = self.expires_at.0.saturating_sub(self.not_before.0);
        if window_s == 0 || window_s > ARTIFACT_LIFETIME_CAP_S {
            return Err(GovernanceDenial::Lifetime {
                what: KIND.name,
                got_s: window_s,
                cap_s: ARTIFACT_LIFETIME_CAP_S,
            });
        }
        let LeaseTerms { seq, duration_ms, renew_after_ms } = self.lease;
        if seq == 0 || duration_ms > LEASE_CAP_MS || renew_after_ms == 0 || renew_after_ms >= duration_ms {
            return Err(GovernanceDenial::LeaseTerms { duration_ms, renew_after_ms, cap_ms: LEASE_CAP_MS });
        }
        let long = [
            self.policy.determining.len(),
            self.policy.reference_sets.len(),
            self.bindings.measurements.len(),
            self.conditions.tcb_floor.len(),
            self.conditions.labels.len(),
            self.attribution.approvers.len(),
            self.attribution.ancestors.len(),
        ];
        if long.into_iter().any(|length| length > LIST_CAP) {
            return Err(GovernanceDenial::FieldInvalid { what: KIND.name, field: "lists", rule: "at most 64 items" });
        }
        self.scope.bounded(KIND.name)
    }

    fn meets(&self, expected: &Expectation<'_>) -> Result<(), GovernanceDenial> {
        self.of_domain(expected.domain)?;
        self.for_audience(expected.audience)?;
        if self.bindings.node != *expected.node {
            let (got, expected) = (self.bindings.node.clone(), expected.node.clone());
            return Err(GovernanceDenial::Node { what: KIND.name, got, expected });
        }
        if self.intent != expected.intent {
            return Err(GovernanceDenial::Workload { got: self.intent, expected: expected.intent });
        }
        if self.confirmation.key != *expected.node_key {
            let (got, expected) = (self.confirmation.key.digest(), expected.node_key.digest());
            return Err(GovernanceDenial::NodeKey { got, expected });
        }
        if let Continues::Artifact(id) = expected.continues
            && self.id != id
        {
            return Err(GovernanceDenial::ArtifactId { got: self.id.to_string(), expected: id.to_string() });
        }
        self.scope.within(expected.scope)?;
        if self.governance.epoch < expected.epoch_min {
            return Err(GovernanceDenial::EpochStale { got: self.governance.epoch, min: expected.epoch_min });
        }
        if self.lease.seq < expected.seq_min {
            return Err(GovernanceDenial::LeaseSeqStale { got: self.lease.seq, min: expected.seq_min });
        }
        Ok(())
    }

    fn of_domain(&self, expected: &DomainName) -> Result<(), GovernanceDenial> {
        let got = &self.governance.domain;
        if got != expected {
            let (got, expected) = (got.clone(), expected.clone());
            return Err(GovernanceDenial::Domain { what: KIND.name, got, expected });
        }
        let issuer = expected.verifier_spiffe_id();
        if self.issuer != issuer {
            return Err(GovernanceDenial::Issuer { got: self.issuer.clone(), expected: issuer });
        }
        Ok(())
    }

    fn for_audience(&self, expected: &str) -> Result<(), GovernanceDenial> {
        if self.audience != expected {
            let (got, expected) = (self.audience.clone(), expected.to_owned());
            return Err(GovernanceDenial::Audience { got, expected });
        }
        Ok(())
    }

    fn in_force(&self, now: UnixSeconds) -> Result<(), GovernanceDenial> {
        if now < self.not_before {
            return Err(GovernanceDenial::NotYetValid { what: KIND.name, not_before: self.not_before, now });
        }
        if now >= self.expires_at {
            return Err(GovernanceDenial::Expired { what: KIND.name, expires_at: self.expires_at, now });
        }
        Ok(())
    }
}

/// An artifact that met every expectation at the time it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedArtifact {
    terms: ArtifactTerms,
    receipt: ReceiptReference,
    digest: Sha256Digest,
}

impl VerifiedArtifact {
    /// What was authorized.
    #[must_use]
    pub const fn terms(&self) -> &ArtifactTerms {
        &self.terms
    }

    /// Where the decision stands in the log; the caller checks that against a receipt.
    #[must_use]
    pub const fn receipt(&self) -> ReceiptReference {
        self.receipt
    }

    /// Refuses it when a higher lease seq of its id was seen: whoever comes with it was paused, cloned or replaced since.
    ///
    /// # Errors
    /// [`GovernanceDenial::LeaseSeqStale`].
    pub const fn seq_at_least(&self, min: u64) -> Result<(), GovernanceDenial> {
        let got = self.terms.lease.seq;
        if got < min { Err(GovernanceDenial::LeaseSeqStale { got, min }) } else { Ok(()) }
    }

    /// SHA-256 of the signed bytes: its name in renewals and halt records.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }
}
