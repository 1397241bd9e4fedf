//! Certificates that some makers of virtual TPMs issue for an AK, in place of a proof by its EK.

use der::asn1::ObjectIdentifier;

use super::{ek::CertifiedKey, public::Public};
use crate::{
    EvidenceDenial,
    anchors::TrustAnchors,
    digest::Sha256Digest,
    time::UnixSeconds,
    x509::{CHAIN_CAP, Certificate, walk},
};

/// An AK certificate that a pinned root vouches for. Made only by [`AkCertificate::verify`].
#[derive(Clone, Debug)]
pub struct AkCertificate {
    key: CertifiedKey,
    key_info: Vec<u8>,
    root: Sha256Digest,
}

impl AkCertificate {
    /// Judges a chain of DER certificates, the AK's first.
    ///
    /// # Errors
    /// The first denial, with the position of its certificate.
    pub fn verify(chain: &[&[u8]], anchors: &TrustAnchors, now: UnixSeconds) -> Result<Self, EvidenceDenial> {
        if chain.len() > CHAIN_CAP {
            return Err(EvidenceDenial::TooMany { part: "certificates in a chain", cap: CHAIN_CAP });
        }
        let (leaf, issuers) = chain.split_first().ok_or(EvidenceDenial::Missing { part: "AK certificate" })?;
        let leaf = Certificate::read_padded(leaf)?;
        let issuers = issuers.iter().map(|der| Certificate::read(der)).collect::<Result<Vec<_>, _>>()?;
        judge_use(&leaf)?;
        let root = walk(&leaf, &issuers, anchors, now)?.root;
        Ok(Self { key: CertifiedKey::of(&leaf)?, key_info: leaf.public_key_info.to_vec(), root })
    }

    /// SHA-256 of the root's certificate.
    #[must_use]
    pub const fn root(&self) -> Sha256Digest {
        self.root
    }

    /// Is the certified key the one of this public area?
    ///
    /// # Errors
    /// [`EvidenceDenial::AkKeyMismatch`].
    pub fn is_for(&self, ak: &Public<'_>) -> Result<(), EvidenceDenial> {
        if self.key.is_of(ak) { Ok(()) } else { Err(EvidenceDenial::AkKeyMismatch) }
    }

    /// Is the certified key this SubjectPublicKeyInfo?
    ///
    /// # Errors
    /// [`EvidenceDenial::AkKeyMismatch`].
    pub fn is_for_key_info(&self, spki: &[u8]) -> Result<(), EvidenceDenial> {
        if self.key_info == spki { Ok(()) } else { Err(EvidenceDenial::AkKeyMismatch) }
    }
}

/// TCG EK Credential Profile and AK certificates in the field: signs, is no authority, and is for a TPM's key.
/// Google certifies AKs with the extended key usage of an EK.
fn judge_use(leaf: &Certificate<'_>) -> Result<(), EvidenceDenial> {
    let unmet = |what| Err(EvidenceDenial::CertificateConstraint { position: 0, what });
    let extensions = &leaf.extensions;
    if extensions.basic_constraints.as_ref().is_some_and(|constraints| constraints.ca) {
        return unmet("no cA");
    }
    let signs = extensions.key_usage.as_ref();
    if !signs.is_some_and(|usage| usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign()) {
        return unmet("keyUsage digitalSignature, and none of an authority");
    }
    let is_tpm_key = [TCG_KP_AIK_CERTIFICATE, TCG_KP_EK_CERTIFICATE].iter();
    if !is_tpm_key.clone().any(|usage| extensions.extended_key_usage.contains(usage)) {
        return unmet("extended key usage 2.23.133.8.3 or 2.23.133.8.1");
    }
    Ok(())
}

const TCG_KP_EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
const TCG_KP_AIK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");
