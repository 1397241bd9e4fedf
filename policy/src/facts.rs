//! Claims of each kind of hardware, as policies see them.

use evidence::{
    sev_snp::SnpClaims,
    tdx::{TdxClaims, td_attributes::TdAttributes},
    tee::PlatformId,
    tpm::{appraisal::TpmClaims, ek::EkEndorser},
};
use firmware_refs::{observed::maker, text::FirmwareVersion};
use serde::{Deserialize, Serialize};

use crate::value::Cedar;

/// Claims of TPM evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmFacts {
    /// SHA-256 of the EK's public area, hexadecimal.
    pub ek: String,
    /// Whether an operator pinned the EK, without a certificate.
    pub ek_pinned: bool,
    /// Name of the AK, hexadecimal.
    pub ak: String,
    /// Manufacturer (`id:49464800`), or `none`.
    pub manufacturer: String,
    /// Firmware version, sixteen hexadecimal digits.
    pub firmware: String,
    /// Quoted bank.
    pub bank: String,
    /// Quoted PCRs.
    pub pcrs: Vec<i64>,
    /// Whether the event log was judged.
    pub event_log: bool,
    /// Whether the IMA log was judged.
    pub ima_log: bool,
    /// SecureBoot as measured, where the event log was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// TPM resets so far.
    pub reset_count: i64,
    /// TPM restarts since the last reset.
    pub restart_count: i64,
}

/// Claims of an SNP report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpFacts {
    /// Product, by AMD's name.
    pub product: String,
    /// CHIP_ID, hexadecimal; all zero where the host masks it.
    pub chip: String,
    /// CSP_ID of the VLEK that signed the report, or `none` where the chip's own key did.
    pub provider: String,
    /// Version of the report.
    pub report_version: i64,
    /// VMPL that asked for the report.
    pub vmpl: i64,
    /// GUEST_SVN.
    pub guest_svn: i64,
    /// MEASUREMENT, hexadecimal.
    pub measurement: String,
    /// HOST_DATA, hexadecimal.
    pub host_data: String,
    /// ID_KEY_DIGEST, hexadecimal; all zero without an ID block.
    pub id_key: String,
    /// AUTHOR_KEY_DIGEST, hexadecimal; all zero without one.
    pub author_key: String,
    /// Boot loader of REPORTED_TCB.
    pub boot_loader: i64,
    /// PSP operating system of REPORTED_TCB.
    pub tee: i64,
    /// SNP firmware of REPORTED_TCB.
    pub snp: i64,
    /// Microcode of REPORTED_TCB.
    pub microcode: i64,
    /// CURRENT firmware version, `major.minor.build`.
    pub firmware: String,
    /// Whether simultaneous multithreading is on.
    pub smt: bool,
    /// Whether memory was checked for aliases.
    pub alias_check: bool,
    /// Whether ciphertext in memory is hidden.
    pub ciphertext_hiding: bool,
}

/// Claims of a TDX quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxFacts {
    /// PPID, hexadecimal.
    pub ppid: String,
    /// MRTD, hexadecimal.
    pub mrtd: String,
    /// RTMR0, hexadecimal.
    pub rtmr0: String,
    /// RTMR1, hexadecimal.
    pub rtmr1: String,
    /// RTMR2, hexadecimal.
    pub rtmr2: String,
    /// RTMR3, hexadecimal.
    pub rtmr3: String,
    /// MRCONFIGID, hexadecimal.
    pub mrconfigid: String,
    /// MROWNER, hexadecimal.
    pub mrowner: String,
    /// MROWNERCONFIG, hexadecimal.
    pub mrownerconfig: String,
    /// Worst TCB status of platform, module and quoting enclave, by Intel's name.
    pub tcb_status: String,
    /// Advisories against any of them.
    pub advisories: Vec<String>,
    /// Lower tcbEvaluationDataNumber of the collateral.
    pub tcb_evaluation: i64,
    /// Whether performance monitoring is on.
    pub perfmon: bool,
    /// Whether the event log was judged.
    pub event_log: bool,
}

impl TpmFacts {
    pub(crate) fn of(tpm: &TpmClaims<'_>) -> Self {
        let clock = tpm.clock_info();
        Self {
            ek: tpm.ek_digest().to_string(),
            ek_pinned: matches!(tpm.endorsement().endorser(), EkEndorser::Operator),
            ak: tpm.ak_name().to_string(),
            manufacturer: maker(tpm.endorsement().endorser()).to_string(),
            firmware: FirmwareVersion(tpm.firmware_version()).to_string(),
            bank: tpm.pcrs().bank().to_string(),
            pcrs: tpm.pcrs().iter().map(|(pcr, _)| i64::from(pcr)).collect(),
            event_log: tpm.event_log().is_some(),
            ima_log: tpm.ima_log().is_some(),
            secure_boot: tpm.event_log().map(|log| log.boot().secure_boot),
            reset_count: i64::from(clock.reset_count),
            restart_count: i64::from(clock.restart_count),
        }
    }

