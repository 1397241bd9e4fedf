//! A challenge: what the verifier demands of one evidence, once.

use serde::{Deserialize, Serialize};

use crate::{
    digest::{HashAlg, Sha256Digest},
    time::UnixSeconds,
};

/// Longest time a challenge may be answered, in seconds.
pub const CHALLENGE_TTL_S: u64 = 10;

/// What one piece of evidence must answer, all of it chosen or observed by the verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// 256 random bits, used once.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 32],
    /// TLS 1.3 exporter value of the connection that the challenge was sent on.
    #[serde(with = "serde_bytes")]
    pub channel: [u8; 32],
    /// The verifier's SPIFFE ID.
    pub audience: String,
    /// The verifier's governance epoch.
    pub epoch: u64,
    /// Digest of the intent (first time) or of the sorted live artifact digests (renewal).
    pub subject: Sha256Digest,
    /// Newest record of the node's lineage, as the node named it and the verifier accepted it.
    pub lineage_head: Sha256Digest,
    /// When it was sent.
    pub issued_at: UnixSeconds,
    /// When it ends, at most [`CHALLENGE_TTL_S`] later.
    pub expires_at: UnixSeconds,
    /// Bank that must be quoted.
    pub pcr_bank: HashAlg,
    /// PCRs that must be quoted, ascending, neither more nor fewer.
    pub pcrs: Vec<u8>,
    /// PCRs of the node key's PolicyPCR, ascending.
    pub node_key_pcrs: Vec<u8>,
    /// Whether the TCG event log must come with the quote.
    pub event_log: bool,
    /// Whether the IMA log must come with the quote.
    pub ima_log: bool,
}
