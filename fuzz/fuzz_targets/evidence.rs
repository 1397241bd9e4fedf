//! Evidence collections as nodes send them.
#![no_main]

use evidence::evidence::Evidence;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(evidence) = Evidence::decode(bytes.to_vec()) {
        assert_eq!(evidence.bytes(), bytes, "evidence is kept as it came");
    }
});
