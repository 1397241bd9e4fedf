//! What a lineage record can say: digests and small typed facts, never evidence or personal data.

use serde_bytes::ByteArray;
use strum::EnumIter;

use super::{Deserialize, DomainName, ItemName, PublicKey, Serialize, Sha256Digest, UnixSeconds};

/// A stable code (`evidence.pcr_digest_mismatch`, `halt.pcr_changed`): `a-z 0-9 . _`, 1 to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(String);

impl Code {
    /// Admits a well-formed code.
    ///
    /// # Errors
    /// The rule, when it is not.
    pub fn new(text: impl Into<String>) -> Result<Self, &'static str> {
        let text = text.into();
        let formed = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_');
        if formed && (1..=64).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err("a code is 1 to 64 characters of a-z 0-9 . _")
        }
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Code {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(text)
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.0
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetKind {
    /// Reference values.
    References,
    /// Policies.
    Policy,
    /// The witnesses that nodes count. Its version is the sequence of the statement that orders it, its digest the
    /// statement's.
    Witnesses,
}

/// What tells one boot of a machine from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Boot {
    /// The counters of its TPM's signed clock.
    Tpm {
        /// TPM resets.
        reset_count: u32,
        /// TPM restarts since the last reset.
        restart_count: u32,
    },
    /// What its SNP guest drew at launch.
    SevSnp {
        /// REPORT_ID of the report.
        report_id: ByteArray<32>,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum RecordBody {
    /// A node proved what it is. Origin of its lineage; a later one starts a new identity of the same node id.
    Enrolment {
        /// Digest of the enrolment record.
        enrolment: Sha256Digest,
        /// Digest of the EK public area; of the platform's name for a TEE without a TPM.
        machine: Sha256Digest,
        /// The node's record key: signs its intents, halt and end records from here on.
        record_key: PublicKey,
    },
    /// An operator admitted an EK, a platform or a pending node.
    Admission {
        /// Digest of the EK public area or of the platform's name.
        machine: Sha256Digest,
    },
    /// Evidence was kept as a source of reference values; nothing was granted.
    Capture {
        /// Digest of the evidence.
        evidence: Sha256Digest,
    },
    /// A node asked for an execution.
    Intent {
        /// Digest of the intent.
        intent: Sha256Digest,
    },
    /// An execution was authorized.
    Authorization {
        /// Artifact id.
        artifact: ByteArray<16>,
        /// Digest of the artifact's terms (the artifact names this record, so its own digest cannot stand here).
        terms: Sha256Digest,
        /// Digest of the Attestation Result.
        result: Sha256Digest,
        /// Digest of the evidence.
        evidence: Sha256Digest,
        /// Digest of the governance state.
        state: Sha256Digest,
        /// Lease sequence number.
        lease_seq: u64,
        /// Digest of the X509-SVID (its certificate, DER) that the execution gets for this lease.
        svid: Sha256Digest,
    },
    /// Execution keys were wrapped for the node.
    Release {
        /// Artifact id.
        artifact: ByteArray<16>,
        /// Their names.
        keys: Vec<ItemName>,
    },
    /// A JWT-SVID was signed for an execution.
    JwtSvid {
        /// Artifact id.
        artifact: ByteArray<16>,
        /// Digest of the JWT-SVID in its compact form.
        svid: Sha256Digest,
        /// First second in which it no longer counts.
        expires_at: UnixSeconds,
    },
    /// An authorization was renewed on fresh evidence.
    Renewal {
        /// Artifact id.
        artifact: ByteArray<16>,
        /// Digest of the renewed artifact's terms.
        terms: Sha256Digest,
        /// Digest of the Attestation Result.
        result: Sha256Digest,
        /// Digest of the evidence.
        evidence: Sha256Digest,
        /// Digest of the governance state.
        state: Sha256Digest,
        /// Lease sequence number.
        lease_seq: u64,
        /// Digest of the X509-SVID (its certificate, DER) that the execution gets for this lease.
        svid: Sha256Digest,
    },
    /// A request was judged and refused.
    Denial {
        /// Code of the first failure.
        code: Code,
        /// Digest of the evidence, when the request got so far.
        evidence: Option<Sha256Digest>,
        /// Digest of the Attestation Result, when one was made.
        result: Option<Sha256Digest>,
        /// Digest of the governance state.
        state: Option<Sha256Digest>,
    },
    /// A node halted.
    Halt {
        /// Digest of the node's halt record.
        halt: Sha256Digest,
        /// Code of the trigger.
        code: Code,
    },
    /// An execution ended by itself.
    End {
        /// Digest of the node's end record.
        end: Sha256Digest,
    },
    /// The domain put a node aside, or a halt record is missing.
    Quarantine {
        /// Why.
        code: Code,
    },
    /// A node's machine was started anew, as its own signed evidence shows: whatever it held before is over.
    Restart {
        /// Digest of the evidence that showed it.
        evidence: Sha256Digest,
        /// The boot, from here on.
        boot: Boot,
    },
    /// Something that somebody must look at; by itself it takes nothing from the node.
    Alarm {
        /// What.
        code: Code,
        /// Artifact id that it is about.
        artifact: ByteArray<16>,
    },
    /// The policy authority took a node back.
    Readmission {
        /// Digest of the statement.
        statement: Sha256Digest,
        /// Digest of the halt record that it answers; zero for a quarantine without one.
        halt: Sha256Digest,
        /// Governance epoch from which it counts.
        epoch: u64,
    },
    /// A set that enough keys signed was taken in. It has no effect yet.
    Staging {
        /// Which kind.
        what: SetKind,
        /// Its version.
        version: u64,
        /// Its digest.
        set: Sha256Digest,
    },
    /// A set became active.
    Activation {
        /// Which kind.
        what: SetKind,
        /// Its version.
        version: u64,
        /// Its digest.
        set: Sha256Digest,
        /// Digest of the statement.
        statement: Sha256Digest,
    },
    /// A set was replaced by another.
    Supersession {
        /// Which kind.
        what: SetKind,
        /// Its version.
        version: u64,
        /// Its digest.
        set: Sha256Digest,
        /// Digest of the set that replaced it.
        by: Sha256Digest,
        /// Digest of the statement.
        statement: Sha256Digest,
    },
    /// A governance state was issued.
    GovernanceState {
        /// Its digest.
        state: Sha256Digest,
        /// Its epoch.
        epoch: u64,
    },
    /// Something was revoked.
    Revocation {
        /// Digest of the revocation.
        revocation: Sha256Digest,
        /// Digest of the statement that ordered it, when one did.
        statement: Option<Sha256Digest>,
    },
    /// A partner's state was taken, or refused.
    Federation {
        /// The partner.
        partner: DomainName,
        /// Digest of its state.
        state: Sha256Digest,
        /// What was concluded.
        code: Code,
    },
}

/// Kinds of record, to enumerate and to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter)]
#[allow(missing_docs, reason = "each is the variant of RecordBody of that name")]
pub enum RecordKind {
    Enrolment,
    Admission,
    Capture,
    Intent,
    Authorization,
    Release,
    JwtSvid,
    Renewal,
    Denial,
    Halt,
    End,
    Quarantine,
    Restart,
    Alarm,
    Readmission,
    Staging,
    Activation,
    Supersession,
    GovernanceState,
    Revocation,
    Federation,
}

impl RecordBody {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Enrolment { .. } => RecordKind::Enrolment,
            Self::Admission { .. } => RecordKind::Admission,
            Self::Capture { .. } => RecordKind::Capture,
            Self::Intent { .. } => RecordKind::Intent,
            Self::Authorization { .. } => RecordKind::Authorization,
            Self::Release { .. } => RecordKind::Release,
            Self::JwtSvid { .. } => RecordKind::JwtSvid,
            Self::Renewal { .. } => RecordKind::Renewal,
            Self::Denial { .. } => RecordKind::Denial,
            Self::Halt { .. } => RecordKind::Halt,
            Self::End { .. } => RecordKind::End,
            Self::Quarantine { .. } => RecordKind::Quarantine,
            Self::Restart { .. } => RecordKind::Restart,
            Self::Alarm { .. } => RecordKind::Alarm,
            Self::Readmission { .. } => RecordKind::Readmission,
            Self::Staging { .. } => RecordKind::Staging,
            Self::Activation { .. } => RecordKind::Activation,
            Self::Supersession { .. } => RecordKind::Supersession,
            Self::GovernanceState { .. } => RecordKind::GovernanceState,
            Self::Revocation { .. } => RecordKind::Revocation,
            Self::Federation { .. } => RecordKind::Federation,
        }
    }
}

