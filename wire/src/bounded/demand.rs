//! What a challenge demands, by the kind of machine.

use evidence::digest::HashAlg;
pub use evidence::{
    EvidenceKind,
    challenge::{Demands, TdxDemands, TpmDemands, TpmOnTdxDemands},
};

use super::{FieldDenial, refuse};
use crate::proto::{self, challenge::Demand as Given};

/// PCRs that a TPM has at most in our selections.
pub const PCR_COUNT: u32 = 24;

/// As it travels.
#[must_use]
pub fn to_message(demands: &Demands) -> Given {
    match demands {
        Demands::Tpm(tpm) => Given::Tpm(tpm_message(tpm)),
        Demands::SevSnp => Given::SevSnp(proto::SevSnpDemand {}),
        Demands::Tdx(tdx) => Given::Tdx(proto::TdxDemand { event_log: tdx.event_log }),
        Demands::TpmOnSevSnp(tpm) => Given::TpmOnSevSnp(proto::TpmOnSevSnpDemand { tpm: Some(tpm_message(tpm)) }),
        Demands::TpmOnTdx(both) => {
            Given::TpmOnTdx(proto::TpmOnTdxDemand { tpm: Some(tpm_message(&both.tpm)), ccel: both.ccel })
        }
    }
}

fn tpm_message(tpm: &TpmDemands) -> proto::TpmDemand {
    let indices = |pcrs: &[u8]| pcrs.iter().copied().map(u32::from).collect();
    proto::TpmDemand {
        pcr_bank: tpm.pcr_bank.name().to_owned(),
        pcrs: indices(&tpm.pcrs),
        node_key_pcrs: indices(&tpm.node_key_pcrs),
        event_log: tpm.event_log,
        ima_log: tpm.ima_log,
    }
}

/// The kind as it travels.
#[must_use]
pub const fn kind_message(kind: EvidenceKind) -> proto::Kind {
    match kind {
        EvidenceKind::Tpm => proto::Kind::Tpm,
        EvidenceKind::SevSnp => proto::Kind::SevSnp,
        EvidenceKind::Tdx => proto::Kind::Tdx,
        EvidenceKind::TpmOnSevSnp => proto::Kind::TpmOnSevSnp,
        EvidenceKind::TpmOnTdx => proto::Kind::TpmOnTdx,
    }
}

pub(super) fn kind(given: i32) -> Result<EvidenceKind, FieldDenial> {
    match proto::Kind::try_from(given) {
        Ok(proto::Kind::Tpm) => Ok(EvidenceKind::Tpm),
        Ok(proto::Kind::SevSnp) => Ok(EvidenceKind::SevSnp),
        Ok(proto::Kind::Tdx) => Ok(EvidenceKind::Tdx),
        Ok(proto::Kind::TpmOnSevSnp) => Ok(EvidenceKind::TpmOnSevSnp),
        Ok(proto::Kind::TpmOnTdx) => Ok(EvidenceKind::TpmOnTdx),
        Ok(proto::Kind::Unspecified) | Err(_) => Err(refuse("kind", "not a kind of machine")),
    }
}

pub(super) fn demands(given: Option<Given>) -> Result<Demands, FieldDenial> {
    Ok(match given.ok_or(refuse("demand", "absent"))? {
        Given::Tpm(tpm) => Demands::Tpm(tpm_demands(Some(tpm))?),
        Given::SevSnp(proto::SevSnpDemand {}) => Demands::SevSnp,
        Given::Tdx(tdx) => Demands::Tdx(TdxDemands { event_log: tdx.event_log }),
        Given::TpmOnSevSnp(both) => Demands::TpmOnSevSnp(tpm_demands(both.tpm)?),
        Given::TpmOnTdx(both) => Demands::TpmOnTdx(TpmOnTdxDemands { tpm: tpm_demands(both.tpm)?, ccel: both.ccel }),
    })
}

fn tpm_demands(given: Option<proto::TpmDemand>) -> Result<TpmDemands, FieldDenial> {
    let given = given.ok_or(refuse("demand", "absent in part"))?;
    Ok(TpmDemands {
        pcr_bank: pcr_bank(&given.pcr_bank)?,
        pcrs: pcrs("pcrs", &given.pcrs)?,
        node_key_pcrs: pcrs("node_key_pcrs", &given.node_key_pcrs)?,
        event_log: given.event_log,
        ima_log: given.ima_log,
    })
}

