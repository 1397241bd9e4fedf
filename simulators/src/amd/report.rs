//! ATTESTATION_REPORT (AMD 56860 rev. 1.58, table "ATTESTATION_REPORT Structure"): offsets are the table's.

use super::{Product, Tcb};
use crate::{SimulatorError, keys::EcKey, layout::Layout};

/// Bytes of a report.
pub const REPORT_LEN: usize = 0x4a0;
/// The signature covers the bytes before it.
pub const SIGNED_LEN: usize = 0x2a0;
/// VMPL of a report that the host requested.
pub const VMPL_HOST: u32 = 0xffff_ffff;
/// POLICY bit 16: SMT allowed.
pub const POLICY_SMT: u64 = 1 << 16;
/// POLICY bit 17: must be one.
pub const POLICY_RESERVED_ONE: u64 = 1 << 17;
/// POLICY bit 18: association with a migration agent allowed.
pub const POLICY_MIGRATE_MA: u64 = 1 << 18;
/// POLICY bit 19: debugging allowed.
pub const POLICY_DEBUG: u64 = 1 << 19;

/// SIGNING_KEY, bits 4:2 of KEY_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// 0.
    Vcek,
    /// 1.
    Vlek,
    /// 7: not signed.
    None,
    /// Any other three bits.
    Other(u8),
}

/// The word at 0x48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Bit 0.
    pub author_key_en: bool,
    /// Bit 1.
    pub mask_chip_key: bool,
    /// Bits 4:2.
    pub signing_key: SigningKey,
    /// Bits 31:5, already shifted into place; zero in a real report.
    pub reserved: u32,
}

impl KeyInfo {
    fn encode(self) -> u32 {
        let key = match self.signing_key {
            SigningKey::Vcek => 0,
            SigningKey::Vlek => 1,
            SigningKey::None => 7,
            SigningKey::Other(bits) => u32::from(bits & 7),
        };
        u32::from(self.author_key_en) | u32::from(self.mask_chip_key) << 1 | key << 2 | self.reserved
    }
}

/// Every field of a report. [`SnpReportFields::sign`] makes the 1184 bytes.
#[derive(Clone, Debug)]
pub struct SnpReportFields {
    /// 0x000.
    pub version: u32,
    /// 0x004.
    pub guest_svn: u32,
    /// 0x008.
    pub policy: u64,
    /// 0x010.
    pub family_id: [u8; 16],
    /// 0x020.
    pub image_id: [u8; 16],
    /// 0x030.
    pub vmpl: u32,
    /// 0x034: 1 is ECDSA P-384 with SHA-384.
    pub signature_algo: u32,
    /// 0x038.
    pub current_tcb: [u8; 8],
    /// 0x040.
    pub platform_info: u64,
    /// 0x048.
    pub key_info: KeyInfo,
    /// 0x050.
    pub report_data: [u8; 64],
    /// 0x090.
    pub measurement: [u8; 48],
    /// 0x0c0.
    pub host_data: [u8; 32],
    /// 0x0e0.
    pub id_key_digest: [u8; 48],
    /// 0x110.
    pub author_key_digest: [u8; 48],
    /// 0x140.
    pub report_id: [u8; 32],
    /// 0x160: all ones where there is no migration agent.
    pub report_id_ma: [u8; 32],
    /// 0x180.
    pub reported_tcb: [u8; 8],
    /// 0x188: CPUID family, model, stepping; zero in version 2.
    pub cpuid: [u8; 3],
    /// 0x1a0.
    pub chip_id: [u8; 64],
    /// 0x1e0.
    pub committed_tcb: [u8; 8],
    /// 0x1e8: build, minor, major.
    pub current_version: [u8; 3],
    /// 0x1ec: build, minor, major.
    pub committed_version: [u8; 3],
    /// 0x1f0.
    pub launch_tcb: [u8; 8],
    /// 0x1f8: version 5, zero before.
    pub launch_mit_vector: u64,
    /// 0x200: version 5, zero before.
    pub current_mit_vector: u64,
    /// Put over the body before it is signed, by offset: reserved bytes that are not zero, for one.
    pub overlay: Vec<(usize, Vec<u8>)>,
}

