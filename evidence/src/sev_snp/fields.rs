//! Bit fields of a report.

/// POLICY: what the guest's owner lets the platform do (AMD 56860, GUEST_POLICY, 0x008).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestPolicy(u64);

impl GuestPolicy {
    /// From the field; `None` when bit 17 is not one or a bit from 26 on is not zero.
    #[must_use]
    pub(crate) fn read(bits: u64) -> Option<Self> {
        (bits & MUST_BE_ONE != 0 && bits >> 26 == 0).then_some(Self(bits))
    }

    /// The field.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Least ABI version that the guest runs on: major, minor.
    #[must_use]
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    const fn bit(self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// Whether the host may run with simultaneous multithreading.
    #[must_use]
    pub const fn allows_smt(self) -> bool {
        self.bit(16)
    }

    /// Whether a migration agent may be associated with the guest.
    #[must_use]
    pub const fn allows_migration_agent(self) -> bool {
        self.bit(18)
    }

    /// Whether the host may read and write the guest's memory.
    #[must_use]
    pub const fn allows_debug(self) -> bool {
        self.bit(19)
    }

    /// Whether the guest must stay on one socket.
    #[must_use]
    pub const fn requires_single_socket(self) -> bool {
        self.bit(20)
    }

    /// Whether CXL devices or memory may be populated.
    #[must_use]
    pub const fn allows_cxl(self) -> bool {
        self.bit(21)
    }

    /// Whether memory must be encrypted by AES-256-XTS.
    #[must_use]
    pub const fn requires_aes_256_xts(self) -> bool {
        self.bit(22)
    }

    /// Whether running average power limits must be off.
    #[must_use]
    pub const fn requires_rapl_off(self) -> bool {
        self.bit(23)
    }

    /// Whether ciphertext in DRAM must be hidden.
    #[must_use]
    pub const fn requires_ciphertext_hiding(self) -> bool {
        self.bit(24)
    }

    /// Whether moving and swapping of the guest's pages is off.
    #[must_use]
    pub const fn disables_page_swap(self) -> bool {
        self.bit(25)
    }
}

/// PLATFORM_INFO: how the platform is set up (AMD 56860, 0x040).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformInfo(pub(crate) u64);

impl PlatformInfo {
    /// The field.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Bits that this revision of the specification does not name: from 8 on.
    #[must_use]
    pub const fn unknown(self) -> u64 {
        self.0 & !0xff
    }

    const fn bit(self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }

    /// SMT_EN: simultaneous multithreading is on.
    #[must_use]
    pub const fn smt(self) -> bool {
        self.bit(0)
    }

    /// TSME_EN: all memory is encrypted transparently.
    #[must_use]
    pub const fn tsme(self) -> bool {
        self.bit(1)
    }

    /// ECC_EN: the memory corrects errors.
    #[must_use]
    pub const fn ecc(self) -> bool {
        self.bit(2)
    }

    /// RAPL_DIS: running average power limits are off.
    #[must_use]
    pub const fn rapl_off(self) -> bool {
        self.bit(3)
    }

    /// CIPHERTEXT_HIDING_DRAM_EN: ciphertext in DRAM is hidden.
    #[must_use]
    pub const fn ciphertext_hiding(self) -> bool {
        self.bit(4)
    }

    /// ALIAS_CHECK_COMPLETE: no memory aliases since the last reset.
    #[must_use]
    pub const fn alias_check_complete(self) -> bool {
        self.bit(5)
    }

    /// Bit 6, set where writes of the IOMMU cannot reach a guest's memory (AMD-SB-3016).
    #[must_use]
    pub const fn iommu_write_safe(self) -> bool {
        self.bit(6)
    }

    /// TIO_EN: trusted IO is on.
    #[must_use]
    pub const fn tio(self) -> bool {
        self.bit(7)
    }
}

/// The key that a report says it is signed by (AMD 56860, SIGNING_KEY, bits 4:2 of 0x048).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// 0: derived from the chip's secret.
    Vcek,
    /// 1: loaded by a cloud provider.
    Vlek,
    /// 7: the report is not signed.
    None,
    /// 2 to 6: nothing yet.
    Reserved(u8),
}

impl std::fmt::Display for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vcek => f.write_str("VCEK"),
            Self::Vlek => f.write_str("VLEK"),
            Self::None => f.write_str("none"),
            Self::Reserved(value) => write!(f, "reserved {value}"),
        }
    }
}

/// Flags about the keys of a report (AMD 56860, 0x048).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo(u32);

impl KeyInfo {
    /// From the field; `None` when a bit from 5 on is not zero.
    #[must_use]
    pub(crate) fn read(bits: u32) -> Option<Self> {
        (bits >> 5 == 0).then_some(Self(bits))
    }

    /// The field.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// AUTHOR_KEY_EN: AUTHOR_KEY_DIGEST names a key.
    #[must_use]
    pub const fn has_author_key(self) -> bool {
        self.0 & 1 == 1
    }

    /// MASK_CHIP_KEY: the platform does not sign with the VCEK.
    #[must_use]
    pub const fn masks_chip_key(self) -> bool {
        self.0 >> 1 & 1 == 1
    }

    /// SIGNING_KEY.
    #[must_use]
    pub const fn signing_key(self) -> SigningKey {
        let [low, ..] = self.0.to_le_bytes();
        match low >> 2 & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            reserved => SigningKey::Reserved(reserved),
        }
    }
}

/// Bit 17 of POLICY: reserved, must be one.
const MUST_BE_ONE: u64 = 1 << 17;
