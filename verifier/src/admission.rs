//! Storing a proven node: its identity is fixed for good, and it may attest only if somebody said so.

use std::sync::Arc;

use audit::record::RecordBody;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tpm::ek::EkEndorser;
use evidence::tpm::{EnrolledTpm, Enrolment};
use firmware_refs::document::Platforms;
use governance::GovernanceDenial;

use crate::config::Admission;
use crate::denials::code;
use crate::desk::Desk;
use crate::evidence_store::{self, BlobKind};
use crate::fault::Fault;
use crate::governance_state;
use crate::leases::{self, LeaseEnd};
use crate::lineage::Chain;
use crate::nodes::{self, ClockSeen, NodeIdentity, NodeRefusal, NodeStatus};
use crate::refusal::{Denied, Refused};
use crate::store::StoreError;
use crate::trust::Trust;

/// A node as stored by its enrolment.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// Whether it may attest.
    pub status: NodeStatus,
    /// Log index of the enrolment record.
    pub entry: u64,
    /// Digest of that record: the head of the node's lineage.
    pub head: Sha256Digest,
}

/// Why a proven enrolment was not stored.
enum NotStored {
    Identity(GovernanceDenial),
    Fault(Fault),
}

impl From<StoreError> for NotStored {
    fn from(error: StoreError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Fault> for NotStored {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<NodeRefusal> for NotStored {
    fn from(refusal: NodeRefusal) -> Self {
        match refusal {
            NodeRefusal::OtherIdentity(node) => {
                Self::Identity(GovernanceDenial::NodeIdentity { node, what: "enrolled with another EK or AK" })
            }
            NodeRefusal::EkInUse(node) => {
                Self::Identity(GovernanceDenial::NodeIdentity { node, what: "its EK is enrolled under another id" })
            }
            NodeRefusal::AdmittedForAnother(_)
            | NodeRefusal::Unknown(_)
            | NodeRefusal::LineageDiscontinuous(_)
            | NodeRefusal::Store(_) => Self::Fault(refusal.into()),
        }
    }
}

impl Desk {
    /// Stores and logs a proven enrolment. The same id with another EK or AK, or the same EK under another id, is an
    /// alarm and a denial, on the record (APPRAISAL.md §3 row 4).
    pub(crate) async fn enrol(
        self: &Arc<Self>,
        enrolment: &Enrolment,
        enrolled: EnrolledTpm,
        trust: &Trust,
    ) -> Result<Admitted, Refused> {
        let unwritable = |what: String| Fault::Bug { what };
        let bytes = enrolment.to_cbor().map_err(|error| unwritable(error.to_string()))?;
        let identity = NodeIdentity {
            id: enrolled.node_id().clone(),
            ek_digest: enrolled.ek_digest(),
            ak_name: enrolled.ak_name().to_bytes(),
            record_key: enrolled.record_key().clone(),
            enrolment: enrolled.digest(),
        };
        let status = self.status_of(&enrolled, &identity.id, trust).await?;
        match self.store_enrolment(identity.clone(), &enrolled, status, bytes.clone(), trust.epoch()).await {
            Ok(admitted) => {
                self.proven.keep(&identity.id, enrolled);
                Ok(admitted)
            }
            Err(NotStored::Fault(fault)) => Err(fault.into()),
            Err(NotStored::Identity(denial)) => Err(self.identity_alarm(&identity, denial, bytes, trust).await),
        }
    }

    /// Who lets this node attest: an operator who admitted its EK, a reference set that lists it, or the configured rule.
    async fn status_of(&self, enrolled: &EnrolledTpm, id: &NodeId, trust: &Trust) -> Result<NodeStatus, Fault> {
        let ek = enrolled.ek_digest();
        let admitted_for = nodes::ek_admitted_for(&self.parts.store, &ek).await?;
        if admitted_for.is_some_and(|node| node == id.as_str()) {
            return Ok(NodeStatus::Active);
        }
        let listed = trust.judging.reference_values().sets().iter().any(|set| {
            match set.set().set().document().tpm.as_ref().map(|tpm| &tpm.platforms) {
                Some(Platforms::Listed { ek: listed, .. }) => listed.contains(&ek),
                Some(Platforms::Enrolled) | None => false,
            }
        });
        let endorsed = match self.parts.admission {
            // Enrolling needed an endorsement; an EK that an operator pinned was pinned for one node id, judged above.
            Admission::Endorsed => !matches!(enrolled.endorsement().endorser(), EkEndorser::Operator),
            Admission::Operator => false,
        };
        Ok(if listed || endorsed { NodeStatus::Active } else { NodeStatus::Pending })
    }

    async fn store_enrolment(
        self: &Arc<Self>,
        identity: NodeIdentity,
        enrolled: &EnrolledTpm,
        status: NodeStatus,
        bytes: Vec<u8>,
        epoch: u64,
    ) -> Result<Admitted, NotStored> {
        let baseline = enrolled.baseline();
        let clock = ClockSeen {
            reset_count: baseline.reset_count,
            restart_count: baseline.restart_count,
            clock_ms: baseline.clock_ms,
        };
        let (desk, now) = (self.clone(), self.now()?);
        let committed = self
            .parts
            .store
            .write::<_, NotStored, _>(move |transaction| {
                Box::pin(async move {
                    let current = governance_state::epoch(transaction).await?;
                    if current != epoch {
                        return Err(Fault::EpochMoved { current, judged: epoch }.into());
                    }
                    let known = match nodes::read(transaction, &identity.id).await {
                        Ok(known) => Some(known),
                        Err(NodeRefusal::Unknown(_)) => None,
                        Err(refusal) => return Err(refusal.into()),
                    };
                    let parts = &desk.parts;
                    let mut chain = match &known {
                        Some(known) => {
                            Chain::after(&parts.issuer, &parts.domain, &identity.id, known.head_current, now)
                        }
                        None => Chain::origin(&parts.issuer, &parts.domain, &identity.id, now),
                    };
                    evidence_store::put(transaction, BlobKind::Enrolment, &bytes).await?;
                    let body = RecordBody::Enrolment {
                        enrolment: identity.enrolment,
                        ek: identity.ek_digest,
                        record_key: identity.record_key.clone(),
                    };
                    let record = chain.next(identity.enrolment, &[], body)?;
                    let head = record.digest;
                    // Whoever enrols has nothing running: a lease from before would have no execution behind it.
                    leases::end_all(transaction, &identity.id, LeaseEnd::Ended).await?;
                    nodes::enrol(transaction, &identity, clock, status, &head, epoch).await?;
                    transaction.append(record.entry(&[identity.id.to_string(), identity.ek_digest.to_string()]))?;
                    // Enrolling again gives a new certificate, never a new standing: quarantine stays quarantine.
                    Ok((known.map_or(status, |known| known.status), head))
                })
            })
            .await?;
        let entry = committed.logged.first().map(|logged| logged.index).ok_or_else(no_record)?;
        let (status, head) = committed.value;
        Ok(Admitted { status, entry, head })
    }

    async fn identity_alarm(
        self: &Arc<Self>,
        identity: &NodeIdentity,
        denial: GovernanceDenial,
        bytes: Vec<u8>,
        trust: &Trust,
    ) -> Refused {
        tracing::error!(node = %identity.id, ek = %identity.ek_digest, %denial, "ALARM: identity conflict at enrolment");
        if !self.denials_per_node.admits(&identity.id) {
            return Fault::Overloaded { what: "denials of this node" }.into();
        }
        match self.log_identity_alarm(identity.clone(), &denial, bytes, trust.state_digest()).await {
            Ok(entry) => Refused::Denied(Box::new(Denied { denial: denial.into(), entry, head: None, halt: false })),
            Err(fault) => fault.into(),
        }
    }

    async fn log_identity_alarm(
        self: &Arc<Self>,
        identity: NodeIdentity,
        denial: &GovernanceDenial,
        bytes: Vec<u8>,
        state: Sha256Digest,
    ) -> Result<u64, Fault> {
        let body = RecordBody::Denial { code: code(denial.code())?, evidence: None, result: None, state: Some(state) };
        let (desk, now) = (self.clone(), self.now()?);
        let committed = self
            .parts
            .store
            .write::<_, Fault, _>(move |transaction| {
                Box::pin(async move {
                    evidence_store::put(transaction, BlobKind::Enrolment, &bytes).await?;
                    let mut chain = Chain::stranger(&desk.parts.issuer, &desk.parts.domain, now);
                    let record = chain.next(identity.enrolment, &[], body)?;
                    transaction.append(record.entry(&[identity.id.to_string(), identity.ek_digest.to_string()]))?;
                    Ok(())
                })
            })
            .await?;
        committed.logged.first().map(|logged| logged.index).ok_or_else(no_record)
    }
}

fn no_record() -> Fault {
    Fault::Bug { what: "committed without its record".to_owned() }
}
