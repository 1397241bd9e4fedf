//! Who vouches for an EK (T1, T2): its manufacturer by a certificate chain, or an operator by pinning it.

use der::asn1::ObjectIdentifier;
use serde_bytes::ByteBuf;

use super::{
    enrolment::ek_digest,
    public::{Curve, Public, PublicKey},
};
use crate::{
    EvidenceDenial,
    anchors::TrustAnchors,
    digest::Sha256Digest,
    time::UnixSeconds,
    x509::{Attribute, CHAIN_CAP, CURVE_P256, CURVE_P384, Certificate, SubjectKey, directory_name_attributes, walk},
};

/// Who vouches for the EK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkEndorsement {
    endorser: EkEndorser,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
}

/// The kinds of endorser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EkEndorser {
    /// A pinned manufacturer's root.
    Manufacturer(TpmMake),
    /// The root of a software TPM, in a lab.
    Simulated(TpmMake),
    /// An operator who pinned this EK; the TPM's make is not known by any signature.
    Operator,
}

/// What the EK certificate says the TPM is (TCG EK Credential Profile, subjectAltName).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmMake {
    /// TPM manufacturer identifier, for example `id:53544D20`.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Firmware version when certified, for example `id:00490004`.
    pub version: String,
    /// SHA-256 of the root's certificate.
    pub root: Sha256Digest,
    /// SHA-256 of the EK's certificate, without padding.
    pub certificate: Sha256Digest,
    /// notBefore of the EK's certificate.
    pub issued_at: UnixSeconds,
}

impl EkEndorsement {
    /// From and until when, both included.
    #[must_use]
    pub const fn validity(&self) -> (UnixSeconds, UnixSeconds) {
        (self.not_before, self.not_after)
    }

    /// Who.
    #[must_use]
    pub const fn endorser(&self) -> &EkEndorser {
        &self.endorser
    }

    /// The TPM's make, where a certificate says it.
    #[must_use]
    pub const fn make(&self) -> Option<&TpmMake> {
        match &self.endorser {
            EkEndorser::Manufacturer(make) | EkEndorser::Simulated(make) => Some(make),
            EkEndorser::Operator => None,
        }
    }
}

/// Finds who vouches for the EK whose TPM2B_PUBLIC is `ek_public` and reads as `ek`.
///
/// A pin stands in for a chain that is absent or does not verify; nothing stands in for what is revoked.
pub(crate) fn endorse_ek(
    ek_public: &[u8],
    ek: &Public<'_>,
    chain: &[ByteBuf],
    anchors: &TrustAnchors,
    now: UnixSeconds,
) -> Result<EkEndorsement, EvidenceDenial> {
    let digest = ek_digest(ek_public);
    anchors.refuse_revoked(digest)?;
    let by_chain = if chain.is_empty() {
        Err(EvidenceDenial::EkUnanchored { ek: digest })
    } else {
        let chain: Vec<&[u8]> = chain.iter().map(|der| der.as_slice()).collect();
        EkCertificate::verify(&chain, anchors, now).and_then(|certificate| {
            certificate.is_for(ek)?;
            Ok(certificate.endorsement)
        })
    };
    match by_chain {
        Ok(endorsement) => Ok(endorsement),
        Err(denial @ EvidenceDenial::Revoked { .. }) => Err(denial),
        Err(_) if anchors.set().pinned_eks.contains(&digest) => {
            let (not_before, not_after) = (UnixSeconds(0), UnixSeconds(u64::MAX));
            Ok(EkEndorsement { endorser: EkEndorser::Operator, not_before, not_after })
        }
        Err(denial) => Err(denial),
    }
}

/// An EK certificate that a pinned root vouches for. Made only by [`EkCertificate::verify`].
#[derive(Clone, Debug)]
pub struct EkCertificate {
    endorsement: EkEndorsement,
    key: CertifiedKey,
}

/// The key that a certificate is about.
#[derive(Clone, Debug)]
pub(super) enum CertifiedKey {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Ecc { curve: Curve, point: Vec<u8> },
}

impl EkCertificate {
    /// Judges a chain of DER certificates, the EK's first (T1).
    ///
    /// # Errors
    /// The first denial, with the position of its certificate.
    pub fn verify(chain: &[&[u8]], anchors: &TrustAnchors, now: UnixSeconds) -> Result<Self, EvidenceDenial> {
        if chain.len() > CHAIN_CAP {
            return Err(EvidenceDenial::TooMany { part: "certificates in a chain", cap: CHAIN_CAP });
        }
        let (leaf, issuers) = chain.split_first().ok_or(EvidenceDenial::Missing { part: "EK certificate" })?;
        let leaf = Certificate::read_padded(leaf)?;
        let issuers = issuers.iter().map(|der| Certificate::read(der)).collect::<Result<Vec<_>, _>>()?;
        judge_use(&leaf)?;
        let make = attributes(&leaf)?;
        let anchor = walk(&leaf, &issuers, anchors, now)?;
        let make = make.of(&leaf, anchor.root);
        let endorser = match (anchor.is_simulated, make.is_simulated()) {
            (true, _) => EkEndorser::Simulated(make),
            (false, false) => EkEndorser::Manufacturer(make),
            // a software TPM under a root that was pinned as hardware
            (false, true) => return Err(EvidenceDenial::SimulatedTpm),
        };
        let endorsement = EkEndorsement { endorser, not_before: anchor.not_before, not_after: anchor.not_after };
        Ok(Self { endorsement, key: CertifiedKey::of(&leaf)? })
    }

