//! One domain as this node sees it: the keys it holds, the newest epoch and log it has seen, and what it accepts.
//!
//! Nothing that a verifier sends counts before it passed here, offline, against the newest trust bundle. That one came at
//! enrolment, or since; whoever brings it, the policy authority that was pinned at enrolment signed it, and its sequence
//! only grows.

use std::sync::{Arc, PoisonError, RwLock};

use audit::AuditDenial;
use audit::checkpoint::{Checkpoint, LogIdentity, VerifiedCheckpoint};
use audit::note::{NoteKey, NoteKeyKind};
use audit::proof::witness_name;
use audit::receipt::{Receipt, VerifiedReceipt};
use audit::record::{RecordBody, VerifiedRecord};
use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, NodeId};
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::{Artifact, Continues, Expectation, VerifiedArtifact};
use governance::governance_state::{GovernanceState, VerifiedState};
use governance::intent::Intent;
use governance::node_key::NodeKey;
use governance::trust_bundle::{KeyRecord, OWN_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle};
use governance::witness_policy::HeldWitnessPolicy;
use serde::{Deserialize, Serialize};
use wire::bounded::verifier::{Authorization, DomainKeys, Welcome, WrappedKey};

use super::svid::{Svid, Wanted};

/// The newest of a domain's governance that this node has seen; it never goes back, across restarts either.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    /// Governance epoch.
    pub(crate) epoch: u64,
    /// Digest of that epoch's state, if the state itself was seen.
    pub(crate) state: Option<Sha256Digest>,
    /// Newest signed checkpoint of its log.
    pub(crate) checkpoint: Option<String>,
    /// Whose cosignatures count on it.
    pub(crate) witnesses: Option<HeldWitnessPolicy>,
}

/// A domain, who may sign for its keys, and its keys. Clones share the bundle.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub(crate) name: DomainName,
    pub(crate) node: NodeId,
    /// Pinned at enrolment.
    authority: Authority,
    bundle: Arc<RwLock<Arc<VerifiedBundle>>>,
    /// A lab, in which nobody need have witnessed anything.
    lab: bool,
}

/// What was asked, to compare the answer with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) intent: &'a Intent,
    pub(crate) intent_digest: Sha256Digest,
    pub(crate) node_key: &'a NodeKey,
    /// SHA-256 of the evidence, or passport, that was sent.
    pub(crate) evidence: Sha256Digest,
    /// The artifact that is renewed and its lease seq; none for a first authorization.
    pub(crate) held: Option<&'a VerifiedArtifact>,
}

/// An authorization that passed.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) artifact: VerifiedArtifact,
    /// As its issuer signed it.
    pub(crate) cose: Arc<[u8]>,
    /// The domain's own Attestation Result; none where it took another's word.
    pub(crate) result: Option<Arc<[u8]>>,
    /// The execution's identity there.
    pub(crate) svid: Svid,
    /// CA certificates of the domain, DER, one after the other: by which that is verified.
    pub(crate) authorities: Arc<[u8]>,
    /// Keys of the domain's JWT-SVIDs.
    pub(crate) jwt: Arc<[KeyRecord]>,
    /// By which keys its workload may verify that of others.
    pub(crate) partners: Arc<[DomainKeys]>,
    pub(crate) log_index: u64,
    /// Wrapped to the node key, until the workload starts.
    pub(crate) keys: Vec<WrappedKey>,
}

impl Domain {
    /// `lab`: whether nobody need have witnessed anything.
    pub(crate) fn new(name: DomainName, node: NodeId, authority: Authority, bundle: VerifiedBundle, lab: bool) -> Self {
        Self { name, node, authority, bundle: Arc::new(RwLock::new(Arc::new(bundle))), lab }
    }

