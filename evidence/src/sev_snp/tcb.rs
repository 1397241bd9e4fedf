//! TCB_VERSION: the security patch levels of a platform's firmware (AMD 56860 §2.2), which lie differently in Turin.

use super::product::ProductLine;
use crate::EvidenceDenial;

/// Patch levels, each to be compared with its own kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcbVersion {
    /// FMC; only Turin has it.
    pub fmc: Option<u8>,
    /// PSP boot loader.
    pub boot_loader: u8,
    /// PSP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl TcbVersion {
    /// Reads the eight bytes of a TCB_VERSION: boot loader, TEE, four reserved, SNP, microcode; on Turin FMC, boot
    /// loader, TEE, SNP, three reserved, microcode.
    ///
    /// # Errors
    /// [`EvidenceDenial::Malformed`] when a reserved byte is not zero. `field` names the TCB_VERSION.
    pub fn read(line: ProductLine, field: &'static str, bytes: &[u8; 8]) -> Result<Self, EvidenceDenial> {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = *bytes;
        let (version, reserved) = match line {
            ProductLine::Milan | ProductLine::Genoa => {
                (Self { fmc: None, boot_loader: b0, tee: b1, snp: b6, microcode: b7 }, [b2, b3, b4, b5])
            }
            ProductLine::Turin => {
                (Self { fmc: Some(b0), boot_loader: b1, tee: b2, snp: b3, microcode: b7 }, [b4, b5, b6, 0])
            }
        };
        if reserved == [0; 4] {
            Ok(version)
        } else {
            Err(EvidenceDenial::Malformed { structure: field, offset: 0, what: "reserved bytes that are zero" })
        }
    }

    /// The eight bytes of the TCB_VERSION of this line.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 8] {
        let Self { fmc, boot_loader, tee, snp, microcode } = *self;
        match fmc {
            None => [boot_loader, tee, 0, 0, 0, 0, snp, microcode],
            Some(fmc) => [fmc, boot_loader, tee, snp, 0, 0, 0, microcode],
        }
    }

    /// The levels by name. Without FMC that one is missing.
    pub fn components(&self) -> impl Iterator<Item = (&'static str, u8)> + use<> {
        let Self { fmc, boot_loader, tee, snp, microcode } = *self;
        let all = [("boot_loader", boot_loader), ("tee", tee), ("snp", snp), ("microcode", microcode)];
        fmc.map(|fmc| ("fmc", fmc)).into_iter().chain(all)
    }
}

impl std::fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, (name, level)) in self.components().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{name}={level}")?;
        }
        Ok(())
    }
}

/// The four TCB_VERSIONs of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcbs {
    /// CURRENT_TCB: what runs.
    pub current: TcbVersion,
    /// REPORTED_TCB: what the signing key is derived for.
    pub reported: TcbVersion,
    /// COMMITTED_TCB: what the platform cannot go below any more.
    pub committed: TcbVersion,
    /// LAUNCH_TCB: what ran when the guest was launched or imported.
    pub launch: TcbVersion,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_lie_as_each_line_has_them() {
        let milan = TcbVersion::read(ProductLine::Milan, "TCB", &[3, 1, 0, 0, 0, 0, 8, 115]).unwrap();
        assert_eq!(milan, TcbVersion { fmc: None, boot_loader: 3, tee: 1, snp: 8, microcode: 115 });
        let turin = TcbVersion::read(ProductLine::Turin, "TCB", &[1, 2, 3, 4, 0, 0, 0, 81]).unwrap();
        assert_eq!(turin, TcbVersion { fmc: Some(1), boot_loader: 2, tee: 3, snp: 4, microcode: 81 });
        assert_eq!((milan.to_bytes()[6], turin.to_bytes()[3]), (8, 4));
        assert_eq!(turin.to_string(), "fmc=1 boot_loader=2 tee=3 snp=4 microcode=81");
        for (line, reserved) in [(ProductLine::Milan, 2..6), (ProductLine::Genoa, 2..6), (ProductLine::Turin, 4..7)] {
            for position in 0..8 {
                let mut bytes = [0; 8];
                bytes[position] = 1;
                assert_eq!(TcbVersion::read(line, "TCB", &bytes).is_err(), reserved.contains(&position), "{line}");
            }
        }
    }
}
