//! Halt record: a node's signed word that it stopped, why, and what it killed and wiped (phase 7).

use std::collections::BTreeMap;

use evidence::{
    cose::{KeySet, Purpose, SigningKey},
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
    text::Text,
};

/// Version of the record.
pub const HALT_VERSION: u8 = 1;
/// Longest encoded halt record, in bytes.
pub const HALT_CAP_BYTES: usize = 16 * 1024;
/// Most artifacts, and most executions, in one halt record.
pub const HALT_LIST_CAP: usize = 64;

/// Refuses a node's record that names too many lineage records, or a domain with none.
pub(crate) fn authorizations_bounded(
    what: &'static str,
    authorizations: &BTreeMap<DomainName, Vec<Sha256Digest>>,
) -> Result<(), GovernanceDenial> {
    let named: usize = authorizations.values().map(Vec::len).sum();
    if named > HALT_LIST_CAP || authorizations.values().any(Vec::is_empty) {
        let rule = "at most 64 records, of domains that have any";
        return Err(GovernanceDenial::FieldInvalid { what, field: "authorizations", rule });
    }
    Ok(())
}

const KIND: Kind = Kind { name: "halt record", cap_bytes: HALT_CAP_BYTES };

/// What made the node stop. Each has its own stable code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum HaltReason {
    /// A domain refused a renewal.
    RefusedAtRenewal {
        /// Which domain.
        domain: DomainName,
        /// Its code.
        code: Text,
        /// Why it was asked then.
        trigger: Trigger,
    },
    /// Too few leases were renewed in time.
    LeaseEnded,
    /// A domain pushed a revocation or a halt.
    Revoked {
        /// Which domain.
        domain: DomainName,
        /// What it named.
        code: Text,
    },
    /// A watched PCR changed.
    PcrChanged {
        /// PCR index.
        pcr: u8,
    },
    /// The IMA log holds less than what was judged of it, or is gone.
    ImaRolledBack,
    /// The TPM was reset: the machine was started anew, or the TPM was.
    TpmReset,
    /// The TPM was restarted or resumed: the machine was suspended to memory or disk.
    TpmRestarted,
    /// The TPM's clock or counters are lower than they were: another TPM, or a restored copy.
    TpmRolledBack,
    /// The TPM no longer vouches for its clock: it may have reported the same time before.
    TpmClockUnsafe,
    /// The TPM or TEE device no longer answers.
    DeviceLost,
    /// A verifier's log is inconsistent with what the node has seen of it.
    LogForked {
        /// Whose log.
        domain: DomainName,
    },
    /// The clock went back.
    ClockWentBack {
        /// By how many seconds.
        by_s: u64,
    },
    /// An operator asked for it.
    Operator {
        /// What the operator gave as reason.
        reason: Text,
    },
    /// One domain permits what a rule of another forbids.
    PolicyConflict {
        /// Which permits.
        permitting: DomainName,
        /// By which rules; empty if it named none.
        permits: Vec<Text>,
        /// Which forbids.
        forbidding: DomainName,
        /// By which rules; empty if it named none.
        forbids: Vec<Text>,
    },
    /// The daemon found a halt without its record at start: it had died while halting.
    Interrupted,
}

/// Why a node asks for a renewal: because it is due, or because of something that only a verifier can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// It was due.
    Scheduled,
    /// The IMA log holds entries that no verifier has judged.
    ImaAppended,
    /// The machine was suspended and goes on.
    Resumed,
    /// Another program used this node's standing request for reports, or the TEE's kernel interface began anew.
    TeeDisturbed,
}

impl Trigger {
    /// Stable code of a halt that follows when a verifier refuses.
    #[must_use]
    pub const fn halt_code(self) -> &'static str {
        match self {
            Self::Scheduled => "halt.refused_at_renewal",
            Self::ImaAppended => "halt.ima_changed",
            Self::Resumed => "halt.suspended",
            Self::TeeDisturbed => "halt.tee_disturbed",
        }
    }
}

