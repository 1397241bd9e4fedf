//! What targets share: genuine evidence of simulated machines, made anew in every run, and changes of it.

use std::{collections::BTreeMap, collections::BTreeSet};

use evidence::{
    anchors::RootPin,
    digest::Sha256Digest,
    sev_snp::{SnpRoots, roots::RootsByLine},
    tdx::TdxRoots,
};

/// Instant of all evidence, Unix seconds.
pub const NOW: u64 = 1_790_000_000;

/// `genuine` with bytes replaced: offset (two bytes, little-endian) and byte, again and again. What is left over, one
/// byte or two, is put at its end.
pub fn patched(genuine: &[u8], patches: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    let (patches, rest) = patches.as_chunks::<3>();
    for [low, high, byte] in patches {
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        if let Some(slot) = bytes.get_mut(at) {
            *slot = *byte;
        }
    }
    bytes.extend_from_slice(rest);
    bytes
}

/// Roots of one simulated vendor, pinned by certificate.
pub struct Roots {
    none: RootsByLine,
    lines: RootsByLine,
    pins: BTreeSet<RootPin>,
    no_pins: BTreeSet<RootPin>,
    revoked: BTreeSet<Sha256Digest>,
}

impl Roots {
    /// Pins `root` (DER) as `line`'s and as Intel's.
    pub fn of(line: &str, root: &[u8]) -> Self {
        let pins = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(root))]);
        Self {
            none: BTreeMap::new(),
            lines: BTreeMap::from([(line.to_owned(), pins.clone())]),
            pins,
            no_pins: BTreeSet::new(),
            revoked: BTreeSet::new(),
        }
    }

    pub fn snp(&self) -> SnpRoots<'_> {
        SnpRoots::lab_accepting_simulated(&self.none, &self.lines, &self.revoked)
    }

    pub fn tdx(&self) -> TdxRoots<'_> {
        TdxRoots::lab_accepting_simulated(&self.no_pins, &self.pins, &self.revoked)
    }
}
