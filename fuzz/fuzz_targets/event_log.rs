//! Firmware event logs: reading, replay, grammar, recomputed digests.
#![no_main]

use evidence::digest::HashAlg;
use evidence::event_log::EventLog;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(log) = EventLog::parse(bytes) else { return };
    for alg in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384] {
        let _ = log.replay(alg);
        let _ = log.verify_event_data(alg);
        let _ = log.measured(7, alg).count();
    }
    let _ = log.verify_boot_grammar();
    for event in log.events() {
        assert!(!event.description().chars().any(char::is_control), "what is shown is escaped");
    }
});
