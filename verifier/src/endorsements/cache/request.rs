//! What can be asked of a cache, in the vendors' own forms: AMD's key distribution service (AMD 57230 §4) and Intel's
//! provisioning certification service (PCS API v4).

use crate::endorsements::key::{EndorsementKey, PckCa, SnpLevels, SnpLine};

/// Whose service a cache stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Vendor {
    /// AMD KDS.
    Amd,
    /// Intel PCS.
    Intel,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Vcek {
        line: SnpLine,
        chip_id: [u8; 64],
        tcb: [u8; 8],
    },
    /// ASK and ARK.
    VcekChain(SnpLine),
    /// ASVK and ARK.
    VlekChain(SnpLine),
    SnpCrl(SnpLine),
    TcbInfo {
        fmspc: [u8; 6],
    },
    QeIdentity,
    PckCrl(PckCa),
    RootCaCrl,
}

impl Request {
    /// What brings the endorsement of `key`. A VLEK is given out by AMD to its service provider alone: nothing does.
    pub(crate) fn of(key: &EndorsementKey) -> Option<Self> {
        Some(match key {
            EndorsementKey::Vcek { line, chip_id, tcb } => Self::Vcek { line: *line, chip_id: *chip_id, tcb: *tcb },
            EndorsementKey::Vlek { .. } => return None,
            EndorsementKey::Ask(line) | EndorsementKey::Ark(line) => Self::VcekChain(*line),
            EndorsementKey::Asvk(line) => Self::VlekChain(*line),
            EndorsementKey::SnpCrl(line) => Self::SnpCrl(*line),
            EndorsementKey::TcbInfo { fmspc } => Self::TcbInfo { fmspc: *fmspc },
            EndorsementKey::QeIdentity | EndorsementKey::IntelRoot => Self::QeIdentity,
            EndorsementKey::PckCa(ca) | EndorsementKey::PckCrl(ca) => Self::PckCrl(*ca),
            EndorsementKey::RootCaCrl => Self::RootCaCrl,
        })
    }

    pub(crate) fn vendor(&self) -> Vendor {
        match self {
            Self::Vcek { .. } | Self::VcekChain(_) | Self::VlekChain(_) | Self::SnpCrl(_) => Vendor::Amd,
            Self::TcbInfo { .. } | Self::QeIdentity | Self::PckCrl(_) | Self::RootCaCrl => Vendor::Intel,
        }
    }

