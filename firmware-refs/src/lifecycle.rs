//! The life of reference value sets: staged → active → superseded | revoked, as
//! pure state. History is never lost and a version never goes back: the highest
//! version ever activated is the high-water mark of its name.

mod error;

use std::collections::BTreeMap;

use evidence::{cose::KeyId, digest::Sha256Digest, names::ItemName, time::UnixSeconds};
use serde::{Deserialize, Serialize};

pub use self::error::LifecycleError;
use crate::{document::derivation::ImportedTag, signed::SignedSet, text::Text};

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
    /// Replaced by another set; still matches within its grace window.
    Superseded {
        /// Since when.
        since: UnixSeconds,
        /// Digest of the signed form of the set that replaced it.
        #[serde(with = "digest_as_text")]
        by: Sha256Digest,
        /// First moment at which it no longer matches.
        grace_until: UnixSeconds,
    },
    /// Withdrawn: matches nothing, for ever.
    Revoked {
        /// Since when.
        since: UnixSeconds,
    },
}

/// A field of an enum that is tagged inside is read without knowing the format: a digest as bytes would not read back.
mod digest_as_text {
    use evidence::digest::Sha256Digest;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(digest: &Sha256Digest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Sha256Digest, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
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
    /// Key ids of who signed the set, hexadecimal.
    pub signers: Vec<String>,
    /// Digest of the statement that ordered it. Staging is ordered by the signatures of the set itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Sha256Digest>,
}

/// A step that the policy authority ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Digest of the statement.
    pub statement: Sha256Digest,
    /// Why, as the statement says.
    pub reason: Text,
    /// When it is taken.
    pub at: UnixSeconds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    digest: Sha256Digest,
    signers: Vec<KeyId>,
    stage: Stage,
    not_after: UnixSeconds,
    tags: Vec<ImportedTag>,
}

