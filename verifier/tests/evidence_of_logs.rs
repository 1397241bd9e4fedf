//! Checkpoints, folders of tiles, proof files and vectors that `verifier evidence verify --batch` judges: each defect is
//! refused by the check that is there for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that goes wrong here should stop at once"
)]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use audit::{
    checkpoint::Checkpoint,
    note::{Note, NoteKey, NoteKeyKind},
    proof_file,
    receipt::Receipt,
    tile::{TileId, TileKind, entry_bundle, hash_tile},
    tlog::{CompactRange, NodeId, ProofPlan, TreeHash, empty_root, leaf_hash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::cose::SigningKey;
use serde_json::{Value, json};
use verifier::evidence_cli::{Case, Kind, Outcome};

/// More than one tile: a full bundle, a partial one, and a second level.
const SIZE: u64 = 300;
const ORIGIN: &str = "log of a stranger";

/// A stranger's log as files: its newest head, those at 0 and 256 entries, and every tile.
struct Log {
    folder: tempfile::TempDir,
    key: SigningKey,
    name: NoteKey,
    nodes: HashMap<NodeId, TreeHash>,
    roots: Vec<TreeHash>,
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

impl Log {
    fn new() -> Self {
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let name = NoteKey::new("keys.example", NoteKeyKind::Ed25519, key.public()).unwrap();
        let (mut range, mut nodes, mut roots) = (CompactRange::empty(), HashMap::new(), vec![empty_root()]);
        for index in 0..SIZE {
            nodes.extend(range.append(leaf_hash(&entry(index))).unwrap());
            roots.push(range.root());
        }
        let log = Self { folder: tempfile::tempdir().unwrap(), key, name, nodes, roots };
        log.write("verifier-key", log.name.vkey().as_bytes());
        log.write("checkpoint", log.head(SIZE, SIZE).as_bytes());
        for size in [0, 256] {
            log.write(&format!("checkpoint.{size}"), log.head(size, size).as_bytes());
        }
        for id in TileId::changed(0, SIZE) {
            let first = id.index * 256;
            let bytes = match id.kind {
                TileKind::Hashes { .. } => hash_tile(&id, &log.nodes).unwrap(),
                TileKind::Entries => {
                    let entries: Vec<Vec<u8>> = (first..first + u64::from(id.width)).map(entry).collect();
                    entry_bundle(entries.iter().map(Vec::as_slice)).unwrap()
                }
            };
            log.write(&id.path(), &bytes);
        }
        log
    }

    /// A head that says `size` entries and has the root of `of`.
    fn head(&self, size: u64, of: u64) -> String {
        let root = self.roots[usize::try_from(of).unwrap()];
        let mut note = Note::new(Checkpoint { origin: ORIGIN.into(), size, root }.text()).unwrap();
        note.add(&self.name, self.key.sign_raw(note.text().as_bytes()));
        note.to_text()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn flip(&self, name: &str, at: usize) {
        let mut bytes = std::fs::read(self.path(name)).unwrap();
        bytes[at] ^= 1;
        self.write(name, &bytes);
    }

    fn judge(&self, kind: Kind, files: &[(&str, &Path)]) -> Outcome {
        let key = self.path("verifier-key");
        let mut case = Case::new(kind);
        for (role, path) in files.iter().copied().chain([("verifier_key", key.as_path())]) {
            case.add(role, role, vec![path.to_owned()]).unwrap();
        }
        case.require_roles().unwrap();
        case.judge()
    }

    fn judge_folder(&self) -> Outcome {
        self.judge(Kind::Tlog, &[("folder", self.folder.path())])
    }

    fn proof(&self, index: u64) -> String {
        let proof = ProofPlan::inclusion(index, SIZE).unwrap().build(&self.nodes).unwrap();
        proof_file::write(&Receipt::new(Vec::new(), index, proof, self.head(SIZE, SIZE)))
    }
}

fn claims(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Authentic(report) => report.claims.into(),
        refused @ (Outcome::Denied(_) | Outcome::Fault(_)) => panic!("{refused:?}"),
    }
}

/// Code and class of a denial.
fn denied(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Denied(denial) => (denial.code(), denial.class()),
        other @ (Outcome::Authentic(_) | Outcome::Fault(_)) => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_that_holds_what_its_checkpoints_say_is_authentic() {
    let said = claims(Log::new().judge_folder());
    assert_eq!((&said["origin"], &said["size"], &said["checkpoints"]), (&json!(ORIGIN), &json!(SIZE), &json!(3)));
    assert_eq!(said["tiles"], json!(5), "two bundles, two tiles of leaves, one above them");
}

#[test]
fn a_folder_with_one_defect_is_refused_by_the_check_for_it() {
    type Bend = fn(&Log);
    let absent: Bend = |log| std::fs::remove_file(log.path("tile/entries/000")).unwrap();
    let cut: Bend = |log| log.write("tile/entries/001.p/44", b"\0");
    let entry: Bend = |log| log.flip("tile/entries/000", 5);
    let leaf: Bend = |log| log.flip("tile/0/001.p/44", 0);
    let above: Bend = |log| std::fs::remove_file(log.path("tile/1/000.p/1")).unwrap();
    let longer: Bend = |log| log.write("checkpoint", log.head(SIZE + 1, SIZE).as_bytes());
    let rewritten: Bend = |log| log.write("checkpoint.256", log.head(256, 255).as_bytes());
    let ahead: Bend = |log| log.write("checkpoint.301", log.head(301, SIZE).as_bytes());
    let misnamed: Bend = |log| log.write("checkpoint.257", log.head(256, 256).as_bytes());
    let unsigned: Bend = |log| log.flip("checkpoint.256", log.head(256, 256).len() - 8);
    let began: Bend = |log| log.write("checkpoint.0", log.head(0, 1).as_bytes());
    for (bend, expected) in [
        (absent, ("audit.tile_mismatch", "binding")),
        (cut, ("audit.bundle_malformed", "parse")),
        // seen at the older head, before the newest
        (entry, ("audit.root_mismatch", "binding")),
        (leaf, ("audit.tile_mismatch", "binding")),
        (above, ("audit.tile_mismatch", "binding")),
        (longer, ("audit.tile_mismatch", "binding")),
        (rewritten, ("audit.root_mismatch", "binding")),
        (ahead, ("audit.size_mismatch", "binding")),
        (misnamed, ("audit.size_mismatch", "binding")),
        (unsigned, ("audit.note_signature", "signature")),
        (began, ("audit.root_mismatch", "binding")),
    ] {
        let log = Log::new();
        bend(&log);
        assert_eq!(denied(log.judge_folder()), expected);
    }
}

#[test]
fn a_checkpoint_is_as_good_as_its_signature_by_the_key_of_the_case() {
    let log = Log::new();
    let of = |log: &Log| log.judge(Kind::Checkpoint, &[("checkpoint", &log.path("checkpoint"))]);
    assert_eq!(claims(of(&log))["root"], json!(hex::encode(log.roots[300].0)));
    let other = SigningKey::from_seed(&[8; 32]).unwrap();
    let other = NoteKey::new("keys.example", NoteKeyKind::Ed25519, other.public()).unwrap();
    log.write("verifier-key", other.vkey().as_bytes());
    assert_eq!(denied(of(&log)), ("audit.not_signed_by_log", "signature"));
    let witness = NoteKey::new("keys.example", NoteKeyKind::Cosignature, log.key.public()).unwrap();
    for unusable in [witness.vkey(), "keys.example".to_owned(), String::new()] {
        log.write("verifier-key", unusable.as_bytes());
        assert!(matches!(of(&log), Outcome::Fault(fault) if fault.code() == "fault.request_malformed"), "{unusable}");
    }
    log.write("verifier-key", log.name.vkey().as_bytes());
    log.write("checkpoint", b"text\n");
    assert_eq!(denied(of(&log)), ("audit.note_malformed", "parse"));
}

#[test]
fn a_proof_is_checked_down_to_its_entry_when_the_entry_is_given() {
    let log = Log::new();
    for index in [0, 255, 256, 299] {
        log.write("proof", log.proof(index).as_bytes());
        log.write("entry", &entry(index));
        let (proof, given) = (log.path("proof"), log.path("entry"));
        let said = claims(log.judge(Kind::TlogProof, &[("proof", &proof), ("entry", &given)]));
        assert_eq!(said["index"], json!(index));
        let Outcome::Authentic(report) = log.judge(Kind::TlogProof, &[("proof", &proof)]) else { panic!("{index}") };
        assert_eq!(report.notes.len(), 1, "an entry that is not there is not passed over in silence");
        log.write("entry", b"another entry");
        let swapped = log.judge(Kind::TlogProof, &[("proof", &proof), ("entry", &given)]);
        assert_eq!(denied(swapped), ("audit.inclusion_proof_wrong", "binding"));
    }
    let whole = log.proof(299);
    let proof = log.path("proof");
    for (bent, expected) in [
        (whole.replacen("index 299", "index 300", 1), ("audit.index_beyond_tree", "binding")),
        (whole.replacen("index 299", "index 5", 1), ("audit.inclusion_proof_wrong", "binding")),
        (whole.replacen("@v1", "@v2", 1), ("audit.receipt_malformed", "parse")),
        (whole.replacen("\n300\n", "\n301\n", 1), ("audit.note_signature", "signature")),
    ] {
        log.write("proof", bent.as_bytes());
        assert_eq!(denied(log.judge(Kind::TlogProof, &[("proof", &proof)])), expected);
    }
    log.write("proof", b"\xff");
    assert_eq!(denied(log.judge(Kind::TlogProof, &[("proof", &proof)])), ("evidence.malformed", "parse"));
}

#[test]
fn vectors_are_authentic_when_each_is_judged_as_it_wants() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors");
    let judge = |vectors: &Value| {
        std::fs::write(&path, vectors.to_string()).unwrap();
        let mut case = Case::new(Kind::MerkleProofs);
        case.add("vectors", "--vectors", vec![path.clone()]).unwrap();
        case.judge()
    };
    let leaf = STANDARD.encode(leaf_hash(b"only").0);
    let vector = |name: &str, index: u64, root: &str, wanted: bool| {
        json!({"name": name, "leafIdx": index, "treeSize": 1, "root": root, "leafHash": leaf, "proof": null,
            "desc": "", "wantErr": !wanted})
    };
    let good = vector("good", 0, &leaf, true);
    let bad = vector("bad", 1, &leaf, false);
    let undecodable = vector("undecodable", 0, "AAAA", false);
    let said = claims(judge(&json!([good, bad, undecodable])));
    assert_eq!((&said["vectors"], &said["negative"]), (&json!(3), &json!(2)));
    for wrong in [vector("good", 0, &leaf, false), vector("bad", 1, &leaf, true)] {
        assert_eq!(denied(judge(&json!([good, wrong]))), ("audit.vector_disagrees", "binding"));
    }
    assert_eq!(denied(judge(&json!([]))), ("evidence.missing", "parse"));
    assert_eq!(denied(judge(&json!([{"name": "half"}]))), ("evidence.malformed", "parse"));
}
