//! The verbs that use the TPM or TEE without a running daemon: `enrol` and `evidence`.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use attestd::cli::{Common, EnrolArgs, EvidenceArgs, Format, Outcome};
use attestd::collect::{CollectFault, Collected, Demand, NamedPart, TpmCollector, Wanted, WantedOfTpm};
use attestd::config::{Config, DomainConfig};
use attestd::enrol::enrol as enrol_with;
use attestd::machine::Machine;
use attestd::state::{StateDir, StateError};
use attestd::tee::detect;
use attestd::tpm::objects::AttestationKey;
use evidence::EvidenceKind;
use evidence::digest::HashAlg;
use evidence::tpm::pcr::{PcrSelection, PcrSet};
use serde_json::{Value, json};

/// What a verb ran into, with its class and code.
struct Failure {
    class: &'static str,
    code: String,
    why: String,
}

/// Configuration, locked state and machine: what both verbs need.
struct Place {
    config: Config,
    state: Arc<StateDir>,
    machine: Machine,
}

impl Place {
    fn open(common: &Common) -> Result<Self, Failure> {
        let fault = |code: &str, why: String| Failure { class: "fault", code: code.to_owned(), why };
        let config = Config::load(&common.config_path(), std::env::vars()).map_err(|error| Failure {
            class: "usage",
            code: "configuration".to_owned(),
            why: error.to_string(),
        })?;
        let state = StateDir::open(&common.state).map_err(|error| match error {
            StateError::InUse { .. } => {
                fault("fault.state_in_use", format!("{error}; stop it first, the TPM has one owner"))
            }
            StateError::Missing { .. }
            | StateError::NotPrivate { .. }
            | StateError::TooLarge { .. }
            | StateError::Malformed { .. }
            | StateError::Io { .. } => fault("fault.state", error.to_string()),
        })?;
        let machine = Machine::open(&config.identity).map_err(|error| fault(error.code(), error.to_string()))?;
        Ok(Self { config, state: Arc::new(state), machine })
    }

    /// What Evidence for people holds: everything that this machine has and the configuration names.
    fn wanted(&self, arguments: &EvidenceArgs) -> Result<Wanted, Failure> {
        let usage = |why: &str| Failure { class: "usage", code: "pcrs".to_owned(), why: why.to_owned() };
        let logs = &self.config.logs;
        let (event_log, ima_log) = (logs.event_log.is_some(), logs.ima_log.is_some());
        let ccel = self.config.identity.tee().is_some_and(|(_, tee)| tee.ccel.is_some());
        let of_tpm = || {
            let bank = HashAlg::from_name(&arguments.bank);
            let pcrs = PcrSet::of(&arguments.pcrs).filter(|pcrs| !pcrs.is_empty());
            let quoted = bank.zip(pcrs).map(|(bank, pcrs)| PcrSelection { bank, pcrs });
            let quoted = quoted.ok_or_else(|| usage("--bank and --pcrs must name a bank and PCRs 0 to 23"))?;
            let wanted = WantedOfTpm::for_inspection(quoted, event_log, ima_log);
            wanted.ok_or_else(|| usage("--pcrs must name a PCR that a node key can be bound to"))
        };
        Ok(match self.config.identity.kind() {
            EvidenceKind::Tpm => Wanted::Tpm(of_tpm()?),
            EvidenceKind::SevSnp => Wanted::SevSnp,
            EvidenceKind::Tdx => Wanted::Tdx { ccel, ima_log },
            EvidenceKind::TpmOnSevSnp => Wanted::TpmOnSevSnp(of_tpm()?),
            EvidenceKind::TpmOnTdx => Wanted::TpmOnTdx(of_tpm()?, ccel),
        })
    }
}

