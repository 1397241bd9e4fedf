//! An IMA measurement list: its own hashes, signatures under given keys, and PCR 10 where that is known.

use evidence::{
    EvidenceDenial,
    digest::HashAlg,
    ima::{IMA_CAP_BYTES, ImaBankForm, ImaEntry, ImaKey, ImaLog},
};
use serde_json::json;

use super::{
    case::Case,
    files,
    outcome::{Refusal, Report},
    pcr_file::Banks,
};

const KEY_CAP_BYTES: usize = 16 * 1024;

pub(super) fn judge(case: &Case) -> Result<Report, Refusal> {
    let bytes = files::read(case.required_file("ima_log")?, "IMA log", IMA_CAP_BYTES)?;
    let log = ImaLog::parse(&bytes)?;
    let mut report = Report::default();
    log.verify_entries()?;
    match case.file("pcrs")? {
        Some(path) => verify_registers(&log, &Banks::read(path, None)?, &mut report)?,
        None => {
            log.verify_order()?;
            report.note("no PCR 10 given: nothing says that the list is complete, or that a TPM measured it");
        }
    }
    verify_signatures(case, &log, &mut report)?;
    describe(&log, &mut report);
    Ok(report)
}

/// E8: PCR 10 of each bank covers a prefix, and boot_aggregate is of the boot registers.
pub(super) fn verify_registers(log: &ImaLog<'_>, banks: &Banks, report: &mut Report) -> Result<(), EvidenceDenial> {
    let mut is_judged = false;
    for alg in HashAlg::ALL {
        let Some(pcr10) = banks.get(alg, 10) else { continue };
        let prefix = log.match_prefix(&pcr10)?;
        report.claim("covered_entries", prefix.covered);
        let beyond = log.entries().len().saturating_sub(prefix.covered);
        if beyond > 0 {
            report.note(format!("{beyond} entries beyond PCR 10 of {alg} are not covered and not to be believed"));
        }
        is_judged = true;
    }
    if !is_judged {
        return Err(EvidenceDenial::Missing { part: "PCR 10" });
    }
    let aggregate = log.entries().first().filter(|entry| entry.is_boot_aggregate());
    let alg = aggregate.and_then(ImaEntry::known_file_digest).map(|digest| digest.alg());
    let registers: Vec<_> = banks.iter().filter(|(_, value)| Some(value.alg()) == alg).collect();
    if registers.is_empty() {
        report.note("boot_aggregate not checked: PCR 0-7 of its bank are not given");
        return Ok(());
    }
    log.verify_boot_aggregate(&registers)
}

/// Every file signature, if keys are given.
pub(super) fn verify_signatures(case: &Case, log: &ImaLog<'_>, report: &mut Report) -> Result<(), Refusal> {
    let signed = log.entries().iter().filter(|entry| entry.signature().is_some()).count();
    report.claim("signatures", signed);
    if case.files("keys").is_empty() {
        if signed > 0 {
            report.note(format!("{signed} file signatures not verified: no keys given"));
        }
        return Ok(());
    }
    let mut keys = Vec::new();
    for path in case.files("keys") {
        let bytes = files::read(path, "IMA key", KEY_CAP_BYTES)?;
        let der = files::pem_block(&bytes, &["PUBLIC KEY"]).map_or(bytes, |(_, der)| der);
        keys.push(ImaKey::from_spki_der(&der)?);
    }
    let verified = log.verify_signatures(&keys)?;
    report.claim("signatures_verified", verified);
    Ok(())
}

fn describe(log: &ImaLog<'_>, report: &mut Report) {
    report.claim("format", if log.is_binary() { "binary" } else { "ascii" });
    report.claim("entries", log.entries().len());
    report.claim(
        "pcr10",
        json!({
            "sha1": log.replay(HashAlg::Sha1, ImaBankForm::Rehashed).hex(),
            "sha256_zero_padded": log.replay(HashAlg::Sha256, ImaBankForm::ZeroPadded).hex(),
            "sha256_rehashed": log.replay(HashAlg::Sha256, ImaBankForm::Rehashed).hex(),
        }),
    );
}
