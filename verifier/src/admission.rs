//! Storing a proven node: its identity is fixed for good, and it may attest only if somebody said so.

use std::sync::Arc;

use audit::record::RecordBody;
use evidence::digest::Sha256Digest;
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
use crate::nodes::{self, BootSeen, ClockSeen, Machine, NodeIdentity, NodeRefusal, NodeStatus, TpmIdentity};
use crate::refusal::{Denied, Refused};
use crate::store::{StoreError, WorkError};
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

/// What an enrolment proved, and what it was proved with.
#[derive(Clone, Debug)]
pub(crate) struct Enrolling {
    /// The node, as it will stay.
    pub(crate) identity: NodeIdentity,
    /// The boot that it enrolled in.
    pub(crate) boot: BootSeen,
    /// Whether its maker vouches for it, and not an operator alone.
    pub(crate) endorsed: bool,
    /// What its record names, to be kept.
    pub(crate) kept: Vec<(BlobKind, Vec<u8>)>,
}

impl Enrolling {
    /// A TPM and nothing more.
    pub(crate) fn tpm(enrolment: &Enrolment, enrolled: &EnrolledTpm) -> Result<Self, Fault> {
        let bytes = enrolment.to_cbor().map_err(|error| Fault::Bug { what: error.to_string() })?;
        let baseline = enrolled.baseline();
        let clock = ClockSeen {
            reset_count: baseline.reset_count,
            restart_count: baseline.restart_count,
            clock_ms: baseline.clock_ms,
        };
        Ok(Self {
            identity: NodeIdentity {
                id: enrolled.node_id().clone(),
                machine: Machine::Tpm(TpmIdentity {
                    ek_digest: enrolled.ek_digest(),
                    ak_name: enrolled.ak_name().to_bytes(),
                }),
                record_key: enrolled.record_key().clone(),
                enrolment: enrolled.digest(),
            },
            boot: BootSeen { clock, report_id: None },
            // An EK that an operator pinned was pinned for one node id, which is judged by itself.
            endorsed: !matches!(enrolled.endorsement().endorser(), EkEndorser::Operator),
            kept: vec![(BlobKind::Enrolment, bytes)],
        })
    }
}

/// Why a proven enrolment was not stored.
enum NotStored {
    Identity(GovernanceDenial),
    Fault(Fault),
}

impl WorkError for NotStored {
    fn store_fault(&self) -> Option<&StoreError> {
        if let Self::Fault(fault) = self { fault.store_fault() } else { None }
    }
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
                Self::Identity(GovernanceDenial::NodeIdentity { node, what: "enrolled as another machine" })
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
    /// Stores and logs a proven enrolment. The same id as another machine, or the same EK under another id, is an
    /// alarm and a denial, on the record (APPRAISAL.md §3 row 4).
    pub(crate) async fn enrol(self: &Arc<Self>, enrolling: Enrolling, trust: &Trust) -> Result<Admitted, Refused> {
        let status = self.status_of(&enrolling, trust).await?;
        match self.store_enrolment(enrolling.clone(), status, trust.epoch()).await {
            Ok(admitted) => Ok(admitted),
            Err(NotStored::Fault(fault)) => Err(fault.into()),
            Err(NotStored::Identity(denial)) => Err(self.identity_alarm(enrolling, denial, trust).await),
        }
    }

    /// Who lets this node attest: an operator who admitted its machine, a reference set that lists it, or the
    /// configured rule.
    async fn status_of(&self, enrolling: &Enrolling, trust: &Trust) -> Result<NodeStatus, Fault> {
        let Enrolling { identity: NodeIdentity { id, machine, .. }, endorsed, .. } = enrolling;
        let store = &self.parts.store;
        let by_operator = match (machine.tpm(), machine.platform()) {
            (_, Some(platform)) => nodes::platform_admitted(store, platform, id).await?,
            (Some(tpm), None) => {
                nodes::ek_admitted_for(store, &tpm.ek_digest).await?.is_some_and(|node| node == id.as_str())
            }
            (None, None) => false,
        };
        let listed = match machine {
            Machine::Tpm(tpm) => lists_ek(trust, &tpm.ek_digest),
            // A reference set that lists platforms judges them with each evidence (S12, X12); being listed there says
            // nothing of a node id.
            Machine::Tee(_) | Machine::TpmOn(..) => false,
        };
        let endorsed = match self.parts.admission {
            Admission::Endorsed => *endorsed,
            Admission::Operator => false,
        };
        Ok(if by_operator || listed || endorsed { NodeStatus::Active } else { NodeStatus::Pending })
    }

