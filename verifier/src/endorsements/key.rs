//! What an endorsement is about, in fixed-size fields that were parsed out of it: the key it is stored and found under.

use std::fmt;

/// Longest CSP id of a VLEK, in bytes.
pub const CSP_ID_CAP_BYTES: usize = 128;

/// A product line of AMD EPYC, as its root certificate and AMD's key service name it (AMD 57230 §2): Bergamo and Siena
/// belong to Genoa's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SnpLine {
    /// Milan.
    Milan,
    /// Genoa, Bergamo, Siena.
    Genoa,
    /// Turin.
    Turin,
}

impl SnpLine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// Name in certificates and URLs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// The line with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|line| line.name() == name)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Milan => 1,
            Self::Genoa => 2,
            Self::Turin => 3,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|line| line.code() == code)
    }
}

impl fmt::Display for SnpLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Security patch levels of a TCB_VERSION (AMD 56860 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpLevels {
    /// FMC, on Turin alone.
    pub fmc: Option<u8>,
    /// Boot loader.
    pub boot_loader: u8,
    /// TEE (PSP operating system).
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl SnpLevels {
    /// Reads a TCB_VERSION as it stands in a report of `line`: 8 bytes, lowest address first.
    #[must_use]
    pub const fn of(line: SnpLine, tcb: [u8; 8]) -> Self {
        match (line, tcb) {
            (SnpLine::Milan | SnpLine::Genoa, [boot_loader, tee, _, _, _, _, snp, microcode]) => {
                Self { fmc: None, boot_loader, tee, snp, microcode }
            }
            (SnpLine::Turin, [fmc, boot_loader, tee, snp, _, _, _, microcode]) => {
                Self { fmc: Some(fmc), boot_loader, tee, snp, microcode }
            }
        }
    }

    /// The same levels as a report of `line` has them.
    #[must_use]
    pub const fn tcb(self, line: SnpLine) -> [u8; 8] {
        let Self { fmc, boot_loader, tee, snp, microcode } = self;
        match (line, fmc) {
            (SnpLine::Milan | SnpLine::Genoa, _) => [boot_loader, tee, 0, 0, 0, 0, snp, microcode],
            (SnpLine::Turin, Some(fmc)) => [fmc, boot_loader, tee, snp, 0, 0, 0, microcode],
            (SnpLine::Turin, None) => [0, boot_loader, tee, snp, 0, 0, 0, microcode],
        }
    }
}

impl fmt::Display for SnpLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "FMC {fmc}, ")?;
        }
        let Self { boot_loader, tee, snp, microcode, .. } = self;
        write!(f, "boot loader {boot_loader}, TEE {tee}, SNP {snp}, microcode {microcode}")
    }
}

/// Which of Intel's certificate authorities issued a PCK certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PckCa {
    /// Single-package platforms.
    Processor,
    /// Multi-package platforms.
    Platform,
}

impl PckCa {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Processor, Self::Platform];

    /// Name in URLs (PCS v4 `pckcrl?ca=`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }

    /// Common name of its certificate.
    #[must_use]
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Processor => "Intel SGX PCK Processor CA",
            Self::Platform => "Intel SGX PCK Platform CA",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Processor => 1,
            Self::Platform => 2,
        }
    }
}

/// The service provider that a VLEK was made for: printable ASCII, at most [`CSP_ID_CAP_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CspId(String);

impl CspId {
    /// Admits `text` if it is printable ASCII, not empty and not too long.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        (printable && (1..=CSP_ID_CAP_BYTES).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What one endorsement is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndorsementKey {
    /// Certificate of a chip's key at one TCB.
    Vcek {
        /// Product line.
        line: SnpLine,
        /// CHIP_ID as in a report, zero-padded where the hardware id is shorter (Turin: 8 bytes).
        chip_id: [u8; 64],
        /// TCB_VERSION as in a report.
        tcb: [u8; 8],
    },
    /// Certificate of a service provider's key at one TCB.
    Vlek {
        /// Product line.
        line: SnpLine,
        /// TCB_VERSION as in a report.
        tcb: [u8; 8],
        /// Service provider.
        csp: CspId,
    },
    /// AMD SEV key: issuer of VCEKs.
    Ask(SnpLine),
    /// AMD SEV VLEK key: issuer of VLEKs.
    Asvk(SnpLine),
    /// AMD root key.
    Ark(SnpLine),
    /// Revocation list that the AMD root key signed.
    SnpCrl(SnpLine),
    /// TDX TCB info of a platform family, with its signature and signing chain.
    TcbInfo {
        /// FMSPC.
        fmspc: [u8; 6],
    },
    /// Identity of the TD quoting enclave, with its signature and signing chain.
    QeIdentity,
    /// Intel SGX root CA certificate.
    IntelRoot,
    /// Certificate of an issuer of PCK certificates.
    PckCa(PckCa),
    /// Revocation list of an issuer of PCK certificates.
    PckCrl(PckCa),
    /// Revocation list of the Intel SGX root CA.
    RootCaCrl,
}

