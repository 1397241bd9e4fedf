//! TDX evidence made authentic, then bound to a challenge.

use std::sync::Arc;

use super::{
    body::{Body, TdReport, TdReport15},
    evidence::TdxEvidence,
    pck::{PckExtensions, VerifiedPck},
    quote::Quote,
    roots::TdxRoots,
    td_attributes,
    verdict::TcbVerdict,
    verified_collateral::VerifiedCollateral,
};
use crate::{
    EvidenceDenial,
    challenge::TdxDemands,
    digest::{Digest, Sha256Digest},
    event_log::{BootFacts, CcEventLog, Event},
    ledger::{CheckId, CheckLedger},
    node_key::XWingPublicKey,
    tee::{EnrolledPlatform, PlatformId},
    time::UnixSeconds,
};

/// What the verifier holds about the machine that TDX evidence is from.
#[derive(Clone, Debug)]
pub struct TdxEndorsement {
    /// Intel's collateral for its kind of platform.
    pub collateral: Arc<VerifiedCollateral>,
    /// A PCK chain that was verified before, to spare doing so again when a quote carries the same bytes.
    pub pck: Option<Arc<VerifiedPck>>,
    /// The node as it enrolled.
    pub enrolled: Arc<EnrolledPlatform>,
}

/// TDX evidence signed by hardware we trust.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticTdx<'a> {
    pub(crate) ledger: CheckLedger,
    claims: TdxClaims<'a>,
}

/// What TDX evidence says, each claim proven by the checks in the ledger.
#[derive(Clone, Debug)]
pub struct TdxClaims<'a> {
    evidence_digest: Sha256Digest,
    endorsement: &'a TdxEndorsement,
    quote: Quote<'a>,
    report: TdReport<'a>,
    pck: Arc<VerifiedPck>,
    is_simulated: bool,
    verdict: TcbVerdict,
    event_log: Option<CcLogClaims<'a>>,
    node_key: Option<&'a XWingPublicKey>,
}

/// X1 to X5, X7, and of X6, X8, X9 and X13 what no configuration can allow; E1 to E7 where a log came.
///
/// X6, X8, X9, X10, X12 and X13 pass where the reference values are compared: their last part stands there.
pub(crate) fn verify<'a>(
    evidence: &'a TdxEvidence,
    endorsement: &'a TdxEndorsement,
    roots: &TdxRoots<'_>,
    now: UnixSeconds,
) -> Result<AuthenticTdx<'a>, EvidenceDenial> {
    let parts = evidence.parts();
    let mut authentic = verify_quote(parts.quote, parts.event_log, evidence.digest(), endorsement, roots, now)?;
    authentic.claims.node_key = Some(evidence.node_key());
    Ok(authentic)
}

/// The same for a quote beside a TPM's evidence: the node key is then the TPM's.
pub(crate) fn verify_quote<'a>(
    quote: &'a [u8],
    event_log: Option<&'a [u8]>,
    evidence_digest: Sha256Digest,
    endorsement: &'a TdxEndorsement,
    roots: &TdxRoots<'_>,
    now: UnixSeconds,
) -> Result<AuthenticTdx<'a>, EvidenceDenial> {
    let mut ledger = CheckLedger::EMPTY;
    let quote = Quote::parse(quote)?;
    let report = *quote.td_report()?;
    ledger.pass(CheckId::X1);
    let collateral = &*endorsement.collateral;
    let pck = match &endorsement.pck {
        Some(known) if known.is_of(&quote) => Arc::clone(known),
        Some(_) | None => Arc::new(VerifiedPck::verify_beside(collateral, quote.pck_chain(), roots, now)?),
    };
    pck.current(roots, now)?;
    collateral.current(roots, now)?;
    let authentic = pck.authenticate(&quote)?;
    ledger.pass(CheckId::X3);
    ledger.pass(CheckId::X5);
    td_attributes::judge(&report)?;
    let verdict = authentic.judge(collateral)?;
    // revocation, the enclave's identity and the levels are one judgement
    for check in [CheckId::X2, CheckId::X4, CheckId::X7] {
        ledger.pass(check);
    }
    let (got, enrolled) = (PlatformId::IntelPpid(pck.extensions().ppid), endorsement.enrolled.platform());
    if got != *enrolled {
        return Err(EvidenceDenial::PlatformMismatch { got, enrolled: enrolled.clone() });
    }
    let event_log = event_log.map(|log| CcLogClaims::verify(log, &report.rtmrs, &mut ledger)).transpose()?;
    let is_simulated = pck.is_simulated(roots).unwrap_or(true);
    let claims = TdxClaims {
        evidence_digest,
        endorsement,
        quote,
        report,
        pck,
        is_simulated,
        verdict,
        event_log,
        node_key: None,
    };
    Ok(AuthenticTdx { ledger, claims })
}

impl<'a> AuthenticTdx<'a> {
    /// X11, all 64 bytes, and the presence of the log that `demands` asks for.
    pub(crate) fn bind(
        self,
        report_data: &[u8; 64],
        demands: TdxDemands,
    ) -> Result<(CheckLedger, TdxClaims<'a>), EvidenceDenial> {
        let Self { mut ledger, claims } = self;
        let got = claims.report.report_data;
        if got != report_data {
            return Err(EvidenceDenial::BindingMismatch { got: hex::encode(got), expected: hex::encode(report_data) });
        }
        ledger.pass(CheckId::X11);
        match (demands.event_log, claims.event_log.is_some()) {
            (true, false) => return Err(EvidenceDenial::Missing { part: "event log" }),
            (false, true) => return Err(EvidenceDenial::UnexpectedPart { part: "event log" }),
            (true, true) | (false, false) => {}
        }
        Ok((ledger, claims))
    }

