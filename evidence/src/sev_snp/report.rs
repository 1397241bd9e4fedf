//! ATTESTATION_REPORT (AMD 56860, table "ATTESTATION_REPORT structure"), versions 2 to 5. Strict: every byte of the
//! 1184 is a field or zero.

use super::{
    fields::{GuestPolicy, KeyInfo, PlatformInfo},
    product::Cpuid,
};
use crate::EvidenceDenial;

/// Length of a report of any version, in bytes.
pub const REPORT_BYTES: usize = 0x4a0;
/// Length of its signed part.
pub const SIGNED_BYTES: usize = 0x2a0;

/// SIGNATURE as big-endian R and S, 48 bytes each.
pub(crate) type FixedSignature = [u8; 96];

/// A report that reads as one, borrowed from its bytes. Nothing of it is verified.
///
/// What depends on the product (the TCB versions, how long CHIP_ID is) stays bytes here:
/// [`super::VerifiedVek::authenticate`] knows the product.
#[derive(Clone, Copy, Debug)]
pub struct SnpReport<'a> {
    signed: &'a [u8; SIGNED_BYTES],
    signature: FixedSignature,
    /// VERSION, 2 to 5.
    pub version: u32,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// POLICY.
    pub policy: GuestPolicy,
    /// FAMILY_ID.
    pub family_id: &'a [u8; 16],
    /// IMAGE_ID.
    pub image_id: &'a [u8; 16],
    /// VMPL that asked for the report; 0xffff_ffff when the host did.
    pub vmpl: u32,
    /// CURRENT_TCB.
    pub current_tcb: &'a [u8; 8],
    /// PLATFORM_INFO.
    pub platform_info: PlatformInfo,
    /// Flags about keys.
    pub key_info: KeyInfo,
    /// REPORT_DATA: what the guest chose.
    pub report_data: &'a [u8; 64],
    /// MEASUREMENT at launch.
    pub measurement: &'a [u8; 48],
    /// HOST_DATA: what the host chose at launch.
    pub host_data: &'a [u8; 32],
    /// ID_KEY_DIGEST.
    pub id_key_digest: &'a [u8; 48],
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: &'a [u8; 48],
    /// REPORT_ID: of this guest since its launch.
    pub report_id: &'a [u8; 32],
    /// REPORT_ID_MA: of the migration agent, all ones without one.
    pub report_id_ma: &'a [u8; 32],
    /// REPORTED_TCB.
    pub reported_tcb: &'a [u8; 8],
    /// CPUID of the processor, from version 3.
    pub cpuid: Option<Cpuid>,
    /// CHIP_ID.
    pub chip_id: &'a [u8; 64],
    /// COMMITTED_TCB.
    pub committed_tcb: &'a [u8; 8],
    /// CURRENT_MAJOR, CURRENT_MINOR, CURRENT_BUILD.
    pub current_firmware: FirmwareVersion,
    /// COMMITTED_MAJOR, COMMITTED_MINOR, COMMITTED_BUILD.
    pub committed_firmware: FirmwareVersion,
    /// LAUNCH_TCB.
    pub launch_tcb: &'a [u8; 8],
    /// LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR, from version 5.
    pub mitigations: Option<Mitigations>,
}

/// Version of the SNP firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirmwareVersion {
    /// API major.
    pub major: u8,
    /// API minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

impl std::fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Mitigation vectors: a bit for each vulnerability that the firmware verified the platform to be safe from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mitigations {
    /// When the guest was launched.
    pub launch: u64,
    /// Now.
    pub current: u64,
}

