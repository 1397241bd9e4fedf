//! The life of reference value sets: staged → active → superseded | revoked, as
//! pure state. History is never lost and a version never goes back: the highest
//! version ever activated is the high-water mark of its name.

use std::collections::BTreeMap;

use evidence::{cose::KeyId, digest::Sha256Digest, names::ItemName, time::UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{signed::SignedSet, text::Text};

/// Longest grace window after a set was superseded, in seconds (30 days).
pub const GRACE_CAP_S: u64 = 30 * 24 * 3600;

/// Where one version of a set stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// Signed and stored, matches nothing.
    Staged,
    /// Matches.
    Active {
        /// Since when.
        since: UnixSeconds,
    },
    /// Replaced by a higher version; still matches within its grace window.
    Superseded {
        /// Since when.
        since: UnixSeconds,
        /// By which version.
        by: u64,
        /// First moment at which it no longer matches.
        grace_until: UnixSeconds,
    },
    /// Withdrawn: matches nothing, for ever.
    Revoked {
        /// Since when.
        since: UnixSeconds,
    },
}

/// One thing that happened to one version of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    /// When.
    pub at: UnixSeconds,
    /// Name of the set.
    pub id: ItemName,
    /// Version.
    pub version: u64,
    /// SHA-256 of its signed form.
    pub digest: Sha256Digest,
    /// Where it stands from now on.
    pub stage: Stage,
    /// Why.
    pub reason: Text,
    /// Key ids of who signed it, hexadecimal.
    pub signers: Vec<String>,
}

/// Why a step is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// This version exists with another content.
    #[error("{id} version {version} exists with another content")]
    VersionReused {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
    },
    /// A version at or below the highest ever activated.
    #[error("{id} version {got} is not above {high_water}, the highest ever activated")]
    NotAbove {
        /// Name.
        id: ItemName,
        /// Version asked for.
        got: u64,
        /// High-water mark.
        high_water: u64,
    },
    /// No such version is known.
    #[error("{id} version {version} is not known")]
    Unknown {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
    },
    /// The version stands where this step cannot be taken.
    #[error("{id} version {version} is {stage:?}")]
    WrongStage {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
        /// Where it stands.
        stage: Stage,
    },
    /// A grace window longer than allowed.
    #[error("a grace window of {got_s} s, at most {GRACE_CAP_S} s allowed")]
    GraceTooLong {
        /// Asked for.
        got_s: u64,
    },
    /// The set is over.
    #[error("{id} version {version} ended at {not_after}")]
    Over {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
        /// When it ended.
        not_after: UnixSeconds,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    digest: Sha256Digest,
    signers: Vec<KeyId>,
    stage: Stage,
    not_after: UnixSeconds,
}

/// Every version of every set, where it stands, and how it came there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    known: BTreeMap<(ItemName, u64), Known>,
    high_water: BTreeMap<ItemName, u64>,
}

impl Lifecycle {
    /// Takes in a signed set. Staging the same set again changes nothing.
    ///
    /// # Errors
    /// [`LifecycleError::VersionReused`] for another set of that version, [`LifecycleError::NotAbove`] for an old one.
    pub fn stage(
        &mut self,
        set: &SignedSet,
        reason: Text,
        now: UnixSeconds,
    ) -> Result<Option<HistoryEntry>, LifecycleError> {
        let (id, version) = (set.set().id().clone(), set.set().version());
        if let Some(known) = self.known.get(&(id.clone(), version)) {
            let same = known.digest == set.digest();
            return if same { Ok(None) } else { Err(LifecycleError::VersionReused { id, version }) };
        }
        let high_water = self.high_water(&id);
        if version <= high_water {
            return Err(LifecycleError::NotAbove { id, got: version, high_water });
        }
        let known = Known {
            digest: set.digest(),
            signers: set.signers().to_vec(),
            stage: Stage::Staged,
            not_after: set.set().not_after(),
        };
        let entry = entry(&id, version, &known, reason, now);
        self.known.insert((id, version), known);
        Ok(Some(entry))
    }

