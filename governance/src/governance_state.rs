//! Governance state: by which rules a domain decides, as one signed, monotonic, linked record per epoch (phase 2).

use evidence::{
    cose::{KeySet, Purpose, SigningKey},
    digest::Sha256Digest,
    names::DomainName,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
};

/// Version of the record.
pub const STATE_VERSION: u8 = 1;
/// Longest encoded state, in bytes.
pub const STATE_CAP_BYTES: usize = 4096;

const KIND: Kind = Kind { name: "governance state", cap_bytes: STATE_CAP_BYTES };

/// The record itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernanceState {
    /// [`STATE_VERSION`].
    pub version: u8,
    /// Whose.
    pub domain: DomainName,
    /// Grows by one with every change, from 1.
    pub epoch: u64,
    /// When it was issued.
    pub issued_at: UnixSeconds,
    /// First second in which it no longer counts.
    pub expires_at: UnixSeconds,
    /// Digest of the policy set in force.
    pub policy_set: Sha256Digest,
    /// Digest over the active reference value sets.
    pub reference_values: Sha256Digest,
    /// Digest of the revocation list.
    pub revocations: Sha256Digest,
    /// Digest of the trust bundle.
    pub bundle: Sha256Digest,
    /// Digest of the accepted TCB floors.
    pub tcb_floor: Sha256Digest,
    /// Digest of the state of the epoch before; none in epoch 1.
    pub previous: Option<Sha256Digest>,
}

impl GovernanceState {
    /// Signs it with the domain's issuer key.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a field breaks its rule.
    pub fn sign(&self, issuer: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        codec::sign(KIND, Purpose::GovernanceState, &self.domain, &self.encode()?, issuer)
    }

    /// SHA-256 of its deterministic CBOR: what artifacts and the next state name it by.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a field breaks its rule.
    pub fn digest(&self) -> Result<Sha256Digest, GovernanceDenial> {
        Ok(Sha256Digest::of(&self.encode()?))
    }

    /// Reads a state of `domain` that is in force at `now`.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify(
        bytes: &[u8],
        domain: &DomainName,
        issuer_keys: &KeySet,
        now: UnixSeconds,
    ) -> Result<VerifiedState, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::GovernanceState, domain, bytes, issuer_keys)?;
        let state: Self = codec::read(KIND, signed.payload())?;
        state.bounded()?;
        if state.domain != *domain {
            return Err(GovernanceDenial::Domain { what: KIND.name, got: state.domain, expected: domain.clone() });
        }
        if now < state.issued_at {
            return Err(GovernanceDenial::NotYetValid { what: KIND.name, not_before: state.issued_at, now });
        }
        let verified = VerifiedState { digest: Sha256Digest::of(signed.payload()), state };
        verified.fresh(now)?;
        Ok(verified)
    }

    /// Its payload.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        self.bounded()?;
        codec::write(KIND, self)
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(KIND.name, self.version, STATE_VERSION)?;
        let refuse = |field, rule| Err(GovernanceDenial::FieldInvalid { what: KIND.name, field, rule });
        if self.epoch == 0 || (self.epoch == 1) != self.previous.is_none() {
            return refuse("previous", "absent in epoch 1, present in every later one");
        }
        if self.issued_at >= self.expires_at {
            return refuse("expires_at", "after issued_at");
        }
        Ok(())
    }
}

/// A state that its domain signed and that was in force when it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedState {
    state: GovernanceState,
    digest: Sha256Digest,
}

impl VerifiedState {
    /// A state that was verified before it was remembered, or that a verified one names by its digest; whoever recalls it
    /// has checked that these are the bytes.
    pub(crate) fn recalled(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        let state: GovernanceState = codec::read(KIND, payload)?;
        state.bounded()?;
        Ok(Self { digest: Sha256Digest::of(payload), state })
    }

    /// What it says.
    #[must_use]
    pub const fn state(&self) -> &GovernanceState {
        &self.state
    }

    /// SHA-256 of its payload.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Refuses once it has expired.
    ///
    /// # Errors
    /// [`GovernanceDenial::StateStale`].
    pub fn fresh(&self, now: UnixSeconds) -> Result<(), GovernanceDenial> {
        if now < self.state.expires_at {
            return Ok(());
        }
        let (domain, expires_at) = (self.state.domain.clone(), self.state.expires_at);
        Err(GovernanceDenial::StateStale { domain, expires_at, now })
    }

    /// Refuses a state that is older than `held`, another one of its epoch, or not linked to it. A state further ahead
    /// is a gap: its predecessors must be fetched and taken one by one.
    ///
    /// # Errors
    /// [`GovernanceDenial::StateRolledBack`], [`GovernanceDenial::StateForked`], [`GovernanceDenial::StateGap`].
    pub fn continues(&self, held: &Self) -> Result<(), GovernanceDenial> {
        let (domain, got) = (self.state.domain.clone(), self.state.epoch);
        if domain != held.state.domain {
            let expected = held.state.domain.clone();
            return Err(GovernanceDenial::Domain { what: KIND.name, got: domain, expected });
        }
        let held_epoch = held.state.epoch;
        if got < held_epoch {
            return Err(GovernanceDenial::StateRolledBack { domain, got, held: held_epoch });
        }
        if got == held_epoch {
            if self.digest == held.digest {
                return Ok(());
            }
            return Err(GovernanceDenial::StateForked { domain, epoch: got, got: self.digest, held: held.digest });
        }
        if got > held_epoch.saturating_add(1) {
            return Err(GovernanceDenial::StateGap { domain, got, held: held_epoch });
        }
        match self.state.previous {
            Some(previous) if previous == held.digest => Ok(()),
            previous => {
                let named = previous.unwrap_or(Sha256Digest::ZERO);
                Err(GovernanceDenial::StateForked { domain, epoch: got, got: named, held: held.digest })
            }
        }
    }

    /// As [`Self::continues`], over the payloads of the states between, ascending. They are walked from this state down,
    /// each named by the digest in the one after it, so that they need neither a signature nor to be in force still.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first link that does not hold.
    pub fn continues_over(&self, between: &[Vec<u8>], held: &Self) -> Result<(), GovernanceDenial> {
        let mut after = self.clone();
        for payload in between.iter().rev() {
            let before = Self::recalled(payload)?;
            // Nobody signed what was given here for itself: if it is not what was named, the named one is still wanting.
            after.continues(&before).map_err(|_| {
                let (domain, got) = (after.state.domain.clone(), after.state.epoch);
                GovernanceDenial::StateGap { domain, got, held: held.state.epoch }
            })?;
            after = before;
        }
        after.continues(held)
    }

    /// Refuses an artifact or request bound to another state than this one.
    ///
    /// # Errors
    /// [`GovernanceDenial::StateMismatch`].
    pub fn is_the_state(&self, named: Sha256Digest) -> Result<(), GovernanceDenial> {
        if named == self.digest {
            return Ok(());
        }
        Err(GovernanceDenial::StateMismatch { got: named, expected: self.digest })
    }
}
