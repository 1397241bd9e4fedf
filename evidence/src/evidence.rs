//! Evidence of every kind, and the two steps of this crate: [`verify`], then [`Authentic::bind`].

use std::sync::Arc;

pub use crate::{claims::Claims, endorsements::Endorsements};

use crate::{
    EvidenceDenial,
    anchors::TrustAnchors,
    binding::Binding,
    challenge::{Challenge, Demands, TdxDemands, TpmOnTdxDemands},
    cmw,
    digest::Sha256Digest,
    kind::EvidenceKind,
    ledger::CheckLedger,
    node_key::{AttestedNodeKey, XWingPublicKey},
    sev_snp::{
        SnpEvidence,
        appraisal::{self as snp, AuthenticSnp},
    },
    tdx::{
        TdxEvidence,
        appraisal::{self as tdx, AuthenticTdx},
    },
    tee::EnrolledPlatform,
    time::UnixSeconds,
    tpm::{
        TpmEndorsement, TpmOnSnpEvidence, TpmOnTdxEvidence,
        appraisal::{self as tpm, AuthenticTpm, TpmClaims},
        evidence::TpmEvidence,
        on_tee::{TPM_ON_SNP_EVIDENCE_CAP_BYTES, TPM_ON_TDX_EVIDENCE_CAP_BYTES},
    },
};

/// Longest evidence of any kind: check before receiving.
pub const EVIDENCE_CAP_BYTES: usize = if TPM_ON_SNP_EVIDENCE_CAP_BYTES > TPM_ON_TDX_EVIDENCE_CAP_BYTES {
    TPM_ON_SNP_EVIDENCE_CAP_BYTES
} else {
    TPM_ON_TDX_EVIDENCE_CAP_BYTES
};

/// Evidence, by the kind of machine it is from. Structure only, nothing believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A TPM 2.0.
    Tpm(TpmEvidence),
    /// An SNP guest.
    SevSnp(SnpEvidence),
    /// A trust domain.
    Tdx(TdxEvidence),
    /// A vTPM in an SNP guest.
    TpmOnSevSnp(TpmOnSnpEvidence),
    /// A vTPM in a trust domain.
    TpmOnTdx(TpmOnTdxEvidence),
}

impl Evidence {
    /// Takes a CMW collection as received. The bytes are kept, not copied.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when it is not deterministic, not a kind we know, or above a cap.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, EvidenceDenial> {
        let unknown = EvidenceDenial::UnexpectedPart { part: "a collection of unknown kind" };
        // what has no type that can be read at all is refused by the reader, for the first rule that it breaks
        let named = cmw::kind(&bytes).or_else(|_| cmw::read(&bytes, EVIDENCE_CAP_BYTES).map(|read| read.kind))?;
        match EvidenceKind::of_collection(named).ok_or(unknown)? {
            EvidenceKind::Tpm => TpmEvidence::decode(bytes).map(Self::Tpm),
            EvidenceKind::SevSnp => SnpEvidence::decode(bytes).map(Self::SevSnp),
            EvidenceKind::Tdx => TdxEvidence::decode(bytes).map(Self::Tdx),
            EvidenceKind::TpmOnSevSnp => TpmOnSnpEvidence::decode(bytes).map(Self::TpmOnSevSnp),
            EvidenceKind::TpmOnTdx => TpmOnTdxEvidence::decode(bytes).map(Self::TpmOnTdx),
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::SevSnp(_) => EvidenceKind::SevSnp,
            Self::Tdx(_) => EvidenceKind::Tdx,
            Self::TpmOnSevSnp(_) => EvidenceKind::TpmOnSevSnp,
            Self::TpmOnTdx(_) => EvidenceKind::TpmOnTdx,
        }
    }

    /// The collection as received or assembled.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Tpm(evidence) => evidence.bytes(),
            Self::SevSnp(evidence) => evidence.bytes(),
            Self::Tdx(evidence) => evidence.bytes(),
            Self::TpmOnSevSnp(evidence) => evidence.bytes(),
            Self::TpmOnTdx(evidence) => evidence.bytes(),
        }
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        match self {
            Self::Tpm(evidence) => evidence.digest(),
            Self::SevSnp(evidence) => evidence.digest(),
            Self::Tdx(evidence) => evidence.digest(),
            Self::TpmOnSevSnp(evidence) => evidence.digest(),
            Self::TpmOnTdx(evidence) => evidence.digest(),
        }
    }

    /// The TPM's part, of kinds that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmEvidence> {
        match self {
            Self::Tpm(evidence) => Some(evidence),
            Self::TpmOnSevSnp(evidence) => Some(evidence.tpm()),
            Self::TpmOnTdx(evidence) => Some(evidence.tpm()),
            Self::SevSnp(_) | Self::Tdx(_) => None,
        }
    }

    /// The SNP report, 1184 bytes if it is one, of kinds that have one.
    #[must_use]
    pub fn snp_report(&self) -> Option<&[u8]> {
        match self {
            Self::SevSnp(evidence) => Some(evidence.parts().report),
            Self::TpmOnSevSnp(evidence) => Some(evidence.parts().report),
            Self::Tpm(_) | Self::Tdx(_) | Self::TpmOnTdx(_) => None,
        }
    }

    /// The certificate table beside an SNP report, if one came.
    #[must_use]
    pub fn snp_certificates(&self) -> Option<&[u8]> {
        match self {
            Self::SevSnp(evidence) => evidence.parts().certificates,
            Self::TpmOnSevSnp(evidence) => evidence.parts().certificates,
            Self::Tpm(_) | Self::Tdx(_) | Self::TpmOnTdx(_) => None,
        }
    }

    /// The TDX quote, of kinds that have one.
    #[must_use]
    pub fn tdx_quote(&self) -> Option<&[u8]> {
        match self {
            Self::Tdx(evidence) => Some(evidence.parts().quote),
            Self::TpmOnTdx(evidence) => Some(evidence.parts().quote),
            Self::Tpm(_) | Self::SevSnp(_) | Self::TpmOnSevSnp(_) => None,
        }
    }

    /// The CC event log beside a TDX quote, if one came.
    #[must_use]
    pub fn cc_event_log(&self) -> Option<&[u8]> {
        match self {
            Self::Tdx(evidence) => evidence.parts().event_log,
            Self::TpmOnTdx(evidence) => evidence.parts().ccel,
            Self::Tpm(_) | Self::SevSnp(_) | Self::TpmOnSevSnp(_) => None,
        }
    }
}

