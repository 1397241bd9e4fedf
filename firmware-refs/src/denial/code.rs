//! Stable codes of the denials: listed in the documentation, carried on the wire, never reused.

use super::ReferenceDenialKind;

impl ReferenceDenialKind {
    /// Stable code, `reference.<fact>`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoneActive => "reference.none_active",
            Self::NotYetInForce => "reference.not_yet_in_force",
            Self::Expired => "reference.expired",
            Self::Revoked => "reference.revoked",
            Self::Bank => "reference.bank",
            Self::PcrAbsent => "reference.pcr_absent",
            Self::PcrResettable => "reference.pcr_resettable",
            Self::PcrUnknown => "reference.pcr_unknown",
            Self::EventLogAbsent => "reference.event_log_absent",
            Self::EventUnknown => "reference.event_unknown",
            Self::EventMissing => "reference.event_missing",
            Self::ImaLogAbsent => "reference.ima_log_absent",
            Self::FileUnknown => "reference.file_unknown",
            Self::FileChanged => "reference.file_changed",
            Self::EkNotListed => "reference.ek_not_listed",
            Self::AkNotListed => "reference.ak_not_listed",
            Self::ManufacturerUnknown => "reference.manufacturer_unknown",
            Self::FirmwareTooOld => "reference.firmware_too_old",
            Self::FirmwareDenied => "reference.firmware_denied",
            Self::KindUnknown => "reference.kind_unknown",
            Self::MeasurementUnknown => "reference.measurement_unknown",
            Self::GuestIdUnknown => "reference.guest_id_unknown",
            Self::IdBlockRefused => "reference.id_block_refused",
            Self::GuestSvnTooLow => "reference.guest_svn_too_low",
            Self::MigrationAgent => "reference.migration_agent",
            Self::Vmpl => "reference.vmpl",
            Self::ReportVersion => "reference.report_version",
            Self::ProductUnknown => "reference.product_unknown",
            Self::TcbTooLow => "reference.tcb_too_low",
            Self::TcbNotCommitted => "reference.tcb_not_committed",
            Self::SevFirmwareTooOld => "reference.sev_firmware_too_old",
            Self::MitigationMissing => "reference.mitigation_missing",
            Self::BitRefused => "reference.bit_refused",
            Self::ChipNotListed => "reference.chip_not_listed",
            Self::ProviderUnknown => "reference.provider_unknown",
            Self::EvaluationTooOld => "reference.evaluation_too_old",
            Self::TcbStatusRefused => "reference.tcb_status_refused",
            Self::AdvisoryRefused => "reference.advisory_refused",
            Self::AdvisoryExpired => "reference.advisory_expired",
            Self::XfamRefused => "reference.xfam_refused",
            Self::PpidNotListed => "reference.ppid_not_listed",
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}
