//! Everything that a stranger's log, proof or checkpoint is read by.
#![no_main]

use audit::{bundle::ProofBundle, note::Note, proof_file, receipt::Receipt, tile, witness::AddCheckpoint};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_text().as_bytes(), bytes, "a note has one spelling");
    }
    if let Ok(request) = AddCheckpoint::parse(bytes) {
        assert_eq!(request.encode().as_bytes(), bytes, "a request has one spelling");
        let _ = request.claimed();
    }
    if let Ok(receipt) = Receipt::decode(bytes) {
        assert_eq!(receipt.encode().unwrap(), bytes, "a receipt has one encoding");
    }
    if let Ok(bundle) = ProofBundle::decode(bytes) {
        assert_eq!(bundle.encode().unwrap(), bytes, "a proof bundle has one encoding");
    }
    if let Some((width, rest)) = bytes.split_first() {
        let _ = tile::read_entry_bundle(u16::from(*width), rest);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(id) = tile::TileId::parse(text) {
            assert_eq!(id.path(), text, "a tile has one path");
        }
        let _ = proof_file::read(text, Vec::new());
    }
});