/// Evidence signed by hardware we trust. Made only by [`verify`].
#[derive(Clone, Debug)]
pub struct Authentic<'a>(AuthenticKind<'a>);

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one of them, on the stack; a box would cost an allocation each time")]
enum AuthenticKind<'a> {
    Tpm(AuthenticTpm<'a>),
    SevSnp(AuthenticSnp<'a>),
    Tdx(AuthenticTdx<'a>),
    TpmOnSevSnp(AuthenticTpm<'a>, AuthenticSnp<'a>),
    TpmOnTdx(AuthenticTpm<'a>, AuthenticTdx<'a>),
}

/// Is it signed by hardware we trust, and consistent?
///
/// # Errors
/// The first check that fails, as an [`EvidenceDenial`].
pub fn verify<'a>(
    evidence: &'a Evidence,
    endorsements: &'a Endorsements,
    anchors: &TrustAnchors,
    now: UnixSeconds,
) -> Result<Authentic<'a>, EvidenceDenial> {
    let authentic = match (evidence, endorsements) {
        (Evidence::Tpm(evidence), Endorsements::Tpm(endorsement)) => {
            AuthenticKind::Tpm(tpm::verify(evidence, endorsement, anchors, now)?)
        }
        (Evidence::SevSnp(evidence), Endorsements::SevSnp(endorsement)) => {
            AuthenticKind::SevSnp(snp::verify(evidence, endorsement, &anchors.snp_roots(), now)?)
        }
        (Evidence::Tdx(evidence), Endorsements::Tdx(endorsement)) => {
            AuthenticKind::Tdx(tdx::verify(evidence, endorsement, &anchors.tdx_roots(), now)?)
        }
        (Evidence::TpmOnSevSnp(evidence), Endorsements::TpmOnSevSnp(on_tpm, on_snp)) => {
            one_node(on_tpm, &on_snp.enrolled)?;
            let on_tpm = tpm::verify(evidence.tpm(), on_tpm, anchors, now)?;
            let (report, digest) = (evidence.parts().report, evidence.digest());
            AuthenticKind::TpmOnSevSnp(on_tpm, snp::verify_report(report, digest, on_snp, &anchors.snp_roots(), now)?)
        }
        (Evidence::TpmOnTdx(evidence), Endorsements::TpmOnTdx(on_tpm, on_tdx)) => {
            one_node(on_tpm, &on_tdx.enrolled)?;
            let on_tpm = tpm::verify(evidence.tpm(), on_tpm, anchors, now)?;
            let (parts, digest) = (evidence.parts(), evidence.digest());
            let on_tdx = tdx::verify_quote(parts.quote, parts.ccel, digest, on_tdx, &anchors.tdx_roots(), now)?;
            AuthenticKind::TpmOnTdx(on_tpm, on_tdx)
        }
        (
            Evidence::Tpm(_)
            | Evidence::SevSnp(_)
            | Evidence::Tdx(_)
            | Evidence::TpmOnSevSnp(_)
            | Evidence::TpmOnTdx(_),
            _,
        ) => return Err(EvidenceDenial::KindUnexpected { got: evidence.kind(), demanded: endorsements.kind() }),
    };
    Ok(Authentic(authentic))
}