    pub(crate) fn to_cedar(&self) -> Cedar {
        let fields = [
            ("ek", text(&self.ek)),
            ("ek_pinned", Cedar::new_bool(self.ek_pinned)),
            ("ak", text(&self.ak)),
            ("manufacturer", text(&self.manufacturer)),
            ("firmware", text(&self.firmware)),
            ("bank", text(&self.bank)),
            ("pcrs", Cedar::new_set(self.pcrs.iter().map(|pcr| Cedar::new_long(*pcr)))),
            ("event_log", Cedar::new_bool(self.event_log)),
            ("ima_log", Cedar::new_bool(self.ima_log)),
            ("reset_count", Cedar::new_long(self.reset_count)),
            ("restart_count", Cedar::new_long(self.restart_count)),
        ];
        Cedar::new_record(fields.into_iter().chain(self.secure_boot.map(|on| ("secure_boot", Cedar::new_bool(on)))))
    }
}

impl SnpFacts {
    pub(crate) fn of(snp: &SnpClaims<'_>) -> Self {
        let (report, reported) = (snp.report(), snp.tcbs().reported);
        let provider = match snp.enrolled().platform() {
            PlatformId::AmdVlek { csp_id } => csp_id.to_string(),
            PlatformId::AmdChip(_) | PlatformId::IntelPpid(_) => "none".to_owned(),
        };
        Self {
            product: snp.product().to_string(),
            chip: hex::encode(report.chip_id),
            provider,
            report_version: i64::from(report.version),
            vmpl: i64::from(report.vmpl),
            guest_svn: i64::from(report.guest_svn),
            measurement: hex::encode(report.measurement),
            host_data: hex::encode(report.host_data),
            id_key: hex::encode(report.id_key_digest),
            author_key: hex::encode(report.author_key_digest),
            boot_loader: i64::from(reported.boot_loader),
            tee: i64::from(reported.tee),
            snp: i64::from(reported.snp),
            microcode: i64::from(reported.microcode),
            firmware: report.current_firmware.to_string(),
            smt: report.platform_info.smt(),
            alias_check: report.platform_info.alias_check_complete(),
            ciphertext_hiding: report.platform_info.ciphertext_hiding(),
        }
    }

    pub(crate) fn to_cedar(&self) -> Cedar {
        Cedar::new_record([
            ("product", text(&self.product)),
            ("chip", text(&self.chip)),
            ("provider", text(&self.provider)),
            ("report_version", Cedar::new_long(self.report_version)),
            ("vmpl", Cedar::new_long(self.vmpl)),
            ("guest_svn", Cedar::new_long(self.guest_svn)),
            ("measurement", text(&self.measurement)),
            ("host_data", text(&self.host_data)),
            ("id_key", text(&self.id_key)),
            ("author_key", text(&self.author_key)),
            ("boot_loader", Cedar::new_long(self.boot_loader)),
            ("tee", Cedar::new_long(self.tee)),
            ("snp", Cedar::new_long(self.snp)),
            ("microcode", Cedar::new_long(self.microcode)),
            ("firmware", text(&self.firmware)),
            ("smt", Cedar::new_bool(self.smt)),
            ("alias_check", Cedar::new_bool(self.alias_check)),
            ("ciphertext_hiding", Cedar::new_bool(self.ciphertext_hiding)),
        ])
    }
}

impl TdxFacts {
    pub(crate) fn of(tdx: &TdxClaims<'_>) -> Self {
        let (report, verdict) = (tdx.report(), tdx.verdict());
        let [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmrs.map(hex::encode);
        Self {
            ppid: hex::encode(tdx.platform().ppid),
            mrtd: hex::encode(report.mr_td),
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
            mrconfigid: hex::encode(report.mr_config_id),
            mrowner: hex::encode(report.mr_owner),
            mrownerconfig: hex::encode(report.mr_owner_config),
            tcb_status: verdict.standing.status.to_string(),
            advisories: verdict.standing.advisory_ids.iter().cloned().collect(),
            tcb_evaluation: i64::from(verdict.tcb_evaluation_data_number),
            perfmon: TdAttributes::of(report).has_perfmon(),
            event_log: tdx.event_log().is_some(),
        }
    }

    pub(crate) fn to_cedar(&self) -> Cedar {
        Cedar::new_record([
            ("ppid", text(&self.ppid)),
            ("mrtd", text(&self.mrtd)),
            ("rtmr0", text(&self.rtmr0)),
            ("rtmr1", text(&self.rtmr1)),
            ("rtmr2", text(&self.rtmr2)),
            ("rtmr3", text(&self.rtmr3)),
            ("mrconfigid", text(&self.mrconfigid)),
            ("mrowner", text(&self.mrowner)),
            ("mrownerconfig", text(&self.mrownerconfig)),
            ("tcb_status", text(&self.tcb_status)),
            ("advisories", texts(&self.advisories)),
            ("tcb_evaluation", Cedar::new_long(self.tcb_evaluation)),
            ("perfmon", Cedar::new_bool(self.perfmon)),
            ("event_log", Cedar::new_bool(self.event_log)),
        ])
    }
}

pub(crate) fn text(value: &str) -> Cedar {
    Cedar::new_string(value)
}

pub(crate) fn texts(values: &[String]) -> Cedar {
    Cedar::new_set(values.iter().map(|v| text(v)))
}
