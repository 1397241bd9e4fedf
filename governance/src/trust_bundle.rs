//! Trust bundle: a domain's public keys, signed by its policy authority, with a sequence that only grows.
//!
//! Bundles of different domains are never merged: every lookup names one bundle.

use evidence::{
    cose::{Alg, KeySet, PublicKey, Purpose, SigningKey},
    digest::Sha256Digest,
    names::DomainName,
    threshold::Authority,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
};

/// Version of the record.
pub const BUNDLE_VERSION: u8 = 1;
/// Longest encoded bundle, in bytes.
pub const BUNDLE_CAP_BYTES: usize = 64 * 1024;
/// Most keys of one role, and most CA certificates.
pub const ROLE_CAP_KEYS: usize = 8;
/// Longest life of a bundle that a partner domain accepts, in seconds.
pub const FEDERATION_LIFETIME_CAP_S: u64 = 24 * 3600;
/// Longest life of a domain's own bundle on its own nodes, in seconds.
pub const OWN_LIFETIME_CAP_S: u64 = 366 * 24 * 3600;
/// Longest CA certificate, in bytes of DER.
pub const CA_CAP_BYTES: usize = 4096;

const KIND: Kind = Kind { name: "trust bundle", cap_bytes: BUNDLE_CAP_BYTES };

/// A key and when it may be relied on: prepare (before `from`) → active → retired (from `until`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The key.
    pub key: PublicKey,
    /// First second in which its signatures count.
    pub from: UnixSeconds,
    /// First second in which they no longer do.
    pub until: UnixSeconds,
}

/// Role of a key in the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Signs artifacts, results, governance states and lineage records.
    Issuer,
    /// Signs the log's checkpoints.
    Log,
    /// Cosigns partners' checkpoints.
    Witness,
    /// Signs JWT-SVIDs.
    Jwt,
}

impl Role {
    const ALL: [Self; 4] = [Self::Issuer, Self::Log, Self::Witness, Self::Jwt];
}

/// The record itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    /// [`BUNDLE_VERSION`].
    pub version: u8,
    /// Whose keys.
    pub domain: DomainName,
    /// Grows with every change.
    pub sequence: u64,
    /// When it was issued.
    pub issued_at: UnixSeconds,
    /// First second in which it no longer counts.
    pub expires_at: UnixSeconds,
    /// When to ask for a newer one, in seconds.
    pub refresh_hint_s: u64,
    /// Issuer keys.
    pub issuer: Vec<KeyRecord>,
    /// Origin line of the domain's log.
    pub log_origin: String,
    /// Log keys (Ed25519).
    pub log: Vec<KeyRecord>,
    /// Witness keys (Ed25519).
    pub witness: Vec<KeyRecord>,
    /// Keys that sign JWT-SVIDs (P-256); none in a bundle from before there were any, nor in its bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jwt: Vec<KeyRecord>,
    /// CA certificates, DER.
    pub ca: Vec<serde_bytes::ByteBuf>,
    /// Who may sign the next bundle, policy sets, reference values and statements.
    pub authority: Authority,
}

impl TrustBundle {
    /// Signs it with one policy-authority key; a threshold needs several of these.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a field breaks its rule.
    pub fn sign(&self, authority_key: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        codec::sign(KIND, Purpose::TrustBundle, &self.domain, &self.encode()?, authority_key)
    }

