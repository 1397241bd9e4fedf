//! A verifier's challenge, found to be about what was asked.

use evidence::EvidenceKind;
use evidence::challenge::{Challenge, Demands, TdxDemands, TpmDemands, TpmOnTdxDemands};
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use evidence::tpm::pcr::{PcrSelection, PcrSet};
use wire::bounded::FieldDenial;
use wire::bounded::local::EvidenceRequest;
use wire::bounded::verifier::ChallengeTerms;
use wire::proto;
use wire::protocol::inspection;

use crate::config::{Config, UNBOUND_PCRS};

/// What this node asked the verifier to challenge it about, on which connection.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What this node is, and the only thing that it answers as.
    pub kind: EvidenceKind,
    /// SPIFFE ID of the verifier of the configured domain.
    pub audience: String,
    /// Digest of the intent, or of the live artifacts, or of a capture (`wire::protocol`).
    pub subject: Sha256Digest,
    /// Newest lineage record that the request named.
    pub lineage_head: Sha256Digest,
    /// TLS exporter of the connection.
    pub channel: [u8; 32],
}

/// A verifier's challenge, found to be about what was asked.
#[derive(Clone, Debug)]
pub struct Demand {
    pub(super) asked: Asked,
    pub(super) nonce: [u8; 32],
    pub(super) epoch: u64,
    pub(super) wanted: Wanted,
}

/// What must come, by the kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A quote.
    Tpm(WantedOfTpm),
    /// An SNP report.
    SevSnp,
    /// A TDX quote.
    Tdx(WithCcel),
    /// A vTPM's quote, and the SNP report that it is bound to.
    TpmOnSevSnp(WantedOfTpm),
    /// A vTPM's quote, and the TDX quote that it is bound to.
    TpmOnTdx(WantedOfTpm, WithCcel),
}

/// Whether the CCEL event log must come with a TDX quote.
pub type WithCcel = bool;

/// What must come of a TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedOfTpm {
    /// PCRs to quote.
    pub quoted: PcrSelection,
    /// PCRs that the node key must be bound to.
    pub node_key_bound_to: PcrSelection,
    /// With the event log.
    pub event_log: bool,
    /// With the IMA log.
    pub ima_log: bool,
}

/// Why a challenge is not answered: it is not about what this node asked, or asks for what must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeDenial {
    /// Not within the protocol's bounds.
    #[error("challenge: {0}")]
    Malformed(#[from] FieldDenial),
    /// Another verifier's challenge: it would be relayed Evidence.
    #[error("challenge is for another audience than {want}")]
    Audience {
        /// The configured verifier.
        want: String,
    },
    /// About something that this node did not ask.
    #[error("challenge is about {got}, this node asked about {want}")]
    Subject {
        /// In the challenge.
        got: Sha256Digest,
        /// Asked.
        want: Sha256Digest,
    },
    /// Of another kind of machine than this node is configured as.
    #[error("challenge demands evidence of kind {got:?}, this node is {want:?}")]
    Kind {
        /// Demanded.
        got: EvidenceKind,
        /// Configured.
        want: EvidenceKind,
    },
    /// The node key would be bound to a PCR that can be reset or changes at run time (APPRAISAL T11).
    #[error("node key would be bound to PCR {pcr}, which is resettable or changes at run time")]
    Unbindable {
        /// The PCR.
        pcr: u8,
    },
    /// The node key would be bound to a PCR that is not quoted, so nobody could tell to what.
    #[error("node key would be bound to PCR {pcr}, which is not quoted")]
    BoundButNotQuoted {
        /// The PCR.
        pcr: u8,
    },
}

impl ChallengeDenial {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "evidence.challenge_malformed",
            Self::Audience { .. } => "evidence.challenge_audience",
            Self::Subject { .. } => "evidence.challenge_subject",
            Self::Kind { .. } => "evidence.challenge_kind",
            Self::Unbindable { .. } | Self::BoundButNotQuoted { .. } => "evidence.challenge_node_key_pcrs",
        }
    }
}

impl Demand {
    /// Takes a challenge that answers what was asked.
    ///
    /// # Errors
    /// [`ChallengeDenial`].
    pub fn accept(challenge: &proto::Challenge, asked: Asked) -> Result<Self, ChallengeDenial> {
        let terms = ChallengeTerms::try_from(challenge.clone())?;
        if terms.audience != asked.audience {
            return Err(ChallengeDenial::Audience { want: asked.audience });
        }
        if terms.subject != asked.subject {
            return Err(ChallengeDenial::Subject { got: terms.subject, want: asked.subject });
        }
        let wanted = Wanted::accept(&terms.demands)?;
        if wanted.kind() != asked.kind {
            return Err(ChallengeDenial::Kind { got: wanted.kind(), want: asked.kind });
        }
        Ok(Self { asked, nonce: terms.nonce, epoch: terms.epoch, wanted })
    }

