//! A TCG event log: readable, consistent with its own data, and leading to the registers beside it.

use evidence::{
    EvidenceDenial,
    digest::{Digest, HashAlg},
    event_log::{EventLog, LOG_CAP_BYTES},
};
use serde_json::{Value, json};

use super::{
    case::Case,
    files,
    outcome::{Refusal, Report},
    pcr_file::Banks,
};

pub(super) fn judge(case: &Case) -> Result<Report, Refusal> {
    let bytes = files::read(case.required_file("event_log")?, "event log", LOG_CAP_BYTES)?;
    let log = EventLog::parse(&bytes)?;
    let mut report = Report::default();
    if let Some(path) = case.file("pcrs")? {
        let banks = Banks::read(path, None)?;
        verify_registers(&log, banks.iter(), &mut report)?;
        log.verify_all_proven(&banks.iter().collect::<Vec<_>>())?;
    } else {
        report.note("no PCR values given: the log is consistent with itself, nothing says that a TPM measured it");
    }
    verify_data(&log)?;
    describe(&log, &mut report);
    Ok(report)
}

/// E3 for the registers that boot firmware and loaders measure into, and for all others that the log extends.
pub(super) fn verify_registers(
    log: &EventLog<'_>,
    registers: impl Iterator<Item = (u8, Digest)>,
    report: &mut Report,
) -> Result<(), EvidenceDenial> {
    let (explained, rest): (Vec<_>, Vec<_>) = registers.partition(|(pcr, value)| {
        let by_firmware = *pcr <= 9 || *pcr == 14;
        by_firmware || log.replay(value.alg()).is_ok_and(|replay| replay.is_extended(*pcr))
    });
    log.verify_replay(&explained)?;
    let unexplained = rest.iter().filter(|(pcr, value)| !is_reset_value(*pcr, value));
    let names: Vec<String> = unexplained.map(|(pcr, value)| format!("{}:{pcr}", value.alg())).collect();
    if !names.is_empty() {
        report.note(format!("not explained by the event log: PCR {}", names.join(", ")));
    }
    Ok(())
}

fn is_reset_value(pcr: u8, value: &Digest) -> bool {
    let start = if (17..=22).contains(&pcr) { 0xff } else { 0 };
    value.as_bytes().iter().all(|byte| *byte == start)
}

/// E5 in every bank that the log has and that we can compute.
pub(super) fn verify_data(log: &EventLog<'_>) -> Result<(), EvidenceDenial> {
    log.bank_ids().into_iter().filter_map(HashAlg::from_tpm).try_for_each(|alg| log.verify_event_data(alg))
}

/// Claims about the log, and what appraisal would refuse it for.
pub(super) fn describe(log: &EventLog<'_>, report: &mut Report) {
    report.claim("format", if log.is_crypto_agile() { "crypto-agile" } else { "sha1-only" });
    report.claim("events", log.events().len());
    let banks: Vec<String> = log.bank_ids().into_iter().map(bank_name).collect();
    report.claim("algorithms", banks);
    report.claim("startup_locality", log.startup_locality());
    let replays: serde_json::Map<String, Value> = log
        .banks()
        .into_iter()
        .filter_map(|alg| {
            let replay = log.replay(alg).ok()?;
            let values = replay.extended().map(|(pcr, value)| (pcr.to_string(), Value::from(value.hex())));
            Some((alg.name().to_owned(), Value::Object(values.collect())))
        })
        .collect();
    report.claim("registers", replays);
    if let Err(denial) = log.require_crypto_agile() {
        report.note(format!("appraisal refuses it: {denial} ({})", denial.code()));
    }
    match log.verify_boot_grammar() {
        Ok(facts) => report.claim("secure_boot", json!(facts.secure_boot)),
        Err(denial) => report.note(format!("appraisal refuses it: {denial} ({})", denial.code())),
    }
}

/// Name of a bank's algorithm.
pub(super) fn bank_name(id: u16) -> String {
    HashAlg::from_tpm(id).map_or_else(|| format!("{id:#06x}"), |alg| alg.name().to_owned())
}
