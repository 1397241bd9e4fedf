//! What a partner domain may assert here. Whoever holds a partner's keys reaches no further than this (SECURITY.md P16).

use std::collections::BTreeSet;

use evidence::{kind::EvidenceKind, names::DomainName};
use serde::{Deserialize, Serialize};

use crate::{artifact::LEASE_CAP_MS, denial::GovernanceDenial, text::Text};

/// Longest time that a partner's newest state serves after it was last seen, in seconds.
pub const STALENESS_CAP_S: u64 = 24 * 3600;
/// Most statements a minute that a grant can allow.
pub const RATE_CAP_PER_MINUTE: u32 = 100_000;

const WHAT: &str = "federation grant";

/// The grant, as an operator's order states it. Every field is an upper bound; none has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederationGrant {
    /// What the path of a SPIFFE ID begins with, `/node/` say. The trust domain is always the partner's own.
    pub path_prefix: Text,
    /// Kinds of evidence that it may have appraised.
    pub kinds: BTreeSet<EvidenceKind>,
    /// Longest lease, in milliseconds.
    pub lease_ms: u64,
    /// Most statements of it that count in a minute.
    pub rate_per_minute: u32,
    /// Whether its cosignatures count.
    pub witness: bool,
    /// Whether its Attestation Results count for evidence that we did not appraise (passport).
    pub results: bool,
    /// How long its newest state serves after it was last seen, in seconds.
    pub max_staleness_s: u64,
}

impl FederationGrant {
    /// Admits a name that the partner speaks for: of its own trust domain, and beginning with the granted path.
    ///
    /// # Errors
    /// [`GovernanceDenial::GrantName`].
    pub fn admits_name(&self, partner: &DomainName, spiffe_id: &str) -> Result<(), GovernanceDenial> {
        let path = spiffe_id.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(partner.as_str()));
        if path.is_some_and(|path| path.starts_with('/') && path.starts_with(self.path_prefix.as_str())) {
            return Ok(());
        }
        let got: String = spiffe_id.chars().filter(char::is_ascii_graphic).take(NAME_SHOWN_CHARS).collect();
        let allowed = format!("spiffe://{partner}{}", self.path_prefix);
        Err(GovernanceDenial::GrantName { domain: partner.clone(), got, allowed })
    }

    /// Admits a kind of evidence.
    ///
    /// # Errors
    /// [`GovernanceDenial::GrantKind`].
    pub fn admits_kind(&self, partner: &DomainName, kind: EvidenceKind) -> Result<(), GovernanceDenial> {
        if self.kinds.contains(&kind) {
            return Ok(());
        }
        let allowed: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        Err(GovernanceDenial::GrantKind { domain: partner.clone(), got: kind, allowed: allowed.join(", ") })
    }

    /// Admits a lease of this length, in milliseconds.
    ///
    /// # Errors
    /// [`GovernanceDenial::GrantLease`].
    pub fn admits_lease(&self, partner: &DomainName, lease_ms: u64) -> Result<(), GovernanceDenial> {
        if lease_ms <= self.lease_ms {
            return Ok(());
        }
        Err(GovernanceDenial::GrantLease { domain: partner.clone(), got_ms: lease_ms, allowed_ms: self.lease_ms })
    }

    /// Admits the statement that would be the `count`th within this minute.
    ///
    /// # Errors
    /// [`GovernanceDenial::GrantRate`].
    pub fn admits_rate(&self, partner: &DomainName, count: u32) -> Result<(), GovernanceDenial> {
        if count <= self.rate_per_minute {
            return Ok(());
        }
        let allowed = self.rate_per_minute;
        Err(GovernanceDenial::GrantRate { domain: partner.clone(), got: count, allowed })
    }

    /// Admits its cosignatures.
    ///
    /// # Errors
    /// [`GovernanceDenial::GrantWitness`].
    pub fn admits_witness(&self, partner: &DomainName) -> Result<(), GovernanceDenial> {
        if self.witness {
            return Ok(());
        }
        Err(GovernanceDenial::GrantWitness { domain: partner.clone() })
    }

    /// Admits its Attestation Results.
    ///
    /// # Errors
    /// [`GovernanceDenial::GrantResults`].
    pub fn admits_results(&self, partner: &DomainName) -> Result<(), GovernanceDenial> {
        if self.results {
            return Ok(());
        }
        Err(GovernanceDenial::GrantResults { domain: partner.clone() })
    }

    /// Refuses a grant that nobody can have meant.
    ///
    /// # Errors
    /// [`GovernanceDenial::FieldInvalid`].
    pub fn bounded(&self) -> Result<(), GovernanceDenial> {
        let refuse = |field, rule| Err(GovernanceDenial::FieldInvalid { what: WHAT, field, rule });
        if !self.path_prefix.as_str().starts_with('/') {
            return refuse("path_prefix", "begins with a slash");
        }
        if self.lease_ms == 0 || self.lease_ms > LEASE_CAP_MS {
            return refuse("lease_ms", "1 to the longest lease there is");
        }
        if self.rate_per_minute == 0 || self.rate_per_minute > RATE_CAP_PER_MINUTE {
            return refuse("rate_per_minute", "1 to 100000");
        }
        if self.max_staleness_s == 0 || self.max_staleness_s > STALENESS_CAP_S {
            return refuse("max_staleness_s", "1 to 86400 s");
        }
        Ok(())
    }
}

/// How much of a refused name a denial repeats.
const NAME_SHOWN_CHARS: usize = 128;