    pub(crate) const fn claims(&self) -> &TdxClaims<'a> {
        &self.claims
    }
}

/// The checks that TDX evidence answering `demands` must have passed in the end, by all stages together.
pub(crate) fn required(demands: TdxDemands) -> CheckLedger {
    use CheckId::{E1, E2, E3, E4, E5, E6, E7, E9};
    use CheckId::{X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13};
    let quote = CheckLedger::of(&[X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13]);
    let log = if demands.event_log { CheckLedger::of(&[E1, E2, E3, E4, E5, E6, E7, E9]) } else { CheckLedger::EMPTY };
    quote.union(log)
}

impl<'a> TdxClaims<'a> {
    /// SHA-256 of the evidence as received.
    #[must_use]
    pub const fn evidence_digest(&self) -> Sha256Digest {
        self.evidence_digest
    }

    /// The node as it enrolled.
    #[must_use]
    pub fn enrolled(&self) -> &'a EnrolledPlatform {
        &self.endorsement.enrolled
    }

    /// The collateral that it was judged by.
    #[must_use]
    pub const fn collateral(&self) -> &'a Arc<VerifiedCollateral> {
        &self.endorsement.collateral
    }

    /// The platform's certificate chain; keep it to spare verifying it again.
    #[must_use]
    pub const fn pck(&self) -> &Arc<VerifiedPck> {
        &self.pck
    }

    /// What Intel certified of the platform (PPID, FMSPC, security versions).
    #[must_use]
    pub fn platform(&self) -> &PckExtensions {
        self.pck.extensions()
    }

    /// What the platform is worth (facts of X6, X8 and X13).
    #[must_use]
    pub const fn verdict(&self) -> &TcbVerdict {
        &self.verdict
    }

    /// The quote.
    #[must_use]
    pub const fn quote(&self) -> &Quote<'a> {
        &self.quote
    }

    /// The trust domain's report: MRTD, RTMRs, attributes and what else decisions are read from (facts of X9, X10).
    #[must_use]
    pub const fn report(&self) -> &TdReport<'a> {
        &self.report
    }

    /// Whether its root is accepted for a lab only.
    #[must_use]
    pub const fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    /// The report with the fields of TDX 1.5, where it has them.
    #[must_use]
    pub const fn td_report15(&self) -> Option<&TdReport15<'a>> {
        match &self.quote.body {
            Body::Td15(report) => Some(report),
            Body::Td10(_) | Body::Sgx(_) => None,
        }
    }

    /// The event log, when it came.
    #[must_use]
    pub const fn event_log(&self) -> Option<&CcLogClaims<'a>> {
        self.event_log.as_ref()
    }

    /// The node key; none beside a TPM, whose evidence has it.
    #[must_use]
    pub const fn node_key(&self) -> Option<&'a XWingPublicKey> {
        self.node_key
    }
}

/// A CC event log that leads to the quoted registers.
#[derive(Clone, Debug)]
pub struct CcLogClaims<'a> {
    log: CcEventLog<'a>,
    boot: BootFacts,
    is_rtmr3_proven: bool,
}

impl<'a> CcLogClaims<'a> {
    /// E1 to E7 for the registers of a trust domain.
    pub(crate) fn verify(
        bytes: &'a [u8],
        rtmrs: &[&[u8; 48]; 4],
        ledger: &mut CheckLedger,
    ) -> Result<Self, EvidenceDenial> {
        let log = CcEventLog::parse(bytes)?;
        let padding_bytes = bytes.len().saturating_sub(log.parsed_bytes());
        if padding_bytes > 0 {
            return Err(EvidenceDenial::TrailingBytes { structure: "event log", extra_bytes: padding_bytes });
        }
        ledger.pass(CheckId::E1);
        ledger.pass(CheckId::E2);
        let is_rtmr3_proven = log.verify_replay(rtmrs)?;
        ledger.pass(CheckId::E3);
        log.verify_event_data()?;
        ledger.pass(CheckId::E5);
        let boot = log.verify_boot_grammar()?;
        for check in [CheckId::E4, CheckId::E6, CheckId::E7] {
            ledger.pass(check);
        }
        Ok(Self { log, boot, is_rtmr3_proven })
    }

    /// Events of one RTMR with their digests. Nothing of RTMR3 where the log does not lead to it: its events are
    /// anyone's story.
    pub fn measured(&self, rtmr: u8) -> impl Iterator<Item = (&Event<'a>, Digest)> {
        let is_proven = self.is_proven(rtmr);
        self.log.measured(rtmr).filter(move |_| is_proven)
    }

    /// Whether the log leads to this RTMR.
    #[must_use]
    pub const fn is_proven(&self, rtmr: u8) -> bool {
        rtmr < 3 || self.is_rtmr3_proven
    }

    /// What the log says about secure boot.
    #[must_use]
    pub const fn boot(&self) -> &BootFacts {
        &self.boot
    }

    /// The whole log, for display. Decide by [`CcLogClaims::measured`].
    #[must_use]
    pub const fn log(&self) -> &CcEventLog<'a> {
        &self.log
    }
}
