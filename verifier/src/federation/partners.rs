//! The partners of this domain as everybody here asks for them: `partners.partner(domain)?.fresh(now)?`.

use std::collections::BTreeMap;
use std::sync::Arc;

use evidence::cose::claimed_payload;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::partner::{Fresh, Partner};

/// Most partners.
pub(crate) const PARTNERS_CAP: usize = 256;

/// One partner, with what it signed as it signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldPartner {
    /// What is held of it.
    pub partner: Partner,
    /// Its newest bundle, one COSE_Sign1 for each of its authority's keys that signed.
    pub bundle: Arc<Vec<Vec<u8>>>,
    /// Its newest state, COSE_Sign1; empty before the first.
    pub state: Arc<Vec<u8>>,
}

impl HeldPartner {
    /// What may be relied on at `now`: its keys, state, revocations and grant.
    ///
    /// # Errors
    /// [`GovernanceDenial`] saying why nothing may.
    pub fn fresh(&self, now: UnixSeconds) -> Result<Fresh<'_>, GovernanceDenial> {
        self.partner.fresh(now)
    }
}

/// Whether a COSE_Sign1 carries what has this digest. Its signature is not looked at.
pub(crate) fn carries(cose: &[u8], digest: Sha256Digest) -> bool {
    claimed_payload(cose).is_ok_and(|payload| Sha256Digest::of(&payload) == digest)
}

/// Every partner, at one moment. Their bundles are never merged: each question names one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partners(BTreeMap<DomainName, Arc<HeldPartner>>);

impl Partners {
    /// One of them.
    ///
    /// # Errors
    /// [`GovernanceDenial::PartnerUnknown`].
    pub fn partner(&self, domain: &DomainName) -> Result<&Arc<HeldPartner>, GovernanceDenial> {
        self.0.get(domain).ok_or_else(|| GovernanceDenial::PartnerUnknown { domain: domain.clone() })
    }

    /// All of them, by name.
    pub fn all(&self) -> impl Iterator<Item = &Arc<HeldPartner>> {
        self.0.values()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with one of them as it is now.
    #[must_use]
    pub fn with(&self, held: HeldPartner) -> Self {
        let mut partners = self.0.clone();
        partners.insert(held.partner.domain().clone(), Arc::new(held));
        Self(partners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_no_partner_is_denied_by_name() {
        let stranger = DomainName::new("x.example").unwrap();
        let denial = Partners::default().partner(&stranger).unwrap_err();
        assert_eq!(denial.code(), "governance.partner_unknown");
    }
}