    /// Its payload.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        self.bounded()?;
        codec::write(KIND, self)
    }

    /// Reads a bundle signed by enough of the *pinned* authority's keys, of the pinned domain, in force at `now`, whose
    /// whole life is at most `lifetime_cap_s` ([`FEDERATION_LIFETIME_CAP_S`] or [`OWN_LIFETIME_CAP_S`]).
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify<B: AsRef<[u8]>>(
        signatures: &[B],
        domain: &DomainName,
        authority: &Authority,
        lifetime_cap_s: u64,
        now: UnixSeconds,
    ) -> Result<VerifiedBundle, GovernanceDenial> {
        let payload = codec::verify_threshold(KIND, Purpose::TrustBundle, domain, signatures, authority)?;
        let bundle = Self::decode(&payload)?;
        if bundle.domain != *domain {
            return Err(GovernanceDenial::Domain { what: KIND.name, got: bundle.domain, expected: domain.clone() });
        }
        let life_s = bundle.expires_at.0.saturating_sub(bundle.issued_at.0);
        if life_s == 0 || life_s > lifetime_cap_s {
            return Err(GovernanceDenial::Lifetime { what: KIND.name, got_s: life_s, cap_s: lifetime_cap_s });
        }
        if now < bundle.issued_at {
            return Err(GovernanceDenial::NotYetValid { what: KIND.name, not_before: bundle.issued_at, now });
        }
        if now >= bundle.expires_at {
            return Err(GovernanceDenial::BundleExpired { domain: bundle.domain, expires_at: bundle.expires_at, now });
        }
        Ok(VerifiedBundle { digest: Sha256Digest::of(&payload), bundle })
    }

    /// Reads the payload of a bundle whose signatures were verified elsewhere.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        let bundle: Self = codec::read(KIND, payload)?;
        bundle.bounded()?;
        Ok(bundle)
    }

    /// Its key records of one role, whatever their time.
    #[must_use]
    pub fn records(&self, role: Role) -> &[KeyRecord] {
        match role {
            Role::Issuer => &self.issuer,
            Role::Log => &self.log,
            Role::Witness => &self.witness,
            Role::Jwt => &self.jwt,
        }
    }

    /// The same, to make the next bundle from.
    pub fn records_mut(&mut self, role: Role) -> &mut Vec<KeyRecord> {
        match role {
            Role::Issuer => &mut self.issuer,
            Role::Log => &mut self.log,
            Role::Witness => &mut self.witness,
            Role::Jwt => &mut self.jwt,
        }
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(KIND.name, self.version, BUNDLE_VERSION)?;
        let refuse = |field, rule| Err(GovernanceDenial::FieldInvalid { what: KIND.name, field, rule });
        for role in Role::ALL {
            let records = self.records(role);
            if records.len() > ROLE_CAP_KEYS || records.iter().any(|record| record.from >= record.until) {
                return refuse("keys", "at most 8 a role, each with a window");
            }
        }
        if self.issuer.is_empty() || self.log.is_empty() {
            return refuse("keys", "an issuer key and a log key");
        }
        if self.jwt.iter().any(|record| record.key.alg() != Alg::Es256) {
            return refuse("jwt", "P-256 keys");
        }
        if self.ca.len() > ROLE_CAP_KEYS || self.ca.iter().any(|der| der.len() > CA_CAP_BYTES) {
            return refuse("ca", "at most 8 certificates of at most 4096 bytes");
        }
        let origin = self.log_origin.as_bytes();
        if origin.is_empty() || origin.len() > 128 || !origin.iter().all(|b| b.is_ascii_graphic() && *b != b'+') {
            return refuse("log_origin", "1 to 128 graphic ASCII characters, no plus");
        }
        Ok(())
    }
}

/// A bundle that the pinned authority signed and that was in force when it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBundle {
    bundle: TrustBundle,
    digest: Sha256Digest,
}

impl VerifiedBundle {
    /// A bundle that was verified before it was remembered; whoever recalls it has checked that these are the bytes.
    pub(crate) fn recalled(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        Ok(Self { bundle: TrustBundle::decode(payload)?, digest: Sha256Digest::of(payload) })
    }

    /// What it says.
    #[must_use]
    pub const fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// SHA-256 of its payload.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Refuses once it has run out: what its keys signed counts no more until a newer one came.
    ///
    /// # Errors
    /// [`GovernanceDenial::BundleExpired`].
    pub fn in_force(&self, now: UnixSeconds) -> Result<(), GovernanceDenial> {
        let (domain, expires_at) = (&self.bundle.domain, self.bundle.expires_at);
        if now < expires_at {
            return Ok(());
        }
        Err(GovernanceDenial::BundleExpired { domain: domain.clone(), expires_at, now })
    }

    /// Keys of one role whose signatures count at `now`; none once the bundle expired.
    #[must_use]
    pub fn keys(&self, role: Role, now: UnixSeconds) -> KeySet {
        let in_force = now < self.bundle.expires_at;
        let records = self.bundle.records(role).iter();
        KeySet::new(records.filter(|r| in_force && r.from <= now && now < r.until).map(|r| &r.key))
    }

    /// Refuses a bundle that is older than `held`, or another one of the same sequence.
    ///
    /// # Errors
    /// [`GovernanceDenial::BundleRolledBack`], [`GovernanceDenial::BundleForked`].
    pub fn supersedes(&self, held: &Self) -> Result<(), GovernanceDenial> {
        let (domain, got) = (self.bundle.domain.clone(), self.bundle.sequence);
        if domain != held.bundle.domain {
            let expected = held.bundle.domain.clone();
            return Err(GovernanceDenial::Domain { what: KIND.name, got: domain, expected });
        }
        if got < held.bundle.sequence {
            return Err(GovernanceDenial::BundleRolledBack { domain, got, held: held.bundle.sequence });
        }
        if got == held.bundle.sequence && self.digest != held.digest {
            let (got, held, sequence) = (self.digest, held.digest, got);
            return Err(GovernanceDenial::BundleForked { domain, sequence, got, held });
        }
        Ok(())
    }
}
