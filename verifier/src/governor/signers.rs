//! Whose signatures count for reference values of which environment.

use std::collections::{BTreeMap, BTreeSet};

use evidence::cose::KeyId;
use evidence::names::ItemName;
use firmware_refs::signed::SignedSet;

use super::refusal::OrderRefusal;

/// Who may sign reference values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceSigners {
    /// Every key of the policy authority, for every environment.
    Authority,
    /// For each environment, these keys alone; for an environment that is not listed, nobody.
    Listed(BTreeMap<ItemName, BTreeSet<KeyId>>),
}

impl ReferenceSigners {
    /// Refuses one signature of a key that may not speak for the environment.
    pub(super) fn admit(&self, environment: &ItemName, signer: KeyId) -> Result<(), OrderRefusal> {
        let Some(allowed) = self.of(environment)? else { return Ok(()) };
        if allowed.contains(&signer) {
            return Ok(());
        }
        let allowed = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(OrderRefusal::SignerNotAllowed { environment: environment.clone(), signer: signer.to_string(), allowed })
    }

    /// How many of a set's signers may speak for its environment.
    pub(super) fn count(&self, set: &SignedSet) -> Result<usize, OrderRefusal> {
        let allowed = self.of(&set.set().document().environment)?;
        let counts = |signer: &&KeyId| allowed.is_none_or(|allowed| allowed.contains(*signer));
        Ok(set.signers().iter().filter(counts).count())
    }

    /// Refuses a set unless enough of those who may speak for its environment signed it: the list may have changed since
    /// it was imported.
    pub(super) fn suffice(&self, set: &SignedSet, threshold: u8) -> Result<(), OrderRefusal> {
        let got = self.count(set)?;
        if got >= usize::from(threshold) {
            return Ok(());
        }
        let environment = set.set().document().environment.clone();
        Err(OrderRefusal::TooFewAllowedSigners { environment, got, threshold })
    }

    fn of(&self, environment: &ItemName) -> Result<Option<&BTreeSet<KeyId>>, OrderRefusal> {
        match self {
            Self::Authority => Ok(None),
            Self::Listed(environments) => {
                let unlisted = || OrderRefusal::EnvironmentUnlisted { environment: environment.clone() };
                environments.get(environment).map(Some).ok_or_else(unlisted)
            }
        }
    }
}
