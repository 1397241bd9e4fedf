//! Logs of whatever organisation: a signed checkpoint, a folder of tiles, a proof file, vectors of Merkle proofs.
//!
//! What is read is C2SP (signed-note, tlog-checkpoint, tlog-tiles, tlog-proof); the key is the case's, as a verifier key.

use std::{collections::BTreeMap, path::Path};

use audit::{
    AuditDenial,
    checkpoint::{Checkpoint, LogIdentity, VerifiedCheckpoint},
    fsck::TreeAudit,
    note::{NOTE_CAP_BYTES, NoteKey},
    proof_file::{self, PROOF_FILE_CAP_BYTES},
    tile::{self, BUNDLE_CAP_BYTES, ENTRY_CAP_BYTES, TILE_HEIGHT, TILE_WIDTH, TileId, TileKind},
    tlog::{ProofPlan, TreeHash, leaf_hash, verify_inclusion},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::EvidenceDenial;
use serde::Deserialize;

use super::{
    case::Case,
    files,
    outcome::{Denial, Fault, Refusal, Report},
};

/// Longest verifier key file: a name, an id and a key.
const VERIFIER_KEY_CAP_BYTES: usize = 1024;
/// Longest file of vectors.
const VECTORS_CAP_BYTES: usize = 16 * 1024 * 1024;
/// Most checkpoints of one log beside its newest.
const OLDER_CAP: usize = 64 * 1024;

/// A checkpoint that a log signed.
pub(super) fn judge_checkpoint(case: &Case) -> Result<Report, Refusal> {
    let bytes = files::read(case.required_file("checkpoint")?, "checkpoint", NOTE_CAP_BYTES)?;
    let verified = verify(&bytes, &log_of(case, &bytes)?, case)?;
    Ok(report_of(&verified))
}

/// A log as files: `checkpoint`, `tile/…` as tlog-tiles names them, and any older head as `checkpoint.SIZE`.
pub(super) fn judge_folder(case: &Case) -> Result<Report, Refusal> {
    let folder = case.required_file("folder")?;
    let newest = files::read(&folder.join("checkpoint"), "checkpoint", NOTE_CAP_BYTES)?;
    let log = log_of(case, &newest)?;
    let newest = verify(&newest, &log, case)?;
    let older = older_heads(folder, &log, case)?;
    let size = newest.checkpoint().size;
    if let Some((ahead, _)) = older.range(size.saturating_add(1)..).next() {
        return Err(AuditDenial::SizeMismatch { got: size, expected: *ahead }.into());
    }
    let mut tree = TreeAudit::default();
    let is_as_said = |tree: &TreeAudit| match older.get(&tree.size()) {
        Some(expected) if *expected != tree.root() => {
            Err(AuditDenial::RootMismatch { size: tree.size(), got: tree.root(), expected: *expected })
        }
        Some(_) | None => Ok(()),
    };
    is_as_said(&tree)?;
    while tree.size() < size {
        let width = size.saturating_sub(tree.size()).min(u64::from(TILE_WIDTH));
        let width = u16::try_from(width).unwrap_or(TILE_WIDTH);
        let id = TileId { kind: TileKind::Entries, index: tree.size() >> TILE_HEIGHT, width };
        let bytes = read_tile(folder, &id)?.ok_or_else(|| AuditDenial::TileMismatch { path: id.path() })?;
        for leaf in tile::leaves_of_bundle(&tile::read_entry_bundle(width, &bytes)?) {
            tree.leaf(leaf)?;
            is_as_said(&tree)?;
        }
    }
    let mut unreadable = None;
    let tiles = tree.finish(&newest, |id| {
        read_tile(folder, id).unwrap_or_else(|refusal| {
            unreadable = Some(refusal);
            None
        })
    });
    if let Some(refusal) = unreadable {
        return Err(refusal);
    }
    let mut report = report_of(&newest);
    report.claim("entries", size);
    report.claim("tiles", tiles?);
    report.claim("checkpoints", older.len().saturating_add(1));
    Ok(report)
}

/// A proof that an entry is in a log. The file does not hold the entry; without it the path's length alone can be checked.
pub(super) fn judge_proof(case: &Case) -> Result<Report, Refusal> {
    let text = files::read(case.required_file("proof")?, "tlog-proof", PROOF_FILE_CAP_BYTES)?;
    let malformed = |_| EvidenceDenial::Malformed { structure: "tlog-proof", offset: 0, what: "not text" };
    let entry = match case.file("entry")? {
        Some(path) => Some(files::read(path, "log entry", ENTRY_CAP_BYTES)?),
        None => None,
    };
    let proof = proof_file::read(&String::from_utf8(text).map_err(malformed)?, Vec::new())?;
    let verified = verify(proof.checkpoint.as_bytes(), &log_of(case, proof.checkpoint.as_bytes())?, case)?;
    let head = verified.checkpoint();
    let expected = ProofPlan::inclusion(proof.index, head.size)?.hashes();
    if proof.proof.len() != expected {
        return Err(AuditDenial::InclusionProofWrong { index: proof.index, size: head.size }.into());
    }
    let mut report = report_of(&verified);
    match entry {
        Some(entry) => verify_inclusion(&leaf_hash(&entry), proof.index, head.size, &proof.proof, &head.root)?,
        None => report.note("no entry was given: that the proof leads from it to the root was not checked"),
    }
    report.claim("index", proof.index);
    Ok(report)
}

/// Vectors of inclusion proofs: authentic when each is judged as it wants.
pub(super) fn judge_vectors(case: &Case) -> Result<Report, Refusal> {
    let bytes = files::read(case.required_file("vectors")?, "Merkle proof vectors", VECTORS_CAP_BYTES)?;
    let vectors: Vec<Vector> = serde_json::from_slice(&bytes).map_err(|error| {
        let (structure, what) = ("Merkle proof vectors", "not an array of inclusion proofs");
        EvidenceDenial::Malformed { structure, offset: error.column(), what }
    })?;
    if vectors.is_empty() {
        return Err(EvidenceDenial::Missing { part: "Merkle proof vectors" }.into());
    }
    let mut refused = 0_u64;
    for vector in &vectors {
        let is_refused = vector.verify().is_none();
        if is_refused != vector.want_err {
            let name = vector.name.escape_default().take(64).collect();
            return Err(Denial::Vector { name, is_refused }.into());
        }
        refused = refused.saturating_add(u64::from(is_refused));
    }
    let mut report = Report::default();
    report.claim("vectors", vectors.len());
    report.claim("negative", refused);
    Ok(report)
}

/// One vector; hashes are base64. Other fields are for people.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

impl Vector {
    /// What does not decode is refused, as every reader of ours refuses it.
    fn verify(&self) -> Option<()> {
        let hash = |text: &String| {
            let bytes = STANDARD.decode(text).ok()?;
            <[u8; 32]>::try_from(bytes).ok().map(TreeHash)
        };
        // RFC 9162 has no empty path but in a tree of one: no list and an empty one say the same.
        let proof = self.proof.as_deref().unwrap_or_default().iter().map(hash).collect::<Option<Vec<_>>>()?;
        let (leaf, root) = (hash(&self.leaf_hash)?, hash(&self.root)?);
        verify_inclusion(&leaf, self.leaf_idx, self.tree_size, &proof, &root).ok()
    }
}

/// The log that signs with the case's key. Its origin is what the checkpoint says: the key vouches for that line too.
fn log_of(case: &Case, checkpoint: &[u8]) -> Result<LogIdentity, Refusal> {
    let path = case.required_file("verifier_key")?;
    let bytes = files::read(path, "verifier key", VERIFIER_KEY_CAP_BYTES)?;
    // The key is the judge's own word, not evidence.
    let unusable = |what: String| Fault::Request { what: format!("verifier key {}: {what}", path.display()) };
    let text = std::str::from_utf8(&bytes).map_err(|error| unusable(error.to_string()))?;
    let key = NoteKey::from_vkey(text.trim_end()).map_err(|denial| unusable(denial.to_string()))?;
    let origin = Checkpoint::claimed(checkpoint)?.origin;
    Ok(LogIdentity::with_key(&origin, key).map_err(|denial| unusable(denial.to_string()))?)
}

fn verify(bytes: &[u8], log: &LogIdentity, case: &Case) -> Result<VerifiedCheckpoint, Refusal> {
    Ok(VerifiedCheckpoint::verify(bytes, log, &[], case.now()?)?)
}

fn report_of(verified: &VerifiedCheckpoint) -> Report {
    let head = verified.checkpoint();
    let mut report = Report::default();
    report.claim("origin", head.origin.as_str());
    report.claim("size", head.size);
    report.claim("root", hex::encode(head.root.0));
    report.claim("unknown_signatures", verified.unknown_signatures());
    report
}

/// Heads that the log signed before its newest, roots by size. The name of each says its size.
fn older_heads(folder: &Path, log: &LogIdentity, case: &Case) -> Result<BTreeMap<u64, TreeHash>, Refusal> {
    let unreadable = |error: std::io::Error| Fault::File { path: folder.into(), what: error.to_string() };
    let mut heads = BTreeMap::new();
    for file in folder.read_dir().map_err(unreadable)? {
        let name = file.map_err(unreadable)?.file_name();
        let Some(size) = name.to_str().and_then(|name| name.strip_prefix("checkpoint.")) else { continue };
        let Ok(size) = size.parse::<u64>() else { continue };
        if heads.len() >= OLDER_CAP {
            return Err(EvidenceDenial::TooMany { part: "checkpoints", cap: OLDER_CAP }.into());
        }
        let verified = verify(&files::read(&folder.join(&name), "checkpoint", NOTE_CAP_BYTES)?, log, case)?;
        let head = verified.checkpoint();
        if head.size != size {
            return Err(AuditDenial::SizeMismatch { got: head.size, expected: size }.into());
        }
        heads.insert(size, head.root);
    }
    Ok(heads)
}

/// A tile's bytes; none when there is no such file.
fn read_tile(folder: &Path, id: &TileId) -> Result<Option<Vec<u8>>, Refusal> {
    let path = folder.join(id.path());
    let is_there = path.try_exists().map_err(|error| Fault::File { path: path.clone(), what: error.to_string() })?;
    if is_there { files::read(&path, "tile", BUNDLE_CAP_BYTES).map(Some) } else { Ok(None) }
}
