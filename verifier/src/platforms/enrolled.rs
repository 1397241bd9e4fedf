//! The platforms that nodes enrolled on, read back from what their enrolment kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tee::EnrolledPlatform;

use crate::endorsements::Unendorsed;
use crate::enrolment::PlatformEnrolment;
use crate::evidence_store;
use crate::fault::Fault;
use crate::nodes::Node;
use crate::store::Store;

/// Identities kept at once; beyond it one is forgotten for each that comes.
const KEPT_CAP: usize = 16 * 1024;

/// A platform as a node enrolled on it, and the enrolment of the TPM that it runs, if any.
#[derive(Clone, Debug)]
pub(crate) struct KnownPlatform {
    enrolment: Sha256Digest,
    pub(crate) enrolled: Arc<EnrolledPlatform>,
    pub(crate) tpm: Option<Sha256Digest>,
}

/// Enrolled platforms, by node.
#[derive(Debug, Default)]
pub(super) struct KnownPlatforms(Mutex<HashMap<NodeId, KnownPlatform>>);

impl KnownPlatforms {
    /// The platform of `node`.
    pub(super) async fn of(&self, store: &Store, node: &Node) -> Result<KnownPlatform, Unendorsed> {
        let digest = node.identity.enrolment;
        let kept = self.lock().get(&node.identity.id).filter(|kept| kept.enrolment == digest).cloned();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let unavailable = |what: String| Unendorsed::Fault(Fault::EndorsementsUnavailable { what });
        let bytes = evidence_store::get(store, &digest)
            .await
            .map_err(|error| Unendorsed::Fault(error.into()))?
            .ok_or_else(|| unavailable(format!("enrolment {digest} is not in the evidence store")))?;
        let record = PlatformEnrolment::from_kept(&bytes).map_err(|error| unavailable(error.to_string()))?;
        let enrolled = record.enrolled().ok_or_else(|| unavailable(format!("enrolment {digest} has no record key")))?;
        // The row that named this enrolment is not trusted to have named the right one.
        let identity = &node.identity;
        let same = *enrolled.node_id() == identity.id
            && identity.machine.platform() == Some(enrolled.platform())
            && identity.machine.kind() == record.kind
            && *enrolled.record_key() == identity.record_key;
        if !same {
            return Err(unavailable(format!("enrolment {digest} is of another node")));
        }
        let known = KnownPlatform { enrolment: digest, enrolled: Arc::new(enrolled), tpm: record.tpm };
        let mut all = self.lock();
        if all.len() >= KEPT_CAP && !all.contains_key(&identity.id) {
            let any = all.keys().next().cloned();
            any.and_then(|any| all.remove(&any));
        }
        all.insert(identity.id.clone(), known.clone());
        Ok(known)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, KnownPlatform>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
