//! Which witnesses cosign our log now: what each of them last did about it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use serde::Serialize;

/// What one witness last did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cosigner {
    /// Size of the newest head that it cosigned, and when.
    pub size: u64,
    /// When that was; nothing before its first.
    pub at: Option<UnixSeconds>,
    /// Why it did not cosign the last head that it was shown, if it did not.
    pub failure: Option<String>,
}

impl Cosigner {
    const fn cosigns(&self) -> bool {
        self.at.is_some() && self.failure.is_none()
    }
}

/// What every witness last did. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cosigners(Arc<Mutex<BTreeMap<DomainName, Cosigner>>>);

impl Cosigners {
    /// What one last did.
    #[must_use]
    pub fn of(&self, domain: &DomainName) -> Option<Cosigner> {
        self.lock().get(domain).cloned()
    }

    /// How many cosigned the last head that they were shown.
    #[must_use]
    pub fn cosigning(&self) -> usize {
        self.lock().values().filter(|cosigner| cosigner.cosigns()).count()
    }

    /// Whether a witness is asked at once: it is among the first `needed` that cosign now, or does not and is asked again at
    /// its own pace. Witnesses are counted from the name of our own log on, so that logs that witness each other do not all
    /// begin with the same one.
    pub(super) fn leads(&self, domain: &DomainName, needed: usize, origin: &str) -> bool {
        let all = self.lock();
        let place = |domain: &DomainName| (domain.as_str() < origin, domain.clone());
        let before = all.iter().filter(|(other, cosigner)| cosigner.cosigns() && place(other) < place(domain));
        !all.get(domain).is_some_and(Cosigner::cosigns) || before.count() < needed
    }

    /// Forgets those that are not asked any more.
    pub(super) fn keep_only(&self, asked: &[DomainName]) {
        self.lock().retain(|domain, _| asked.contains(domain));
    }

    pub(super) fn cosigned(&self, domain: &DomainName, size: u64, at: Option<UnixSeconds>) {
        self.lock().insert(domain.clone(), Cosigner { size, at, failure: None });
    }

    pub(super) fn failed(&self, domain: &DomainName, why: String) {
        let mut all = self.lock();
        let before = all.remove(domain).unwrap_or(Cosigner { size: 0, at: None, failure: None });
        all.insert(domain.clone(), Cosigner { failure: Some(why), ..before });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DomainName, Cosigner>> {
        // Every value behind this mutex is whole between statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_counts_while_it_cosigned_what_it_was_shown_last() {
        let (all, b) = (Cosigners::default(), DomainName::new("b.example").unwrap());
        all.failed(&b, "unreachable".to_owned());
        assert_eq!((all.cosigning(), all.of(&b).unwrap().size), (0, 0));
        all.cosigned(&b, 7, Some(UnixSeconds(5)));
        assert_eq!(all.cosigning(), 1);
        all.failed(&b, "unreachable".to_owned());
        let last = all.of(&b).unwrap();
        assert_eq!((all.cosigning(), last.size, last.at), (0, 7, Some(UnixSeconds(5))));
        all.keep_only(&[]);
        assert_eq!(all.of(&b), None);
    }

    #[test]
    fn as_many_as_are_needed_lead_and_the_next_ones_do_once_those_fail() {
        let all = Cosigners::default();
        let names = ["a.example", "c.example", "d.example"].map(|name| DomainName::new(name).unwrap());
        let leading = |needed| {
            let leads = names.iter().filter(|name| all.leads(name, needed, "b.example/log"));
            leads.map(DomainName::as_str).collect::<Vec<_>>()
        };
        assert_eq!(leading(1).len(), 3, "nobody is known to cosign");
        names.iter().for_each(|name| all.cosigned(name, 1, Some(UnixSeconds(5))));
        assert_eq!(leading(1), ["c.example"]);
        assert_eq!(leading(2), ["c.example", "d.example"]);
        assert_eq!(leading(3).len(), 3);
        all.failed(&names[1], "unreachable".to_owned());
        assert_eq!(leading(1), ["c.example", "d.example"], "one is asked again, the next stands in");
        all.failed(&names[2], "unreachable".to_owned());
        assert_eq!(leading(1).len(), 3);
    }
}