/// What an authorization or a renewal granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Artifact id.
    pub artifact: [u8; 16],
    /// Digest of the artifact's terms.
    pub terms: Sha256Digest,
    /// Digest of the Attestation Result.
    pub result: Sha256Digest,
    /// Digest of the evidence.
    pub evidence: Sha256Digest,
    /// Digest of the governance state.
    pub state: Sha256Digest,
    /// Lease sequence number.
    pub lease_seq: u64,
    /// Digest of the X509-SVID.
    pub svid: Sha256Digest,
}

impl RecordBody {
    /// What it granted, when it is an authorization or a renewal.
    #[must_use]
    pub const fn granted(&self) -> Option<Granted> {
        let (Self::Authorization { artifact, terms, result, evidence, state, lease_seq, svid }
        | Self::Renewal { artifact, terms, result, evidence, state, lease_seq, svid }) = self
        else {
            return None;
        };
        let artifact = artifact.into_array();
        let (terms, result, evidence, state) = (*terms, *result, *evidence, *state);
        Some(Granted { artifact, terms, result, evidence, state, lease_seq: *lease_seq, svid: *svid })
    }

    /// Digest of what the node itself said, when it records that.
    #[must_use]
    pub const fn node_said(&self) -> Option<Sha256Digest> {
        match self {
            Self::Intent { intent: said } | Self::Halt { halt: said, .. } | Self::End { end: said } => Some(*said),
            Self::Enrolment { .. }
            | Self::Admission { .. }
            | Self::Capture { .. }
            | Self::Authorization { .. }
            | Self::Release { .. }
            | Self::JwtSvid { .. }
            | Self::Renewal { .. }
            | Self::Denial { .. }
            | Self::Quarantine { .. }
            | Self::Restart { .. }
            | Self::Alarm { .. }
            | Self::Readmission { .. }
            | Self::Staging { .. }
            | Self::Activation { .. }
            | Self::Supersession { .. }
            | Self::GovernanceState { .. }
            | Self::Revocation { .. }
            | Self::Federation { .. } => None,
        }
    }

