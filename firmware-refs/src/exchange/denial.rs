//! Why a file of another format does not become a set: one variant a fact, with its stable code.

use std::fmt;

use strum::{EnumDiscriminants, EnumIter, IntoEnumIterator as _};

use super::signers::Hardware;
use crate::set::SetError;
use crate::text::{Moment, Text};

/// A file was read, and refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(ImportDenialKind),
    derive(EnumIter, Hash, PartialOrd, Ord),
    doc = "The variants of [`ImportDenial`], to enumerate them."
)]
pub enum ImportDenial {
    /// The file, or the set it would become, is larger than its cap.
    #[error("{got_bytes} bytes, at most {cap_bytes} are read")]
    TooLarge {
        /// Length.
        got_bytes: usize,
        /// Length allowed.
        cap_bytes: usize,
    },
    /// The file ends within an item.
    #[error("the file ends early, at offset {offset}")]
    Truncated {
        /// Where.
        offset: usize,
    },
    /// More items, triples or tags than allowed, or nested deeper.
    #[error("more than {cap} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        cap: usize,
    },
    /// The bytes are not of the format.
    #[error("not of the format at offset {offset}: {what}")]
    Malformed {
        /// Where, in the document or in the embedded one that is being read.
        offset: usize,
        /// Which rule.
        what: Text,
    },
    /// The file carries no signature, and an unsigned import was not asked for.
    #[error("the file is not signed")]
    Unsigned,
    /// No signer is allowed for this environment and kind of hardware.
    #[error("no signer is allowed for {hardware} in environment {environment}")]
    SignerAbsent {
        /// Environment of the set.
        environment: Text,
        /// Kind of hardware that the file is about; absent where it was not yet read.
        hardware: HardwareText,
    },
    /// A signature algorithm that is not accepted.
    #[error("signature algorithm {got} is not accepted")]
    Algorithm {
        /// As the file names it.
        got: Text,
    },
    /// No allowed signer signed these bytes.
    #[error("none of the {tried} allowed signers signed the file")]
    SignatureInvalid {
        /// How many keys were tried.
        tried: usize,
    },
    /// The file does not hold yet.
    #[error("the file holds from {not_before}, it is {now}")]
    NotYetValid {
        /// When it begins to.
        not_before: Moment,
        /// When it was read.
        now: Moment,
    },
    /// The file no longer holds.
    #[error("the file held until {not_after}, it is {now}")]
    Expired {
        /// When it ended.
        not_after: Moment,
        /// When it was read.
        now: Moment,
    },
    /// One tag id stands for two contents.
    #[error("tag {tag} stands twice, with different contents")]
    TagCollision {
        /// Its id.
        tag: Text,
    },
    /// Tags replace each other in a circle.
    #[error("tag {tag} is replaced by a tag that it replaces")]
    SupersedeCycle {
        /// A tag of the circle.
        tag: Text,
    },
    /// A profile that this version does not know.
    #[error("profile {got} is not known")]
    ProfileUnknown {
        /// As the file names it.
        got: Text,
    },
    /// Values of an environment that the profile does not describe.
    #[error("environment {got} is not one of profile {profile}")]
    EnvironmentUnknown {
        /// In words.
        got: Text,
        /// The profile.
        profile: &'static str,
    },
    /// A value that a set cannot hold, and that may not be left out.
    #[error("{at}: {what}")]
    Inexpressible {
        /// Where.
        at: Text,
        /// What.
        what: Text,
    },
    /// The file names no reference value.
    #[error("the file holds no reference value")]
    Empty,
    /// The base has no section of the kind that the file is about.
    #[error("the base set has no section [{section}] to complete the file's values")]
    BaseLacks {
        /// The section.
        section: &'static str,
    },
    /// The draft would not be a usable set.
    #[error(transparent)]
    SetUnusable(#[from] SetError),
}

/// A kind of hardware, or that it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareText(pub Option<Hardware>);

impl fmt::Display for HardwareText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(hardware) => hardware.fmt(f),
            None => f.write_str("any hardware"),
        }
    }
}

impl ImportDenial {
    pub(super) fn malformed(offset: usize, what: &str) -> Self {
        Self::Malformed { offset, what: Text::lossy(what) }
    }

    pub(super) fn inexpressible(at: &str, what: &str) -> Self {
        Self::Inexpressible { at: Text::lossy(at), what: Text::lossy(what) }
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        ImportDenialKind::from(self).code()
    }
}

impl ImportDenialKind {
    /// Stable code, `import.<fact>`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "import.too_large",
            Self::Truncated => "import.truncated",
            Self::TooMany => "import.too_many",
            Self::Malformed => "import.malformed",
            Self::Unsigned => "import.unsigned",
            Self::SignerAbsent => "import.signer_absent",
            Self::Algorithm => "import.algorithm",
            Self::SignatureInvalid => "import.signature_invalid",
            Self::NotYetValid => "import.not_yet_valid",
            Self::Expired => "import.expired",
            Self::TagCollision => "import.tag_collision",
            Self::SupersedeCycle => "import.supersede_cycle",
            Self::ProfileUnknown => "import.profile_unknown",
            Self::EnvironmentUnknown => "import.environment_unknown",
            Self::Inexpressible => "import.inexpressible",
            Self::Empty => "import.empty",
            Self::BaseLacks => "import.base_lacks",
            Self::SetUnusable => "import.set_unusable",
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }
}
