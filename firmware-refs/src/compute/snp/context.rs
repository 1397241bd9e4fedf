//! The guest context's launch digest, page by page (AMD 56860, §8.17.2, PAGE_INFO).

use evidence::digest::{Digest, HashAlg};

use super::metadata::Section;
use crate::compute::ovmf::{Ovmf, PAGE_BYTES};

/// The address under which firmware records save areas: page-aligned −1, without the bits above 51.
const VMSA_GPA: u64 = 0xffff_ffff_f000;
/// Length of PAGE_INFO in bytes.
const PAGE_INFO_BYTES: u16 = 0x70;

/// PAGE_TYPE of SNP_LAUNCH_UPDATE.
#[derive(Clone, Copy)]
pub(super) enum PageKind {
    Normal,
    Vmsa,
    Zero,
    Unmeasured,
    Secrets,
    Cpuid,
}

impl PageKind {
    const fn number(self) -> u8 {
        match self {
            Self::Normal => 1,
            Self::Vmsa => 2,
            Self::Zero => 3,
            Self::Unmeasured => 4,
            Self::Secrets => 5,
            Self::Cpuid => 6,
        }
    }
}

/// GCTX.LD while pages are added.
pub(super) struct LaunchContext {
    digest: Digest,
}

impl LaunchContext {
    pub(super) const fn new() -> Self {
        Self { digest: Digest::zero(HashAlg::Sha384) }
    }

    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// One page by the digest of its contents. No VMPL beside 0 may use it, and it is no initial migration image.
    pub(super) fn page(&mut self, kind: PageKind, gpa: u64, contents: Digest) {
        let [low, high] = PAGE_INFO_BYTES.to_le_bytes();
        let fields = [low, high, kind.number(), 0, 0, 0, 0, 0];
        self.digest = HashAlg::Sha384.hash(&[self.digest.as_bytes(), contents.as_bytes(), &fields, &gpa.to_le_bytes()]);
    }

    /// The whole firmware image.
    pub(super) fn image(&mut self, ovmf: &Ovmf<'_>) {
        for (gpa, page) in pages_from(ovmf.gpa()).zip(ovmf.bytes().chunks(PAGE_BYTES)) {
            self.page(PageKind::Normal, gpa, HashAlg::Sha384.hash(&[page]));
        }
    }

    /// A page whose contents are not measured: firmware or hardware fills it.
    pub(super) fn empty_page(&mut self, kind: PageKind, gpa: u64) {
        self.page(kind, gpa, Digest::zero(HashAlg::Sha384));
    }

    pub(super) fn empty_pages(&mut self, kind: PageKind, section: &Section) {
        for gpa in pages_from(section.gpa).take(section.pages) {
            self.empty_page(kind, gpa);
        }
    }

    pub(super) fn vcpu(&mut self, save_area: Digest) {
        self.page(PageKind::Vmsa, VMSA_GPA, save_area);
    }
}

/// Addresses of pages; all of them are below 4 GiB (sections are checked, the image ends there).
fn pages_from(gpa: u64) -> impl Iterator<Item = u64> {
    (gpa..=u64::MAX).step_by(PAGE_BYTES)
}