    /// Digest of the Attestation Result, when it names one.
    #[must_use]
    pub const fn result(&self) -> Option<Sha256Digest> {
        if let Self::Denial { result, .. } = self {
            return *result;
        }
        match self.granted() {
            Some(granted) => Some(granted.result),
            None => None,
        }
    }
}

impl RecordKind {
    /// Name as in the log's JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enrolment => "enrolment",
            Self::Admission => "admission",
            Self::Capture => "capture",
            Self::Intent => "intent",
            Self::Authorization => "authorization",
            Self::Release => "release",
            Self::JwtSvid => "jwt_svid",
            Self::Renewal => "renewal",
            Self::Denial => "denial",
            Self::Halt => "halt",
            Self::End => "end",
            Self::Quarantine => "quarantine",
            Self::Restart => "restart",
            Self::Alarm => "alarm",
            Self::Readmission => "readmission",
            Self::Staging => "staging",
            Self::Activation => "activation",
            Self::Supersession => "supersession",
            Self::GovernanceState => "governance_state",
            Self::Revocation => "revocation",
            Self::Federation => "federation",
        }
    }

    /// Whether it belongs to one node's chain. An admission comes before the node has one, and a denial may be of a
    /// stranger: those two may, but need not, name a node, and only the denial of an enrolled node is in its chain.
    #[must_use]
    pub const fn is_of_a_node(self) -> bool {
        match self {
            Self::Enrolment
            | Self::Capture
            | Self::Intent
            | Self::Authorization
            | Self::Release
            | Self::JwtSvid
            | Self::Renewal
            | Self::Halt
            | Self::End
            | Self::Quarantine
            | Self::Restart
            | Self::Alarm
            | Self::Readmission => true,
            Self::Admission
            | Self::Denial
            | Self::Staging
            | Self::Activation
            | Self::Supersession
            | Self::GovernanceState
            | Self::Revocation
            | Self::Federation => false,
        }
    }
}

impl std::fmt::Display for RecordKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
