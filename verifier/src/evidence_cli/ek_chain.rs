//! Certificates of TPM keys: the EK's, and an AK's where its maker certifies that.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use evidence::{
    EvidenceDenial, TrustAnchors,
    anchors::{AnchorError, AnchorSet, RootPin},
    digest::Sha256Digest,
    time::UnixSeconds,
    tpm::{
        AkCertificate,
        ek::{EkCertificate, EkEndorser, TpmMake},
    },
    x509::CERTIFICATE_CAP_BYTES,
};
use serde_bytes::ByteBuf;
use serde_json::{Map, Value};
use x509_cert::der::{Decode as _, Encode as _};

use super::{
    ak::AttestationKey,
    case::Case,
    files,
    outcome::{Fault, Refusal, Report},
};

/// Most certificate files in one role.
const CERTIFICATES_CAP: usize = 32;

pub(super) fn judge(case: &Case) -> Result<Report, Refusal> {
    let leaf = read_certificate(case.required_file("ek_cert")?)?;
    let roots = read_certificates(case, "root")?;
    let known: Vec<Vec<u8>> = read_certificates(case, "intermediate")?.into_iter().chain(roots.clone()).collect();
    let now = case.now()?;
    let hardware = anchors(&roots, &known, false)?;
    let mut report = Report::default();
    let certificate = match EkCertificate::verify(&[&leaf], &hardware, now) {
        // Whoever names the root of a software TPM may see its chain; nothing but a lab would trust it.
        Err(EvidenceDenial::SimulatedTpm) => {
            report.note("appraisal refuses it outside a lab: the TPM is simulated");
            EkCertificate::verify(&[&leaf], &anchors(&roots, &known, true)?, now)?
        }
        judged => judged?,
    };
    let (endorsement, mut claim_make) = (certificate.endorsement(), |make: &TpmMake| {
        report.claim("manufacturer", make.manufacturer.as_str());
        report.claim("model", make.model.as_str());
        report.claim("version", make.version.as_str());
        report.claim("root_sha256", make.root.to_string());
    });
    match endorsement.endorser() {
        EkEndorser::Manufacturer(make) | EkEndorser::Simulated(make) => claim_make(make),
        EkEndorser::Operator => {}
    }
    let (not_before, not_after) = endorsement.validity();
    report.claim("not_before", rfc3339(not_before));
    report.claim("not_after", rfc3339(not_after));
    Ok(report)
}

pub(super) fn rfc3339(at: UnixSeconds) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at.0));
    // Beyond the year 9999 RFC 3339 has no form.
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(253_402_300_800));
    match time.filter(|_| time < end) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => at.to_string(),
    }
}

/// The certificate beside an AK leads to the roots given, and is of that AK.
pub(super) fn verify_ak_certificate(
    path: &Path,
    case: &Case,
    ak: &AttestationKey,
    report: &mut Report,
) -> Result<(), Refusal> {
    let leaf = read_certificate(path)?;
    let given = read_certificates(case, "ak_roots")?;
    if given.is_empty() {
        return Err(Fault::Request { what: "an AK certificate needs roots to be judged by".into() }.into());
    }
    // What was given beside the roots are the authorities between; all are pinned only if none is a root.
    let self_issued: Vec<Vec<u8>> = given.iter().filter(|der| is_self_issued(der)).cloned().collect();
    let roots = if self_issued.is_empty() { given.clone() } else { self_issued };
    let certificate = AkCertificate::verify(&[&leaf], &anchors(&roots, &given, false)?, case.now()?)?;
    match ak {
        AttestationKey::Tpm(area) => certificate.is_for(&evidence::tpm::Public::read_area(area)?)?,
        AttestationKey::Spki(spki) => certificate.is_for_key_info(spki)?,
    }
    report.claim("ak_root_sha256", certificate.root().to_string());
    Ok(())
}

/// What a certificate says, believed by nobody.
pub(super) fn describe_certificate(path: &Path) -> Result<Map<String, Value>, Refusal> {
    let der = read_certificate(path)?;
    let malformed = |_| EvidenceDenial::Malformed { structure: "Certificate", offset: 0, what: "not a certificate" };
    let (certificate, _) = x509_cert::Certificate::from_der_partial(&der).map_err(malformed)?;
    let tbs = certificate.tbs_certificate();
    let printable = |text: String| -> Value { text.escape_default().to_string().into() };
    let mut claims = Map::new();
    let validity = tbs.validity();
    for (name, value) in [
        ("subject", printable(tbs.subject().to_string())),
        ("issuer", printable(tbs.issuer().to_string())),
        ("serial", tbs.serial_number().to_string().into()),
        ("not_before", validity.not_before.to_string().into()),
        ("not_after", validity.not_after.to_string().into()),
        ("key_algorithm", tbs.subject_public_key_info().algorithm.oid.to_string().into()),
        ("signature_algorithm", certificate.signature_algorithm().oid.to_string().into()),
        ("sha256", Sha256Digest::of(&certificate.to_der().map_err(malformed)?).to_string().into()),
    ] {
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

fn read_certificates(case: &Case, role: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let paths = case.files(role);
    if paths.len() > CERTIFICATES_CAP {
        return Err(EvidenceDenial::TooMany { part: "certificates", cap: CERTIFICATES_CAP }.into());
    }
    paths.iter().map(|path| read_certificate(path)).collect()
}

/// DER of a certificate in DER or PEM.
pub(super) fn read_certificate(path: &Path) -> Result<Vec<u8>, Refusal> {
    // PEM is longer by a third and its lines.
    let bytes = files::read(path, "certificate", CERTIFICATE_CAP_BYTES.saturating_mul(2))?;
    Ok(files::pem_block(&bytes, &["CERTIFICATE"]).map_or(bytes, |(_, der)| der))
}

fn anchors(roots: &[Vec<u8>], known: &[Vec<u8>], are_simulated: bool) -> Result<TrustAnchors, Refusal> {
    let pins: BTreeSet<RootPin> = roots.iter().map(|der| RootPin::Certificate(Sha256Digest::of(der))).collect();
    let set = AnchorSet { ca_certificates: known.iter().cloned().map(ByteBuf::from).collect(), ..AnchorSet::default() };
    let admitted = if are_simulated {
        TrustAnchors::lab_accepting_simulated(AnchorSet { simulated_tpm_roots: pins, ..set })
    } else {
        TrustAnchors::new(AnchorSet { tpm_roots: pins, ..set })
    };
    admitted.map_err(|error| match error {
        AnchorError::Certificate { denial, .. } => (*denial).into(),
        error @ (AnchorError::Empty
        | AnchorError::Simulated { .. }
        | AnchorError::Encoding(_)
        | AnchorError::ProductLine { .. }) => Refusal::Fault(Fault::Request { what: error.to_string() }),
    })
}

fn is_self_issued(der: &[u8]) -> bool {
    x509_cert::Certificate::from_der(der)
        .is_ok_and(|certificate| certificate.tbs_certificate().subject() == certificate.tbs_certificate().issuer())
}
