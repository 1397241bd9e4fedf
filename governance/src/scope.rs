//! What an execution may reach: keys, capabilities, labels. A child's scope stays within its parent's.

use std::collections::{BTreeMap, BTreeSet};

use evidence::names::ItemName;
use serde::{Deserialize, Serialize};

use crate::{denial::GovernanceDenial, text::Text};

/// Most execution keys in one scope.
pub const KEYS_CAP: usize = 32;
/// Most capabilities in one scope.
pub const CAPABILITIES_CAP: usize = 64;
/// Most labels in one scope.
pub const LABELS_CAP: usize = 64;

/// What an execution asks for, or was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Execution keys, by name.
    pub keys: BTreeSet<ItemName>,
    /// Capabilities that policy knows by name.
    pub capabilities: BTreeSet<ItemName>,
    /// Labels that policy reads. They count as grants: a policy may permit because of one.
    pub labels: BTreeMap<ItemName, Text>,
}

impl Scope {
    /// Refuses a scope with anything that `outer` does not have. A label with another value is another label.
    ///
    /// # Errors
    /// [`GovernanceDenial::ScopeExceeded`] naming the first thing beyond `outer`.
    pub fn within(&self, outer: &Self) -> Result<(), GovernanceDenial> {
        let beyond = |part, got: String| Err(GovernanceDenial::ScopeExceeded { part, got });
        if let Some(key) = self.keys.difference(&outer.keys).next() {
            return beyond("key", key.to_string());
        }
        if let Some(capability) = self.capabilities.difference(&outer.capabilities).next() {
            return beyond("capability", capability.to_string());
        }
        match self.labels.iter().find(|(name, value)| outer.labels.get(name) != Some(value)) {
            Some((name, value)) => beyond("label", format!("{name}={value}")),
            None => Ok(()),
        }
    }

    pub(crate) fn bounded(&self, what: &'static str) -> Result<(), GovernanceDenial> {
        let refuse = |field, rule| Err(GovernanceDenial::FieldInvalid { what, field, rule });
        if self.keys.len() > KEYS_CAP {
            return refuse("scope.keys", "at most 32");
        }
        if self.capabilities.len() > CAPABILITIES_CAP {
            return refuse("scope.capabilities", "at most 64");
        }
        if self.labels.len() > LABELS_CAP {
            return refuse("scope.labels", "at most 64");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(keys: &[&str], capabilities: &[&str], labels: &[(&str, &str)]) -> Scope {
        let names = |items: &[&str]| items.iter().map(|n| ItemName::new(*n).unwrap()).collect();
        let labels = labels.iter().map(|(n, v)| (ItemName::new(*n).unwrap(), Text::new(*v).unwrap())).collect();
        Scope { keys: names(keys), capabilities: names(capabilities), labels }
    }

    #[test]
    fn a_child_can_only_narrow() {
        let outer = scope(&["db", "tls"], &["net"], &[("region", "eu")]);
        for inner in [Scope::default(), scope(&["db"], &[], &[("region", "eu")]), outer.clone()] {
            inner.within(&outer).unwrap();
        }
        for (inner, part) in [
            (scope(&["other"], &[], &[]), "key"),
            (scope(&[], &["net", "raw"], &[]), "capability"),
            (scope(&[], &[], &[("region", "us")]), "label"),
            (scope(&[], &[], &[("tier", "prod")]), "label"),
        ] {
            let denial = inner.within(&outer).unwrap_err();
            assert!(matches!(denial, GovernanceDenial::ScopeExceeded { part: got, .. } if got == part), "{denial}");
        }
    }
}
