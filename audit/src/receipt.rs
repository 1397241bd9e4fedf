//! Receipt: an entry, the proof that it is in the log, and the checkpoint it is proved against.
//!
//! It carries the entry itself: a leaf hash cannot be had from the entry's digest, and a receipt must be checkable by
//! somebody who holds nothing but keys.

use evidence::{
    cbor::{self, Caps},
    cose::KeySet,
    digest::Sha256Digest,
    names::DomainName,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    checkpoint::{LogIdentity, VerifiedCheckpoint},
    codec,
    denial::AuditDenial,
    note::{NOTE_CAP_BYTES, NoteKey},
    record::{RECORD_CAP_BYTES, VerifiedRecord},
    tlog::{self, PROOF_CAP_HASHES, TreeHash},
};

/// Version of the form.
pub const RECEIPT_VERSION: u8 = 1;
/// Longest encoded receipt, in bytes.
pub const RECEIPT_CAP_BYTES: usize = RECORD_CAP_BYTES + NOTE_CAP_BYTES + 40 * PROOF_CAP_HASHES;

/// A receipt as it travels; nothing in it is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`RECEIPT_VERSION`].
    pub version: u8,
    /// The log entry: a signed lineage record.
    pub entry: ByteBuf,
    /// Its index.
    pub index: u64,
    /// Inclusion proof.
    pub proof: Vec<TreeHash>,
    /// Signed checkpoint, cosignatures included.
    pub checkpoint: String,
}

impl Receipt {
    /// The receipt of `entry` at `index`.
    #[must_use]
    pub fn new(entry: Vec<u8>, index: u64, proof: Vec<TreeHash>, checkpoint: String) -> Self {
        Self { version: RECEIPT_VERSION, entry: ByteBuf::from(entry), index, proof, checkpoint }
    }

    /// Its deterministic CBOR.
    ///
    /// # Errors
    /// [`AuditDenial::ReceiptMalformed`] when it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, AuditDenial> {
        let bytes = cbor::to_vec(self).map_err(|cause| malformed(cause.to_string()))?;
        if bytes.len() > RECEIPT_CAP_BYTES {
            return Err(malformed(format!("{} bytes, at most {RECEIPT_CAP_BYTES} allowed", bytes.len())));
        }
        Ok(bytes)
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// [`AuditDenial::ReceiptMalformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AuditDenial> {
        let receipt: Self = codec::read(bytes, Caps::bytes(RECEIPT_CAP_BYTES)).map_err(malformed)?;
        if receipt.version != RECEIPT_VERSION {
            return Err(malformed(format!("version {}, expected {RECEIPT_VERSION}", receipt.version)));
        }
        if receipt.proof.len() > PROOF_CAP_HASHES {
            return Err(malformed(format!("proof of {} hashes, at most {PROOF_CAP_HASHES}", receipt.proof.len())));
        }
        Ok(receipt)
    }

    /// Checks, offline, that the entry is in `log` under a checkpoint that at least `quorum` of `witnesses` cosigned.
    ///
    /// # Errors
    /// [`AuditDenial`] for the first rule broken.
    pub fn verify(
        bytes: &[u8],
        log: &LogIdentity,
        witnesses: &[NoteKey],
        quorum: usize,
        now: UnixSeconds,
    ) -> Result<VerifiedReceipt, AuditDenial> {
        let receipt = Self::decode(bytes)?;
        let checkpoint = VerifiedCheckpoint::verify(receipt.checkpoint.as_bytes(), log, witnesses, now)?;
        checkpoint.quorum(quorum)?;
        let head = checkpoint.checkpoint();
        let leaf = tlog::leaf_hash(&receipt.entry);
        tlog::verify_inclusion(&leaf, receipt.index, head.size, &receipt.proof, &head.root)?;
        Ok(VerifiedReceipt { entry: receipt.entry.into_vec(), index: receipt.index, checkpoint })
    }
}

/// An entry that is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedReceipt {
    entry: Vec<u8>,
    index: u64,
    checkpoint: VerifiedCheckpoint,
}

impl VerifiedReceipt {
    /// SHA-256 of the entry: the record's name.
    #[must_use]
    pub fn entry_digest(&self) -> Sha256Digest {
        Sha256Digest::of(&self.entry)
    }

    /// Its index.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The checkpoint that it was proved against.
    #[must_use]
    pub const fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }

    /// The entry as the lineage record of `domain` that it must be.
    ///
    /// # Errors
    /// [`AuditDenial`] for the first rule broken.
    pub fn record(&self, domain: &DomainName, issuer_keys: &KeySet) -> Result<VerifiedRecord, AuditDenial> {
        VerifiedRecord::verify(&self.entry, domain, issuer_keys)
    }
}

fn malformed(cause: String) -> AuditDenial {
    AuditDenial::ReceiptMalformed { cause }
}