impl HaltReason {
    /// Stable code, `halt.<trigger>`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RefusedAtRenewal { trigger, .. } => trigger.halt_code(),
            Self::LeaseEnded => "halt.lease_ended",
            Self::Revoked { .. } => "halt.revoked",
            Self::PcrChanged { .. } => "halt.pcr_changed",
            Self::ImaRolledBack => "halt.ima_rolled_back",
            Self::TpmReset => "halt.tpm_reset",
            Self::TpmRestarted => "halt.tpm_restarted",
            Self::TpmRolledBack => "halt.tpm_rolled_back",
            Self::TpmClockUnsafe => "halt.tpm_clock_unsafe",
            Self::DeviceLost => "halt.device_lost",
            Self::LogForked { .. } => "halt.log_forked",
            Self::ClockWentBack { .. } => "halt.clock_went_back",
            Self::Operator { .. } => "halt.operator",
            Self::PolicyConflict { .. } => "halt.policy_conflict",
            Self::Interrupted => "halt.interrupted",
        }
    }
}

/// How an execution was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KilledBy {
    /// cgroup.kill.
    Cgroup,
    /// SIGKILL to every descendant.
    Signal,
    /// cgroup.freeze: stopped, not ended.
    Freeze,
    /// SIGTERM, and SIGKILL to what was left after its grace.
    Drain,
    /// It lost its keys and was told; it ends with the lease that it had.
    Lease,
    /// It had already ended by itself.
    AlreadyEnded,
}

/// One execution that the halt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Killed {
    /// Digest of its intent.
    pub intent: Sha256Digest,
    /// How.
    pub by: KilledBy,
    /// How many processes were found and ended.
    pub processes: u32,
}

/// The record itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaltRecord {
    /// [`HALT_VERSION`].
    pub version: u8,
    /// The domain that is told: each has a record of its own.
    pub domain: DomainName,
    /// Which node.
    pub node: NodeId,
    /// Why.
    pub reason: HaltReason,
    /// Digests of the artifacts that were live.
    pub artifacts: Vec<Sha256Digest>,
    /// The lineage records by which each domain last authorized them, by domain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorizations: BTreeMap<DomainName, Vec<Sha256Digest>>,
    /// Digest of the newest evidence that the node gave, if it gave any.
    pub last_evidence: Option<Sha256Digest>,
    /// What ran and was ended.
    pub killed: Vec<Killed>,
    /// How many execution keys were wiped.
    pub keys_wiped: u32,
    /// When they were, by the node's clock.
    pub keys_wiped_at: UnixSeconds,
    /// When the node halted, by its clock.
    pub halted_at: UnixSeconds,
    /// Newest record of its lineage that the node knows.
    pub lineage_head: Sha256Digest,
}

impl HaltRecord {
    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a list is too long.
    pub fn encode(&self) -> Result<Vec<u8>, GovernanceDenial> {
        self.bounded()?;
        codec::write(KIND, self)
    }

    /// Reads a halt record; its signature is not judged here.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn decode(payload: &[u8]) -> Result<Self, GovernanceDenial> {
        let record: Self = codec::read(KIND, payload)?;
        record.bounded()?;
        Ok(record)
    }

    /// SHA-256 of its deterministic CBOR: what a readmission and the log name it by.
    ///
    /// # Errors
    /// As for [`HaltRecord::encode`].
    pub fn digest(&self) -> Result<Sha256Digest, GovernanceDenial> {
        Ok(Sha256Digest::of(&self.encode()?))
    }

    /// Signs it with the node's record key.
    ///
    /// # Errors
    /// As for [`HaltRecord::encode`].
    pub fn sign(&self, record_key: &SigningKey) -> Result<Vec<u8>, GovernanceDenial> {
        codec::sign(KIND, Purpose::HaltRecord, &self.domain, &self.encode()?, record_key)
    }

    /// Reads a halt record of `node` for `told`, signed by that node's record key.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for the first rule broken.
    pub fn verify(
        bytes: &[u8],
        told: &DomainName,
        node: &NodeId,
        record_keys: &KeySet,
    ) -> Result<Self, GovernanceDenial> {
        let signed = codec::verify(KIND, Purpose::HaltRecord, told, bytes, record_keys)?;
        let record = Self::decode(signed.payload())?;
        codec::addressed(KIND.name, (&record.domain, told), (&record.node, node))?;
        Ok(record)
    }

    fn bounded(&self) -> Result<(), GovernanceDenial> {
        codec::version(KIND.name, self.version, HALT_VERSION)?;
        authorizations_bounded(KIND.name, &self.authorizations)?;
        if self.artifacts.len() > HALT_LIST_CAP || self.killed.len() > HALT_LIST_CAP {
            let rule = "at most 64 artifacts and executions";
            return Err(GovernanceDenial::FieldInvalid { what: KIND.name, field: "lists", rule });
        }
        Ok(())
    }
}