/// Enrols with one domain.
///
/// # Errors
/// Output cannot be written.
pub(crate) async fn enrol(common: &Common, arguments: EnrolArgs) -> anyhow::Result<Outcome> {
    let place = match Place::open(common) {
        Ok(place) => place,
        Err(failure) => return failed(common.format, &failure),
    };
    let Some(domain) = chosen(&place.config, arguments.domain.as_deref()) else {
        let why = "--domain must name one of the configured domains".to_owned();
        return failed(common.format, &Failure { class: "usage", code: "domain".to_owned(), why });
    };
    match enrol_with(&place.config, domain, &place.machine, &place.state).await {
        Ok(grant) => {
            let bundle = grant.bundle.bundle();
            let document = json!({
                "decision": "affirmed",
                "node": place.config.node_id.as_str(),
                "domain": grant.domain.as_str(),
                "trust_bundle": { "sequence": bundle.sequence, "expires_at": bundle.expires_at.0, "digest": grant.bundle.digest().to_string() },
            });
            match common.format {
                Format::Json => writeln!(io::stdout(), "{document}")?,
                Format::Text => writeln!(
                    io::stdout(),
                    "{} is enrolled with {} (trust bundle {}, sequence {}).",
                    place.config.node_id,
                    grant.domain,
                    grant.bundle.digest(),
                    bundle.sequence
                )?,
            }
            Ok(Outcome::Done)
        }
        Err(error) => {
            let (class, code) = (error.class(), error.code().to_owned());
            failed(common.format, &Failure { class, code, why: error.to_string() })
        }
    }
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Option<&'a DomainConfig> {
    match (name, config.domains.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), domains) => domains.iter().find(|domain| domain.name.as_str() == name),
    }
}

/// Collects Evidence for a nonce.
///
/// # Errors
/// Output cannot be written.
pub(crate) async fn evidence(common: &Common, arguments: EvidenceArgs) -> anyhow::Result<Outcome> {
    let usage = |code: &str, why: &str| Failure { class: "usage", code: code.to_owned(), why: why.to_owned() };
    let nonce = hex::decode(&arguments.nonce).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let Some(nonce) = nonce else {
        return failed(common.format, &usage("nonce", "--nonce must be 64 hexadecimal digits"));
    };
    let place = match Place::open(common) {
        Ok(place) => place,
        Err(failure) => return failed(common.format, &failure),
    };
    let wanted = match place.wanted(&arguments) {
        Ok(wanted) => wanted,
        Err(failure) => return failed(common.format, &failure),
    };
    let demand = Demand::for_inspection(nonce, wanted);
    let collecting = async {
        let collector = place.machine.with_keys(&place.config, &place.state).await?;
        let collected = collector.collect(&demand).await?;
        Ok::<_, CollectFault>((collector, collected))
    };
    let (collector, collected) = match collecting.await {
        Ok(collected) => collected,
        Err(fault) => {
            say_what_is_there(&place.config)?;
            return failed(common.format, &fault_of(fault.code(), &fault));
        }
    };
    let ak = collector.tpm().map(TpmCollector::ak);
    if let Some(path) = &arguments.out {
        std::fs::write(path, collected.evidence.bytes()).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(directory) = &arguments.parts {
        write_parts(directory, &collected.named_parts(ak))?;
    }
    let document = describe(place.config.node_id.as_str(), &arguments, &collected, ak)?;
    match common.format {
        Format::Json => writeln!(io::stdout(), "{document}")?,
        Format::Text => print_text(&document)?,
    }
    Ok(Outcome::Done)
}

/// On standard error, whatever the format: for whoever wonders why there is no Evidence.
fn say_what_is_there(config: &Config) -> io::Result<()> {
    detect::look(config).iter().try_for_each(|finding| writeln!(io::stderr(), "attestd: {finding}"))
}

fn fault_of(code: &str, fault: &dyn std::fmt::Display) -> Failure {
    Failure { class: "fault", code: code.to_owned(), why: fault.to_string() }
}

fn describe(
    node: &str,
    arguments: &EvidenceArgs,
    collected: &Collected,
    ak: Option<&AttestationKey>,
) -> anyhow::Result<Value> {
    let mut document = collected.describe(ak).context("the evidence just made")?;
    if let Some(fields) = document.as_object_mut() {
        fields.insert("node".to_owned(), json!(node));
        fields.insert("nonce".to_owned(), json!(arguments.nonce.to_ascii_lowercase()));
        let file = arguments.out.as_ref().map(|path| path.display().to_string());
        fields.insert("evidence_file".to_owned(), json!(file));
    }
    Ok(document)
}

fn print_text(document: &Value) -> anyhow::Result<()> {
    let mut out = io::stdout();
    let fields = [
        "node",
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

fn failed(format: Format, failure: &Failure) -> anyhow::Result<Outcome> {
    let outcome = match failure.class {
        "denied" => Outcome::Denied,
        "usage" => Outcome::Usage,
        _ => Outcome::Fault,
    };
    match format {
        Format::Json => {
            let document =
                json!({ "decision": failure.class, "failures": [{ "code": failure.code, "why": failure.why }] });
            writeln!(io::stdout(), "{document}")?;
        }
        Format::Text => writeln!(io::stderr(), "attestd: {} ({})", failure.why, failure.code)?,
    }
    Ok(outcome)
}
