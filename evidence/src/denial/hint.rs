//! What to do about a denial, in one line for operators.

use super::EvidenceDenialKind;

impl EvidenceDenialKind {
    /// What to do about it, where the machine, its evidence or the verifier is to be changed.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Malformed
            | Self::TrailingBytes
            | Self::TooLarge
            | Self::TooMany
            | Self::Cbor
            | Self::UnexpectedPart => {
                "it is not what this version reads: compare the versions of node and verifier, else look at who sent it"
            }
            Self::Missing => "give the part that is named: a log, a certificate, a revocation list",
            Self::AlgorithmRefused | Self::WeakHash | Self::KeyUnusable | Self::SchemeMismatch => {
                "use SHA-256 or stronger, and keys on P-256, P-384 or RSA of 2048 bits and more"
            }
            Self::SignatureInvalid => {
                "it was changed after signing, or another key signed it: attest again; if it stays so, look at the machine"
            }
            Self::BindingMismatch => {
                "the evidence answers another challenge, connection, key or history: ask for a new challenge"
            }
            Self::ChallengeExpired => "ask for a new challenge, and check the clocks",
            Self::PcrSelection => "quote the PCRs that the challenge names",
            Self::PcrDigestMismatch => "read the PCRs again: one changed between quote and reading",
            Self::ReplayMismatch | Self::RtmrReplayMismatch | Self::RegisterUnproven => {
                "something was measured that the event log does not hold: restart the machine"
            }
            Self::BankMissing => "let the firmware measure into the quoted bank, or quote a bank that it measures into",
            Self::SeparatorMissing
            | Self::SeparatorRepeated
            | Self::SeparatorNotZero
            | Self::ConfigurationAfterSeparator
            | Self::EventDataMismatch
            | Self::EventTypeRefused
            | Self::VariableRepeated
            | Self::SecureBootNotBoolean => {
                "look at the event that is named: firmware that measures so is broken or altered; update it"
            }
            Self::ActionRefused => {
                "leave the firmware's debug mode and turn on its DMA protection, then restart the machine"
            }
            Self::ImaTemplateMismatch | Self::ImaRegister | Self::ImaOrder | Self::ImaReplayMismatch => {
                "the IMA log was altered or cut: read binary_runtime_measurements again"
            }
            Self::ImaViolation => "a file was written while it was measured: find out which, then restart the machine",
            Self::ImaBootAggregate => "the IMA log is of another boot: read it again, else restart the machine",
            Self::ImaSignature => "give the key that signed the file, or have it signed by a key that is given",
            Self::KindUnexpected => "enrol the node as the kind of machine that it is",
            Self::Revoked => "it was taken back on purpose: replace the key, the certificate or the platform",
            Self::EkUnanchored | Self::ChainUnanchored => {
                "add the root to the trust anchors, or pin the EK, if you trust it"
            }
            Self::CertificateValidity => "check the clocks, else get a certificate that is in force",
            Self::CertificateSignature | Self::CertificateConstraint | Self::CertificateExtension => {
                "the chain is not as its vendor makes it: get the certificates from the vendor"
            }
            Self::CertificateListSignature | Self::CertificateListValidity => {
                "import the vendor's newest revocation list (verifier endorsements import)"
            }
            Self::SimulatedTpm => "only a lab trusts software TPMs (verifier init --lab)",
            Self::EkKeyMismatch | Self::AkKeyMismatch => {
                "the certificate is of another key: send the one that this TPM's key has"
            }
            Self::EkTemplate => "use a default EK template of the TCG EK Credential Profile",
            Self::AkTemplate | Self::NodeKeyTemplate | Self::NodeKeyNotCertified => {
                "let attestd make its keys on this TPM itself: enrol the node again"
            }
            Self::NodeKeyPolicy => {
                "a boot register changed since the node key was made: restart attestd, which makes another"
            }
            Self::ActivationSecret | Self::ActivationMismatch | Self::EnrolmentNotCurrent => "enrol the node again",
            Self::ResettablePcr => "leave the PCRs that can be reset out of the selection",
            Self::ClockUnsafe => "the TPM lost power without an orderly shutdown: restart the machine in order",
            Self::TpmRestarted => "the machine was restarted: let the node enrol or attest its restart",
            Self::TpmRolledBack => "TPM state went back: a clone or a restored state; look at the machine",
            Self::SnpSigningKey => "let the host sign with the kind of key that the certificates are of",
            Self::SnpProductMismatch | Self::SnpTcbMismatch | Self::SnpChipIdMismatch => {
                "import the certificate of this chip at its present TCB (verifier endorsements import)"
            }
            Self::SnpChipIdMasked => "let the host show CHIP_ID, or sign with a VLEK",
            Self::SnpVmpl => "let the guest ask for its report itself",
            Self::SnpGuestPolicy | Self::DebugEnabled | Self::TdAttributes => "launch the guest without what is named",
            Self::SnpPlatformInfo => "update the verifier: the platform reports something that it does not know",
            Self::SnpReportId => "a guest that was launched anew starts anew: what it held before is over",
            Self::RuntimeClaimsMismatch | Self::TdReportMismatch => {
                "take report, claims and quotes from one machine at one time"
            }
            Self::MeasurementUnexpected => "if the guest was changed on purpose, expect its new measurement",
            Self::PlatformMismatch => "the node moved: enrol it on its new platform under another name",
            Self::QuoteField => "collect a DCAP quote of version 4 or 5 of a trust domain",
            Self::AttestationKeyUnbound | Self::QeIdentityMismatch => "let the host run Intel's own quoting enclave",
            Self::CollateralSignature | Self::CollateralField | Self::CollateralMismatch => {
                "import Intel's collateral for this kind of platform (verifier endorsements import)"
            }
            Self::CollateralValidity => "import newer collateral (verifier endorsements import), and check the clocks",
            Self::TdxModuleUnknown | Self::TdxModuleMismatch | Self::TcbLevelMissing | Self::TcbRevoked => {
                "update the platform's TDX module, firmware and microcode"
            }
            Self::TcbStatusUnknown => "update the verifier: Intel says something that it does not know",
        }
    }
}
