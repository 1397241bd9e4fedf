//! `ascii_runtime_measurements`: one entry a line, fields parted by single spaces (ima_fs.c, ima_ascii_measurements_show).

use std::borrow::Cow;

use super::{
    IMA_ENTRIES_CAP, IMA_ENTRY_CAP_BYTES,
    entry::{FileDigest, ImaEntry, OLD_PATH_CAP_BYTES, Template},
};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<ImaEntry<'_>>, EvidenceDenial> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if entries.len() >= IMA_ENTRIES_CAP {
            return Err(EvidenceDenial::TooMany { part: "IMA log entries", cap: IMA_ENTRIES_CAP });
        }
        let offset = bytes.len().saturating_sub(rest.len());
        let (line, after) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (rest.get(..end).unwrap_or(&[]), rest.get(end.saturating_add(1)..).unwrap_or(&[])),
            None => (rest, &[][..]),
        };
        let is_cut = line.len() == rest.len();
        let malformed = |what| EvidenceDenial::Malformed { structure: "IMA log", offset, what };
        if line.len() > IMA_ENTRY_CAP_BYTES.saturating_mul(2) {
            return Err(malformed("line is too long"));
        }
        let entry = entry(line, entries.len()).map_err(malformed)?;
        // The kernel ends every line. One that does not, and does not hash either, was cut short.
        if is_cut && entry.verify().is_err() {
            return Err(malformed("last line is cut"));
        }
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

fn entry(line: &[u8], index: usize) -> Result<ImaEntry<'_>, &'static str> {
    // The register is printed with "%2d".
    let (pcr, rest) = field(line.strip_prefix(b" ").unwrap_or(line))?;
    let pcr = std::str::from_utf8(pcr).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let pcr = pcr.and_then(|text| text.parse().ok()).ok_or("register is not a number")?;
    let (hash, rest) = field(rest)?;
    let template_hash = template_hash(hash)?;
    let (name, rest) = field(rest)?;
    let template = Template::from_name(name).ok_or("template is not known")?;
    let (digest, rest) = field(rest)?;
    let digest = file_digest(template, digest)?;
    let of = |path, extra: Vec<u8>| ImaEntry {
        index,
        pcr,
        template_hash,
        template,
        digest: digest.clone(),
        path,
        extra: Cow::Owned(extra),
    };
    if rest.is_empty() || rest.contains(&0) || (template == Template::Ima && rest.len() > OLD_PATH_CAP_BYTES) {
        return Err("file name is empty, too long or has a NUL");
    }
    if !template.has_extra() {
        return Ok(of(rest, Vec::new()));
    }
    // Names may have spaces, the last field may be empty, and tools trim lines: where the reading is not
    // certain, the template hash says which one was measured.
    if let Some(path) = rest.strip_suffix(b" ").filter(|path| !path.is_empty()) {
        return Ok(of(path, Vec::new()));
    }
    let whole = of(rest, Vec::new());
    let Some((path, extra)) = last_field(rest) else { return Ok(whole) };
    let split = of(path, extra);
    Ok(if whole.verify().is_ok() { whole } else { split })
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let end = line.iter().position(|byte| *byte == b' ').ok_or("line has too few fields")?;
    line.split_at_checked(end)
        .map(|(field, rest)| (field, rest.get(1..).unwrap_or(&[])))
        .ok_or("line has too few fields")
}

/// The hexadecimal last field and what stands before it.
fn last_field(rest: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let space = rest.iter().rposition(|byte| *byte == b' ').filter(|space| *space > 0)?;
    let (path, extra) = rest.split_at_checked(space)?;
    let extra = lower_hex(extra.get(1..)?)?;
    (extra.len() <= IMA_ENTRY_CAP_BYTES).then_some((path, extra))
}

fn template_hash(text: &[u8]) -> Result<Digest, &'static str> {
    let bytes = lower_hex(text).ok_or("template hash is not hexadecimal")?;
    let alg = HashAlg::ALL.into_iter().find(|alg| alg.len() == bytes.len());
    alg.and_then(|alg| Digest::from_bytes(alg, &bytes)).ok_or("template hash has no digest's length")
}

fn file_digest(template: Template, text: &[u8]) -> Result<FileDigest<'_>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "digest is not text")?;
    let (prefix, digits) = match text.rsplit_once(':') {
        Some((prefix, digits)) if template != Template::Ima => (prefix, digits),
        None if template == Template::Ima => ("", text),
        _ => return Err("digest does not have the template's form"),
    };
    let mut bytes = lower_hex(digits.as_bytes()).ok_or("digest is not hexadecimal")?;
    if template == Template::Ima && bytes.len() == 16 {
        // An MD5 digest stands in the room of a SHA-1 one.
        bytes.resize(20, 0);
    }
    FileDigest::new(template, prefix, Cow::Owned(bytes))
}

/// Lower-case hexadecimal, as the kernel prints it.
fn lower_hex(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() || text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    hex::decode(text).ok()
}
