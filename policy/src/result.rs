//! The Attestation Result: what an affirmed appraisal tells others, signed.
//!
//! A pure function of the verdict, the trust it was reached by, and who issues
//! it: the same inputs give the same bytes, so a verdict can be replayed from
//! logged digests and compared bit for bit.

use std::collections::BTreeMap;

use evidence::{
    EvidenceKind,
    cbor::{self, Caps, CborError},
    cose::{CoseDenial, KeySet, Purpose, SigningKey, claimed_payload, sign1, verify1},
    digest::Sha256Digest,
    ledger::CheckId,
    names::DomainName,
    time::UnixSeconds,
};
use governance::GovernanceDenial;
use serde_bytes::ByteBuf;

use crate::appraise::{Affirmed, TpmMachine};
use crate::ear::{
    Appraisal, AttesterClaims, Ear, EndorsementUsed, Nonce, PROFILE, SetName, Tier, TpmAttester, TrustVector,
    VerifierClaims, VerifierId,
};
use crate::trust::Trust;

/// Longest claims set that is read, in bytes.
pub const RESULT_CAP_BYTES: usize = 32 * 1024;

/// Most endorsements that a result names: a vTPM in a trust domain has seven.
pub const ENDORSEMENTS_CAP: usize = 10;

/// Longest lifetime of a result, in seconds: a result is about one moment.
pub const LIFETIME_CAP_S: u64 = 3600;

/// How far the clock of another domain's verifier may go before ours, in seconds.
pub const CLOCK_LEAD_S: u64 = 5;

/// Who issues a result, and for whom.
#[derive(Clone, Debug)]
pub struct Issuance {
    /// Who may rely on it (SPIFFE ID).
    pub audience: String,
    /// Who made the verifier.
    pub developer: String,
    /// Which build it is.
    pub build: String,
    /// How long it counts, in seconds; at most [`LIFETIME_CAP_S`].
    pub lifetime_s: u64,
}

/// Why no result can be made of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultFault {
    /// The verdict was reached by other trust than the one given: a defect of the caller.
    #[error("the verdict was reached by other {what} than the snapshot holds")]
    OtherTrust {
        /// Which part.
        what: &'static str,
    },
    /// The endorsements given are not what such a machine is judged by: a defect of the caller.
    #[error(
        "{got} endorsements of a {kind} machine: one with a TEE has some, another none, and none more than {ENDORSEMENTS_CAP}"
    )]
    Endorsements {
        /// Kind of the evidence.
        kind: EvidenceKind,
        /// How many were given.
        got: usize,
    },
    /// It cannot be encoded.
    #[error(transparent)]
    Encoding(#[from] CborError),
    /// It cannot be signed.
    #[error(transparent)]
    Signing(#[from] CoseDenial),
}

/// An Attestation Result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationResult {
    ear: Ear,
    domain: DomainName,
}

impl AttestationResult {
    /// The result of a verdict reached by `trust` and, of machines with a TEE, the vendors' documents `endorsed_by`. What
    /// vouches for a TPM is in the verdict itself.
    ///
    /// # Errors
    /// [`ResultFault::OtherTrust`] when it was reached by another snapshot, [`ResultFault::Endorsements`] when a machine
    /// of this kind is not judged by so many documents.
    pub fn new(
        affirmed: &Affirmed,
        endorsed_by: &[EndorsementUsed],
        trust: &Trust,
        issuance: &Issuance,
    ) -> Result<Self, ResultFault> {
        same("reference values", affirmed.basis().reference_values == trust.reference_values().digest())?;
        same("policy set", affirmed.basis().policy_set == trust.policy().digest())?;
        same("governance epoch", affirmed.challenge().epoch == trust.governance().epoch)?;
        let appraisal = appraisal(affirmed, endorsed_by, trust)?;
        let challenge = affirmed.challenge();
        let ear = Ear {
            issuer: challenge.audience.clone(),
            audience: issuance.audience.clone(),
            issued_at: affirmed.judged_at().0,
            expires_at: affirmed.judged_at().plus(issuance.lifetime_s.min(LIFETIME_CAP_S)).0,
            nonce: Some(Nonce(challenge.nonce.to_vec())),
            profile: PROFILE.to_owned(),
            status: appraisal.status,
            verifier: VerifierId { developer: issuance.developer.clone(), build: issuance.build.clone() },
            submods: BTreeMap::from([(affirmed.machine().kind.name().to_owned(), appraisal)]),
        };
        Ok(Self { ear, domain: trust.policy().document().domain.clone() })
    }

