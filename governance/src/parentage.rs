//! Child executions: what one may have of the execution that it descends from, and until when.
//!
//! A child reaches no further than its parent, lives no longer than its parent's lease, and names everything that it
//! descends from in its artifact, so that whoever revokes one of these revokes it, on any node and in any domain.

use evidence::{names::DomainName, time::UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{ArtifactId, ArtifactTerms, LIST_CAP},
    denial::GovernanceDenial,
    scope::Scope,
};

/// Most generations below an execution without parent.
pub const GENERATIONS_CAP: u8 = 8;
/// Shortest lease that is worth granting to what depends on another's, in milliseconds.
pub const CHILD_LEASE_MIN_MS: u64 = 500;

/// An authorization that another one descends from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ancestor {
    /// Who issued it.
    pub domain: DomainName,
    /// Its id, over all its renewals.
    pub artifact: ArtifactId,
    /// How far up: 1 for a parent.
    pub generation: u8,
}

/// What is known of a parent's authorization by one domain: its terms as last granted, and when it is over unless renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveParent {
    /// As last granted.
    pub terms: ArtifactTerms,
    /// First second in which it is over.
    pub ends_at: UnixSeconds,
}

/// What follows for a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parentage {
    ancestors: Vec<Ancestor>,
    first: ArtifactId,
    ends_at: UnixSeconds,
}

impl Parentage {
    /// Judges a child's scope against its parent's authorizations: each of them is in force, and the child stays within it.
    /// No parent at all is none that is known.
    ///
    /// # Errors
    /// [`GovernanceDenial::ParentNotLive`], [`GovernanceDenial::ScopeExceeded`], [`GovernanceDenial::FieldInvalid`] for a
    /// descent that is too long.
    pub fn of(
        scope: &Scope,
        first: &LiveParent,
        others: &[LiveParent],
        now: UnixSeconds,
    ) -> Result<Self, GovernanceDenial> {
        let (mut ancestors, mut ends_at): (Vec<Ancestor>, _) = (Vec::new(), first.ends_at);
        for LiveParent { terms, ends_at: over_at } in std::iter::once(first).chain(others) {
            if now >= *over_at {
                let what = "its lease ran out and was not renewed";
                return Err(GovernanceDenial::ParentNotLive { artifact: terms.id, what });
            }
            scope.within(&terms.scope)?;
            ends_at = ends_at.min(*over_at);
            let parent = Ancestor { domain: terms.governance.domain.clone(), artifact: terms.id, generation: 1 };
            let above = terms.attribution.ancestors.iter().map(|ancestor| {
                let generation = ancestor.generation.saturating_add(1);
                Ancestor { generation, ..ancestor.clone() }
            });
            for ancestor in std::iter::once(parent).chain(above) {
                if !ancestors.contains(&ancestor) {
                    ancestors.push(ancestor);
                }
            }
        }
        if ancestors.len() > LIST_CAP || ancestors.iter().any(|ancestor| ancestor.generation > GENERATIONS_CAP) {
            let rule = "at most 8 generations and 64 authorizations above it";
            return Err(GovernanceDenial::FieldInvalid { what: "intent", field: "parents", rule });
        }
        ancestors.sort_by_key(|ancestor| ancestor.generation);
        Ok(Self { ancestors, first: first.terms.id, ends_at })
    }

    /// Everything that the child descends from, its parent first.
    #[must_use]
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    /// A lease as a domain grants it, cut so that it is over when the parent's is: length and renewal, in milliseconds.
    ///
    /// # Errors
    /// [`GovernanceDenial::ParentNotLive`] when too little of the parent's lease is left.
    pub fn cut(&self, duration_ms: u64, renew_after_ms: u64, now: UnixSeconds) -> Result<(u64, u64), GovernanceDenial> {
        let what = "too little of its lease is left";
        cut_lease(self.ends_at, duration_ms, renew_after_ms, now)
            .ok_or(GovernanceDenial::ParentNotLive { artifact: self.first, what })
    }
}

/// A lease cut so that it is over at `ends_at`, its renewal with it: length and renewal, in milliseconds. Nothing when too
/// little is left.
#[must_use]
pub fn cut_lease(ends_at: UnixSeconds, duration_ms: u64, renew_after_ms: u64, now: UnixSeconds) -> Option<(u64, u64)> {
    let left_ms = ends_at.0.saturating_sub(now.0).saturating_mul(1000);
    if left_ms < CHILD_LEASE_MIN_MS {
        return None;
    }
    if left_ms >= duration_ms {
        return Some((duration_ms, renew_after_ms));
    }
    let renew_after_ms = renew_after_ms.saturating_mul(left_ms).checked_div(duration_ms).unwrap_or(1).max(1);
    Some((left_ms, renew_after_ms))
}

#[cfg(test)]
#[path = "parentage_tests.rs"]
pub(crate) mod tests;