impl<'a> SnpReport<'a> {
    /// Reads exactly one report (S1).
    ///
    /// # Errors
    /// [`EvidenceDenial::TrailingBytes`] for a longer one; [`EvidenceDenial::Malformed`], with the offset of the
    /// field, for a shorter one, a version or algorithm that is not known, a reserved byte that is not zero, and a
    /// signature that cannot be one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        if let Some(extra_bytes) = bytes.len().checked_sub(REPORT_BYTES).filter(|extra| *extra > 0) {
            return Err(EvidenceDenial::TrailingBytes { structure: STRUCTURE, extra_bytes });
        }
        let (signed, rest) = bytes
            .split_first_chunk::<SIGNED_BYTES>()
            .filter(|_| bytes.len() == REPORT_BYTES)
            .ok_or_else(|| malformed(bytes.len(), "1184 bytes"))?;
        let mut fields = Fields { left: signed, offset: 0 };
        let version = u32::from_le_bytes(*fields.take()?);
        if !(2..=5).contains(&version) {
            return Err(malformed(0, "VERSION 2 to 5"));
        }
        let guest_svn = u32::from_le_bytes(*fields.take()?);
        let policy = GuestPolicy::read(u64::from_le_bytes(*fields.take()?))
            .ok_or_else(|| malformed(0x008, "POLICY with bit 17 set and bits 63:26 clear"))?;
        let (family_id, image_id) = (fields.take()?, fields.take()?);
        let vmpl = u32::from_le_bytes(*fields.take()?);
        if u32::from_le_bytes(*fields.take()?) != ECDSA_P384_SHA384 {
            return Err(malformed(0x034, "SIGNATURE_ALGO 1, ECDSA P-384 with SHA-384"));
        }
        let current_tcb = fields.take()?;
        let platform_info = PlatformInfo(u64::from_le_bytes(*fields.take()?));
        let key_info = KeyInfo::read(u32::from_le_bytes(*fields.take()?))
            .ok_or_else(|| malformed(0x048, "bits 31:5 that are zero"))?;
        fields.zeros::<4>()?;
        let (report_data, measurement, host_data) = (fields.take()?, fields.take()?, fields.take()?);
        let (id_key_digest, author_key_digest) = (fields.take()?, fields.take()?);
        let (report_id, report_id_ma, reported_tcb) = (fields.take()?, fields.take()?, fields.take()?);
        let cpuid = fields.cpuid(version)?;
        fields.zeros::<21>()?;
        let (chip_id, committed_tcb) = (fields.take()?, fields.take()?);
        let (current_firmware, committed_firmware) = (fields.firmware()?, fields.firmware()?);
        let launch_tcb = fields.take()?;
        let mitigations = fields.mitigations(version)?;
        fields.zeros::<152>()?;
        Ok(Self {
            signed,
            signature: read_signature(rest)?,
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            current_tcb,
            platform_info,
            key_info,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpuid,
            chip_id,
            committed_tcb,
            current_firmware,
            committed_firmware,
            launch_tcb,
            mitigations,
        })
    }

    /// Is MEASUREMENT the one that whoever asks expects?
    ///
    /// # Errors
    /// [`EvidenceDenial::MeasurementUnexpected`].
    pub fn verify_measurement(&self, expected: &[u8]) -> Result<(), EvidenceDenial> {
        if expected == self.measurement {
            return Ok(());
        }
        let (got, expected) = (hex::encode(self.measurement), hex::encode(expected));
        Err(EvidenceDenial::MeasurementUnexpected { got, expected })
    }

    /// What is signed: 0x000 to 0x29f as received.
    #[must_use]
    pub const fn signed(&self) -> &'a [u8; SIGNED_BYTES] {
        self.signed
    }

    pub(crate) const fn signature(&self) -> &FixedSignature {
        &self.signature
    }
}

/// Fields of a report, in their order.
struct Fields<'a> {
    left: &'a [u8],
    offset: usize,
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], EvidenceDenial> {
        let (field, left) = self.left.split_first_chunk().ok_or_else(|| malformed(self.offset, "ends early"))?;
        self.left = left;
        self.offset = self.offset.saturating_add(N);
        Ok(field)
    }

    /// Reserved bytes.
    fn zeros<const N: usize>(&mut self) -> Result<(), EvidenceDenial> {
        let offset = self.offset;
        if *self.take::<N>()? == [0; N] { Ok(()) } else { Err(malformed(offset, "reserved bytes that are zero")) }
    }

    /// 0x188 to 0x18a: reserved in version 2.
    fn cpuid(&mut self, version: u32) -> Result<Option<Cpuid>, EvidenceDenial> {
        if version < 3 {
            return self.zeros::<3>().map(|()| None);
        }
        let [family, model, stepping] = *self.take()?;
        Ok(Some(Cpuid { family, model, stepping }))
    }

    fn firmware(&mut self) -> Result<FirmwareVersion, EvidenceDenial> {
        let [build, minor, major] = *self.take()?;
        self.zeros::<1>()?;
        Ok(FirmwareVersion { major, minor, build })
    }

    /// 0x1f8 to 0x207: reserved below version 5.
    fn mitigations(&mut self, version: u32) -> Result<Option<Mitigations>, EvidenceDenial> {
        if version < 5 {
            return self.zeros::<16>().map(|()| None);
        }
        let (launch, current) = (u64::from_le_bytes(*self.take()?), u64::from_le_bytes(*self.take()?));
        Ok(Some(Mitigations { launch, current }))
    }
}

/// SIGNATURE (0x2a0): R and S, 72 little-endian bytes each, and zeros (AMD 56860, "ECDSA P-384 with SHA-384").
fn read_signature(bytes: &[u8]) -> Result<FixedSignature, EvidenceDenial> {
    let mut fields = Fields { left: bytes, offset: SIGNED_BYTES };
    let mut out = [0; 96];
    for scalar in out.chunks_exact_mut(48) {
        let offset = fields.offset;
        let little_endian: &[u8; 48] = fields.take()?;
        fields.zeros::<24>()?;
        for (to, from) in scalar.iter_mut().zip(little_endian.iter().rev()) {
            *to = *from;
        }
        if *scalar == [0; 48] || *scalar >= P384_ORDER[..] {
            return Err(malformed(offset, "a scalar from 1 to below the order of P-384"));
        }
    }
    fields.zeros::<368>()?;
    Ok(out)
}

const fn malformed(offset: usize, what: &'static str) -> EvidenceDenial {
    EvidenceDenial::Malformed { structure: STRUCTURE, offset, what }
}

const STRUCTURE: &str = "ATTESTATION_REPORT";
/// SIGNATURE_ALGO (AMD 56860, "Signing algorithm encodings").
const ECDSA_P384_SHA384: u32 = 1;
/// Order n of P-384 (SP 800-186 §3.2.1.4).
const P384_ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];
