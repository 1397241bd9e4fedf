//! X9: what a trust domain may be (TDX Module ABI, TD_PARAMS.ATTRIBUTES and XFAM).

use super::body::TdReport;
use crate::EvidenceDenial;

/// ATTRIBUTES of a trust domain, bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdAttributes(u64);

/// Bits 3:0, TD under debug: the host may read the trust domain.
const DEBUG_GROUP: u64 = 0x0000_000f;
/// Bits 15:4, TD under profiling: the host may watch its performance closely.
const PROFILING_GROUP: u64 = 0x0000_fff0;
/// Bit 16: instruction-count based single-step defence.
const ICSSD: u64 = 1 << 16;
/// Bit 27: linear address space separation.
const LASS: u64 = 1 << 27;
/// Bit 28: no #VE on access to a pending page, which the host could otherwise cause at will.
const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Bit 29: may be migrated, which also lets it be changed after attestation (CVE-2025-30513).
const MIGRATABLE: u64 = 1 << 29;
/// Bit 30: protection keys for supervisor pages.
const PKS: u64 = 1 << 30;
/// Bit 31: key locker.
const KEY_LOCKER: u64 = 1 << 31;
/// Bit 62: TDX Connect provisioning agent.
const TPA: u64 = 1 << 62;
/// Bit 63: performance monitoring.
const PERFMON: u64 = 1 << 63;
const KNOWN: u64 =
    DEBUG_GROUP | PROFILING_GROUP | ICSSD | LASS | SEPT_VE_DISABLE | MIGRATABLE | PKS | KEY_LOCKER | TPA | PERFMON;
/// XFAM bits that are always set: x87 and SSE.
const XFAM_FIXED: u64 = 0b11;

impl TdAttributes {
    /// Of a report.
    #[must_use]
    pub const fn of(report: &TdReport<'_>) -> Self {
        Self(u64::from_le_bytes(*report.td_attributes))
    }

    /// All bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether performance monitoring is on, for policy.
    #[must_use]
    pub const fn has_perfmon(self) -> bool {
        self.0 & PERFMON != 0
    }

    /// Refuses a trust domain whose memory the host may read.
    ///
    /// # Errors
    /// [`EvidenceDenial::DebugEnabled`] when any bit of the debug group is set.
    pub const fn refuse_debug(self) -> Result<(), EvidenceDenial> {
        match self.0 & DEBUG_GROUP {
            0 => Ok(()),
            _ => Err(EvidenceDenial::DebugEnabled { what: "trust domain" }),
        }
    }
}

/// X9 but for what policy decides (PERFMON, and which of XFAM is allowed).
///
/// # Errors
/// [`EvidenceDenial::DebugEnabled`] or [`EvidenceDenial::TdAttributes`].
pub fn judge(report: &TdReport<'_>) -> Result<(), EvidenceDenial> {
    let attributes = TdAttributes::of(report);
    attributes.refuse_debug()?;
    let got = attributes.bits();
    let refused = |what| EvidenceDenial::TdAttributes { field: "ATTRIBUTES", got, what };
    if got & PROFILING_GROUP != 0 {
        return Err(refused("profiling off"));
    }
    if got & !KNOWN != 0 {
        return Err(refused("reserved bits zero"));
    }
    if got & SEPT_VE_DISABLE == 0 {
        return Err(refused("SEPT_VE_DISABLE"));
    }
    if got & MIGRATABLE != 0 {
        return Err(refused("no migration"));
    }
    if got & PERFMON != 0 && got & ICSSD != 0 {
        return Err(refused("PERFMON or ICSSD, not both"));
    }
    let xfam = u64::from_le_bytes(*report.xfam);
    if xfam & XFAM_FIXED != XFAM_FIXED {
        return Err(EvidenceDenial::TdAttributes { field: "XFAM", got: xfam, what: "x87 and SSE" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{denial::EvidenceDenialKind as Kind, reader::Reader};

    fn judged(attributes: u64, xfam: u64) -> Result<(), EvidenceDenial> {
        let mut bytes = [0u8; TdReport::BYTES];
        bytes[120..128].copy_from_slice(&attributes.to_le_bytes());
        bytes[128..136].copy_from_slice(&xfam.to_le_bytes());
        judge(&TdReport::read(&mut Reader::new("TD report", &bytes)).unwrap())
    }

    #[test]
    fn each_bit_of_the_attributes_has_its_outcome() {
        judged(SEPT_VE_DISABLE, 0xe7).unwrap();
        for allowed in [ICSSD, LASS, PKS, KEY_LOCKER, TPA, PERFMON] {
            judged(SEPT_VE_DISABLE | allowed, 0xe7).unwrap();
        }
        for bit in 0..64 {
            let is_known = KNOWN & !(DEBUG_GROUP | PROFILING_GROUP | MIGRATABLE) & (1 << bit) != 0;
            let judged = judged(SEPT_VE_DISABLE | 1 << bit, 0xe7);
            assert_eq!(judged.is_ok(), is_known, "bit {bit}");
            if bit < 4 {
                assert_eq!(Kind::from(&judged.unwrap_err()), Kind::DebugEnabled);
            }
        }
        for (attributes, xfam) in
            [(0, 0xe7), (SEPT_VE_DISABLE | PERFMON | ICSSD, 0xe7), (SEPT_VE_DISABLE, 0xe6), (SEPT_VE_DISABLE, 0xe5)]
        {
            assert_eq!(Kind::from(&judged(attributes, xfam).unwrap_err()), Kind::TdAttributes);
        }
    }
}
