//! `binary_runtime_measurements`: register, template hash, template name, template data
//! (ima_fs.c, ima_measurements_show), in the little-endian order of `ima_canonical_fmt`.

use std::borrow::Cow;

use super::{
    IMA_ENTRIES_CAP, IMA_ENTRY_CAP_BYTES,
    entry::{FileDigest, ImaEntry, OLD_PATH_CAP_BYTES, Template},
};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// Most bytes of a template's name (IMA_TEMPLATE_NAME_LEN_MAX).
const NAME_CAP_BYTES: usize = 15;

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<ImaEntry<'_>>, EvidenceDenial> {
    let alg = template_alg(bytes);
    let mut reader = Reader { bytes, offset: 0 };
    let mut entries = Vec::new();
    while reader.offset < bytes.len() {
        if entries.len() >= IMA_ENTRIES_CAP {
            return Err(EvidenceDenial::TooMany { part: "IMA log entries", cap: IMA_ENTRIES_CAP });
        }
        let entry = entry(&mut reader, entries.len(), alg);
        entries.push(entry.map_err(|what| EvidenceDenial::Malformed {
            structure: "IMA log",
            offset: reader.offset,
            what,
        })?);
    }
    Ok(entries)
}

/// Template hashes are SHA-1 unless the list is of another bank (`binary_runtime_measurements_sha256`), which
/// nothing in it says: the template name of the first entry stands where only one length fits.
fn template_alg(bytes: &[u8]) -> HashAlg {
    let fits = |alg: &HashAlg| {
        let mut reader = Reader { bytes, offset: 0 };
        let header = reader.take(4).and_then(|_| reader.take(alg.len()));
        header.and_then(|_| reader.sized(NAME_CAP_BYTES)).is_ok_and(|name| Template::from_name(name).is_some())
    };
    HashAlg::ALL.into_iter().find(fits).unwrap_or(HashAlg::Sha1)
}

fn entry<'a>(reader: &mut Reader<'a>, index: usize, alg: HashAlg) -> Result<ImaEntry<'a>, &'static str> {
    let pcr = reader.u32()?;
    let template_hash = Digest::from_bytes(alg, reader.take(alg.len())?).ok_or("ends early")?;
    let template = Template::from_name(reader.sized(NAME_CAP_BYTES)?).ok_or("template is not known")?;
    if template == Template::Ima {
        let digest = FileDigest::new(template, "", Cow::Borrowed(reader.take(20)?))?;
        let path = file_name(reader.sized(OLD_PATH_CAP_BYTES)?)?;
        return Ok(ImaEntry { index, pcr, template_hash, template, digest, path, extra: Cow::Borrowed(&[]) });
    }
    let data = reader.sized(IMA_ENTRY_CAP_BYTES)?;
    let mut fields = Reader { bytes: data, offset: 0 };
    let digest = fields.sized(data.len())?;
    let separator = digest.windows(2).position(|pair| pair == b":\0").ok_or("digest names no algorithm")?;
    let (prefix, bytes) = digest.split_at_checked(separator).ok_or("ends early")?;
    let prefix = std::str::from_utf8(prefix).map_err(|_| "digest names no algorithm")?;
    let digest = FileDigest::new(template, prefix, Cow::Borrowed(bytes.get(2..).unwrap_or(&[])))?;
    let path = fields.sized(data.len())?.strip_suffix(&[0]).ok_or("file name does not end with a NUL")?;
    let path = file_name(path)?;
    let extra = if template.has_extra() { fields.sized(data.len())? } else { &[] };
    if fields.offset != data.len() {
        return Err("bytes after the template's fields");
    }
    Ok(ImaEntry { index, pcr, template_hash, template, digest, path, extra: Cow::Borrowed(extra) })
}

fn file_name(path: &[u8]) -> Result<&[u8], &'static str> {
    if path.is_empty() || path.contains(&0) { Err("file name is empty or has a NUL") } else { Ok(path) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], &'static str> {
        let end = self.offset.checked_add(count).ok_or("length overflows")?;
        let taken = self.bytes.get(self.offset..end).ok_or("ends early")?;
        self.offset = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        let bytes = self.take(4)?.first_chunk::<4>().ok_or("ends early")?;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// A field after its 32-bit length.
    fn sized(&mut self, cap_bytes: usize) -> Result<&'a [u8], &'static str> {
        let length = usize::try_from(self.u32()?).map_err(|_| "length overflows")?;
        if length > cap_bytes {
            return Err("field is longer than its cap or what holds it");
        }
        self.take(length)
    }
}
