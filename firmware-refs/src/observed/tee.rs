//! What was observed about a TEE: the fields of its report that reference values speak about.

use std::collections::BTreeSet;

use evidence::{
    digest::{Digest, HashAlg},
    sev_snp::{Product, SnpClaims, SnpEndorsement, SnpReport, TcbVersion, Tcbs},
    tdx::{CcLogClaims, TcbStatus, TdxClaims},
    tee::PlatformId,
    time::UnixSeconds,
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

/// A TDX quote, as far as reference values speak about it.
#[derive(Clone, Debug)]
pub struct ObservedTdx<'a> {
    /// PPID of the PCK certificate.
    pub ppid: Hex<16>,
    /// TDATTRIBUTES.
    pub attributes: u64,
    /// XFAM.
    pub xfam: u64,
    /// MRTD.
    pub mrtd: Digest,
    /// RTMR 0 to 3.
    pub rtmrs: [Digest; 4],
    /// MRCONFIGID.
    pub mrconfigid: Digest,
    /// MROWNER.
    pub mrowner: Digest,
    /// MROWNERCONFIG.
    pub mrownerconfig: Digest,
    /// MRSERVICETD; all zero where the quote has none.
    pub mrservicetd: Digest,
    /// Worst of platform, module and quoting enclave.
    pub tcb_status: TcbStatus,
    /// Advisories against any of them.
    pub advisories: &'a BTreeSet<String>,
    /// Lower tcbEvaluationDataNumber of the collateral.
    pub tcb_evaluation: u32,
    /// The event log, where one came.
    pub event_log: Option<ObservedCcel<'a>>,
    /// When it is judged: advisories are borne until a day.
    pub judged_at: UnixSeconds,
}

/// A CCEL event log, and the RTMRs that it leads to.
#[derive(Clone, Copy, Debug)]
pub struct ObservedCcel<'a> {
    /// The log, and the registers that it leads to.
    pub log: &'a CcLogClaims<'a>,
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

impl<'a> ObservedTdx<'a> {
    /// The view of claims that were proven, at the moment when they were judged to be in time.
    #[must_use]
    pub fn of(claims: &'a TdxClaims<'a>, judged_at: UnixSeconds) -> Self {
        let (report, verdict) = (claims.report(), claims.verdict());
        let zero = [0; 48];
        Self {
            ppid: Hex(claims.platform().ppid),
            attributes: u64::from_le_bytes(*report.td_attributes),
            xfam: u64::from_le_bytes(*report.xfam),
            mrtd: bytes48(report.mr_td),
            rtmrs: report.rtmrs.map(bytes48),
            mrconfigid: bytes48(report.mr_config_id),
            mrowner: bytes48(report.mr_owner),
            mrownerconfig: bytes48(report.mr_owner_config),
            mrservicetd: bytes48(claims.td_report15().map_or(&zero, |report| report.mr_service_td)),
            tcb_status: verdict.standing.status,
            advisories: &verdict.standing.advisory_ids,
            tcb_evaluation: verdict.tcb_evaluation_data_number,
            event_log: claims.event_log().map(|log| ObservedCcel { log }),
            judged_at,
        }
    }
}

/// 48 bytes of a report as a register's value.
fn bytes48(bytes: &[u8; 48]) -> Digest {
    Digest::from_bytes(HashAlg::Sha384, bytes).unwrap_or(Digest::zero(HashAlg::Sha384))
}
