//! Our tiles, proofs, checkpoints and notes, read and verified by somebody else's code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    missing_docs
)]

use std::collections::HashMap;

use audit::{
    checkpoint::{Checkpoint, LogIdentity, VerifiedCheckpoint, cosign},
    note::{NoteKey, NoteKeyKind},
    tile::{self, TileId, TileKind},
    tlog::{self, CompactRange, NodeId, ProofPlan, TreeHash, leaf_hash},
};
use evidence::{cose::SigningKey, time::UnixSeconds};
use proptest::prelude::*;
use signed_note::Verifier as _;
use tlog_tiles::tlog::{self as theirs, Hash, HashReader as _};

fn grown(size: u64) -> (CompactRange, HashMap<NodeId, TreeHash>) {
    let (mut range, mut nodes) = (CompactRange::empty(), HashMap::new());
    for i in 0..size {
        nodes.extend(range.append(leaf_hash(&i.to_be_bytes())).unwrap());
    }
    (range, nodes)
}

/// Their reader over our nodes: a stored hash index names a level and a position.
struct Nodes<'a>(&'a HashMap<NodeId, TreeHash>);

impl theirs::HashReader for Nodes<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, theirs::Error> {
        let node = |index: &u64| {
            let (level, index) = theirs::split_stored_hash_index(*index);
            self.0.get(&NodeId { level, index }).map(|hash| Hash(hash.0)).ok_or(theirs::Error::IndexesNotInTree)
        };
        indexes.iter().map(node).collect()
    }
}

/// Their reader over our tile files, by our paths.
struct Files(HashMap<String, Vec<u8>>);

/// C2SP paths leave out the tile height that theirs name.
fn c2sp_path(tile: &tlog_tiles::tile::Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

impl tlog_tiles::tile::TileReader for Files {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::tile::Tile]) -> Result<Vec<Vec<u8>>, theirs::Error> {
        tiles.iter().map(|t| self.0.get(&c2sp_path(t)).cloned().ok_or(theirs::Error::InvalidTile)).collect()
    }

    fn save_tiles(&self, _: &[tlog_tiles::tile::Tile], _: &[Vec<u8>]) {}
}

