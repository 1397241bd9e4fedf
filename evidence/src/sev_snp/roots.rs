//! AMD's certificates that are known before any evidence comes: as published by AMD's key distribution service,
//! `https://kdsintf.amd.com/vcek/v1/{product}/cert_chain`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use super::product::ProductLine;
use crate::{EvidenceDenial, anchors::RootPin, digest::Sha256Digest};

/// Roots by the name of their product line.
pub type RootsByLine = BTreeMap<String, BTreeSet<RootPin>>;

/// SHA-256 of AMD's root of a product line, of its DER.
#[must_use]
pub const fn genuine_ark_digest(line: ProductLine) -> Sha256Digest {
    Sha256Digest(match line {
        ProductLine::Milan => MILAN_ARK_SHA256,
        ProductLine::Genoa => GENOA_ARK_SHA256,
        ProductLine::Turin => TURIN_ARK_SHA256,
    })
}

/// AMD's root of a product line (ARK), DER.
#[must_use]
pub const fn genuine_ark(line: ProductLine) -> &'static [u8] {
    match line {
        ProductLine::Milan => include_bytes!("certificates/milan-ark.der"),
        ProductLine::Genoa => include_bytes!("certificates/genoa-ark.der"),
        ProductLine::Turin => include_bytes!("certificates/turin-ark.der"),
    }
}

/// AMD's issuer of VCEKs of a product line (ASK), DER. Issuers of VLEKs (ASVK) come with the evidence.
#[must_use]
pub const fn genuine_ask(line: ProductLine) -> &'static [u8] {
    match line {
        ProductLine::Milan => include_bytes!("certificates/milan-ask.der"),
        ProductLine::Genoa => include_bytes!("certificates/genoa-ask.der"),
        ProductLine::Turin => include_bytes!("certificates/turin-ask.der"),
    }
}

/// AMD's roots, one for each product line.
pub static GENUINE_ROOTS: LazyLock<RootsByLine> = LazyLock::new(|| {
    let pin = |line| BTreeSet::from([RootPin::Certificate(genuine_ark_digest(line))]);
    ProductLine::ALL.into_iter().map(|line| (line.name().to_owned(), pin(line))).collect()
});

/// What SNP evidence is judged by: pinned roots and what was taken back. Borrowed from anchors.
#[derive(Clone, Copy, Debug)]
pub struct SnpRoots<'a> {
    roots: &'a RootsByLine,
    simulated: &'a RootsByLine,
    revoked: &'a BTreeSet<Sha256Digest>,
}

impl SnpRoots<'static> {
    /// AMD's roots alone.
    #[must_use]
    pub fn genuine() -> Self {
        Self { roots: &GENUINE_ROOTS, simulated: &NO_ROOTS, revoked: &NOTHING_REVOKED }
    }
}

impl<'a> SnpRoots<'a> {
    /// DANGER: also trusts `simulated` roots, whose keys anyone may hold. For a lab.
    #[must_use]
    pub const fn lab_accepting_simulated(
        roots: &'a RootsByLine,
        simulated: &'a RootsByLine,
        revoked: &'a BTreeSet<Sha256Digest>,
    ) -> Self {
        Self { roots, simulated, revoked }
    }

    /// Whether a root is pinned for `line`, and if so whether as a simulated one only.
    pub(crate) fn pinned(&self, line: ProductLine, pin: &RootPin) -> Option<bool> {
        let is_in = |roots: &RootsByLine| roots.get(line.name()).is_some_and(|pins| pins.contains(pin));
        if is_in(self.roots) {
            Some(false)
        } else if is_in(self.simulated) {
            Some(true)
        } else {
            None
        }
    }

    /// Refuses what was taken back.
    pub(crate) fn refuse_revoked(&self, what: Sha256Digest) -> Result<(), EvidenceDenial> {
        if self.revoked.contains(&what) { Err(EvidenceDenial::Revoked { sha256: what }) } else { Ok(()) }
    }
}

static NO_ROOTS: RootsByLine = BTreeMap::new();
static NOTHING_REVOKED: BTreeSet<Sha256Digest> = BTreeSet::new();

const MILAN_ARK_SHA256: [u8; 32] = [
    0x69, 0xd0, 0x63, 0xb4, 0x53, 0x44, 0xd2, 0x6a, 0x2e, 0x94, 0xe1, 0xf4, 0x21, 0x0d, 0xe4, 0x9e, 0xf5, 0x55, 0x30,
    0x82, 0x87, 0xd4, 0xc1, 0x74, 0x44, 0x5c, 0x95, 0x63, 0x9a, 0x54, 0x0b, 0xcd,
];
const GENOA_ARK_SHA256: [u8; 32] = [
    0x4c, 0x65, 0x98, 0xd1, 0x9c, 0x18, 0x71, 0x9c, 0x5d, 0xfd, 0x4a, 0x7d, 0x33, 0x5f, 0x67, 0x4e, 0x5b, 0xfe, 0x1d,
    0x8f, 0x80, 0x0c, 0xea, 0x2c, 0xf2, 0x70, 0xc1, 0x0d, 0x10, 0x3d, 0xb2, 0xf1,
];
const TURIN_ARK_SHA256: [u8; 32] = [
    0x1f, 0x08, 0x41, 0x61, 0xa4, 0x4b, 0xb6, 0xd9, 0x37, 0x78, 0xa9, 0x04, 0x87, 0x7d, 0x48, 0x19, 0xca, 0xfa, 0x5d,
    0x05, 0xef, 0x41, 0x93, 0xb2, 0xde, 0xd9, 0xdd, 0x9c, 0x73, 0xdd, 0x3f, 0x6a,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificates_carried_are_the_ones_pinned() {
        for line in ProductLine::ALL {
            assert_eq!(Sha256Digest::of(genuine_ark(line)), genuine_ark_digest(line));
            assert_ne!(genuine_ask(line), genuine_ark(line));
        }
        assert_eq!(GENUINE_ROOTS.len(), ProductLine::ALL.len());
    }
}
