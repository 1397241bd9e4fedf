//! CPUID signatures of QEMU's vCPU models: what RDX holds at reset, so what is measured of the model.

use crate::compute::ArtifactError;

/// CPUID Fn0000_0001_EAX: family, model and stepping (AMD 25481).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSignature(pub u32);

/// Families, models and steppings by the name that QEMU gives its model (`target/i386/cpu.c`, `builtin_x86_defs`).
/// Versions of one model differ in features alone.
pub const VCPU_TYPES: [(&str, CpuSignature); 19] = [
    ("EPYC", NAPLES),
    ("EPYC-v1", NAPLES),
    ("EPYC-v2", NAPLES),
    ("EPYC-IBPB", NAPLES),
    ("EPYC-v3", NAPLES),
    ("EPYC-v4", NAPLES),
    ("EPYC-Rome", ROME),
    ("EPYC-Rome-v1", ROME),
    ("EPYC-Rome-v2", ROME),
    ("EPYC-Rome-v3", ROME),
    ("EPYC-Rome-v4", ROME),
    ("EPYC-Milan", MILAN),
    ("EPYC-Milan-v1", MILAN),
    ("EPYC-Milan-v2", MILAN),
    ("EPYC-Genoa", GENOA),
    ("EPYC-Genoa-v1", GENOA),
    ("EPYC-Turin", TURIN),
    ("EPYC-Turin-v1", TURIN),
    ("EPYC-Turin-v2", TURIN),
];

const NAPLES: CpuSignature = CpuSignature::new(23, 1, 2);
const ROME: CpuSignature = CpuSignature::new(23, 49, 0);
const MILAN: CpuSignature = CpuSignature::new(25, 1, 1);
const GENOA: CpuSignature = CpuSignature::new(25, 17, 0);
const TURIN: CpuSignature = CpuSignature::new(26, 0, 0);

/// Highest family that has no extension.
const BASE_FAMILY: u32 = 0xf;

impl CpuSignature {
    /// From family, model and stepping; bits beyond their fields are dropped, as the instruction has no place for them.
    #[must_use]
    pub const fn new(family: u32, model: u32, stepping: u32) -> Self {
        let (low, high) =
            if family > BASE_FAMILY { (BASE_FAMILY, family.saturating_sub(BASE_FAMILY) & 0xff) } else { (family, 0) };
        let model_high = model.wrapping_shr(4) & 0xf;
        Self(
            high.wrapping_shl(20)
                | model_high.wrapping_shl(16)
                | low.wrapping_shl(8)
                | (model & 0xf).wrapping_shl(4)
                | (stepping & 0xf),
        )
    }

    /// Of QEMU's model of this name.
    ///
    /// # Errors
    /// [`ArtifactError::Unknown`], with the names that are known.
    pub fn of_type(name: &str) -> Result<Self, ArtifactError> {
        VCPU_TYPES.iter().find(|(known, _)| *known == name).map(|(_, signature)| *signature).ok_or_else(|| {
            ArtifactError::Unknown {
                what: "vCPU type",
                got: name.to_owned(),
                known: VCPU_TYPES.map(|(name, _)| name).join(", "),
            }
        })
    }
}