    /// A demand of nobody's: for people who want to see what Evidence of this machine looks like, or to have a verifier
    /// appraise it by hand. Every log that is configured comes with it.
    ///
    /// Whoever may ask (this user, root) chooses the nonce and the PCRs and nothing else. The binding that is quoted has
    /// [`INSPECTION_AUDIENCE`](wire::protocol::INSPECTION_AUDIENCE), epoch 0, a channel of zeros and a subject of its own,
    /// and no verifier challenges with any of these: what it expects is its own SPIFFE ID, an epoch from 1 on, the exporter
    /// value of its own TLS connection and the digest of what was asked there. So with whatever nonce this was asked, a
    /// verifier's included, it is not the answer to that verifier's challenge: the preimages differ in four fields, and the
    /// digests of different preimages are what the machine signs.
    ///
    /// # Errors
    /// [`ChallengeDenial`] for PCRs that no node key can be bound to.
    pub fn for_inspection(request: &EvidenceRequest, config: &Config) -> Result<Self, ChallengeDenial> {
        let kind = config.identity.kind();
        let (event_log, ima_log) = (config.logs.event_log.is_some(), config.logs.ima_log.is_some());
        let ccel = config.identity.tee().is_some_and(|(_, tee)| tee.ccel.is_some());
        let of_tpm = || {
            let node_key_pcrs: Vec<u8> =
                request.pcrs.iter().copied().filter(|pcr| !UNBOUND_PCRS.contains(pcr)).collect();
            if node_key_pcrs.is_empty() {
                return Err(FieldDenial { field: "pcrs", rule: "none that a node key can be bound to" });
            }
            let (pcr_bank, pcrs) = (request.pcr_bank, request.pcrs.clone());
            Ok(TpmDemands { pcr_bank, pcrs, node_key_pcrs, event_log, ima_log })
        };
        let demands = match kind {
            EvidenceKind::Tpm => Demands::Tpm(of_tpm()?),
            EvidenceKind::SevSnp => Demands::SevSnp,
            EvidenceKind::Tdx => Demands::Tdx(TdxDemands { event_log: ccel }),
            EvidenceKind::TpmOnSevSnp => Demands::TpmOnSevSnp(of_tpm()?),
            EvidenceKind::TpmOnTdx => Demands::TpmOnTdx(TpmOnTdxDemands { tpm: of_tpm()?, ccel }),
        };
        let wanted = Wanted::accept(&demands)?;
        // When it is answered is nobody's concern here.
        let Challenge { nonce, channel, audience, epoch, subject, lineage_head, .. } =
            inspection(request.nonce, demands, UnixSeconds(0));
        Ok(Self { asked: Asked { kind, audience, subject, lineage_head, channel }, nonce, epoch, wanted })
    }

    /// The verifier's governance epoch.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Wanted {
    fn accept(demands: &Demands) -> Result<Self, ChallengeDenial> {
        Ok(match demands {
            Demands::Tpm(tpm) => Self::Tpm(WantedOfTpm::accept(tpm)?),
            Demands::SevSnp => Self::SevSnp,
            Demands::Tdx(tdx) => Self::Tdx(tdx.event_log),
            Demands::TpmOnSevSnp(tpm) => Self::TpmOnSevSnp(WantedOfTpm::accept(tpm)?),
            Demands::TpmOnTdx(both) => Self::TpmOnTdx(WantedOfTpm::accept(&both.tpm)?, both.ccel),
        })
    }

    const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::SevSnp => EvidenceKind::SevSnp,
            Self::Tdx(_) => EvidenceKind::Tdx,
            Self::TpmOnSevSnp(_) => EvidenceKind::TpmOnSevSnp,
            Self::TpmOnTdx(..) => EvidenceKind::TpmOnTdx,
        }
    }
}

impl WantedOfTpm {
    fn accept(demands: &TpmDemands) -> Result<Self, ChallengeDenial> {
        let quoted = pcr_set("pcrs", &demands.pcrs)?;
        let bound = pcr_set("node_key_pcrs", &demands.node_key_pcrs)?;
        if let Some(pcr) = bound.iter().find(|pcr| UNBOUND_PCRS.contains(pcr)) {
            return Err(ChallengeDenial::Unbindable { pcr });
        }
        if let Some(pcr) = bound.iter().find(|pcr| !quoted.contains(*pcr)) {
            return Err(ChallengeDenial::BoundButNotQuoted { pcr });
        }
        Ok(Self {
            quoted: PcrSelection { bank: demands.pcr_bank, pcrs: quoted },
            node_key_bound_to: PcrSelection { bank: demands.pcr_bank, pcrs: bound },
            event_log: demands.event_log,
            ima_log: demands.ima_log,
        })
    }
}