impl EndorsementKey {
    /// Stable name of its kind: in rows, documents and results.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Vcek { .. } => "vcek",
            Self::Vlek { .. } => "vlek",
            Self::Ask(_) => "ask",
            Self::Asvk(_) => "asvk",
            Self::Ark(_) => "ark",
            Self::SnpCrl(_) => "snp-crl",
            Self::TcbInfo { .. } => "tcb-info",
            Self::QeIdentity => "qe-identity",
            Self::IntelRoot => "intel-root",
            Self::PckCa(_) => "pck-ca",
            Self::PckCrl(_) => "pck-crl",
            Self::RootCaCrl => "root-ca-crl",
        }
    }

    /// Whether it says what holds *now* (revocations, TCB levels) and is issued anew by its date, unlike a certificate.
    #[must_use]
    pub const fn is_statement(&self) -> bool {
        match self {
            Self::SnpCrl(_) | Self::TcbInfo { .. } | Self::QeIdentity | Self::PckCrl(_) | Self::RootCaCrl => true,
            Self::Vcek { .. }
            | Self::Vlek { .. }
            | Self::Ask(_)
            | Self::Asvk(_)
            | Self::Ark(_)
            | Self::IntelRoot
            | Self::PckCa(_) => false,
        }
    }

    /// The fields, one after the other: at most 73 bytes, and for a VLEK 9 and its CSP id.
    #[must_use]
    pub fn fields(&self) -> Vec<u8> {
        match self {
            Self::Vcek { line, chip_id, tcb } => [[line.code()].as_slice(), chip_id, tcb].concat(),
            Self::Vlek { line, tcb, csp } => [Self::vlek_prefix(*line, tcb).as_slice(), csp.0.as_bytes()].concat(),
            Self::Ask(line) | Self::Asvk(line) | Self::Ark(line) | Self::SnpCrl(line) => vec![line.code()],
            Self::TcbInfo { fmspc } => fmspc.to_vec(),
            Self::PckCa(ca) | Self::PckCrl(ca) => vec![ca.code()],
            Self::QeIdentity | Self::IntelRoot | Self::RootCaCrl => Vec::new(),
        }
    }

    /// Start of the fields of every VLEK of a line at a TCB.
    pub(super) fn vlek_prefix(line: SnpLine, tcb: &[u8; 8]) -> Vec<u8> {
        [[line.code()].as_slice(), tcb].concat()
    }

    /// Reads the key of a row back.
    #[must_use]
    pub fn from_row(kind: &str, fields: &[u8]) -> Option<Self> {
        let line = || fields.first().copied().and_then(SnpLine::of_code);
        let only_line = || line().filter(|_| fields.len() == 1);
        let ca = || PckCa::ALL.into_iter().find(|ca| fields == [ca.code()]);
        let tcb = |at: usize| fields.get(at..)?.first_chunk::<8>().copied();
        let empty = |key: Self| fields.is_empty().then_some(key);
        match kind {
            "vcek" if fields.len() == 73 => {
                let chip_id = *fields.get(1..)?.first_chunk::<64>()?;
                Some(Self::Vcek { line: line()?, chip_id, tcb: tcb(65)? })
            }
            "vlek" => {
                let csp = CspId::new(std::str::from_utf8(fields.get(9..)?).ok()?)?;
                Some(Self::Vlek { line: line()?, tcb: tcb(1)?, csp })
            }
            "ask" => only_line().map(Self::Ask),
            "asvk" => only_line().map(Self::Asvk),
            "ark" => only_line().map(Self::Ark),
            "snp-crl" => only_line().map(Self::SnpCrl),
            "tcb-info" => <[u8; 6]>::try_from(fields).ok().map(|fmspc| Self::TcbInfo { fmspc }),
            "qe-identity" => empty(Self::QeIdentity),
            "intel-root" => empty(Self::IntelRoot),
            "pck-ca" => ca().map(Self::PckCa),
            "pck-crl" => ca().map(Self::PckCrl),
            "root-ca-crl" => empty(Self::RootCaCrl),
            _ => None,
        }
    }
}

