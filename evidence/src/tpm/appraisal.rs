//! TPM evidence made authentic, then bound to a challenge.

use std::sync::Arc;

use super::{
    attest::ClockInfo,
    certify::CertifiedNodeKey,
    clock::ClockState,
    ek::EkEndorsement,
    enrolment::EnrolledTpm,
    evidence::TpmEvidence,
    logs::{EventLogClaims, ImaClaims},
    pcr::{PcrSelection, PcrSet, PcrValues},
    public::Name,
    quote::Quoted,
};
use crate::{
    EvidenceDenial,
    anchors::TrustAnchors,
    binding::Binding,
    challenge::{Challenge, TpmDemands},
    cose,
    digest::{Digest, Sha256Digest},
    ledger::{CheckId, CheckLedger},
    names::NodeId,
    time::UnixSeconds,
};

/// What the verifier holds about the TPM that evidence is from.
#[derive(Clone, Debug)]
pub struct TpmEndorsement {
    /// The proven identity.
    pub enrolled: Arc<EnrolledTpm>,
    /// Counters and clock as last accepted from this AK.
    pub clock: ClockState,
    /// A node key whose certification was verified before, to spare doing so again when the same bytes come.
    pub node_key: Option<Arc<CertifiedNodeKey>>,
}

/// TPM evidence signed by hardware we trust.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticTpm<'a> {
    pub(crate) ledger: CheckLedger,
    claims: TpmClaims<'a>,
}

/// What TPM evidence says, each claim proven by the checks in the ledger.
#[derive(Clone, Debug)]
pub struct TpmClaims<'a> {
    evidence_digest: Sha256Digest,
    enrolled: &'a EnrolledTpm,
    quoted: Quoted<'a>,
    clock: ClockState,
    node_key: Arc<CertifiedNodeKey>,
    event_log: Option<EventLogClaims<'a>>,
    ima_log: Option<ImaClaims<'a>>,
}

/// T1-T5, T8, T11 and what of T7 and T10 needs no challenge.
pub(crate) fn verify<'a>(
    evidence: &'a TpmEvidence,
    endorsement: &'a TpmEndorsement,
    anchors: &TrustAnchors,
    now: UnixSeconds,
) -> Result<AuthenticTpm<'a>, EvidenceDenial> {
    let enrolled = &*endorsement.enrolled;
    let mut ledger = enrolled.current(anchors, now)?;
    let parts = evidence.parts();
    let quoted = Quoted::verify(parts.quote, parts.signature, enrolled.ak(), parts.pcrs)?;
    ledger.pass(CheckId::T5);
    quoted.refuse_weak()?;
    ledger.pass(CheckId::T11);
    let clock = endorsement.clock.accept(quoted.clock())?;
    ledger.pass(CheckId::T8);
    let node_key = certified_node_key(evidence, endorsement)?;
    let event_log = parts.event_log.map(|log| EventLogClaims::verify(log, &quoted, &mut ledger)).transpose()?;
    let ima_log = parts.ima_log.map(|log| ImaClaims::verify(log, &quoted, &mut ledger)).transpose()?;
    let evidence_digest = evidence.digest();
    let claims = TpmClaims { evidence_digest, enrolled, quoted, clock, node_key, event_log, ima_log };
    Ok(AuthenticTpm { ledger, claims })
}

fn certified_node_key(
    evidence: &TpmEvidence,
    endorsement: &TpmEndorsement,
) -> Result<Arc<CertifiedNodeKey>, EvidenceDenial> {
    let parts = evidence.parts();
    let (public, attest, signature) = (parts.node_key, parts.certification, parts.certification_signature);
    let enrolled = &endorsement.enrolled;
    match &endorsement.node_key {
        Some(known) if known.is_of(public, attest, signature, enrolled.ak_name()) => Ok(Arc::clone(known)),
        Some(_) | None => {
            CertifiedNodeKey::verify(public, attest, signature, enrolled.ak_name(), enrolled.ak()).map(Arc::new)
        }
    }
}

impl<'a> AuthenticTpm<'a> {
    /// T6, T7, T10 and the presence of the logs that `demands` asks for.
    pub(crate) fn bind(
        self,
        challenge: &Challenge,
        demands: &TpmDemands,
    ) -> Result<(CheckLedger, TpmClaims<'a>), EvidenceDenial> {
        let Self { mut ledger, claims } = self;
        let ak_name = claims.enrolled.ak_name().to_bytes();
        let binding = Binding::answering(challenge, claims.node_key.cose_key(), Some(&ak_name)).qualifying_data()?;
        if claims.quoted.extra_data() != binding {
            let got = hex::encode(claims.quoted.extra_data());
            return Err(EvidenceDenial::BindingMismatch { got, expected: hex::encode(binding) });
        }
        ledger.pass(CheckId::T6);
        let got = claims.quoted.selection();
        let pcrs = PcrSet::of(&demands.pcrs).unwrap_or(PcrSet::EMPTY);
        if (got != PcrSelection { bank: demands.pcr_bank, pcrs }) {
            let required = format!("{}:{pcrs}", demands.pcr_bank);
            return Err(EvidenceDenial::PcrSelection { got: format!("{}:{}", got.bank, got.pcrs), required });
        }
        ledger.pass(CheckId::T7);
        let key_pcrs = PcrSet::of(&demands.node_key_pcrs).unwrap_or(PcrSet::EMPTY);
        claims.node_key.opens_only_at(claims.quoted.values(), key_pcrs)?;
        ledger.pass(CheckId::T10);
        asked_for("event log", demands.event_log, claims.event_log.is_some())?;
        asked_for("IMA log", demands.ima_log, claims.ima_log.is_some())?;
        Ok((ledger, claims))
    }

