//! Everything a domain judges by, as one immutable snapshot.

use evidence::{anchors::TrustAnchors, digest::Sha256Digest};
use firmware_refs::ReferenceValues;

use crate::set::PolicySet;

/// What one request is judged by. Made whole, replaced whole: no part of a verdict is older than another.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(crate) anchors: TrustAnchors,
    pub(crate) reference_values: ReferenceValues,
    pub(crate) policy: PolicySet,
    governance: GovernanceBasis,
    digest: Sha256Digest,
}

/// The governance state that names the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GovernanceBasis {
    /// Digest of the governance state in force.
    pub state: Sha256Digest,
    /// Its epoch.
    pub epoch: u64,
}

impl Trust {
    /// One snapshot.
    #[must_use]
    pub fn new(
        anchors: TrustAnchors,
        reference_values: ReferenceValues,
        policy: PolicySet,
        governance: GovernanceBasis,
    ) -> Self {
        let (anchors_digest, values_digest) = (anchors.digest(), reference_values.digest());
        let (policy_digest, epoch) = (policy.digest(), governance.epoch.to_be_bytes());
        let parts: [&[u8]; 5] = [
            anchors_digest.as_bytes(),
            values_digest.as_bytes(),
            policy_digest.as_bytes(),
            governance.state.as_bytes(),
            &epoch,
        ];
        let digest = Sha256Digest::labelled("attestd/trust/1", &parts);
        Self { anchors, reference_values, policy, governance, digest }
    }

    /// Whom hardware is trusted by.
    #[must_use]
    pub const fn anchors(&self) -> &TrustAnchors {
        &self.anchors
    }

    /// What is known.
    #[must_use]
    pub const fn reference_values(&self) -> &ReferenceValues {
        &self.reference_values
    }

    /// What is allowed.
    #[must_use]
    pub const fn policy(&self) -> &PolicySet {
        &self.policy
    }

    /// The governance state that names the rest.
    #[must_use]
    pub const fn governance(&self) -> GovernanceBasis {
        self.governance
    }

    /// Digest of the whole snapshot, in every result and log entry made by it.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }
}
