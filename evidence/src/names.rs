//! Names that peers choose, admitted only in a small character set so that they can stand in logs, file
//! names and terminal output as they are.

use serde::{Deserialize, Serialize};

/// Longest domain or node name, in bytes.
pub const NAME_CAP_BYTES: usize = 64;

/// A name was empty, too long or had a character outside its set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} must be 1 to {NAME_CAP_BYTES} characters of {allowed}, starting and ending with a letter or digit; got {got_bytes} bytes"
)]
pub struct NameError {
    /// What kind of name was read.
    pub kind: &'static str,
    /// The characters it may have.
    pub allowed: &'static str,
    /// Length of what was given; its text is not repeated because it is not trusted.
    pub got_bytes: usize,
}

fn admit(kind: &'static str, allowed: &'static str, text: &str, extra: &[u8]) -> Result<(), NameError> {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(alnum) && bytes.last().is_some_and(alnum);
    if ends && bytes.len() <= NAME_CAP_BYTES && bytes.iter().all(|b| alnum(b) || extra.contains(b)) {
        Ok(())
    } else {
        Err(NameError { kind, allowed, got_bytes: text.len() })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $allowed:literal, $extra:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Admits `text` if it is well formed.
            ///
            /// # Errors
            /// [`NameError`] when it is empty, longer than [`NAME_CAP_BYTES`] or has another character.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                admit($kind, $allowed, &text, $extra)?;
                Ok(Self(text))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// An organisation's trust domain, also its SPIFFE trust domain name (SPIFFE-ID §2.1, narrowed: no underscore).
    DomainName, "domain name", "a-z 0-9 . -", b".-"
}

name! {
    /// A node within a domain.
    NodeId, "node id", "a-z 0-9 -", b"-"
}

name! {
    /// The name of an execution key, a reference value set or a policy set.
    ItemName, "item name", "a-z 0-9 . _ -", b"._-"
}

impl DomainName {
    /// SPIFFE ID of the domain's verifier: the audience of evidence.
    #[must_use]
    pub fn verifier_spiffe_id(&self) -> String {
        format!("spiffe://{}/verifier", self.0)
    }

    /// SPIFFE ID of a node of this domain: the audience of its artifacts.
    #[must_use]
    pub fn node_spiffe_id(&self, node: &NodeId) -> String {
        format!("spiffe://{}/node/{}", self.0, node.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_characters() {
        assert!(DomainName::new("a.example").is_ok());
        assert!(NodeId::new("node-1").is_ok());
        for bad in ["", "-a", "a-", "A", "a b", "a/b", "a\u{1b}[31m", "../a", "a.b/", &"a".repeat(65)] {
            assert!(DomainName::new(bad).is_err(), "{bad:?}");
            assert!(NodeId::new(bad).is_err(), "{bad:?}");
        }
        assert!(NodeId::new("a.b").is_err());
        assert!(serde_json::from_str::<NodeId>("\"a.b\"").is_err());
    }

    #[test]
    fn spiffe_ids_name_domain_and_role() {
        let domain = DomainName::new("a.example").unwrap();
        let node = NodeId::new("n1").unwrap();
        assert_eq!(domain.verifier_spiffe_id(), "spiffe://a.example/verifier");
        assert_eq!(domain.node_spiffe_id(&node), "spiffe://a.example/node/n1");
    }
}