/// TPM and platform are of one enrolment: neither vouches for another node's other half.
fn one_node(on_tpm: &TpmEndorsement, platform: &EnrolledPlatform) -> Result<(), EvidenceDenial> {
    let tpm = &on_tpm.enrolled;
    if tpm.node_id() == platform.node_id() && tpm.record_key() == platform.record_key() {
        return Ok(());
    }
    Err(EvidenceDenial::ActivationMismatch { what: "TPM and platform of one node" })
}

impl<'a> Authentic<'a> {
    /// Does it answer `challenge`, in time?
    ///
    /// # Errors
    /// [`EvidenceDenial::ChallengeExpired`], else the first check that fails.
    pub fn bind(self, challenge: &'a Challenge, now: UnixSeconds) -> Result<Bound<'a>, EvidenceDenial> {
        let expires_at = challenge.expires_at;
        if now > expires_at || now < challenge.issued_at {
            return Err(EvidenceDenial::ChallengeExpired { expires_at, now });
        }
        let got = self.kind();
        let (ledger, required, claims, node_key) = match (self.0, &challenge.demands) {
            (AuthenticKind::Tpm(on_tpm), Demands::Tpm(demands)) => {
                let (ledger, claims) = on_tpm.bind(challenge, demands)?;
                let node_key = tpm_key(&claims);
                (ledger, tpm::required(demands), Claims::Tpm(claims), node_key)
            }
            (AuthenticKind::SevSnp(on_snp), Demands::SevSnp) => {
                let (binding, node_key) = tee_binding(challenge, on_snp.claims().node_key())?;
                let (ledger, claims) = on_snp.bind(&binding)?;
                (ledger, snp::required(), Claims::SevSnp(claims), node_key)
            }
            (AuthenticKind::Tdx(on_tdx), Demands::Tdx(demands)) => {
                let (binding, node_key) = tee_binding(challenge, on_tdx.claims().node_key())?;
                let (ledger, claims) = on_tdx.bind(&binding, *demands)?;
                (ledger, tdx::required(*demands), Claims::Tdx(claims), node_key)
            }
            (AuthenticKind::TpmOnSevSnp(on_tpm, on_snp), Demands::TpmOnSevSnp(demands)) => {
                let (passed, on_tpm) = on_tpm.bind(challenge, demands)?;
                let (ledger, on_snp) = on_snp.bind(&tpm_binding(challenge, &on_tpm)?)?;
                let required = tpm::required(demands).union(snp::required());
                let node_key = tpm_key(&on_tpm);
                (passed.union(ledger), required, Claims::TpmOnSevSnp(on_tpm, on_snp), node_key)
            }
            (AuthenticKind::TpmOnTdx(on_tpm, on_tdx), Demands::TpmOnTdx(TpmOnTdxDemands { tpm: demands, ccel })) => {
                let logs = TdxDemands { event_log: *ccel };
                let (passed, on_tpm) = on_tpm.bind(challenge, demands)?;
                let (ledger, on_tdx) = on_tdx.bind(&tpm_binding(challenge, &on_tpm)?, logs)?;
                let required = tpm::required(demands).union(tdx::required(logs));
                let node_key = tpm_key(&on_tpm);
                (passed.union(ledger), required, Claims::TpmOnTdx(on_tpm, on_tdx), node_key)
            }
            (
                AuthenticKind::Tpm(_)
                | AuthenticKind::SevSnp(_)
                | AuthenticKind::Tdx(_)
                | AuthenticKind::TpmOnSevSnp(..)
                | AuthenticKind::TpmOnTdx(..),
                demands,
            ) => return Err(EvidenceDenial::KindUnexpected { got, demanded: demands.kind() }),
        };
        Ok(Bound { ledger, required, claims, node_key, challenge, judged_at: now })
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match &self.0 {
            AuthenticKind::Tpm(_) => EvidenceKind::Tpm,
            AuthenticKind::SevSnp(_) => EvidenceKind::SevSnp,
            AuthenticKind::Tdx(_) => EvidenceKind::Tdx,
            AuthenticKind::TpmOnSevSnp(..) => EvidenceKind::TpmOnSevSnp,
            AuthenticKind::TpmOnTdx(..) => EvidenceKind::TpmOnTdx,
        }
    }

    /// What its TPM says, of kinds that have one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmClaims<'a>> {
        match &self.0 {
            AuthenticKind::Tpm(on_tpm) | AuthenticKind::TpmOnSevSnp(on_tpm, _) | AuthenticKind::TpmOnTdx(on_tpm, _) => {
                Some(on_tpm.claims())
            }
            AuthenticKind::SevSnp(_) | AuthenticKind::Tdx(_) => None,
        }
    }

