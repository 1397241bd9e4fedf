//! Stable codes of the denials: listed in the documentation, carried on the wire, never reused.

use super::{EvidenceDenial, EvidenceDenialKind};

impl EvidenceDenial {
    /// Stable code, `evidence.<fact>`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        EvidenceDenialKind::from(self).code()
    }
}

impl EvidenceDenialKind {
    /// Stable code of this kind of denial.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "evidence.malformed",
            Self::TrailingBytes => "evidence.trailing_bytes",
            Self::TooLarge => "evidence.too_large",
            Self::Cbor => "evidence.cbor",
            Self::Missing => "evidence.missing",
            Self::AlgorithmRefused => "evidence.algorithm_refused",
            Self::WeakHash => "evidence.weak_hash",
            Self::SignatureInvalid => "evidence.signature_invalid",
            Self::BindingMismatch => "evidence.binding_mismatch",
            Self::ChallengeExpired => "evidence.challenge_expired",
            Self::PcrSelection => "evidence.pcr_selection",
            Self::PcrDigestMismatch => "evidence.pcr_digest_mismatch",
            Self::ReplayMismatch => "evidence.replay_mismatch",
            Self::TooMany => "evidence.too_many",
            Self::BankMissing => "evidence.bank_missing",
            Self::RegisterUnproven => "evidence.register_unproven",
            Self::SeparatorMissing => "evidence.separator_missing",
            Self::SeparatorRepeated => "evidence.separator_repeated",
            Self::SeparatorNotZero => "evidence.separator_not_zero",
            Self::ConfigurationAfterSeparator => "evidence.configuration_after_separator",
            Self::EventDataMismatch => "evidence.event_data_mismatch",
            Self::EventTypeRefused => "evidence.event_type_refused",
            Self::VariableRepeated => "evidence.variable_repeated",
            Self::SecureBootNotBoolean => "evidence.secure_boot_not_boolean",
            Self::ActionRefused => "evidence.action_refused",
            Self::ImaTemplateMismatch => "evidence.ima_template_mismatch",
            Self::ImaViolation => "evidence.ima_violation",
            Self::ImaRegister => "evidence.ima_register",
            Self::ImaOrder => "evidence.ima_order",
            Self::ImaReplayMismatch => "evidence.ima_replay_mismatch",
            Self::ImaBootAggregate => "evidence.ima_boot_aggregate",
            Self::ImaSignature => "evidence.ima_signature",
            Self::KeyUnusable => "evidence.key_unusable",
            Self::SchemeMismatch => "evidence.scheme_mismatch",
            Self::KindUnexpected => "evidence.kind_unexpected",
            Self::UnexpectedPart => "evidence.unexpected_part",
            Self::Revoked => "evidence.revoked",
            Self::EkUnanchored => "evidence.ek_unanchored",
            Self::ChainUnanchored => "evidence.chain_unanchored",
            Self::CertificateValidity => "evidence.certificate_validity",
            Self::CertificateSignature => "evidence.certificate_signature",
            Self::CertificateConstraint => "evidence.certificate_constraint",
            Self::CertificateExtension => "evidence.certificate_extension",
            Self::CertificateListSignature => "evidence.certificate_list_signature",
            Self::CertificateListValidity => "evidence.certificate_list_validity",
            Self::SimulatedTpm => "evidence.simulated_tpm",
            Self::EkKeyMismatch => "evidence.ek_key_mismatch",
            Self::AkKeyMismatch => "evidence.ak_key_mismatch",
            Self::EkTemplate => "evidence.ek_template",
            Self::AkTemplate => "evidence.ak_template",
            Self::ActivationSecret => "evidence.activation_secret",
            Self::ActivationMismatch => "evidence.activation_mismatch",
            Self::EnrolmentNotCurrent => "evidence.enrolment_not_current",
            Self::ResettablePcr => "evidence.resettable_pcr",
            Self::ClockUnsafe => "evidence.clock_unsafe",
            Self::TpmRestarted => "evidence.tpm_restarted",
            Self::TpmRolledBack => "evidence.tpm_rolled_back",
            Self::SnpSigningKey => "evidence.snp_signing_key",
            Self::SnpProductMismatch => "evidence.snp_product_mismatch",
            Self::SnpTcbMismatch => "evidence.snp_tcb_mismatch",
            Self::SnpChipIdMasked => "evidence.snp_chip_id_masked",
            Self::SnpChipIdMismatch => "evidence.snp_chip_id_mismatch",
            Self::SnpVmpl => "evidence.snp_vmpl",
            Self::SnpGuestPolicy => "evidence.snp_guest_policy",
            Self::SnpPlatformInfo => "evidence.snp_platform_info",
            Self::SnpReportId => "evidence.snp_report_id",
            Self::RuntimeClaimsMismatch => "evidence.runtime_claims_mismatch",
            Self::TdReportMismatch => "evidence.td_report_mismatch",
            Self::MeasurementUnexpected => "evidence.measurement_unexpected",
            Self::PlatformMismatch => "evidence.platform_mismatch",
            Self::NodeKeyTemplate => "evidence.node_key_template",
            Self::NodeKeyNotCertified => "evidence.node_key_not_certified",
            Self::NodeKeyPolicy => "evidence.node_key_policy",
            Self::QuoteField => "evidence.quote_field",
            Self::AttestationKeyUnbound => "evidence.attestation_key_unbound",
            Self::QeIdentityMismatch => "evidence.qe_identity_mismatch",
            Self::CollateralSignature => "evidence.collateral_signature",
            Self::CollateralValidity => "evidence.collateral_validity",
            Self::CollateralField => "evidence.collateral_field",
            Self::CollateralMismatch => "evidence.collateral_mismatch",
            Self::TdxModuleUnknown => "evidence.tdx_module_unknown",
            Self::TdxModuleMismatch => "evidence.tdx_module_mismatch",
            Self::TcbLevelMissing => "evidence.tcb_level_missing",
            Self::TcbStatusUnknown => "evidence.tcb_status_unknown",
            Self::TcbRevoked => "evidence.tcb_revoked",
            Self::DebugEnabled => "evidence.debug_enabled",
            Self::TdAttributes => "evidence.td_attributes",
            Self::RtmrReplayMismatch => "evidence.rtmr_replay_mismatch",
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}
