//! What the firmware image says about itself to the hypervisor: SEV metadata (edk2,
//! `OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm`), the reset vector of all vCPUs but the first, and the place of the
//! kernel hashes.

use super::kernel::KernelHashes;
use crate::compute::{
    ArtifactError,
    bytes::Structure,
    ovmf::{Ovmf, PAGE_BYTES},
};

/// dc886566-984a-4798-a75e-5585a7bf67cc: distance of the metadata from the image's end.
const SEV_METADATA: [u8; 16] =
    [0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc];
/// 00f771de-1a7e-4fcb-890e-68c77e2fb44e: EIP at which all vCPUs but the first start.
const SEV_ES_RESET_BLOCK: [u8; 16] =
    [0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e];
/// 7255371f-3a3b-4b04-927b-1da6efa8d454: address and size of the area for kernel hashes.
const SEV_HASH_TABLE: [u8; 16] =
    [0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54];

/// Signature, length, version and number of sections.
const HEADER_BYTES: usize = 16;
/// Address, size and type, each u32.
const SECTION_BYTES: usize = 12;
/// Most sections; images have 4 to 8.
const SECTIONS_CAP: u32 = 64;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    /// Memory that the firmware uses before it validated any.
    SecMemory,
    /// The secrets page.
    Secrets,
    /// The CPUID page.
    Cpuid,
    /// The calling area of a secure VM service module.
    SvsmCaa,
    /// Hashes of kernel, initrd and command line.
    KernelHashes,
}

/// Memory that the hypervisor prepares, whole pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) kind: SectionKind,
    pub(super) gpa: u64,
    pub(super) pages: usize,
}

impl Section {
    /// Its addresses, first and one past the last.
    fn range(&self) -> (u64, u64) {
        let bytes = self.pages.saturating_mul(PAGE_BYTES);
        (self.gpa, self.gpa.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)))
    }
}

/// What an image says about launching it.
pub(super) struct SevMetadata {
    sections: Vec<Section>,
    ap_reset_vector: Option<u32>,
    hash_table: Option<HashTableArea>,
}

/// Where firmware looks for kernel hashes.
#[derive(Clone, Copy)]
struct HashTableArea {
    gpa: u64,
    size_bytes: usize,
}

impl SevMetadata {
    pub(super) fn read(ovmf: &Ovmf<'_>) -> Result<Self, ArtifactError> {
        let entry = ovmf.entry(&SEV_METADATA).ok_or(ArtifactError::Missing { what: "SEV metadata" })?;
        let sections = sections(&ovmf.before_end(entry, "SEV metadata")?)?;
        refuse_overlap(ovmf, &sections)?;
        let ap_reset_vector = ovmf.entry(&SEV_ES_RESET_BLOCK).map(|entry| entry.u32(0)).transpose()?;
        let hash_table = ovmf.entry(&SEV_HASH_TABLE).map(|entry| HashTableArea::read(&entry)).transpose()?;
        Ok(Self { sections, ap_reset_vector, hash_table })
    }

    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub(super) fn has(&self, kind: SectionKind) -> bool {
        self.sections.iter().any(|section| section.kind == kind)
    }

    /// EIP of all vCPUs but the first. An image without one, or with zero, cannot start them.
    pub(super) fn ap_reset_vector(&self) -> Result<u32, ArtifactError> {
        self.ap_reset_vector
            .filter(|eip| *eip != 0)
            .ok_or(ArtifactError::Missing { what: "reset block for a second vCPU" })
    }

    /// Offset of the hashes in their page. Firmware reads them where its table says, so that must be in the section.
    pub(super) fn kernel_hashes_offset(&self, section: &Section) -> Result<usize, ArtifactError> {
        let area = self.hash_table.filter(|area| area.gpa != 0);
        let area = area.ok_or(ArtifactError::Missing { what: "area for kernel hashes" })?;
        let (start, end) = section.range();
        let offset = area.gpa.checked_sub(start).filter(|_| area.gpa < end);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        if area.size_bytes < KernelHashes::TABLE_BYTES {
            return Err(ArtifactError::Missing { what: "area that is large enough for kernel hashes" });
        }
        offset.ok_or(ArtifactError::Missing { what: "area for kernel hashes inside its section" })
    }
}

impl HashTableArea {
    fn read(entry: &Structure<'_>) -> Result<Self, ArtifactError> {
        Ok(Self { gpa: entry.u32(0)?.into(), size_bytes: entry.size_u32(4)? })
    }
}

fn sections(metadata: &Structure<'_>) -> Result<Vec<Section>, ArtifactError> {
    if metadata.array(0)? != *b"ASEV" {
        return Err(metadata.malformed(0, "its signature is not ASEV"));
    }
    if metadata.u32(8)? != 1 {
        return Err(metadata.malformed(8, "only version 1 is known"));
    }
    let count = metadata.u32(12)?;
    if count == 0 || count > SECTIONS_CAP {
        let (got, cap) = (u64::from(count), u64::from(SECTIONS_CAP));
        return Err(ArtifactError::Count { what: "sections of SEV metadata", got, min: 1, cap });
    }
    let count = usize::try_from(count).map_err(|_| metadata.malformed(12, "too many"))?;
    let used = count.saturating_mul(SECTION_BYTES).saturating_add(HEADER_BYTES);
    if metadata.size_u32(4)? < used {
        return Err(metadata.malformed(4, "is shorter than its sections"));
    }
    (0..count)
        .map(|index| {
            let at = index.saturating_mul(SECTION_BYTES).saturating_add(HEADER_BYTES);
            section(&metadata.part("SEV metadata section", at, SECTION_BYTES)?)
        })
        .collect()
}

fn section(descriptor: &Structure<'_>) -> Result<Section, ArtifactError> {
    let kind = match descriptor.u32(8)? {
        1 => SectionKind::SecMemory,
        2 => SectionKind::Secrets,
        3 => SectionKind::Cpuid,
        4 => SectionKind::SvsmCaa,
        0x10 => SectionKind::KernelHashes,
        kind => return Err(ArtifactError::SectionUnknown { kind }),
    };
    let (gpa, size) = (descriptor.u32(0)?, descriptor.size_u32(4)?);
    if !u64::from(gpa).is_multiple_of(4096) || !size.is_multiple_of(PAGE_BYTES) || size == 0 {
        return Err(descriptor.malformed(0, "is not whole pages of 4096 bytes"));
    }
    let is_one_page = match kind {
        SectionKind::Secrets | SectionKind::Cpuid | SectionKind::KernelHashes => true,
        SectionKind::SecMemory | SectionKind::SvsmCaa => false,
    };
    if is_one_page && size != PAGE_BYTES {
        return Err(descriptor.malformed(4, "is not one page, as sections of its type are"));
    }
    Ok(Section { kind, gpa: gpa.into(), pages: size.checked_div(PAGE_BYTES).unwrap_or(0) })
}

/// No page is added to a guest twice. This bounds the work as well: sections are below 4 GiB.
fn refuse_overlap(ovmf: &Ovmf<'_>, sections: &[Section]) -> Result<(), ArtifactError> {
    let mut ranges: Vec<_> = sections.iter().map(Section::range).collect();
    ranges.push((ovmf.gpa(), 1 << 32));
    ranges.sort_unstable();
    let mut ends_at = (0, 0);
    for (start, end) in ranges {
        let (first, first_end) = ends_at;
        if start < first_end {
            return Err(ArtifactError::Overlap { first, first_end, second: start });
        }
        ends_at = (start, end);
    }
    Ok(())
}
