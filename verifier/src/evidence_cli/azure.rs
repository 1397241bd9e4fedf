//! Quotes of Azure's vTPM: by the key that the hardware report under them names, over the values beside them.

use evidence::{
    EvidenceDenial,
    hcl::{HCL_REPORT_CAP_BYTES, HardwareReport, HclReport, RuntimeClaims},
    sev_snp::SnpReport,
    tpm::{
        Quoted,
        attest::{ATTEST_CAP_BYTES, Attest},
    },
};

use super::{
    ak::AttestationKey,
    case::Case,
    dcap_quote, files,
    known::Known,
    outcome::{Refusal, Report},
    pcr_file::Banks,
    snp,
    tpm_quote::{self, SIGNATURE_CAP_BYTES, attest_of},
};

pub(super) fn judge(case: &Case, known: &Known) -> Result<Report, Refusal> {
    let bytes = files::read(case.required_file("hcl_report")?, "HCL report", HCL_REPORT_CAP_BYTES)?;
    let hcl = HclReport::parse(&bytes)?;
    let mut said = Report::default();
    match hcl.hardware {
        HardwareReport::Snp(report) => {
            let report = SnpReport::parse(report)?;
            let claims = hcl.runtime_claims(report.report_data)?;
            judge_quote(case, &claims, &mut said)?;
            // its fields come under their own names beside the quote's
            let mut hardware = Report::default();
            snp::judge_report(case, known, &report, &mut hardware)?;
            said.notes.append(&mut hardware.notes);
            said.claim("snp", hardware.claims);
            said.claim("report_type", "SNP");
            describe(&hcl, &claims, &mut said);
        }
        HardwareReport::Tdx(td_report) => {
            let claims = hcl.runtime_claims(td_report.report_data)?;
            judge_quote(case, &claims, &mut said)?;
            let mut hardware = dcap_quote::judge_role(case, known, "td_quote", |quote| {
                let quoted = quote.td_report()?;
                hcl.runtime_claims(quoted.report_data)?;
                td_report.verify_quoted(quoted)
            })?;
            said.notes.append(&mut hardware.notes);
            said.claim("td_quote", hardware.claims);
            said.claim("report_type", "TDX");
            describe(&hcl, &claims, &mut said);
        }
    }
    Ok(said)
}

/// The quote is by the AK of the claims, and what is given beside it fits.
fn judge_quote(case: &Case, claims: &RuntimeClaims, said: &mut Report) -> Result<(), Refusal> {
    let message = files::read(case.required_file("message")?, "quote", ATTEST_CAP_BYTES)?;
    let message = attest_of(&message);
    let signature = files::read(case.required_file("signature")?, "signature", SIGNATURE_CAP_BYTES)?;
    let ak = AttestationKey::Spki(claims.ak_spki().to_vec());
    let signature = ak.tpmt_signature(&signature)?;
    let (key, scheme) = ak.verifying_key(&signature)?;
    let attest = Attest::read(message)?;
    let quote = attest.quote()?;
    key.verify(message, &signature)?;
    if let Some(path) = case.file("ak")?
        && !AttestationKey::read(path)?.is_spki(claims.ak_spki())
    {
        return Err(EvidenceDenial::AkKeyMismatch.into());
    }
    tpm_quote::verify_nonce(case, &attest)?;
    match case.file("pcrs")? {
        Some(path) => {
            let banks = Banks::read(path, Some(quote.selection))?;
            let values = banks.bank(quote.selection.bank).ok_or_else(|| tpm_quote::no_values(&quote))?;
            let quoted = Quoted::verify(message, &signature, &key, &values)?;
            if let Err(denial) = quoted.refuse_weak() {
                said.note(format!("appraisal refuses it: {denial} ({})", denial.code()));
            }
        }
        None => said.note("no PCR values given: the quoted digest was not recomputed"),
    }
    tpm_quote::describe(&attest, &quote, scheme, said);
    Ok(())
}

fn describe(hcl: &HclReport<'_>, claims: &RuntimeClaims, said: &mut Report) {
    said.claim("hcl_version", hcl.version);
    said.claim("hash_type", hcl.hash().name());
    if let Some(user_data) = claims.user_data() {
        said.claim("user_data", user_data.escape_default().to_string());
    }
}