    /// What it says, by kind.
    #[must_use]
    pub fn claims(&self) -> Claims<'a> {
        match &self.0 {
            AuthenticKind::Tpm(on_tpm) => Claims::Tpm(on_tpm.claims().clone()),
            AuthenticKind::SevSnp(on_snp) => Claims::SevSnp(on_snp.claims().clone()),
            AuthenticKind::Tdx(on_tdx) => Claims::Tdx(on_tdx.claims().clone()),
            AuthenticKind::TpmOnSevSnp(on_tpm, on_snp) => {
                Claims::TpmOnSevSnp(on_tpm.claims().clone(), on_snp.claims().clone())
            }
            AuthenticKind::TpmOnTdx(on_tpm, on_tdx) => {
                Claims::TpmOnTdx(on_tpm.claims().clone(), on_tdx.claims().clone())
            }
        }
    }

    /// The checks passed so far.
    #[must_use]
    pub const fn ledger(&self) -> CheckLedger {
        match &self.0 {
            AuthenticKind::Tpm(on_tpm) => on_tpm.ledger,
            AuthenticKind::SevSnp(on_snp) => on_snp.ledger,
            AuthenticKind::Tdx(on_tdx) => on_tdx.ledger,
            AuthenticKind::TpmOnSevSnp(on_tpm, on_snp) => on_tpm.ledger.union(on_snp.ledger),
            AuthenticKind::TpmOnTdx(on_tpm, on_tdx) => on_tpm.ledger.union(on_tdx.ledger),
        }
    }
}

/// Report data of a TEE without a TPM: its own node key, and no AK.
fn tee_binding(
    challenge: &Challenge,
    node_key: Option<&XWingPublicKey>,
) -> Result<([u8; 64], AttestedNodeKey), EvidenceDenial> {
    let node_key = node_key.ok_or(EvidenceDenial::Missing { part: "node-key" })?;
    let report_data = Binding::answering(challenge, node_key.cose_key(), None).report_data()?;
    Ok((report_data, AttestedNodeKey::XWing(node_key.clone())))
}

fn tpm_key(on_tpm: &TpmClaims<'_>) -> AttestedNodeKey {
    AttestedNodeKey::Tpm(Arc::clone(on_tpm.node_key()))
}

/// Report data of a TEE with a vTPM: the preimage that the TPM's quote is bound to as well, so that it names the AK.
fn tpm_binding(challenge: &Challenge, on_tpm: &TpmClaims<'_>) -> Result<[u8; 64], EvidenceDenial> {
    let ak_name = on_tpm.ak_name().to_bytes();
    Ok(Binding::answering(challenge, on_tpm.node_key().cose_key(), Some(&ak_name)).report_data()?)
}

/// Authentic evidence that answers one challenge. Made only by [`Authentic::bind`].
#[derive(Clone, Debug)]
pub struct Bound<'a> {
    ledger: CheckLedger,
    required: CheckLedger,
    claims: Claims<'a>,
    node_key: AttestedNodeKey,
    challenge: &'a Challenge,
    judged_at: UnixSeconds,
}

impl<'a> Bound<'a> {
    /// The node key that the binding names: what execution keys are wrapped to.
    #[must_use]
    pub const fn node_key(&self) -> &AttestedNodeKey {
        &self.node_key
    }

    /// The checks passed so far. Later stages add theirs; acceptance needs all of [`Bound::required`] and no more.
    #[must_use]
    pub const fn ledger(&self) -> CheckLedger {
        self.ledger
    }

    /// The checks that this kind of evidence must have passed for this challenge, by all stages together.
    #[must_use]
    pub const fn required(&self) -> CheckLedger {
        self.required
    }

    /// What it says.
    #[must_use]
    pub const fn claims(&self) -> &Claims<'a> {
        &self.claims
    }

    /// The challenge that it answers.
    #[must_use]
    pub const fn challenge(&self) -> &'a Challenge {
        self.challenge
    }

    /// When it was judged to be in time: later stages judge the same moment.
    #[must_use]
    pub const fn judged_at(&self) -> UnixSeconds {
        self.judged_at
    }

    /// SHA-256 of the evidence as received.
    #[must_use]
    pub const fn evidence_digest(&self) -> Sha256Digest {
        self.claims.evidence_digest()
    }
}