fn hashes(proof: &[TreeHash]) -> Vec<Hash> {
    proof.iter().map(|hash| Hash(hash.0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn roots_and_proofs_agree(size in 1_u64..600, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
        let (range, nodes) = grown(size);
        let root = Hash(range.root().0);
        prop_assert_eq!(theirs::tree_hash(size, &Nodes(&nodes)).unwrap(), root);

        let index = a.index(size as usize) as u64;
        let leaf = leaf_hash(&index.to_be_bytes());
        prop_assert_eq!(theirs::record_hash(&index.to_be_bytes()), Hash(leaf.0));
        let ours = ProofPlan::inclusion(index, size).unwrap().build(&nodes).unwrap();
        prop_assert_eq!(&theirs::prove_record(size, index, &Nodes(&nodes)).unwrap(), &hashes(&ours));
        theirs::check_record(&hashes(&ours), size, root, index, Hash(leaf.0)).unwrap();

        let old = 1 + b.index(size as usize) as u64;
        let (old_range, _) = grown(old);
        let ours = ProofPlan::consistency(old, size).unwrap().build(&nodes).unwrap();
        prop_assert_eq!(&theirs::prove_tree(size, old, &Nodes(&nodes)).unwrap(), &hashes(&ours));
        theirs::check_tree(&hashes(&ours), size, root, old, Hash(old_range.root().0)).unwrap();
        tlog::verify_consistency(old, &old_range.root(), size, &range.root(), &ours).unwrap();
    }

    #[test]
    fn tile_names_agree(level in 0_u8..63, index in 0_u64..(1 << 40), width in 1_u16..=256) {
        let ours = TileId { kind: TileKind::Hashes { level }, index, width };
        let path = c2sp_path(&tlog_tiles::tile::Tile::new(8, level, index, u32::from(width), false));
        prop_assert_eq!(ours.path(), path.as_str());
        prop_assert_eq!(TileId::parse(&path).unwrap(), ours);
    }
}

#[test]
fn tiles_are_published_when_theirs_would_be_and_read_as_theirs() {
    for (old, new) in [(0, 1), (0, 256), (255, 257), (256, 256), (0, 1_000), (1_000, 66_000)] {
        let ours: Vec<_> =
            TileId::changed(old, new).iter().filter(|id| id.kind != TileKind::Entries).map(TileId::path).collect();
        let theirs: Vec<_> = tlog_tiles::tile::Tile::new_tiles(8, old, new).iter().map(c2sp_path).collect();
        assert_eq!(ours, theirs, "{old} to {new}");
    }
    let (range, nodes) = grown(66_000);
    let files = Files(
        TileId::changed(0, range.size())
            .iter()
            .filter(|id| id.kind != TileKind::Entries)
            .map(|id| (id.path(), tile::hash_tile(id, &nodes).unwrap()))
            .collect(),
    );
    let reader = tlog_tiles::tile::TileHashReader::new(range.size(), Hash(range.root().0), &files);
    for index in [0, 255, 256, 65_535, 65_536, 65_999] {
        let leaf = reader.read_hashes(&[theirs::stored_hash_index(0, index)]).unwrap();
        assert_eq!(leaf[0].0, leaf_hash(&index.to_be_bytes()).0);
        let proof = theirs::prove_record(range.size(), index, &reader).unwrap();
        theirs::check_record(&proof, range.size(), Hash(range.root().0), index, leaf[0]).unwrap();
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

#[test]
fn checkpoints_and_keys_are_read_and_verified() {
    let (range, _) = grown(300);
    let origin = "a.example/log";
    let checkpoint = Checkpoint { origin: origin.into(), size: 300, root: range.root() };
    let log_key = NoteKey::new(origin, NoteKeyKind::Ed25519, key(1).public()).unwrap();
    let verifier = signed_note::StandardVerifier::new(&log_key.vkey()).unwrap();
    assert_eq!((verifier.name(), verifier.key_id()), (origin, log_key.id()));

    let signed = checkpoint.sign(&key(1)).unwrap();
    let cosigned = cosign(signed.as_bytes(), "w.example", &key(2), UnixSeconds(1_700_000_000)).unwrap();
    for note in [&signed, &cosigned] {
        let read = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        assert_eq!(read.to_bytes(), note.as_bytes());
        let known = signed_note::VerifierList::new(vec![Box::new(verifier.clone())]);
        let (verified, _) = read.verify(&known).unwrap();
        assert_eq!(verified.len(), 1);
        let theirs = tlog_tiles::checkpoint::Checkpoint::from_bytes(read.text()).unwrap();
        assert_eq!((theirs.origin(), theirs.size(), theirs.hash().0), (origin, 300, range.root().0));
    }
}

/// A witness as tlog-cosignature describes it, over their notes and their Ed25519.
struct Witness(signed_note::StandardVerifier, u32);

impl signed_note::Verifier for Witness {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn key_id(&self) -> u32 {
        self.1
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<8>() else { return false };
        let head = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time));
        self.0.verify(&[head.as_bytes(), text].concat(), signature)
    }
}

#[test]
fn cosignatures_are_verified_by_their_notes_and_keys() {
    let (range, _) = grown(300);
    let checkpoint = Checkpoint { origin: "a.example/log".into(), size: 300, root: range.root() };
    let signed = checkpoint.sign(&key(1)).unwrap();
    let (name, at) = ("w.example/witness", UnixSeconds(1_700_000_000));
    let line = audit::witness::answer(&signed, name, &key(2), at).unwrap();
    let read = signed_note::Note::from_bytes(format!("{signed}{line}").as_bytes()).unwrap();
    let plain = NoteKey::new(name, NoteKeyKind::Ed25519, key(2).public()).unwrap();
    let id = signed_note::key_id(name, &[&[0x04_u8][..], key(2).public().raw()].concat());
    assert_eq!(id, NoteKey::new(name, NoteKeyKind::Cosignature, key(2).public()).unwrap().id());
    let witness = |id| Witness(signed_note::StandardVerifier::new(&plain.vkey()).unwrap(), id);
    let (verified, rest) = read.verify(&signed_note::VerifierList::new(vec![Box::new(witness(id))])).unwrap();
    assert_eq!((verified.len(), rest.len()), (1, 1), "the cosignature, and the log's own signature by a key not asked");
    let other = format!("{}{line}", Checkpoint { size: 299, ..checkpoint }.sign(&key(1)).unwrap());
    let read = signed_note::Note::from_bytes(other.as_bytes()).unwrap();
    assert!(read.verify(&signed_note::VerifierList::new(vec![Box::new(witness(id))])).is_err());
}

/// Notes made elsewhere: the examples of tlog-checkpoint and tlog-cosignature, whose keys are not published, are read
/// as they stand; a note signed by their code is verified by ours.
#[test]
fn notes_made_elsewhere_are_accepted() {
    let example = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    let note = audit::note::Note::parse(example.as_bytes()).unwrap();
    assert_eq!(note.to_text(), example);
    assert_eq!(note.signatures()[1].bytes.len(), 72);

    let log_key = NoteKey::new("b.example/log", NoteKeyKind::Ed25519, key(7).public()).unwrap();
    let seed = base64_of(&[&[0x01_u8][..], &[7; 32]].concat());
    let skey = format!("PRIVATE+KEY+b.example/log+{:08x}+{seed}", log_key.id());
    let signer = signed_note::StandardSigner::new(&skey).unwrap();
    let (range, _) = grown(5);
    let text = Checkpoint { origin: "b.example/log".into(), size: 5, root: range.root() }.text();
    let mut note = signed_note::Note::new(text.as_bytes(), &[]).unwrap();
    note.add_sigs(&[&signer]).unwrap();
    let log = LogIdentity::new("b.example/log", [key(7).public()]).unwrap();
    let verified = VerifiedCheckpoint::verify(&note.to_bytes(), &log, &[], UnixSeconds(0)).unwrap();
    assert_eq!((verified.checkpoint().size, verified.checkpoint().root), (5, range.root()));
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
