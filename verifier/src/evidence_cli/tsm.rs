//! What a guest's kernel gave through configfs-tsm, saved as one JSON or CBOR object: `provider`, `outblob`, `auxblob`.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use evidence::EvidenceDenial;
use serde_json::Value;

use super::{case::Case, files, outcome::Refusal};

const TSM_CAP_BYTES: usize = 256 * 1024;

/// The saved object, if one is beside the report, holds this report of an SNP guest.
pub(super) fn verify(case: &Case, report: &[u8]) -> Result<(), Refusal> {
    if let Some(path) = case.file("tsm_json")? {
        let bytes = files::read(path, "configfs-tsm report", TSM_CAP_BYTES)?;
        judge(&serde_json::from_slice(&bytes).map_err(|_| malformed("JSON"))?, report)?;
    }
    if let Some(path) = case.file("tsm_cbor")? {
        let bytes = files::read(path, "configfs-tsm report", TSM_CAP_BYTES)?;
        if !bytes.windows(report.len()).any(|window| window == report) {
            return Err(mismatch().into());
        }
    }
    Ok(())
}

fn judge(document: &Value, report: &[u8]) -> Result<(), EvidenceDenial> {
    let field = |name: &str| document.get(name).and_then(Value::as_str).map(|text| text.trim_end_matches('='));
    let outblob = field("outblob").ok_or_else(|| malformed("an outblob"))?;
    let decoded = URL_SAFE_NO_PAD.decode(outblob).or_else(|_| STANDARD.decode(outblob));
    match decoded {
        Ok(bytes) if bytes == report => Ok(()),
        Ok(_) => Err(mismatch()),
        Err(_) => Err(malformed("an outblob in base64")),
    }
}

fn malformed(what: &'static str) -> EvidenceDenial {
    EvidenceDenial::Malformed { structure: "configfs-tsm report", offset: 0, what }
}

fn mismatch() -> EvidenceDenial {
    malformed("the report beside it as outblob")
}
