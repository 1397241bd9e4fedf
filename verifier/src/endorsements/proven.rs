//! What we hold about a node's machine, fetched before any judgement: the only lookups there are.
//!
//! A proven enrolment is kept while its certificates and the anchors it was proven under hold, and so is
//! the node key whose certification was verified: a warm appraisal verifies one signature.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::EvidenceDenial;
use evidence::anchors::TrustAnchors;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use evidence::tpm::{CertifiedNodeKey, ClockState, EnrolledTpm, Enrolment, TpmEndorsement};

use crate::evidence_store;
use crate::fault::Fault;
use crate::nodes::Node;
use crate::store::Store;

/// Proven enrolments kept at once; beyond it one is forgotten for each that comes.
const KEPT_CAP: usize = 16 * 1024;

/// Proven enrolments, by node.
#[derive(Debug, Default)]
pub struct ProvenNodes {
    kept: Mutex<HashMap<NodeId, Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    enrolled: Arc<EnrolledTpm>,
    node_key: Option<Arc<CertifiedNodeKey>>,
}

/// Nothing to judge by, or judged already: the enrolment no longer holds.
#[derive(Debug)]
pub enum Unendorsed {
    /// T1–T4 of the enrolment fail under today's anchors at this time.
    Denied(EvidenceDenial),
    /// The enrolment cannot be read.
    Fault(Fault),
}

impl ProvenNodes {
    /// What the TPM of `node` is judged by; `enrolment` is the digest of the TPM's own enrolment.
    pub async fn endorsement(
        &self,
        store: &Store,
        node: &Node,
        enrolment: Sha256Digest,
        anchors: &TrustAnchors,
        now: UnixSeconds,
    ) -> Result<TpmEndorsement, Unendorsed> {
        let Kept { enrolled, node_key } = match self.current(node, enrolment, anchors, now) {
            Some(kept) => kept,
            None => self.prove(store, node, enrolment, anchors, now).await?,
        };
        let clock = ClockState {
            reset_count: node.boot.clock.reset_count,
            restart_count: node.boot.clock.restart_count,
            last_clock_ms: node.boot.clock.clock_ms,
        };
        Ok(TpmEndorsement { enrolled, clock, node_key })
    }

    /// Remembers the node key that accepted evidence came with.
    pub fn keep_node_key(&self, node: &NodeId, key: &Arc<CertifiedNodeKey>) {
        if let Some(kept) = self.lock().get_mut(node) {
            kept.node_key = Some(key.clone());
        }
    }

    /// Remembers an enrolment that was just proven.
    pub fn keep(&self, node: &NodeId, enrolled: Arc<EnrolledTpm>) {
        self.insert(node.clone(), Kept { enrolled, node_key: None });
    }

    fn current(&self, node: &Node, enrolment: Sha256Digest, anchors: &TrustAnchors, now: UnixSeconds) -> Option<Kept> {
        let kept = self.lock().get(&node.identity.id).cloned()?;
        let holds = kept.enrolled.digest() == enrolment && kept.enrolled.current(anchors, now).is_ok();
        holds.then_some(kept)
    }

    async fn prove(
        &self,
        store: &Store,
        node: &Node,
        digest: Sha256Digest,
        anchors: &TrustAnchors,
        now: UnixSeconds,
    ) -> Result<Kept, Unendorsed> {
        let unavailable = |what: String| Unendorsed::Fault(Fault::EndorsementsUnavailable { what });
        let bytes = evidence_store::get(store, &digest)
            .await
            .map_err(|error| Unendorsed::Fault(error.into()))?
            .ok_or_else(|| unavailable(format!("enrolment {digest} is not in the evidence store")))?;
        let enrolment = Enrolment::from_cbor(&bytes).map_err(|error| unavailable(error.to_string()))?;
        // The row that named this enrolment is not trusted to have named the right one (B4).
        let of_its_tpm = node.identity.machine.tpm().is_some_and(|tpm| tpm.ek_digest == enrolment.ek_digest());
        if enrolment.identity.node_id != node.identity.id || !of_its_tpm {
            return Err(unavailable(format!("enrolment {digest} is of another node")));
        }
        let enrolled = EnrolledTpm::verify(&enrolment, anchors, now).map_err(Unendorsed::Denied)?;
        let kept = Kept { enrolled: Arc::new(enrolled), node_key: None };
        self.insert(node.identity.id.clone(), kept.clone());
        Ok(kept)
    }

    fn insert(&self, node: NodeId, kept: Kept) {
        let mut all = self.lock();
        if all.len() >= KEPT_CAP && !all.contains_key(&node) {
            let any = all.keys().next().cloned();
            any.and_then(|any| all.remove(&any));
        }
        all.insert(node, kept);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
