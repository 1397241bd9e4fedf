//! Statements: what the policy authority orders, signed by a threshold of its keys, each with a sequence and a reason.

use evidence::{
    cose::{Purpose, SigningKey},
    digest::Sha256Digest,
    names::{DomainName, ItemName, NodeId},
    threshold::Authority,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
    federation_grant::FederationGrant,
    partner_endpoint::PartnerEndpoint,
    revocation::Revoked,
    text::Text,
    trust_bundle::{FEDERATION_LIFETIME_CAP_S, TrustBundle, VerifiedBundle},
    witness_policy::WitnessPolicy,
};

/// Version of the record.
pub const STATEMENT_VERSION: u8 = 1;
/// Longest encoded statement, in bytes.
pub const STATEMENT_CAP_BYTES: usize = 4096;
/// Longest time from issuing a statement to its use, in seconds.
pub const STATEMENT_LIFETIME_CAP_S: u64 = 30 * 24 * 3600;

const KIND: Kind = Kind { name: "statement", cap_bytes: STATEMENT_CAP_BYTES };

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Order {
    /// Make a staged reference value set active, in place of the active version of its name.
    ActivateReferences {
        /// Its name.
        name: ItemName,
        /// Its version.
        version: u64,
        /// Its digest.
        set: Sha256Digest,
        /// How long the version that it replaces still matches, in seconds.
        grace_s: u64,
    },
    /// Replace an active reference value set by another, of whatever name. One that is staged becomes active.
    SupersedeReferences {
        /// Digest of the set that is replaced.
        set: Sha256Digest,
        /// Digest of the set that replaces it.
        by: Sha256Digest,
        /// How long the replaced set still matches, in seconds.
        grace_s: u64,
    },
    /// Make a staged policy set active.
    ActivatePolicy {
        /// Its version.
        version: u64,
        /// Its digest.
        set: Sha256Digest,
    },
    /// Take a halted or quarantined node back.
    Readmit {
        /// Which.
        node: NodeId,
        /// Digest of the halt record that this answers; zero for a quarantine without one.
        halt: Sha256Digest,
        /// Governance epoch from which it counts: higher than the one in which the node halted.
        epoch: u64,
    },
    /// Revoke.
    Revoke(
        /// What.
        Revoked,
    ),
    /// Trust another domain, or trust it anew: what was held of it is forgotten.
    TrustDomain(
        /// Which, and how far.
        Box<TrustedDomain>,
    ),
    /// Take the trust in another domain back.
    UntrustDomain {
        /// Which.
        domain: DomainName,
    },
    /// Have nodes count these witnesses on the domain's log. In force until another such order.
    CountWitnesses(
        /// Which, and how many.
        Box<WitnessPolicy>,
    ),
}

/// Another domain, and how far it is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedDomain {
    /// Which.
    pub domain: DomainName,
    /// Digest of its first bundle, which comes with the order. It names who may sign the next one.
    pub bundle: Sha256Digest,
    /// Where it is reached.
    pub endpoint: PartnerEndpoint,
    /// What it may assert.
    pub grant: FederationGrant,
}

impl TrustedDomain {
    /// Opens the first bundle: the pinned one, signed by the authority that it names itself.
    ///
    /// # Errors
    /// [`GovernanceDenial::TrustInconsistent`] for another bundle than the pinned one; else the first rule broken.
    pub fn open<B: AsRef<[u8]>>(&self, bundle: &[B], now: UnixSeconds) -> Result<VerifiedBundle, GovernanceDenial> {
        let what = "trust bundle";
        let payload = bundle.first().map(|cose| evidence::cose::claimed_payload(cose.as_ref())).transpose();
        let payload = payload.map_err(|cause| GovernanceDenial::SignatureInvalid { what, cause })?.unwrap_or_default();
        let (got, named) = (Sha256Digest::of(&payload), self.bundle);
        if got != named {
            return Err(GovernanceDenial::TrustInconsistent { domain: self.domain.clone(), what, got, named });
        }
        let authority = TrustBundle::decode(&payload)?.authority;
        TrustBundle::verify(bundle, &self.domain, &authority, FEDERATION_LIFETIME_CAP_S, now)
    }

