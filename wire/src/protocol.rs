//! What both ends of the protocol must agree on beyond the messages.

use evidence::challenge::{CHALLENGE_TTL_S, Challenge, Demands};
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;

/// RFC 8446 §7.5 exporter label of the channel binding; exported with no context, [`CHANNEL_BYTES`] long, after the
/// handshake. The connection is one full TLS 1.3 handshake, ALPN `h2`.
pub const CHANNEL_LABEL: &[u8] = b"EXPORTER-attestd-channel/1";

/// Length of the exporter value.
pub const CHANNEL_BYTES: usize = 32;

/// HPKE (RFC 9180) in base mode wraps execution keys to a P-256 node key: DHKEM(P-256, HKDF-SHA256) = 0x0010,
/// HKDF-SHA256 = 0x0001, AES-256-GCM = 0x0002. The recipient's public key is the uncompressed point, 65 bytes.
pub const HPKE_P256_SUITE: (u16, u16, u16) = (0x0010, 0x0001, 0x0002);

/// HPKE (RFC 9180) in base mode wraps execution keys to an X-Wing node key: X-Wing (draft-ietf-hpke-pq) = 0x647a,
/// HKDF-SHA256 = 0x0001, AES-256-GCM = 0x0002. The recipient's public key is 1,216 bytes, the encapsulation 1,120.
pub const HPKE_X_WING_SUITE: (u16, u16, u16) = (0x647a, 0x0001, 0x0002);

/// HPKE `info` when an execution key is wrapped, whatever the suite.
pub const EXECUTION_KEY_INFO: &[u8] = b"attestd/execution-key/1";

/// HPKE `aad` when an execution key is wrapped: the artifact's id (16 bytes, so that what follows cannot be read
/// otherwise), then the key's name.
pub fn execution_key_aad(artifact_id: &[u8; 16], name: &str) -> Vec<u8> {
    [artifact_id.as_slice(), name.as_bytes()].concat()
}

/// HPKE `aad` when a share of a split key is wrapped: as for a whole key, then a zero byte, which no name has, and the
/// share's header as it travels.
pub fn key_share_aad(artifact_id: &[u8; 16], name: &str, header: &[u8]) -> Vec<u8> {
    [artifact_id.as_slice(), name.as_bytes(), &[0], header].concat()
}

/// What the Evidence of a renewal is about: the artifacts it keeps alive, as SHA-256 over the label and the digests in
/// ascending order. A node renews each execution by itself, so that each renewal has its own quote: one digest.
pub fn renewal_subject(artifacts: &[Sha256Digest]) -> Sha256Digest {
    let mut sorted = artifacts.to_vec();
    sorted.sort_unstable();
    let parts: Vec<&[u8]> = sorted.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    Sha256Digest::labelled("attestd/renewal/1", &parts)
}

/// What captured Evidence is about: nothing that could be granted.
pub fn capture_subject() -> Sha256Digest {
    Sha256Digest::labelled("attestd/capture/1", &[])
}

/// What Evidence that somebody asked of a node by hand is about: nothing that could be granted.
pub fn inspection_subject() -> Sha256Digest {
    Sha256Digest::labelled("attestd/inspection/1", &[])
}

/// Audience of Evidence that somebody asked of a node by hand. No verifier's: theirs are SPIFFE IDs.
pub const INSPECTION_AUDIENCE: &str = "urn:attestd:inspection";

/// What Evidence that somebody asked of a node by hand answers (`attestd evidence`): the caller's nonce, and in every
/// other field a value that no verifier challenges with. Governance epochs count from 1, subjects and lineage heads are
/// digests of records, a channel is a TLS exporter value. Fresh is what the caller's nonce makes fresh: `now` only
/// keeps age out of the judgement.
pub fn inspection(nonce: [u8; 32], demands: Demands, now: UnixSeconds) -> Challenge {
    Challenge {
        nonce,
        channel: [0; CHANNEL_BYTES],
        audience: INSPECTION_AUDIENCE.to_owned(),
        epoch: 0,
        subject: inspection_subject(),
        lineage_head: Sha256Digest::ZERO,
        issued_at: now,
        expires_at: now.plus(CHALLENGE_TTL_S),
        demands,
    }
}
