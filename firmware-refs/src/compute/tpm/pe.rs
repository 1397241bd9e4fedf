//! EFI images: their sections, and the hash that firmware measures and signatures cover (Microsoft, Windows
//! Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash"; edk2,
//! `DxeTpm2MeasureBootLib.c`).

use aws_lc_rs::digest::{Context, SHA256, SHA384, SHA512};
use evidence::digest::{Digest, HashAlg};

use crate::compute::{ArtifactError, bytes::Structure};

/// Most sections; images have 4 to 30.
const SECTIONS_CAP: usize = 96;
/// A section's header.
const SECTION_BYTES: usize = 40;
/// Index of the certificate table among the data directories.
const CERTIFICATES: usize = 4;

/// A PE image whose parts lie one after the other, so that there is one way to hash it.
#[derive(Clone, Debug)]
pub struct PeImage<'a> {
    image: Structure<'a>,
    /// Offset of the checksum.
    checksum: usize,
    /// Offset of the certificate table's entry, where the image has one.
    certificates_entry: Option<usize>,
    /// Where what is hashed ends: at the certificate table, or with the image.
    end: usize,
    sections: Vec<Section<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Section<'a> {
    name: [u8; 8],
    /// Length in memory.
    virtual_bytes: usize,
    /// Contents in the file.
    raw: &'a [u8],
}

impl<'a> PeImage<'a> {
    /// Reads an image.
    ///
    /// # Errors
    /// [`ArtifactError::Malformed`] for what is no PE32 or PE32+ image, or one with gaps or overlaps.
    pub fn parse(image: &'a [u8]) -> Result<Self, ArtifactError> {
        let image = Structure::new("PE image", 0, image);
        if image.array(0)? != *b"MZ" {
            return Err(image.malformed(0, "is no PE image: it does not begin with MZ"));
        }
        let header = image.size_u32(0x3c)?;
        let at = |offset: usize| header.saturating_add(offset);
        if image.array(header)? != *b"PE\0\0" {
            return Err(image.malformed(header, "is no PE image: its header does not begin with PE"));
        }
        let count = usize::from(image.u16(at(6))?);
        if count == 0 || count > SECTIONS_CAP {
            let (got, cap) = (u64::try_from(count).unwrap_or(u64::MAX), u64::try_from(SECTIONS_CAP).unwrap_or(0));
            return Err(ArtifactError::Count { what: "sections of a PE image", got, min: 1, cap });
        }
        let optional = at(24);
        let directories = match image.u16(optional)? {
            0x10b => optional.saturating_add(96),
            0x20b => optional.saturating_add(112),
            _ => return Err(image.malformed(optional, "is neither PE32 nor PE32+")),
        };
        let table = optional.saturating_add(usize::from(image.u16(at(20))?));
        let entry = directories.saturating_add(CERTIFICATES.saturating_mul(8));
        let has_certificates = image.size_u32(directories.saturating_sub(4))? > CERTIFICATES;
        let header_bytes = image.size_u32(optional.saturating_add(60))?;
        let headers_end = table.saturating_add(count.saturating_mul(SECTION_BYTES));
        let used = if has_certificates { entry.saturating_add(8) } else { directories };
        if header_bytes < headers_end || header_bytes > image.len() || table < used {
            return Err(image.malformed(optional.saturating_add(60), "the headers are not within SizeOfHeaders"));
        }
        let end = if has_certificates { certificates_start(&image, entry)? } else { image.len() };
        let table = image.part("PE section table", table, count.saturating_mul(SECTION_BYTES))?;
        let sections = sections(&image, &table, header_bytes, end)?;
        Ok(Self {
            image,
            checksum: optional.saturating_add(64),
            certificates_entry: has_certificates.then_some(entry),
            end,
            sections,
        })
    }

    /// The image's hash without its checksum, its signatures, and where they stand.
    ///
    /// # Errors
    /// [`ArtifactError::Unknown`] for SHA-1.
    pub fn authenticode(&self, alg: HashAlg) -> Result<Digest, ArtifactError> {
        let mut context = Context::new(match alg {
            HashAlg::Sha256 => &SHA256,
            HashAlg::Sha384 => &SHA384,
            HashAlg::Sha512 => &SHA512,
            HashAlg::Sha1 => return Err(weak(alg)),
        });
        // Sections fill the file from the headers on, in order, so leaving out is all there is to do.
        let entry = self.certificates_entry.unwrap_or(self.end);
        let parts = [
            (0, self.checksum),
            (self.checksum.saturating_add(4), entry),
            (if self.certificates_entry.is_some() { entry.saturating_add(8) } else { self.end }, self.end),
        ];
        for (from, to) in parts {
            context.update(self.image.take(from, to.saturating_sub(from))?);
        }
        Digest::from_bytes(alg, context.finish().as_ref()).ok_or_else(|| weak(alg))
    }

    /// Contents of the sections of a name, as long as they are in memory.
    ///
    /// # Errors
    /// [`ArtifactError::Malformed`] for a section of which the file has not all.
    pub fn sections(&self, name: &str) -> Result<Vec<&'a [u8]>, ArtifactError> {
        let mut wanted = [0u8; 8];
        wanted.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        let named = self.sections.iter().filter(|section| section.name == wanted);
        let short = || self.image.malformed(0, "a section that is measured is longer in memory than in the file");
        named.map(|section| section.raw.get(..section.virtual_bytes).ok_or_else(short)).collect()
    }

    /// The image's file.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.image.bytes()
    }
}

fn weak(alg: HashAlg) -> ArtifactError {
    ArtifactError::Unknown { what: "hash", got: alg.to_string(), known: "sha256, sha384, sha512".to_owned() }
}

/// Where the certificate table begins; it must be the end of the file, or what follows it would not be hashed.
fn certificates_start(image: &Structure<'_>, entry: usize) -> Result<usize, ArtifactError> {
    let (start, length) = (image.size_u32(entry)?, image.size_u32(entry.saturating_add(4))?);
    match (start, length) {
        (_, 0) => Ok(image.len()),
        (start, length) if start.checked_add(length) == Some(image.len()) => Ok(start),
        _ => Err(image.malformed(entry, "the certificate table is not the end of the file")),
    }
}

/// Each section begins where the one before it ended, and the first where the headers end.
fn sections<'a>(
    image: &Structure<'a>,
    table: &Structure<'_>,
    header_bytes: usize,
    end: usize,
) -> Result<Vec<Section<'a>>, ArtifactError> {
    let mut sections = Vec::new();
    let mut places = Vec::new();
    for at in (0..table.len()).step_by(SECTION_BYTES) {
        let field = |offset: usize| table.size_u32(at.saturating_add(offset));
        let (virtual_bytes, raw_bytes, raw_start) = (field(8)?, field(16)?, field(20)?);
        // memory that the file has nothing of may begin anywhere
        let raw = if raw_bytes == 0 { &[] } else { image.part("PE section", raw_start, raw_bytes)?.bytes() };
        if raw_bytes > 0 {
            places.push((raw_start, raw_start.saturating_add(raw_bytes)));
        }
        sections.push(Section { name: table.array(at)?, virtual_bytes, raw });
    }
    places.sort_unstable();
    let mut at = header_bytes;
    for (start, stop) in places {
        if start != at || stop > end {
            return Err(table.malformed(0, "the sections do not follow each other: the image has two hashes"));
        }
        at = stop;
    }
    Ok(sections)
}
