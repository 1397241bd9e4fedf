//! Evidence of every kind, and the two steps of this crate: [`verify`], then [`Authentic::bind`].

use crate::{
    EvidenceDenial,
    anchors::TrustAnchors,
    challenge::{Challenge, Demands},
    digest::Sha256Digest,
    kind::EvidenceKind,
    ledger::CheckLedger,
    time::UnixSeconds,
    tpm::{
        appraisal::{self, AuthenticTpm, TpmClaims, TpmEndorsement},
        evidence::{TPM_EVIDENCE_CAP_BYTES, TpmEvidence},
    },
};

/// Longest evidence of any kind: check before receiving.
pub const EVIDENCE_CAP_BYTES: usize = TPM_EVIDENCE_CAP_BYTES;

/// Evidence, by the kind of machine it is from. Structure only, nothing believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A TPM 2.0.
    Tpm(TpmEvidence),
}

impl Evidence {
    /// Takes a CMW collection as received. The bytes are kept, not copied.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when it is not deterministic, not a kind we know, or above a cap.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, EvidenceDenial> {
        TpmEvidence::decode(bytes).map(Self::Tpm)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
        }
    }

    /// The collection as received or assembled.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Tpm(evidence) => evidence.bytes(),
        }
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        match self {
            Self::Tpm(evidence) => evidence.digest(),
        }
    }
}

/// What the verifier holds about the machine that evidence is from, by kind. Fetched before judging.
#[derive(Clone, Debug)]
pub enum Endorsements {
    /// For [`Evidence::Tpm`].
    Tpm(TpmEndorsement),
}

/// Evidence signed by hardware we trust. Made only by [`verify`].
#[derive(Clone, Debug)]
pub struct Authentic<'a>(AuthenticKind<'a>);

#[derive(Clone, Debug)]
enum AuthenticKind<'a> {
    Tpm(AuthenticTpm<'a>),
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
    match (evidence, endorsements) {
        (Evidence::Tpm(evidence), Endorsements::Tpm(endorsement)) => {
            let authentic = appraisal::verify(evidence, endorsement, anchors, now)?;
            Ok(Authentic(AuthenticKind::Tpm(authentic)))
        }
    }
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
        let (ledger, required, claims) = match (self.0, &challenge.demands) {
            (AuthenticKind::Tpm(authentic), Demands::Tpm(demands)) => {
                let (ledger, claims) = authentic.bind(challenge, demands)?;
                (ledger, appraisal::required(demands), Claims::Tpm(claims))
            }
            (
                AuthenticKind::Tpm(_),
                Demands::SevSnp | Demands::Tdx(_) | Demands::TpmOnSevSnp(_) | Demands::TpmOnTdx(_),
            ) => return Err(EvidenceDenial::KindUnexpected { got, demanded: challenge.demands.kind() }),
        };
        Ok(Bound { ledger, required, claims, challenge, judged_at: now })
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match &self.0 {
            AuthenticKind::Tpm(_) => EvidenceKind::Tpm,
        }
    }

    /// What it says.
    #[must_use]
    pub const fn tpm(&self) -> &TpmClaims<'a> {
        match &self.0 {
            AuthenticKind::Tpm(authentic) => authentic.claims(),
        }
    }

    /// The checks passed so far.
    #[must_use]
    pub const fn ledger(&self) -> CheckLedger {
        match &self.0 {
            AuthenticKind::Tpm(authentic) => authentic.ledger,
        }
    }
}

/// Authentic evidence that answers one challenge. Made only by [`Authentic::bind`].
#[derive(Clone, Debug)]
pub struct Bound<'a> {
    ledger: CheckLedger,
    required: CheckLedger,
    claims: Claims<'a>,
    challenge: &'a Challenge,
    judged_at: UnixSeconds,
}

/// What bound evidence says, by kind.
#[derive(Clone, Debug)]
pub enum Claims<'a> {
    /// From [`Evidence::Tpm`].
    Tpm(TpmClaims<'a>),
}

impl<'a> Bound<'a> {
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
        match &self.claims {
            Claims::Tpm(claims) => claims.evidence_digest(),
        }
    }
}
