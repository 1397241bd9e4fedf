//! SEV-SNP reports and certificate tables: signed by a key that AMD vouches for, and agreeing with its certificate.

use std::{path::Path, sync::Arc};

use evidence::{
    EvidenceDenial,
    sev_snp::{
        AuthenticReport, CertificateTable, SnpReport, VekIdentity, VerifiedVek,
        cert_table::{CERT_TABLE_CAP_BYTES, CertificateKind},
        report::REPORT_BYTES,
    },
    x509::CRL_CAP_BYTES,
};
use serde_json::{Map, Value, json};

use super::{
    case::Case,
    ek_chain::{read_certificate, rfc3339},
    files,
    known::{Known, VekChain},
    outcome::{Fault, Refusal, Report},
    tsm,
};

pub(super) fn judge(case: &Case, known: &Known) -> Result<Report, Refusal> {
    // a byte more than a report has, so that a longer one is named as what it is
    let cap_bytes = REPORT_BYTES.saturating_mul(4);
    let bytes = files::read(case.required_file("report")?, "SNP report", cap_bytes)?;
    let report = SnpReport::parse(&bytes)?;
    tsm::verify(case, &bytes)?;
    let mut said = Report::default();
    judge_report(case, known, &report, &mut said)?;
    Ok(said)
}

/// Verifies a report by the certificates of the case, and says what it says.
pub(super) fn judge_report(
    case: &Case,
    known: &Known,
    report: &SnpReport<'_>,
    said: &mut Report,
) -> Result<(), Refusal> {
    let offered = Offered::of(case)?;
    let vek = offered.verify(case, known, said)?;
    let authentic = vek.authenticate(report)?;
    if let Some(expected) = case.expect_report_data.as_deref()
        && *expected != *report.report_data
    {
        let (got, expected) = (hex::encode(report.report_data), hex::encode(expected));
        return Err(EvidenceDenial::BindingMismatch { got, expected }.into());
    }
    if let Some(expected) = case.expect_measurement.as_deref() {
        report.verify_measurement(expected)?;
    }
    said.claims.extend(describe(report));
    describe_authentic(&vek, &authentic, said);
    Ok(())
}

/// A table by itself: its certificates lead from AMD's root to the key.
pub(super) fn judge_table(case: &Case, known: &Known) -> Result<Report, Refusal> {
    if !case.files("report").is_empty() {
        return judge(case, known);
    }
    let bytes = read_table(case)?.ok_or_else(|| Fault::Request { what: "no certificate table".into() })?;
    let claims = describe_table(&CertificateTable::parse(&bytes)?);
    let mut said = Report { claims, ..Report::default() };
    let vek = Offered::of(case)?.verify(case, known, &mut said)?;
    describe_vek(&vek, &mut said);
    Ok(said)
}

/// Certificates, DER: the ones given, and for what was not given the table's.
struct Offered {
    vek: Option<Vec<u8>>,
    intermediate: Option<Vec<u8>>,
    root: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
    /// The table's own chain, where it has a key.
    table: Option<[Option<Vec<u8>>; 3]>,
}

impl Offered {
    fn of(case: &Case) -> Result<Self, Refusal> {
        let given = |role| case.file(role)?.map(|path| read_certificate(path)).transpose();
        let (vek, intermediate, root) = (given("vek")?, given("intermediate")?, given("root")?);
        let crl = case.file("crl")?.map(|path| read_crl(path)).transpose()?;
        let Some(bytes) = read_table(case)? else { return Ok(Self { vek, intermediate, root, crl, table: None }) };
        let table = CertificateTable::parse(&bytes)?;
        let owned = |kind| table.der(kind).map(|found| found.map(std::borrow::Cow::into_owned));
        let chain = [
            table.vek()?.map(std::borrow::Cow::into_owned),
            owned(CertificateKind::Ask)?,
            owned(CertificateKind::Ark)?,
        ];
        let [table_vek, table_ask, table_ark] = chain.clone();
        Ok(Self {
            vek: vek.or(table_vek),
            intermediate: intermediate.or(table_ask),
            root: root.or(table_ark),
            crl: crl.or(owned(CertificateKind::Crl)?),
            table: chain.iter().any(Option::is_some).then_some(chain),
        })
    }

    fn verify(&self, case: &Case, known: &Known, said: &mut Report) -> Result<Arc<VerifiedVek>, Refusal> {
        let missing = || Fault::Request { what: "no certificate of the key that signs the report".into() };
        let (leaf, now) = (self.vek.as_ref().ok_or_else(missing)?, case.now()?);
        let (issuer, root, list) = (self.intermediate.as_deref(), self.root.as_deref(), self.crl.as_deref());
        let vek = known.vek(VekChain { leaf, issuer, root, list }, now)?;
        // what the table offers beside the files given must be AMD's too, though it may be for another TCB
        if let Some([Some(leaf), issuer, root]) = &self.table {
            known.vek(VekChain { leaf, issuer: issuer.as_deref(), root: root.as_deref(), list }, now)?;
        }
        if self.crl.is_none() {
            said.note("no revocation list given: appraisal needs one");
        }
        Ok(vek)
    }
}

fn read_table(case: &Case) -> Result<Option<Vec<u8>>, Refusal> {
    case.file("cert_table")?.map(|path| files::read(path, "certificate table", CERT_TABLE_CAP_BYTES)).transpose()
}

