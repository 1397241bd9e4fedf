//! What an intent of several domains depends on: each of the others must stand with us, or as many as it needs. Whoever
//! does not stand authorizes nothing that counts here, so nothing is begun on its account, and nothing goes on.

use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::intent::Intent;
use governance::revocation::Revoked;

use super::Partners;

impl Partners {
    /// Refuses an intent unless, with us, as many of the domains that it names stand as it needs. A partner stands while
    /// it is fresh and has revoked neither the node nor a key of the intent; a stranger never does.
    ///
    /// # Errors
    /// Why the first domain that does not stand does not.
    pub(crate) fn stand_behind(
        &self,
        own: &DomainName,
        intent: &Intent,
        now: UnixSeconds,
    ) -> Result<(), GovernanceDenial> {
        let (mut standing, mut first) = (0_usize, None);
        for domain in intent.domains.named() {
            match if domain == own { Ok(()) } else { self.stands(domain, intent, now) } {
                Ok(()) => standing = standing.saturating_add(1),
                Err(denial) => first = first.or(Some(denial)),
            }
        }
        match first {
            Some(denial) if standing < intent.domains.needed() => Err(denial),
            Some(_) | None => Ok(()),
        }
    }

    fn stands(&self, domain: &DomainName, intent: &Intent, now: UnixSeconds) -> Result<(), GovernanceDenial> {
        let fresh = self.partner(domain)?.fresh(now)?;
        let keys = intent.scope.keys.iter().cloned().map(Revoked::Key);
        let mut concerned = keys.chain([Revoked::Node(intent.node.clone())]);
        concerned.try_for_each(|concerned| fresh.revocations().admits(&concerned))
    }
}
