//! What can go wrong with a TPM, told apart by what must follow from it.

use crate::locked::NotLocked;

/// A TPM did not do what was asked. Every variant but [`TpmError::PolicyNotMet`] is a fault: we could not find out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TpmError {
    /// No answer within the deadline; the connection and its thread are given up for good.
    #[error("the TPM did not answer {command} within {deadline_ms} ms")]
    Hung {
        /// The command waited for.
        command: &'static str,
        /// How long.
        deadline_ms: u64,
    },
    /// The transport failed; the next command connects anew.
    #[error("the TPM cannot be reached at {command} (TSS2_RC 0x{rc:08x})")]
    Unreachable {
        /// The command that failed.
        command: &'static str,
        /// TSS2_RC of the transport layer.
        rc: u32,
    },
    /// Object or session slots are taken (TPM_RC_OBJECT_MEMORY, SESSION_MEMORY, SESSION_HANDLES, OBJECT_HANDLES).
    #[error("the TPM has no free handle for {command} (TPM_RC 0x{rc:03x}): another program holds them")]
    HandlesExhausted {
        /// The command that failed.
        command: &'static str,
        /// TPM_RC.
        rc: u32,
    },
    /// Dictionary-attack lockout (TPM_RC_LOCKOUT).
    #[error("the TPM is in dictionary-attack lockout at {command}")]
    Lockout {
        /// The command that failed.
        command: &'static str,
    },
    /// The PCRs are not those that the key is bound to (TPM_RC_POLICY_FAIL, TPM_RC_VALUE at PolicyPCR): the one denial here.
    #[error("the TPM refuses {command}: the PCRs are not those the key is bound to")]
    PolicyNotMet {
        /// The command refused.
        command: &'static str,
    },
    /// PCRs kept changing between reading and using them.
    #[error("PCRs changed during each of {attempts} attempts at {command}")]
    PcrsUnstable {
        /// What was attempted.
        command: &'static str,
        /// How often.
        attempts: u32,
    },
    /// A PCR of this bank cannot be read: the bank is not allocated.
    #[error("the TPM has no {bank} bank for PCR {pcr}")]
    BankAbsent {
        /// Bank.
        bank: &'static str,
        /// First PCR without a value.
        pcr: u8,
    },
    /// A saved key does not belong to this TPM any more (cleared, or another TPM).
    #[error("the saved {key} does not load into this TPM (TPM_RC 0x{rc:03x}): it was cleared or replaced")]
    KeyLost {
        /// Which key.
        key: &'static str,
        /// TPM_RC.
        rc: u32,
    },
    /// Any other response code.
    #[error("the TPM refused {command} (TPM_RC 0x{rc:03x})")]
    Refused {
        /// The command.
        command: &'static str,
        /// TPM_RC.
        rc: u32,
    },
    /// The TPM or libtss2 gave something that cannot be.
    #[error("unusable answer at {command}: {what}")]
    Malformed {
        /// The command.
        command: &'static str,
        /// What was wrong.
        what: String,
    },
    /// A sealed message does not open with this key: other key, context or altered bytes.
    #[error("sealed message does not open")]
    NotForThisKey,
    /// The memory for what was opened cannot be locked.
    #[error(transparent)]
    NotLocked(#[from] NotLocked),
    /// The actor's thread is gone.
    #[error("the TPM thread has ended")]
    Ended,
}

impl TpmError {
    /// The response code of a refusal that has no variant of its own.
    #[must_use]
    pub const fn refused_rc(&self) -> Option<u32> {
        if let Self::Refused { rc, .. } = self { Some(*rc) } else { None }
    }

    /// `denied` or `fault`.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::PolicyNotMet { .. } | Self::NotForThisKey => "denied",
            Self::Hung { .. }
            | Self::Unreachable { .. }
            | Self::HandlesExhausted { .. }
            | Self::Lockout { .. }
            | Self::PcrsUnstable { .. }
            | Self::BankAbsent { .. }
            | Self::KeyLost { .. }
            | Self::Refused { .. }
            | Self::Malformed { .. }
            | Self::NotLocked(_)
            | Self::Ended => "fault",
        }
    }

    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Hung { .. } => "fault.tpm_hung",
            Self::Unreachable { .. } => "fault.tpm_unreachable",
            Self::HandlesExhausted { .. } => "fault.tpm_handles_exhausted",
            Self::Lockout { .. } => "fault.tpm_lockout",
            Self::PolicyNotMet { .. } => "evidence.node_key_policy_not_met",
            Self::PcrsUnstable { .. } => "fault.tpm_pcrs_unstable",
            Self::BankAbsent { .. } => "fault.tpm_bank_absent",
            Self::KeyLost { .. } => "fault.tpm_key_lost",
            Self::Refused { .. } => "fault.tpm_refused",
            Self::Malformed { .. } => "fault.tpm_malformed",
            Self::NotForThisKey => "governance.key_not_for_this_node",
            Self::NotLocked(_) => "fault.memory_not_locked",
            Self::Ended => "fault.tpm_ended",
        }
    }
}
