//! Statements, artifacts, intents, halts, ends, bundles and JWT-SVIDs.
#![no_main]

use governance::{
    artifact::Artifact, end::EndRecord, halt::HaltRecord, intent::Intent, jwt_svid::ClaimedJwtSvid, node_key::NodeKey,
    statement::Statement, trust_bundle::TrustBundle,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(halt) = HaltRecord::decode(bytes) {
        assert_eq!(halt.encode().unwrap(), bytes, "a halt record has one encoding");
    }
    if let Ok(end) = EndRecord::decode(bytes) {
        assert_eq!(end.encode().unwrap(), bytes, "an end record has one encoding");
    }
    if let Ok(key) = NodeKey::from_cose_key(bytes) {
        assert_eq!(key.cose_key(), bytes, "a node key has one encoding");
    }
    let _ = Artifact::decode(bytes);
    let _ = Intent::decode(bytes);
    let _ = Statement::decode(bytes);
    let _ = TrustBundle::decode(bytes);
    let _ = std::str::from_utf8(bytes).map(ClaimedJwtSvid::read);
});