    /// Path and query after the cache's URL.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Vcek { line, chip_id, tcb } => vcek(*line, chip_id, *tcb),
            Self::VcekChain(line) => format!("/vcek/v1/{line}/cert_chain"),
            Self::VlekChain(line) => format!("/vlek/v1/{line}/cert_chain"),
            Self::SnpCrl(line) => format!("/vcek/v1/{line}/crl"),
            Self::TcbInfo { fmspc } => format!("/tdx/certification/v4/tcb?fmspc={}", hex::encode(fmspc)),
            Self::QeIdentity => "/tdx/certification/v4/qe/identity".to_owned(),
            Self::PckCrl(ca) => format!("/sgx/certification/v4/pckcrl?ca={}&encoding=der", ca.name()),
            Self::RootCaCrl => "/sgx/certification/v4/rootcacrl".to_owned(),
        }
    }

    /// Header in which the issuers' certificates stand, as percent-encoded PEM.
    pub(crate) fn chain_header(&self) -> Option<&'static str> {
        match self {
            Self::TcbInfo { .. } => Some("tcb-info-issuer-chain"),
            Self::QeIdentity => Some("sgx-enclave-identity-issuer-chain"),
            Self::PckCrl(_) => Some("sgx-pck-crl-issuer-chain"),
            Self::Vcek { .. } | Self::VcekChain(_) | Self::VlekChain(_) | Self::SnpCrl(_) | Self::RootCaCrl => None,
        }
    }

    /// Whether an endorsement of `key` is what this request asks for.
    pub(crate) fn asks_for(&self, key: &EndorsementKey) -> bool {
        let on_the_side = matches!(key, EndorsementKey::Ark(_) | EndorsementKey::IntelRoot | EndorsementKey::PckCa(_));
        !on_the_side && Self::of(key).as_ref() == Some(self)
    }

    /// Whether an answer to this request may hold an endorsement of `key`; others in it are dropped.
    pub(crate) fn may_bring(&self, key: &EndorsementKey) -> bool {
        match self {
            Self::Vcek { .. } => Self::of(key).as_ref() == Some(self),
            Self::VcekChain(line) => *key == EndorsementKey::Ask(*line) || *key == EndorsementKey::Ark(*line),
            Self::VlekChain(line) => *key == EndorsementKey::Asvk(*line) || *key == EndorsementKey::Ark(*line),
            Self::SnpCrl(line) => *key == EndorsementKey::SnpCrl(*line),
            Self::TcbInfo { fmspc } => {
                *key == EndorsementKey::TcbInfo { fmspc: *fmspc } || *key == EndorsementKey::IntelRoot
            }
            Self::QeIdentity => matches!(key, EndorsementKey::QeIdentity | EndorsementKey::IntelRoot),
            Self::PckCrl(ca) => {
                let own = [EndorsementKey::PckCrl(*ca), EndorsementKey::PckCa(*ca), EndorsementKey::IntelRoot];
                own.contains(key)
            }
            Self::RootCaCrl => *key == EndorsementKey::RootCaCrl,
        }
    }
}

fn vcek(line: SnpLine, chip_id: &[u8; 64], tcb: [u8; 8]) -> String {
    let SnpLevels { fmc, boot_loader, tee, snp, microcode } = SnpLevels::of(line, tcb);
    let id: Vec<u8> = chip_id.iter().take(if line == SnpLine::Turin { 8 } else { 64 }).copied().collect();
    let fmc = fmc.map_or_else(String::new, |fmc| format!("fmcSPL={fmc}&"));
    format!(
        "/vcek/v1/{line}/{}?{fmc}blSPL={boot_loader}&teeSPL={tee}&snpSPL={snp}&ucodeSPL={microcode}",
        hex::encode(id)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_vendors() {
        let mut chip_id = [0; 64];
        chip_id[..2].copy_from_slice(&[0xab, 0xcd]);
        let milan = Request::Vcek { line: SnpLine::Milan, chip_id, tcb: [3, 0, 0, 0, 0, 0, 8, 115] };
        let id = format!("abcd{}", "00".repeat(62));
        assert_eq!(milan.path(), format!("/vcek/v1/Milan/{id}?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115"));
        let turin = Request::Vcek { line: SnpLine::Turin, chip_id, tcb: [1, 2, 3, 4, 0, 0, 0, 5] };
        assert_eq!(turin.path(), "/vcek/v1/Turin/abcd000000000000?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=5");
        let tcb_info = Request::TcbInfo { fmspc: [0x90, 0xc0, 0x6f, 0, 0, 0] };
        assert_eq!(tcb_info.path(), "/tdx/certification/v4/tcb?fmspc=90c06f000000");
    }

    #[test]
    fn an_answer_brings_only_what_was_asked_for() {
        let ask = Request::of(&EndorsementKey::Ask(SnpLine::Genoa)).unwrap();
        assert!(ask.may_bring(&EndorsementKey::Ark(SnpLine::Genoa)));
        assert!(!ask.may_bring(&EndorsementKey::Ark(SnpLine::Milan)));
        assert!(!ask.may_bring(&EndorsementKey::SnpCrl(SnpLine::Genoa)));
        let info = Request::TcbInfo { fmspc: [1; 6] };
        assert!(info.may_bring(&EndorsementKey::IntelRoot));
        assert!(!info.may_bring(&EndorsementKey::TcbInfo { fmspc: [2; 6] }));
    }
}
