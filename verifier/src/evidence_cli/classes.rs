//! From what evidence was denied for to the coarse class that a corpus knows.

use audit::denial::{AuditDenial, AuditDenialKind as LogKind};
use evidence::denial::{EvidenceDenial, EvidenceDenialKind as Kind};

/// The class of what a check of evidence refused.
pub(super) fn of_evidence(denial: &EvidenceDenial) -> &'static str {
    match Kind::from(denial) {
        Kind::Malformed
        | Kind::TrailingBytes
        | Kind::TooLarge
        | Kind::TooMany
        | Kind::Cbor
        | Kind::Missing
        | Kind::KindUnexpected
        | Kind::UnexpectedPart
        | Kind::AlgorithmRefused
        | Kind::QuoteField
        | Kind::KeyUnusable => "parse",
        Kind::SignatureInvalid | Kind::SchemeMismatch | Kind::ImaSignature => "signature",
        Kind::CertificateSignature
        | Kind::CertificateConstraint
        | Kind::CertificateExtension
        | Kind::EkUnanchored
        | Kind::ChainUnanchored
        | Kind::SimulatedTpm
        | Kind::Revoked => "chain",
        Kind::CertificateListSignature
        | Kind::CollateralSignature
        | Kind::CollateralField
        | Kind::CollateralMismatch
        | Kind::QeIdentityMismatch => "collateral",
        Kind::TdxModuleUnknown
        | Kind::TdxModuleMismatch
        | Kind::TcbLevelMissing
        | Kind::TcbStatusUnknown
        | Kind::TcbRevoked => "tcb",
        Kind::CertificateValidity
        | Kind::CertificateListValidity
        | Kind::CollateralValidity
        | Kind::EnrolmentNotCurrent
        | Kind::ChallengeExpired => "validity",
        Kind::PcrDigestMismatch
        | Kind::EkKeyMismatch
        | Kind::AkKeyMismatch
        | Kind::ImaBootAggregate
        | Kind::ActivationSecret
        | Kind::ActivationMismatch
        | Kind::NodeKeyNotCertified
        | Kind::NodeKeyPolicy
        | Kind::SnpSigningKey
        | Kind::SnpProductMismatch
        | Kind::SnpTcbMismatch
        | Kind::SnpChipIdMasked
        | Kind::SnpChipIdMismatch
        | Kind::RuntimeClaimsMismatch
        | Kind::TdReportMismatch
        | Kind::PlatformMismatch
        | Kind::AttestationKeyUnbound => "binding",
        Kind::BindingMismatch => "nonce",
        Kind::ReplayMismatch
        | Kind::RegisterUnproven
        | Kind::BankMissing
        | Kind::ImaReplayMismatch
        | Kind::ImaOrder
        | Kind::ImaRegister
        | Kind::RtmrReplayMismatch => "replay",
        Kind::EventDataMismatch | Kind::ImaTemplateMismatch | Kind::ImaViolation => "event-digest",
        Kind::WeakHash
        | Kind::PcrSelection
        | Kind::ResettablePcr
        | Kind::ClockUnsafe
        | Kind::TpmRestarted
        | Kind::TpmRolledBack
        | Kind::MeasurementUnexpected
        | Kind::SnpVmpl
        | Kind::SnpGuestPolicy
        | Kind::SnpPlatformInfo
        | Kind::SnpReportId
        | Kind::DebugEnabled
        | Kind::TdAttributes => "policy",
        Kind::SeparatorMissing
        | Kind::SeparatorRepeated
        | Kind::SeparatorNotZero
        | Kind::ConfigurationAfterSeparator
        | Kind::EventTypeRefused
        | Kind::VariableRepeated
        | Kind::SecureBootNotBoolean
        | Kind::ActionRefused
        | Kind::EkTemplate
        | Kind::AkTemplate
        | Kind::NodeKeyTemplate => "profile",
    }
}

/// The class of what a check of a log refused.
pub(super) fn of_log(denial: &AuditDenial) -> &'static str {
    match LogKind::from(denial) {
        LogKind::TreeTooLarge
        | LogKind::SizesNotOrdered
        | LogKind::TilePathMalformed
        | LogKind::TileLength
        | LogKind::BundleMalformed
        | LogKind::EntryTooLarge
        | LogKind::NoteKey
        | LogKind::NoteMalformed
        | LogKind::CheckpointMalformed
        | LogKind::RecordMalformed
        | LogKind::ReceiptMalformed
        | LogKind::ProofMalformed
        | LogKind::PayloadUnreadable => "parse",
        LogKind::NoteSignature | LogKind::NotSignedByLog | LogKind::SignatureInvalid => "signature",
        LogKind::FromTheFuture | LogKind::KeyOutOfTime => "validity",
        LogKind::IndexBeyondTree
        | LogKind::NodeMissing
        | LogKind::InclusionProofWrong
        | LogKind::ConsistencyProofWrong
        | LogKind::OriginMismatch
        | LogKind::DomainMismatch
        | LogKind::LineageBroken
        | LogKind::ParentMissing
        | LogKind::AttachmentStray
        | LogKind::AttachmentMissing
        | LogKind::AttachmentMismatch
        | LogKind::SizeMismatch
        | LogKind::RootMismatch
        | LogKind::TileMismatch => "binding",
        LogKind::QuorumNotMet
        | LogKind::LineageOrder
        | LogKind::DomainNotPinned
        | LogKind::ThresholdNotMet
        | LogKind::UnknownSigners => "profile",
    }
}
