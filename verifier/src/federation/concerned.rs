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
    /// Why the first domain that does not stand does not; a revocation before anything else.
    pub(crate) fn stand_behind(&self, own: &DomainName, intent: &Intent, now: UnixSeconds) -> Result<(), NotBehind> {
        let mut standing = 0_usize;
        let mut absent = None;
        let mut revoked = None;
        for domain in intent.domains.named() {
            match if domain == own { Ok(()) } else { self.stands(domain, intent, now) } {
                Ok(()) => standing = standing.saturating_add(1),
                Err(not) => match &not {
                    NotBehind::Absent(_) => absent = absent.or(Some(not)),
                    NotBehind::Revoked(_) => revoked = revoked.or(Some(not)),
                },
            }
        }
        match revoked.or(absent) {
            Some(not) if standing < intent.domains.needed() => Err(not),
            Some(_) | None => Ok(()),
        }
    }

    fn stands(&self, domain: &DomainName, intent: &Intent, now: UnixSeconds) -> Result<(), NotBehind> {
        let fresh = self.partner(domain).and_then(|held| held.fresh(now)).map_err(NotBehind::Absent)?;
        let keys = intent.scope.keys.iter().cloned().map(Revoked::Key);
        let mut concerned = keys.chain([Revoked::Node(intent.node.clone())]);
        let admitted = concerned.try_for_each(|concerned| fresh.revocations().admits(&concerned));
        admitted.map_err(NotBehind::Revoked)
    }
}

/// Why too few domains stand behind an intent.
pub(crate) enum NotBehind {
    /// A domain does not stand with us now: that is no fault of the node.
    Absent(GovernanceDenial),
    /// A domain revoked the node, or a key of the intent.
    Revoked(GovernanceDenial),
}

impl From<NotBehind> for GovernanceDenial {
    fn from(not: NotBehind) -> Self {
        match not {
            NotBehind::Absent(denial) | NotBehind::Revoked(denial) => denial,
        }
    }
}
