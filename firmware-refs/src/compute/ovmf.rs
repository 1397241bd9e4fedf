//! A firmware image for virtual machines (OVMF and its kin): where it lies in guest memory, and the table of GUIDs at
//! its end (edk2, `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`).

use std::collections::BTreeMap;

use super::{ArtifactError, bytes::Structure};

/// Largest image; firmware for virtual machines has 2 to 16 MiB.
pub const IMAGE_CAP_BYTES: usize = 64 << 20;
/// A page of guest memory.
pub const PAGE_BYTES: usize = 4096;
/// Guest physical address at which the image ends.
const END_GPA: u64 = 1 << 32;
/// Bytes between the table and the end of the image: the reset vector.
const AFTER_TABLE_BYTES: usize = 32;
/// Length (u16) and GUID after the data of each entry.
const ENTRY_BYTES: usize = 18;
/// 96b582de-1fb2-45f7-baea-a366c55a082d
const TABLE_FOOTER: [u8; 16] =
    [0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d];

/// A firmware image with its table read.
#[derive(Clone, Debug)]
pub struct Ovmf<'a> {
    image: Structure<'a>,
    /// Data of each entry, by GUID as it stands in memory.
    entries: BTreeMap<[u8; 16], Structure<'a>>,
}

impl<'a> Ovmf<'a> {
    /// Reads an image: whole pages that end in a table of GUIDs.
    ///
    /// # Errors
    /// [`ArtifactError::TooLarge`], [`ArtifactError::Malformed`], [`ArtifactError::Missing`] without the table.
    pub fn parse(image: &'a [u8]) -> Result<Self, ArtifactError> {
        if image.len() > IMAGE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (image.len(), IMAGE_CAP_BYTES);
            return Err(ArtifactError::TooLarge { what: "firmware image", got_bytes, cap_bytes });
        }
        let image = Structure::new("firmware image", 0, image);
        if image.len() == 0 || !image.len().is_multiple_of(PAGE_BYTES) {
            return Err(image.malformed(image.len(), "is not whole pages of 4096 bytes"));
        }
        let entries = table(&image)?;
        Ok(Self { image, entries })
    }

    /// The image.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.image.bytes()
    }

    /// Guest physical address of its first byte: it ends at 4 GiB.
    #[must_use]
    pub fn gpa(&self) -> u64 {
        END_GPA.saturating_sub(u64::try_from(self.image.len()).unwrap_or(END_GPA))
    }

    /// Data of the table's entry of this GUID.
    pub(crate) fn entry(&self, guid: &[u8; 16]) -> Option<Structure<'a>> {
        self.entries.get(guid).copied()
    }

    /// The structure that begins as many bytes before the end of the image as the entry says.
    pub(crate) fn before_end(&self, entry: Structure<'_>, name: &'static str) -> Result<Structure<'a>, ArtifactError> {
        let distance = entry.size_u32(0)?;
        let start = self.image.len().checked_sub(distance);
        let start = start.ok_or_else(|| entry.malformed(0, "points before the image"))?;
        self.image.part(name, start, distance)
    }

    pub(crate) const fn image(&self) -> Structure<'a> {
        self.image
    }
}

/// The entries, read backwards from the footer. Two of one GUID could be told apart by nobody.
fn table<'a>(image: &Structure<'a>) -> Result<BTreeMap<[u8; 16], Structure<'a>>, ArtifactError> {
    let footer = image.len().checked_sub(AFTER_TABLE_BYTES.saturating_add(ENTRY_BYTES));
    let footer = footer.ok_or_else(|| image.malformed(0, "is too short for a table"))?;
    if image.array::<16>(footer.saturating_add(2))? != TABLE_FOOTER {
        return Err(ArtifactError::Missing { what: "table of GUIDs (OVMF table footer) at its end" });
    }
    let length = usize::from(image.u16(footer)?).checked_sub(ENTRY_BYTES);
    let length = length.ok_or_else(|| image.malformed(footer, "the table is shorter than its footer"))?;
    let start = footer.checked_sub(length);
    let start = start.ok_or_else(|| image.malformed(footer, "the table is longer than the image"))?;
    let table = image.part("OVMF table", start, length)?;
    let mut entries = BTreeMap::new();
    let mut end = length;
    while end > 0 {
        let header = end.checked_sub(ENTRY_BYTES);
        let header = header.ok_or_else(|| table.malformed(end, "an entry is cut off"))?;
        let entry_bytes = usize::from(table.u16(header)?);
        let data = end.checked_sub(entry_bytes).zip(entry_bytes.checked_sub(ENTRY_BYTES));
        let (data, data_bytes) = data.ok_or_else(|| table.malformed(header, "an entry's length does not fit"))?;
        let guid = table.array::<16>(header.saturating_add(2))?;
        if entries.insert(guid, table.part("OVMF table entry", data, data_bytes)?).is_some() {
            return Err(table.malformed(header, "a GUID stands twice"));
        }
        end = data;
    }
    Ok(entries)
}
