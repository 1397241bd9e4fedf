//! The roots that PCK certificates and collateral must lead to, by digest.

use std::{collections::BTreeSet, sync::LazyLock};

use super::chain::Signatures;
use crate::{EvidenceDenial, anchors::RootPin, digest::Sha256Digest, x509::Certificate};

/// SHA-256 of the SubjectPublicKeyInfo of "Intel SGX Root CA", valid until 2049-12-31.
pub const INTEL_SGX_ROOT_CA_KEY: Sha256Digest = Sha256Digest([
    0xa0, 0xaf, 0x03, 0x12, 0x89, 0xf5, 0xd5, 0xd4, 0x13, 0x2f, 0x91, 0x86, 0x06, 0x8a, 0x7f, 0xc1, 0x36, 0x28, 0x63,
    0x3b, 0xa2, 0x35, 0x77, 0x74, 0x72, 0xe2, 0x9b, 0x6b, 0x6c, 0x67, 0xa4, 0x9e,
]);

/// SHA-256 of that root's certificate as Intel ships it since 2018, serial 22650CD6…06AC.
pub const INTEL_SGX_ROOT_CA: Sha256Digest = Sha256Digest([
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35, 0x0e, 0x74, 0x24,
    0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
]);

/// Intel's roots: by certificate, whose signature over itself then says nothing more, and by key for one issued anew.
pub static GENUINE_ROOTS: LazyLock<BTreeSet<RootPin>> = LazyLock::new(|| {
    BTreeSet::from([RootPin::Certificate(INTEL_SGX_ROOT_CA), RootPin::PublicKey(INTEL_SGX_ROOT_CA_KEY)])
});

/// What TDX evidence is judged by: pinned roots and what was taken back. Borrowed from anchors.
#[derive(Clone, Copy, Debug)]
pub struct TdxRoots<'a> {
    roots: &'a BTreeSet<RootPin>,
    simulated: &'a BTreeSet<RootPin>,
    revoked: &'a BTreeSet<Sha256Digest>,
}

impl TdxRoots<'static> {
    /// Intel's root alone.
    #[must_use]
    pub fn genuine() -> Self {
        Self { roots: &GENUINE_ROOTS, simulated: &NO_ROOTS, revoked: &NOTHING_REVOKED }
    }
}

impl<'a> TdxRoots<'a> {
    /// DANGER: also trusts `simulated` roots, whose keys anyone may hold. For a lab.
    #[must_use]
    pub const fn lab_accepting_simulated(
        roots: &'a BTreeSet<RootPin>,
        simulated: &'a BTreeSet<RootPin>,
        revoked: &'a BTreeSet<Sha256Digest>,
    ) -> Self {
        Self { roots, simulated, revoked }
    }

    /// Whether `anchor`, where a chain ended before, is still pinned, and if so whether as a simulated root only.
    pub(super) fn hold(&self, anchor: &RootAnchor) -> Option<bool> {
        self.pinned(|pin| *pin == RootPin::Certificate(anchor.certificate) || *pin == RootPin::PublicKey(anchor.key))
    }

    /// Whether `root` is pinned, and if so whether as a simulated one only. By its key only when it is self-signed, so
    /// that all it says comes from that key.
    pub(super) fn pin(&self, root: &Certificate<'_>, signatures: &mut Signatures) -> Option<bool> {
        let anchor = RootAnchor::of(root);
        let by_certificate = self.pinned(|pin| *pin == RootPin::Certificate(anchor.certificate));
        if by_certificate == Some(false) {
            return by_certificate;
        }
        let by_key = self.pinned(|pin| *pin == RootPin::PublicKey(anchor.key));
        let mut is_self_signed = || root.issuer == root.subject && signatures.verify(root, root).is_ok();
        if by_key.is_some() && is_self_signed() { by_key } else { by_certificate }
    }

    fn pinned(&self, is_of: impl Fn(&RootPin) -> bool) -> Option<bool> {
        if self.roots.iter().any(&is_of) {
            Some(false)
        } else if self.simulated.iter().any(&is_of) {
            Some(true)
        } else {
            None
        }
    }

    /// Refuses what was taken back.
    pub(super) fn refuse_revoked(&self, what: Sha256Digest) -> Result<(), EvidenceDenial> {
        if self.revoked.contains(&what) { Err(EvidenceDenial::Revoked { sha256: what }) } else { Ok(()) }
    }
}

static NO_ROOTS: BTreeSet<RootPin> = BTreeSet::new();
static NOTHING_REVOKED: BTreeSet<Sha256Digest> = BTreeSet::new();

/// Refuses a root certificate (DER) that a peer offers and that is none of `roots`.
///
/// # Errors
/// [`EvidenceDenial::Malformed`], or [`EvidenceDenial::ChainUnanchored`].
pub fn verify_root(der: &[u8], roots: &TdxRoots<'_>) -> Result<(), EvidenceDenial> {
    let root = Certificate::read(der)?;
    if roots.pin(&root, &mut Signatures::default()).is_some() {
        return Ok(());
    }
    Err(EvidenceDenial::ChainUnanchored { position: 0, sha256: root.digest() })
}

/// A root that a chain was verified up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootAnchor {
    /// SHA-256 of the certificate's DER.
    pub certificate: Sha256Digest,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Sha256Digest,
}

impl RootAnchor {
    pub(super) fn of(root: &Certificate<'_>) -> Self {
        Self { certificate: root.digest(), key: root.key_digest() }
    }
}
