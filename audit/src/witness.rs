//! C2SP tlog-witness: what travels in `add-checkpoint`, and what a witness answers it with.
//!
//! A witness holds one checkpoint of each log, the newest it cosigned. It cosigns another only if the log signed it and
//! it continues the held one; whoever calls [`judge`] makes the outcome durable before anything is signed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::{cose::SigningKey, time::UnixSeconds};

use crate::{
    checkpoint::{Checkpoint, LogIdentity, VerifiedCheckpoint, cosignature, cosignature_of},
    denial::AuditDenial,
    note::{NOTE_CAP_BYTES, Note, NoteKey, NoteSignature},
    tlog::{TreeHash, empty_root, verify_consistency},
};

/// Most lines of a consistency proof (tlog-witness, "add-checkpoint").
pub const PROOF_CAP_LINES: usize = 63;
/// Longest request, in bytes: the old size line, the proof lines of 45 bytes each, an empty line, a note.
pub const REQUEST_CAP_BYTES: usize = NOTE_CAP_BYTES + PROOF_CAP_LINES * 45 + 32;
/// Longest answer that is read, in bytes.
pub const ANSWER_CAP_BYTES: usize = 16 * 1024;
/// Media type of the answer that names the size which the witness holds.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// Why a witness does not cosign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// Not a request in its only spelling.
    #[error("not an add-checkpoint request: {what}")]
    Malformed {
        /// What is not as it should be.
        what: &'static str,
    },
    /// A log that this witness does not watch.
    #[error("no such log is watched here")]
    UnknownLog,
    /// No signature of the log under its known keys.
    #[error("not signed by the log: {0}")]
    NotSigned(AuditDenial),
    /// The proof starts beyond the checkpoint.
    #[error("old size {old} is beyond the checkpoint's {new}")]
    OldBeyondNew {
        /// Where the proof starts.
        old: u64,
        /// Size of the checkpoint.
        new: u64,
    },
    /// The proof starts at another size than the one held.
    #[error("the newest cosigned checkpoint has {held} entries")]
    Conflict {
        /// Size held; 0 when none is.
        held: u64,
    },
    /// The log signed two trees of one size: whoever holds both notes can prove it.
    #[error("the log signed two trees of {size} entries")]
    Forked {
        /// Their size.
        size: u64,
        /// Root of the one that was shown.
        got: TreeHash,
        /// Root of the one that is held.
        held: TreeHash,
    },
    /// The proof does not lead from the one tree to the other.
    #[error("the consistency proof does not hold: {0}")]
    ProofWrong(AuditDenial),
}

impl WitnessRefusal {
    /// HTTP status (tlog-witness, "add-checkpoint").
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } | Self::OldBeyondNew { .. } => 400,
            Self::NotSigned(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } | Self::Forked { .. } => 409,
            Self::ProofWrong(_) => 422,
        }
    }

    /// Stable code, `witness.<fact>`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "witness.request_malformed",
            Self::UnknownLog => "witness.log_unknown",
            Self::NotSigned(_) => "witness.not_signed",
            Self::OldBeyondNew { .. } => "witness.old_size_beyond",
            Self::Conflict { .. } => "witness.size_conflict",
            Self::Forked { .. } => "witness.log_forked",
            Self::ProofWrong(_) => "witness.proof_wrong",
        }
    }

    /// The size that the answer names, where it names one.
    #[must_use]
    pub const fn held(&self) -> Option<u64> {
        match self {
            Self::Conflict { held: size } | Self::Forked { size, .. } => Some(*size),
            Self::Malformed { .. }
            | Self::UnknownLog
            | Self::NotSigned(_)
            | Self::OldBeyondNew { .. }
            | Self::ProofWrong(_) => None,
        }
    }
}

/// A request as read; nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size that the proof starts at.
    pub old: u64,
    /// Consistency proof from there to the checkpoint.
    pub proof: Vec<TreeHash>,
    /// The checkpoint, a signed note.
    pub note: String,
}

impl AddCheckpoint {
    /// The request's body.
    #[must_use]
    pub fn encode(&self) -> String {
        let proof: String = self.proof.iter().map(|hash| format!("{}\n", STANDARD.encode(hash.0))).collect();
        format!("old {}\n{proof}\n{}", self.old, self.note)
    }

