//! A DCAP quote of a TDX trust domain or an SGX enclave, with Intel's collateral if there is any.

use std::sync::Arc;

use evidence::{
    EvidenceDenial,
    digest::Sha256Digest,
    tdx::{
        AuthenticQuote, Quote, TcbVerdict, TdxRoots, VerifiedCollateral,
        body::{Body, EnclaveReport, TdReport},
        collateral::COLLATERAL_CAP_BYTES,
        quote::QUOTE_CAP_BYTES,
        roots::verify_root,
        td_attributes::{self, TdAttributes},
    },
    time::UnixSeconds,
};
use serde_json::{Map, Value};

use super::{
    case::Case,
    files,
    known::Known,
    outcome::{Refusal, Report},
};

const ROOT_CAP_BYTES: usize = 16 * 1024;

pub(super) fn judge(case: &Case, known: &Known) -> Result<Report, Refusal> {
    judge_role(case, known, "quote", |_| Ok(()))
}

/// Judges the quote in a role, which must also satisfy `fits` once it is verified.
pub(super) fn judge_role(
    case: &Case,
    known: &Known,
    role: &'static str,
    fits: impl FnOnce(&Quote<'_>) -> Result<(), EvidenceDenial>,
) -> Result<Report, Refusal> {
    let now = case.now()?;
    let bytes = files::read(case.required_file(role)?, "quote", QUOTE_CAP_BYTES)?;
    let (quote, rest) = Quote::parse_prefix(&bytes)?;
    let roots = TdxRoots::genuine();
    if let Some(path) = case.file("root")? {
        let root = files::read(path, "root certificate", ROOT_CAP_BYTES)?;
        let der = files::pem_block(&root, &["CERTIFICATE"]).map_or(root, |(_, der)| der);
        verify_root(&der, &roots)?;
    }
    // made before the quote's chain, which shares certificates with it; what it is denied for is said after
    let collateral = collateral(case, known, now);
    let beside = collateral.as_ref().ok().and_then(Option::as_deref);
    let pck = known.pck(&quote, beside, now)?;
    let authentic = pck.authenticate(&quote)?;
    refuse_debug(&quote)?;
    let mut report = Report::default();
    match collateral? {
        Some(collateral) => {
            let verdict = authentic.judge(&collateral)?;
            describe_verdict(&verdict, &collateral, &mut report);
        }
        None => report.note("no collateral given: revocation and TCB level were not judged"),
    }
    fits(&quote)?;
    verify_report_data(case, &quote)?;
    if !rest.is_empty() {
        let what = if rest.iter().all(|byte| *byte == 0) { "zero bytes" } else { "bytes that nothing signed" };
        report.note(format!("{} {what} follow the quote, which evidence may not carry", rest.len()));
    }
    if let Ok(td) = quote.td_report()
        && let Err(denial) = td_attributes::judge(td)
    {
        report.note(format!("appraisal refuses it: {denial} ({})", denial.code()));
    }
    describe(&authentic, &mut report);
    Ok(report)
}

/// The collateral of the case, if it has any.
fn collateral(case: &Case, known: &Known, now: UnixSeconds) -> Result<Option<Arc<VerifiedCollateral>>, Refusal> {
    let Some(path) = case.file("collateral")? else { return Ok(None) };
    let bytes = files::read(path, "collateral", COLLATERAL_CAP_BYTES)?;
    Ok(Some(known.collateral(&bytes, now)?))
}

fn refuse_debug(quote: &Quote<'_>) -> Result<(), EvidenceDenial> {
    match &quote.body {
        Body::Td10(report) => TdAttributes::of(report).refuse_debug(),
        Body::Td15(report) => TdAttributes::of(&report.td10).refuse_debug(),
        Body::Sgx(report) => report.refuse_debug("enclave"),
    }
}

/// The data that the trust domain or enclave chose.
fn report_data<'a>(quote: &Quote<'a>) -> &'a [u8; 64] {
    match &quote.body {
        Body::Td10(report) => report.report_data,
        Body::Td15(report) => report.td10.report_data,
        Body::Sgx(report) => report.report_data,
    }
}

