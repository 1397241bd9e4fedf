//! The claims set with its integer keys.
//!
//! One macro writes both directions from one table, so that a key can neither be written without being read nor be read
//! twice. Unknown, repeated and missing claims are refused.

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ArtifactId, Attribution, EnvironmentalConditions, GovernanceMetadata, LeaseTerms, PolicyValidation,
    ReceiptReference, RuntimeBindings,
};
use crate::{node_key::NodeKey, scope::Scope};
use evidence::{digest::Sha256Digest, time::UnixSeconds};

macro_rules! integer_keyed {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $key:literal => $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $({ let key: i64 = $key; map.serialize_entry(&key, &self.$field)?; })*
                map.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Claims;
                impl<'de> Visitor<'de> for Claims {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a map with integer keys")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $(let mut $field: Option<$type> = None;)*
                        while let Some(key) = map.next_key::<i64>()? {
                            match key {
                                $($key => {
                                    if $field.replace(map.next_value()?).is_some() {
                                        return Err(de::Error::duplicate_field(stringify!($field)));
                                    }
                                })*
                                other => return Err(de::Error::custom(format_args!("unknown claim {other}"))),
                            }
                        }
                        Ok($name {
                            $($field: $field.ok_or_else(|| de::Error::missing_field(stringify!($field)))?,)*
                        })
                    }
                }
                deserializer.deserialize_map(Claims)
            }
        }
    };
}

integer_keyed! {
    /// Proof-of-possession key (RFC 8747 §3.2).
    Confirmation {
        /// `COSE_Key`: the node key.
        1 => key: NodeKey,
    }
}

/// Repeats the table for the terms alone and for the terms with their receipt.
macro_rules! with_terms {
    ($($(#[$field_meta:meta])* $key:literal => $field:ident: $type:ty,)*) => {
        integer_keyed! {
            /// Everything that a domain decides: the artifact but for where the decision is logged.
            ArtifactTerms { $($(#[$field_meta])* $key => $field: $type,)* }
        }
        integer_keyed! {
            /// The whole claims set of an artifact.
            Artifact {
                $($(#[$field_meta])* $key => $field: $type,)*
                /// Log receipt reference.
                -70_010 => receipt: ReceiptReference,
            }
        }
        impl Artifact {
            /// Terms and receipt as one claims set.
            pub(crate) fn of(terms: ArtifactTerms, receipt: ReceiptReference) -> Self {
                Self { $($field: terms.$field,)* receipt }
            }

            /// Its terms.
            #[must_use]
            pub fn terms(&self) -> ArtifactTerms {
                ArtifactTerms { $($field: self.$field.clone(),)* }
            }

            /// Its terms and where they are logged.
            #[must_use]
            pub fn into_parts(self) -> (ArtifactTerms, ReceiptReference) {
                (ArtifactTerms { $($field: self.$field,)* }, self.receipt)
            }
        }
    };
}

with_terms! {
    /// `iss`: SPIFFE ID of the issuing verifier.
    1 => issuer: String,
    /// `sub`: SPIFFE ID of the node that will execute.
    2 => subject: String,
    /// `aud`: who accepts it.
    3 => audience: String,
    /// `exp`: the first second in which it is no longer in force.
    4 => expires_at: UnixSeconds,
    /// `nbf`: the first second in which it is in force. Issuers set it a little before `iat` for nodes whose clock lags.
    5 => not_before: UnixSeconds,
    /// `iat`: when it was issued.
    6 => issued_at: UnixSeconds,
    /// `cti`: constant over renewals.
    7 => id: ArtifactId,
    /// `cnf`: the node key.
    8 => confirmation: Confirmation,
    /// Version of this claims set.
    -70_001 => version: u8,
    /// Digest of the intent.
    -70_002 => intent: Sha256Digest,
    /// Execution scope.
    -70_003 => scope: Scope,
    /// Runtime bindings.
    -70_004 => bindings: RuntimeBindings,
    /// Policy validation.
    -70_005 => policy: PolicyValidation,
    /// Environmental conditions.
    -70_006 => conditions: EnvironmentalConditions,
    /// Lease terms.
    -70_007 => lease: LeaseTerms,
    /// Governance metadata.
    -70_008 => governance: GovernanceMetadata,
    /// Operational attribution.
    -70_009 => attribution: Attribution,
}
