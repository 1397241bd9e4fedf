//! Why a step in the life of a set is refused.

use evidence::{names::ItemName, time::UnixSeconds};

use super::{GRACE_CAP_S, Stage};
use crate::text::Text;

/// Why a step is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// This version exists with another content.
    #[error("{id} version {version} exists with another content")]
    VersionReused {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
    },
    /// A CoRIM tag that values come from was taken in before with another content.
    #[error("CoRIM tag {tag} version {version} was taken in with another content, in {held_by}")]
    TagReused {
        /// Tag id.
        tag: Text,
        /// Tag version.
        version: u64,
        /// Name and version of the set that has the other content.
        held_by: String,
    },
    /// A version at or below the highest ever activated.
    #[error("{id} version {got} is not above {high_water}, the highest ever activated")]
    NotAbove {
        /// Name.
        id: ItemName,
        /// Version asked for.
        got: u64,
        /// High-water mark.
        high_water: u64,
    },
    /// No such version is known.
    #[error("{id} version {version} is not known")]
    Unknown {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
    },
    /// The version stands where this step cannot be taken.
    #[error("{id} version {version} is {stage:?}")]
    WrongStage {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
        /// Where it stands.
        stage: Stage,
    },
    /// A set would be replaced by itself, or by one that it replaced.
    #[error("{id} version {version} cannot be replaced by a set that it replaced itself")]
    Cycle {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
    },
    /// A grace window longer than allowed.
    #[error("a grace window of {got_s} s, at most {GRACE_CAP_S} s allowed")]
    GraceTooLong {
        /// Asked for.
        got_s: u64,
    },
    /// The set is over.
    #[error("{id} version {version} ended at {not_after}")]
    Over {
        /// Name.
        id: ItemName,
        /// Version.
        version: u64,
        /// When it ended.
        not_after: UnixSeconds,
    },
}
