//! Passports: what one domain granted an execution by its own judgement of evidence, shown to another that takes its word.
//!
//! The other says in its challenge whose word it takes. The home domain's answer is not waited for by anybody but those that
//! come after it, and so on in the order of names: two domains that take each other's word do not wait for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::passport::{PASSPORT_VERSION, Passport};
use serde_bytes::ByteBuf;
use tokio::sync::watch;
use tokio::time::timeout;
use wire::bounded::verifier::ChallengeTerms;

use super::Node;
use super::domain::Accepted;
use crate::clock::unix_now;
use crate::collect::HeldKey;

/// What one domain granted by its own judgement.
#[derive(Clone, Debug)]
pub(crate) struct Vouched {
    artifact: Arc<[u8]>,
    result: Arc<[u8]>,
    expires_at: UnixSeconds,
    /// The node key that it is bound to.
    pub(super) node_key: HeldKey,
}

/// What the domains of an execution have said so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vouchers {
    granted: BTreeMap<DomainName, Vouched>,
    /// Asked, and refused or not answered: there is nothing to wait for.
    silent: BTreeSet<DomainName>,
}

impl Vouchers {
    /// A domain is being asked.
    pub(super) fn asked(&mut self, domain: &DomainName) {
        self.silent.remove(domain);
    }

    /// A domain granted nothing now.
    pub(super) fn refused(&mut self, domain: &DomainName) {
        self.silent.insert(domain.clone());
    }

    /// A domain granted it; by its own judgement, if it has a result of its own to show.
    pub(super) fn granted(&mut self, domain: &DomainName, accepted: &Accepted, node_key: &HeldKey) {
        let Some(result) = &accepted.result else {
            self.refused(domain);
            return;
        };
        let vouched = Vouched {
            artifact: Arc::clone(&accepted.cose),
            result: Arc::clone(result),
            expires_at: accepted.artifact.terms().expires_at,
            node_key: node_key.clone(),
        };
        self.granted.insert(domain.clone(), vouched);
    }

    /// What lasts longest of what these domains granted.
    fn lasting(&self, of: &[DomainName], now: UnixSeconds) -> Option<(&DomainName, &Vouched)> {
        let granted = self.granted.iter().filter(|(domain, vouched)| of.contains(domain) && now < vouched.expires_at);
        granted.max_by_key(|(_, vouched)| vouched.expires_at)
    }

    fn settled(&self, listed: &[DomainName], awaited: &[&DomainName]) -> bool {
        self.lasting(listed, unix_now()).is_some() || awaited.iter().all(|domain| self.silent.contains(*domain))
    }
}

impl Node {
    /// What this domain may be shown in the place of evidence: of those that it listed, and waits for.
    pub(super) async fn vouched(
        &self,
        vouchers: &watch::Receiver<Vouchers>,
        by: &DomainName,
        listed: &[DomainName],
    ) -> Option<(DomainName, Vouched)> {
        if listed.is_empty() {
            return None;
        }
        let place = |domain: &DomainName| (*domain != self.home, domain.clone());
        let awaited: Vec<_> = listed.iter().filter(|domain| place(domain) < place(by)).collect();
        let mut following = vouchers.clone();
        // Whoever was silent for so long is not waited for: there is evidence to show as well.
        let settled = timeout(VOUCHED_WITHIN, following.wait_for(|vouchers| vouchers.settled(listed, &awaited)));
        if settled.await.is_err() {
            tracing::debug!(domain = %by, "nobody vouched in time");
        }
        let vouchers = vouchers.borrow();
        vouchers.lasting(listed, unix_now()).map(|(domain, vouched)| (domain.clone(), vouched.clone()))
    }

    /// Signs a passport as the answer to a challenge on this connection.
    pub(super) fn passport(
        &self,
        told: &DomainName,
        (partner, vouched): (DomainName, &Vouched),
        asked: &ChallengeTerms,
        channel: [u8; 32],
        lineage_head: Sha256Digest,
    ) -> Result<Vec<u8>, GovernanceDenial> {
        let passport = Passport {
            version: PASSPORT_VERSION,
            domain: told.clone(),
            node: self.id().clone(),
            partner,
            artifact: ByteBuf::from(vouched.artifact.to_vec()),
            result: ByteBuf::from(vouched.result.to_vec()),
            nonce: asked.nonce,
            channel,
            epoch: asked.epoch,
            subject: asked.subject,
            lineage_head,
        };
        passport.sign(&self.record_key)
    }
}

/// Time for a domain to be heard before another that takes its word: well within the life of a challenge.
const VOUCHED_WITHIN: Duration = Duration::from_secs(2);