    /// Makes a staged version the active one; the version that was active is superseded and keeps matching for
    /// `grace_s` seconds.
    ///
    /// # Errors
    /// [`LifecycleError`]; nothing changes then.
    pub fn activate(
        &mut self,
        id: &ItemName,
        version: u64,
        grace_s: u64,
        reason: &Text,
        now: UnixSeconds,
    ) -> Result<Vec<HistoryEntry>, LifecycleError> {
        if grace_s > GRACE_CAP_S {
            return Err(LifecycleError::GraceTooLong { got_s: grace_s });
        }
        let high_water = self.high_water(id);
        let known = self.known_at(id, version)?;
        if known.stage != Stage::Staged {
            return Err(LifecycleError::WrongStage { id: id.clone(), version, stage: known.stage });
        }
        if version <= high_water {
            return Err(LifecycleError::NotAbove { id: id.clone(), got: version, high_water });
        }
        if known.not_after <= now {
            return Err(LifecycleError::Over { id: id.clone(), version, not_after: known.not_after });
        }
        let superseded = Stage::Superseded { since: now, by: version, grace_until: now.plus(grace_s) };
        let mut entries = Vec::new();
        for ((of, old), known) in &mut self.known {
            if of == id && matches!(known.stage, Stage::Active { .. }) {
                known.stage = superseded;
                entries.push(entry(of, *old, known, reason.clone(), now));
            }
        }
        entries.push(self.set_stage(id, version, Stage::Active { since: now }, reason, now)?);
        self.high_water.insert(id.clone(), version);
        Ok(entries)
    }

    /// Withdraws a version, wherever it stands. Nothing takes its place by itself.
    ///
    /// # Errors
    /// [`LifecycleError::Unknown`], or [`LifecycleError::WrongStage`] when it is revoked already.
    pub fn revoke(
        &mut self,
        id: &ItemName,
        version: u64,
        reason: &Text,
        now: UnixSeconds,
    ) -> Result<HistoryEntry, LifecycleError> {
        let known = self.known_at(id, version)?;
        if matches!(known.stage, Stage::Revoked { .. }) {
            return Err(LifecycleError::WrongStage { id: id.clone(), version, stage: known.stage });
        }
        self.set_stage(id, version, Stage::Revoked { since: now }, reason, now)
    }

    /// Rebuilds the state from its history, as stored: restart runs the same rules as work.
    #[must_use]
    pub fn replay<'a>(history: impl IntoIterator<Item = (&'a HistoryEntry, &'a SignedSet)>) -> Self {
        let mut state = Self::default();
        for (entry, set) in history {
            let known = Known {
                digest: entry.digest,
                signers: set.signers().to_vec(),
                stage: entry.stage,
                not_after: set.set().not_after(),
            };
            state.known.insert((entry.id.clone(), entry.version), known);
            let was_active = matches!(entry.stage, Stage::Active { .. } | Stage::Superseded { .. });
            if was_active && state.high_water(&entry.id) < entry.version {
                state.high_water.insert(entry.id.clone(), entry.version);
            }
        }
        state
    }

    /// Highest version of this name that was ever active; 0 when none was.
    #[must_use]
    pub fn high_water(&self, id: &ItemName) -> u64 {
        self.high_water.get(id).copied().unwrap_or(0)
    }

    /// Where a version stands.
    #[must_use]
    pub fn stage_of(&self, id: &ItemName, version: u64) -> Option<Stage> {
        self.known.get(&(id.clone(), version)).map(|known| known.stage)
    }

    /// Every version with its digest and where it stands.
    pub fn all(&self) -> impl Iterator<Item = (&ItemName, u64, Sha256Digest, Stage)> {
        self.known.iter().map(|((id, version), known)| (id, *version, known.digest, known.stage))
    }

    fn known_at(&self, id: &ItemName, version: u64) -> Result<&Known, LifecycleError> {
        let unknown = || LifecycleError::Unknown { id: id.clone(), version };
        self.known.get(&(id.clone(), version)).ok_or_else(unknown)
    }

    fn set_stage(
        &mut self,
        id: &ItemName,
        version: u64,
        stage: Stage,
        reason: &Text,
        now: UnixSeconds,
    ) -> Result<HistoryEntry, LifecycleError> {
        let unknown = || LifecycleError::Unknown { id: id.clone(), version };
        let known = self.known.get_mut(&(id.clone(), version)).ok_or_else(unknown)?;
        known.stage = stage;
        Ok(entry(id, version, known, reason.clone(), now))
    }
}

fn entry(id: &ItemName, version: u64, known: &Known, reason: Text, at: UnixSeconds) -> HistoryEntry {
    HistoryEntry {
        at,
        id: id.clone(),
        version,
        digest: known.digest,
        stage: known.stage,
        reason,
        signers: known.signers.iter().map(ToString::to_string).collect(),
    }
}
