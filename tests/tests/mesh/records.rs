//! What a domain's log says of something.

use std::sync::atomic::{AtomicU64, Ordering};

use attestd::demo::mesh::Mesh;

/// Kinds of the records about it, oldest first.
pub(crate) async fn records(mesh: &Mesh, domain: &str, subject: &str) -> Vec<String> {
    static EXPORTS: AtomicU64 = AtomicU64::new(0);
    let number = EXPORTS.fetch_add(1, Ordering::Relaxed);
    let out = mesh.path(&format!("{domain}-{number}.cbor")).display().to_string();
    mesh.ask(domain, &["proof", "export", subject, "--out", &out], 0).await.unwrap();
    let bundle = audit::bundle::ProofBundle::decode(&std::fs::read(&out).unwrap()).unwrap();
    let entries = bundle.domains.iter().flat_map(|proof| &proof.records);
    let kind = |logged: &audit::bundle::LoggedRecord| {
        let payload = evidence::cose::claimed_payload(&logged.entry).unwrap();
        let caps = evidence::cbor::Caps::bytes(payload.len());
        let record: audit::record::LineageRecord = evidence::cbor::from_slice(&payload, caps).unwrap();
        record.kind().name().to_owned()
    };
    entries.map(kind).collect()
}
