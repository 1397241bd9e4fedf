//! What verifiers say to each other over HTTPS, beside the SPIFFE bundle and the log's files: deterministic CBOR, capped.

use audit::tlog::{PROOF_CAP_HASHES, TreeHash};
use evidence::cbor::{self, Caps, CborError};
use evidence::cose::claimed_payload;
use evidence::names::DomainName;
use governance::partner::{REVOCATIONS_CAP, Standing};
use governance::revocation::{Revocation, RevocationList};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

/// Media type of these messages.
pub(crate) const CBOR_TYPE: &str = "application/cbor";
/// The SPIFFE view of the bundle.
pub(crate) const SPIFFE_PATH: &str = "/.well-known/spiffe-bundle";
/// The bundle: array of COSE_Sign1 over one payload.
pub(crate) const BUNDLE_PATH: &str = "/governance/bundle";
/// The newest state; `?since=SIZE` asks for proof that the log goes on from there.
pub(crate) const STATE_PATH: &str = "/governance/state";
/// Payloads of states, `/FIRST/LAST`.
pub(crate) const STATES_PATH: &str = "/governance/states";
/// Everything revoked: array of COSE_Sign1.
pub(crate) const REVOCATIONS_PATH: &str = "/governance/revocations";
/// Where a partner says that it has something new.
pub(crate) const HINT_PATH: &str = "/governance/hint";
/// Most states in one answer.
pub(crate) const STATES_PAGE: u64 = 256;
/// Longest answer about states.
pub(crate) const STATES_CAP_BYTES: usize = 2 * 1024 * 1024;
/// Longest answer of one state: itself, a receipt and a proof of growth.
pub(crate) const STATE_CAP_BYTES: usize = 256 * 1024;
/// Longest list of revocations.
pub(crate) const REVOCATIONS_CAP_BYTES: usize = 4 * 1024 * 1024;
/// Longest bundle, with all its signatures.
pub(crate) const BUNDLE_CAP_BYTES: usize = 1024 * 1024;
/// Longest hint, and longest answer to one.
pub(crate) const HINT_CAP_BYTES: usize = 512;

/// A governance state with the proof that it is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoggedState {
    /// COSE_Sign1 by the issuer.
    pub(crate) state: ByteBuf,
    /// Receipt of its record under the newest checkpoint.
    pub(crate) receipt: ByteBuf,
    /// Consistency proof from the size that was asked about to that checkpoint; empty when none was, or it is the same.
    pub(crate) growth: Vec<TreeHash>,
}

impl LoggedState {
    /// Reads one.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, CborError> {
        let read: Self = read(bytes, STATE_CAP_BYTES)?;
        if read.growth.len() > PROOF_CAP_HASHES {
            return Err(CborError::TooManyItems { offset: 0 });
        }
        Ok(read)
    }
}

/// "I have something new."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hint {
    /// Who.
    pub(crate) domain: DomainName,
    /// Epoch of its newest state.
    pub(crate) epoch: u64,
}

/// "This is what I hold of you."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    /// Epoch of the newest state that was taken; 0 for none.
    pub(crate) epoch: u64,
    /// How the asker stands.
    pub(crate) standing: Standing,
}

/// Reads a message of at most `cap_bytes`.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], cap_bytes: usize) -> Result<T, CborError> {
    cbor::from_slice(bytes, Caps::bytes(cap_bytes).items(ITEMS_CAP))
}

/// The list of these signed revocations. What counts is its digest, which a signed state names: an entry may be signed by a
/// key that was retired since.
pub(crate) fn revocation_list(entries: &[ByteBuf]) -> Result<RevocationList, String> {
    if entries.len() > REVOCATIONS_CAP {
        return Err(format!("more than {REVOCATIONS_CAP} revocations"));
    }
    let mut list = RevocationList::default();
    for entry in entries {
        let payload = claimed_payload(entry).map_err(|denial| denial.to_string())?;
        let revocation: Revocation =
            cbor::from_slice(&payload, Caps::bytes(payload.len())).map_err(|error| error.to_string())?;
        list.revoke(revocation.revoked, revocation.reason);
    }
    Ok(list)
}

/// Most items of a message: of a list of revocations or states, each one byte string.
const ITEMS_CAP: usize = 8_192;
