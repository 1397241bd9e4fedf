//! Why no value can be calculated from an artifact.

/// Why no value can be calculated from an artifact. Each names the structure as its specification does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// Longer than anything that could be meant.
    #[error("{what} of {got_bytes} bytes, at most {cap_bytes} allowed")]
    TooLarge {
        /// The artifact.
        what: &'static str,
        /// Its length.
        got_bytes: usize,
        /// Longest allowed.
        cap_bytes: usize,
    },
    /// More of something than could be meant.
    #[error("{got} {what}, {min} to {cap} allowed")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many.
        got: u64,
        /// Fewest allowed.
        min: u64,
        /// Most allowed.
        cap: u64,
    },
    /// A structure breaks its format.
    #[error("{structure} at offset {offset:#x}: {what}")]
    Malformed {
        /// The structure.
        structure: &'static str,
        /// Offset in bytes from the start of the artifact.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A structure that the calculation needs is not there.
    #[error("the image has no {what}")]
    Missing {
        /// The structure.
        what: &'static str,
    },
    /// Two ranges of guest memory that would be measured share addresses.
    #[error("memory from {first:#x} to {first_end:#x} and from {second:#x} overlap")]
    Overlap {
        /// Start of the lower one, guest physical address.
        first: u64,
        /// Its end.
        first_end: u64,
        /// Start of the other.
        second: u64,
    },
    /// A section whose measurement is not specified for the machine in question.
    #[error("section type {kind:#x} is not one that is known how to measure")]
    SectionUnknown {
        /// Its type.
        kind: u32,
    },
    /// A value that is named is not known.
    #[error("{what} {got:?} is not known; known are {known}")]
    Unknown {
        /// What was named.
        what: &'static str,
        /// How.
        got: String,
        /// What is known.
        known: String,
    },
    /// An artifact states a digest that is not the calculated one.
    #[error("{what} states {stated}, calculated is {calculated}")]
    Differs {
        /// What states it.
        what: &'static str,
        /// What it states, in hexadecimal.
        stated: String,
        /// What was calculated, in hexadecimal.
        calculated: String,
    },
    /// A signature inside an artifact is not by the key that it names.
    #[error("{what} is not signed by the key beside it")]
    SignatureInvalid {
        /// What is signed.
        what: &'static str,
    },
}