    fn bounded(&self, domain: &DomainName) -> Result<(), GovernanceDenial> {
        if self.domain == *domain {
            let (field, rule) = ("order", "a domain is no partner of itself");
            return Err(GovernanceDenial::FieldInvalid { what: KIND.name, field, rule });
        }
        self.endpoint.bounded()?;
        self.grant.bounded()
    }
}

/// The record itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// [`STATEMENT_VERSION`].
    pub version: u8,
    /// Whose authority.
    pub domain: DomainName,
    /// Counts the authority's statements: each number is used once.
    pub sequence: u64,
    /// What is ordered.
    pub order: Order,
    /// Why.
    pub reason: Text,
    /// When it was issued.
    pub issued_at: UnixSeconds,
    /// First second in which it can no longer be used.
    pub expires_at: UnixSeconds,
}

impl Statement {
    /// Signs it with one policy-authority key; a threshold needs several of these.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a field breaks its rule.
    pub fn sign(&self, authority_key: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        self.bounded()?;
        let payload = codec::write(KIND, self)?;
        codec::sign(KIND, Purpose::Statement, &self.domain, &payload, authority_key)
    }

    /// Reads a statement of `domain` signed by enough keys, in force at `now`, with a sequence of at least
    /// `sequence_min` (one more than the highest used).
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify<B: AsRef<[u8]>>(
        signatures: &[B],
        domain: &DomainName,
        authority: &Authority,
        sequence_min: u64,
        now: UnixSeconds,
    ) -> Result<VerifiedStatement, GovernanceDenial> {
        let verified = Self::verify_standing(signatures, domain, authority, now)?;
        let statement = &verified.statement;
        if now >= statement.expires_at {
            return Err(GovernanceDenial::Expired { what: KIND.name, expires_at: statement.expires_at, now });
        }
        if statement.sequence < sequence_min {
            return Err(GovernanceDenial::StatementReplayed { got: statement.sequence, min: sequence_min });
        }
        Ok(verified)
    }

    /// The same for a statement whose order stands until another: its expiry and sequence are the caller's to judge.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub(crate) fn verify_standing<B: AsRef<[u8]>>(
        signatures: &[B],
        domain: &DomainName,
        authority: &Authority,
        now: UnixSeconds,
    ) -> Result<VerifiedStatement, GovernanceDenial> {
        let payload = codec::verify_threshold(KIND, Purpose::Statement, domain, signatures, authority)?;
        let statement = Self::decode(&payload)?;
        if statement.domain != *domain {
            let (got, expected) = (statement.domain, domain.clone());
            return Err(GovernanceDenial::Domain { what: KIND.name, got, expected });
        }
        if now < statement.issued_at {
            return Err(GovernanceDenial::NotYetValid { what: KIND.name, not_before: statement.issued_at, now });
        }
        Ok(VerifiedStatement { digest: Sha256Digest::of(&payload), statement })
    }

    /// Reads the payload of a statement whose signatures were verified elsewhere.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        let statement: Self = codec::read(KIND, payload)?;
        statement.bounded()?;
        Ok(statement)
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(KIND.name, self.version, STATEMENT_VERSION)?;
        let life_s = self.expires_at.0.saturating_sub(self.issued_at.0);
        if life_s == 0 || life_s > STATEMENT_LIFETIME_CAP_S {
            let cap_s = STATEMENT_LIFETIME_CAP_S;
            return Err(GovernanceDenial::Lifetime { what: KIND.name, got_s: life_s, cap_s });
        }
        match &self.order {
            Order::TrustDomain(trusted) => trusted.bounded(&self.domain),
            Order::CountWitnesses(policy) => policy.bounded(),
            Order::ActivateReferences { .. }
            | Order::SupersedeReferences { .. }
            | Order::ActivatePolicy { .. }
            | Order::Readmit { .. }
            | Order::Revoke(_)
            | Order::UntrustDomain { .. } => Ok(()),
        }
    }
}

/// A statement that enough keys of the authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedStatement {
    statement: Statement,
    digest: Sha256Digest,
}

impl VerifiedStatement {
    /// What it says.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// SHA-256 of its payload.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }
}
