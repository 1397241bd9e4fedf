//! Rotation of a domain's online keys: prepare → activate → retire, as its trust bundles tell of it.
//!
//! A successor is announced by a bundle before it signs anything, for as long as two bundles live: by then whoever relies
//! on the domain at all holds a bundle that names it. It signs alone from its activation on. What it replaced stays in
//! the bundle until everything that it signed has ended; its removal is its revocation.

use std::collections::BTreeSet;

use evidence::{digest::Sha256Digest, time::UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{
    denial::GovernanceDenial,
    trust_bundle::{FEDERATION_LIFETIME_CAP_S, KeyRecord, Role, TrustBundle},
};

/// How many lives of a bundle lie between the announcement of a key and its first signature.
const LIVES: u64 = 2;

/// A key that rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnlineRole {
    /// Signs artifacts, results, governance states and lineage records.
    Issuer,
    /// Signs the log's checkpoints.
    Log,
    /// Cosigns partners' checkpoints.
    Witness,
    /// Signs the certificates by which connections are opened.
    Ca,
    /// Signs JWT-SVIDs.
    Jwt,
}

impl OnlineRole {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Issuer, Self::Log, Self::Witness, Self::Ca, Self::Jwt];

    /// Its name for people and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Log => "log",
            Self::Witness => "witness",
            Self::Ca => "ca",
            Self::Jwt => "jwt",
        }
    }

    /// Its role in a bundle's key records; the CA has certificates instead.
    #[must_use]
    pub const fn signing(self) -> Option<Role> {
        match self {
            Self::Issuer => Some(Role::Issuer),
            Self::Log => Some(Role::Log),
            Self::Witness => Some(Role::Witness),
            Self::Jwt => Some(Role::Jwt),
            Self::Ca => None,
        }
    }
}

impl std::fmt::Display for OnlineRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a CA certificate is called: SHA-256 of its DER.
#[must_use]
pub fn authority_name(der: &[u8]) -> String {
    Sha256Digest::of(der).to_string()
}

/// What the keys of a role in a bundle are called: key ids, and for the CA digests of its certificates.
#[must_use]
pub fn names(bundle: &TrustBundle, role: OnlineRole) -> BTreeSet<String> {
    match role.signing() {
        Some(role) => bundle.records(role).iter().map(|record| record.key.kid().to_string()).collect(),
        None => bundle.ca.iter().map(|der| authority_name(der)).collect(),
    }
}

/// First second of a key that `next` announces after `held`.
#[must_use]
pub fn earliest(held: &TrustBundle, next: &TrustBundle) -> UnixSeconds {
    let life_s = |bundle: &TrustBundle| bundle.expires_at.0.saturating_sub(bundle.issued_at.0);
    // Partners hold none that lives longer, and nodes are told of each at once or when they connect.
    let life_s = life_s(held).max(life_s(next)).min(FEDERATION_LIFETIME_CAP_S);
    next.issued_at.plus(life_s.saturating_mul(LIVES))
}

/// Refuses a bundle by which a new key would count before it was announced for long enough.
///
/// # Errors
/// [`GovernanceDenial::KeyTooEarly`].
pub fn announces(held: &TrustBundle, next: &TrustBundle) -> Result<(), GovernanceDenial> {
    let earliest = earliest(held, next);
    for role in OnlineRole::ALL {
        let (Some(signing), known) = (role.signing(), names(held, role)) else { continue };
        for KeyRecord { key, from, .. } in next.records(signing) {
            let kid = key.kid().to_string();
            if !known.contains(&kid) && *from < earliest {
                return Err(GovernanceDenial::KeyTooEarly { role, kid, at: *from, earliest });
            }
        }
    }
    Ok(())
}

/// When a key was announced, and from when on it may sign. `history` is the domain's bundles, ascending; the last is in
/// force.
///
/// # Errors
/// [`GovernanceDenial::KeyUnannounced`] when the bundle in force does not hold it.
pub fn announced(
    history: &[TrustBundle],
    role: OnlineRole,
    kid: &str,
) -> Result<(UnixSeconds, UnixSeconds), GovernanceDenial> {
    let unannounced = || GovernanceDenial::KeyUnannounced { role, kid: kid.to_owned() };
    let held = history.iter().rev().take_while(|bundle| names(bundle, role).contains(kid)).count();
    let before = history.len().saturating_sub(held);
    let first = history.get(before).ok_or_else(unannounced)?;
    let newest = history.last().ok_or_else(unannounced)?;
    let records = role.signing().map(|role| newest.records(role)).unwrap_or_default();
    let from = records.iter().find(|record| record.key.kid().to_string() == kid).map(|record| record.from);
    let from = from.unwrap_or(first.issued_at);
    let due = match before.checked_sub(1).and_then(|at| history.get(at)) {
        // The domain was founded with it.
        None => from,
        Some(held) => from.max(earliest(held, first)),
    };
    Ok((first.issued_at, due))
}

/// Refuses to let a key sign before it was announced for long enough. `lag_s`: what the clocks of those who judge may be
/// behind.
///
/// # Errors
/// [`GovernanceDenial::KeyUnannounced`], [`GovernanceDenial::KeyTooEarly`].
pub fn may_sign(
    history: &[TrustBundle],
    role: OnlineRole,
    kid: &str,
    lag_s: u64,
    now: UnixSeconds,
) -> Result<(), GovernanceDenial> {
    let earliest = announced(history, role, kid)?.1.plus(lag_s);
    if now < earliest {
        return Err(GovernanceDenial::KeyTooEarly { role, kid: kid.to_owned(), at: now, earliest });
    }
    Ok(())
}

/// Refuses a bundle without a key that is needed: the one that signs, by `active`, where there is one, and those whose
/// signatures still serve, by `serves_until`.
///
/// # Errors
/// [`GovernanceDenial::KeyInUse`].
pub fn retires(
    held: &TrustBundle,
    next: &TrustBundle,
    active: impl Fn(OnlineRole) -> Option<String>,
    serves_until: impl Fn(OnlineRole, &str) -> UnixSeconds,
    now: UnixSeconds,
) -> Result<(), GovernanceDenial> {
    for role in OnlineRole::ALL {
        let left = names(next, role);
        if let Some(active) = active(role) {
            let in_force =
                |record: &KeyRecord| record.key.kid().to_string() == active && record.from <= now && now < record.until;
            let signs = role.signing().is_none_or(|role| next.records(role).iter().any(in_force));
            if !left.contains(&active) || !signs {
                return Err(GovernanceDenial::KeyInUse { role, kid: active, until: next.expires_at, now });
            }
        }
        for kid in names(held, role).difference(&left) {
            let until = if signed_nothing(held, role, kid, now) { UnixSeconds(0) } else { serves_until(role, kid) };
            if now < until {
                return Err(GovernanceDenial::KeyInUse { role, kid: kid.clone(), until, now });
            }
        }
    }
    Ok(())
}

/// Whether a key was announced for later, so that nothing that it signed counts.
fn signed_nothing(held: &TrustBundle, role: OnlineRole, kid: &str, now: UnixSeconds) -> bool {
    let records = role.signing().map(|role| held.records(role)).unwrap_or_default();
    records.iter().any(|record| record.key.kid().to_string() == kid && now < record.from)
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
pub(crate) mod tests;
