//! What operators and appraisals read about sets: lists, one set, a set that was
//! in force when something was decided.

use evidence::digest::Sha256Digest;
use firmware_refs::lifecycle::{HistoryEntry, Stage};
use firmware_refs::signed::SignedSet;
use governance::revocation::{Revocation, RevocationList};
use policy::set::PolicySet;
use serde::Serialize;

use super::effects::{self, Family};
use super::refusal::OrderRefusal;
use super::rules::{self, verified_state};
use super::{Governor, issuer_keys};
use crate::governance_state;
use crate::signatures;
use crate::store::StoreError;

/// An imported set, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedSet {
    /// Name.
    pub name: String,
    /// Version.
    pub version: u64,
    /// Digest.
    pub digest: Sha256Digest,
    /// Where it stands: "gathering" while too few keys have signed it, then the name of its stage.
    pub state: &'static str,
    /// How many keys have signed it.
    pub signatures: usize,
    /// Everything that happened to it, oldest first.
    pub history: Vec<HistoryEntry>,
}

impl ListedSet {
    /// Whether `name` means it: name, `name:version`, `name@version` or digest.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        is_named(name, &self.name, self.version, &self.digest)
    }
}

impl Governor {
    /// Every imported reference value set.
    pub async fn list_references(&self) -> Result<Vec<ListedSet>, OrderRefusal> {
        self.list(Family::Reference).await
    }

    /// Every imported policy set.
    pub async fn list_policies(&self) -> Result<Vec<ListedSet>, OrderRefusal> {
        self.list(Family::Policy).await
    }

    /// A reference value set by name (its newest version), `name:version`, `name@version` or digest.
    pub async fn find_reference(&self, name: &str) -> Result<(ListedSet, SignedSet), OrderRefusal> {
        let unknown = || OrderRefusal::Unknown { what: "reference value set", name: name.to_owned() };
        let listed = self.list_references().await?;
        let listed = listed.iter().rev().find(|set| set.is_named(name)).ok_or_else(unknown)?.clone();
        let set = self.references_by_digest(&listed.digest).await?;
        Ok((listed, set))
    }

    /// The reference value set with this digest, its signatures verified again.
    pub async fn references_by_digest(&self, digest: &Sha256Digest) -> Result<SignedSet, OrderRefusal> {
        let signed = signatures::over(&self.0.store, digest).await?;
        Ok(SignedSet::open(&signed, &self.0.parts.domain, self.authority())?)
    }

    /// The policy set with this digest, its signatures verified again.
    pub async fn policy_by_digest(&self, digest: &Sha256Digest) -> Result<PolicySet, OrderRefusal> {
        let signed = signatures::over(&self.0.store, digest).await?;
        Ok(PolicySet::open(&signed, &self.0.parts.domain, self.authority())?)
    }

    /// What was revoked when a governance state of ours was in force.
    pub async fn revocations_under(&self, state: &Sha256Digest) -> Result<RevocationList, OrderRefusal> {
        let (store, parts) = (&self.0.store, &self.0.parts);
        let unknown = || OrderRefusal::Unknown { what: "governance state", name: state.to_string() };
        let cose = governance_state::by_digest(store, state).await?.ok_or_else(unknown)?.cose;
        let named = verified_state(parts, &cose)?.state().revocations;
        let mut list = RevocationList::default();
        for cose in effects::revocations(store).await? {
            if list.digest()? == named {
                return Ok(list);
            }
            let revocation = Revocation::verify(&cose, &parts.domain, &issuer_keys(parts))?;
            list.revoke(revocation.revoked, revocation.reason);
        }
        if list.digest()? == named {
            return Ok(list);
        }
        Err(StoreError::Corrupt { what: format!("no revocations of ours are those that state {state} names") }.into())
    }

    /// Sequence that the next statement must have at least.
    pub async fn next_statement_sequence(&self) -> u64 {
        self.0.turn.lock().await.statement_sequence.saturating_add(1)
    }

    async fn list(&self, family: Family) -> Result<Vec<ListedSet>, OrderRefusal> {
        let store = &self.0.store;
        let history: Vec<HistoryEntry> = rules::history(store, family).await?;
        let mut listed = Vec::new();
        for (name, version, digest) in effects::imported(store, family.name()).await? {
            let signatures = signatures::over(store, &digest).await?.len();
            let history: Vec<_> = history.iter().filter(|entry| entry.digest == digest).cloned().collect();
            let state = history.last().map_or("gathering", |entry| stage_name(entry.stage));
            listed.push(ListedSet { name, version, digest, state, signatures, history });
        }
        Ok(listed)
    }
}

/// Whether a set is meant by `named`: its name, `name:version`, `name@version` or its digest.
pub(super) fn is_named(named: &str, name: &str, version: u64, digest: &Sha256Digest) -> bool {
    let versioned = |mark| format!("{name}{mark}{version}") == named;
    name == named || versioned(':') || versioned('@') || digest.to_string() == named
}

pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Staged => "staged",
        Stage::Active { .. } => "active",
        Stage::Superseded { .. } => "superseded",
        Stage::Revoked { .. } => "revoked",
    }
}
