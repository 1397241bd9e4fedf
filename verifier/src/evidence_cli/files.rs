//! Reading files that someone else wrote: capped before anything is allocated for them.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use evidence::EvidenceDenial;

use super::outcome::{Fault, Refusal};

/// Reads at most `cap_bytes` of evidence; a longer file is denied as `part`, unread.
pub(super) fn read(path: &Path, part: &'static str, cap_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: std::io::Error| {
        let path = PathBuf::from(path);
        Refusal::Fault(Fault::File { path, what: error.to_string() })
    };
    // A directory or a device has no end; a pipe may never say anything.
    let found = std::fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() {
        return Err(unreadable(std::io::Error::other("not a regular file")));
    }
    let cap = u64::try_from(cap_bytes).unwrap_or(u64::MAX);
    let expected = usize::try_from(found.len()).unwrap_or(usize::MAX).min(cap_bytes);
    // one more, so that the end is seen without growing
    let mut bytes = Vec::with_capacity(expected.saturating_add(1));
    let file = File::open(path).map_err(unreadable)?;
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > cap_bytes {
        let got_bytes = usize::try_from(found.len()).unwrap_or(usize::MAX).max(bytes.len());
        return Err(EvidenceDenial::TooLarge { part, got_bytes, cap_bytes }.into());
    }
    Ok(bytes)
}

/// Contents of the first PEM block labelled one of `labels`; `None` when there is no such block.
pub(crate) fn pem_block(bytes: &[u8], labels: &[&str]) -> Option<(String, Vec<u8>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (label, rest) = labels.iter().find_map(|label| {
        let begin = format!("-----BEGIN {label}-----");
        text.split_once(&begin).map(|(_, rest)| (*label, rest))
    })?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    use base64::Engine as _;
    let der = base64::engine::general_purpose::STANDARD.decode(body).ok()?;
    Some((label.to_owned(), der))
}
