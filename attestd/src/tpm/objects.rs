//! The keys of this node's TPM: attestation key and node keys, kept as blobs in the state directory.

use evidence::cose;
use evidence::digest::HashAlg;
use evidence::tpm::pcr::{PcrSelection, policy_pcr_digest};
use evidence::tpm::public::{Name, Public};
use serde::{Deserialize, Serialize};

use super::actor::Tpm;
use super::error::TpmError;
use super::types::{KeyBlob, Signed};
use crate::config::EkKind;
use crate::state::{StateDir, StateError};

/// Why a key of the TPM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// There is no attestation key yet.
    #[error("this node has no attestation key: enrol it first")]
    NotEnrolled,
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The TPM made a key that is not what was asked for.
    #[error("the TPM made an unusable {key}: {why}")]
    Unusable {
        /// Which key.
        key: &'static str,
        /// Why.
        why: String,
    },
}

impl KeyFault {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotEnrolled => "fault.not_enrolled",
            Self::Tpm(error) => error.code(),
            Self::State(_) => "fault.state",
            Self::Unusable { .. } => "fault.tpm_malformed",
        }
    }
}

const AK_FILE: &str = "tpm/ak.blob";
/// The name hash of all our keys.
const NAME_HASH: HashAlg = HashAlg::Sha256;

/// The attestation key.
#[derive(Clone, Debug)]
pub struct AttestationKey {
    blob: KeyBlob,
    name: Name,
}

impl AttestationKey {
    /// Loads the saved key and makes sure that it belongs to this TPM.
    ///
    /// # Errors
    /// [`KeyFault::NotEnrolled`] if there is none, [`TpmError::KeyLost`] if this is another TPM or it was cleared.
    pub async fn load(tpm: &Tpm, state: &StateDir) -> Result<Self, KeyFault> {
        let blob: KeyBlob = state.read_cbor(AK_FILE)?.ok_or(KeyFault::NotEnrolled)?;
        let probe = blob.clone();
        tpm.call(move |device| device.load("attestation key", &probe)).await?;
        Self::of(blob)
    }

    /// The saved key, whether or not there is a TPM that it loads into.
    ///
    /// # Errors
    /// [`KeyFault::NotEnrolled`] if there is none.
    pub fn saved(state: &StateDir) -> Result<Self, KeyFault> {
        Self::of(state.read_cbor(AK_FILE)?.ok_or(KeyFault::NotEnrolled)?)
    }

    /// Loads the saved key, or makes and saves one if there is none that belongs to this TPM.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub async fn load_or_create(tpm: &Tpm, state: &StateDir) -> Result<Self, KeyFault> {
        match Self::load(tpm, state).await {
            Err(KeyFault::NotEnrolled | KeyFault::Tpm(TpmError::KeyLost { .. })) => {}
            outcome => return outcome,
        }
        let key = Self::of(tpm.call(|device| device.create_ak()).await?)?;
        state.write_cbor(AK_FILE, &key.blob)?;
        Ok(key)
    }

    fn of(blob: KeyBlob) -> Result<Self, KeyFault> {
        let name = read_public("attestation key", &blob)?.name();
        Ok(Self { blob, name })
    }

    /// The key for TPM commands.
    #[must_use]
    pub const fn blob(&self) -> &KeyBlob {
        &self.blob
    }

    /// TPM2B_PUBLIC.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.blob.public
    }

    /// Its Name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }
}

/// An HPKE recipient key that the TPM uses only while PCRs have the values they had when it was made.
#[derive(Clone, Debug)]
pub struct NodeKey {
    saved: SavedNodeKey,
    bound_to: PcrSelection,
    point: Vec<u8>,
    cose_key: Vec<u8>,
}

/// `tpm/node-key-*.blob`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedNodeKey {
    key: KeyBlob,
    #[serde(with = "serde_bytes")]
    certification: Vec<u8>,
    #[serde(with = "serde_bytes")]
    certification_signature: Vec<u8>,
    /// Name of the AK that certified it.
    #[serde(with = "serde_bytes")]
    ak_name: Vec<u8>,
}

