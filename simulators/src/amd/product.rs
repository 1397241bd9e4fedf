//! Products, and the two layouts of a TCB version.

/// What a report comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Product {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004.
    Genoa,
    /// EPYC 97x4; endorsed under Genoa's root.
    Bergamo,
    /// EPYC 8004; endorsed under Genoa's root.
    Siena,
    /// EPYC 9005.
    Turin,
}

/// Which root endorses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProductLine {
    /// ARK-Milan.
    Milan,
    /// ARK-Genoa.
    Genoa,
    /// ARK-Turin.
    Turin,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Milan, Self::Genoa, Self::Bergamo, Self::Siena, Self::Turin];

    /// By its lower-case name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "milan",
            Self::Genoa => "genoa",
            Self::Bergamo => "bergamo",
            Self::Siena => "siena",
            Self::Turin => "turin",
        }
    }

    /// Its root.
    pub fn line(self) -> ProductLine {
        match self {
            Self::Milan => ProductLine::Milan,
            Self::Genoa | Self::Bergamo | Self::Siena => ProductLine::Genoa,
            Self::Turin => ProductLine::Turin,
        }
    }

    /// CPUID family, model and stepping, as in report versions from 3 on.
    pub fn cpuid(self) -> [u8; 3] {
        match self {
            Self::Milan => [0x19, 0x01, 0x01],
            Self::Genoa => [0x19, 0x11, 0x01],
            Self::Bergamo | Self::Siena => [0x19, 0xa0, 0x02],
            Self::Turin => [0x1a, 0x02, 0x01],
        }
    }

    /// A TCB version that was current in 2026.
    pub fn current_tcb(self) -> Tcb {
        match self {
            Self::Milan => Tcb { fmc: 0, boot_loader: 4, tee: 0, snp: 0x1b, microcode: 0xdd },
            Self::Genoa | Self::Bergamo | Self::Siena => {
                Tcb { fmc: 0, boot_loader: 0x0a, tee: 0, snp: 0x1b, microcode: 0x58 }
            }
            Self::Turin => Tcb { fmc: 1, boot_loader: 1, tee: 1, snp: 4, microcode: 0x51 },
        }
    }
}

impl ProductLine {
    /// As in the root's common name: `ARK-Milan`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// productName of a VCEK (AMD 57230, 3.1); a VLEK has the plain name.
    pub fn vcek_product_name(self) -> &'static str {
        match self {
            Self::Milan => "Milan-B0",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// Bytes of the chip's identity in its VCEK: Turin's are eight.
    pub fn hwid_len(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }

    /// structVersion of a VEK.
    pub fn struct_version(self) -> u8 {
        match self {
            Self::Milan | Self::Genoa => 0,
            Self::Turin => 1,
        }
    }

    /// First byte of the CA certificates' serial numbers: Milan 1, Genoa 2, Turin 3.
    pub(crate) fn serial(self) -> u8 {
        match self {
            Self::Milan => 1,
            Self::Genoa => 2,
            Self::Turin => 3,
        }
    }
}

/// Security patch levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    /// FMC; only Turin has it.
    pub fmc: u8,
    /// Boot loader.
    pub boot_loader: u8,
    /// TEE.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl Tcb {
    /// TCB_VERSION as it stands in a report of that line (AMD 56860, tables "TCB version").
    pub fn encode(self, line: ProductLine) -> [u8; 8] {
        match line {
            ProductLine::Milan | ProductLine::Genoa => {
                [self.boot_loader, self.tee, 0, 0, 0, 0, self.snp, self.microcode]
            }
            ProductLine::Turin => [self.fmc, self.boot_loader, self.tee, self.snp, 0, 0, 0, self.microcode],
        }
    }
}
