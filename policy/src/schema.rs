//! What a policy may ask about: the Cedar schema, and the names in it.

use std::str::FromStr;

use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};

use crate::set::PolicySetError;

/// The schema that every policy set is validated against.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

/// What may be asked of a policy set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Trust this machine at all.
    Attest,
    /// Run this on it.
    Execute,
    /// Give the execution this key.
    Release,
    /// Let this partner's witness cosign.
    Witness,
    /// Let this partner assert this.
    Federate,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 5] = [Self::Attest, Self::Execute, Self::Release, Self::Witness, Self::Federate];

    /// Its name in policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attest => "attest",
            Self::Execute => "execute",
            Self::Release => "release",
            Self::Witness => "witness",
            Self::Federate => "federate",
        }
    }

    /// Its entry of a table in the order of [`Action::ALL`].
    pub(crate) const fn of<T>(self, table: &[T; 5]) -> &T {
        let [attest, execute, release, witness, federate] = table;
        match self {
            Self::Attest => attest,
            Self::Execute => execute,
            Self::Release => release,
            Self::Witness => witness,
            Self::Federate => federate,
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Types and actions of the schema, parsed once with it.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) domain: EntityTypeName,
    pub(crate) node: EntityTypeName,
    pub(crate) scope: EntityTypeName,
    pub(crate) key: EntityTypeName,
    actions: [EntityUid; 5],
}

impl Names {
    pub(crate) fn new() -> Result<Self, PolicySetError> {
        let name = |text: &str| EntityTypeName::from_str(text).map_err(|e| PolicySetError::Schema(e.to_string()));
        let action = name("Action")?;
        let uid = |a: Action| EntityUid::from_type_name_and_id(action.clone(), EntityId::new(a.as_str()));
        Ok(Self {
            domain: name("Domain")?,
            node: name("Node")?,
            scope: name("Scope")?,
            key: name("Key")?,
            actions: Action::ALL.map(uid),
        })
    }

    pub(crate) fn action(&self, action: Action) -> EntityUid {
        action.of(&self.actions).clone()
    }
}

pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

pub(crate) fn schema() -> Result<Schema, PolicySetError> {
    Schema::from_cedarschema_str(SCHEMA).map(|(schema, _)| schema).map_err(|e| PolicySetError::Schema(e.to_string()))
}
