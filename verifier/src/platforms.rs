//! What evidence of a TEE is judged by: vendors' documents looked up, chains verified once, the node's identity and boot.
//!
//! Fetch, then judge: everything here ends before the judgement begins.

pub(crate) mod chains;
mod enrolled;
mod snp;
mod tdx;

use std::sync::Arc;

use evidence::anchors::TrustAnchors;
use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::sev_snp::{Launch, SnpEndorsement, VerifiedVek};
use evidence::tdx::{VerifiedCollateral, VerifiedPck};
use evidence::tee::EnrolledPlatform;
use evidence::tpm::TpmEndorsement;
use evidence::{Endorsements, Evidence, EvidenceDenial, EvidenceKind};

use self::chains::Verified;
use self::enrolled::KnownPlatforms;
use self::snp::Reported;
pub(crate) use self::snp::vek_of;
pub(crate) use self::tdx::collateral_of;
use crate::endorsements::{At, Endorsement, EndorsementStore, Unendorsed};
use crate::fault::Fault;
use crate::nodes::{BootSeen, Node, ReportId};
use crate::store::Store;

/// Verified chains and collateral of one kind kept at once: platforms of a large domain, a few KiB each.
const CHAINS_CAP: usize = 4 * 1024;

/// Looks up and verifies what evidence of TEEs is judged by. One per process.
#[derive(Debug)]
pub struct Platforms {
    store: EndorsementStore,
    veks: Verified<[Sha256Digest; 4], VerifiedVek>,
    pcks: Verified<Sha256Digest, VerifiedPck>,
    collaterals: Verified<[Sha256Digest; 6], VerifiedCollateral>,
    known: KnownPlatforms,
}

/// Whose evidence it is.
pub(crate) enum Whose {
    /// A stranger's, who says this of itself: whatever platform signed becomes its own.
    Stranger(NodeId, PublicKey),
    /// A node's: its platform is known for good, and so is its boot.
    Node(Arc<EnrolledPlatform>, BootSeen),
}

/// What evidence is judged by, and the documents that this was made from.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) endorsements: Endorsements,
    pub(crate) documents: Vec<Endorsement>,
}

impl Platforms {
    /// Over this endorsement store.
    pub fn new(store: EndorsementStore) -> Self {
        Self {
            store,
            veks: Verified::keeping(CHAINS_CAP),
            pcks: Verified::keeping(CHAINS_CAP),
            collaterals: Verified::keeping(CHAINS_CAP),
            known: KnownPlatforms::default(),
        }
    }

    /// The platform that a node enrolled on, and the enrolment of its TPM, if it has one.
    pub(crate) async fn of_node(
        &self,
        tables: &Store,
        node: &Node,
    ) -> Result<(Arc<EnrolledPlatform>, Option<Sha256Digest>), Unendorsed> {
        let known = self.known.of(tables, node).await?;
        Ok((known.enrolled, known.tpm))
    }

    /// Everything that evidence of `kind` is judged by. `tpm` is what its TPM is judged by, for kinds that have one.
    pub(crate) async fn held(
        &self,
        evidence: &Evidence,
        kind: EvidenceKind,
        whose: Whose,
        tpm: Option<TpmEndorsement>,
        anchors: &TrustAnchors,
        at: At,
    ) -> Result<(Held, Arc<EnrolledPlatform>), Unendorsed> {
        let unasked = || EvidenceDenial::KindUnexpected { got: evidence.kind(), demanded: kind };
        if evidence.kind() != kind {
            return Err(Unendorsed::Denied(unasked()));
        }
        if let Some(report) = evidence.snp_report() {
            let reported = Reported { report, certificates: evidence.snp_certificates() };
            let (snp, documents) = self.snp(reported, whose, anchors, at).await?;
            let enrolled = snp.enrolled.clone();
            let endorsements = match tpm {
                None => Endorsements::SevSnp(snp),
                Some(tpm) => Endorsements::TpmOnSevSnp(tpm, snp),
            };
            return Ok((Held { endorsements, documents }, enrolled));
        }
        let quote = evidence.tdx_quote().ok_or_else(|| Unendorsed::Denied(unasked()))?;
        let (tdx, documents) = self.tdx(quote, whose, anchors, at).await?;
        let enrolled = tdx.enrolled.clone();
        let endorsements = match tpm {
            None => Endorsements::Tdx(tdx),
            Some(tpm) => Endorsements::TpmOnTdx(tpm, tdx),
        };
        Ok((Held { endorsements, documents }, enrolled))
    }

    async fn snp(
        &self,
        reported: Reported<'_>,
        whose: Whose,
        anchors: &TrustAnchors,
        at: At,
    ) -> Result<(SnpEndorsement, Vec<Endorsement>), Unendorsed> {
        let enrolled = match &whose {
            Whose::Stranger(..) => None,
            Whose::Node(enrolled, _) => Some(enrolled.platform()),
        };
        let (vek, documents) = self.vek(reported, enrolled, anchors, at).await?;
        let (enrolled, launch) = match whose {
            Whose::Stranger(id, key) => (Arc::new(EnrolledPlatform::new(id, vek.platform(), key)), Launch::Any),
            // A node of this kind has a baseline from its enrolment on.
            Whose::Node(enrolled, boot) => (enrolled, Launch::Same(baseline(boot)?)),
        };
        Ok((SnpEndorsement { vek, enrolled, launch }, documents))
    }
}

fn baseline(boot: BootSeen) -> Result<ReportId, Unendorsed> {
    boot.report_id.ok_or_else(|| Unendorsed::Fault(Fault::Bug { what: "an SNP node without a REPORT_ID".to_owned() }))
}
