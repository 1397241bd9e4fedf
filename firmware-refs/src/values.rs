//! The reference values in force: an immutable snapshot of active sets and of
//! superseded ones within their grace windows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use evidence::{
    EvidenceKind,
    digest::{HashAlg, Sha256Digest},
    ledger::CheckLedger,
    names::ItemName,
    time::UnixSeconds,
};

use crate::denial::{ReferenceDenial, ReferenceName, moment};
use crate::judge;
use crate::observed::Observed;
use crate::revoked::{REVOKED_CAP, RevokedSet};
use crate::signed::SignedSet;

/// Most sets in force at once: each may be compared with each machine.
pub const SETS_CAP: usize = 64;

/// A set in force.
#[derive(Clone, Debug)]
pub struct InForce {
    set: SignedSet,
    name: Arc<ReferenceName>,
    grace_until: Option<UnixSeconds>,
}

impl InForce {
    /// An active set.
    #[must_use]
    pub fn active(set: SignedSet) -> Self {
        Self::new(set, None)
    }

    /// A superseded set that still matches before `grace_until`.
    #[must_use]
    pub fn in_grace(set: SignedSet, grace_until: UnixSeconds) -> Self {
        Self::new(set, Some(grace_until))
    }

    fn new(set: SignedSet, grace_until: Option<UnixSeconds>) -> Self {
        let name = Arc::new(ReferenceName::of(&set));
        Self { set, name, grace_until }
    }

    /// The set.
    #[must_use]
    pub fn set(&self) -> &SignedSet {
        &self.set
    }

    /// Its name in denials and results.
    #[must_use]
    pub fn name(&self) -> &Arc<ReferenceName> {
        &self.name
    }

    /// Until when it still matches, when it was superseded.
    #[must_use]
    pub const fn grace_until(&self) -> Option<UnixSeconds> {
        self.grace_until
    }

    /// Whether it was superseded.
    #[must_use]
    pub fn is_in_grace(&self) -> bool {
        self.grace_until.is_some()
    }

    fn out_of_force(&self, now: UnixSeconds) -> Option<ReferenceDenial> {
        let (set, reference) = (self.set.set(), || Arc::clone(&self.name));
        let ended = self.grace_until.map_or(set.not_after(), |grace| grace.min(set.not_after()));
        if now < set.not_before() {
            let not_before = moment(set.not_before());
            return Some(ReferenceDenial::NotYetInForce { reference: reference(), not_before, now: moment(now) });
        }
        (now >= ended).then(|| ReferenceDenial::Expired {
            reference: reference(),
            ended: moment(ended),
            now: moment(now),
        })
    }
}

/// Why sets cannot be in force together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValuesError {
    /// One challenge quotes one bank.
    #[error("set {one} has values of bank {bank}, set {other} of bank {other_bank}: one challenge quotes one bank")]
    Banks {
        /// One set.
        one: ItemName,
        /// Its bank.
        bank: HashAlg,
        /// Another.
        other: ItemName,
        /// Its bank.
        other_bank: HashAlg,
    },
    /// One version of one set stands twice.
    #[error("set {id} version {version} stands twice")]
    Twice {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
    },
    /// More sets than are compared.
    #[error("{got} sets, at most {SETS_CAP} are compared")]
    TooMany {
        /// How many.
        got: usize,
    },
}

/// What evidence of one kind must come with, so that every set in force for that kind can judge it. The verifier puts
/// it in the challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirements {
    /// Of a TPM.
    Tpm(TpmRequirements),
    /// Of an SNP guest: its report says everything.
    SevSnp,
    /// Of a trust domain.
    Tdx(TdxRequirements),
    /// Of a vTPM in an SNP guest.
    TpmOnSevSnp(TpmRequirements),
    /// Of a vTPM in a trust domain.
    TpmOnTdx(TpmRequirements, TdxRequirements),
}

impl Requirements {
    /// What a TPM must come with, of kinds that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmRequirements> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm) | Self::TpmOnTdx(tpm, _) => Some(tpm),
            Self::SevSnp | Self::Tdx(_) => None,
        }
    }
}

/// What a trust domain must come with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdxRequirements {
    /// Whether the CCEL event log must come.
    pub event_log: bool,
}

