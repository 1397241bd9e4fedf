//! An SNP report's key: looked up by what the report says of itself, verified up to a pinned root.

use std::borrow::Cow;
use std::sync::Arc;

use evidence::EvidenceDenial;
use evidence::anchors::TrustAnchors;
use evidence::sev_snp::cert_table::{CertificateKind, CertificateTable};
use evidence::sev_snp::{Product, Revocation, SigningKey, SnpReport, VerifiedVek};
use evidence::tee::PlatformId;
use evidence::time::UnixSeconds;

use super::Platforms;
use crate::endorsements::key::{CspId, SnpLine};
use crate::endorsements::{At, Csp, Endorsement, SnpDocuments, SnpKey, SnpSigner, Unendorsed};
use crate::fault::Fault;

/// A report and the certificates that its host gave, as evidence carries them.
#[derive(Clone, Copy)]
pub(super) struct Reported<'e> {
    pub(super) report: &'e [u8],
    pub(super) certificates: Option<&'e [u8]>,
}

impl Platforms {
    /// The verified key of a report. Of a VLEK the report does not say whose it is: `enrolled` does, once it is known.
    pub(super) async fn vek(
        &self,
        reported: Reported<'_>,
        enrolled: Option<&PlatformId>,
        anchors: &TrustAnchors,
        at: At,
    ) -> Result<(Arc<VerifiedVek>, Vec<Endorsement>), Unendorsed> {
        let (At::Now(now) | At::Then(now)) = at;
        let report = SnpReport::parse(reported.report).map_err(Unendorsed::Denied)?;
        let brought = brought(reported.certificates).map_err(Unendorsed::Denied)?;
        let brought: Vec<&[u8]> = brought.iter().map(AsRef::as_ref).collect();
        let signer = signer(&report, enrolled)?;
        let mut missing = None;
        for line in lines(&report) {
            let key = SnpKey { line, tcb: *report.reported_tcb, signer: signer.clone() };
            match self.store.snp(&key, &brought, at).await {
                Ok(documents) => return self.verified(&documents, anchors, now),
                Err(unavailable) => missing = missing.or(Some(unavailable)),
            }
        }
        let what = || format!("no product line that we know makes processors of {:?}", report.cpuid);
        Err(Unendorsed::Fault(missing.map_or_else(|| Fault::EndorsementsUnavailable { what: what() }, Fault::from)))
    }

    fn verified(
        &self,
        documents: &SnpDocuments,
        anchors: &TrustAnchors,
        now: UnixSeconds,
    ) -> Result<(Arc<VerifiedVek>, Vec<Endorsement>), Unendorsed> {
        let used = documents.all();
        let [leaf, intermediate, root, crl] = used.map(|document| document.der());
        let vek = self.veks.get(
            used.map(|document| document.digest),
            |vek| vek.current(&anchors.snp_roots(), now).is_ok(),
            || vek_of([leaf, intermediate, root, crl], anchors, now),
        );
        Ok((vek.map_err(Unendorsed::Denied)?, used.into_iter().cloned().collect()))
    }
}

/// The key that leaf, issuer, root and revocation list (DER) vouch for.
pub(crate) fn vek_of(
    documents: [&[u8]; 4],
    anchors: &TrustAnchors,
    now: UnixSeconds,
) -> Result<VerifiedVek, EvidenceDenial> {
    let [leaf, intermediate, root, crl] = documents;
    let revocation = Revocation::List(crl);
    VerifiedVek::verify(leaf, Some(intermediate), Some(root), revocation, &anchors.snp_roots(), now)
}

/// Certificates (DER) of a host's table. Its revocation list is left aside: a host does not choose by which one its
/// own key is judged.
fn brought(table: Option<&[u8]>) -> Result<Vec<Cow<'_, [u8]>>, EvidenceDenial> {
    let Some(table) = table.map(CertificateTable::parse).transpose()? else { return Ok(Vec::new()) };
    let kinds = [CertificateKind::Vcek, CertificateKind::Vlek, CertificateKind::Ask, CertificateKind::Ark];
    kinds.into_iter().filter_map(|kind| table.der(kind).transpose()).collect()
}

fn signer(report: &SnpReport<'_>, enrolled: Option<&PlatformId>) -> Result<SnpSigner, Unendorsed> {
    match report.key_info.signing_key() {
        SigningKey::Vcek => Ok(SnpSigner::Vcek { chip_id: *report.chip_id }),
        SigningKey::Vlek => {
            let csp = match enrolled {
                Some(PlatformId::AmdVlek { csp_id }) => CspId::new(csp_id.as_str()).map_or(Csp::Unknown, Csp::Named),
                Some(PlatformId::AmdChip(_) | PlatformId::IntelPpid(_)) | None => Csp::Unknown,
            };
            Ok(SnpSigner::Vlek { csp })
        }
        got @ (SigningKey::None | SigningKey::Reserved(_)) => {
            Err(Unendorsed::Denied(EvidenceDenial::SnpSigningKey { report: got, vek: "VCEK or VLEK" }))
        }
    }
}

/// The product lines that a report may be of: one by its processor, any before version 3, which names none.
fn lines(report: &SnpReport<'_>) -> Vec<SnpLine> {
    let Some(cpuid) = report.cpuid else { return SnpLine::ALL.to_vec() };
    let products = Product::ALL.into_iter().filter(|product| cpuid.is_of(*product));
    let mut lines: Vec<_> = products.filter_map(|product| SnpLine::of(product.line().name())).collect();
    lines.dedup();
    lines
}