    /// Reads a body of at most [`REQUEST_CAP_BYTES`] in its only spelling.
    ///
    /// # Errors
    /// [`WitnessRefusal::Malformed`].
    pub fn parse(body: &[u8]) -> Result<Self, WitnessRefusal> {
        let refuse = |what| WitnessRefusal::Malformed { what };
        if body.len() > REQUEST_CAP_BYTES {
            return Err(refuse("length"));
        }
        let text = std::str::from_utf8(body).map_err(|_| refuse("encoding"))?;
        let (head, note) = text.split_once("\n\n").ok_or_else(|| refuse("no empty line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(|size| size.parse().ok());
        let old = old.ok_or_else(|| refuse("old size"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_CAP_LINES {
                return Err(refuse("number of proof lines"));
            }
            let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            proof.push(TreeHash(hash.ok_or_else(|| refuse("proof line"))?));
        }
        let request = Self { old, proof, note: note.to_owned() };
        if request.encode() == text { Ok(request) } else { Err(refuse("spelling")) }
    }

    /// The checkpoint that it shows, of whatever log; not verified.
    ///
    /// # Errors
    /// [`WitnessRefusal::Malformed`].
    pub fn claimed(&self) -> Result<Checkpoint, WitnessRefusal> {
        Checkpoint::claimed(self.note.as_bytes()).map_err(|_| WitnessRefusal::Malformed { what: "checkpoint" })
    }

    /// The checkpoint, signed by `log`.
    ///
    /// # Errors
    /// [`WitnessRefusal::UnknownLog`] for another log's, [`WitnessRefusal::NotSigned`], [`WitnessRefusal::Malformed`].
    pub fn signed_by(&self, log: &LogIdentity) -> Result<Checkpoint, WitnessRefusal> {
        if self.claimed()?.origin != log.origin() {
            return Err(WitnessRefusal::UnknownLog);
        }
        // Cosignatures are not asked about, so no clock is.
        let verified = VerifiedCheckpoint::verify(self.note.as_bytes(), log, &[], UnixSeconds(0));
        verified.map(|verified| verified.checkpoint().clone()).map_err(WitnessRefusal::NotSigned)
    }
}

/// Whether a checkpoint that its log signed continues the one that is held, if one is.
///
/// # Errors
/// [`WitnessRefusal`] for the first rule broken.
pub fn judge(request: &AddCheckpoint, shown: &Checkpoint, held: Option<&Checkpoint>) -> Result<(), WitnessRefusal> {
    if request.old > shown.size {
        return Err(WitnessRefusal::OldBeyondNew { old: request.old, new: shown.size });
    }
    if let Some(held) = held.filter(|held| held.size == shown.size && held.root != shown.root) {
        return Err(WitnessRefusal::Forked { size: shown.size, got: shown.root, held: held.root });
    }
    let size = held.map_or(0, |held| held.size);
    if request.old != size {
        return Err(WitnessRefusal::Conflict { held: size });
    }
    match held.filter(|held| held.size > 0) {
        Some(held) => verify_consistency(held.size, &held.root, shown.size, &shown.root, &request.proof)
            .map_err(WitnessRefusal::ProofWrong),
        // Any tree continues the empty one; there is nothing to prove, and only one empty tree.
        None if request.proof.is_empty() && (shown.size > 0 || shown.root == empty_root()) => Ok(()),
        None => Err(WitnessRefusal::ProofWrong(AuditDenial::ConsistencyProofWrong { old: 0, new: shown.size })),
    }
}

/// The answer to a request that was judged and made durable: one cosignature/v1 line.
///
/// # Errors
/// [`AuditDenial`] when the note is no checkpoint or the name no key name.
pub fn answer(note: &str, witness: &str, key: &SigningKey, at: UnixSeconds) -> Result<String, AuditDenial> {
    Ok(cosignature_of(&Note::parse(note.as_bytes())?, witness, key, at)?.to_line())
}

/// A witness's cosignature on `note`, out of its answer. Lines by other keys count for nothing.
///
/// # Errors
/// [`AuditDenial`] when the answer is not signature lines, or none of them is one of `keys`' and verifies.
pub fn read_answer(note: &str, body: &[u8], keys: &[NoteKey], now: UnixSeconds) -> Result<NoteSignature, AuditDenial> {
    if body.len() > ANSWER_CAP_BYTES {
        return Err(AuditDenial::NoteMalformed { what: "length" });
    }
    let note = Note::parse(note.as_bytes())?;
    let answered = Note::parse(&[note.text().as_bytes(), b"\n", body].concat())?;
    for signature in answered.signatures() {
        let Some(key) = keys.iter().find(|key| signature.is_of(key)) else { continue };
        cosignature(&note, signature, key, now)?;
        return Ok(signature.clone());
    }
    Err(AuditDenial::QuorumNotMet { got: 0, needed: 1 })
}

/// A checkpoint with these cosignatures added.
///
/// # Errors
/// [`AuditDenial::NoteMalformed`] when `note` is none.
pub fn with_cosignatures(note: &str, cosignatures: &[NoteSignature]) -> Result<String, AuditDenial> {
    let mut note = Note::parse(note.as_bytes())?;
    cosignatures.iter().for_each(|signature| note.add_signature(signature.clone()));
    Ok(note.to_text())
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