/// What a TPM must come with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmRequirements {
    /// Bank to quote.
    pub bank: HashAlg,
    /// PCRs to quote, ascending.
    pub pcrs: Vec<u8>,
    /// Whether the event log must come.
    pub event_log: bool,
    /// Whether the IMA log must come.
    pub ima_log: bool,
}

/// The reference values in force. Immutable; a change makes a new snapshot.
#[derive(Clone, Debug)]
pub struct ReferenceValues {
    sets: Vec<InForce>,
    requirements: BTreeMap<EvidenceKind, Requirements>,
    digest: Sha256Digest,
    revoked: Vec<RevokedSet>,
    revoked_count: usize,
}

/// A set that matched a machine in every respect, and the checks that passed doing so.
#[derive(Clone, Copy, Debug)]
pub struct Match<'r> {
    /// The set.
    pub by: &'r InForce,
    /// Those that reference values decide.
    pub passed: CheckLedger,
}

impl ReferenceValues {
    /// A snapshot of `sets`. None at all is a snapshot too: it matches nothing.
    ///
    /// # Errors
    /// [`ValuesError`] when they cannot be in force together.
    pub fn new(sets: Vec<InForce>) -> Result<Self, ValuesError> {
        if sets.len() > SETS_CAP {
            return Err(ValuesError::TooMany { got: sets.len() });
        }
        let mut sets = sets;
        // Newest first: the order in which they are tried, and in which a tie of failures is told.
        sets.sort_by(|a, b| {
            (a.is_in_grace(), &a.name.id, std::cmp::Reverse(a.name.version)).cmp(&(
                b.is_in_grace(),
                &b.name.id,
                std::cmp::Reverse(b.name.version),
            ))
        });
        let requirements = requirements(&sets)?;
        let parts: Vec<[u8; 40]> = sets.iter().map(part).collect();
        let parts: Vec<&[u8]> = parts.iter().map(<[u8; 40]>::as_slice).collect();
        let digest = Sha256Digest::labelled("attestd/reference-values/1", &parts);
        Ok(Self { sets, requirements, digest, revoked: Vec::new(), revoked_count: 0 })
    }

    /// The same, able to tell a machine that one of `revoked`, in the order of their revocation, describes it. Nothing
    /// matches that did not before, so the digest stays: these name a denial, they make none.
    #[must_use]
    pub fn with_revoked(self, revoked: &[RevokedSet]) -> Self {
        let newest_first = revoked.iter().rev().take(REVOKED_CAP).cloned().collect();
        Self { revoked: newest_first, revoked_count: revoked.len(), ..self }
    }

    /// How many sets had been revoked.
    #[must_use]
    pub const fn revoked_count(&self) -> usize {
        self.revoked_count
    }

    /// What evidence of `kind` must come with; `None` when no set in force is for that kind.
    #[must_use]
    pub fn requirements(&self, kind: EvidenceKind) -> Option<&Requirements> {
        self.requirements.get(&kind)
    }

    /// The sets, in the order in which they are tried.
    #[must_use]
    pub fn sets(&self) -> &[InForce] {
        &self.sets
    }

