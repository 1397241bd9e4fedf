//! What the node asks of a TPM. Another transport is another implementation of these two traits.

use evidence::digest::{Digest, HashAlg};
use evidence::tpm::pcr::{PcrSelection, PcrValues};

use super::error::TpmError;
use super::types::{HandleCounts, KeyBlob, Signed};
use crate::config::EkKind;

/// Makes a connection; called again after a transport error.
pub trait TpmTransport: Send + 'static {
    /// Connects and flushes what a crashed predecessor left.
    ///
    /// # Errors
    /// [`TpmError::Unreachable`] and others.
    fn connect(&self, pulse: &super::actor::Pulse) -> Result<Box<dyn TpmDevice>, TpmError>;
}

/// One connected TPM, used by one thread. No call leaves a transient object or session behind, whatever its outcome.
pub trait TpmDevice {
    /// Values of the selected PCRs; may be more than one command, so not atomic.
    ///
    /// # Errors
    /// [`TpmError`].
    fn pcr_read(&mut self, selection: &PcrSelection) -> Result<PcrValues, TpmError>;

    /// Extends one PCR with one digest per bank.
    ///
    /// # Errors
    /// [`TpmError`].
    fn pcr_extend(&mut self, pcr: u8, digests: &[Digest]) -> Result<(), TpmError>;

    /// The endorsement key's TPM2B_PUBLIC, made by its template.
    ///
    /// # Errors
    /// [`TpmError`].
    fn ek_public(&mut self, kind: EkKind) -> Result<Vec<u8>, TpmError>;

    /// Contents of an NV index, `None` if it is not defined.
    ///
    /// # Errors
    /// [`TpmError`].
    fn nv_read(&mut self, index: u32) -> Result<Option<Vec<u8>>, TpmError>;

    /// Makes an attestation key: ECC P-256, ECDSA SHA-256, restricted, noDA, under the endorsement hierarchy.
    ///
    /// # Errors
    /// [`TpmError`].
    fn create_ak(&mut self) -> Result<KeyBlob, TpmError>;

    /// Makes a node key: unrestricted ECC P-256 decryption key usable only under `policy`.
    ///
    /// # Errors
    /// [`TpmError`].
    fn create_node_key(&mut self, policy: &[u8; 32]) -> Result<KeyBlob, TpmError>;

    /// Whether a saved key loads into this TPM.
    ///
    /// # Errors
    /// [`TpmError::KeyLost`] if it does not; others if that could not be found out.
    fn load(&mut self, what: &'static str, key: &KeyBlob) -> Result<(), TpmError>;

    /// TPM2_Quote by the attestation key.
    ///
    /// # Errors
    /// [`TpmError`].
    fn quote(&mut self, ak: &KeyBlob, qualifying: &[u8], selection: &PcrSelection) -> Result<Signed, TpmError>;

    /// TPM2_Certify of `key` by the attestation key. Certifying needs the ADMIN role, which for adminWithPolicy = 0 is
    /// the empty auth value (Part 1, 19.2): it works whatever the PCRs are, and says nothing about them.
    ///
    /// # Errors
    /// [`TpmError`].
    fn certify(&mut self, key: &KeyBlob, ak: &KeyBlob, qualifying: &[u8]) -> Result<Signed, TpmError>;

    /// TPM2_ActivateCredential: what MakeCredential sealed for (EK, AK).
    ///
    /// # Errors
    /// [`TpmError`].
    fn activate(
        &mut self,
        ek: EkKind,
        ak: &KeyBlob,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, TpmError>;

    /// TPM2_ECDH_ZGen in a PolicyPCR session over `bound_to`: x coordinate of the shared point.
    ///
    /// # Errors
    /// [`TpmError::PolicyNotMet`] if the PCRs are not those the key is bound to.
    fn z_gen(
        &mut self,
        key: &KeyBlob,
        bound_to: &PcrSelection,
        point: &EccPointBytes,
    ) -> Result<zeroize::Zeroizing<[u8; 32]>, TpmError>;

    /// Which banks hold at least PCR 0.
    ///
    /// # Errors
    /// [`TpmError`].
    fn banks(&mut self) -> Result<Vec<HashAlg>, TpmError>;

    /// Handles in use.
    ///
    /// # Errors
    /// [`TpmError`].
    fn handles(&mut self) -> Result<HandleCounts, TpmError>;
}

/// A point on P-256, coordinates big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EccPointBytes {
    /// x
    pub x: [u8; 32],
    /// y
    pub y: [u8; 32],
}