    /// The newest trust bundle, in force or not.
    pub(crate) fn bundle(&self) -> Arc<VerifiedBundle> {
        self.bundle.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Judges a trust bundle that came; nothing for the held one. Whoever keeps it durably gives it to [`Self::hold`].
    pub(crate) fn newer(
        &self,
        signatures: &[Vec<u8>],
        now: UnixSeconds,
    ) -> Result<Option<VerifiedBundle>, GovernanceDenial> {
        let held = self.bundle();
        let claimed = signatures.first().and_then(|cose| evidence::cose::claimed_payload(cose).ok());
        if claimed.is_some_and(|payload| Sha256Digest::of(&payload) == held.digest()) {
            return Ok(None);
        }
        let bundle = TrustBundle::verify(signatures, &self.name, &self.authority, OWN_LIFETIME_CAP_S, now)?;
        bundle.supersedes(&held)?;
        if bundle.bundle().authority != self.authority {
            let (what, field, rule) = ("trust bundle", "authority", "the one that was pinned at enrolment");
            return Err(GovernanceDenial::FieldInvalid { what, field, rule });
        }
        Ok(Some(bundle))
    }

    /// Holds a newer bundle from now on.
    pub(crate) fn hold(&self, bundle: VerifiedBundle) {
        *self.bundle.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(bundle);
    }

    /// The keys that count now.
    pub(crate) fn keys(&self, now: UnixSeconds) -> Result<Arc<VerifiedBundle>, GovernanceDenial> {
        let bundle = self.bundle();
        bundle.in_force(now)?;
        Ok(bundle)
    }

    /// What a node of this domain is called as an audience.
    fn audience(&self) -> String {
        self.name.node_spiffe_id(&self.node)
    }

    /// Judges an authorization and its receipt; `seen` moves on only if everything holds.
    pub(crate) fn accept(
        &self,
        answer: &Authorization,
        asked: Asked<'_>,
        seen: &mut Seen,
        now: UnixSeconds,
    ) -> Result<Accepted, AcceptDenial> {
        let issuer_keys = self.keys(now)?.keys(Role::Issuer, now);
        let held = asked.held.map(VerifiedArtifact::terms);
        let expectation = Expectation {
            audience: &self.audience(),
            domain: &self.name,
            node: &self.node,
            intent: asked.intent_digest,
            scope: &asked.intent.scope,
            node_key: asked.node_key,
            epoch_min: seen.epoch,
            seq_min: held.map_or(1, |terms| terms.lease.seq.saturating_add(1)),
            continues: held.map_or(Continues::Nothing, |terms| Continues::Artifact(terms.id)),
        };
        let artifact = Artifact::verify_offline(&answer.artifact, &issuer_keys, &expectation, now)?;
        let terms = artifact.terms();
        if terms.bindings.executable != asked.intent.workload.executable {
            let (got, expected) = (terms.bindings.executable, asked.intent.workload.executable);
            return Err(GovernanceDenial::Workload { got, expected }.into());
        }
        if terms.bindings.evidence != asked.evidence {
            return Err(mismatch("artifact", "evidence"));
        }
        if terms.policy.result != Sha256Digest::of(&answer.result) {
            return Err(mismatch("artifact", "result"));
        }
        if let Some(state) = seen.state.filter(|_| terms.governance.epoch == seen.epoch)
            && terms.governance.state != state
        {
            return Err(GovernanceDenial::StateMismatch { got: terms.governance.state, expected: state }.into());
        }
        // In the scope's own order, each once: what was granted is what was sent. One domain of several may hold none of
        // them; whether all of them came is judged when they are joined.
        let mut wanted = terms.scope.keys.iter();
        let of_scope = answer.keys.iter().all(|key| wanted.any(|name| *name == key.name));
        let alone = asked.intent.domains.named().len() == 1;
        if held.is_none() && (!of_scope || (alone && answer.keys.len() != terms.scope.keys.len())) {
            return Err(mismatch("authorization", "keys"));
        }
        let (receipt, recorded) = self.verify_receipt(&answer.receipt, &artifact, seen.witnesses.as_ref(), now)?;
        let (key, until, own) = (&asked.intent.svid_key, artifact.terms().expires_at, self.keys(now)?);
        let (spiffe_id, authorities) = (asked.intent.spiffe_id(&self.name)?, &own.bundle().ca);
        let svid = Wanted { recorded, spiffe_id: &spiffe_id, key, until, authorities };
        let svid = Svid::accept(&answer.svid, svid, now)?;
        Self::follow_log(&receipt, &answer.receipt, seen)?;
        if terms.governance.epoch > seen.epoch {
            (seen.epoch, seen.state) = (terms.governance.epoch, Some(terms.governance.state));
        }
        let (cose, partners) = (answer.artifact.as_slice().into(), answer.partners.as_slice().into());
        let authorities = own.bundle().ca.iter().flat_map(|der| der.iter().copied()).collect();
        let (log_index, keys, jwt) = (receipt.index(), answer.keys.clone(), own.bundle().jwt.as_slice().into());
        let result = Some(answer.result.as_slice().into());
        Ok(Accepted { log_index, keys, svid, authorities, jwt, partners, cose, result, artifact })
    }

    /// The decision is in the domain's log, it is this one, and enough witnesses have seen that log; the digest of the SVID
    /// that goes with it.
    fn verify_receipt(
        &self,
        bytes: &[u8],
        artifact: &VerifiedArtifact,
        witnesses: Option<&HeldWitnessPolicy>,
        now: UnixSeconds,
    ) -> Result<(VerifiedReceipt, Sha256Digest), AcceptDenial> {
        let (receipt, record) = self.logged(bytes, witnesses, now)?;
        let named = artifact.receipt();
        if receipt.index() != named.index || receipt.entry_digest() != named.entry {
            return Err(mismatch("receipt", "entry"));
        }
        let (record, wanted) = (record.record(), artifact.terms());
        if record.node.as_ref() != Some(&self.node) || record.subject != wanted.intent {
            return Err(mismatch("authorization record", "subject"));
        }
        let (id, terms, lease_seq, svid, first) = match &record.body {
            RecordBody::Authorization { artifact, terms, lease_seq, svid, .. } => {
                (artifact, terms, lease_seq, *svid, true)
            }
            RecordBody::Renewal { artifact, terms, lease_seq, svid, .. } => (artifact, terms, lease_seq, *svid, false),
            RecordBody::Enrolment { .. }
            | RecordBody::Admission { .. }
            | RecordBody::Capture { .. }
            | RecordBody::Intent { .. }
            | RecordBody::Release { .. }
            | RecordBody::JwtSvid { .. }
            | RecordBody::Denial { .. }
            | RecordBody::Halt { .. }
            | RecordBody::End { .. }
            | RecordBody::Quarantine { .. }
            | RecordBody::Readmission { .. }
            | RecordBody::GovernanceState { .. }
            | RecordBody::Staging { .. }
            | RecordBody::Activation { .. }
            | RecordBody::Supersession { .. }
            | RecordBody::Revocation { .. }
            | RecordBody::Federation { .. }
            | RecordBody::Restart { .. }
            | RecordBody::Alarm { .. } => return Err(mismatch("authorization record", "kind")),
        };
        if first != (wanted.lease.seq == 1) || *lease_seq != wanted.lease.seq {
            return Err(mismatch("authorization record", "lease_seq"));
        }
        if **id != wanted.id.0 || *terms != wanted.digest()? {
            return Err(mismatch("authorization record", "terms"));
        }
        Ok((receipt, svid))
    }

    /// A record of the domain's, in its log, which enough witnesses have seen.
    pub(super) fn logged(
        &self,
        receipt: &[u8],
        witnesses: Option<&HeldWitnessPolicy>,
        now: UnixSeconds,
    ) -> Result<(VerifiedReceipt, VerifiedRecord), AcceptDenial> {
        let (witnesses, quorum) = self.witnesses(witnesses)?;
        let receipt = Receipt::verify(receipt, &self.log(now)?, &witnesses, quorum, now)?;
        let record = receipt.record(&self.name, &self.keys(now)?.keys(Role::Issuer, now))?;
        Ok((receipt, record))
    }

    /// Moves on to the checkpoint of a receipt, if that is newer.
    pub(super) fn follow_log(receipt: &VerifiedReceipt, bytes: &[u8], seen: &mut Seen) -> Result<(), AcceptDenial> {
        if Self::advance(receipt.checkpoint(), seen.checkpoint.as_deref())? {
            seen.checkpoint = Some(Receipt::decode(bytes)?.checkpoint);
        }
        Ok(())
    }

    /// Judges what a verifier says of its governance and log when a stream opens.
    pub(crate) fn welcomed(
        &self,
        welcome: &Welcome,
        seen: &mut Seen,
        now: UnixSeconds,
    ) -> Result<VerifiedState, AcceptDenial> {
        let bundle = self.keys(now)?;
        let state =
            GovernanceState::verify(&welcome.governance_state, &self.name, &bundle.keys(Role::Issuer, now), now)?;
        let (named, got) = (state.state().bundle, bundle.digest());
        if got != named {
            let (domain, what) = (self.name.clone(), "trust bundle");
            return Err(GovernanceDenial::TrustInconsistent { domain, what, got, named }.into());
        }
        let (domain, got) = (self.name.clone(), state.state().epoch);
        if got < seen.epoch {
            return Err(GovernanceDenial::StateRolledBack { domain, got, held: seen.epoch }.into());
        }
        if let Some(held) = seen.state.filter(|held| got == seen.epoch && *held != state.digest()) {
            return Err(GovernanceDenial::StateForked { domain, epoch: got, got: state.digest(), held }.into());
        }
        let checkpoint = VerifiedCheckpoint::verify(&welcome.checkpoint, &self.log(now)?, &[], now)?;
        if !welcome.witness_policy.is_empty() {
            self.witnessed_by(&welcome.witness_policy, seen, now)?;
        }
        let newer = Self::advance(&checkpoint, seen.checkpoint.as_deref())?;
        seen.epoch = got;
        seen.state = Some(state.digest());
        if newer {
            seen.checkpoint = Some(String::from_utf8_lossy(&welcome.checkpoint).into_owned());
        }
        Ok(state)
    }

    /// Judges a witness policy; one that was seen is never taken back, only replaced by a newer one.
    pub(crate) fn witnessed_by(
        &self,
        signatures: &[Vec<u8>],
        seen: &mut Seen,
        now: UnixSeconds,
    ) -> Result<(), AcceptDenial> {
        let held = seen.witnesses.as_ref();
        seen.witnesses = Some(HeldWitnessPolicy::accept(signatures, &self.name, &self.authority, held, now)?);
        Ok(())
    }

    /// Whose cosignatures count, and how many there must be. A domain's own keys never do, whatever the policy says.
    fn witnesses(&self, held: Option<&HeldWitnessPolicy>) -> Result<(Vec<NoteKey>, usize), AcceptDenial> {
        let Some(HeldWitnessPolicy { policy, .. }) = held else {
            if self.lab {
                return Ok((Vec::new(), 0));
            }
            return Err(GovernanceDenial::WitnessPolicyAbsent { domain: self.name.clone() }.into());
        };
        policy.is_of_others(self.bundle().bundle())?;
        let own = witness_name(&self.name);
        let others = policy.witnesses.iter().filter(|witness| witness.name.as_str() != own);
        let keys: Result<Vec<_>, _> =
            others.map(|witness| NoteKey::new(witness.name.as_str(), NoteKeyKind::Cosignature, &witness.key)).collect();
        Ok((keys?, usize::from(policy.quorum)))
    }

    /// Judges a checkpoint that was pushed.
    pub(crate) fn checkpointed(&self, note: &[u8], seen: &mut Seen, now: UnixSeconds) -> Result<(), AcceptDenial> {
        let checkpoint = VerifiedCheckpoint::verify(note, &self.log(now)?, &[], now)?;
        if Self::advance(&checkpoint, seen.checkpoint.as_deref())? {
            seen.checkpoint = Some(String::from_utf8_lossy(note).into_owned());
        }
        Ok(())
    }

    /// Judges a checkpoint of this domain's log that somebody else was shown, beside the newest that was shown here. One that
    /// the log did not sign says nothing.
    pub(crate) fn shown_elsewhere(
        &self,
        note: &[u8],
        newest: Option<&str>,
        now: UnixSeconds,
    ) -> Result<Option<Checkpoint>, AcceptDenial> {
        let bundle = self.bundle();
        let keys = bundle.bundle().records(Role::Log).iter();
        // What a key signed that was retired since speaks against its log as well.
        let ever = keys.filter(|record| record.from <= now).map(|record| &record.key);
        let log = LogIdentity::new(&bundle.bundle().log_origin, ever)?;
        let Ok(shown) = VerifiedCheckpoint::verify(note, &log, &[], now) else { return Ok(None) };
        Self::advance(&shown, newest)?;
        Ok(Some(shown.checkpoint().clone()))
    }

    /// Whether a checkpoint is newer than the newest seen. An older one is fine (a replica may lag); another tree of the
    /// same size is not: the log shows two histories. Whether a larger tree continues a smaller one takes a consistency
    /// proof, which auditors and witnesses ask for.
    fn advance(got: &VerifiedCheckpoint, newest: Option<&str>) -> Result<bool, AcceptDenial> {
        let Some(newest) = newest else { return Ok(true) };
        // Verified when it was seen; its key may have been retired since.
        let (got, held) = (got.checkpoint(), Checkpoint::claimed(newest.as_bytes())?);
        if got.size == held.size && got.root != held.root {
            return Err(AcceptDenial::LogForked { size: got.size });
        }
        Ok(got.size > held.size)
    }

    /// The log by its keys in force.
    fn log(&self, now: UnixSeconds) -> Result<LogIdentity, AcceptDenial> {
        let bundle = self.keys(now)?;
        let keys = bundle.bundle().records(Role::Log).iter();
        let in_force = keys.filter(|record| record.from <= now && now < record.until).map(|record| &record.key);
        Ok(LogIdentity::new(&bundle.bundle().log_origin, in_force)?)
    }
}

pub(super) const fn mismatch(what: &'static str, field: &'static str) -> AcceptDenial {
    AcceptDenial::Audit(AuditDenial::AttachmentMismatch { what, field })
}

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptDenial {
    /// The artifact or state.
    #[error(transparent)]
    Governance(#[from] GovernanceDenial),
    /// Its proof.
    #[error(transparent)]
    Audit(#[from] AuditDenial),
    /// The log shows two histories.
    #[error("the log shows two trees of {size} entries")]
    LogForked {
        /// Their size.
        size: u64,
    },
}

impl AcceptDenial {
    /// Stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Governance(denial) => denial.code(),
            Self::Audit(denial) => denial.code(),
            Self::LogForked { .. } => "audit.root_mismatch",
        }
    }
}

#[cfg(test)]
#[path = "domain_tests.rs"]
mod tests;
