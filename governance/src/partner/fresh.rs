//! What may be relied on of a partner at some instant.

use evidence::{names::DomainName, time::UnixSeconds};

use super::{Held, Partner};
use crate::{
    federation_grant::FederationGrant,
    governance_state::VerifiedState,
    revocation::RevocationList,
    trust_bundle::{Role, VerifiedBundle},
};

/// A partner that was fresh when it was asked: what may be relied on, and no more.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'p> {
    pub(super) partner: &'p Partner,
    pub(super) held: &'p Held,
    pub(super) now: UnixSeconds,
}

impl<'p> Fresh<'p> {
    /// Which domain.
    #[must_use]
    pub const fn domain(&self) -> &'p DomainName {
        self.partner.domain()
    }

    /// What it may assert.
    #[must_use]
    pub const fn grant(&self) -> &'p FederationGrant {
        self.partner.grant()
    }

    /// Its keys of one role whose signatures count now. A witness's keys count only as far as it is granted.
    #[must_use]
    pub fn keys(&self, role: Role) -> evidence::cose::KeySet {
        self.held.bundle.keys(role, self.now)
    }

    /// The bundle that its governance state names.
    #[must_use]
    pub const fn bundle(&self) -> &'p VerifiedBundle {
        &self.held.bundle
    }

    /// Its governance state.
    #[must_use]
    pub const fn state(&self) -> &'p VerifiedState {
        &self.held.state
    }

    /// Everything that it has revoked.
    #[must_use]
    pub const fn revocations(&self) -> &'p RevocationList {
        &self.held.revocations
    }
}
