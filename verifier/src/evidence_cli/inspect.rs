//! `inspect`: everything that a file says, believed by nobody.

use std::{io::Write, process::ExitCode};

use comfy_table::{ContentArrangement, presets};
use evidence::{
    event_log::{CcEventLog, Event, EventLog, LOG_CAP_BYTES},
    hcl::{HCL_REPORT_CAP_BYTES, HardwareReport, HclReport},
    ima::{IMA_CAP_BYTES, ImaLog},
    sev_snp::{CertificateTable, SnpReport, cert_table::CERT_TABLE_CAP_BYTES, report::REPORT_BYTES},
    tdx::{Quote, quote::QUOTE_CAP_BYTES},
    tpm::attest::{ATTEST_CAP_BYTES, Attest, Attested},
};
use serde_json::{Map, Value, json};

use super::{
    EXIT_DENIED, EXIT_FAULT,
    args::Format,
    case::{Case, Kind},
    dcap_quote, ek_chain,
    event_log::bank_name,
    files,
    outcome::{Fault, Refusal},
    pcr_file::Banks,
    snp,
    tpm_quote::attest_of,
};

/// Shows all the files of a case.
pub(super) fn run(case: &Case, format: Format) -> std::io::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let parts = match read_all(case) {
        Ok(parts) => parts,
        Err(refusal) => return refused(&mut out, &refusal, format),
    };
    match format {
        Format::Json => {
            let object: Map<String, Value> = parts.into_iter().map(|part| (part.name.to_owned(), part.json)).collect();
            print_value(&mut out, &Value::Object(object))?;
        }
        Format::Text => {
            for part in parts {
                writeln!(out, "{}\n{}", part.name, part.table)?;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn refused(out: &mut impl Write, refusal: &Refusal, format: Format) -> std::io::Result<ExitCode> {
    let (decision, code, text, exit) = match refusal {
        Refusal::Denied(denial) => ("denied", denial.code(), format!("{denial} [{}]", denial.class()), EXIT_DENIED),
        Refusal::Fault(fault) => ("fault", fault.code(), fault.to_string(), EXIT_FAULT),
    };
    match format {
        Format::Json => print_value(out, &json!({"decision": decision, "code": code, "text": text}))?,
        Format::Text => writeln!(out, "{decision}: {code}\n{text}")?,
    }
    out.flush()?;
    Ok(ExitCode::from(exit))
}

/// One file, in both forms.
struct Part {
    name: &'static str,
    json: Value,
    table: Table,
}

impl Part {
    fn of_claims(name: &'static str, claims: Map<String, Value>) -> Self {
        Self { name, table: Table::of_claims(&claims), json: Value::Object(claims) }
    }
}

fn read_all(case: &Case) -> Result<Vec<Part>, Refusal> {
    let mut parts = Vec::new();
    let mut selection = None;
    if let Some(path) = case.file("quote")? {
        let bytes = files::read(path, "quote", QUOTE_CAP_BYTES)?;
        let (quote, rest) = Quote::parse_prefix(&bytes)?;
        let mut claims = dcap_quote::claims(&quote);
        claims.insert("trailing_bytes".to_owned(), rest.len().into());
        parts.push(Part { name: "DCAP quote", table: Table::of_claims(&claims), json: Value::Object(claims) });
    }
    if let Some(path) = case.file("message")? {
        let bytes = files::read(path, "quote", ATTEST_CAP_BYTES)?;
        let attest = Attest::read(attest_of(&bytes))?;
        selection = attest.quote().ok().map(|quote| quote.selection);
        parts.push(quote(&attest));
    }
    if let Some(path) = case.file("pcrs")? {
        parts.push(pcrs(&Banks::read(path, selection)?));
    }
    if let Some(path) = case.file("event_log")? {
        let bytes = files::read(path, "event log", LOG_CAP_BYTES)?;
        parts.push(if case.kind == Kind::CcelLog {
            event_log(CcEventLog::parse(&bytes)?.log())
        } else {
            event_log(&EventLog::parse(&bytes)?)
        });
    }
    if let Some(path) = case.file("ima_log")? {
        parts.push(ima_log(&ImaLog::parse(&files::read(path, "IMA log", IMA_CAP_BYTES)?)?));
    }
    if let Some(path) = case.file("report")? {
        let bytes = files::read(path, "SNP report", REPORT_BYTES)?;
        parts.push(Part::of_claims("SNP report", snp::describe(&SnpReport::parse(&bytes)?)));
    }
    if let Some(path) = case.file("cert_table")? {
        let bytes = files::read(path, "certificate table", CERT_TABLE_CAP_BYTES)?;
        parts.push(Part::of_claims("certificate table", snp::describe_table(&CertificateTable::parse(&bytes)?)));
    }
    if let Some(path) = case.file("hcl_report")? {
        let bytes = files::read(path, "HCL report", HCL_REPORT_CAP_BYTES)?;
        if let HardwareReport::Snp(report) = HclReport::parse(&bytes)?.hardware {
            parts.push(Part::of_claims("SNP report", snp::describe(&SnpReport::parse(report)?)));
        }
    }
    if let Some(path) = case.file("ek_cert")? {
        let claims = ek_chain::describe_certificate(path)?;
        parts.push(Part::of_claims("certificate", claims));
    }
    if parts.is_empty() {
        return Err(Fault::Request { what: "no file to show".into() }.into());
    }
    Ok(parts)
}

fn quote(attest: &Attest<'_>) -> Part {
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| {
        claims.insert(name.to_owned(), value);
    };
    claim("qualifiedSigner", hex::encode(attest.qualified_signer).into());
    claim("extraData", hex::encode(attest.extra_data).into());
    claim("clock", attest.clock.clock_ms.into());
    claim("resetCount", attest.clock.reset_count.into());
    claim("restartCount", attest.clock.restart_count.into());
    claim("safe", attest.clock.safe.into());
    claim("firmwareVersion", format!("{:016x}", attest.firmware_version).into());
    match attest.attested {
        Attested::Quote(quote) => {
            claim("type", "quote".into());
            claim("bank", quote.selection.bank.name().into());
            claim("pcrs", quote.selection.pcrs.iter().collect::<Vec<u8>>().into());
            claim("pcrDigest", hex::encode(quote.pcr_digest).into());
        }
        Attested::Certify(certify) => {
            claim("type", "certify".into());
            claim("name", hex::encode(certify.name).into());
            claim("qualifiedName", hex::encode(certify.qualified_name).into());
        }
    }
    Part { name: "quote", table: Table::of_claims(&claims), json: Value::Object(claims) }
}

fn pcrs(banks: &Banks) -> Part {
    let mut table = Table::new(&["bank", "PCR", "value"]);
    let mut json = Map::new();
    for (pcr, value) in banks.iter() {
        table.row(&[value.alg().name().into(), pcr.to_string(), value.hex()]);
        let bank = json.entry(value.alg().name()).or_insert_with(|| json!({}));
        if let Some(bank) = bank.as_object_mut() {
            bank.insert(pcr.to_string(), value.hex().into());
        }
    }
    Part { name: "pcrs", json: Value::Object(json), table }
}

fn event_log(log: &EventLog<'_>) -> Part {
    let banks: Vec<String> = log.bank_ids().into_iter().map(bank_name).collect();
    let strongest = log.banks().into_iter().max();
    let mut table = Table::new(&["#", "PCR", "type", "digest", "data covered", "data (display only)"]);
    let mut events = Vec::new();
    for event in log.events() {
        let digest = strongest.and_then(|alg| event.digest(alg));
        let covered = strongest.map_or("display-only", |alg| event.data_binding(alg).name());
        table.row(&[
            event.index().to_string(),
            event.pcr().to_string(),
            event.kind().to_string(),
            digest.map_or_else(String::new, |digest| digest.hex().chars().take(16).collect()),
            covered.to_owned(),
            event.description().chars().take(60).collect(),
        ]);
        events.push(event_json(event, covered));
    }
    let json = json!({
        "format": if log.is_crypto_agile() { "crypto-agile" } else { "sha1-only" },
        "algorithms": banks,
        "startup_locality": log.startup_locality(),
        "events": events,
    });
    Part { name: "event log", json, table }
}

fn event_json(event: &Event<'_>, covered: &str) -> Value {
    let digests: Map<String, Value> =
        event.raw_digests().map(|(id, digest)| (bank_name(id), hex::encode(digest).into())).collect();
    json!({
        "index": event.index(),
        "offset": event.offset(),
        "pcr": event.pcr(),
        "type": event.kind().to_string(),
        "digests": digests,
        "extended": event.is_extended(),
        "data_bytes": event.data().len(),
        "data_covered": covered,
        "description": event.description(),
    })
}

fn ima_log(log: &ImaLog<'_>) -> Part {
    let mut table = Table::new(&["#", "PCR", "template", "file digest", "signed", "path"]);
    let mut entries = Vec::new();
    for entry in log.entries() {
        let signature = entry.signature().map(hex::encode);
        table.row(&[
            entry.index().to_string(),
            entry.pcr().to_string(),
            entry.template().name().to_owned(),
            entry.file_digest(),
            if signature.is_some() { "yes" } else { "no" }.to_owned(),
            entry.path_escaped(),
        ]);
        entries.push(json!({
            "index": entry.index(),
            "pcr": entry.pcr(),
            "template": entry.template().name(),
            "template_hash": entry.template_hash().to_string(),
            "file_digest": entry.file_digest(),
            "path": entry.path_escaped(),
            "signature": signature,
            "violation": entry.is_violation(),
        }));
    }
    let json = json!({"format": if log.is_binary() { "binary" } else { "ascii" }, "entries": entries});
    Part { name: "IMA log", json, table }
}

/// A table for people.
pub(super) struct Table(comfy_table::Table);

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        if !header.is_empty() {
            table.set_header(header);
        }
        Self(table)
    }

    pub(super) fn row(&mut self, cells: &[String]) {
        self.0.add_row(cells);
    }

    /// Name and value in two columns, objects unfolded.
    pub(super) fn of_claims(claims: &Map<String, Value>) -> Self {
        let mut table = Self::new(&[]);
        claims.iter().for_each(|(name, value)| table.claim(name.clone(), value));
        table
    }

    fn claim(&mut self, name: String, value: &Value) {
        match value {
            Value::Object(inner) => {
                inner.iter().for_each(|(key, value)| self.claim(format!("{name}.{key}"), value));
            }
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(shown).collect();
                self.row(&[name, items.join(" ")]);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.row(&[name, shown(value)]),
        }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One JSON document on a line of its own.
pub(super) fn print_value(out: &mut impl Write, value: &Value) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}
