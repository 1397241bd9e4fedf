//! Sets that were revoked. They match nothing; a machine that one of them describes is told that it was revoked, and
//! by whose order, rather than that nothing knows it.

use std::ops::ControlFlow;
use std::sync::Arc;

use evidence::{digest::Sha256Digest, time::UnixSeconds};

use crate::denial::{ReferenceDenial, ReferenceName, moment};
use crate::judge;
use crate::observed::Observed;
use crate::signed::SignedSet;
use crate::text::Text;

/// Most revoked sets that a refused machine is compared with: those revoked last.
pub const REVOKED_CAP: usize = 64;

/// A set that was revoked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RevokedSet {
    set: Arc<SignedSet>,
    name: Arc<ReferenceName>,
    at: UnixSeconds,
    reason: Text,
    statement: Sha256Digest,
}

impl RevokedSet {
    /// A set, and when, why and by which statement it was revoked.
    #[must_use]
    pub fn new(set: SignedSet, at: UnixSeconds, reason: Text, statement: Sha256Digest) -> Self {
        Self { name: Arc::new(ReferenceName::of(&set)), set: Arc::new(set), at, reason, statement }
    }

    /// The denial of a machine that the set describes; `None` of any other.
    ///
    /// What is in force chooses the PCRs that are quoted, not a revoked set: a PCR that did not come contradicts
    /// nothing, as long as another did.
    pub(crate) fn denies(&self, observed: &Observed<'_>) -> Option<ReferenceDenial> {
        let set = self.set.set();
        let (mut absent, mut contradicted) = (0usize, false);
        judge::judge(set, &self.name, observed, &mut |denial| {
            if matches!(denial, ReferenceDenial::PcrAbsent { .. }) {
                absent = absent.saturating_add(1);
            } else if !matches!(denial, ReferenceDenial::ImaLogAbsent { .. }) {
                contradicted = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let all_absent = set.tpm().is_some_and(|tpm| tpm.pcrs().len() <= absent);
        (!contradicted && !all_absent).then(|| ReferenceDenial::Revoked {
            reference: Arc::clone(&self.name),
            revoked_at: moment(self.at),
            reason: self.reason.clone(),
            statement: self.statement,
        })
    }
}
