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
        got: Digest,
        /// Value in the quote.
        quoted: Digest,
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
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}
