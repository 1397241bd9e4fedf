//! Other people's logs: checkpoints, tiles and proofs of the corpus named by `ATTEST_CORPUS`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that goes wrong should stop, and reads files"
)]

use std::path::PathBuf;

use audit::checkpoint::{LogIdentity, VerifiedCheckpoint};
use audit::note::{Note, NoteKey};
use audit::proof_file;
use audit::tile::{TileId, TileKind, leaves_of_bundle, read_entry_bundle, read_hash_tile};
use audit::tlog::{CompactRange, TreeHash, verify_inclusion};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::time::UnixSeconds;
use serde_json::Value;

struct Corpus {
    root: PathBuf,
    cases: Vec<Value>,
}

impl Corpus {
    /// The cases of one kind, or `None` after saying that there is no corpus here.
    fn of(kind: &str) -> Option<Self> {
        let Some(root) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
            println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
            return None;
        };
        let manifest: Value = serde_json::from_slice(&std::fs::read(root.join("MANIFEST.json")).unwrap()).unwrap();
        let cases = manifest["cases"].as_array().unwrap();
        let cases: Vec<Value> = cases.iter().filter(|case| case["kind"] == kind).cloned().collect();
        assert!(!cases.is_empty(), "no case of kind {kind}");
        Some(Self { root, cases })
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn key(&self, case: &Value) -> NoteKey {
        let text = String::from_utf8(self.bytes(role(case, "verifier_key"))).unwrap();
        NoteKey::from_vkey(text.trim_end()).unwrap()
    }
}

fn role<'c>(case: &'c Value, name: &str) -> &'c str {
    case["files"][name].as_str().unwrap_or_else(|| panic!("no {name} in {case}"))
}

const NOW: UnixSeconds = UnixSeconds(4_000_000_000);

/// Whether `key` signed the note, which may be a checkpoint under another origin than the key's name.
fn signed_by(bytes: &[u8], key: &NoteKey) -> Option<Note> {
    let note = Note::parse(bytes).ok()?;
    let mut by_key = note.signatures().iter().filter(|signature| signature.is_of(key)).peekable();
    by_key.peek()?;
    let genuine = by_key.all(|signature| key.key().verifies(note.text().as_bytes(), &signature.bytes));
    genuine.then_some(note)
}

#[test]
fn checkpoints_of_others_are_judged_as_the_corpus_says() {
    let Some(corpus) = Corpus::of("checkpoint") else { return };
    for case in &corpus.cases {
        let note = signed_by(&corpus.bytes(role(case, "checkpoint")), &corpus.key(case));
        let accepted = case["expected"]["verdict"] == "accept";
        assert_eq!(note.is_some(), accepted, "{}", case["id"]);
        let Some(note) = note else { continue };
        let lines: Vec<&str> = note.text().lines().collect();
        assert_eq!(lines[0], case["expected"]["origin"]);
        assert_eq!(lines[1], case["expected"]["size"].to_string());
    }
}

#[test]
fn every_vector_of_merkle_proofs_is_judged_as_it_wants() {
    let Some(corpus) = Corpus::of("merkle-proofs") else { return };
    for case in &corpus.cases {
        let vectors: Vec<Value> = serde_json::from_slice(&corpus.bytes(role(case, "vectors"))).unwrap();
        assert_eq!(Value::from(vectors.len()), case["expected"]["vectors"]);
        for vector in &vectors {
            let wanted = vector["wantErr"] == false;
            assert_eq!(inclusion(vector).is_some(), wanted, "{}: {}", vector["name"], vector["desc"]);
        }
    }
}

/// What does not decode is refused, as every reader of ours refuses it.
fn inclusion(vector: &Value) -> Option<()> {
    let hash = |text: &Value| {
        let bytes = STANDARD.decode(text.as_str()?).ok()?;
        <[u8; 32]>::try_from(bytes).ok().map(TreeHash)
    };
    let proof = vector["proof"].as_array().into_iter().flatten().map(hash).collect::<Option<Vec<_>>>()?;
    let (index, size) = (vector["leafIdx"].as_u64()?, vector["treeSize"].as_u64()?);
    verify_inclusion(&hash(&vector["leafHash"])?, index, size, &proof, &hash(&vector["root"])?).ok()
}

#[test]
fn a_tiled_log_of_others_hashes_to_each_of_its_checkpoints() {
    let Some(corpus) = Corpus::of("tlog") else { return };
    for case in &corpus.cases {
        let (folder, key) = (role(case, "folder"), corpus.key(case));
        let log = LogIdentity::new(key.name(), [key.key()]).unwrap();
        let entries = case["expected"]["entries"].as_u64().unwrap();
        let mut range = CompactRange::empty();
        let mut checkpoints = 1; // `checkpoint` itself, compared below
        for size in 0..=entries {
            if size > 0 {
                range.append(newest_leaf(&corpus, folder, size)).unwrap();
            }
            let bytes = corpus.bytes(&format!("{folder}/checkpoint.{size}"));
            let verified = VerifiedCheckpoint::verify(&bytes, &log, &[], NOW).unwrap();
            assert_eq!((verified.checkpoint().size, verified.checkpoint().root), (size, range.root()));
            checkpoints += 1;
        }
        let newest = VerifiedCheckpoint::verify(&corpus.bytes(&format!("{folder}/checkpoint")), &log, &[], NOW);
        assert_eq!(newest.unwrap().checkpoint().root, range.root());
        assert_eq!(Value::from(checkpoints), case["expected"]["checkpoints"]);
    }
}

/// The last leaf of the bundle of this width, after its hash tile was found to agree with the whole bundle.
fn newest_leaf(corpus: &Corpus, folder: &str, size: u64) -> TreeHash {
    let width = u16::try_from(size).unwrap();
    let path = |kind| TileId { kind, index: 0, width }.path();
    let bundle = corpus.bytes(&format!("{folder}/{}", path(TileKind::Entries)));
    let leaves = leaves_of_bundle(&read_entry_bundle(width, &bundle).unwrap());
    let id = TileId { kind: TileKind::Hashes { level: 0 }, index: 0, width };
    let tile = corpus.bytes(&format!("{folder}/{}", id.path()));
    assert_eq!(read_hash_tile(&id, &tile).unwrap(), leaves);
    *leaves.last().unwrap()
}

#[test]
fn a_proof_file_of_others_is_read_and_its_checkpoint_is_of_its_log() {
    let Some(corpus) = Corpus::of("tlog-proof") else { return };
    for case in &corpus.cases {
        let (key, text) = (corpus.key(case), String::from_utf8(corpus.bytes(role(case, "proof"))).unwrap());
        // What the proof is of is not in it: its path is only known to be as long as the tree demands.
        let receipt = proof_file::read(&text, Vec::new()).unwrap();
        assert_eq!(Value::from(receipt.index), case["expected"]["index"]);
        let log = LogIdentity::new(key.name(), [key.key()]).unwrap();
        let verified = VerifiedCheckpoint::verify(receipt.checkpoint.as_bytes(), &log, &[], NOW).unwrap();
        assert!(receipt.index < verified.checkpoint().size);
        assert_eq!(verified.unknown_signatures(), 1, "its witness");
        let bent = receipt.checkpoint.replacen("\n4\n", "\n5\n", 1);
        assert!(VerifiedCheckpoint::verify(bent.as_bytes(), &log, &[], NOW).is_err());
    }
}