fn pcr_set(field: &'static str, indices: &[u8]) -> Result<PcrSet, FieldDenial> {
    PcrSet::of(indices).ok_or(FieldDenial { field, rule: "not PCR indices" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            kind: EvidenceKind::Tpm,
            audience: "spiffe://a.example/verifier".to_owned(),
            subject: Sha256Digest::of(b"intent"),
            lineage_head: Sha256Digest::ZERO,
            channel: [7; 32],
        }
    }

    fn genuine() -> proto::Challenge {
        proto::Challenge {
            vouchers: Vec::new(),
            nonce: vec![1; 32],
            expires_after_ms: 10_000,
            audience: asked().audience,
            epoch: 3,
            subject: asked().subject.as_bytes().to_vec(),
            demand: Some(proto::challenge::Demand::Tpm(proto::TpmDemand {
                pcr_bank: "sha256".to_owned(),
                pcrs: vec![0, 1, 2, 3, 4, 7, 10],
                node_key_pcrs: vec![0, 2, 4, 7],
                event_log: true,
                ima_log: false,
            })),
        }
    }

    fn tpm(challenge: &mut proto::Challenge) -> &mut proto::TpmDemand {
        let Some(proto::challenge::Demand::Tpm(demand)) = &mut challenge.demand else { panic!("not a TPM's") };
        demand
    }

    #[test]
    fn only_its_own_kind_is_answered() {
        let tpm = genuine().demand;
        let kinds = [
            (EvidenceKind::Tpm, tpm),
            (EvidenceKind::SevSnp, Some(proto::challenge::Demand::SevSnp(proto::SevSnpDemand {}))),
            (EvidenceKind::Tdx, Some(proto::challenge::Demand::Tdx(proto::TdxDemand::default()))),
        ];
        for (kind, _) in &kinds {
            for (demanded, demand) in &kinds {
                let challenge = proto::Challenge { demand: demand.clone(), ..genuine() };
                let outcome = Demand::accept(&challenge, Asked { kind: *kind, ..asked() });
                assert_eq!(
                    outcome.err().map(|denial| denial.code()),
                    (kind != demanded).then_some("evidence.challenge_kind")
                );
            }
        }
    }

    #[test]
    fn one_defect_each_is_refused() {
        type Defect = (fn(&mut proto::Challenge), &'static str);
        let snp = proto::challenge::Demand::SevSnp(proto::SevSnpDemand {});
        assert_eq!(
            Demand::accept(&proto::Challenge { demand: Some(snp), ..genuine() }, asked()).unwrap_err().code(),
            "evidence.challenge_kind"
        );
        let defects: [Defect; 12] = [
            (|c| c.nonce.truncate(31), "evidence.challenge_malformed"),
            (|c| c.nonce.clear(), "evidence.challenge_malformed"),
            (|c| c.audience = "spiffe://b.example/verifier".to_owned(), "evidence.challenge_audience"),
            (|c| c.subject[0] ^= 1, "evidence.challenge_subject"),
            (|c| c.subject.clear(), "evidence.challenge_malformed"),
            (|c| tpm(c).pcr_bank = "sha1".to_owned(), "evidence.challenge_malformed"),
            (|c| tpm(c).pcrs.clear(), "evidence.challenge_malformed"),
            (|c| tpm(c).pcrs = vec![4, 0], "evidence.challenge_malformed"),
            (|c| tpm(c).pcrs = vec![0, 24], "evidence.challenge_malformed"),
            (|c| tpm(c).node_key_pcrs.clear(), "evidence.challenge_malformed"),
            (|c| tpm(c).node_key_pcrs = vec![0, 10], "evidence.challenge_node_key_pcrs"),
            (|c| tpm(c).node_key_pcrs = vec![0, 5], "evidence.challenge_node_key_pcrs"),
        ];
        Demand::accept(&genuine(), asked()).unwrap();
        for (n, (defect, code)) in defects.into_iter().enumerate() {
            let mut challenge = genuine();
            defect(&mut challenge);
            assert_eq!(Demand::accept(&challenge, asked()).unwrap_err().code(), code, "defect {n}");
        }
    }
}