impl Known {
    fn of(set: &SignedSet, stage: Stage) -> Self {
        Self {
            digest: set.digest(),
            signers: set.signers().to_vec(),
            stage,
            not_after: set.set().not_after(),
            tags: set.set().document().tag.clone(),
        }
    }
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
    /// [`LifecycleError::VersionReused`] for another set of that version, [`LifecycleError::NotAbove`] for an old one,
    /// [`LifecycleError::TagReused`] for values of a CoRIM tag that is known with another content.
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
        self.refuse_reused_tags(set)?;
        let known = Known::of(set, Stage::Staged);
        let entry = entry(&id, version, &known, reason, None, now);
        self.known.insert((id, version), known);
        Ok(Some(entry))
    }

    /// Makes a staged version the active one; the version that was active is superseded and keeps matching for
    /// `grace_s` seconds. The step of the activated version comes first.
    ///
    /// # Errors
    /// [`LifecycleError`]; nothing changes then.
    pub fn activate(
        &mut self,
        id: &ItemName,
        version: u64,
        grace_s: u64,
        ordered: &Ordered,
    ) -> Result<Vec<HistoryEntry>, LifecycleError> {
        let now = ordered.at;
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
        let superseded = Stage::Superseded { since: now, by: known.digest, grace_until: now.plus(grace_s) };
        let active = |of: &ItemName, known: &Known| of == id && matches!(known.stage, Stage::Active { .. });
        let replaced = self.known.iter().filter(|((of, _), known)| active(of, known)).map(|((_, old), _)| *old);
        let replaced: Vec<u64> = replaced.collect();
        let mut entries = vec![self.set_stage(id, version, Stage::Active { since: now }, ordered)?];
        for old in replaced {
            entries.push(self.set_stage(id, old, superseded, ordered)?);
        }
        self.high_water.insert(id.clone(), version);
        Ok(entries)
    }

    /// Replaces an active set by another, of whatever name, and keeps it matching for `grace_s` seconds. The other is
    /// active already, or staged and becomes active.
    ///
    /// # Errors
    /// [`LifecycleError`]; nothing changes then.
    pub fn supersede(
        &mut self,
        (id, version): (&ItemName, u64),
        (by_id, by_version): (&ItemName, u64),
        grace_s: u64,
        ordered: &Ordered,
    ) -> Result<Vec<HistoryEntry>, LifecycleError> {
        if grace_s > GRACE_CAP_S {
            return Err(LifecycleError::GraceTooLong { got_s: grace_s });
        }
        let (old, by) = (self.known_at(id, version)?, self.known_at(by_id, by_version)?);
        if self.replaced_by(by.digest).any(|digest| digest == old.digest) {
            return Err(LifecycleError::Cycle { id: id.clone(), version });
        }
        if !matches!(old.stage, Stage::Active { .. }) {
            return Err(LifecycleError::WrongStage { id: id.clone(), version, stage: old.stage });
        }
        let superseded = Stage::Superseded { since: ordered.at, by: by.digest, grace_until: ordered.at.plus(grace_s) };
        let stage = by.stage;
        let mut entries = match stage {
            Stage::Active { .. } => Vec::new(),
            Stage::Staged => self.activate(by_id, by_version, grace_s, ordered)?,
            Stage::Superseded { .. } | Stage::Revoked { .. } => {
                return Err(LifecycleError::WrongStage { id: by_id.clone(), version: by_version, stage });
            }
        };
        if id != by_id {
            entries.push(self.set_stage(id, version, superseded, ordered)?);
        }
        Ok(entries)
    }

    /// A set, the one that replaced it, the one that replaced that, and so on.
    fn replaced_by(&self, digest: Sha256Digest) -> impl Iterator<Item = Sha256Digest> {
        let next = |digest: &Sha256Digest| {
            let stage = self.known.values().find(|known| known.digest == *digest)?.stage;
            if let Stage::Superseded { by, .. } = stage { Some(by) } else { None }
        };
        std::iter::successors(Some(digest), next).take(self.known.len().saturating_add(1))
    }

    /// Withdraws a version, wherever it stands. Nothing takes its place by itself.
    ///
    /// # Errors
    /// [`LifecycleError::Unknown`], or [`LifecycleError::WrongStage`] when it is revoked already.
    pub fn revoke(&mut self, id: &ItemName, version: u64, ordered: &Ordered) -> Result<HistoryEntry, LifecycleError> {
        let known = self.known_at(id, version)?;
        if matches!(known.stage, Stage::Revoked { .. }) {
            return Err(LifecycleError::WrongStage { id: id.clone(), version, stage: known.stage });
        }
        self.set_stage(id, version, Stage::Revoked { since: ordered.at }, ordered)
    }

    /// Rebuilds the state from its history, as stored: restart runs the same rules as work.
    #[must_use]
    pub fn replay<'a>(history: impl IntoIterator<Item = (&'a HistoryEntry, &'a SignedSet)>) -> Self {
        let mut state = Self::default();
        for (entry, set) in history {
            let known = Known::of(set, entry.stage);
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

    fn refuse_reused_tags(&self, set: &SignedSet) -> Result<(), LifecycleError> {
        for tag in &set.set().document().tag {
            let mut all = self.known.iter();
            if let Some(((id, version), _)) = all.find(|(_, known)| known.tags.iter().any(|held| held.collides(tag))) {
                let held_by = format!("{id} version {version}");
                return Err(LifecycleError::TagReused { tag: tag.id.clone(), version: tag.version, held_by });
            }
        }
        Ok(())
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
        ordered: &Ordered,
    ) -> Result<HistoryEntry, LifecycleError> {
        let unknown = || LifecycleError::Unknown { id: id.clone(), version };
        let known = self.known.get_mut(&(id.clone(), version)).ok_or_else(unknown)?;
        known.stage = stage;
        Ok(entry(id, version, known, ordered.reason.clone(), Some(ordered.statement), ordered.at))
    }
}

fn entry(
    id: &ItemName,
    version: u64,
    known: &Known,
    reason: Text,
    statement: Option<Sha256Digest>,
    at: UnixSeconds,
) -> HistoryEntry {
    HistoryEntry {
        at,
        id: id.clone(),
        version,
        digest: known.digest,
        stage: known.stage,
        reason,
        signers: known.signers.iter().map(ToString::to_string).collect(),
        statement,
    }
}
