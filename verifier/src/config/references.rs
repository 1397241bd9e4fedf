//! `[references]`: which keys of the policy authority may sign reference values for which environment.

use std::collections::{BTreeMap, BTreeSet};

use evidence::cose::KeyId;
use evidence::names::ItemName;
use evidence::threshold::Authority;
use serde::{Deserialize, Serialize};

use super::{ConfigError, value_error};
use crate::governor::ReferenceSigners;

/// Who may sign values for what. Without the table, every authority key may, for every environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferencesConfig {
    /// Environment of a set, to the ids (32 hexadecimal digits) of the authority keys whose signatures count for it. Sets
    /// of other environments are refused.
    pub signers: BTreeMap<ItemName, BTreeSet<String>>,
}

impl ReferencesConfig {
    /// The table, checked: it names keys of the authority, and for each environment enough of them to sign a set.
    pub(super) fn signers(&self, authority: &Authority) -> Result<ReferenceSigners, ConfigError> {
        let known: BTreeMap<String, KeyId> =
            authority.keys().iter().map(|key| (key.kid().to_string(), key.kid())).collect();
        let threshold = usize::from(authority.threshold().get());
        let mut listed = BTreeMap::new();
        for (environment, ids) in &self.signers {
            let at = format!("references.signers.{environment}");
            let keys = ids.iter().map(|id| known.get(id).copied().ok_or(id)).collect::<Result<BTreeSet<_>, _>>();
            let keys = keys.map_err(|id| value_error(&at, format!("{id:?} is the id of no authority key")))?;
            if keys.len() < threshold {
                let why = format!("lists {} keys, {threshold} must sign: no set could become active", keys.len());
                return Err(value_error(&at, why));
            }
            listed.insert(environment.clone(), keys);
        }
        Ok(ReferenceSigners::Listed(listed))
    }

    pub(super) fn in_words(&self) -> Vec<String> {
        let of = |(environment, ids): (&ItemName, &BTreeSet<String>)| {
            let ids = ids.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(
                "Reference values of environment {environment} count when the keys {ids} signed them, as many as must."
            )
        };
        let rest = "Reference values of any other environment are refused, whoever signed them.".to_owned();
        self.signers.iter().map(of).chain([rest]).collect()
    }
}
