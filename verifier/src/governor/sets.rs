//! Importing signed sets: one signature at a time, until enough keys have signed
//! and the set is staged. A staged set has no effect; a statement activates it.

use evidence::cbor;
use evidence::cose::{KeyId, KeySet, Purpose, verify1};
use evidence::digest::Sha256Digest;
use evidence::names::ItemName;
use evidence::threshold::ThresholdDenial;
use evidence::time::UnixSeconds;
use firmware_refs::lifecycle::{HistoryEntry, Stage};
use firmware_refs::set::ReferenceValueSet;
use firmware_refs::signed::{SignedSet, SignedSetError};
use firmware_refs::text::Text;
use policy::set::{PolicyDocument, PolicySet, SET_CAP_BYTES};
use serde::Serialize;

use super::effects::{self, Family};
use super::refusal::OrderRefusal;
use super::{Governor, Rules, record, steps};
use crate::signatures;
use crate::store::{NewEntry, Transaction};

/// Where an imported set stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Name of the set.
    pub name: ItemName,
    /// Its version.
    pub version: u64,
    /// Its digest: what a statement names.
    pub digest: Sha256Digest,
    /// Keys that have signed.
    pub signatures: usize,
    /// Keys that must sign.
    pub threshold: u8,
    /// "gathering" until enough have signed, then "staged".
    pub state: &'static str,
}

/// A set's name, read from what one authority key signed.
struct Claim {
    family: Family,
    id: ItemName,
    version: u64,
    digest: Sha256Digest,
    kid: KeyId,
    cose: Vec<u8>,
}

impl Governor {
    /// Takes one signature over a reference value set.
    pub async fn import_references(&self, cose: &[u8], now: UnixSeconds) -> Result<Imported, OrderRefusal> {
        let (payload, kid) = self.one_signature(Purpose::ReferenceValues, cose)?;
        let set = ReferenceValueSet::from_cbor(&payload).map_err(SignedSetError::Set)?;
        if *set.domain() != self.0.parts.domain {
            let (got, wanted) = (set.domain().clone(), self.0.parts.domain.clone());
            return Err(SignedSetError::OtherDomain { got, wanted }.into());
        }
        self.0.parts.reference_signers.admit(&set.document().environment, kid)?;
        let (id, version, digest) = (set.id().clone(), set.version(), Sha256Digest::of(&payload));
        let claim = Claim { family: Family::Reference, id, version, digest, kid, cose: cose.to_vec() };
        self.import(claim, now).await
    }

    /// Takes one signature over a policy set.
    pub async fn import_policy(&self, cose: &[u8], now: UnixSeconds) -> Result<Imported, OrderRefusal> {
        let (payload, kid) = self.one_signature(Purpose::PolicySet, cose)?;
        let document: PolicyDocument = cbor::from_slice(&payload, cbor::Caps::bytes(SET_CAP_BYTES))
            .map_err(|error| OrderRefusal::PolicySet(error.into()))?;
        let set = PolicySet::from_document(document)?;
        let document = set.document();
        if document.domain != self.0.parts.domain {
            let (got, wanted) = (document.domain.clone(), self.0.parts.domain.clone());
            return Err(policy::set::PolicySetError::OtherDomain { got, wanted }.into());
        }
        let (id, version) = (document.id.clone(), document.version);
        let claim = Claim { family: Family::Policy, id, version, digest: set.digest(), kid, cose: cose.to_vec() };
        self.import(claim, now).await
    }

