//! Who vouches for an EK (T1, T2): its manufacturer by a certificate chain, or an operator by pinning it.

use serde_bytes::ByteBuf;

use super::{enrolment::ek_digest, public::Public};
use crate::{EvidenceDenial, anchors::TrustAnchors, digest::Sha256Digest, time::UnixSeconds};

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

/// What the EK certificate says the TPM is (TCG EK Credential Profile §3.2.9, subjectAltName).
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
}

/// Finds who vouches for an EK.
pub(crate) fn endorse_ek(
    ek_public: &[u8],
    _ek: &Public<'_>,
    _chain: &[ByteBuf],
    anchors: &TrustAnchors,
    _now: UnixSeconds,
) -> Result<EkEndorsement, EvidenceDenial> {
    let ek = ek_digest(ek_public);
    anchors.refuse_revoked(ek)?;
    if anchors.set().pinned_eks.contains(&ek) {
        let (not_before, not_after) = (UnixSeconds(0), UnixSeconds(u64::MAX));
        return Ok(EkEndorsement { endorser: EkEndorser::Operator, not_before, not_after });
    }
    Err(EvidenceDenial::EkUnanchored { ek })
}
