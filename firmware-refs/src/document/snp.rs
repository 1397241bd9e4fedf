//! Reference values for SEV-SNP reports, as written (AMD 56860, ATTESTATION_REPORT).

use evidence::{sev_snp::Product, tee::CspId};
use serde::{Deserialize, Serialize};

use super::Accepted;
use crate::{
    fields::{BitRule, Hex, Mask, SevFirmware},
    text::Text,
};

/// Reference values for SEV-SNP reports. What is left out is refused at load, unless its line says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpDocument {
    /// Versions of the report that are accepted. Version 2 names no product: it is left out unless old firmware must be.
    pub report_versions: Vec<u32>,
    /// CSP_IDs of accepted VLEK certificates. Left out: reports signed by a VLEK are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlek_csp_ids: Vec<CspId>,
    /// Accepted VMPLs, 0 to 3.
    pub vmpl: Vec<u32>,
    /// Lowest GUEST_SVN.
    pub guest_svn: u32,
    /// Accepted FAMILY_ID, all zero where no ID block gives one.
    pub family_id: Vec<Hex<16>>,
    /// Accepted IMAGE_ID, all zero where no ID block gives one.
    pub image_id: Vec<Hex<16>>,
    /// Which chips.
    pub platforms: SnpPlatforms,
    /// What the ID block must be.
    pub id_block: IdBlock,
    /// Bits of POLICY.
    pub policy: GuestPolicyRules,
    /// Bits of PLATFORM_INFO.
    pub platform_info: PlatformInfoRules,
    /// Products, each with its floors. A product that is not listed is refused.
    pub product: Vec<ProductReference>,
    /// Accepted launch digests (MEASUREMENT), SHA-384.
    pub measurement: Vec<Accepted>,
    /// Accepted HOST_DATA, 32 bytes written as SHA-256; all zero for a guest that is given none.
    pub host_data: Vec<Accepted>,
}

/// Which chips the set is for: `{ accept = "any" }` or `{ accept = "listed", chip_id = [...] }`. The choice is
/// written out: leaving it open is not a choice. `any` leaves attacks that need the machine in hand undetected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "accept", rename_all = "lowercase", deny_unknown_fields)]
pub enum SnpPlatforms {
    /// Every chip of an accepted product.
    Any,
    /// Only these.
    Listed {
        /// CHIP_ID of each, 64 bytes.
        chip_id: Vec<Hex<64>>,
    },
}

/// What the ID block must be: `{ accept = "none" }` or `{ accept = "signed", id_key = [...], author_key = [...] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "accept", rename_all = "lowercase", deny_unknown_fields)]
pub enum IdBlock {
    /// The guest was launched without one: both key digests are zero.
    None,
    /// It is signed by one of these.
    Signed {
        /// Accepted ID_KEY_DIGEST, SHA-384.
        id_key: Vec<Accepted>,
        /// Accepted AUTHOR_KEY_DIGEST, SHA-384. Left out: an author key is refused.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        author_key: Vec<Accepted>,
    },
}

/// One product and its floors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductReference {
    /// The product, by AMD's name.
    #[serde(with = "crate::fields::product")]
    pub product: Product,
    /// Where the floors come from: the newest bulletin that they follow, with its date.
    pub source: Text,
    /// Oldest firmware, of CURRENT and of COMMITTED version.
    pub firmware: SevFirmware,
    /// Bits that LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR must have. Left out: none, which a set that accepts version
    /// 5 of the report may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mitigations: Option<Mitigations>,
    /// Floor of REPORTED_TCB.
    pub reported: TcbFloor,
    /// Floor of COMMITTED_TCB, which must equal CURRENT_TCB.
    pub committed: TcbFloor,
    /// Floor of CURRENT_TCB.
    pub current: TcbFloor,
    /// Floor of LAUNCH_TCB.
    pub launch: TcbFloor,
}

/// Mitigations that must be in force (report version 5, 0x1F8 and 0x200).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mitigations {
    /// Bits of LAUNCH_MIT_VECTOR.
    pub launch: Mask,
    /// Bits of CURRENT_MIT_VECTOR.
    pub current: Mask,
}

/// Lowest security patch level of each component of a TCB version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcbFloor {
    /// Of the FMC: of Turin alone, and there it must stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
    /// Of the boot loader.
    pub boot_loader: u8,
    /// Of the PSP operating system.
    pub tee: u8,
    /// Of the SNP firmware.
    pub snp: u8,
    /// Of the microcode.
    pub microcode: u8,
}

/// Bits of POLICY (AMD 56860, guest policy). DEBUG and MIGRATE_MA are refused whatever a set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestPolicyRules {
    /// SMT, bit 16: the guest may run where SMT is on.
    pub smt: BitRule,
    /// SINGLE_SOCKET, bit 20.
    pub single_socket: BitRule,
    /// CXL_ALLOW, bit 21.
    pub cxl: BitRule,
    /// MEM_AES_256_XTS, bit 22.
    pub aes_256_xts: BitRule,
    /// RAPL_DIS, bit 23.
    pub rapl_disabled: BitRule,
    /// CIPHERTEXT_HIDING_DRAM, bit 24.
    pub ciphertext_hiding: BitRule,
    /// PAGE_SWAP_DISABLE, bit 25.
    pub page_swap_disabled: BitRule,
}

impl GuestPolicyRules {
    /// Name, position and rule of each bit.
    pub(crate) const fn rules(&self) -> [(&'static str, u32, BitRule); 7] {
        [
            ("smt", 16, self.smt),
            ("single_socket", 20, self.single_socket),
            ("cxl", 21, self.cxl),
            ("aes_256_xts", 22, self.aes_256_xts),
            ("rapl_disabled", 23, self.rapl_disabled),
            ("ciphertext_hiding", 24, self.ciphertext_hiding),
            ("page_swap_disabled", 25, self.page_swap_disabled),
        ]
    }
}

/// Bits of PLATFORM_INFO (AMD 56860, 0x188). Unknown bits are refused whatever a set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformInfoRules {
    /// SMT_EN, bit 0.
    pub smt: BitRule,
    /// TSME_EN, bit 1.
    pub tsme: BitRule,
    /// ECC_EN, bit 2.
    pub ecc: BitRule,
    /// RAPL_DIS, bit 3.
    pub rapl_disabled: BitRule,
    /// CIPHERTEXT_HIDING_DRAM_EN, bit 4.
    pub ciphertext_hiding: BitRule,
    /// ALIAS_CHECK_COMPLETE, bit 5: memory was checked for aliases at boot and nothing was found.
    pub alias_check: BitRule,
    /// Bit 6: writes of the IOMMU cannot reach a guest's memory (AMD-SB-3016).
    pub iommu_write_safe: BitRule,
    /// TIO_EN, bit 7: trusted IO is on.
    pub tio: BitRule,
}

impl PlatformInfoRules {
    /// Name, position and rule of each bit.
    pub(crate) const fn rules(&self) -> [(&'static str, u32, BitRule); 8] {
        [
            ("smt", 0, self.smt),
            ("tsme", 1, self.tsme),
            ("ecc", 2, self.ecc),
            ("rapl_disabled", 3, self.rapl_disabled),
            ("ciphertext_hiding", 4, self.ciphertext_hiding),
            ("alias_check", 5, self.alias_check),
            ("iommu_write_safe", 6, self.iommu_write_safe),
            ("tio", 7, self.tio),
        ]
    }
}
