//! Reference value sets, signed form and authored form.
#![no_main]

use firmware_refs::set::ReferenceValueSet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ReferenceValueSet::from_cbor(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = ReferenceValueSet::from_toml(text);
    }
});
