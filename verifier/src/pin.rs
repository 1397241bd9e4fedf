//! What a stranger pins about a domain: the public half of its policy authority.

use std::num::NonZeroU8;

use evidence::cose::PublicKey;
use evidence::names::DomainName;
use evidence::threshold::{Authority, AuthorityError};
use serde::{Deserialize, Serialize};

/// `pin.toml`, made by `init`, handed to whoever shall verify proofs of the domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinFile {
    /// The domain.
    pub domain: DomainName,
    /// How many of the keys must have signed.
    pub threshold: NonZeroU8,
    /// The keys (hexadecimal COSE_Key).
    pub keys: Vec<PublicKey>,
}

impl PinFile {
    /// The pin of a domain.
    pub fn of(domain: &DomainName, authority: &Authority) -> Self {
        Self { domain: domain.clone(), threshold: authority.threshold(), keys: authority.keys().to_vec() }
    }

    /// The authority that it names.
    ///
    /// # Errors
    /// [`AuthorityError`] when keys repeat or are fewer than the threshold.
    pub fn authority(self) -> Result<Authority, AuthorityError> {
        Authority::new(self.keys, self.threshold.get())
    }
}
