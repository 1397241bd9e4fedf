//! A reference value set that enough policy-authority keys signed.

use evidence::{
    cose::{CoseDenial, KeyId, Purpose, SigningKey, claimed_payload, sign1},
    digest::Sha256Digest,
    names::DomainName,
    threshold::{Authority, ThresholdDenial},
};

use crate::set::{ReferenceValueSet, SetError};

/// Why signatures do not make a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedSetError {
    /// The signatures.
    #[error(transparent)]
    Signatures(#[from] ThresholdDenial),
    /// What they sign.
    #[error(transparent)]
    Set(#[from] SetError),
    /// It is another domain's.
    #[error("the set is of domain {got}, not {wanted}")]
    OtherDomain {
        /// Domain in the set.
        got: DomainName,
        /// Domain whose authority signs.
        wanted: DomainName,
    },
}

/// A set and who signed it. Only this can become active.
#[derive(Clone, Debug)]
pub struct SignedSet {
    set: ReferenceValueSet,
    signers: Vec<KeyId>,
}

impl SignedSet {
    /// Verifies that `authority` of `domain` signed, then reads the set.
    ///
    /// # Errors
    /// [`SignedSetError`].
    pub fn open<B: AsRef<[u8]>>(
        signatures: &[B],
        domain: &DomainName,
        authority: &Authority,
    ) -> Result<Self, SignedSetError> {
        let signed = authority.verify(Purpose::ReferenceValues, domain, signatures)?;
        let set = ReferenceValueSet::from_cbor(signed.payload())?;
        if set.domain() != domain {
            return Err(SignedSetError::OtherDomain { got: set.domain().clone(), wanted: domain.clone() });
        }
        Ok(Self { set, signers: signed.signers().to_vec() })
    }

    /// The set.
    #[must_use]
    pub fn set(&self) -> &ReferenceValueSet {
        &self.set
    }

    /// Who signed, ascending.
    #[must_use]
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }

    /// SHA-256 of the signed form.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.set.digest()
    }
}

/// One signature over a set.
///
/// # Errors
/// [`CoseDenial`] when it cannot be written.
pub fn sign(set: &ReferenceValueSet, key: &SigningKey) -> Result<Vec<u8>, CoseDenial> {
    sign1(Purpose::ReferenceValues, set.domain(), &set.to_cbor()?, key)
}

/// What a signature claims to be over, NOT verified: to show a staged set before enough people signed it.
///
/// # Errors
/// [`SetError`] or the form of the COSE_Sign1.
pub fn claimed(signature: &[u8]) -> Result<ReferenceValueSet, SignedSetError> {
    let payload = claimed_payload(signature).map_err(ThresholdDenial::Cose)?;
    Ok(ReferenceValueSet::from_cbor(&payload)?)
}
