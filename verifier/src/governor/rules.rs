//! The rules as one value, and how they are read back from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evidence::cbor::{self, Caps};
use evidence::cose;
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use firmware_refs::RevokedSet;
use firmware_refs::lifecycle::{HistoryEntry, Lifecycle, Stage};
use firmware_refs::signed::SignedSet;
use firmware_refs::values::{InForce, ReferenceValues};
use governance::governance_state::{GovernanceState, VerifiedState};
use governance::revocation::{Revocation, RevocationList};
use policy::set::PolicySet;

use super::effects::{self, Family};
use super::refusal::OrderRefusal;
use super::{BundleInForce, GovernorParts, Snapshot, WitnessesInForce, issuer_keys};
use crate::governance_state::{self, StateInForce};
use crate::log::Log;
use crate::signatures;
use crate::store::{Store, StoreError};

/// Everything that orders can change.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) lifecycle: Lifecycle,
    /// Reference value sets that enough keys signed, by digest.
    pub(super) references: BTreeMap<Sha256Digest, SignedSet>,
    /// Those that were revoked, in that order.
    pub(super) revoked_sets: Vec<RevokedSet>,
    /// Policy sets that enough keys signed, by digest.
    pub(super) policies: BTreeMap<Sha256Digest, PolicySet>,
    pub(super) policy_active: Option<Sha256Digest>,
    /// Highest policy version that was ever active.
    pub(super) policy_high_water: u64,
    pub(super) revocations: RevocationList,
    pub(super) revocation_sequence: u64,
    /// Highest sequence of a statement that was obeyed.
    pub(super) statement_sequence: u64,
    /// EKs that operators admitted.
    pub(super) pinned: BTreeSet<Sha256Digest>,
    /// The moment at which the reference values in force were chosen: that of
    /// the governance state which names them.
    chosen_at: UnixSeconds,
    /// The newest governance state.
    pub(super) state: Option<StateInForce>,
    /// Every trust bundle of ours, ascending, up to the one that it names.
    pub(super) bundles: Vec<Arc<BundleInForce>>,
    /// The witness policy in force; nothing before the first.
    pub(super) witnesses: Option<Arc<WitnessesInForce>>,
}

impl Rules {
    /// Before the first governance state.
    pub(super) fn none(bundles: Vec<Arc<BundleInForce>>) -> Self {
        Self {
            lifecycle: Lifecycle::default(),
            references: BTreeMap::new(),
            revoked_sets: Vec::new(),
            policies: BTreeMap::new(),
            policy_active: None,
            policy_high_water: 0,
            revocations: RevocationList::default(),
            revocation_sequence: 0,
            statement_sequence: 0,
            pinned: BTreeSet::new(),
            chosen_at: UnixSeconds(0),
            state: None,
            bundles,
            witnesses: None,
        }
    }

    /// The trust bundle in force.
    pub(super) fn bundle(&self) -> Result<&Arc<BundleInForce>, StoreError> {
        self.bundles.last().ok_or_else(|| StoreError::Corrupt { what: "there is no trust bundle".to_owned() })
    }

    pub(super) async fn load(
        parts: &GovernorParts,
        mut bundles: Vec<Arc<BundleInForce>>,
        store: &Store,
        log: &Log,
    ) -> Result<Self, OrderRefusal> {
        let state = governance_state::newest(store).await?.ok_or(StoreError::Uninitialised)?;
        let verified = verified_state(parts, &state.cose)?;
        let named = verified.state().bundle;
        let absent = || StoreError::Corrupt { what: format!("trust bundle {named} is not stored") };
        let at = bundles.iter().position(|bundle| bundle.verified.digest() == named).ok_or_else(absent)?;
        bundles.truncate(at.saturating_add(1));
        let mut rules = Self { chosen_at: verified.state().issued_at, state: Some(state), ..Self::none(bundles) };
        rules.load_references(parts, store).await?;
        rules.load_policies(parts, store).await?;
        for cose in effects::revocations(store).await? {
            let revocation = Revocation::verify(&cose, &parts.domain, &issuer_keys(parts))?;
            rules.revocation_sequence = rules.revocation_sequence.max(revocation.sequence);
            rules.revocations.revoke(revocation.revoked, revocation.reason);
        }
        rules.statement_sequence = effects::high_water(store, STATEMENTS).await?;
        rules.pinned = effects::pinned_eks(store).await?;
        rules.witnesses = WitnessesInForce::newest(parts, store).await?.map(Arc::new);
        rules.confirm(&verified, log).await?;
        Ok(rules)
    }

