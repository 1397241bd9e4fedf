//! Fence of a relying party: lets an effect through by the artifact that comes with it, offline, or says why not.
//!
//! The artifact of a paused, cloned or replaced holder still verifies. What tells is its window on the relying party's own
//! clock, what its domain has revoked, its epoch, and its lease seq: a fencing token that only grows, and that one holder
//! has at a time (SECURITY.md P7). The fence remembers the highest of each; it is kept by whoever asks it.

use std::collections::BTreeMap;

use evidence::{cose::KeySet, digest::Sha256Digest, names::DomainName, time::UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{ARTIFACT_LIFETIME_CAP_S, Artifact, ArtifactId, VerifiedArtifact},
    codec::{self, Kind},
    denial::GovernanceDenial,
    revocation::RevocationList,
};

/// Version of the record.
pub const FENCE_VERSION: u8 = 1;
/// Most leases that are remembered; when so many are within their time, no other is let through.
pub const LEASES_CAP: usize = 32_768;
/// Longest encoded fence, in bytes.
pub const FENCE_CAP_BYTES: usize = 8 * 1024 * 1024;

const KIND: Kind = Kind { name: "fence", cap_bytes: FENCE_CAP_BYTES };

/// Who relies on an artifact, and what it knows of the issuing domain. Nothing in it is optional.
#[derive(Clone, Copy, Debug)]
pub struct Relying<'a> {
    /// The domain that must have issued it.
    pub domain: &'a DomainName,
    /// Its issuer keys that count now.
    pub issuer_keys: &'a KeySet,
    /// Whom the artifact must be for.
    pub audience: &'a str,
    /// Everything that the domain has revoked.
    pub revocations: &'a RevocationList,
    /// Newest governance epoch of the domain that is known.
    pub epoch_min: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lease {
    seq: u64,
    holder: Sha256Digest,
    /// First second in which no artifact that is older than this one can still be in its window.
    forget_at: UnixSeconds,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    epoch: u64,
    leases: BTreeMap<ArtifactId, Lease>,
}

/// What a relying party has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    version: u8,
    domains: BTreeMap<DomainName, Seen>,
    newest: UnixSeconds,
}

impl Default for Fence {
    fn default() -> Self {
        Self { version: FENCE_VERSION, domains: BTreeMap::new(), newest: UnixSeconds(0) }
    }
}

impl Fence {
    /// Judges an artifact that `holder` came with: a digest of what the caller's connection is known by, which two who
    /// are alive at once do not share. Only what is admitted is remembered. A time that goes back is read as no time
    /// passed.
    ///
    /// # Errors
    /// The first [`GovernanceDenial`]: of signature, domain, audience and window as for an artifact, then
    /// [`GovernanceDenial::Revoked`], [`GovernanceDenial::EpochStale`], [`GovernanceDenial::LeaseSeqStale`],
    /// [`GovernanceDenial::LeaseHeldTwice`].
    pub fn admit(
        &mut self,
        bytes: &[u8],
        holder: Sha256Digest,
        relying: &Relying<'_>,
        now: UnixSeconds,
    ) -> Result<VerifiedArtifact, GovernanceDenial> {
        self.newest = self.newest.max(now);
        let artifact =
            Artifact::verify_presented(bytes, relying.issuer_keys, relying.domain, relying.audience, self.newest)?;
        let terms = artifact.terms();
        relying.revocations.admits_artifact(terms)?;
        self.forget();
        let room = self.domains.values().map(|seen| seen.leases.len()).sum::<usize>() < LEASES_CAP;
        let seen = self.domains.get(relying.domain);
        let (got, min) = (terms.governance.epoch, seen.map_or(0, |seen| seen.epoch).max(relying.epoch_min));
        if got < min {
            return Err(GovernanceDenial::EpochStale { got, min });
        }
        let seq = terms.lease.seq;
        match seen.and_then(|seen| seen.leases.get(&terms.id)) {
            Some(lease) if seq < lease.seq => {
                return Err(GovernanceDenial::LeaseSeqStale { got: seq, min: lease.seq });
            }
            Some(lease) if seq == lease.seq && holder != lease.holder => {
                return Err(GovernanceDenial::LeaseHeldTwice { seq, got: holder, held: lease.holder });
            }
            None if !room => {
                let rule = "at most 32768 leases within their time";
                return Err(GovernanceDenial::FieldInvalid { what: KIND.name, field: "leases", rule });
            }
            Some(_) | None => {}
        }
        // Whatever was issued before it ends at most the longest window after it.
        let forget_at = terms.expires_at.plus(ARTIFACT_LIFETIME_CAP_S);
        let seen = self.domains.entry(relying.domain.clone()).or_default();
        seen.epoch = got;
        seen.leases.insert(terms.id, Lease { seq, holder, forget_at });
        Ok(artifact)
    }

    /// Its deterministic CBOR, to be kept across restarts.
    ///
    /// # Errors
    /// [`GovernanceDenial::TooLarge`].
    pub fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        codec::write(KIND, self)
    }

    /// Reads what was kept. It is the relying party's own and carries no signature.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceDenial> {
        let fence: Self = codec::read(KIND, bytes)?;
        codec::version(KIND.name, fence.version, FENCE_VERSION)?;
        Ok(fence)
    }

    fn forget(&mut self) {
        let now = self.newest;
        self.domains.values_mut().for_each(|seen| seen.leases.retain(|_, lease| now < lease.forget_at));
    }
}

#[cfg(test)]
#[path = "fence_tests.rs"]
pub(crate) mod tests;