fn verify_report_data(case: &Case, quote: &Quote<'_>) -> Result<(), EvidenceDenial> {
    let got = report_data(quote);
    match &case.expect_report_data {
        Some(expected) if expected != got => {
            Err(EvidenceDenial::BindingMismatch { got: hex::encode(got), expected: hex::encode(expected) })
        }
        Some(_) | None => Ok(()),
    }
}

fn describe(authentic: &AuthenticQuote<'_, '_>, report: &mut Report) {
    let pck = authentic.pck().extensions();
    report.claims.extend(claims(authentic.quote()));
    report.claim("fmspc", hex::encode(pck.fmspc));
    report.claim("pce_id", hex::encode(pck.pce_id));
    report.claim("ppid", hex::encode(pck.ppid));
    report.claim("pck_tcb_components", hex::encode(pck.tcb_components));
    report.claim("pck_pce_svn", pck.pce_svn);
}

fn describe_verdict(verdict: &TcbVerdict, collateral: &VerifiedCollateral, report: &mut Report) {
    let advisories: Vec<&String> = verdict.standing.advisory_ids.iter().collect();
    report.claim("tcb_status", verdict.standing.status.name());
    report.claim("advisory_ids", serde_json::json!(advisories));
    report.claim("tcb_status_platform", verdict.platform.name());
    report.claim("tcb_status_module", verdict.module.map(evidence::tdx::TcbStatus::name));
    report.claim("tcb_status_quoting_enclave", verdict.quoting_enclave.name());
    report.claim("tcb_evaluation_data_number", verdict.tcb_evaluation_data_number);
    report.claim("collateral_current_until", collateral.current_until().0);
    if verdict.standing.status != evidence::tdx::TcbStatus::UpToDate {
        report.note(format!("appraisal allows no TCB status but UpToDate by itself: {}", verdict.standing.status));
    }
}

/// Everything that a quote says, under the names of its structures.
pub(super) fn claims(quote: &Quote<'_>) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| {
        claims.insert(name.to_owned(), value);
    };
    claim("version", quote.version.into());
    claim("tee_type", format!("{:?}", quote.tee_type()).to_lowercase().into());
    match &quote.body {
        Body::Td10(report) => td_claims(report, &mut claim),
        Body::Td15(report) => {
            td_claims(&report.td10, &mut claim);
            claim("tee_tcb_svn2", hex::encode(report.tee_tcb_svn2).into());
            claim("mr_service_td", hex::encode(report.mr_service_td).into());
        }
        Body::Sgx(report) => enclave_claims(report, &mut claim),
    }
    claim("report_data", hex::encode(report_data(quote)).into());
    claim("qe_isv_svn", quote.qe_report.isv_svn.into());
    claim("qe_mrsigner", hex::encode(quote.qe_report.mr_signer).into());
    claim("pck_chain_sha256", Sha256Digest::of(quote.pck_chain()).to_string().into());
    claims
}

fn td_claims(report: &TdReport<'_>, claim: &mut impl FnMut(&str, Value)) {
    let fields: [(&str, &[u8]); 14] = [
        ("tee_tcb_svn", report.tee_tcb_svn),
        ("mrseam", report.mr_seam),
        ("mrsignerseam", report.mr_signer_seam),
        ("seam_attributes", report.seam_attributes),
        ("td_attributes", report.td_attributes),
        ("xfam", report.xfam),
        ("mr_td", report.mr_td),
        ("mr_config_id", report.mr_config_id),
        ("mr_owner", report.mr_owner),
        ("mr_owner_config", report.mr_owner_config),
        ("rtmr0", report.rtmrs[0]),
        ("rtmr1", report.rtmrs[1]),
        ("rtmr2", report.rtmrs[2]),
        ("rtmr3", report.rtmrs[3]),
    ];
    fields.into_iter().for_each(|(name, value)| claim(name, hex::encode(value).into()));
}

fn enclave_claims(report: &EnclaveReport<'_>, claim: &mut impl FnMut(&str, Value)) {
    claim("mrenclave", hex::encode(report.mr_enclave).into());
    claim("mrsigner", hex::encode(report.mr_signer).into());
    claim("isv_prod_id", report.isv_prod_id.into());
    claim("isv_svn", report.isv_svn.into());
    claim("attributes", hex::encode(report.attributes).into());
    claim("misc_select", hex::encode(report.misc_select).into());
    claim("cpusvn", hex::encode(report.cpu_svn).into());
}
