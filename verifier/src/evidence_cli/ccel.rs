//! The event log of a confidential VM: readable, consistent with its own data, and leading to the registers beside it.

use evidence::{
    EvidenceDenial,
    digest::HashAlg,
    event_log::{CcEventLog, LOG_CAP_BYTES},
    tdx::{Quote, quote::QUOTE_CAP_BYTES},
};
use serde_json::{Value, json};

use super::{
    case::Case,
    event_log::bank_name,
    files,
    outcome::{Refusal, Report},
    pcr_file::Banks,
};

pub(super) fn judge(case: &Case) -> Result<Report, Refusal> {
    let bytes = files::read(case.required_file("event_log")?, "event log", LOG_CAP_BYTES)?;
    let log = CcEventLog::parse(&bytes)?;
    let mut report = Report::default();
    let mut is_compared = false;
    if let Some(path) = case.file("pcrs")? {
        let registers: Vec<_> = Banks::read(path, None)?.iter().collect();
        log.log().verify_replay(&registers)?;
        log.log().verify_all_proven(&registers)?;
        is_compared = true;
    }
    if let Some(path) = case.file("quote")? {
        let bytes = files::read(path, "quote", QUOTE_CAP_BYTES)?;
        let (quote, _) = Quote::parse_prefix(&bytes)?;
        if !log.verify_replay(&quote.td_report()?.rtmrs)? {
            report.note("the log does not lead to RTMR3, which software extends after boot");
        }
        report.note("the quote was read for its registers alone, its signatures were not verified");
        is_compared = true;
    }
    if !is_compared {
        report.note("no registers given: the log is consistent with itself, nothing says that a TD measured it");
    }
    log.verify_event_data()?;
    describe(&log, &mut report)?;
    Ok(report)
}

fn describe(log: &CcEventLog<'_>, report: &mut Report) -> Result<(), EvidenceDenial> {
    report.claim("events", log.events().len());
    let banks: Vec<String> = log.log().bank_ids().into_iter().map(bank_name).collect();
    report.claim("algorithms", banks);
    let registers = (0u8..).zip(log.replay()?).map(|(rtmr, value)| (format!("rtmr{rtmr}"), Value::from(value.hex())));
    report.claim(HashAlg::Sha384.name(), Value::Object(registers.collect()));
    match log.verify_boot_grammar() {
        Ok(facts) => report.claim("secure_boot", json!(facts.secure_boot)),
        Err(denial) => report.note(format!("appraisal refuses it: {denial} ({})", denial.code())),
    }
    Ok(())
}