    /// Who vouches for it.
    #[must_use]
    pub const fn endorsement(&self) -> &EkEndorsement {
        &self.endorsement
    }

    /// Is the certified key the one of this public area (T2)?
    ///
    /// # Errors
    /// [`EvidenceDenial::EkKeyMismatch`].
    pub fn is_for(&self, ek: &Public<'_>) -> Result<(), EvidenceDenial> {
        if self.key.is_of(ek) { Ok(()) } else { Err(EvidenceDenial::EkKeyMismatch) }
    }
}

impl CertifiedKey {
    /// Is it the key of this public area?
    pub(super) fn is_of(&self, public: &Public<'_>) -> bool {
        match (self, &public.key) {
            (Self::Rsa { modulus, exponent }, PublicKey::Rsa { modulus: ours, .. }) => {
                modulus == ours && exponent == &PublicKey::rsa_exponent()
            }
            (Self::Ecc { curve, point }, PublicKey::Ecc { curve: ours, .. }) => {
                curve == ours && public.key.uncompressed_point().as_ref() == Some(point)
            }
            (Self::Rsa { .. }, PublicKey::Ecc { .. }) | (Self::Ecc { .. }, PublicKey::Rsa { .. }) => false,
        }
    }

    pub(super) fn of(leaf: &Certificate<'_>) -> Result<Self, EvidenceDenial> {
        match leaf.subject_key()? {
            SubjectKey::Rsa { modulus, exponent } => {
                Ok(Self::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
            }
            SubjectKey::Ecc { curve: CURVE_P256, point } => Ok(Self::Ecc { curve: Curve::P256, point: point.to_vec() }),
            SubjectKey::Ecc { curve: CURVE_P384, point } => Ok(Self::Ecc { curve: Curve::P384, point: point.to_vec() }),
            SubjectKey::Ecc { .. } => {
                Err(EvidenceDenial::KeyUnusable { what: "certified key on another curve than P-256 or P-384" })
            }
        }
    }
}

/// TCG EK Credential Profile, EK Certificate: not an authority, usable to decrypt or agree keys, and an EK by its EKU.
fn judge_use(leaf: &Certificate<'_>) -> Result<(), EvidenceDenial> {
    let unmet = |what| Err(EvidenceDenial::CertificateConstraint { position: 0, what });
    let extensions = &leaf.extensions;
    if extensions.basic_constraints.as_ref().is_some_and(|constraints| constraints.ca) {
        return unmet("no cA");
    }
    let decrypts = extensions.key_usage.as_ref().is_some_and(|usage| {
        (usage.key_encipherment() || usage.key_agreement()) && !usage.key_cert_sign() && !usage.crl_sign()
    });
    if !decrypts {
        return unmet("keyUsage keyEncipherment or keyAgreement, and none of an authority");
    }
    if !extensions.extended_key_usage.contains(&TCG_KP_EK_CERTIFICATE) {
        return unmet("extended key usage 2.23.133.8.1");
    }
    Ok(())
}

fn attributes(leaf: &Certificate<'_>) -> Result<UnanchoredMake, EvidenceDenial> {
    let names = leaf.extensions.subject_alt_name;
    let absent = EvidenceDenial::CertificateConstraint { position: 0, what: "subjectAltName with the TPM attributes" };
    let attributes = directory_name_attributes(names.ok_or_else(|| absent.clone())?)?;
    let find = |oid: ObjectIdentifier| {
        let found = attributes.iter().find(|attribute: &&Attribute<'_>| attribute.oid == oid);
        found
            .map(|attribute| attribute.value.to_owned())
            .filter(|value| !value.is_empty())
            .ok_or_else(|| absent.clone())
    };
    Ok(UnanchoredMake { manufacturer: find(TPM_MANUFACTURER)?, model: find(TPM_MODEL)?, version: find(TPM_VERSION)? })
}

struct UnanchoredMake {
    manufacturer: String,
    model: String,
    version: String,
}

impl UnanchoredMake {
    fn of(self, leaf: &Certificate<'_>, root: Sha256Digest) -> TpmMake {
        let Self { manufacturer, model, version } = self;
        TpmMake { manufacturer, model, version, root, certificate: leaf.digest(), issued_at: leaf.not_before }
    }
}

impl TpmMake {
    /// swtpm_cert's model; its manufacturer is a real one (IBM, who wrote the emulator).
    fn is_simulated(&self) -> bool {
        self.model.eq_ignore_ascii_case("swtpm")
    }
}

const TCG_KP_EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
const TPM_MANUFACTURER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.1");
const TPM_MODEL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.2");
const TPM_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.3");
