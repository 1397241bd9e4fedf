//! SNP evidence made authentic, then bound to a challenge.

use std::sync::Arc;

use super::{
    chain::{AuthenticReport, VerifiedVek},
    evidence::SnpEvidence,
    product::Product,
    report::SnpReport,
    roots::SnpRoots,
    tcb::Tcbs,
};
use crate::{
    EvidenceDenial,
    digest::Sha256Digest,
    ledger::{CheckId, CheckLedger},
    node_key::XWingPublicKey,
    tee::EnrolledPlatform,
    time::UnixSeconds,
};

/// What the verifier holds about the machine that SNP evidence is from.
#[derive(Clone, Debug)]
pub struct SnpEndorsement {
    /// The key that its reports are signed by.
    pub vek: Arc<VerifiedVek>,
    /// The node as it enrolled.
    pub enrolled: Arc<EnrolledPlatform>,
    /// Which launch of the guest may answer (S13).
    pub launch: Launch,
}

/// Which launch of a guest may answer: a REPORT_ID is drawn anew at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// The one of this REPORT_ID: leases were given to it.
    Same([u8; 32]),
    /// Any: the guest enrols, or starts anew, which ends what was leased before. The verifier's decision.
    Any,
}

/// SNP evidence signed by hardware we trust.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticSnp<'a> {
    pub(crate) ledger: CheckLedger,
    claims: SnpClaims<'a>,
}

/// What SNP evidence says, each claim proven by the checks in the ledger.
#[derive(Clone, Debug)]
pub struct SnpClaims<'a> {
    evidence_digest: Sha256Digest,
    endorsement: &'a SnpEndorsement,
    report: AuthenticReport<'a>,
    node_key: Option<&'a XWingPublicKey>,
}

/// S1, S3, S5, S6, and of S2, S4, S8 and S9 what no configuration can allow.
pub(crate) fn verify<'a>(
    evidence: &'a SnpEvidence,
    endorsement: &'a SnpEndorsement,
    roots: &SnpRoots<'_>,
    now: UnixSeconds,
) -> Result<AuthenticSnp<'a>, EvidenceDenial> {
    let mut authentic = verify_report(evidence.parts().report, evidence.digest(), endorsement, roots, now)?;
    authentic.claims.node_key = Some(evidence.node_key());
    Ok(authentic)
}

/// The same for a report beside a TPM's evidence: the node key is then the TPM's.
pub(crate) fn verify_report<'a>(
    report: &'a [u8],
    evidence_digest: Sha256Digest,
    endorsement: &'a SnpEndorsement,
    roots: &SnpRoots<'_>,
    now: UnixSeconds,
) -> Result<AuthenticSnp<'a>, EvidenceDenial> {
    let mut ledger = CheckLedger::EMPTY;
    let report = SnpReport::parse(report)?;
    ledger.pass(CheckId::S1);
    endorsement.vek.current(roots, now)?;
    if endorsement.vek.revocation_list().is_none() {
        return Err(EvidenceDenial::Missing { part: "revocation list of the ARK" });
    }
    ledger.pass(CheckId::S3);
    let report = endorsement.vek.authenticate(&report)?;
    ledger.pass(CheckId::S6);
    let (got, enrolled) = (endorsement.vek.platform(), endorsement.enrolled.platform());
    if got != *enrolled {
        return Err(EvidenceDenial::PlatformMismatch { got, enrolled: enrolled.clone() });
    }
    ledger.pass(CheckId::S5);
    let claims = SnpClaims { evidence_digest, endorsement, report, node_key: None };
    Ok(AuthenticSnp { ledger, claims })
}

impl<'a> AuthenticSnp<'a> {
    /// S11 and S13.
    pub(crate) fn bind(self, report_data: &[u8; 64]) -> Result<(CheckLedger, SnpClaims<'a>), EvidenceDenial> {
        let Self { mut ledger, claims } = self;
        let report = claims.report.report();
        if report.report_data != report_data {
            let got = hex::encode(report.report_data);
            return Err(EvidenceDenial::BindingMismatch { got, expected: hex::encode(report_data) });
        }
        ledger.pass(CheckId::S11);
        match claims.endorsement.launch {
            Launch::Same(baseline) if baseline != *report.report_id => {
                let got = hex::encode(report.report_id);
                return Err(EvidenceDenial::SnpReportId { got, baseline: hex::encode(baseline) });
            }
            Launch::Same(_) | Launch::Any => {}
        }
        ledger.pass(CheckId::S13);
        Ok((ledger, claims))
    }

    pub(crate) const fn claims(&self) -> &SnpClaims<'a> {
        &self.claims
    }
}

/// The checks that SNP evidence must have passed in the end, by all stages together.
pub(crate) fn required() -> CheckLedger {
    use CheckId::{S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, S12, S13};
    CheckLedger::of(&[S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, S12, S13])
}

impl<'a> SnpClaims<'a> {
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

    /// The key that signed the report, with its certificates' digests and its identity.
    #[must_use]
    pub const fn vek(&self) -> &'a Arc<VerifiedVek> {
        &self.endorsement.vek
    }

    /// The report: MEASUREMENT, POLICY, VMPL and what else decisions are read from.
    #[must_use]
    pub const fn report(&self) -> &SnpReport<'a> {
        self.report.report()
    }

    /// The product it is of.
    #[must_use]
    pub const fn product(&self) -> Product {
        self.report.product()
    }

    /// TCB versions (facts of S7).
    #[must_use]
    pub const fn tcbs(&self) -> &Tcbs {
        self.report.tcbs()
    }

    /// The node key; none beside a TPM, whose evidence has it.
    #[must_use]
    pub const fn node_key(&self) -> Option<&'a XWingPublicKey> {
        self.node_key
    }
}