    pub(crate) const fn claims(&self) -> &TpmClaims<'a> {
        &self.claims
    }
}

fn asked_for(part: &'static str, asked: bool, came: bool) -> Result<(), EvidenceDenial> {
    match (asked, came) {
        (true, false) => Err(EvidenceDenial::Missing { part }),
        (false, true) => Err(EvidenceDenial::UnexpectedPart { part }),
        (true, true) | (false, false) => Ok(()),
    }
}

/// The checks that TPM evidence answering `demands` must have passed in the end, by all stages together.
pub(crate) fn required(demands: &TpmDemands) -> CheckLedger {
    let always = [
        CheckId::T1,
        CheckId::T2,
        CheckId::T3,
        CheckId::T4,
        CheckId::T5,
        CheckId::T6,
        CheckId::T7,
        CheckId::T8,
        CheckId::T9,
        CheckId::T10,
        CheckId::T11,
        CheckId::M1,
    ];
    let log = [CheckId::E1, CheckId::E2, CheckId::E3, CheckId::E4, CheckId::E5, CheckId::E6, CheckId::E7, CheckId::E9];
    let mut required = CheckLedger::of(&always);
    if demands.event_log {
        log.into_iter().for_each(|check| required.pass(check));
    }
    if demands.ima_log {
        // what IMA measured is compared with reference values as boot events are
        [CheckId::E8, CheckId::E9].into_iter().for_each(|check| required.pass(check));
    }
    required
}

impl<'a> TpmClaims<'a> {
    /// SHA-256 of the evidence as received.
    #[must_use]
    pub const fn evidence_digest(&self) -> Sha256Digest {
        self.evidence_digest
    }

    /// The node that enrolled this TPM.
    #[must_use]
    pub const fn node_id(&self) -> &'a NodeId {
        self.enrolled.node_id()
    }

    /// Digest of the enrolment record.
    #[must_use]
    pub const fn enrolment_digest(&self) -> Sha256Digest {
        self.enrolled.digest()
    }

    /// SHA-256 of the EK's TPM2B_PUBLIC: names the TPM.
    #[must_use]
    pub const fn ek_digest(&self) -> Sha256Digest {
        self.enrolled.ek_digest()
    }

    /// Who vouches for the EK, and the TPM's make by that (a fact of T9).
    #[must_use]
    pub const fn endorsement(&self) -> &'a EkEndorsement {
        self.enrolled.endorsement()
    }

    /// Name of the AK.
    #[must_use]
    pub const fn ak_name(&self) -> &'a Name {
        self.enrolled.ak_name()
    }

    /// The node's record key.
    #[must_use]
    pub const fn record_key(&self) -> &'a cose::PublicKey {
        self.enrolled.record_key()
    }

    /// firmwareVersion (a fact of T9).
    #[must_use]
    pub const fn firmware_version(&self) -> u64 {
        self.quoted.firmware_version()
    }

    /// Clock and counters in the quote.
    #[must_use]
    pub const fn clock_info(&self) -> ClockInfo {
        self.quoted.clock()
    }

    /// The clock state to keep once this evidence is accepted.
    #[must_use]
    pub const fn clock(&self) -> ClockState {
        self.clock
    }

    /// The quoted values.
    #[must_use]
    pub fn pcrs(&self) -> &PcrValues {
        self.quoted.values()
    }

    /// The quoted value of one PCR.
    #[must_use]
    pub fn pcr(&self, index: u8) -> Option<&Digest> {
        self.quoted.pcr(index)
    }

    /// The digest over the quoted values.
    #[must_use]
    pub const fn pcr_digest(&self) -> Digest {
        self.quoted.pcr_digest()
    }

    /// The node key; keep it to spare verifying its certification next time.
    #[must_use]
    pub const fn node_key(&self) -> &Arc<CertifiedNodeKey> {
        &self.node_key
    }
    /// The event log, when it was asked for.
    #[must_use]
    pub const fn event_log(&self) -> Option<&EventLogClaims<'a>> {
        self.event_log.as_ref()
    }

    /// The IMA log, when it was asked for.
    #[must_use]
    pub const fn ima_log(&self) -> Option<&ImaClaims<'a>> {
        self.ima_log.as_ref()
    }
}
