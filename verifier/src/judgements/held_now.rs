//! What the evidence of a logged decision is judged by now: the machine as it was enrolled then, held to today's anchors
//! and vendors' documents.

use std::sync::Arc;

use evidence::time::UnixSeconds;
use evidence::tpm::{EnrolledTpm, Enrolment, TpmEndorsement};
use evidence::{Endorsements, Evidence, EvidenceDenial, EvidenceKind};
use policy::ear::EndorsementUsed;

use super::{kept, unreadable};
use crate::decision::Decision;
use crate::desk::Desk;
use crate::endorsements::{At, Endorsement, Unendorsed};
use crate::enrolment::PlatformEnrolment;
use crate::governor::OrderRefusal;
use crate::nodes::BootSeen;
use crate::platforms::{Held, Whose};
use crate::trust::Trust;

/// Nothing to judge by.
pub(super) enum Unheld {
    /// What would be judged by does not hold today.
    Denied(EvidenceDenial),
    /// It is not there.
    Refused(OrderRefusal),
}

impl From<OrderRefusal> for Unheld {
    fn from(refusal: OrderRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unendorsed> for Unheld {
    fn from(unendorsed: Unendorsed) -> Self {
        match unendorsed {
            Unendorsed::Denied(denial) => Self::Denied(denial),
            Unendorsed::Fault(fault) => Self::Refused(fault.into()),
        }
    }
}

impl Desk {
    /// Endorsements of the machine behind a decision, and the documents that they were made from.
    pub(super) async fn held_now(
        &self,
        decision: &Decision,
        kind: EvidenceKind,
        evidence: &Evidence,
        trust: &Trust,
        now: UnixSeconds,
    ) -> Result<(Endorsements, Vec<EndorsementUsed>), Unheld> {
        if evidence.kind() != kind {
            return Err(Unheld::Denied(EvidenceDenial::KindUnexpected { got: evidence.kind(), demanded: kind }));
        }
        let enrolment = kept::blob(self, "enrolment", &decision.enrolment).await?;
        if kind == EvidenceKind::Tpm {
            return Ok((Endorsements::Tpm(tpm(&enrolment, decision, trust, now)?), Vec::new()));
        }
        let platform = PlatformEnrolment::from_kept(&enrolment).map_err(unreadable)?;
        let enrolled = platform.enrolled().ok_or_else(|| unreadable("the enrolment has no record key"))?;
        let of_tpm = match platform.tpm {
            None => None,
            Some(of_tpm) => Some(tpm(&kept::blob(self, "enrolment", &of_tpm).await?, decision, trust, now)?),
        };
        let report_id = decision.boot.report_id.map(serde_bytes::ByteArray::into_array);
        let whose = Whose::Node(Arc::new(enrolled), BootSeen { report_id, ..BootSeen::default() });
        let held = self.platforms.held(evidence, kind, whose, of_tpm, trust.anchors(), At::Now(now)).await;
        let (Held { endorsements, documents }, _) = held?;
        Ok((endorsements, documents.iter().map(Endorsement::used).collect()))
    }
}

fn tpm(kept: &[u8], decision: &Decision, trust: &Trust, now: UnixSeconds) -> Result<TpmEndorsement, Unheld> {
    let enrolment = Enrolment::from_cbor(kept).map_err(unreadable)?;
    let enrolled = EnrolledTpm::verify(&enrolment, trust.anchors(), now).map_err(Unheld::Denied)?;
    let clock = decision.boot.clock.ok_or_else(|| unreadable("the decision names no TPM clock"))?;
    Ok(TpmEndorsement { enrolled: Arc::new(enrolled), clock, node_key: None })
}