pub(super) fn pcr_bank(given: &str) -> Result<HashAlg, FieldDenial> {
    let bank = HashAlg::from_name(given).filter(|bank| matches!(bank, HashAlg::Sha256 | HashAlg::Sha384));
    bank.ok_or(refuse("pcr_bank", "neither sha256 nor sha384"))
}

/// PCR indices, ascending, each below [`PCR_COUNT`], at least one.
pub(super) fn pcrs(field: &'static str, given: &[u32]) -> Result<Vec<u8>, FieldDenial> {
    let sound = !given.is_empty() && given.iter().all(|pcr| *pcr < PCR_COUNT) && given.is_sorted_by(|a, b| a < b);
    let pcrs: Option<Vec<u8>> = given.iter().map(|pcr| u8::try_from(*pcr).ok()).collect();
    pcrs.filter(|_| sound).ok_or(refuse(field, "not ascending PCR indices"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tpm() -> TpmDemands {
        TpmDemands {
            pcr_bank: HashAlg::Sha256,
            pcrs: vec![0, 4, 7],
            node_key_pcrs: vec![0],
            event_log: true,
            ima_log: false,
        }
    }

    #[test]
    fn every_kind_arrives_as_it_was_sent() {
        let all = [
            Demands::Tpm(tpm()),
            Demands::SevSnp,
            Demands::Tdx(TdxDemands { event_log: true }),
            Demands::TpmOnSevSnp(tpm()),
            Demands::TpmOnTdx(TpmOnTdxDemands { tpm: tpm(), ccel: true }),
        ];
        for sent in all {
            assert_eq!(demands(Some(to_message(&sent))), Ok(sent));
        }
        assert_eq!(demands(None).unwrap_err().field, "demand");
        use EvidenceKind as K;
        for sent in [K::Tpm, K::SevSnp, K::Tdx, K::TpmOnSevSnp, K::TpmOnTdx] {
            assert_eq!(kind(i32::from(kind_message(sent))), Ok(sent));
        }
        assert_eq!(kind(0).unwrap_err().field, "kind");
        assert_eq!(kind(6).unwrap_err().field, "kind");
    }

    #[test]
    fn a_demand_of_two_parts_needs_both() {
        let bent = [
            Given::TpmOnSevSnp(proto::TpmOnSevSnpDemand { tpm: None }),
            Given::TpmOnTdx(proto::TpmOnTdxDemand { tpm: None, ccel: true }),
        ];
        for bent in bent {
            assert_eq!(demands(Some(bent)).unwrap_err().field, "demand");
        }
    }

    #[test]
    fn what_is_demanded_of_a_tpm_is_bounded() {
        let base = || tpm_message(&tpm());
        for (bent, field) in [
            (proto::TpmDemand { pcr_bank: "sha1".into(), ..base() }, "pcr_bank"),
            (proto::TpmDemand { pcr_bank: "SHA256".into(), ..base() }, "pcr_bank"),
            (proto::TpmDemand { pcrs: vec![], ..base() }, "pcrs"),
            (proto::TpmDemand { pcrs: vec![24], ..base() }, "pcrs"),
            (proto::TpmDemand { pcrs: vec![256], ..base() }, "pcrs"),
            (proto::TpmDemand { pcrs: vec![4, 0], ..base() }, "pcrs"),
            (proto::TpmDemand { pcrs: vec![4, 4], ..base() }, "pcrs"),
            (proto::TpmDemand { node_key_pcrs: vec![], ..base() }, "node_key_pcrs"),
        ] {
            for bent in [
                Given::Tpm(bent.clone()),
                Given::TpmOnSevSnp(proto::TpmOnSevSnpDemand { tpm: Some(bent.clone()) }),
                Given::TpmOnTdx(proto::TpmOnTdxDemand { tpm: Some(bent.clone()), ccel: false }),
            ] {
                assert_eq!(demands(Some(bent)).unwrap_err().field, field);
            }
        }
    }
}