/// DER of a revocation list in DER or PEM.
fn read_crl(path: &Path) -> Result<Vec<u8>, Refusal> {
    let bytes = files::read(path, "revocation list", CRL_CAP_BYTES.saturating_mul(2))?;
    Ok(files::pem_block(&bytes, &["X509 CRL"]).map_or(bytes, |(_, der)| der))
}

/// Every field of a report, under its name in AMD's specification.
pub(super) fn describe(report: &SnpReport<'_>) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut claim = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    claim("version", report.version.into());
    claim("guest_svn", report.guest_svn.into());
    claim("policy", format!("{:#x}", report.policy.bits()).into());
    claim("vmpl", report.vmpl.into());
    claim("platform_info", format!("{:#x}", report.platform_info.bits()).into());
    claim("signing_key", report.key_info.signing_key().to_string().into());
    claim("author_key_en", report.key_info.has_author_key().into());
    claim("mask_chip_key", report.key_info.masks_chip_key().into());
    let byte_fields: [(&str, &[u8]); 15] = [
        ("family_id", report.family_id),
        ("image_id", report.image_id),
        ("report_data", report.report_data),
        ("measurement", report.measurement),
        ("host_data", report.host_data),
        ("id_key_digest", report.id_key_digest),
        ("author_key_digest", report.author_key_digest),
        ("report_id", report.report_id),
        ("report_id_ma", report.report_id_ma),
        ("chip_id", report.chip_id),
        ("current_tcb", report.current_tcb),
        ("reported_tcb", report.reported_tcb),
        ("committed_tcb", report.committed_tcb),
        ("launch_tcb", report.launch_tcb),
        ("cpuid_fam_mod_step", &report.cpuid.map_or([0; 3], |cpuid| [cpuid.family, cpuid.model, cpuid.stepping])),
    ];
    for (name, bytes) in byte_fields {
        claim(name, hex::encode(bytes).into());
    }
    claim("current_version", report.current_firmware.to_string().into());
    claim("committed_version", report.committed_firmware.to_string().into());
    if let Some(mitigations) = report.mitigations {
        claim("launch_mit_vector", format!("{:#x}", mitigations.launch).into());
        claim("current_mit_vector", format!("{:#x}", mitigations.current).into());
    }
    claims
}

fn describe_authentic(vek: &VerifiedVek, authentic: &AuthenticReport<'_>, said: &mut Report) {
    describe_vek(vek, said);
    let tcbs = authentic.tcbs();
    for (name, tcb) in [("reported", tcbs.reported), ("committed", tcbs.committed), ("current", tcbs.current)] {
        let levels: Map<String, Value> =
            tcb.components().map(|(name, level)| (name.to_owned(), level.into())).collect();
        said.claim(&format!("{name}_levels"), levels);
    }
    let report = authentic.report();
    if report.version < 3 {
        said.note(
            "appraisal refuses it unless a policy allows: report version 2 does not say which processor it is of",
        );
    }
    if tcbs.committed != tcbs.current {
        said.note("the platform can still go back below the TCB that it runs");
    }
    if report.report_data.iter().all(|byte| *byte == 0) {
        said.note("the report carries no report data: it proves no freshness");
    }
}

fn describe_vek(vek: &VerifiedVek, said: &mut Report) {
    let (not_before, not_after) = vek.validity();
    said.claim("product", vek.product().name());
    said.claim("vek", vek.identity().kind());
    if let VekIdentity::Provider(csp_id) = vek.identity() {
        said.claim("csp_id", csp_id.as_str());
    }
    said.claim("vek_levels", vek.tcb().to_string());
    said.claim("not_before", rfc3339(not_before));
    said.claim("not_after", rfc3339(not_after));
    let [leaf, issuer, root] = vek.certificate_digests();
    said.claim("certificates_sha256", json!([leaf.to_string(), issuer.to_string(), root.to_string()]));
    if let Some(list) = vek.revocation_list() {
        said.claim("crl_next_update", rfc3339(list.next_update));
    }
}

/// What a table holds, by GUID.
pub(super) fn describe_table(table: &CertificateTable<'_>) -> Map<String, Value> {
    let entry = |entry: &evidence::sev_snp::cert_table::CertificateEntry<'_>| {
        let kind = entry.kind().map(|kind| format!("{kind:?}").to_lowercase());
        json!({"guid": hex::encode(entry.guid), "kind": kind, "bytes": entry.bytes.len()})
    };
    let entries: Vec<Value> = table.entries().iter().map(entry).collect();
    Map::from_iter([("entries".to_owned(), Value::from(entries))])
}

/// Adds the certificates in a folder to a case, by their file names.
pub(super) fn add_folder(case: &mut Case, folder: &Path) -> Result<(), String> {
    let mut is_empty = true;
    for (role, names) in
        [("vek", &["vcek", "vlek"][..]), ("intermediate", &["ask", "asvk"]), ("root", &["ark"]), ("crl", &["crl"])]
    {
        let named =
            names.iter().flat_map(|name| EXTENSIONS.map(|extension| folder.join(format!("{name}.{extension}"))));
        let found: Vec<_> = named.filter(|path| path.is_file()).collect();
        is_empty &= found.is_empty();
        case.add(role, "--certs", found)?;
    }
    if is_empty { Err(format!("no AMD certificates in {}", folder.display())) } else { Ok(()) }
}

const EXTENSIONS: [&str; 4] = ["der", "pem", "crt", "cer"];
