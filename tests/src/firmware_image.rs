//! Firmware images for virtual machines, small and made to order: with the metadata that SEV-SNP and TDX read, or with
//! one thing wrong.

/// An image to be built.
#[derive(Clone)]
pub struct FirmwareImage {
    /// Length in pages.
    pub pages: usize,
    /// Sections of SEV metadata: address, size, type.
    pub sev_sections: Vec<[u32; 3]>,
    /// Sections of TDX metadata.
    pub tdx_sections: Vec<TdxSection>,
    /// EIP of all vCPUs but the first.
    pub reset_block: Option<u32>,
    /// Address and size of the area for kernel hashes.
    pub hash_table: Option<[u32; 2]>,
    /// Further entries of the table: GUID as in memory, and data.
    pub further: Vec<([u8; 16], Vec<u8>)>,
}

/// A section of TDX metadata.
#[derive(Clone, Copy)]
pub struct TdxSection {
    /// Offset and length in the image.
    pub data: (u32, u32),
    /// Address and length in memory.
    pub memory: (u64, u64),
    /// Type.
    pub kind: u32,
    /// Attributes.
    pub attributes: u32,
}

/// Address of the page for kernel hashes.
pub const HASHES_GPA: u32 = 0x80_f000;
/// Offset of the hashes in their page.
pub const HASHES_OFFSET: u32 = 0xc00;
/// How far before the image's end the metadata of SEV begins.
pub const SEV_BEFORE_END: usize = 0x600;
/// How far before the image's end the metadata of TDX begins.
pub const TDX_BEFORE_END: usize = 0xc00;

const FOOTER: [u8; 16] = guid(0x96b582de, 0x1fb2, 0x45f7, *b"\xba\xea\xa3\x66\xc5\x5a\x08\x2d");
/// GUID of the entry that leads to the metadata of SEV.
pub const SEV_METADATA: [u8; 16] = guid(0xdc886566, 0x984a, 0x4798, *b"\xa7\x5e\x55\x85\xa7\xbf\x67\xcc");
/// GUID of the entry that leads to the metadata of TDX.
pub const TDX_METADATA: [u8; 16] = guid(0xe47a6535, 0x984a, 0x4798, *b"\x86\x5e\x46\x85\xa7\xbf\x8e\xc2");
const RESET_BLOCK: [u8; 16] = guid(0x00f771de, 0x1a7e, 0x4fcb, *b"\x89\x0e\x68\xc7\x7e\x2f\xb4\x4e");
const HASH_TABLE: [u8; 16] = guid(0x7255371f, 0x3a3b, 0x4b04, *b"\x92\x7b\x1d\xa6\xef\xa8\xd4\x54");

impl FirmwareImage {
    /// An image with every kind of section, `pages` long.
    #[must_use]
    pub fn with_everything(pages: usize) -> Self {
        let length = u32::try_from(pages * 4096).unwrap();
        let base = 0x1_0000_0000 - u64::from(length);
        Self {
            pages,
            sev_sections: vec![
                [0x80_0000, 0x9000, 1],
                [0x80_a000, 0x3000, 1],
                [0x80_d000, 0x1000, 2],
                [0x80_e000, 0x1000, 3],
                [HASHES_GPA, 0x1000, 0x10],
                [0x81_0000, 0x1000, 4],
                [0x81_1000, 0xf000, 1],
            ],
            tdx_sections: vec![
                TdxSection {
                    data: (0x1000, length - 0x1000),
                    memory: (base + 0x1000, u64::from(length) - 0x1000),
                    kind: 0,
                    attributes: 1,
                },
                TdxSection { data: (0, 0x1000), memory: (base, 0x1000), kind: 1, attributes: 0 },
                TdxSection { data: (0, 0), memory: (0x81_0000, 0x1_0000), kind: 3, attributes: 0 },
                TdxSection { data: (0, 0), memory: (0x80_9000, 0x2000), kind: 2, attributes: 0 },
            ],
            reset_block: Some(0x0080_b004),
            hash_table: Some([HASHES_GPA + HASHES_OFFSET, 0x400]),
            further: Vec::new(),
        }
    }

    /// The image. What no structure uses is filled so that no two pages are alike.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut image: Vec<u8> = (0..self.pages * 4096 / 4)
            .flat_map(|n| u32::try_from(n).unwrap().wrapping_mul(0x9e37_79b9).to_le_bytes())
            .collect();
        let mut entries = self.further.clone();
        if !self.sev_sections.is_empty() {
            put_before_end(&mut image, SEV_BEFORE_END, &self.sev_metadata());
            entries.push((SEV_METADATA, u32::try_from(SEV_BEFORE_END).unwrap().to_le_bytes().to_vec()));
        }
        if !self.tdx_sections.is_empty() {
            put_before_end(&mut image, TDX_BEFORE_END, &self.tdx_metadata());
            entries.push((TDX_METADATA, u32::try_from(TDX_BEFORE_END).unwrap().to_le_bytes().to_vec()));
        }
        entries.extend(self.reset_block.map(|eip| (RESET_BLOCK, eip.to_le_bytes().to_vec())));
        entries.extend(self.hash_table.map(|area| (HASH_TABLE, area.map(u32::to_le_bytes).concat())));
        let mut table: Vec<u8> = entries.iter().flat_map(|(guid, data)| entry(guid, data, data.len() + 18)).collect();
        let whole = table.len() + 18;
        table.extend(entry(&FOOTER, &[], whole));
        put_before_end(&mut image, table.len() + 32, &table);
        image
    }

    fn sev_metadata(&self) -> Vec<u8> {
        let count = u32::try_from(self.sev_sections.len()).unwrap();
        let header = [*b"ASEV", (16 + 12 * count).to_le_bytes(), 1u32.to_le_bytes(), count.to_le_bytes()];
        let sections = self.sev_sections.iter().flatten().map(|field| field.to_le_bytes());
        header.into_iter().chain(sections).collect::<Vec<_>>().concat()
    }

    fn tdx_metadata(&self) -> Vec<u8> {
        let count = u32::try_from(self.tdx_sections.len()).unwrap();
        let header = [*b"TDVF", (16 + 32 * count).to_le_bytes(), 1u32.to_le_bytes(), count.to_le_bytes()].concat();
        let sections = self.tdx_sections.iter().map(|section| {
            let data = [section.data.0.to_le_bytes(), section.data.1.to_le_bytes()].concat();
            let memory = [section.memory.0.to_le_bytes(), section.memory.1.to_le_bytes()].concat();
            [data, memory, [section.kind.to_le_bytes(), section.attributes.to_le_bytes()].concat()].concat()
        });
        std::iter::once(header).chain(sections).collect::<Vec<_>>().concat()
    }
}

fn entry(guid: &[u8; 16], data: &[u8], length: usize) -> Vec<u8> {
    [data, &u16::try_from(length).unwrap().to_le_bytes(), guid].concat()
}

fn put_before_end(image: &mut [u8], distance: usize, bytes: &[u8]) {
    let start = image.len() - distance;
    image[start..start + bytes.len()].copy_from_slice(bytes);
}

/// A GUID as it stands in memory.
const fn guid(a: u32, b: u16, c: u16, rest: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
    let [d0, d1, d2, d3, d4, d5, d6, d7] = rest;
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d0, d1, d2, d3, d4, d5, d6, d7]
}
