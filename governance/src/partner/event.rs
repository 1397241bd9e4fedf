//! What is seen of a partner, and what follows from it.

use evidence::digest::Sha256Digest;
use serde::{Deserialize, Serialize};

use super::standing::Standing;
use crate::{
    denial::GovernanceDenial, governance_state::VerifiedState, revocation::RevocationList, trust_bundle::VerifiedBundle,
};

/// A head of the partner's log, as its own signed checkpoint states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHead {
    /// Number of entries.
    pub size: u64,
    /// Root hash over them.
    pub root: Sha256Digest,
}

/// What was shown about a head and the one that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Growth {
    /// The log was proven to go on from the held head.
    Proven,
    /// The new head was proven to have another past than the held one: two signed heads contradict each other.
    Contradicted,
    /// Neither. That a proof is absent or wrong may be anybody's fault; the head is not taken.
    Unproven,
}

/// What was seen of a partner. Every signature and every Merkle proof in it was verified before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartnerEvent {
    /// The bundle that the partner serves, signed by the authority of the held one.
    Bundle(Box<VerifiedBundle>),
    /// Two trees of one size, both signed as the partner's log.
    Equivocated {
        /// Their size.
        size: u64,
        /// Root of the one.
        got: Sha256Digest,
        /// Root of the other.
        held: Sha256Digest,
    },
    /// A head that the partner's log showed to somebody else, and does not prove to us to go on from.
    Rumoured {
        /// What it says.
        head: LogHead,
    },
    /// A checkpoint of the partner's log.
    Head {
        /// What it says.
        head: LogHead,
        /// How it goes on from the held head. Of no interest for the first.
        growth: Growth,
    },
    /// The state that the partner serves as its newest.
    State {
        /// It, signed by an issuer of the held bundle and in force.
        newest: Box<VerifiedState>,
        /// Payloads of the states after the held one and before it, ascending. They need no signature: each is named by
        /// the digest in the state after it.
        between: Vec<Vec<u8>>,
    },
    /// What must come with the offered state.
    Proven {
        /// Digest of the state.
        state: Sha256Digest,
        /// The head under which its record was proven to be in the partner's log.
        head: LogHead,
        /// The list of revocations that it names.
        revocations: RevocationList,
    },
    /// Time passed.
    Tick,
    /// An operator takes the trust back.
    Distrusted,
}

/// What follows, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartnerAction {
    /// What was seen is refused.
    Refused(GovernanceDenial),
    /// The states of these epochs must come along with the newest one.
    Fetch {
        /// First epoch.
        from: u64,
        /// Last epoch.
        to: u64,
    },
    /// The memory changed: log and store it before anything relies on it.
    Remember,
    /// The log head changed: store it before anything relies on it.
    Mark(LogHead),
    /// The standing changed.
    Stands {
        /// Before.
        from: Standing,
        /// From now on.
        to: Standing,
    },
}
