//! A TDX quote's platform: the certificate chain that the quote carries, and what Intel says of such platforms, looked up
//! by what that chain says and verified up to a pinned root.

use std::sync::Arc;

use evidence::EvidenceDenial;
use evidence::anchors::TrustAnchors;
use evidence::tdx::{Collateral, CollateralParts, Quote, SignedPart, TdxEndorsement, VerifiedCollateral, VerifiedPck};
use evidence::tee::{EnrolledPlatform, PlatformId};
use evidence::time::UnixSeconds;

use super::{Platforms, Whose};
use crate::endorsements::document::{Document, SignedText};
use crate::endorsements::key::PckCa;
use crate::endorsements::{At, Endorsement, TdxKey, Unendorsed};

impl Platforms {
    /// What a quote is judged by, and the documents that this was made from. The quote's own chain is part of the evidence.
    pub(super) async fn tdx(
        &self,
        quote: &[u8],
        whose: Whose,
        anchors: &TrustAnchors,
        at: At,
    ) -> Result<(TdxEndorsement, Vec<Endorsement>), Unendorsed> {
        let (At::Now(now) | At::Then(now)) = at;
        let roots = anchors.tdx_roots();
        let quote = Quote::parse(quote).map_err(Unendorsed::Denied)?;
        // Before any lookup: a store or a cache is asked only about platforms that a pinned root vouches for.
        let pck = self.pcks.get(
            quote.pck_chain_digest(),
            |pck| pck.current(&roots, now).is_ok(),
            || VerifiedPck::verify(quote.pck_chain(), &roots, now),
        );
        let pck = pck.map_err(Unendorsed::Denied)?;
        let key = TdxKey { fmspc: pck.extensions().fmspc, ca: authority(&pck).map_err(Unendorsed::Denied)? };
        let [_, issuer, root] = quote.pck_certificates().map_err(Unendorsed::Denied)?;
        let found = self.store.tdx(key, &[&issuer, &root], at).await;
        let documents = found.map_err(|unavailable| Unendorsed::Fault(unavailable.into()))?;
        let used = documents.all();
        let collateral = self.collaterals.get(
            used.map(|document| document.digest),
            |collateral| collateral.current(&roots, now).is_ok(),
            || collateral_of(used.map(|document| &document.document), anchors, now),
        );
        let collateral = collateral.map_err(Unendorsed::Denied)?;
        let enrolled = match whose {
            Whose::Stranger(id, key) => {
                Arc::new(EnrolledPlatform::new(id, PlatformId::IntelPpid(pck.extensions().ppid), key))
            }
            Whose::Node(enrolled, _) => enrolled,
        };
        Ok((TdxEndorsement { collateral, pck: Some(pck), enrolled }, used.into_iter().cloned().collect()))
    }
}

fn authority(pck: &VerifiedPck) -> Result<PckCa, EvidenceDenial> {
    let name = pck.authority()?;
    let unmet =
        EvidenceDenial::CertificateConstraint { position: 1, what: "an authority of Intel's for PCK certificates" };
    PckCa::ALL.into_iter().find(|ca| ca.common_name() == name).ok_or(unmet)
}

/// The collateral of these documents, in the order of [`crate::endorsements::TdxDocuments::all`].
pub(crate) fn collateral_of(
    documents: [&Document; 6],
    anchors: &TrustAnchors,
    now: UnixSeconds,
) -> Result<VerifiedCollateral, EvidenceDenial> {
    let [tcb_info, qe_identity, root, root_crl, pck_ca, pck_crl] = documents;
    let parts = CollateralParts {
        root: der(root)?,
        root_crl: der(root_crl)?,
        pck_ca: der(pck_ca)?,
        pck_crl: der(pck_crl)?,
        tcb_info: signed(tcb_info)?,
        qe_identity: signed(qe_identity)?,
    };
    VerifiedCollateral::verify(&Collateral::of(&parts)?, &anchors.tdx_roots(), now)
}

fn der(document: &Document) -> Result<&[u8], EvidenceDenial> {
    match document {
        Document::Der(der) => Ok(der),
        Document::Signed(_) => Err(misplaced("a certificate or a list where a signed text stands")),
    }
}

fn signed(document: &Document) -> Result<SignedPart<'_>, EvidenceDenial> {
    match document {
        Document::Signed(SignedText { text, signature, chain }) => {
            let signer = chain.first().ok_or_else(|| misplaced("the certificate of who signed it"))?;
            Ok(SignedPart { text, signature, signer })
        }
        Document::Der(_) => Err(misplaced("a signed text where a certificate or a list stands")),
    }
}

fn misplaced(what: &'static str) -> EvidenceDenial {
    EvidenceDenial::Malformed { structure: "collateral", offset: 0, what }
}
