//! Bundles of endorsements, and files of vendors' certificates, lists and collateral that are told apart by content.
#![no_main]

use std::sync::LazyLock;

use evidence::cose::{KeySet, SigningKey};
use libfuzzer_sys::fuzz_target;

use crate::endorsements::{bundle::Bundle, document::Document, recognise::Pile};

/// The verifier's readers alone: the verifier itself would bring a database and a network into every target.
#[allow(dead_code, unreachable_pub, reason = "the verifier uses what a target does not")]
#[path = "../../verifier/src/endorsements"]
mod endorsements {
    pub mod amd;
    pub mod bundle;
    pub mod document;
    pub mod intel;
    pub mod key;
    pub mod recognise;
    pub mod x509;
}

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[7; 32]).unwrap());

fuzz_target!(|bytes: &[u8]| {
    if let Ok((bundle, signer)) = Bundle::from_bytes(bytes, &KeySet::default()) {
        assert!(signer.is_none(), "nobody was named");
        assert_eq!(bundle.to_bytes(None).unwrap(), bytes, "a bundle has one encoding");
        let keys = KeySet::new([KEY.public()]);
        let signed = bundle.to_bytes(Some(&KEY)).unwrap();
        assert_eq!(Bundle::from_bytes(&signed, &keys).unwrap().0, bundle, "signed or not, it says the same");
        let mut pile = Pile::default();
        bundle.add_to(&mut pile, "bundle");
        let _ = pile.sorted();
    }
    assert!(Bundle::from_bytes(bytes, &KeySet::new([KEY.public()])).is_err(), "nothing is signed");
    if let Ok(document) = Document::from_bytes(bytes) {
        assert_eq!(document.to_bytes().unwrap(), bytes, "a document has one encoding");
    }
    let mut pile = Pile::default();
    pile.add("file", bytes);
    for found in pile.sorted().found {
        let _ = found.key.to_string();
    }
});