    /// The rows must be what the newest signed state says, and that state must
    /// be the one that was logged: otherwise somebody changed the tables.
    async fn confirm(&self, verified: &VerifiedState, log: &Log) -> Result<(), OrderRefusal> {
        let named = verified.state();
        let held = [
            ("policy set", self.policy_digest(), named.policy_set),
            ("reference values", self.references_at(self.chosen_at)?.digest(), named.reference_values),
            ("revocations", self.revocations.digest()?, named.revocations),
            ("trust bundle", self.bundle()?.verified.digest(), named.bundle),
        ];
        if let Some((what, ..)) = held.iter().find(|(_, held, named)| held != named) {
            let what = format!("the stored {what} is not the one that governance state {} names", named.epoch);
            return Err(StoreError::Corrupt { what }.into());
        }
        let Some(state) = &self.state else { return Err(StoreError::Uninitialised.into()) };
        if state.digest != verified.digest() || log.entry_by_digest(&state.record).await?.is_none() {
            let what = format!("governance state {} is not the one that was logged", state.epoch);
            return Err(StoreError::Corrupt { what }.into());
        }
        Ok(())
    }

    async fn load_references(&mut self, parts: &GovernorParts, store: &Store) -> Result<(), OrderRefusal> {
        let history: Vec<HistoryEntry> = history(store, Family::Reference).await?;
        for entry in &history {
            let signed = signatures::over(store, &entry.digest).await?;
            let set = SignedSet::open(&signed, &parts.domain, &parts.authority)?;
            self.references.insert(entry.digest, set);
        }
        let known = history.iter().filter_map(|entry| Some((entry, self.references.get(&entry.digest)?)));
        self.lifecycle = Lifecycle::replay(known);
        history.iter().for_each(|entry| self.note_revoked(entry));
        Ok(())
    }

    async fn load_policies(&mut self, parts: &GovernorParts, store: &Store) -> Result<(), OrderRefusal> {
        let history: Vec<HistoryEntry> = history(store, Family::Policy).await?;
        for entry in &history {
            let signed = signatures::over(store, &entry.digest).await?;
            let set = PolicySet::open(&signed, &parts.domain, &parts.authority)?;
            self.policies.insert(entry.digest, set);
            if let Stage::Active { .. } = entry.stage {
                self.policy_active = Some(entry.digest);
                self.policy_high_water = self.policy_high_water.max(entry.version);
            }
        }
        Ok(())
    }

    /// Digest of the active policy set; zero for none.
    pub(super) fn policy_digest(&self) -> Sha256Digest {
        self.policy_active.unwrap_or(Sha256Digest::ZERO)
    }

    /// The reference values in force at a moment.
    pub(super) fn references_at(&self, at: UnixSeconds) -> Result<ReferenceValues, OrderRefusal> {
        let mut in_force = Vec::new();
        for (_, _, digest, stage) in self.lifecycle.all() {
            let Some(set) = self.references.get(&digest) else { continue };
            match stage {
                Stage::Active { .. } => in_force.push(InForce::active(set.clone())),
                Stage::Superseded { grace_until, .. } if at < grace_until => {
                    in_force.push(InForce::in_grace(set.clone(), grace_until));
                }
                Stage::Staged | Stage::Superseded { .. } | Stage::Revoked { .. } => {}
            }
        }
        Ok(ReferenceValues::new(in_force)?.with_revoked(&self.revoked_sets))
    }

    /// From now on the reference values in force are those of this moment.
    pub(super) fn pass_time(&mut self, now: UnixSeconds) {
        self.chosen_at = now;
    }

    pub(super) fn snapshot(&self, parts: &GovernorParts) -> Result<Snapshot, OrderRefusal> {
        let state = self.state.as_ref().ok_or(StoreError::Uninitialised)?;
        Ok(Snapshot {
            anchors: parts.anchors.with_pinned(&self.pinned)?,
            references: self.references_at(self.chosen_at)?,
            policy: self.policy_active.and_then(|digest| self.policies.get(&digest).cloned()),
            revocations: self.revocations.clone(),
            state: verified_state(parts, &state.cose)?,
            state_cose: state.cose.clone(),
            bundle: self.bundle()?.clone(),
            bundles: self.bundles.clone(),
            witnesses: self.witnesses.clone(),
        })
    }
}

/// Our own state, as it was when it was issued: that it may have run out while we
/// were down is no reason not to continue from it.
pub(super) fn verified_state(parts: &GovernorParts, bytes: &[u8]) -> Result<VerifiedState, OrderRefusal> {
    let malformed = |cause: String| OrderRefusal::Bug(format!("stored governance state: {cause}"));
    let payload = cose::claimed_payload(bytes).map_err(|denial| malformed(denial.to_string()))?;
    let claimed: GovernanceState = cbor::from_slice(&payload, Caps::bytes(payload.len()))?;
    Ok(GovernanceState::verify(bytes, &parts.domain, &issuer_keys(parts), claimed.issued_at)?)
}

pub(super) async fn history(store: &Store, family: Family) -> Result<Vec<HistoryEntry>, OrderRefusal> {
    let mut entries = Vec::new();
    for bytes in effects::history(store, family).await? {
        entries.push(cbor::from_slice(&bytes, Caps::bytes(bytes.len()))?);
    }
    Ok(entries)
}

/// Name of the high-water mark of statement sequences.
pub(super) const STATEMENTS: &str = "statement sequence";
