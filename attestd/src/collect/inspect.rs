//! Evidence for people to look at: what it says of itself, and its parts in the forms that other tools read.

use evidence::EvidenceDenial;
use evidence::evidence::Evidence;
use evidence::sev_snp::SnpReport;
use evidence::tpm::attest::Attest;
use evidence::tpm::evidence::TpmParts;
use serde_json::{Map, Value, json};

use super::{Collected, HeldKey, Quoted};
use crate::tpm::objects::AttestationKey;

/// One part: the name of its file, and its bytes.
pub type NamedPart = (&'static str, Vec<u8>);

impl Collected {
    /// What this Evidence says of itself, as one document; `ak` is the TPM's attestation key, where there is one.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when a part that this node just made cannot be read.
    pub fn describe(&self, ak: Option<&AttestationKey>) -> Result<Value, EvidenceDenial> {
        let mut document = Map::new();
        document.insert("kind".to_owned(), json!(self.evidence.kind().name()));
        document.insert("evidence_digest".to_owned(), json!(self.evidence.digest().to_string()));
        document.insert("evidence_bytes".to_owned(), json!(self.evidence.bytes().len()));
        document.insert("node_key".to_owned(), json!(self.node_key.public_hex()));
        if let Some(evidence) = self.evidence.tpm() {
            document.extend(tpm(&evidence.parts(), self.quoted.as_ref(), ak)?);
        }
        if let Some(report) = self.evidence.snp_report() {
            document.extend(snp(report, self.evidence.snp_certificates())?);
        }
        Ok(Value::Object(document))
    }

    /// Its parts, in the forms that `verifier evidence verify` takes.
    #[must_use]
    pub fn named_parts(&self, ak: Option<&AttestationKey>) -> Vec<NamedPart> {
        let mut files = self.evidence.tpm().map_or_else(Vec::new, |evidence| tpm_parts(&evidence.parts(), ak));
        let node_key = match &self.evidence {
            Evidence::Tpm(_) | Evidence::TpmOnSevSnp(_) | Evidence::TpmOnTdx(_) => None,
            Evidence::Tdx(evidence) => Some(evidence.parts().node_key),
            Evidence::SevSnp(evidence) => Some(evidence.parts().node_key),
        };
        let of_tee: [(&str, Option<&[u8]>); 5] = [
            ("report.bin", self.evidence.snp_report()),
            ("certificates.bin", self.evidence.snp_certificates()),
            ("td-quote.bin", self.evidence.tdx_quote()),
            ("ccel.bin", self.evidence.cc_event_log()),
            ("node-key.cose", node_key),
        ];
        files.extend(of_tee.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.to_vec()))));
        files
    }
}

impl HeldKey {
    fn public_hex(&self) -> String {
        match self {
            Self::Tpm(key) => hex::encode(key.point()),
            Self::XWing(key) => hex::encode(key.public().public()),
        }
    }
}

fn snp(report: &[u8], certificates: Option<&[u8]>) -> Result<Map<String, Value>, EvidenceDenial> {
    let report = SnpReport::parse(report)?;
    let fields = [
        ("report_data", json!(hex::encode(report.report_data))),
        ("report_version", json!(report.version)),
        ("vmpl", json!(report.vmpl)),
        ("measurement", json!(hex::encode(report.measurement))),
        ("reported_tcb", json!(hex::encode(report.reported_tcb))),
        ("chip_id", json!(hex::encode(report.chip_id))),
        ("certificates_bytes", json!(certificates.map(<[u8]>::len))),
    ];
    Ok(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn tpm(
    parts: &TpmParts<'_>,
    quoted: Option<&Quoted>,
    ak: Option<&AttestationKey>,
) -> Result<Map<String, Value>, EvidenceDenial> {
    let attest = Attest::read(parts.quote)?;
    let pcrs: Map<String, Value> =
        parts.pcrs.iter().map(|(pcr, value)| (pcr.to_string(), Value::String(value.hex()))).collect();
    let clock = quoted.map(|quoted| {
        json!({
            "clock_ms": quoted.clock.clock_ms,
            "reset_count": quoted.clock.reset_count,
            "restart_count": quoted.clock.restart_count,
            "safe": quoted.clock.safe,
        })
    });
    let fields = [
        ("qualifying_data", json!(hex::encode(attest.extra_data))),
        ("pcr_bank", json!(parts.pcrs.bank().name())),
        ("pcrs", Value::Object(pcrs)),
        ("pcr_digest", json!(quoted.map(|quoted| quoted.pcr_digest.hex()))),
        ("clock", json!(clock)),
        ("firmware_version", json!(format!("{:#x}", attest.firmware_version))),
        ("ak_name", json!(ak.map(|ak| ak.name().to_string()))),
        ("event_log_bytes", json!(parts.event_log.map(<[u8]>::len))),
        ("ima_log_bytes", json!(parts.ima_log.map(<[u8]>::len))),
    ];
    Ok(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn tpm_parts(parts: &TpmParts<'_>, ak: Option<&AttestationKey>) -> Vec<NamedPart> {
    // The text of tpm2_pcrread(1).
    let values = parts.pcrs.iter().map(|(pcr, value)| format!("    {pcr:<2}: 0x{}\n", value.hex().to_uppercase()));
    let pcrs = format!("  {}:\n{}", parts.pcrs.bank().name(), values.collect::<String>());
    let files: [(&str, Option<&[u8]>); 9] = [
        ("quote.bin", Some(parts.quote)),
        ("quote.sig", Some(parts.signature)),
        ("ak.pub", ak.map(AttestationKey::public)),
        ("pcrs.txt", Some(pcrs.as_bytes())),
        ("node-key.pub", Some(parts.node_key)),
        ("node-key.certify", Some(parts.certification)),
        ("node-key.sig", Some(parts.certification_signature)),
        ("event.log", parts.event_log),
        ("ima.log", parts.ima_log),
    ];
    files.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.to_vec()))).collect()
}
