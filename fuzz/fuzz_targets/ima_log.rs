//! IMA measurement lists, text and binary.
#![no_main]

use evidence::digest::{Digest, HashAlg};
use evidence::ima::{ImaBankForm, ImaLog};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = ImaLog::parse(bytes) else { return };
    let _ = log.verify_entries();
    let _ = log.verify_order();
    for form in [ImaBankForm::ZeroPadded, ImaBankForm::Rehashed] {
        let replayed = log.replay(HashAlg::Sha256, form);
        if !log.entries().is_empty() {
            assert!(log.match_prefix(&replayed).is_ok(), "a list leads to where it replays to");
        }
    }
    let _ = log.verify_boot_aggregate(&[(0, Digest::zero(HashAlg::Sha256))]);
    for entry in log.entries() {
        assert!(!entry.path_escaped().chars().any(char::is_control), "what is shown is escaped");
    }
});
