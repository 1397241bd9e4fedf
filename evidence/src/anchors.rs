//! What a domain trusts hardware by: pinned roots, pinned EKs, and what was taken back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    EvidenceDenial, cbor,
    digest::Sha256Digest,
    sev_snp::{ProductLine, SnpRoots, roots::RootsByLine},
    tdx::TdxRoots,
    x509::Certificate,
};

/// A TPM manufacturer's root, named by a digest: the certificate itself comes with the evidence or in
/// [`AnchorSet::ca_certificates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootPin {
    /// SHA-256 of the certificate's DER.
    Certificate(Sha256Digest),
    /// SHA-256 of the SubjectPublicKeyInfo; the certificate must then be self-signed, so that what else it says
    /// comes from that key.
    PublicKey(Sha256Digest),
}

/// Trust anchors as data: what is configured, logged and digested. Becomes [`TrustAnchors`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorSet {
    /// Roots of TPM manufacturers.
    pub tpm_roots: BTreeSet<RootPin>,
    /// Roots of software TPMs (swtpm-localca, test CAs). Anyone can make such a TPM say anything.
    pub simulated_tpm_roots: BTreeSet<RootPin>,
    /// Roots and intermediates (DER) for nodes that send only their EK certificate. Trusted for nothing by themselves.
    pub ca_certificates: BTreeSet<ByteBuf>,
    /// SHA-256 of each TPM2B_PUBLIC of an EK that an operator vouches for.
    pub pinned_eks: BTreeSet<Sha256Digest>,
    /// Roots of AMD (ARK), by the name of their product line: `Milan`, `Genoa`, `Turin`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snp_roots: RootsByLine,
    /// Roots of fake AMD chips, likewise. Anyone can make such a chip say anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub simulated_snp_roots: RootsByLine,
    /// Roots of Intel's PCK certificates and collateral.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tdx_roots: BTreeSet<RootPin>,
    /// Roots of fake Intel platforms. Anyone can make such a platform say anything.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub simulated_tdx_roots: BTreeSet<RootPin>,
    /// SHA-256 of a certificate's DER, of a SubjectPublicKeyInfo or of an EK's TPM2B_PUBLIC: never trusted again.
    pub revoked: BTreeSet<Sha256Digest>,
}

impl AnchorSet {
    fn genuine(&self) -> impl Iterator<Item = &RootPin> {
        self.tpm_roots.iter().chain(self.snp_roots.values().flatten()).chain(&self.tdx_roots)
    }

    fn simulated(&self) -> impl Iterator<Item = &RootPin> {
        let (snp, tdx) = (self.simulated_snp_roots.values().flatten(), &self.simulated_tdx_roots);
        self.simulated_tpm_roots.iter().chain(snp).chain(tdx)
    }

    fn unknown_line(&self) -> Option<&String> {
        let mut lines = self.snp_roots.keys().chain(self.simulated_snp_roots.keys());
        lines.find(|line| ProductLine::from_name(line).is_none())
    }
}

/// The anchors that evidence is judged by.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    set: AnchorSet,
    digest: Sha256Digest,
}

/// Anchors that may not be used as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Nothing could ever be trusted.
    #[error("no root and no EK is trusted: an empty set of anchors is a mistake")]
    Empty,
    /// Simulated roots outside a lab.
    #[error("{count} roots of simulated hardware are listed, which only a lab domain may trust")]
    Simulated {
        /// How many.
        count: usize,
    },
    /// AMD has no such product line: the roots under it would never be used.
    #[error("{name:?} is no product line of AMD's")]
    ProductLine {
        /// The name.
        name: String,
    },
    /// One of the CA certificates is not one.
    #[error("CA certificate {sha256} cannot be read: {denial}")]
    Certificate {
        /// SHA-256 of its bytes.
        sha256: Sha256Digest,
        /// Why.
        denial: Box<EvidenceDenial>,
    },
    /// They could not be encoded for their digest.
    #[error(transparent)]
    Encoding(#[from] cbor::CborError),
}

impl TrustAnchors {
    /// Anchors of real hardware and operator-pinned EKs.
    ///
    /// # Errors
    /// [`AnchorError`] when the set is empty or lists simulated roots.
    pub fn new(set: AnchorSet) -> Result<Self, AnchorError> {
        match set.simulated().count() {
            0 => Self::admit(set),
            count => Err(AnchorError::Simulated { count }),
        }
    }

    /// DANGER: also accepts what chains to the simulated roots listed. Whoever holds such a root's key, or the
    /// process that plays the hardware, makes any evidence. For a domain that guards nothing real.
    ///
    /// # Errors
    /// [`AnchorError`] when the set is empty.
    pub fn lab_accepting_simulated(set: AnchorSet) -> Result<Self, AnchorError> {
        Self::admit(set)
    }

    fn admit(set: AnchorSet) -> Result<Self, AnchorError> {
        if set.genuine().chain(set.simulated()).next().is_none() && set.pinned_eks.is_empty() {
            return Err(AnchorError::Empty);
        }
        if let Some(line) = set.unknown_line() {
            return Err(AnchorError::ProductLine { name: line.clone() });
        }
        for der in &set.ca_certificates {
            let unreadable =
                |denial| AnchorError::Certificate { sha256: Sha256Digest::of(der), denial: Box::new(denial) };
            Certificate::read(der).map_err(unreadable)?;
        }
        let digest = Sha256Digest::of(&cbor::to_vec(&set)?);
        Ok(Self { set, digest })
    }

    /// What SNP evidence is judged by.
    #[must_use]
    pub const fn snp_roots(&self) -> SnpRoots<'_> {
        SnpRoots::lab_accepting_simulated(&self.set.snp_roots, &self.set.simulated_snp_roots, &self.set.revoked)
    }

    /// What TDX evidence is judged by.
    #[must_use]
    pub const fn tdx_roots(&self) -> TdxRoots<'_> {
        TdxRoots::lab_accepting_simulated(&self.set.tdx_roots, &self.set.simulated_tdx_roots, &self.set.revoked)
    }

    /// The anchors as data.
    #[must_use]
    pub const fn set(&self) -> &AnchorSet {
        &self.set
    }

    /// SHA-256 of the deterministic CBOR of the set: names these anchors in results and logs.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Refuses what was taken back.
    pub(crate) fn refuse_revoked(&self, what: Sha256Digest) -> Result<(), EvidenceDenial> {
        if self.set.revoked.contains(&what) { Err(EvidenceDenial::Revoked { sha256: what }) } else { Ok(()) }
    }
}
