//! MRTD: one SHA-384 over what the TDX module did to build the trust domain (Intel TDX Module ABI, TDH.MEM.PAGE.ADD
//! and TDH.MR.EXTEND; TDX Module Base Specification, §12.2.1, MRTD).

use aws_lc_rs::digest::{Context, SHA384};
use evidence::digest::{Digest, HashAlg};

use super::metadata::{Section, sections};
use crate::compute::{
    ArtifactError,
    ovmf::{Ovmf, PAGE_BYTES},
};

/// Bytes that one TDH.MR.EXTEND measures.
const CHUNK_BYTES: usize = 256;
/// Length of what describes an operation: its name, the address, and zeros.
const OPERATION_BYTES: usize = 128;

/// When the hypervisor has the contents of a page measured. The calls are hashed in their order, so it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendOrder {
    /// Each page right after it was added: QEMU 9 and later (KVM_TDX_INIT_MEM_REGION).
    AfterPage,
    /// A section's pages once all of them were added: QEMU 8 with the patches that distributions shipped.
    AfterSection,
}

/// MRTD of a trust domain that is launched with this firmware.
///
/// # Errors
/// [`ArtifactError`] for metadata that cannot be measured.
pub fn mrtd(ovmf: &Ovmf<'_>, order: ExtendOrder) -> Result<Digest, ArtifactError> {
    let mut measured = Measured(Context::new(&SHA384));
    for section in sections(ovmf)? {
        match order {
            ExtendOrder::AfterPage => {
                for page in pages(&section) {
                    measured.add(page.gpa);
                    measured.extend(&page);
                }
            }
            ExtendOrder::AfterSection => {
                pages(&section).for_each(|page| measured.add(page.gpa));
                pages(&section).for_each(|page| measured.extend(&page));
            }
        }
    }
    let digest = measured.0.finish();
    Ok(Digest::from_bytes(HashAlg::Sha384, digest.as_ref()).unwrap_or(Digest::zero(HashAlg::Sha384)))
}

struct Page<'a> {
    gpa: u64,
    /// What is measured of it, if anything is.
    extended: Option<&'a [u8]>,
}

const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

fn pages<'a>(section: &Section<'a>) -> impl Iterator<Item = Page<'a>> {
    let extended = section.extended;
    let gpas = (section.gpa..=u64::MAX).step_by(PAGE_BYTES);
    (0..section.bytes).step_by(PAGE_BYTES).zip(gpas).map(move |(offset, gpa)| {
        let page = |contents: &'a [u8]| contents.get(offset..).and_then(|rest| rest.get(..PAGE_BYTES));
        Page { gpa, extended: extended.map(|contents| page(contents).unwrap_or(&ZEROS)) }
    })
}

struct Measured(Context);

impl Measured {
    fn add(&mut self, gpa: u64) {
        self.operation(b"MEM.PAGE.ADD\0\0\0\0", gpa);
    }

    fn extend(&mut self, page: &Page<'_>) {
        let chunks = page.extended.unwrap_or_default().chunks(CHUNK_BYTES);
        for (gpa, chunk) in (page.gpa..=u64::MAX).step_by(CHUNK_BYTES).zip(chunks) {
            self.operation(b"MR.EXTEND\0\0\0\0\0\0\0", gpa);
            self.0.update(chunk);
        }
    }

    fn operation(&mut self, name: &[u8; 16], gpa: u64) {
        self.0.update(name);
        self.0.update(&gpa.to_le_bytes());
        self.0.update(ZEROS.get(..OPERATION_BYTES.saturating_sub(24)).unwrap_or(&ZEROS));
    }
}
