//! What evidence was judged by at its time, made again from what the log and the evidence store hold.

use std::sync::Arc;

use evidence::EvidenceKind;
use evidence::anchors::TrustAnchors;
use evidence::digest::Sha256Digest;
use evidence::evidence::{Endorsements, Evidence};
use evidence::sev_snp::{Launch, SnpEndorsement, SnpReport};
use evidence::tdx::TdxEndorsement;
use evidence::tee::EnrolledPlatform;
use evidence::time::UnixSeconds;
use evidence::tpm::attest::Attest;
use evidence::tpm::{ClockState, EnrolledTpm, Enrolment, TpmEndorsement};

use super::{DeskJudgements, kept, unreadable};
use crate::decision::Decision;
use crate::endorsements::document::Document;
use crate::endorsements::{At, Unendorsed};
use crate::enrolment::PlatformEnrolment;
use crate::governor::OrderRefusal;
use crate::nodes::{BootSeen, Machine, Node};
use crate::platforms::{Whose, collateral_of, vek_of};

impl DeskJudgements {
    /// What the evidence was judged by, made again from the enrolment and the documents that the decision names.
    pub(super) async fn endorsements(
        &self,
        decision: &Decision,
        evidence: &Evidence,
        anchors: &TrustAnchors,
    ) -> Result<Endorsements, OrderRefusal> {
        let tpm = async |enrolment| self.tpm_endorsement(decision, enrolment, anchors).await;
        match evidence.kind() {
            EvidenceKind::Tpm => Ok(Endorsements::Tpm(tpm(decision.enrolment).await?)),
            EvidenceKind::SevSnp => Ok(Endorsements::SevSnp(self.snp_endorsement(decision, anchors).await?.0)),
            EvidenceKind::TpmOnSevSnp => {
                let (snp, of_tpm) = self.snp_endorsement(decision, anchors).await?;
                let of_tpm = of_tpm.ok_or_else(|| unreadable("the enrolment names no TPM"))?;
                Ok(Endorsements::TpmOnSevSnp(tpm(of_tpm).await?, snp))
            }
            EvidenceKind::Tdx => Ok(Endorsements::Tdx(self.tdx_endorsement(decision, anchors).await?.0)),
            EvidenceKind::TpmOnTdx => {
                let (tdx, of_tpm) = self.tdx_endorsement(decision, anchors).await?;
                let of_tpm = of_tpm.ok_or_else(|| unreadable("the enrolment names no TPM"))?;
                Ok(Endorsements::TpmOnTdx(tpm(of_tpm).await?, tdx))
            }
        }
    }

    async fn tpm_endorsement(
        &self,
        decision: &Decision,
        enrolment: Sha256Digest,
        anchors: &TrustAnchors,
    ) -> Result<TpmEndorsement, OrderRefusal> {
        let enrolment =
            Enrolment::from_cbor(&kept::blob(&self.desk, "enrolment", &enrolment).await?).map_err(unreadable)?;
        let enrolled = EnrolledTpm::verify(&enrolment, anchors, decision.now).map_err(unreadable)?;
        let clock = decision.boot.clock.ok_or_else(|| unreadable("the decision names no TPM clock"))?;
        Ok(TpmEndorsement { enrolled: Arc::new(enrolled), clock, node_key: None })
    }

    async fn snp_endorsement(
        &self,
        decision: &Decision,
        anchors: &TrustAnchors,
    ) -> Result<(SnpEndorsement, Option<Sha256Digest>), OrderRefusal> {
        let (enrolled, of_tpm) = self.enrolled_platform(decision).await?;
        let documents = self.documents(decision).await?;
        let [leaf, intermediate, root, crl] = documents.as_slice() else {
            return Err(unreadable("the decision does not name four certificates and lists of AMD"));
        };
        let vek = vek_of([leaf, intermediate, root, crl], anchors, decision.now).map_err(unreadable)?;
        let report_id = decision.boot.report_id.ok_or_else(|| unreadable("the decision names no REPORT_ID"))?;
        let launch = Launch::Same(report_id.into_array());
        Ok((SnpEndorsement { vek: Arc::new(vek), enrolled, launch }, of_tpm))
    }