impl NodeKey {
    /// The node key for the present values of `bound_to`: the saved one if its policy is theirs, else a new one,
    /// certified by `ak` and saved. The key that it replaces was bound to values that are gone.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub async fn for_present_pcrs(
        tpm: &Tpm,
        state: &StateDir,
        ak: &AttestationKey,
        bound_to: PcrSelection,
    ) -> Result<Self, KeyFault> {
        let policy = present_policy(tpm, bound_to).await?;
        let file = node_key_file(&bound_to);
        if let Some(saved) = state.read_cbor::<SavedNodeKey>(&file)?
            && saved.ak_name == ak.name().to_bytes()
        {
            let key = Self::of(saved, bound_to)?;
            let blob = key.saved.key.clone();
            let loads = tpm.call(move |device| device.load("node key", &blob)).await;
            match loads {
                Ok(()) if key.is_bound_to(&policy)? => return Ok(key),
                Ok(()) | Err(TpmError::KeyLost { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let ak_blob = ak.blob().clone();
        let (key, signed) = tpm
            .call(move |device| {
                let key = device.create_node_key(&policy)?;
                let signed = device.certify(&key, &ak_blob, &[])?;
                Ok((key, signed))
            })
            .await?;
        let Signed { attest: certification, signature: certification_signature } = signed;
        let saved = SavedNodeKey { key, certification, certification_signature, ak_name: ak.name().to_bytes() };
        state.write_cbor(&file, &saved)?;
        Self::of(saved, bound_to)
    }

    /// Whether the key opens under the present values, without asking the TPM to use it.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub async fn is_current(&self, tpm: &Tpm) -> Result<bool, KeyFault> {
        self.is_bound_to(&present_policy(tpm, self.bound_to).await?)
    }

    fn of(saved: SavedNodeKey, bound_to: PcrSelection) -> Result<Self, KeyFault> {
        let unusable = |why: String| KeyFault::Unusable { key: "node key", why };
        let point = read_public("node key", &saved.key)?
            .key
            .uncompressed_point()
            .ok_or_else(|| unusable("not an ECC key".to_owned()))?;
        let cose_key = cose::p256_cose_key(&point).map_err(|e| unusable(e.to_string()))?;
        Ok(Self { saved, bound_to, point, cose_key })
    }

    fn is_bound_to(&self, policy: &[u8; 32]) -> Result<bool, KeyFault> {
        Ok(read_public("node key", &self.saved.key)?.auth_policy == policy)
    }

    /// The key for TPM commands.
    #[must_use]
    pub const fn blob(&self) -> &KeyBlob {
        &self.saved.key
    }

    /// TPM2B_PUBLIC.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.saved.key.public
    }

    /// TPMS_ATTEST of its certification by the AK.
    #[must_use]
    pub fn certification(&self) -> &[u8] {
        &self.saved.certification
    }

    /// TPMT_SIGNATURE over it.
    #[must_use]
    pub fn certification_signature(&self) -> &[u8] {
        &self.saved.certification_signature
    }

    /// The PCRs that it is bound to.
    #[must_use]
    pub const fn bound_to(&self) -> PcrSelection {
        self.bound_to
    }

    /// Its uncompressed point: the HPKE recipient.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// Its deterministic COSE_Key, as in bindings and artifacts.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        &self.cose_key
    }
}

/// What identifies the TPM itself.
#[derive(Clone, Debug)]
pub struct Endorsement {
    /// TPM2B_PUBLIC of the EK.
    pub public: Vec<u8>,
    /// EK certificate (DER), if the TPM holds one.
    pub certificate: Option<Vec<u8>>,
}

/// NV indices of EK certificates (EK Credential Profile 2.3, 2.2.1.4).
const RSA_2048_CERTIFICATE: u32 = 0x01C0_0002;
const ECC_P256_CERTIFICATE: u32 = 0x01C0_000A;

impl Endorsement {
    /// Makes the EK by its template and reads its certificate from NV memory.
    ///
    /// # Errors
    /// [`TpmError`].
    pub async fn read(tpm: &Tpm, kind: EkKind) -> Result<Self, TpmError> {
        let index = match kind {
            EkKind::Rsa2048 => RSA_2048_CERTIFICATE,
            EkKind::EccP256 => ECC_P256_CERTIFICATE,
        };
        tpm.call(move |device| {
            let public = device.ek_public(kind)?;
            let certificate = device.nv_read(index)?;
            Ok(Self { public, certificate: certificate.map(without_padding) })
        })
        .await
    }
}

/// Some vendors fill the NV index up behind the certificate; a DER SEQUENCE says its own length (X.690, 8.1.3).
fn without_padding(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(&[0x30, 0x82, high, low]) = bytes.first_chunk::<4>() {
        bytes.truncate(usize::from(u16::from_be_bytes([high, low])).saturating_add(4));
    }
    bytes
}

async fn present_policy(tpm: &Tpm, bound_to: PcrSelection) -> Result<[u8; 32], KeyFault> {
    let values = tpm.pcrs(bound_to).await?;
    policy_pcr_digest(&values, bound_to.pcrs, NAME_HASH)
        .and_then(|digest| digest.as_bytes().try_into().ok())
        .ok_or_else(|| KeyFault::Unusable { key: "node key", why: "no PCR to bind it to".to_owned() })
}

fn read_public<'a>(key: &'static str, blob: &'a KeyBlob) -> Result<Public<'a>, KeyFault> {
    Public::read(&blob.public).map_err(|denial| KeyFault::Unusable { key, why: denial.to_string() })
}

/// One file per selection, so that two domains that bind differently do not replace each other's key.
fn node_key_file(bound_to: &PcrSelection) -> String {
    let pcrs: Vec<String> = bound_to.pcrs.iter().map(|pcr| pcr.to_string()).collect();
    format!("tpm/node-key-{}-{}.blob", bound_to.bank.name(), pcrs.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_behind_a_certificate_is_dropped_and_nothing_else() {
        assert_eq!(without_padding(vec![0x30, 0x82, 0, 2, 1, 2, 0xff, 0xff]), [0x30, 0x82, 0, 2, 1, 2]);
        assert_eq!(without_padding(vec![0x30, 0x82, 0, 9, 1]), [0x30, 0x82, 0, 9, 1]);
        assert_eq!(without_padding(vec![1, 2, 3]), [1, 2, 3]);
    }
}