impl SnpReportFields {
    /// What an ordinary guest on an up-to-date machine gets: VMPL 0, VCEK, no debugging, no ID block.
    pub fn new(product: Product, version: u32, chip_id: [u8; 64]) -> Self {
        let tcb = product.current_tcb().encode(product.line());
        let mitigations = if version >= 5 { 0x3f } else { 0 };
        Self {
            version,
            guest_svn: 0,
            policy: POLICY_RESERVED_ONE | POLICY_SMT,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            signature_algo: 1,
            current_tcb: tcb,
            platform_info: match product {
                Product::Turin => 0x65,
                Product::Milan | Product::Genoa | Product::Bergamo | Product::Siena => 0x25,
            },
            key_info: KeyInfo {
                author_key_en: false,
                mask_chip_key: false,
                signing_key: SigningKey::Vcek,
                reserved: 0,
            },
            report_data: [0; 64],
            measurement: [0x5a; 48],
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [0x17; 32],
            report_id_ma: [0xff; 32],
            reported_tcb: tcb,
            cpuid: if version >= 3 { product.cpuid() } else { [0; 3] },
            chip_id,
            committed_tcb: tcb,
            current_version: [0x41, 0x37, 0x01],
            committed_version: [0x41, 0x37, 0x01],
            launch_tcb: tcb,
            launch_mit_vector: mitigations,
            current_mit_vector: mitigations,
            overlay: vec![],
        }
    }

    /// The same level in all four TCB fields.
    pub fn set_tcb(&mut self, product: Product, tcb: Tcb) {
        let bytes = tcb.encode(product.line());
        self.current_tcb = bytes;
        self.reported_tcb = bytes;
        self.committed_tcb = bytes;
        self.launch_tcb = bytes;
    }

    /// Bytes 0x000 to 0x29f.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Layout::zeroed(SIGNED_LEN);
        body.put(0x000, &self.version.to_le_bytes());
        body.put(0x004, &self.guest_svn.to_le_bytes());
        body.put(0x008, &self.policy.to_le_bytes());
        body.put(0x010, &self.family_id);
        body.put(0x020, &self.image_id);
        body.put(0x030, &self.vmpl.to_le_bytes());
        body.put(0x034, &self.signature_algo.to_le_bytes());
        body.put(0x038, &self.current_tcb);
        body.put(0x040, &self.platform_info.to_le_bytes());
        body.put(0x048, &self.key_info.encode().to_le_bytes());
        body.put(0x050, &self.report_data);
        body.put(0x090, &self.measurement);
        body.put(0x0c0, &self.host_data);
        body.put(0x0e0, &self.id_key_digest);
        body.put(0x110, &self.author_key_digest);
        body.put(0x140, &self.report_id);
        body.put(0x160, &self.report_id_ma);
        body.put(0x180, &self.reported_tcb);
        body.put(0x188, &self.cpuid);
        body.put(0x1a0, &self.chip_id);
        body.put(0x1e0, &self.committed_tcb);
        body.put(0x1e8, &self.current_version);
        body.put(0x1ec, &self.committed_version);
        body.put(0x1f0, &self.launch_tcb);
        body.put(0x1f8, &self.launch_mit_vector.to_le_bytes());
        body.put(0x200, &self.current_mit_vector.to_le_bytes());
        for (offset, bytes) in &self.overlay {
            body.put(*offset, bytes);
        }
        body.bytes()
    }

    /// The report, signed with `key`.
    pub fn sign(&self, key: &EcKey) -> Result<Vec<u8>, SimulatorError> {
        let body = self.body();
        let signature = little_endian_signature(&key.sign_fixed(&body)?);
        let mut report = Layout::zeroed(REPORT_LEN);
        report.put(0, &body);
        report.put(SIGNED_LEN, &signature);
        Ok(report.bytes())
    }
}

/// AMD's form of an ECDSA signature: r and s little-endian, zero-extended to 72 bytes each (AMD 56860, "ECDSA P-384 with
/// SHA-384 signature format"). `fixed` is r then s, big-endian, 48 bytes each.
pub fn little_endian_signature(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let mut signature = Layout::zeroed(144);
    signature.put(0, &r.iter().rev().copied().collect::<Vec<u8>>());
    signature.put(72, &s.iter().rev().copied().collect::<Vec<u8>>());
    signature.bytes()
}