    /// Its claims.
    #[must_use]
    pub const fn ear(&self) -> &Ear {
        &self.ear
    }

    /// Its claims set as deterministic CBOR.
    ///
    /// # Errors
    /// [`CborError`] when it cannot be written.
    pub fn to_cbor(&self) -> Result<Vec<u8>, CborError> {
        cbor::to_vec(&self.ear)
    }

    /// The signed result: a CWT in COSE_Sign1.
    ///
    /// # Errors
    /// [`ResultFault`] when it cannot be written.
    pub fn to_cwt(&self, issuer: &SigningKey) -> Result<Vec<u8>, ResultFault> {
        Ok(sign1(Purpose::AttestationResult, &self.domain, &self.to_cbor()?, issuer)?)
    }
}

fn same(what: &'static str, same: bool) -> Result<(), ResultFault> {
    if same { Ok(()) } else { Err(ResultFault::OtherTrust { what }) }
}

/// The EK's certificate, then the vendors' documents.
fn endorsed_by(affirmed: &Affirmed, documents: &[EndorsementUsed]) -> Result<Vec<EndorsementUsed>, ResultFault> {
    let machine = affirmed.machine();
    let ek = machine.tpm.as_ref().and_then(|tpm| tpm.ek_certificate).map(|(digest, issued_at)| EndorsementUsed {
        kind: "ek-certificate".to_owned(),
        digest,
        age_s: affirmed.judged_at().0.saturating_sub(issued_at.0),
    });
    let all: Vec<_> = ek.into_iter().chain(documents.iter().cloned()).collect();
    if machine.platform.is_some() == documents.is_empty() || all.len() > ENDORSEMENTS_CAP {
        return Err(ResultFault::Endorsements { kind: machine.kind, got: documents.len() });
    }
    Ok(all)
}

fn appraisal(affirmed: &Affirmed, documents: &[EndorsementUsed], trust: &Trust) -> Result<Appraisal, ResultFault> {
    let basis = affirmed.basis();
    let vector = trust_vector(affirmed);
    let policy = SetName { id: basis.policy.id.to_string(), version: basis.policy.version, digest: basis.policy_set };
    let reference =
        SetName { id: basis.reference.id.to_string(), version: basis.reference.version, digest: basis.reference_set };
    let governance = trust.governance();
    Ok(Appraisal {
        status: vector.worst(),
        vector,
        policies: vec![format!("{}/{}@{}", affirmed.claims().domain, policy.id, policy.version)],
        attester: attester(affirmed),
        verifier: VerifierClaims {
            domain: affirmed.claims().domain.clone(),
            environment: affirmed.claims().environment.clone(),
            ledger: affirmed.ledger().bits(),
            evidence: basis.evidence,
            endorsements: basis.endorsements,
            endorsed_by: endorsed_by(affirmed, documents)?,
            challenge: Sha256Digest::of(&cbor::to_vec(affirmed.challenge())?),
            anchors: trust.anchors().digest(),
            reference,
            reference_values: basis.reference_values,
            policy,
            rules: affirmed.rules().iter().map(|rule| rule.id.clone()).collect(),
            epoch: governance.epoch,
            governance: governance.state,
            trust: trust.digest(),
        },
    })
}

fn attester(affirmed: &Affirmed) -> AttesterClaims {
    let machine = affirmed.machine();
    AttesterClaims {
        node: machine.node.to_string(),
        kind: machine.kind,
        node_key: Sha256Digest::of(machine.node_key.cose_key()),
        registers: machine.measurements.clone(),
        tpm: machine.tpm.as_ref().map(tpm_attester),
        platform: machine.platform.clone(),
    }
}

fn tpm_attester(tpm: &TpmMachine) -> TpmAttester {
    TpmAttester {
        ek: tpm.ek,
        ak_name: ByteBuf::from(tpm.ak_name.to_bytes()),
        node_key_name: ByteBuf::from(tpm.node_key_name.to_bytes()),
        pcr_bank: tpm.pcrs.bank().to_string(),
        manufacturer: tpm.manufacturer.to_string(),
        firmware: tpm.firmware.0,
    }
}

