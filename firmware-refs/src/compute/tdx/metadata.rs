//! TDVF metadata: which parts of the image, and which other memory, the hypervisor puts into a trust domain (Intel TDX
//! Virtual Firmware Design Guide, §11, TDVF descriptor).

use crate::compute::{
    ArtifactError,
    bytes::Structure,
    ovmf::{Ovmf, PAGE_BYTES},
};

/// e47a6535-984a-4798-865e-4685a7bf8ec2: distance of the metadata from the image's end.
const TDX_METADATA: [u8; 16] =
    [0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2];
/// Signature, length, version and number of sections.
const HEADER_BYTES: usize = 16;
const SECTION_BYTES: usize = 32;
/// Most sections; images have 5 to 8.
const SECTIONS_CAP: u32 = 64;
/// Most memory that all sections together may name: more than any firmware uses before it accepts memory itself.
const MEMORY_CAP_BYTES: usize = 1 << 30;

/// MR.EXTEND: contents are measured.
const EXTEND: u32 = 1;
/// PAGE.AUG: the page is added at run time, so not measured at all.
const AUGMENT: u32 = 2;

/// Memory that the hypervisor prepares before the launch is final.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    /// Guest physical address.
    pub(super) gpa: u64,
    /// Length in bytes, whole pages.
    pub(super) bytes: usize,
    /// Contents that are measured, as long as the section; `None` where only its pages' addresses are. Memory that is
    /// measured as zeros has empty contents.
    pub(super) extended: Option<&'a [u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Boot firmware volume and configuration volume: parts of the image.
    Image,
    /// Memory that begins as zeros.
    Memory,
    /// The list of resources that the hypervisor writes.
    HandOff,
}

/// The sections that are added before launch, in the order of the metadata.
pub(super) fn sections<'a>(ovmf: &Ovmf<'a>) -> Result<Vec<Section<'a>>, ArtifactError> {
    let entry = ovmf.entry(&TDX_METADATA).ok_or(ArtifactError::Missing { what: "TDX metadata" })?;
    let metadata = ovmf.before_end(entry, "TDX metadata")?;
    if metadata.array(0)? != *b"TDVF" {
        return Err(metadata.malformed(0, "its signature is not TDVF"));
    }
    if metadata.u32(8)? != 1 {
        return Err(metadata.malformed(8, "only version 1 is known"));
    }
    let count = metadata.u32(12)?;
    if count == 0 || count > SECTIONS_CAP {
        let (got, cap) = (u64::from(count), u64::from(SECTIONS_CAP));
        return Err(ArtifactError::Count { what: "sections of TDX metadata", got, min: 1, cap });
    }
    let count = usize::try_from(count).map_err(|_| metadata.malformed(12, "too many"))?;
    let used = count.saturating_mul(SECTION_BYTES).saturating_add(HEADER_BYTES);
    if metadata.size_u32(4)? < used {
        return Err(metadata.malformed(4, "is shorter than its sections"));
    }
    let mut sections = Vec::new();
    let mut left = MEMORY_CAP_BYTES;
    for index in 0..count {
        let at = index.saturating_mul(SECTION_BYTES).saturating_add(HEADER_BYTES);
        let descriptor = metadata.part("TDX metadata section", at, SECTION_BYTES)?;
        if let Some(section) = section(ovmf, &descriptor)? {
            let rest = left.checked_sub(section.bytes);
            left = rest.ok_or_else(|| descriptor.malformed(16, "more memory than firmware needs before it runs"))?;
            sections.push(section);
        }
    }
    refuse_overlap(&sections)?;
    Ok(sections)
}

/// One section; `None` for memory that is added at run time.
fn section<'a>(ovmf: &Ovmf<'a>, descriptor: &Structure<'_>) -> Result<Option<Section<'a>>, ArtifactError> {
    let (data_offset, data_bytes) = (descriptor.size_u32(0)?, descriptor.size_u32(4)?);
    let gpa = descriptor.u64(8)?;
    let bytes = usize::try_from(descriptor.u64(16)?).map_err(|_| descriptor.malformed(16, "is too large"))?;
    let (number, attributes) = (descriptor.u32(24)?, descriptor.u32(28)?);
    let kind = match number {
        0 | 1 => Kind::Image,
        2 => Kind::HandOff,
        3 | 4 => Kind::Memory,
        kind => return Err(ArtifactError::SectionUnknown { kind }),
    };
    if !gpa.is_multiple_of(4096) || !bytes.is_multiple_of(PAGE_BYTES) || bytes == 0 {
        return Err(descriptor.malformed(8, "is not whole pages of 4096 bytes"));
    }
    if gpa.checked_add(u64::try_from(bytes).unwrap_or(u64::MAX)).is_none() {
        return Err(descriptor.malformed(8, "ends beyond all addresses"));
    }
    match (attributes, kind) {
        (AUGMENT, Kind::Memory) => return Ok(None),
        (0 | EXTEND, _) => {}
        _ => return Err(descriptor.malformed(28, "has attributes that do not go with its type")),
    }
    let contents = match kind {
        // zeros after shorter contents, or what follows in the image: specification and QEMU part here
        Kind::Image if data_bytes != bytes => {
            return Err(descriptor.malformed(4, "its contents are not as long as its memory"));
        }
        Kind::Image => ovmf.image().part("TDX metadata section", data_offset, data_bytes)?.bytes(),
        Kind::HandOff if attributes == EXTEND => {
            return Err(descriptor.malformed(28, "measures what the hypervisor writes"));
        }
        Kind::HandOff | Kind::Memory if data_bytes != 0 => {
            return Err(descriptor.malformed(4, "has contents, which memory of its type has not"));
        }
        Kind::HandOff | Kind::Memory => &[],
    };
    Ok(Some(Section { gpa, bytes, extended: (attributes == EXTEND).then_some(contents) }))
}

/// No page is added twice.
fn refuse_overlap(sections: &[Section<'_>]) -> Result<(), ArtifactError> {
    let length = |section: &Section<'_>| u64::try_from(section.bytes).unwrap_or(u64::MAX);
    let mut ranges: Vec<_> =
        sections.iter().map(|section| (section.gpa, section.gpa.saturating_add(length(section)))).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if let [(first, first_end), (second, _)] = *pair
            && second < first_end
        {
            return Err(ArtifactError::Overlap { first, first_end, second });
        }
    }
    Ok(())
}