impl fmt::Display for EndorsementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcek { line, chip_id, tcb } => {
                // the whole id where it is short; its first half tells chips apart where it is long
                let shown = chip_id.iter().rposition(|byte| *byte != 0).map_or(8, |last| if last < 8 { 8 } else { 32 });
                let id: Vec<u8> = chip_id.iter().take(shown).copied().collect();
                write!(f, "VCEK of {line} chip {} at TCB ({})", hex::encode(id), SnpLevels::of(*line, *tcb))
            }
            Self::Vlek { line, tcb, csp } => {
                write!(f, "VLEK of {line} for {} at TCB ({})", csp.0, SnpLevels::of(*line, *tcb))
            }
            Self::Ask(line) => write!(f, "ASK of {line}"),
            Self::Asvk(line) => write!(f, "ASVK of {line}"),
            Self::Ark(line) => write!(f, "ARK of {line}"),
            Self::SnpCrl(line) => write!(f, "revocation list of ARK {line}"),
            Self::TcbInfo { fmspc } => write!(f, "TDX TCB info of FMSPC {}", hex::encode(fmspc)),
            Self::QeIdentity => f.write_str("identity of the TD quoting enclave"),
            Self::IntelRoot => f.write_str("Intel SGX root CA certificate"),
            Self::PckCa(ca) => write!(f, "certificate of {}", ca.common_name()),
            Self::PckCrl(ca) => write!(f, "revocation list of {}", ca.common_name()),
            Self::RootCaCrl => f.write_str("revocation list of Intel SGX Root CA"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_row_and_from_no_other() {
        let (chip_id, tcb) = ([7; 64], [3, 0, 0, 0, 0, 0, 8, 115]);
        let csp = CspId::new("CN=cc-us-east-2.example").unwrap();
        let mut keys = vec![
            EndorsementKey::TcbInfo { fmspc: [1, 2, 3, 4, 5, 6] },
            EndorsementKey::QeIdentity,
            EndorsementKey::IntelRoot,
            EndorsementKey::RootCaCrl,
        ];
        for line in SnpLine::ALL {
            keys.push(EndorsementKey::Vcek { line, chip_id, tcb });
            keys.push(EndorsementKey::Vlek { line, tcb, csp: csp.clone() });
            keys.extend([
                EndorsementKey::Ask(line),
                EndorsementKey::Asvk(line),
                EndorsementKey::Ark(line),
                EndorsementKey::SnpCrl(line),
            ]);
        }
        keys.extend(PckCa::ALL.into_iter().flat_map(|ca| [EndorsementKey::PckCa(ca), EndorsementKey::PckCrl(ca)]));
        for key in &keys {
            assert_eq!(EndorsementKey::from_row(key.kind(), &key.fields()).as_ref(), Some(key));
            let longer = [key.fields(), vec![0]].concat();
            assert_eq!(EndorsementKey::from_row(key.kind(), &longer), None, "{key}");
        }
        assert_eq!(EndorsementKey::from_row("vcek", &[0; 73]), None);
        assert_eq!(EndorsementKey::from_row("other", &[]), None);
        assert!(CspId::new("").is_none() && CspId::new("a\u{1b}").is_none() && CspId::new(&"a".repeat(129)).is_none());
    }

    #[test]
    fn patch_levels_stand_where_each_line_has_them() {
        let milan = [3, 0, 0, 0, 0, 0, 8, 115];
        let levels = SnpLevels { fmc: None, boot_loader: 3, tee: 0, snp: 8, microcode: 115 };
        assert_eq!((SnpLevels::of(SnpLine::Milan, milan), levels.tcb(SnpLine::Genoa)), (levels, milan));
        let turin = [1, 2, 3, 4, 0, 0, 0, 5];
        let levels = SnpLevels { fmc: Some(1), boot_loader: 2, tee: 3, snp: 4, microcode: 5 };
        assert_eq!((SnpLevels::of(SnpLine::Turin, turin), levels.tcb(SnpLine::Turin)), (levels, turin));
    }
}
