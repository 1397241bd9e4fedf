//! What was observed about a TEE: the fields of its report that reference values speak about.

use evidence::{
    digest::{Digest, HashAlg},
    sev_snp::{Product, SnpClaims, SnpEndorsement, SnpReport, TcbVersion, Tcbs},
    tee::PlatformId,
};

use crate::document::snp::Mitigations;
use crate::fields::{Hex, Mask, SevFirmware};

/// An SNP report, as far as reference values speak about it.
///
/// It says nothing about authenticity: a verdict is only ever given on one made from a proof type.
#[derive(Clone, Debug)]
pub struct ObservedSnp {
    /// Version of the report.
    pub report_version: u32,
    /// The product that its signing key is certified for.
    pub product: Product,
    /// Whose key signed it.
    pub platform: PlatformId,
    /// CHIP_ID; all zero where the host masks it.
    pub chip_id: Hex<64>,
    /// VMPL.
    pub vmpl: u32,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// POLICY.
    pub policy: u64,
    /// PLATFORM_INFO.
    pub platform_info: u64,
    /// REPORTED_TCB.
    pub reported: TcbVersion,
    /// COMMITTED_TCB.
    pub committed: TcbVersion,
    /// CURRENT_TCB.
    pub current: TcbVersion,
    /// LAUNCH_TCB.
    pub launch: TcbVersion,
    /// CURRENT version of the firmware.
    pub current_firmware: SevFirmware,
    /// COMMITTED version of the firmware.
    pub committed_firmware: SevFirmware,
    /// Mitigation vectors, of version 5 of the report.
    pub mitigations: Option<Mitigations>,
    /// MEASUREMENT, SHA-384.
    pub measurement: Digest,
    /// HOST_DATA, 32 bytes.
    pub host_data: Digest,
    /// ID_KEY_DIGEST, SHA-384.
    pub id_key_digest: Digest,
    /// AUTHOR_KEY_DIGEST, SHA-384.
    pub author_key_digest: Digest,
    /// FAMILY_ID.
    pub family_id: Hex<16>,
    /// IMAGE_ID.
    pub image_id: Hex<16>,
    /// REPORT_ID_MA.
    pub report_id_ma: Hex<32>,
}

impl ObservedSnp {
    /// The view of claims that were proven.
    #[must_use]
    pub fn of(claims: &SnpClaims<'_>) -> Self {
        Self::read(claims.report(), claims.tcbs(), claims.product(), claims.enrolled().platform().clone())
    }

    /// What a report says that was not proven, read as the product of the key that is held: for `explain` alone.
    #[must_use]
    pub fn unproven(report: &SnpReport<'_>, held: &SnpEndorsement) -> Option<Self> {
        let product = held.vek.product();
        let read = |bytes: &[u8; 8]| TcbVersion::read(product.line(), "TCB_VERSION", bytes).ok();
        let tcbs = Tcbs {
            current: read(report.current_tcb)?,
            reported: read(report.reported_tcb)?,
            committed: read(report.committed_tcb)?,
            launch: read(report.launch_tcb)?,
        };
        Some(Self::read(report, &tcbs, product, held.enrolled.platform().clone()))
    }

    fn read(report: &SnpReport<'_>, tcbs: &Tcbs, product: Product, platform: PlatformId) -> Self {
        Self {
            report_version: report.version,
            product,
            platform,
            chip_id: Hex(*report.chip_id),
            vmpl: report.vmpl,
            guest_svn: report.guest_svn,
            policy: report.policy.bits(),
            platform_info: report.platform_info.bits(),
            reported: tcbs.reported,
            committed: tcbs.committed,
            current: tcbs.current,
            launch: tcbs.launch,
            current_firmware: report.current_firmware.into(),
            committed_firmware: report.committed_firmware.into(),
            mitigations: report
                .mitigations
                .map(|vectors| Mitigations { launch: Mask(vectors.launch), current: Mask(vectors.current) }),
            measurement: bytes48(report.measurement),
            host_data: Digest::from_bytes(HashAlg::Sha256, report.host_data).unwrap_or(Digest::zero(HashAlg::Sha256)),
            id_key_digest: bytes48(report.id_key_digest),
            author_key_digest: bytes48(report.author_key_digest),
            family_id: Hex(*report.family_id),
            image_id: Hex(*report.image_id),
            report_id_ma: Hex(*report.report_id_ma),
        }
    }
}

/// 48 bytes of a report as a register's value.
fn bytes48(bytes: &[u8; 48]) -> Digest {
    Digest::from_bytes(HashAlg::Sha384, bytes).unwrap_or(Digest::zero(HashAlg::Sha384))
}
