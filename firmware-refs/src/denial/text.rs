//! Denials as claim path, both sides and hint, for people.

use evidence::register::Register;

use super::{ReferenceDenial, ReferenceDenialKind, ReferenceName};

impl ReferenceDenial {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        ReferenceDenialKind::from(self).code()
    }

    /// Path of the claim that did not match.
    #[must_use]
    pub fn claim(&self) -> String {
        match self {
            Self::NoneActive => "reference_values".to_owned(),
            Self::NotYetInForce { .. } | Self::Expired { .. } => "reference_values.validity".to_owned(),
            Self::Revoked { .. } => "reference_values.revoked".to_owned(),
            Self::Bank { .. } => "tpm.quote.bank".to_owned(),
            Self::PcrAbsent { .. } => "tpm.quote.pcrs".to_owned(),
            Self::PcrResettable { pcr } | Self::PcrUnknown { pcr, .. } => format!("tpm.pcr.{pcr}"),
            Self::EventLogAbsent { part, .. } => format!("{part}.event_log"),
            Self::EventUnknown { register, diverges, .. } => match diverges.event {
                Some(event) => format!("{}.event_log.{register}.event{event}", part(*register)),
                None => format!("{}.event_log.{register}", part(*register)),
            },
            Self::EventMissing { register, .. } => format!("{}.event_log.{register}", part(*register)),
            Self::ImaLogAbsent { .. } => "tpm.ima_log".to_owned(),
            Self::FileUnknown { path, .. } | Self::FileChanged { path, .. } => format!("tpm.ima_log.{path}"),
            Self::EkNotListed { .. } => "tpm.ek".to_owned(),
            Self::AkNotListed { .. } => "tpm.ak".to_owned(),
            Self::ManufacturerUnknown { .. } => "tpm.manufacturer".to_owned(),
            Self::FirmwareTooOld { .. } | Self::FirmwareDenied { .. } => "tpm.firmware".to_owned(),
            Self::KindUnknown { .. } => "kind".to_owned(),
            Self::MeasurementUnknown { register, .. } => format!("{}.{register}", part(*register)),
            Self::GuestIdUnknown { field, .. } => (*field).to_owned(),
            Self::IdBlockRefused { .. } => "snp.id_key_digest".to_owned(),
            Self::GuestSvnTooLow { .. } => "snp.guest_svn".to_owned(),
            Self::MigrationAgent { .. } => "snp.report_id_ma".to_owned(),
            Self::Vmpl { .. } => "snp.vmpl".to_owned(),
            Self::ReportVersion { .. } => "snp.report_version".to_owned(),
            Self::ProductUnknown { .. } => "snp.product".to_owned(),
            Self::TcbTooLow { tcb, component, .. } => format!("snp.tcb.{tcb}.{component}"),
            Self::TcbNotCommitted { .. } => "snp.tcb.committed".to_owned(),
            Self::SevFirmwareTooOld { firmware, .. } => format!("snp.firmware.{firmware}"),
            Self::MitigationMissing { tcb, .. } => format!("snp.mitigations.{tcb}"),
            Self::BitRefused { field, bit, .. } => format!("{field}.{bit}"),
            Self::ChipNotListed { .. } => "snp.chip_id".to_owned(),
            Self::ProviderUnknown { .. } => "snp.csp_id".to_owned(),
            Self::EvaluationTooOld { .. } => "tdx.tcb_evaluation".to_owned(),
            Self::TcbStatusRefused { .. } => "tdx.tcb_status".to_owned(),
            Self::AdvisoryRefused { .. } | Self::AdvisoryExpired { .. } => "tdx.advisories".to_owned(),
            Self::XfamRefused { .. } => "tdx.xfam".to_owned(),
            Self::PpidNotListed { .. } => "tdx.ppid".to_owned(),
        }
    }

    /// What the evidence said.
    #[must_use]
    pub fn got(&self) -> String {
        match self {
            Self::NoneActive => "no active set".to_owned(),
            Self::NotYetInForce { now, .. } | Self::Expired { now, .. } => now.to_string(),
            Self::Revoked { reference, revoked_at, reason, statement } => {
                format!("a machine as {reference} describes; revoked at {revoked_at}: {reason} (statement {statement})")
            }
            Self::Bank { got, .. } => got.to_string(),
            Self::PcrAbsent { pcr, .. } => format!("PCR {pcr} not quoted"),
            Self::PcrResettable { pcr } => format!("PCR {pcr}"),
            Self::PcrUnknown { got, diverges: None, .. } => got.to_string(),
            Self::PcrUnknown { got, diverges: Some(diverges), .. } => format!("{got}; first unknown: {diverges}"),
            Self::EventLogAbsent { .. } | Self::ImaLogAbsent { .. } => "absent".to_owned(),
            Self::EventUnknown { diverges, .. } => {
                let digest = diverges.digest.map_or_else(String::new, |d| format!(" {d}"));
                format!("{diverges}{digest}")
            }
            Self::EventMissing { missing, .. } => format!("{missing} not measured"),
            Self::FileUnknown { got, .. } | Self::FileChanged { got, .. } => got.to_string(),
            Self::EkNotListed { got, .. } => got.to_string(),
            Self::AkNotListed { got, .. } => got.to_string(),
            Self::ManufacturerUnknown { got, .. } => got.to_string(),
            Self::FirmwareTooOld { got, .. } | Self::FirmwareDenied { got, .. } => got.to_string(),
            Self::KindUnknown { got, .. } => got.to_string(),
            Self::MeasurementUnknown { got, diverges: None, .. } => got.to_string(),
            Self::MeasurementUnknown { got, diverges: Some(diverges), .. } => {
                format!("{got}; first unknown: {diverges}")
            }
            Self::GuestIdUnknown { got, .. } | Self::PpidNotListed { got, .. } => got.to_string(),
            Self::IdBlockRefused { got, .. } => got.to_string(),
            Self::GuestSvnTooLow { got, .. }
            | Self::Vmpl { got, .. }
            | Self::ReportVersion { got, .. }
            | Self::EvaluationTooOld { got, .. } => got.to_string(),
            Self::MigrationAgent { got, .. } => got.to_string(),
            Self::ProductUnknown { got, .. } => got.to_string(),
            Self::TcbTooLow { got, .. } => got.to_string(),
            Self::TcbNotCommitted { committed, .. } => committed.to_string(),
            Self::SevFirmwareTooOld { got, .. } => got.to_string(),
            Self::MitigationMissing { got, .. } | Self::XfamRefused { got, .. } => got.to_string(),
            Self::BitRefused { required, .. } => u8::from(!*required).to_string(),
            Self::ChipNotListed { got, .. } => got.to_string(),
            Self::ProviderUnknown { got, .. } => got.to_string(),
            Self::TcbStatusRefused { got, .. } => got.to_string(),
            Self::AdvisoryRefused { got, .. } => got.to_string(),
            Self::AdvisoryExpired { advisory, now, .. } => format!("{advisory} at {now}"),
        }
    }

    /// What the set would have accepted.
    #[must_use]
    pub fn accepted(&self) -> Vec<String> {
        fn texts<T: ToString>(of: &[T]) -> Vec<String> {
            of.iter().map(ToString::to_string).collect()
        }
        match self {
            Self::NoneActive
            | Self::Revoked { .. }
            | Self::PcrResettable { .. }
            | Self::FileUnknown { .. }
            | Self::EkNotListed { .. }
            | Self::AkNotListed { .. }
            | Self::ChipNotListed { .. }
            | Self::PpidNotListed { .. } => Vec::new(),
            Self::NotYetInForce { not_before, .. } => vec![format!("from {not_before}")],
            Self::Expired { ended, .. } => vec![format!("before {ended}")],
            Self::Bank { accepted, .. } => vec![accepted.to_string()],
            Self::PcrAbsent { pcr, .. } => vec![format!("PCR {pcr} quoted")],
            Self::EventLogAbsent { .. } | Self::ImaLogAbsent { .. } => vec!["present".to_owned()],
            Self::PcrUnknown { accepted, .. }
            | Self::EventUnknown { accepted, .. }
            | Self::EventMissing { accepted, .. }
            | Self::FileChanged { accepted, .. } => texts(accepted),
            Self::ManufacturerUnknown { accepted, .. } => texts(accepted),
            Self::FirmwareTooOld { floor, .. } => vec![format!("{floor} or later")],
            Self::FirmwareDenied { advisory, .. } => vec![format!("firmware not affected by {advisory}")],
            Self::KindUnknown { accepted, .. } => vec![accepted.to_string()],
            Self::MeasurementUnknown { accepted, .. } => texts(accepted),
            Self::GuestIdUnknown { accepted, .. } => texts(accepted),
            Self::IdBlockRefused { .. } => vec!["no ID block".to_owned()],
            Self::MigrationAgent { .. } => vec!["no migration agent".to_owned()],
            Self::Vmpl { accepted, .. } | Self::ReportVersion { accepted, .. } => texts(accepted),
            Self::ProductUnknown { accepted, .. } => texts(accepted),
            Self::GuestSvnTooLow { floor, .. } | Self::EvaluationTooOld { floor, .. } => {
                vec![format!("{floor} or higher")]
            }
            Self::TcbTooLow { floor, .. } => vec![format!("{floor} or higher")],
            Self::TcbNotCommitted { current, .. } => vec![current.to_string()],
            Self::SevFirmwareTooOld { floor, .. } => vec![format!("{floor} or later")],
            Self::MitigationMissing { required, .. } => vec![format!("all bits of {required}")],
            Self::BitRefused { required, .. } => vec![u8::from(*required).to_string()],
            Self::ProviderUnknown { accepted, .. } => texts(accepted),
            Self::TcbStatusRefused { accepted, .. } => texts(accepted),
            Self::AdvisoryRefused { accepted, .. } => texts(accepted),
            Self::AdvisoryExpired { until, .. } => vec![format!("before {until}")],
            Self::XfamRefused { allowed, .. } => vec![format!("no bits but {allowed}")],
        }
    }

    /// The set that judged, where one did.
    #[must_use]
    pub fn reference(&self) -> Option<&ReferenceName> {
        match self {
            Self::NoneActive | Self::PcrResettable { .. } => None,
            Self::NotYetInForce { reference, .. }
            | Self::Expired { reference, .. }
            | Self::Revoked { reference, .. }
            | Self::Bank { reference, .. }
            | Self::PcrAbsent { reference, .. }
            | Self::PcrUnknown { reference, .. }
            | Self::EventLogAbsent { reference, .. }
            | Self::EventUnknown { reference, .. }
            | Self::EventMissing { reference, .. }
            | Self::ImaLogAbsent { reference }
            | Self::FileUnknown { reference, .. }
            | Self::FileChanged { reference, .. }
            | Self::EkNotListed { reference, .. }
            | Self::AkNotListed { reference, .. }
            | Self::ManufacturerUnknown { reference, .. }
            | Self::FirmwareTooOld { reference, .. }
            | Self::FirmwareDenied { reference, .. }
            | Self::KindUnknown { reference, .. }
            | Self::MeasurementUnknown { reference, .. }
            | Self::GuestIdUnknown { reference, .. }
            | Self::IdBlockRefused { reference, .. }
            | Self::GuestSvnTooLow { reference, .. }
            | Self::MigrationAgent { reference, .. }
            | Self::Vmpl { reference, .. }
            | Self::ReportVersion { reference, .. }
            | Self::ProductUnknown { reference, .. }
            | Self::TcbTooLow { reference, .. }
            | Self::TcbNotCommitted { reference, .. }
            | Self::SevFirmwareTooOld { reference, .. }
            | Self::MitigationMissing { reference, .. }
            | Self::BitRefused { reference, .. }
            | Self::ChipNotListed { reference, .. }
            | Self::ProviderUnknown { reference, .. }
            | Self::EvaluationTooOld { reference, .. }
            | Self::TcbStatusRefused { reference, .. }
            | Self::AdvisoryRefused { reference, .. }
            | Self::AdvisoryExpired { reference, .. }
            | Self::XfamRefused { reference, .. }
            | Self::PpidNotListed { reference, .. } => Some(reference),
        }
    }

    /// Whether a new version of a set, with the values that came, would mend it. Floors and rules are not mended so.
    #[must_use]
    pub const fn is_of_unknown_value(&self) -> bool {
        matches!(
            self,
            Self::NoneActive
                | Self::KindUnknown { .. }
                | Self::PcrUnknown { .. }
                | Self::EventUnknown { .. }
                | Self::EventMissing { .. }
                | Self::FileUnknown { .. }
                | Self::FileChanged { .. }
                | Self::EkNotListed { .. }
                | Self::AkNotListed { .. }
                | Self::ManufacturerUnknown { .. }
                | Self::MeasurementUnknown { .. }
                | Self::GuestIdUnknown { .. }
                | Self::IdBlockRefused { .. }
                | Self::ProductUnknown { .. }
                | Self::ChipNotListed { .. }
                | Self::ProviderUnknown { .. }
                | Self::PpidNotListed { .. }
        )
    }

    /// Whether the set itself is out of force at that moment, whatever was measured.
    #[must_use]
    pub const fn is_of_validity(&self) -> bool {
        matches!(self, Self::NotYetInForce { .. } | Self::Expired { .. })
    }

    /// Whether evidence did not come with what the set judges by: it was not asked for.
    #[must_use]
    pub const fn is_of_absence(&self) -> bool {
        matches!(
            self,
            Self::Bank { .. } | Self::PcrAbsent { .. } | Self::EventLogAbsent { .. } | Self::ImaLogAbsent { .. }
        )
    }

    /// What an operator can do about it, if the machine is as it should be.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoneActive => "activate a signed reference value set",
            Self::NotYetInForce { .. } => "wait, or activate a set that is in force",
            Self::Expired { .. } => "activate a newer version of the set",
            Self::Revoked { .. } => "bring the machine to what a set in force describes",
            Self::Bank { .. } => "quote the bank that the reference values are of",
            Self::PcrAbsent { .. } => "the challenge and the set disagree: restart the verifier on one snapshot",
            Self::PcrResettable { .. } => "remove the PCR from the selection",
            Self::PcrUnknown { diverges: Some(_), .. } | Self::EventUnknown { .. } => {
                "if the named component was changed on purpose, capture the node and stage a new version of the set"
            }
            Self::PcrUnknown { diverges: None, .. } => {
                "if the machine was changed on purpose, capture the node and stage a new version of the set"
            }
            Self::EventLogAbsent { .. } => {
                "let the node read its event log (binary_bios_measurements of a TPM, CCEL of a trust domain)"
            }
            Self::EventMissing { .. } => {
                "the machine started without the named component: restore it, or mark it optional in a new version"
            }
            Self::ImaLogAbsent { .. } => "let the node read its IMA log (binary_runtime_measurements)",
            Self::FileUnknown { .. } => "add the file to the set, or exclude its directory",
            Self::FileChanged { .. } => "if the file was updated on purpose, stage a new version of the set",
            Self::EkNotListed { .. } | Self::AkNotListed { .. } => {
                "list the TPM in the set, if it is the one you expect"
            }
            Self::ManufacturerUnknown { .. } => "add a firmware floor for this manufacturer, if you trust its TPMs",
            Self::FirmwareTooOld { .. } | Self::FirmwareDenied { .. } => "update the TPM's firmware",
            Self::KindUnknown { .. } => "activate a set for this kind of machine",
            Self::MeasurementUnknown { .. }
            | Self::GuestIdUnknown { .. }
            | Self::IdBlockRefused { .. }
            | Self::GuestSvnTooLow { .. } => {
                "if the guest was changed on purpose, compute or capture it and stage a new version of the set"
            }
            Self::MigrationAgent { .. } => "launch the guest without a migration agent",
            Self::Vmpl { .. } => "let the guest ask for its report at the privilege level that the set names",
            Self::ReportVersion { .. } | Self::SevFirmwareTooOld { .. } => "update the platform's SEV firmware",
            Self::ProductUnknown { .. } => "add floors for this product, if you trust it",
            Self::TcbTooLow { .. } | Self::MitigationMissing { .. } => {
                "update the platform's firmware and microcode, then start the guest again"
            }
            Self::TcbNotCommitted { .. } => "let the host commit its firmware (SNP_COMMIT)",
            Self::BitRefused { .. } => "launch the guest, or set up its platform, as the set demands",
            Self::ChipNotListed { .. } | Self::PpidNotListed { .. } => {
                "list the platform in the set, if it is the one you expect"
            }
            Self::ProviderUnknown { .. } => "list the provider in the set, if you trust all of its machines",
            Self::EvaluationTooOld { .. } => "import newer collateral",
            Self::TcbStatusRefused { .. } => "update or configure the platform as Intel's advisories say",
            Self::AdvisoryRefused { .. } | Self::AdvisoryExpired { .. } => {
                "mitigate the advisory, or bear it until a day in a new version of the set"
            }
            Self::XfamRefused { .. } => "start the trust domain without that feature, or allow it in the set",
        }
    }
}

/// The part of the evidence that a register is of.
const fn part(register: Register) -> &'static str {
    match register {
        Register::Pcr(_) => "tpm",
        Register::Measurement | Register::HostData | Register::IdKeyDigest | Register::AuthorKeyDigest => "snp",
        Register::MrTd
        | Register::Rtmr(_)
        | Register::MrConfigId
        | Register::MrOwner
        | Register::MrOwnerConfig
        | Register::MrServiceTd => "tdx",
    }
}