/// What was proven, in AR4SI's words (§2.3.4), each given by the checks that stand for it, of every part that the
/// kind has. Nothing is claimed about storage: no kind of evidence says anything about it.
#[must_use]
pub fn trust_vector(affirmed: &Affirmed) -> TrustVector {
    use CheckId::{
        E8, M1, S1, S3, S5, S6, S8, S10, S11, S13, T1, T4, T5, T6, T7, T9, X1, X2, X3, X5, X8, X9, X10, X11,
    };
    let kind = affirmed.machine().kind;
    let passed = affirmed.ledger();
    let all = |tpm: &[CheckId], snp: &[CheckId], tdx: &[CheckId]| {
        let of = |checks: &[CheckId]| checks.iter().all(|check| passed.contains(*check));
        match kind {
            EvidenceKind::Tpm => of(tpm),
            EvidenceKind::SevSnp => of(snp),
            EvidenceKind::Tdx => of(tdx),
            EvidenceKind::TpmOnSevSnp => of(tpm) && of(snp),
            EvidenceKind::TpmOnTdx => of(tpm) && of(tdx),
        }
    };
    let simulated = affirmed.claims().simulated;
    let ek_pinned = affirmed.machine().tpm.as_ref().is_some_and(|tpm| tpm.ek_pinned);
    let is_tee = affirmed.machine().platform.is_some();
    TrustVector {
        // 2: recognised, and not known to be compromised
        instance_identity: all(&[T1, T4, T5, T6], &[S3, S5, S6, S11, S13], &[X2, X3, X5, X11]).then_some(2),
        // 2: configuration is a known and approved one
        configuration: all(&[T7, M1], &[S8, S10], &[X9, X10]).then_some(2),
        // 2: only approved ones during and after boot; 3: during boot
        executables: all(&[M1], &[S10], &[X10]).then_some(if passed.contains(E8) { 2 } else { 3 }),
        file_system: None,
        // 2: genuine; nobody says so of simulated hardware, or of a TPM that only an operator vouches for
        hardware: (all(&[T1, T9], &[S1, S3, S6], &[X1, X2, X8]) && !simulated && !ek_pinned).then_some(2),
        // 2: memory is encrypted and out of the host's reach; a TPM says nothing about it
        runtime_opaque: (is_tee && all(&[], &[S6, S8], &[X5, X9]) && !simulated).then_some(2),
        storage_opaque: None,
        sourced_data: None,
    }
}

/// What a relying party demands of a result.
#[derive(Clone, Debug)]
pub struct Reliance<'a> {
    /// Domain whose verifier issued it.
    pub domain: &'a DomainName,
    /// Its issuer keys.
    pub keys: &'a KeySet,
    /// Who relies on it.
    pub audience: &'a str,
    /// What it must answer.
    pub answers: Answers<'a>,
    /// When.
    pub now: UnixSeconds,
}

/// What makes a result an answer to whoever relies on it: nobody relies on one that is about no particular moment.
#[derive(Clone, Copy, Debug)]
pub enum Answers<'a> {
    /// The nonce that was asked with.
    Nonce(&'a [u8]),
    /// An authorization that is in force names it: digest of the signed result. The issuer's clock may go before ours by
    /// [`CLOCK_LEAD_S`].
    Named(Sha256Digest),
}