    async fn store_enrolment(
        self: &Arc<Self>,
        enrolling: Enrolling,
        status: NodeStatus,
        epoch: u64,
    ) -> Result<Admitted, NotStored> {
        let (desk, now) = (self.clone(), self.now()?);
        let committed = self
            .parts
            .store
            .write::<_, NotStored, _>(move |transaction| {
                Box::pin(async move {
                    let Enrolling { identity, boot, kept, .. } = enrolling;
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
                    for (kind, bytes) in &kept {
                        evidence_store::put(transaction, *kind, bytes).await?;
                    }
                    let (enrolment, machine) = (identity.enrolment, identity.machine.digest());
                    let record_key = identity.record_key.clone();
                    let record =
                        chain.next(enrolment, &[], RecordBody::Enrolment { enrolment, machine, record_key })?;
                    let head = record.digest;
                    // Whoever enrols has nothing running: a lease from before would have no execution behind it.
                    leases::end_all(transaction, &identity.id, LeaseEnd::Ended).await?;
                    nodes::enrol(transaction, &identity, boot, status, &head, epoch).await?;
                    transaction.append(record.entry(&[identity.id.to_string(), machine.to_string()]))?;
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
        enrolling: Enrolling,
        denial: GovernanceDenial,
        trust: &Trust,
    ) -> Refused {
        let (node, machine) = (&enrolling.identity.id, enrolling.identity.machine.digest());
        tracing::error!(%node, %machine, %denial, "ALARM: identity conflict at enrolment");
        if !self.denials_per_node.admits(node) {
            return Fault::Overloaded { what: "denials of this node" }.into();
        }
        match self.log_identity_alarm(enrolling, &denial, trust.state_digest()).await {
            Ok(entry) => Refused::Denied(Box::new(Denied { denial: denial.into(), entry, head: None, halt: false })),
            Err(fault) => fault.into(),
        }
    }

    async fn log_identity_alarm(
        self: &Arc<Self>,
        enrolling: Enrolling,
        denial: &GovernanceDenial,
        state: Sha256Digest,
    ) -> Result<u64, Fault> {
        let body = RecordBody::Denial { code: code(denial.code())?, evidence: None, result: None, state: Some(state) };
        let (desk, now) = (self.clone(), self.now()?);
        let committed = self
            .parts
            .store
            .write::<_, Fault, _>(move |transaction| {
                Box::pin(async move {
                    let Enrolling { identity, kept, .. } = enrolling;
                    for (kind, bytes) in &kept {
                        evidence_store::put(transaction, *kind, bytes).await?;
                    }
                    let mut chain = Chain::stranger(&desk.parts.issuer, &desk.parts.domain, now);
                    let record = chain.next(identity.enrolment, &[], body)?;
                    let machine = identity.machine.digest();
                    transaction.append(record.entry(&[identity.id.to_string(), machine.to_string()]))?;
                    Ok(())
                })
            })
            .await?;
        committed.logged.first().map(|logged| logged.index).ok_or_else(no_record)
    }
}

fn lists_ek(trust: &Trust, ek: &Sha256Digest) -> bool {
    trust.judging.reference_values().sets().iter().any(|set| {
        match set.set().set().document().tpm.as_ref().map(|tpm| &tpm.platforms) {
            Some(Platforms::Listed { ek: listed, .. }) => listed.contains(ek),
            Some(Platforms::Enrolled) | None => false,
        }
    })
}

fn no_record() -> Fault {
    Fault::Bug { what: "committed without its record".to_owned() }
}