    async fn tdx_endorsement(
        &self,
        decision: &Decision,
        anchors: &TrustAnchors,
    ) -> Result<(TdxEndorsement, Option<Sha256Digest>), OrderRefusal> {
        let (enrolled, of_tpm) = self.enrolled_platform(decision).await?;
        let documents = self.documents(decision).await?;
        let documents = documents.iter().map(|bytes| Document::from_bytes(bytes).map_err(unreadable));
        let documents = documents.collect::<Result<Vec<_>, _>>()?;
        let [tcb_info, qe_identity, root, root_crl, pck_ca, pck_crl] = documents.as_slice() else {
            return Err(unreadable("the decision does not name six documents of Intel"));
        };
        let all = [tcb_info, qe_identity, root, root_crl, pck_ca, pck_crl];
        let collateral = collateral_of(all, anchors, decision.now).map_err(unreadable)?;
        // the quote carries its own chain
        Ok((TdxEndorsement { collateral: Arc::new(collateral), pck: None, enrolled }, of_tpm))
    }

    async fn enrolled_platform(
        &self,
        decision: &Decision,
    ) -> Result<(Arc<EnrolledPlatform>, Option<Sha256Digest>), OrderRefusal> {
        let enrolment = kept::blob(&self.desk, "enrolment", &decision.enrolment).await?;
        let enrolment = PlatformEnrolment::from_kept(&enrolment).map_err(unreadable)?;
        let enrolled = enrolment.enrolled().ok_or_else(|| unreadable("the enrolment has no record key"))?;
        Ok((Arc::new(enrolled), enrolment.tpm))
    }

    /// The vendors' documents that the decision names, in its order.
    async fn documents(&self, decision: &Decision) -> Result<Vec<Vec<u8>>, OrderRefusal> {
        let mut documents = Vec::with_capacity(decision.endorsements.len());
        for used in &decision.endorsements {
            documents.push(kept::blob(&self.desk, "endorsement", &used.digest).await?);
        }
        Ok(documents)
    }

    /// What captured evidence was judged by when it came. It was accepted then, its boot included: what the node has
    /// shown since is no measure for it.
    pub(super) async fn held_then(
        &self,
        node: &Node,
        evidence: &Evidence,
        anchors: &TrustAnchors,
        at: UnixSeconds,
    ) -> Result<Endorsements, OrderRefusal> {
        let (desk, identity) = (&self.desk, &node.identity);
        let (platform, of_tpm) = match &identity.machine {
            Machine::Tpm(_) => (None, Some(identity.enrolment)),
            Machine::Tee(_) | Machine::TpmOn(..) => {
                let (enrolled, of_tpm) = desk.platforms.of_node(&desk.parts.store, node).await.map_err(unendorsed)?;
                (Some(enrolled), of_tpm)
            }
        };
        let tpm = match of_tpm {
            Some(enrolment) => {
                let enrolment = Enrolment::from_cbor(&kept::blob(&self.desk, "enrolment", &enrolment).await?)
                    .map_err(unreadable)?;
                let enrolled = Arc::new(EnrolledTpm::verify(&enrolment, anchors, at).map_err(unreadable)?);
                Some(TpmEndorsement { enrolled, clock: clock_before(evidence)?, node_key: None })
            }
            None => None,
        };
        let Some(platform) = platform else {
            return tpm.map(Endorsements::Tpm).ok_or_else(|| unreadable("a TPM without an enrolment"));
        };
        let report = evidence.snp_report().and_then(|report| SnpReport::parse(report).ok());
        let boot = BootSeen { report_id: report.map(|report| *report.report_id), ..node.boot };
        let (kind, whose) = (identity.machine.kind(), Whose::Node(platform, boot));
        let held = desk.platforms.held(evidence, kind, whose, tpm, anchors, At::Then(at)).await;
        held.map(|(held, _)| held.endorsements).map_err(unendorsed)
    }
}

/// Captured evidence was judged when it came, its clock included; later evidence moved the clock on since.
fn clock_before(evidence: &Evidence) -> Result<ClockState, OrderRefusal> {
    let tpm = evidence.tpm().ok_or_else(|| OrderRefusal::Malformed("captured evidence of no TPM".to_owned()))?;
    let clock = Attest::read(tpm.parts().quote).map_err(unreadable)?.clock;
    Ok(ClockState { last_clock_ms: clock.clock_ms.saturating_sub(1), ..ClockState::at(clock) })
}

fn unendorsed(unendorsed: Unendorsed) -> OrderRefusal {
    match unendorsed {
        Unendorsed::Denied(denial) => unreadable(denial),
        Unendorsed::Fault(fault) => OrderRefusal::Malformed(fault.to_string()),
    }
}