    /// Digest over the digests of its sets and their grace windows.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The first set that matches in every respect. Values of different sets are never mixed: a machine is one
    /// known machine, not parts of several.
    ///
    /// # Errors
    /// That the machine is as a revoked set describes, or the first failure of the set that came nearest.
    pub fn compare_observed(&self, observed: &Observed<'_>, now: UnixSeconds) -> Result<Match<'_>, ReferenceDenial> {
        for by in &self.sets {
            if by.out_of_force(now).is_some() {
                continue;
            }
            let mut denied = false;
            let passed = judge::judge(by.set.set(), &by.name, observed, &mut |_| {
                denied = true;
                ControlFlow::Break(())
            });
            if !denied {
                return Ok(Match { by, passed });
            }
        }
        Err(self.all_failures(observed, now).into_iter().next().unwrap_or(ReferenceDenial::NoneActive))
    }

    /// Every failure of the set that came nearest (fewest failures, newest first); empty when one matches. What a
    /// revoked set describes fails for that alone.
    #[must_use]
    pub fn all_failures(&self, observed: &Observed<'_>, now: UnixSeconds) -> Vec<ReferenceDenial> {
        let nearest = self.sets.iter().map(|by| failures_of(by, observed, now)).min_by_key(|(out, f)| (*out, f.len()));
        let failures = nearest.map_or_else(|| vec![ReferenceDenial::NoneActive], |(_, failures)| failures);
        if failures.is_empty() {
            return failures;
        }
        self.revoked.iter().find_map(|revoked| revoked.denies(observed)).map_or(failures, |denial| vec![denial])
    }
}

/// Failures against one set; first how far away it is beyond any mismatch: for another kind of machine, or out of
/// force.
fn failures_of(by: &InForce, observed: &Observed<'_>, now: UnixSeconds) -> ((bool, bool), Vec<ReferenceDenial>) {
    let mut failures: Vec<ReferenceDenial> = by.out_of_force(now).into_iter().collect();
    let distance = (by.set.set().kind() != observed.kind(), !failures.is_empty());
    judge::judge(by.set.set(), &by.name, observed, &mut |denial| {
        failures.push(denial);
        ControlFlow::Continue(())
    });
    (distance, failures)
}

fn requirements(sets: &[InForce]) -> Result<BTreeMap<EvidenceKind, Requirements>, ValuesError> {
    let mut seen = BTreeSet::new();
    if let Some(by) = sets.iter().find(|by| !seen.insert((&by.name.id, by.name.version))) {
        return Err(ValuesError::Twice { id: by.name.id.clone(), version: by.name.version });
    }
    let mut all = BTreeMap::new();
    for kind in EvidenceKind::all() {
        let sets: Vec<&InForce> = sets.iter().filter(|by| by.set.set().kind() == kind).collect();
        let tdx = TdxRequirements { event_log: sets.iter().any(|by| tdx_log(by)) };
        let required = match (kind, tpm_requirements(&sets)?) {
            _ if sets.is_empty() => None,
            (EvidenceKind::Tpm, tpm) => tpm.map(Requirements::Tpm),
            (EvidenceKind::SevSnp, _) => Some(Requirements::SevSnp),
            (EvidenceKind::Tdx, _) => Some(Requirements::Tdx(tdx)),
            (EvidenceKind::TpmOnSevSnp, tpm) => tpm.map(Requirements::TpmOnSevSnp),
            (EvidenceKind::TpmOnTdx, tpm) => tpm.map(|tpm| Requirements::TpmOnTdx(tpm, tdx)),
        };
        all.extend(required.map(|required| (kind, required)));
    }
    Ok(all)
}

fn tdx_log(by: &InForce) -> bool {
    by.set.set().tdx().is_some_and(|tdx| tdx.require_event_log())
}

/// What every set of one kind wants of a TPM; `None` where none wants anything of one.
fn tpm_requirements(sets: &[&InForce]) -> Result<Option<TpmRequirements>, ValuesError> {
    let mut all: Option<(TpmRequirements, &ItemName)> = None;
    for by in sets {
        let Some(tpm) = by.set.set().tpm() else { continue };
        let (all, first) = all.get_or_insert_with(|| {
            let none = TpmRequirements { bank: tpm.bank, pcrs: Vec::new(), event_log: false, ima_log: false };
            (none, &by.name.id)
        });
        if all.bank != tpm.bank {
            return Err(ValuesError::Banks {
                one: first.clone(),
                bank: all.bank,
                other: by.name.id.clone(),
                other_bank: tpm.bank,
            });
        }
        all.pcrs.extend(tpm.pcrs.iter().copied());
        all.pcrs.sort_unstable();
        all.pcrs.dedup();
        all.event_log |= tpm.require_event_log;
        all.ima_log |= tpm.require_ima_log;
    }
    Ok(all.map(|(requirements, _)| requirements))
}

/// One set in the snapshot's digest: digest of its signed form, end of its grace window or zero.
fn part(by: &InForce) -> [u8; 40] {
    let mut out = [0u8; 40];
    let grace = by.grace_until.map_or(0, |at| at.0).to_be_bytes();
    let bytes = by.set.digest().0.into_iter().chain(grace);
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    out
}
