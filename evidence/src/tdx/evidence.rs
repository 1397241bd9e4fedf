//! The parts of one TDX evidence, in the one buffer they came in.

use std::ops::Range;

use super::quote::QUOTE_CAP_BYTES;
use crate::{
    EvidenceDenial,
    cmw::{self, Part, PartName},
    digest::Sha256Digest,
    kind::EvidenceKind,
    node_key::XWingPublicKey,
};

/// Longest evidence apart from its event log.
pub const EVIDENCE_CAP_BYTES: usize = 64 * 1024;
/// Longest CC event log, without the padding of its table.
pub const EVENT_LOG_CAP_BYTES: usize = 1024 * 1024;
/// Longest TDX evidence: what may be received at all.
pub const TDX_EVIDENCE_CAP_BYTES: usize = EVIDENCE_CAP_BYTES + EVENT_LOG_CAP_BYTES;

const KIND: &str = EvidenceKind::Tdx.collection_type();

/// TDX evidence: a quote, the node key that it is bound to, and the event log of the trust domain's firmware.
///
/// Structure only; nothing of it is believed before [`crate::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct TdxEvidence {
    bytes: Vec<u8>,
    digest: Sha256Digest,
    node_key: XWingPublicKey,
    quote: Range<usize>,
    event_log: Option<Range<usize>>,
}

/// What a node collects; becomes [`TdxEvidence`] by [`TdxEvidence::assemble`].
#[derive(Clone, Copy, Debug)]
pub struct TdxParts<'a> {
    /// DCAP quote and nothing after it: see [`super::Quote::trimmed`].
    pub quote: &'a [u8],
    /// Deterministic COSE_Key of the node key.
    pub node_key: &'a [u8],
    /// CC event log, when asked for: see [`crate::event_log::CcEventLog::trimmed`].
    pub event_log: Option<&'a [u8]>,
}

impl TdxEvidence {
    /// Puts the parts into a collection.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`] for a part above its cap; what [`XWingPublicKey::from_cose_key`] finds.
    pub fn assemble(parts: TdxParts<'_>) -> Result<Self, EvidenceDenial> {
        let part = |name: &PartName, value| Part { label: name.label, media_type: name.media_type, value };
        let mut out = vec![part(&QUOTE, parts.quote), part(&NODE_KEY, parts.node_key)];
        out.extend(parts.event_log.map(|log| part(&EVENT_LOG, log)));
        Self::decode(cmw::write(KIND, &out))
    }

    /// Takes the bytes that came and finds the parts in them.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when they are not exactly such a collection, within the caps.
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, EvidenceDenial> {
        let collection = cmw::read(&bytes, TDX_EVIDENCE_CAP_BYTES)?;
        let [quote, node_key, event_log] = collection.find(KIND, &[QUOTE, NODE_KEY, EVENT_LOG])?;
        let small_bytes = bytes.len().saturating_sub(event_log.range.as_ref().map_or(0, Range::len));
        if small_bytes > EVIDENCE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (small_bytes, EVIDENCE_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "evidence without its logs", got_bytes, cap_bytes });
        }
        let key = node_key.need()?;
        Ok(Self {
            digest: Sha256Digest::of(&bytes),
            node_key: XWingPublicKey::from_cose_key(bytes.get(key).unwrap_or(&[]))?,
            quote: quote.need()?,
            event_log: event_log.range,
            bytes,
        })
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or(&[])
    }

    /// The collection as received.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`TdxEvidence::bytes`].
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The node key.
    #[must_use]
    pub const fn node_key(&self) -> &XWingPublicKey {
        &self.node_key
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> TdxParts<'_> {
        TdxParts {
            quote: self.part(&self.quote),
            node_key: self.node_key.cose_key(),
            event_log: self.event_log.as_ref().map(|range| self.part(range)),
        }
    }
}

impl std::fmt::Debug for TdxEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TdxEvidence({}, {} bytes)", self.digest, self.bytes.len())
    }
}

/// Longest COSE_Key of a node key.
const NODE_KEY_CAP_BYTES: usize = 2048;

pub(crate) const QUOTE: PartName =
    PartName { label: "quote", media_type: "application/vnd.attestd.tdx-quote", cap_bytes: QUOTE_CAP_BYTES };
const NODE_KEY: PartName =
    PartName { label: "node-key", media_type: "application/cose-key", cap_bytes: NODE_KEY_CAP_BYTES };
pub(crate) const EVENT_LOG: PartName =
    PartName { label: "event-log", media_type: "application/vnd.attestd.cc-event-log", cap_bytes: EVENT_LOG_CAP_BYTES };
