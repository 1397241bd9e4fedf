//! Why evidence was not authentic, or not an answer to the challenge: one variant a fact, both sides in it.

use strum::{EnumDiscriminants, EnumIter};

use crate::{
    cbor::CborError,
    digest::{Digest, HashAlg},
    time::UnixSeconds,
};

/// The evidence was judged, and refused. `code` is stable; text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(EvidenceDenialKind),
    derive(EnumIter, Hash, PartialOrd, Ord),
    doc = "The variants of [`EvidenceDenial`], to enumerate them."
)]
pub enum EvidenceDenial {
    /// Bytes do not have the structure they must have.
    #[error("{structure} malformed at offset {offset}: {what}")]
    Malformed {
        /// Which structure, by its name in the specification.
        structure: &'static str,
        /// Byte offset in that structure.
        offset: usize,
        /// Which rule.
        what: &'static str,
    },
    /// Bytes follow the structure.
    #[error("{extra_bytes} bytes after {structure}")]
    TrailingBytes {
        /// Which structure.
        structure: &'static str,
        /// How many bytes.
        extra_bytes: usize,
    },
    /// A part is larger than its cap.
    #[error("{part} of {got_bytes} bytes, at most {cap_bytes} allowed")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// Length received.
        got_bytes: usize,
        /// Length allowed.
        cap_bytes: usize,
    },
    /// CBOR around the evidence is not acceptable.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A required part did not come.
    #[error("{part} is required and absent")]
    Missing {
        /// Which part.
        part: &'static str,
    },
    /// An algorithm, curve or scheme that is not accepted.
    #[error("{what} algorithm {got:#06x} is not accepted")]
    AlgorithmRefused {
        /// What it would be used for.
        what: &'static str,
        /// TPM_ALG_ID or curve id.
        got: u16,
    },
    /// A bank or log that is only SHA-1.
    #[error("{what} uses {alg}, which is not accepted")]
    WeakHash {
        /// What uses it.
        what: &'static str,
        /// Which.
        alg: HashAlg,
    },
    /// A signature does not verify.
    #[error("signature over {over} does not verify")]
    SignatureInvalid {
        /// What was signed.
        over: &'static str,
    },
    /// The evidence answers another challenge, connection, key, audience, epoch, subject or lineage.
    #[error("binding is {got}, expected {expected}")]
    BindingMismatch {
        /// extraData in the quote, hexadecimal.
        got: String,
        /// What the challenge demands, hexadecimal.
        expected: String,
    },
    /// The challenge was over when the evidence came.
    #[error("challenge ended at {expires_at}, evidence came at {now}")]
    ChallengeExpired {
        /// When the challenge ended.
        expires_at: UnixSeconds,
        /// When it was judged.
        now: UnixSeconds,
    },
    /// PCRs other than the required ones were quoted.
    #[error("quoted PCRs {got}, required {required}")]
    PcrSelection {
        /// Bank and PCRs quoted.
        got: String,
        /// Bank and PCRs required.
        required: String,
    },
    /// The PCR values beside the quote are not the quoted ones.
    #[error("PCR values hash to {got}, the quote says {quoted}")]
    PcrDigestMismatch {
        /// Digest of the values received.
        got: String,
        /// Digest in the quote.
        quoted: String,
    },
    /// The event log does not lead to the quoted register.
    #[error("event log replays PCR {pcr} to {got}, the quote says {quoted}")]
    ReplayMismatch {
        /// PCR index.
        pcr: u8,
        /// Value the log leads to.
        got: Box<Digest>,
        /// Value in the quote.
        quoted: Box<Digest>,
    },
    /// A part has more entries than its cap.
    #[error("{part}: more than {cap}")]
    TooMany {
        /// Entries of what.
        part: &'static str,
        /// Entries allowed.
        cap: usize,
    },
    /// The event log has no digest in the bank that must be replayed.
    #[error("event {event} of the log has no {alg} digest")]
    BankMissing {
        /// The bank.
        alg: HashAlg,
        /// Position of the first event without it.
        event: usize,
    },
    /// A register that the firmware must close has no separator.
    #[error("PCR {pcr} has no separator event")]
    SeparatorMissing {
        /// PCR index.
        pcr: u32,
    },
    /// A second separator in one register.
    #[error("event {event}: a second separator in PCR {pcr}")]
    SeparatorRepeated {
        /// PCR index.
        pcr: u32,
        /// Position in the log.
        event: usize,
    },
    /// A separator that reports an error, or is not four zero bytes.
    #[error("event {event}: the separator of PCR {pcr} is not zero")]
    SeparatorNotZero {
        /// PCR index.
        pcr: u32,
        /// Position in the log.
        event: usize,
    },
    /// Firmware configuration measured after the firmware handed over.
    #[error("event {event}: {kind} in PCR {pcr} after its separator")]
    ConfigurationAfterSeparator {
        /// PCR index.
        pcr: u32,
        /// Position in the log.
        event: usize,
        /// Event type.
        kind: &'static str,
    },
    /// Event data that must hash to the event's digest does not.
    #[error("event {event} ({kind}, PCR {pcr}): data hashes to {got}, the event says {recorded}")]
    EventDataMismatch {
        /// Position in the log.
        event: usize,
        /// PCR index.
        pcr: u32,
        /// Event type.
        kind: &'static str,
        /// Digest of all the data.
        got: Box<Digest>,
        /// Digest in the event.
        recorded: Box<Digest>,
    },
    /// A type of event that has no place in a register that decisions are read from.
    #[error("event {event}: {kind} has no place in PCR {pcr}")]
    EventTypeRefused {
        /// PCR index.
        pcr: u32,
        /// Position in the log.
        event: usize,
        /// Event type.
        kind: &'static str,
    },
    /// A secure boot variable was measured twice.
    #[error("event {event}: variable measured a second time: {name}")]
    VariableRepeated {
        /// Position in the log.
        event: usize,
        /// The variable, escaped.
        name: String,
    },
    /// The SecureBoot variable is not one byte of 0 or 1.
    #[error("event {event}: SecureBoot is not a boolean ({got_bytes} bytes)")]
    SecureBootNotBoolean {
        /// Position in the log.
        event: usize,
        /// Length of its value.
        got_bytes: usize,
    },
    /// Firmware reports a debugger or missing DMA protection.
    #[error("event {event}: firmware reports: {action}")]
    ActionRefused {
        /// Position in the log.
        event: usize,
        /// What it reports, escaped.
        action: String,
    },
    /// An IMA entry's template data does not hash to its template hash.
    #[error("IMA entry {entry}: template data hashes to {got}, the entry says {recorded}")]
    ImaTemplateMismatch {
        /// Position in the log.
        entry: usize,
        /// Digest of the template data.
        got: Box<Digest>,
        /// Digest in the entry.
        recorded: Box<Digest>,
    },
    /// IMA recorded a measurement violation.
    #[error("IMA entry {entry} is a violation: {path}")]
    ImaViolation {
        /// Position in the log.
        entry: usize,
        /// The file, escaped.
        path: String,
    },
    /// An IMA entry of a register other than the quoted PCR 10.
    #[error("IMA entry {entry} is of PCR {got}, only PCR 10 is accepted")]
    ImaRegister {
        /// Position in the log.
        entry: usize,
        /// PCR of the entry.
        got: u32,
    },
    /// The IMA log cannot be what a kernel wrote, in this order.
    #[error("IMA entry {entry}: {what}")]
    ImaOrder {
        /// Position in the log.
        entry: usize,
        /// Which rule.
        what: &'static str,
    },
    /// No prefix of the IMA log leads to PCR 10.
    #[error("no prefix of {entries} IMA entries leads to PCR 10 {quoted}")]
    ImaReplayMismatch {
        /// Entries in the log.
        entries: usize,
        /// Value in the quote.
        quoted: Box<Digest>,
    },
    /// The IMA log's boot_aggregate is not of the quoted boot registers.
    #[error("IMA boot_aggregate is {got}, the boot registers give {expected}")]
    ImaBootAggregate {
        /// Digest in the log.
        got: String,
        /// Digest of the quoted registers.
        expected: String,
    },
    /// A file's signature in the IMA log does not verify under a given key.
    #[error("IMA entry {entry}: signature of {path} by key {keyid}: {what}")]
    ImaSignature {
        /// Position in the log.
        entry: usize,
        /// The file, escaped.
        path: String,
        /// Key id in the signature, hexadecimal.
        keyid: String,
        /// What is wrong.
        what: &'static str,
    },
}

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
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}
