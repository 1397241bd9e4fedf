//! Launch digests as `sev-snp-measure --mode snp` prints them: 96 hexadecimal digits or base64, one digest a line; or
//! a JSON object with `measurement`, or a list of such.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::{
    digest::{Digest, HashAlg},
    time::UnixSeconds,
};
use serde::Deserialize;

use super::{ImportDenial, Imported, Losses, Origin, Voucher, accepted, cap, within};
use crate::document::SetDocument;

/// Longest output that is read, in bytes.
const OUTPUT_CAP_BYTES: usize = 1 << 20;
/// Most digests of one output.
const DIGESTS_CAP: usize = 4096;

#[derive(Deserialize)]
#[serde(untagged)]
enum Output {
    One(Measured),
    Many(Vec<Measured>),
}

/// Beside the measurement an output says what it was computed from: that is told, never compared.
#[derive(Deserialize)]
struct Measured {
    measurement: String,
}

/// Reads launch digests into a draft. The tool signs nothing.
///
/// # Errors
/// [`ImportDenial`].
pub fn import_unsigned(bytes: &[u8], mut base: SetDocument, now: UnixSeconds) -> Result<Imported, ImportDenial> {
    cap(bytes, OUTPUT_CAP_BYTES)?;
    let ends = base.not_after.at();
    within(&mut base, None, Some(ends), now)?;
    let snp = base.snp.as_mut().ok_or(ImportDenial::BaseLacks { section: "snp" })?;
    let text = std::str::from_utf8(bytes).map_err(|e| ImportDenial::malformed(e.valid_up_to(), "text is not UTF-8"))?;
    let origin = Origin::of("sev-snp-measure", bytes, Voucher::Nobody);
    let mut known = BTreeMap::new();
    for written in measurements(text)? {
        if known.len() >= DIGESTS_CAP {
            return Err(ImportDenial::TooMany { what: "launch digests", cap: DIGESTS_CAP });
        }
        known.insert(digest(&written)?, origin.source(""));
    }
    if known.is_empty() {
        return Err(ImportDenial::Empty);
    }
    snp.measurement = accepted(known);
    origin.draft(base, Losses::default())
}

fn measurements(text: &str) -> Result<Vec<String>, ImportDenial> {
    if !text.trim_start().starts_with(['{', '[']) {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return Ok(lines.map(str::to_owned).collect());
    }
    let output: Output = serde_json::from_str(text).map_err(|error| {
        if error.is_eof() {
            ImportDenial::Truncated { offset: text.len() }
        } else {
            ImportDenial::malformed(error.column(), &error.to_string())
        }
    })?;
    Ok(match output {
        Output::One(one) => vec![one.measurement],
        Output::Many(many) => many.into_iter().map(|one| one.measurement).collect(),
    })
}

/// SHA-384 alone: SEV and SEV-ES have digests of 32 bytes, and are not SNP.
fn digest(text: &str) -> Result<Digest, ImportDenial> {
    let bare = text.strip_prefix("sha384:").unwrap_or(text);
    let bytes = hex::decode(bare).ok().or_else(|| STANDARD.decode(bare).ok());
    let read = bytes.and_then(|bytes| Digest::from_bytes(HashAlg::Sha384, &bytes));
    read.ok_or_else(|| ImportDenial::malformed(0, "not a launch digest of SEV-SNP (48 bytes, hexadecimal or base64)"))
}
