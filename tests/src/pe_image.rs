//! EFI images, small and made to order: sections one after the other, and room for signatures.

/// An image to be built (PE32+).
#[derive(Clone)]
pub struct EfiImage {
    /// Name and contents of each section.
    pub sections: Vec<(&'static str, Vec<u8>)>,
    /// What follows the sections and is hashed.
    pub trailer: Vec<u8>,
    /// The certificate table, the end of the file.
    pub certificates: Vec<u8>,
}

/// Where the headers end and the first section begins.
pub const HEADER_BYTES: usize = 0x400;
/// Offset of the PE header.
pub const PE: usize = 0x80;
/// Offset of the optional header.
pub const OPTIONAL: usize = PE + 24;
/// Offset of the certificate table's entry.
pub const CERTIFICATES_ENTRY: usize = OPTIONAL + 112 + 4 * 8;
/// Offset of the section table.
pub const SECTION_TABLE: usize = OPTIONAL + 112 + 16 * 8;

impl EfiImage {
    /// An image with these sections.
    #[must_use]
    pub fn new(sections: &[(&'static str, &[u8])]) -> Self {
        let sections = sections.iter().map(|(name, contents)| (*name, contents.to_vec())).collect();
        Self { sections, trailer: Vec::new(), certificates: Vec::new() }
    }

    /// A unified kernel image of systemd-stub in this version, with these sections beside the stub's own.
    #[must_use]
    pub fn unified(version: &str, sections: &[(&'static str, &[u8])]) -> Self {
        let magic = format!("#### LoaderInfo: systemd-stub {version} ####");
        let stub: [(&str, &[u8]); 2] = [(".text", &[0x90; 700]), (".sdmagic", magic.as_bytes())];
        Self::new(&[&stub[..], sections].concat())
    }

    /// The image.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut image = vec![0; HEADER_BYTES];
        put(&mut image, 0, b"MZ");
        put32(&mut image, 0x3c, PE);
        put(&mut image, PE, b"PE\0\0");
        put(&mut image, PE + 4, &0x8664u16.to_le_bytes());
        put(&mut image, PE + 6, &u16::try_from(self.sections.len()).unwrap().to_le_bytes());
        put(&mut image, PE + 20, &u16::try_from(SECTION_TABLE - OPTIONAL).unwrap().to_le_bytes());
        put(&mut image, PE + 22, &0x22eu16.to_le_bytes());
        put(&mut image, OPTIONAL, &0x20bu16.to_le_bytes());
        put32(&mut image, OPTIONAL + 16, 0x1000); // entry point
        put32(&mut image, OPTIONAL + 32, 0x1000); // section alignment
        put32(&mut image, OPTIONAL + 36, 0x200); // file alignment
        put32(&mut image, OPTIONAL + 60, HEADER_BYTES);
        put32(&mut image, OPTIONAL + 64, 0x1234_5678); // checksum
        put(&mut image, OPTIONAL + 68, &10u16.to_le_bytes()); // an EFI application
        put32(&mut image, OPTIONAL + 108, 16);
        let mut address = 0x1000;
        for (index, (name, contents)) in self.sections.iter().enumerate() {
            let at = SECTION_TABLE + 40 * index;
            let raw_bytes = contents.len().next_multiple_of(0x200);
            put(&mut image, at, name.as_bytes());
            put32(&mut image, at + 8, contents.len());
            put32(&mut image, at + 12, address);
            put32(&mut image, at + 16, raw_bytes);
            let start = image.len();
            put32(&mut image, at + 20, start);
            put32(&mut image, at + 36, 0x4000_0040); // initialised data, readable
            image.extend(contents);
            image.resize(start + raw_bytes, 0);
            address += contents.len().next_multiple_of(0x1000).max(0x1000);
        }
        put32(&mut image, OPTIONAL + 56, address);
        image.extend(&self.trailer);
        if !self.certificates.is_empty() {
            let start = image.len();
            put32(&mut image, CERTIFICATES_ENTRY, start);
            put32(&mut image, CERTIFICATES_ENTRY + 4, self.certificates.len());
            image.extend(&self.certificates);
        }
        image
    }
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put32(image: &mut [u8], at: usize, number: usize) {
    put(image, at, &u32::try_from(number).unwrap().to_le_bytes());
}
