//! `attestd evidence`: what this machine proves of itself, for a nonce of the caller's. Asks the daemon where one runs,
//! since the machine has one owner, and the machine itself where none does.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use attestd::cli::{Common, EvidenceArgs, Format, Outcome};
use attestd::collect::{Inspected, InspectionFault, NamedPart};
use attestd::config::Config;
use attestd::machine::Machine;
use attestd::state::{StateDir, StateError};
use attestd::tee::detect;
use serde_json::{Value, json};
use wire::bounded::local::EvidenceRequest;
use wire::proto;

use super::client;
use super::failure::{Failure, failed};

/// Collects Evidence for a nonce and saves it.
///
/// # Errors
/// Output cannot be written.
pub(crate) async fn evidence(common: &Common, arguments: EvidenceArgs) -> anyhow::Result<Outcome> {
    let Inspected { mut document, cmw } = match inspected(common, &arguments).await? {
        Ok(inspected) => inspected,
        Err(failure) => return failed(common.format, &failure),
    };
    if let Some(path) = &arguments.out {
        std::fs::write(path, &cmw).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(directory) = &arguments.parts {
        let shown = Inspected { document: document.clone(), cmw };
        write_parts(directory, &shown.named_parts().context("the evidence just made")?)?;
    }
    if let Some(fields) = document.as_object_mut() {
        let file = arguments.out.as_ref().map(|path| path.display().to_string());
        fields.insert("evidence_file".to_owned(), json!(file));
    }
    match common.format {
        Format::Json => writeln!(io::stdout(), "{document}")?,
        Format::Text => print_text(&document)?,
    }
    Ok(Outcome::Done)
}

async fn inspected(common: &Common, arguments: &EvidenceArgs) -> anyhow::Result<Result<Inspected, Failure>> {
    let (config, message) = match Failure::or_config(common).and_then(|config| Ok((config, asked(arguments)?))) {
        Ok(both) => both,
        Err(failure) => return Ok(Err(failure)),
    };
    let inspected = match StateDir::open(&common.state) {
        Ok(state) => alone(&config, state, message).await,
        Err(busy @ StateError::InUse { .. }) => match client::evidence(&common.state, message).await? {
            Some(answered) => answered,
            None => Err(Failure::of_state(&busy)),
        },
        Err(error) => Err(Failure::of_state(&error)),
    };
    if inspected.as_ref().is_err_and(|failure| failure.class == "fault") {
        // On standard error, whatever the format: for whoever wonders why there is no Evidence.
        detect::look(&config).iter().try_for_each(|finding| writeln!(io::stderr(), "attestd: {finding}"))?;
    }
    Ok(inspected)
}

fn asked(arguments: &EvidenceArgs) -> Result<proto::EvidenceRequest, Failure> {
    let nonce = hex::decode(&arguments.nonce).ok().filter(|nonce| nonce.len() == 32);
    let nonce = nonce.ok_or_else(|| Failure::usage("nonce", "--nonce must be 64 hexadecimal digits"))?;
    let mut pcrs: Vec<u32> = arguments.pcrs.iter().copied().map(u32::from).collect();
    pcrs.sort_unstable();
    pcrs.dedup();
    let message = proto::EvidenceRequest { nonce, pcr_bank: arguments.bank.clone(), pcrs };
    // Before any machine or daemon is asked.
    EvidenceRequest::try_from(message.clone()).map_err(|denial| Failure::usage(denial.field, denial.to_string()))?;
    Ok(message)
}

/// From the machine itself.
async fn alone(config: &Config, state: StateDir, message: proto::EvidenceRequest) -> Result<Inspected, Failure> {
    let request =
        EvidenceRequest::try_from(message).map_err(|denial| Failure::usage(denial.field, denial.to_string()))?;
    let machine = Machine::open(&config.identity).map_err(|error| Failure::fault(error.code(), error.to_string()))?;
    let inspecting = async {
        let collector = machine.with_keys(config, &Arc::new(state)).await?;
        collector.inspect(config, &request).await
    };
    inspecting.await.map_err(|fault: InspectionFault| match &fault {
        InspectionFault::Asked(denial) => Failure::usage("pcrs", denial.to_string()),
        InspectionFault::Collect(fault) => Failure::fault(fault.code(), fault.to_string()),
    })
}

fn print_text(document: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let fields = [
        "node",
        "nonce",
        "kind",
        "evidence_digest",
        "evidence_bytes",
        "qualifying_data",
        "report_data",
        "measurement",
        "mrtd",
        "pcr_bank",
        "pcr_digest",
        "ak_name",
    ];
    for field in fields {
        match document.get(field) {
            Some(Value::String(text)) => writeln!(out, "{field}: {text}")?,
            Some(other) => writeln!(out, "{field}: {other}")?,
            None => {}
        }
    }
    if let Some(Value::Object(pcrs)) = document.get("pcrs") {
        let mut pcrs: Vec<(u8, &str)> =
            pcrs.iter().filter_map(|(pcr, value)| Some((pcr.parse().ok()?, value.as_str()?))).collect();
        pcrs.sort_unstable();
        for (pcr, value) in pcrs {
            writeln!(out, "pcr {pcr}: {value}")?;
        }
    }
    Ok(())
}

fn write_parts(directory: &Path, parts: &[NamedPart]) -> anyhow::Result<()> {
    for (name, bytes) in parts {
        let path = directory.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