    async fn import(&self, claim: Claim, now: UnixSeconds) -> Result<Imported, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let (family, name, version, digest) = (claim.family, claim.id.clone(), claim.version, claim.digest);
        let held = self.0.store.write(move |transaction: &mut Transaction<'_>| {
            Box::pin(async move {
                if !effects::add_set(transaction, claim.family.name(), &claim.id, claim.version, &claim.digest).await? {
                    let Claim { id, version, .. } = claim;
                    return Err(firmware_refs::lifecycle::LifecycleError::VersionReused { id, version }.into());
                }
                signatures::keep(transaction, &claim.digest, claim.kid, &claim.cose).await?;
                Ok::<_, OrderRefusal>(signatures::over_in(transaction.connection(), &claim.digest).await?)
            })
        });
        let held = held.await?.value;
        let state = self.stage(&mut rules, family, digest, &held, now).await?;
        let threshold = self.threshold();
        Ok(Imported { name, version, digest, signatures: held.len(), threshold, state })
    }

    /// Stages a set once enough keys have signed it.
    async fn stage(
        &self,
        rules: &mut Rules,
        family: Family,
        digest: Sha256Digest,
        signatures: &[Vec<u8>],
        now: UnixSeconds,
    ) -> Result<&'static str, OrderRefusal> {
        let parts = &self.0.parts;
        let mut next = rules.clone();
        let entry = match family {
            Family::Reference => match SignedSet::open(signatures, &parts.domain, &parts.authority) {
                Err(SignedSetError::Signatures(ThresholdDenial::TooFew { .. })) => return Ok("gathering"),
                Err(error) => return Err(error.into()),
                Ok(set) if parts.reference_signers.count(&set)? < usize::from(self.threshold()) => {
                    return Ok("gathering");
                }
                Ok(set) => {
                    let reason = set.set().document().reason.clone();
                    let entry = next.lifecycle.stage(&set, reason, now)?;
                    next.references.insert(digest, set);
                    entry
                }
            },
            Family::Policy => match PolicySet::open(signatures, &parts.domain, &parts.authority) {
                Err(policy::set::PolicySetError::Signatures(ThresholdDenial::TooFew { .. })) => {
                    return Ok("gathering");
                }
                Err(error) => return Err(error.into()),
                Ok(set) => {
                    let known = next.policies.contains_key(&digest);
                    let document = set.document().clone();
                    let entry = policy_entry(&set, Stage::Staged, document.reason, None, now);
                    next.policies.insert(digest, set);
                    (!known).then_some(entry)
                }
            },
        };
        if let Some(entry) = entry {
            self.log_staging(rules, family, entry).await?;
        }
        // A further signature over a set that is staged already counts from now on, too.
        *rules = next;
        Ok("staged")
    }

    /// Staging changes nothing that is in force, so it is logged without a new governance state.
    async fn log_staging(&self, rules: &Rules, family: Family, step: HistoryEntry) -> Result<(), OrderRefusal> {
        let (payload, bytes) = (step.digest, cbor::to_vec(&step)?);
        let said = steps::said(family, &step).ok_or_else(|| OrderRefusal::Bug("staging has a record".to_owned()))?;
        let parents: Vec<_> = rules.state.iter().map(|state| state.record).collect();
        let parts = &self.0.parts;
        let staged = record(&parts.domain, &parts.issuer.signing(), &parents, said.subject, said.body, step.at)?;
        let entry = said.about.into_iter().fold(NewEntry::new(staged), NewEntry::about);
        let written = self.0.store.write(move |transaction: &mut Transaction<'_>| {
            Box::pin(async move {
                transaction.append(entry)?;
                effects::add_history(transaction, family, &payload, &bytes).await
            })
        });
        written.await.map(drop).map_err(OrderRefusal::from)
    }

    /// One signature of the authority, and what it is over.
    pub(super) fn one_signature(&self, purpose: Purpose, cose: &[u8]) -> Result<(Vec<u8>, KeyId), OrderRefusal> {
        let keys = KeySet::new(self.authority().keys());
        let signed = verify1(purpose, &self.0.parts.domain, cose, &keys).map_err(ThresholdDenial::Cose)?;
        Ok((signed.payload().to_vec(), signed.signer()))
    }

    pub(super) fn threshold(&self) -> u8 {
        self.authority().threshold().get()
    }
}

/// A step in the life of a policy set, ordered by a statement unless it is staging.
pub(super) fn policy_entry(
    set: &PolicySet,
    stage: Stage,
    reason: Text,
    statement: Option<Sha256Digest>,
    at: UnixSeconds,
) -> HistoryEntry {
    let name = set.name();
    HistoryEntry {
        at,
        id: name.id.clone(),
        version: name.version,
        digest: set.digest(),
        stage,
        reason,
        signers: name.signers.iter().map(ToString::to_string).collect(),
        statement,
    }
}
