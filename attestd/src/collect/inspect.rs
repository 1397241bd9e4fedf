//! Evidence for people to look at: what it says of itself, and its parts in the forms that other tools read.

use evidence::EvidenceDenial;
use evidence::evidence::Evidence;
use evidence::sev_snp::SnpReport;
use evidence::tdx::Quote;
use evidence::tpm::attest::Attest;
use evidence::tpm::evidence::TpmParts;
use serde_json::{Map, Value, json};
use wire::bounded::local::EvidenceRequest;

use super::{ChallengeDenial, CollectFault, Collected, Collector, Demand, HeldKey, Quoted, TpmCollector};
use crate::config::Config;
use crate::tpm::objects::AttestationKey;

/// One part: the name of its file, and its bytes.
pub type NamedPart = (&'static str, Vec<u8>);

/// Evidence that somebody asked for by hand.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// What it says of itself, and what it is bound to.
    pub document: Value,
    /// The CMW collection.
    pub cmw: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum InspectionFault {
    /// What was asked cannot be.
    #[error(transparent)]
    Asked(#[from] ChallengeDenial),
    /// It cannot be collected.
    #[error(transparent)]
    Collect(#[from] CollectFault),
}

impl InspectionFault {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Asked(denial) => denial.code(),
            Self::Collect(fault) => fault.code(),
        }
    }
}

impl Collector {
    /// Evidence for a nonce of the caller's. It answers no verifier's challenge ([`Demand::for_inspection`]).
    ///
    /// # Errors
    /// [`InspectionFault`].
    pub async fn inspect(&self, config: &Config, request: &EvidenceRequest) -> Result<Inspected, InspectionFault> {
        let demand = Demand::for_inspection(request, config)?;
        let collected = self.collect(&demand).await?;
        let ak = self.tpm().map(TpmCollector::ak);
        let mut document = collected.describe(ak).map_err(CollectFault::from)?;
        let asked = &demand.asked;
        document.insert("node".to_owned(), json!(config.node_id.as_str()));
        document.insert("nonce".to_owned(), json!(hex::encode(demand.nonce)));
        document.insert("ak_public".to_owned(), json!(ak.map(|ak| hex::encode(ak.public()))));
        document.insert(
            "answers".to_owned(),
            json!({
                "audience": asked.audience,
                "epoch": demand.epoch,
                "channel": hex::encode(asked.channel),
                "subject": asked.subject,
                "lineage_head": asked.lineage_head,
            }),
        );
        Ok(Inspected { document: Value::Object(document), cmw: collected.evidence.bytes().to_vec() })
    }
}

impl Inspected {
    /// Its parts, in the forms that `verifier evidence verify` takes.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when it is no Evidence.
    pub fn named_parts(&self) -> Result<Vec<NamedPart>, EvidenceDenial> {
        let ak = self.document.get("ak_public").and_then(Value::as_str).and_then(|ak| hex::decode(ak).ok());
        Ok(named_parts(&Evidence::decode(self.cmw.clone())?, ak.as_deref()))
    }
}

impl Collected {
    fn describe(&self, ak: Option<&AttestationKey>) -> Result<Map<String, Value>, EvidenceDenial> {
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
        if let Some(quote) = self.evidence.tdx_quote() {
            document.extend(tdx(quote, self.evidence.cc_event_log())?);
        }
        Ok(document)
    }
}

fn named_parts(evidence: &Evidence, ak_public: Option<&[u8]>) -> Vec<NamedPart> {
    let mut files = evidence.tpm().map_or_else(Vec::new, |evidence| tpm_parts(&evidence.parts(), ak_public));
    let node_key = match evidence {
        Evidence::Tpm(_) | Evidence::TpmOnSevSnp(_) | Evidence::TpmOnTdx(_) => None,
        Evidence::Tdx(evidence) => Some(evidence.parts().node_key),
        Evidence::SevSnp(evidence) => Some(evidence.parts().node_key),
    };
    let of_tee: [(&str, Option<&[u8]>); 5] = [
        ("report.bin", evidence.snp_report()),
        ("certificates.bin", evidence.snp_certificates()),
        ("td-quote.bin", evidence.tdx_quote()),
        ("ccel.bin", evidence.cc_event_log()),
        ("node-key.cose", node_key),
    ];
    files.extend(of_tee.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.to_vec()))));
    files
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

fn tdx(quote: &[u8], event_log: Option<&[u8]>) -> Result<Map<String, Value>, EvidenceDenial> {
    let quote = Quote::parse(quote)?;
    let report = quote.td_report()?;
    let fields = [
        ("report_data", json!(hex::encode(report.report_data))),
        ("quote_version", json!(quote.version)),
        ("mrtd", json!(hex::encode(report.mr_td))),
        ("rtmrs", json!(report.rtmrs.map(hex::encode))),
        ("tee_tcb_svn", json!(hex::encode(report.tee_tcb_svn))),
        ("ccel_bytes", json!(event_log.map(<[u8]>::len))),
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

fn tpm_parts(parts: &TpmParts<'_>, ak_public: Option<&[u8]>) -> Vec<NamedPart> {
    // The text of tpm2_pcrread(1).
    let values = parts.pcrs.iter().map(|(pcr, value)| format!("    {pcr:<2}: 0x{}\n", value.hex().to_uppercase()));
    let pcrs = format!("  {}:\n{}", parts.pcrs.bank().name(), values.collect::<String>());
    let files: [(&str, Option<&[u8]>); 9] = [
        ("quote.bin", Some(parts.quote)),
        ("quote.sig", Some(parts.signature)),
        ("ak.pub", ak_public),
        ("pcrs.txt", Some(pcrs.as_bytes())),
        ("node-key.pub", Some(parts.node_key)),
        ("node-key.certify", Some(parts.certification)),
        ("node-key.sig", Some(parts.certification_signature)),
        ("event.log", parts.event_log),
        ("ima.log", parts.ima_log),
    ];
    files.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.to_vec()))).collect()
}