/// Why a result is not relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultRefusal {
    /// Not signed by an accepted key for this purpose and domain.
    #[error(transparent)]
    Signature(#[from] CoseDenial),
    /// Not the deterministic CBOR of a claims set.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Another profile than the one we know.
    #[error("attestation result of profile {got:?}")]
    Profile {
        /// Its profile.
        got: String,
    },
    /// It answers nothing, so it may be of any age.
    #[error("attestation result without a nonce")]
    NonceMissing,
    /// It answers something else.
    #[error("attestation result for another nonce")]
    NonceMismatch,
    /// It is not the one that is named.
    #[error("another attestation result than the one that the authorization names")]
    OtherResult,
    /// It is for somebody else.
    #[error("attestation result for {got}")]
    Audience {
        /// Its audience.
        got: String,
    },
    /// Issued by another service than the domain's verifier.
    #[error("attestation result issued by {got}")]
    Issuer {
        /// Its issuer.
        got: String,
    },
    /// It is not yet, or no longer, to be relied on.
    #[error("attestation result counts from {from} until {until}, it is {now}")]
    OutOfTime {
        /// Issued at.
        from: u64,
        /// Ends at.
        until: u64,
        /// Judged at.
        now: u64,
    },
    /// It says less than affirming, as a whole or of some attester.
    #[error("attestation result is {got:?}, not affirming")]
    Tier {
        /// The worst tier in it.
        got: Tier,
    },
    /// It is about nobody.
    #[error("attestation result without an appraisal")]
    Empty,
}

/// A result that may be relied on. Made only by [`RelyingResult::read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelyingResult {
    ear: Ear,
}

impl RelyingResult {
    /// Reads a result, and refuses it for the first thing that is less than demanded.
    ///
    /// # Errors
    /// [`ResultRefusal`].
    pub fn read(cwt: &[u8], reliance: &Reliance<'_>) -> Result<Self, ResultRefusal> {
        let signed = verify1(Purpose::AttestationResult, reliance.domain, cwt, reliance.keys)?;
        let ear: Ear = cbor::from_slice(signed.payload(), Caps::bytes(RESULT_CAP_BYTES))?;
        if ear.profile != PROFILE {
            return Err(ResultRefusal::Profile { got: ear.profile });
        }
        let nonce = ear.nonce.as_ref().ok_or(ResultRefusal::NonceMissing)?;
        let lead_s = match reliance.answers {
            Answers::Nonce(wanted) if nonce.0 != wanted => return Err(ResultRefusal::NonceMismatch),
            Answers::Named(wanted) if Sha256Digest::of(cwt) != wanted => return Err(ResultRefusal::OtherResult),
            Answers::Nonce(_) => 0,
            Answers::Named(_) => CLOCK_LEAD_S,
        };
        if ear.audience != reliance.audience {
            return Err(ResultRefusal::Audience { got: ear.audience });
        }
        if ear.issuer != reliance.domain.verifier_spiffe_id() {
            return Err(ResultRefusal::Issuer { got: ear.issuer });
        }
        let now = reliance.now.0;
        let lifetime_s = ear.expires_at.saturating_sub(ear.issued_at);
        if now.saturating_add(lead_s) < ear.issued_at || now >= ear.expires_at || lifetime_s > LIFETIME_CAP_S {
            return Err(ResultRefusal::OutOfTime { from: ear.issued_at, until: ear.expires_at, now });
        }
        if ear.submods.is_empty() {
            return Err(ResultRefusal::Empty);
        }
        let appraised = ear.submods.values().flat_map(|a| [a.status, a.vector.worst()]);
        match std::iter::once(ear.status).chain(appraised).find(|tier| *tier != Tier::Affirming) {
            Some(got) => Err(ResultRefusal::Tier { got }),
            None => Ok(Self { ear }),
        }
    }

    /// Its claims.
    #[must_use]
    pub const fn ear(&self) -> &Ear {
        &self.ear
    }

    /// Its claims.
    #[must_use]
    pub fn into_ear(self) -> Ear {
        self.ear
    }

    /// Who a result says that it is by. Nothing is verified: it serves to name whose it is in a refusal.
    #[must_use]
    pub fn claimed_issuer(cwt: &[u8]) -> Option<String> {
        let payload = claimed_payload(cwt).ok()?;
        let ear: Ear = cbor::from_slice(&payload, Caps::bytes(RESULT_CAP_BYTES)).ok()?;
        Some(ear.issuer)
    }
}

/// The denial of evidence that answers a challenge of another epoch than the one in force: governance moved on.
///
/// # Errors
/// [`GovernanceDenial::EpochStale`].
pub fn same_epoch(challenge_epoch: u64, trust: &Trust) -> Result<(), GovernanceDenial> {
    let min = trust.governance().epoch;
    if challenge_epoch == min { Ok(()) } else { Err(GovernanceDenial::EpochStale { got: challenge_epoch, min }) }
}
