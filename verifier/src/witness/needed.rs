//! How many witnesses must have cosigned before anything is released.

use std::sync::Arc;

use tokio::sync::watch;

use crate::governor::Snapshot;

/// The configured count, or the one that the policy authority ordered, whichever is greater: an operator of the service
/// does not lower what nodes are ordered to count.
#[derive(Debug, Clone)]
pub struct Needed {
    configured: usize,
    rules: Option<watch::Receiver<Arc<Snapshot>>>,
}

impl Needed {
    /// As configured, under these rules.
    #[must_use]
    pub const fn under(configured: usize, rules: watch::Receiver<Arc<Snapshot>>) -> Self {
        Self { configured, rules: Some(rules) }
    }

    /// How many, now.
    #[must_use]
    pub fn count(&self) -> usize {
        let rules = self.rules.as_ref().map(|rules| rules.borrow().clone());
        let ordered = rules.and_then(|rules| rules.witnesses.as_ref().map(|order| order.held.policy.quorum));
        self.configured.max(usize::from(ordered.unwrap_or(0)))
    }
}

/// Where no order stands.
impl From<usize> for Needed {
    fn from(configured: usize) -> Self {
        Self { configured, rules: None }
    }
}
