//! Deterministic CBOR, COSE keys and COSE_Sign1.
#![no_main]

use std::sync::LazyLock;

use evidence::cbor::{self, Caps};
use evidence::cose::{KeySet, PublicKey, Purpose, SigningKey, verify1};
use evidence::names::DomainName;
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<KeySet> = LazyLock::new(|| KeySet::new([SigningKey::from_seed(&[7; 32]).unwrap().public()]));

fuzz_target!(|bytes: &[u8]| {
    let caps = Caps::bytes(1 << 16);
    if let Ok(value) = cbor::from_slice::<ciborium::Value>(bytes, caps) {
        assert_eq!(cbor::to_vec(&value).unwrap(), bytes, "a value has one encoding");
    }
    if let Ok(key) = PublicKey::from_cose_key(bytes) {
        assert_eq!(key.cose_key(), bytes, "a key has one encoding");
    }
    let domain = DomainName::new("a.example").unwrap();
    let _ = verify1(Purpose::Statement, &domain, bytes, &KEYS);
    let _ = evidence::cose::claimed_payload(bytes);
});
