//! Statements that need several signers: separate COSE_Sign1 over one payload, by distinct keys.
//!
//! Two people sign the same bytes without passing a half-signed file around, and each signature can be read
//! alone by the one strict reader.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

use crate::{
    cose::{CoseDenial, KeyId, KeySet, PublicKey, Purpose, verify1},
    names::DomainName,
};

/// Most signatures read for one payload.
pub const SIGNATURES_CAP: usize = 16;

/// Why signatures together do not carry a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdDenial {
    /// One of them is not acceptable; a bad signature beside good ones is a mistake or an attack, never ignored.
    #[error(transparent)]
    Cose(#[from] CoseDenial),
    /// They are over different payloads.
    #[error("signature {index} is over another payload")]
    PayloadsDiffer {
        /// Which one, from 0.
        index: usize,
    },
    /// One key signed twice.
    #[error("key {kid} signed twice")]
    SignedTwice {
        /// The key.
        kid: KeyId,
    },
    /// Fewer distinct signers than demanded.
    #[error("{got} signatures, {wanted} required")]
    TooFew {
        /// How many there are.
        got: usize,
        /// How many there must be.
        wanted: usize,
    },
    /// More signatures than are read.
    #[error("{got} signatures, at most {cap} are read")]
    TooMany {
        /// How many there are.
        got: usize,
        /// How many are read.
        cap: usize,
    },
}

/// A payload that enough distinct keys signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThresholdSigned {
    payload: Vec<u8>,
    signers: Vec<KeyId>,
}

impl ThresholdSigned {
    /// The signed bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Who signed, ascending.
    #[must_use]
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }
}

/// Verifies that at least `threshold` distinct keys of `keys` signed one payload for `purpose` within `domain`.
///
/// # Errors
/// [`ThresholdDenial`]; every signature given must verify.
pub fn verify_threshold<B: AsRef<[u8]>>(
    purpose: Purpose,
    domain: &DomainName,
    signatures: &[B],
    keys: &KeySet,
    threshold: NonZeroU8,
) -> Result<ThresholdSigned, ThresholdDenial> {
    if signatures.len() > SIGNATURES_CAP {
        return Err(ThresholdDenial::TooMany { got: signatures.len(), cap: SIGNATURES_CAP });
    }
    let mut payload: Option<Vec<u8>> = None;
    let mut signers = BTreeSet::new();
    for (index, bytes) in signatures.iter().enumerate() {
        let signed = verify1(purpose, domain, bytes.as_ref(), keys)?;
        let first = payload.get_or_insert_with(|| signed.payload().to_vec());
        if first.as_slice() != signed.payload() {
            return Err(ThresholdDenial::PayloadsDiffer { index });
        }
        if !signers.insert(signed.signer()) {
            return Err(ThresholdDenial::SignedTwice { kid: signed.signer() });
        }
    }
    let (got, wanted) = (signers.len(), usize::from(threshold.get()));
    match payload {
        Some(payload) if got >= wanted => Ok(ThresholdSigned { payload, signers: signers.into_iter().collect() }),
        Some(_) | None => Err(ThresholdDenial::TooFew { got, wanted }),
    }
}

/// The keys that may sign for a domain, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Authority {
    keys: Vec<PublicKey>,
    threshold: NonZeroU8,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    keys: Vec<PublicKey>,
    threshold: u8,
}

/// Keys and a threshold that could accept nothing, or anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// A threshold of nothing, or of more keys than there are, or more keys than are read.
    #[error("threshold {threshold} of {keys} keys, of which at most {SIGNATURES_CAP} are read")]
    Impossible {
        /// Keys given.
        keys: usize,
        /// Signatures demanded.
        threshold: u8,
    },
    /// One key stands twice.
    #[error("key {kid} stands twice in the authority")]
    KeyRepeated {
        /// The key.
        kid: KeyId,
    },
}

impl TryFrom<Parts> for Authority {
    type Error = AuthorityError;
    fn try_from(parts: Parts) -> Result<Self, AuthorityError> {
        Self::new(parts.keys, parts.threshold)
    }
}

impl From<Authority> for Parts {
    fn from(authority: Authority) -> Self {
        Self { keys: authority.keys, threshold: authority.threshold.get() }
    }
}

