//! A TPM 2.0 quote: signed by the key beside it, over the values beside it, answering the nonce given.

use evidence::{
    EvidenceDenial,
    digest::Digest,
    event_log::{EventLog, LOG_CAP_BYTES},
    ima::{IMA_CAP_BYTES, ImaLog},
    tpm::{
        Quoted,
        attest::{ATTEST_CAP_BYTES, Attest, QuoteInfo},
        public::SignatureScheme,
    },
};
use serde_json::json;

use super::{
    ak::AttestationKey,
    case::Case,
    event_log, files, ima,
    outcome::{Fault, Refusal, Report},
    pcr_file::Banks,
};

pub(super) const SIGNATURE_CAP_BYTES: usize = 4096;

pub(super) fn judge(case: &Case) -> Result<Report, Refusal> {
    let message = files::read(case.required_file("message")?, "quote", ATTEST_CAP_BYTES)?;
    let message = attest_of(&message);
    let attest = Attest::read(message)?;
    let quote = attest.quote()?;
    let signature = files::read(case.required_file("signature")?, "signature", SIGNATURE_CAP_BYTES)?;
    let ak = AttestationKey::read(case.required_file("ak")?)?;
    let signature = ak.tpmt_signature(&signature)?;
    let (key, scheme) = ak.verifying_key(&signature)?;
    let banks = read_banks(case, &quote)?;
    let mut report = Report::default();
    // The signature first: nothing else in a forged quote is worth a word.
    key.verify(message, &signature)?;
    verify_nonce(case, &attest)?;
    if let Some(banks) = banks {
        let values = banks.bank(quote.selection.bank).ok_or_else(|| no_values(&quote))?;
        let quoted = Quoted::verify(message, &signature, &key, &values)?;
        if let Err(denial) = quoted.refuse_weak() {
            report.note(format!("appraisal refuses it: {denial} ({})", denial.code()));
        }
        let registers: Vec<(u8, Digest)> = quoted.values().iter().map(|(pcr, value)| (pcr, *value)).collect();
        verify_logs(case, &registers, &mut report)?;
    } else if ["event_log", "ima_log"].iter().any(|role| !case.files(role).is_empty()) {
        return Err(Fault::Request { what: "a log needs PCR values to be judged by".into() }.into());
    } else {
        report.note("no PCR values given: the quoted digest was not recomputed");
    }
    ak.verify_certificate(case, &mut report)?;
    describe(&attest, &quote, scheme, &mut report);
    Ok(report)
}

/// The TPMS_ATTEST, out of a TPM2B_ATTEST if that is what it is.
pub(super) fn attest_of(bytes: &[u8]) -> &[u8] {
    const MAGIC: [u8; 4] = [0xff, 0x54, 0x43, 0x47];
    match bytes.split_first_chunk::<2>() {
        Some((size, inner)) if inner.starts_with(&MAGIC) && usize::from(u16::from_be_bytes(*size)) == inner.len() => {
            inner
        }
        _ => bytes,
    }
}

fn read_banks(case: &Case, quote: &QuoteInfo<'_>) -> Result<Option<Banks>, Refusal> {
    case.file("pcrs")?.map(|path| Banks::read(path, Some(quote.selection))).transpose()
}

/// No value of the quoted bank is beside the quote.
pub(super) fn no_values(quote: &QuoteInfo<'_>) -> EvidenceDenial {
    let got = format!("nothing: no values of bank {}", quote.selection.bank);
    EvidenceDenial::PcrDigestMismatch { got, quoted: hex::encode(quote.pcr_digest) }
}

pub(super) fn verify_nonce(case: &Case, attest: &Attest<'_>) -> Result<(), EvidenceDenial> {
    match &case.expect_nonce {
        Some(expected) if expected != attest.extra_data => Err(EvidenceDenial::BindingMismatch {
            got: hex::encode(attest.extra_data),
            expected: hex::encode(expected),
        }),
        Some(_) | None => Ok(()),
    }
}

fn verify_logs(case: &Case, registers: &[(u8, Digest)], report: &mut Report) -> Result<(), Refusal> {
    if let Some(path) = case.file("event_log")? {
        let bytes = files::read(path, "event log", LOG_CAP_BYTES)?;
        let log = EventLog::parse(&bytes)?;
        event_log::verify_registers(&log, registers.iter().copied(), report)?;
        event_log::verify_data(&log)?;
        if let Err(denial) = log.verify_all_proven(registers) {
            report.note(format!("a part of the event log is not covered by the quote: {denial}"));
        }
        event_log::describe(&log, report);
    }
    if let Some(path) = case.file("ima_log")? {
        let bytes = files::read(path, "IMA log", IMA_CAP_BYTES)?;
        let log = ImaLog::parse(&bytes)?;
        log.verify_entries()?;
        ima::verify_registers(&log, &Banks::of(registers), report)?;
        ima::verify_signatures(case, &log, report)?;
    }
    Ok(())
}

pub(super) fn describe(attest: &Attest<'_>, quote: &QuoteInfo<'_>, scheme: SignatureScheme, report: &mut Report) {
    if attest.extra_data.is_empty() {
        report.note("the quote carries no qualifying data: it proves no freshness");
    }
    if !attest.clock.safe {
        report.note("the TPM says that its clock may have gone back");
    }
    let pcrs: Vec<u8> = quote.selection.pcrs.iter().collect();
    report.claim("extraData", hex::encode(attest.extra_data));
    report.claim("qualifiedSigner", hex::encode(attest.qualified_signer));
    report.claim("clock", attest.clock.clock_ms);
    report.claim("resetCount", attest.clock.reset_count);
    report.claim("restartCount", attest.clock.restart_count);
    report.claim("safe", u8::from(attest.clock.safe));
    report.claim("firmwareVersion", format!("{:016x}", attest.firmware_version));
    report.claim("pcrSelect", json!([[quote.selection.bank.tpm_id(), pcrs]]));
    report.claim("pcrDigest", hex::encode(quote.pcr_digest));
    report.claim("signature", scheme.to_string());
}