impl Authority {
    /// An authority of distinct `keys`, of which `threshold` must sign.
    ///
    /// # Errors
    /// [`AuthorityError`] for no key, too many, a repeated key, or a threshold of zero or beyond the keys.
    pub fn new(keys: Vec<PublicKey>, threshold: u8) -> Result<Self, AuthorityError> {
        let possible = usize::from(threshold) <= keys.len() && keys.len() <= SIGNATURES_CAP;
        let Some(demanded) = NonZeroU8::new(threshold).filter(|_| possible) else {
            return Err(AuthorityError::Impossible { keys: keys.len(), threshold });
        };
        let mut seen = BTreeSet::new();
        match keys.iter().find(|key| !seen.insert(key.kid())) {
            Some(repeated) => Err(AuthorityError::KeyRepeated { kid: repeated.kid() }),
            None => Ok(Self { keys, threshold: demanded }),
        }
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many of them must sign.
    #[must_use]
    pub const fn threshold(&self) -> NonZeroU8 {
        self.threshold
    }

    /// The payload that enough of its keys signed for `purpose` within `domain`.
    ///
    /// # Errors
    /// As for [`verify_threshold`].
    pub fn verify<B: AsRef<[u8]>>(
        &self,
        purpose: Purpose,
        domain: &DomainName,
        signatures: &[B],
    ) -> Result<ThresholdSigned, ThresholdDenial> {
        verify_threshold(purpose, domain, signatures, &KeySet::new(&self.keys), self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cose::{SigningKey, sign1};

    #[test]
    fn two_distinct_keys_over_one_payload_and_nothing_less() {
        let domain = DomainName::new("a.example").unwrap();
        let keys: Vec<_> = (1..=3u8).map(|n| SigningKey::from_seed(&[n; 32]).unwrap()).collect();
        let set = KeySet::new(keys[..2].iter().map(SigningKey::public));
        let sign = |n: usize, payload: &[u8]| sign1(Purpose::PolicySet, &domain, payload, &keys[n]).unwrap();
        let two = NonZeroU8::new(2).unwrap();
        let verify =
            |signatures: &[Vec<u8>]| verify_threshold(Purpose::PolicySet, &domain, signatures, &set, two).map(|_| ());

        assert_eq!(verify(&[sign(0, b"p"), sign(1, b"p")]), Ok(()));
        assert_eq!(verify(&[]), Err(ThresholdDenial::TooFew { got: 0, wanted: 2 }));
        assert_eq!(verify(&[sign(0, b"p")]), Err(ThresholdDenial::TooFew { got: 1, wanted: 2 }));
        assert!(matches!(verify(&[sign(0, b"p"), sign(0, b"p")]), Err(ThresholdDenial::SignedTwice { .. })));
        assert_eq!(verify(&[sign(0, b"p"), sign(1, b"q")]), Err(ThresholdDenial::PayloadsDiffer { index: 1 }));
        assert!(matches!(verify(&[sign(0, b"p"), sign(1, b"p"), sign(2, b"p")]), Err(ThresholdDenial::Cose(_))));
        let other = sign1(Purpose::ReferenceValues, &domain, b"p", &keys[1]).unwrap();
        assert!(matches!(verify(&[sign(0, b"p"), other]), Err(ThresholdDenial::Cose(_))));
        assert!(matches!(verify(&vec![vec![]; 17]), Err(ThresholdDenial::TooMany { .. })));
    }

    #[test]
    fn an_authority_that_could_accept_nothing_or_anything_is_refused() {
        let public = |seed| SigningKey::from_seed(&[seed; 32]).unwrap().public().clone();
        for (keys, threshold) in [(vec![], 0), (vec![public(1)], 0), (vec![public(1)], 2), (vec![], 1)] {
            assert!(matches!(Authority::new(keys, threshold), Err(AuthorityError::Impossible { .. })));
        }
        assert!(matches!(Authority::new((1..=17).map(public).collect(), 1), Err(AuthorityError::Impossible { .. })));
        let repeated = Authority::new(vec![public(1), public(1)], 2);
        assert!(matches!(repeated, Err(AuthorityError::KeyRepeated { .. })));
        let json = serde_json::json!({ "keys": [hex::encode(public(1).cose_key())], "threshold": 0 });
        assert!(serde_json::from_value::<Authority>(json).is_err());
    }
}
