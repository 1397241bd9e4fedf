//! One defect each: from a genuine story, one change, exactly this denial.

use std::collections::BTreeSet;

use evidence::{
    cose::{Purpose, SigningKey, sign1},
    digest::Sha256Digest,
    names::{DomainName, NodeId},
    time::UnixSeconds,
};
use serde_bytes::ByteBuf;

use crate::{
    bundle::{AttachmentKind, ProofBundle},
    checkpoint::{Checkpoint, VerifiedCheckpoint, cosign},
    denial::{AuditDenial, AuditDenialKind},
    fixture::{
        FakeArtifact, FakeReader, FakeSaid, ISSUER, LOG, NODE, NOW, WITNESS, WITNESS_NAME, World, digest, domain, id,
        issuer_keys, key, log_identity, node, pins, witness,
    },
    fsck::LogAudit,
    note::{Note, NoteKey, NoteKeyKind},
    proof::{Pins, verify_bundle},
    receipt::Receipt,
    record::{RecordBody, VerifiedRecord},
    tile::{self, TileId, TileKind},
    tlog::{CompactRange, ProofPlan, TREE_CAP_LEAVES, verify_consistency},
};

type Case = (&'static str, fn() -> AuditDenial);

fn judge(bundle: &ProofBundle) -> AuditDenial {
    judge_with(bundle, &pins())
}

fn judge_with(bundle: &ProofBundle, pins: &Pins) -> AuditDenial {
    verify_bundle(&bundle.encode().unwrap(), pins, &FakeReader, NOW).unwrap_err().denial
}

/// The story with one change made to its parts.
fn bent(change: impl FnOnce(&mut ProofBundle)) -> AuditDenial {
    let mut parts = World::told().parts();
    change(&mut parts);
    judge(&parts)
}

/// The beginning of the story and one record that does not belong.
fn after(before: impl FnOnce(&mut World) -> Sha256Digest, body: fn(Sha256Digest) -> RecordBody) -> AuditDenial {
    let mut world = World::empty();
    let subject = before(&mut world);
    world.add(subject, body(subject));
    judge(&world.parts())
}

/// A record of the running story, changed before it is signed.
fn recorded(change: impl FnOnce(&mut crate::record::LineageRecord), signer: u8) -> AuditDenial {
    let mut world = World::empty();
    world.enrol();
    let mut record = world.record(digest("evidence"), RecordBody::Capture { evidence: digest("evidence") });
    change(&mut record);
    let entry = record.sign(&key(signer)).unwrap();
    world.log(entry);
    judge(&world.parts())
}

fn signature_of(bundle: &mut ProofBundle, kind: AttachmentKind) -> &mut ByteBuf {
    let attachment = bundle.attachments.iter_mut().find(|a| a.kind == kind).unwrap();
    &mut attachment.signatures[0]
}

fn checkpoint_with(change: impl FnOnce(&mut Note)) -> AuditDenial {
    let note = World::told().note();
    let mut note = Note::parse(note.as_bytes()).unwrap();
    change(&mut note);
    VerifiedCheckpoint::verify(note.to_text().as_bytes(), &log_identity(), &[], NOW).unwrap_err()
}

fn note_text(text: String, signer: &SigningKey) -> AuditDenial {
    let mut note = Note::new(text.clone()).unwrap();
    let log_key = NoteKey::new(crate::fixture::ORIGIN, NoteKeyKind::Ed25519, signer.public()).unwrap();
    note.add(&log_key, signer.sign_raw(text.as_bytes()));
    VerifiedCheckpoint::verify(note.to_text().as_bytes(), &log_identity(), &[], NOW).unwrap_err()
}

fn audited(
    world: &World,
    checkpoint: &Checkpoint,
    published: impl FnMut(&TileId) -> Option<Vec<u8>>,
) -> Result<crate::fsck::LogReport, AuditDenial> {
    let note = checkpoint.sign(&key(LOG)).unwrap();
    let checkpoint = VerifiedCheckpoint::verify(note.as_bytes(), &log_identity(), &[], NOW)?;
    let mut audit = LogAudit::new(domain(), issuer_keys());
    for entry in &world.entries {
        audit.entry(entry).map_err(|failure| failure.denial)?;
    }
    audit.finish(&checkpoint, published)
}

fn published(world: &World) -> impl FnMut(&TileId) -> Option<Vec<u8>> + '_ {
    |id| match id.kind {
        TileKind::Hashes { .. } => tile::hash_tile(id, &world.nodes).ok(),
        TileKind::Entries => tile::entry_bundle(world.entries.iter().map(Vec::as_slice)).ok(),
    }
}

fn cases() -> Vec<Case> {
    [tree_cases(), note_cases(), record_cases(), attachment_cases(), log_cases()].concat()
}

fn tree_cases() -> Vec<Case> {
    vec![
        ("audit.tree_too_large", || ProofPlan::inclusion(0, TREE_CAP_LEAVES + 1).unwrap_err()),
        ("audit.index_beyond_tree", || ProofPlan::inclusion(3, 3).unwrap_err()),
        ("audit.sizes_not_ordered", || ProofPlan::consistency(4, 3).unwrap_err()),
        ("audit.node_missing", || CompactRange::read(3, &std::collections::HashMap::new()).unwrap_err()),
        ("audit.inclusion_proof_wrong", || bent(|b| b.domains[0].records[4].proof[0].0[0] ^= 1)),
        ("audit.consistency_proof_wrong", || {
            let world = World::told();
            let proof = ProofPlan::consistency(3, 11).unwrap().build(&world.nodes).unwrap();
            let root = world.range.root();
            verify_consistency(3, &root, 11, &root, &proof).unwrap_err()
        }),
        ("audit.tile_path_malformed", || TileId::parse("tile/0/../000").unwrap_err()),
        ("audit.tile_length", || {
            let id = TileId { kind: TileKind::Hashes { level: 0 }, index: 0, width: 2 };
            tile::read_hash_tile(&id, &[0; 65]).unwrap_err()
        }),
        ("audit.bundle_malformed", || tile::read_entry_bundle(2, &[0, 0]).unwrap_err()),
        ("audit.entry_too_large", || VerifiedRecord::verify(&[0; 20_000], &domain(), &issuer_keys()).unwrap_err()),
    ]
}

fn note_cases() -> Vec<Case> {
    vec![
        ("audit.note_key", || NoteKey::new("a b", NoteKeyKind::Ed25519, key(1).public()).unwrap_err()),
        ("audit.note_malformed", || bent(|b| b.domains[0].checkpoint.push('\n'))),
        ("audit.note_signature", || {
            checkpoint_with(|note| {
                let log_key = NoteKey::new(crate::fixture::ORIGIN, NoteKeyKind::Ed25519, key(LOG).public()).unwrap();
                note.add(&log_key, vec![0; 64]);
            })
        }),
        ("audit.checkpoint_malformed", || {
            let text = World::told().checkpoint().text();
            note_text(format!("{text}extension\n"), &key(LOG))
        }),
        ("audit.origin_mismatch", || {
            let other = Checkpoint { origin: "b.example/log".into(), ..World::told().checkpoint() };
            note_text(other.text(), &key(LOG))
        }),
        ("audit.not_signed_by_log", || note_text(World::told().checkpoint().text(), &key(9))),
        ("audit.quorum_not_met", || judge_with(&World::told().parts(), &Pins { quorum: 2, ..pins() })),
        ("audit.from_the_future", || {
            let world = World::told();
            let mut parts = world.parts();
            let note = world.checkpoint().sign(&key(LOG)).unwrap();
            let at = NOW.plus(3_600);
            parts.domains[0].checkpoint = cosign(note.as_bytes(), WITNESS_NAME, &key(WITNESS), at).unwrap();
            judge(&parts)
        }),
        ("audit.from_the_future", || recorded(|record| record.at = NOW.plus(3_600), ISSUER)),
        ("audit.unknown_signers", || {
            let world = World::told();
            let mut parts = world.parts();
            let note = cosign(world.note().as_bytes(), "x.example", &key(9), UnixSeconds(9_999)).unwrap();
            parts.domains[0].checkpoint = note;
            judge(&parts)
        }),
    ]
}

fn record_cases() -> Vec<Case> {
    vec![
        ("audit.signature_invalid", || recorded(|_| (), 9)),
        ("audit.record_malformed", || {
            let payload = evidence::cbor::to_vec(&"not a record").unwrap();
            let entry = sign1(Purpose::LineageRecord, &domain(), &payload, &key(ISSUER)).unwrap();
            VerifiedRecord::verify(&entry, &domain(), &issuer_keys()).unwrap_err()
        }),
        ("audit.record_malformed", || {
            let mut world = World::empty();
            world.enrol();
            let body = RecordBody::Capture { evidence: digest("evidence") };
            let record = crate::record::LineageRecord { node: None, ..world.record(digest("evidence"), body) };
            record.sign(&key(ISSUER)).unwrap_err()
        }),
        ("audit.domain_mismatch", || {
            // Signed for this domain's context, but telling of another.
            let world = World::empty();
            let body = RecordBody::Admission { machine: digest("ek") };
            let other = DomainName::new("b.example").unwrap();
            let record = crate::record::LineageRecord { domain: other, ..world.record(digest("ek"), body) };
            let payload = evidence::cbor::to_vec(&record).unwrap();
            let entry = sign1(Purpose::LineageRecord, &domain(), &payload, &key(ISSUER)).unwrap();
            VerifiedRecord::verify(&entry, &domain(), &issuer_keys()).unwrap_err()
        }),
        ("audit.receipt_malformed", || {
            let bytes = Receipt { version: 2, ..World::told().receipt(3) }.encode().unwrap();
            Receipt::verify(&bytes, &log_identity(), &[], 0, NOW).unwrap_err()
        }),
        ("audit.lineage_broken", || recorded(|record| record.parents = vec![digest("another head")], ISSUER)),
        ("audit.lineage_broken", || recorded(|record| record.parents = vec![], ISSUER)),
        ("audit.lineage_broken", || recorded(|record| record.node = Some(NodeId::new("n2").unwrap()), ISSUER)),
        ("audit.parent_missing", || recorded(|record| record.parents.push(digest("nowhere")), ISSUER)),
        ("audit.key_out_of_time", || {
            let mut world = World::told();
            world.bundle.until = 9_000;
            judge(&world.parts())
        }),
        ("audit.proof_malformed", || bent(|b| b.version = 2)),
        ("audit.proof_malformed", || bent(|b| b.domains.clear())),
        ("audit.proof_malformed", || bent(|b| b.domains[0].records.clear())),
        ("audit.domain_not_pinned", || {
            judge_with(&World::told().parts(), &Pins { domains: vec![], quorum: 0, ..pins() })
        }),
        ("audit.threshold_not_met", || bent(|b| b.domains[0].trust_bundles[0].clear())),
        ("audit.threshold_not_met", || {
            bent(|b| {
                let payload = evidence::cbor::to_vec(&World::told().bundle).unwrap();
                let forged = sign1(Purpose::TrustBundle, &domain(), &payload, &key(9)).unwrap();
                b.domains[0].trust_bundles[0] = vec![ByteBuf::from(forged)];
            })
        }),
    ]
}

fn attachment_cases() -> Vec<Case> {
    vec![
        ("audit.lineage_order", || after(enrolled, |_| authorization(1))),
        ("audit.lineage_order", || after(started, |_| authorization(0))),
        ("audit.lineage_order", || after(started, |_| RecordBody::Release { artifact: id(9), keys: vec![] })),
        ("audit.lineage_order", || after(granted, |_| renewal(1))),
        ("audit.lineage_order", || after(ended, |_| renewal(2))),
        ("audit.lineage_order", || after(halted, |_| renewal(2))),
        ("audit.lineage_order", || after(granted, |_| readmission())),
        ("audit.payload_unreadable", || {
            let said = sign1(Purpose::Artifact, &domain(), &[0x00], &key(ISSUER)).unwrap();
            bent(|b| *signature_of(b, AttachmentKind::Artifact) = ByteBuf::from(said))
        }),
        ("audit.signature_invalid", || {
            let said = sign1(Purpose::Artifact, &domain(), &[0x00], &key(9)).unwrap();
            bent(|b| *signature_of(b, AttachmentKind::Artifact) = ByteBuf::from(said))
        }),
        ("audit.signature_invalid", || {
            // The right words, by another key than the node's.
            let mut parts = World::told().parts();
            let cose = signature_of(&mut parts, AttachmentKind::Intent);
            let payload = evidence::cose::claimed_payload(cose).unwrap();
            *cose = ByteBuf::from(sign1(Purpose::Intent, &domain(), &payload, &key(ISSUER)).unwrap());
            judge(&parts)
        }),
        ("audit.attachment_stray", || {
            let mut world = World::told();
            let said = FakeSaid { node: node(), intent: None, code: None, serial: 77 };
            world.attach(AttachmentKind::Intent, NODE, &said);
            judge(&world.parts())
        }),
        ("audit.attachment_missing", || bent(|b| b.attachments.retain(|a| a.kind != AttachmentKind::Halt))),
        ("audit.attachment_mismatch", || bent(|b| b.attachments[0].signatures.clear())),
        ("audit.attachment_mismatch", || artifact_with(|artifact| artifact.lease_seq = 7)),
        ("audit.attachment_mismatch", || artifact_with(|artifact| artifact.terms = digest("wider terms"))),
        ("audit.attachment_mismatch", || artifact_with(|artifact| artifact.index = 0)),
        ("audit.attachment_mismatch", || artifact_with(|artifact| artifact.node = NodeId::new("n2").unwrap())),
        ("audit.attachment_mismatch", || artifact_with(|artifact| artifact.id = id(8))),
        ("audit.attachment_mismatch", || artifact_with(|artifact| artifact.intent = digest("other"))),
        ("audit.attachment_stray", || artifact_with(|artifact| artifact.entry = digest("nowhere"))),
    ]
}

fn log_cases() -> Vec<Case> {
    vec![
        ("audit.size_mismatch", || {
            let world = World::told();
            let checkpoint = Checkpoint { size: 12, ..world.checkpoint() };
            audited(&world, &checkpoint, published(&world)).unwrap_err()
        }),
        ("audit.root_mismatch", || {
            let world = World::told();
            let checkpoint = Checkpoint { root: crate::tlog::empty_root(), ..world.checkpoint() };
            audited(&world, &checkpoint, published(&world)).unwrap_err()
        }),
        ("audit.tile_mismatch", || {
            let world = World::told();
            audited(&world, &world.checkpoint(), |_| None).unwrap_err()
        }),
        ("audit.tile_mismatch", || {
            let world = World::told();
            let mut genuine = published(&world);
            let bent = |id: &TileId| {
                genuine(id).map(|mut bytes| {
                    let last = bytes.len() - 1;
                    bytes[last] ^= 1;
                    bytes
                })
            };
            audited(&world, &world.checkpoint(), bent).unwrap_err()
        }),
    ]
}

/// Enrolled, and an intent that nobody recorded.
fn enrolled(world: &mut World) -> Sha256Digest {
    world.enrol();
    digest("unrecorded intent")
}

fn started(world: &mut World) -> Sha256Digest {
    world.enrol();
    world.intent(1)
}

fn granted(world: &mut World) -> Sha256Digest {
    let intent = started(world);
    world.granted(intent, 1, 1, false);
    intent
}

fn ended(world: &mut World) -> Sha256Digest {
    let intent = granted(world);
    world.end(intent);
    intent
}

fn halted(world: &mut World) -> Sha256Digest {
    let intent = granted(world);
    world.halt();
    intent
}

fn authorization(lease_seq: u64) -> RecordBody {
    let (terms, result, evidence, state) = (digest("terms"), digest("result"), digest("evidence"), digest("state"));
    let svid = digest("svid");
    RecordBody::Authorization { artifact: id(1), terms, result, evidence, state, lease_seq, svid }
}

fn renewal(lease_seq: u64) -> RecordBody {
    let (terms, result, evidence, state) = (digest("terms"), digest("result"), digest("evidence"), digest("state"));
    let svid = digest("svid");
    RecordBody::Renewal { artifact: id(1), terms, result, evidence, state, lease_seq, svid }
}

fn readmission() -> RecordBody {
    RecordBody::Readmission { statement: digest("statement"), halt: digest("halt"), epoch: 2 }
}

fn artifact_with(change: fn(&mut FakeArtifact)) -> AuditDenial {
    let mut world = World::empty();
    world.enrol();
    let intent = world.intent(1);
    world.granted(intent, 1, 1, false);
    world.attachments.pop();
    let (index, entry) = (world.range.size() - 1, world.head.unwrap());
    let terms = digest("terms 1 1");
    let mut said = FakeArtifact { id: id(1), terms, index, entry, intent, node: node(), lease_seq: 1 };
    change(&mut said);
    world.attach(AttachmentKind::Artifact, ISSUER, &said);
    judge(&world.parts())
}

#[test]
fn every_denial_has_a_case_with_one_defect() {
    let mut seen = BTreeSet::new();
    for (at, (code, case)) in cases().into_iter().enumerate() {
        let denial = case();
        assert_eq!(denial.code(), code, "case {at}: {denial}");
        seen.insert(code);
    }
    let missing: Vec<_> =
        AuditDenialKind::all().map(AuditDenialKind::code).filter(|code| !seen.contains(code)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn codes_are_what_they_always_were() {
    let codes: Vec<_> = AuditDenialKind::all().map(AuditDenialKind::code).collect();
    let golden: Vec<_> = include_str!("denial_codes.txt").lines().collect();
    assert_eq!(codes, golden);
}

#[test]
fn a_sound_log_is_found_sound_and_a_receipt_verifies() {
    let world = World::told();
    let report = audited(&world, &world.checkpoint(), published(&world)).unwrap();
    assert_eq!((report.size, report.nodes, report.tiles), (11, 1, 2));
    let witness = witness();
    for index in 0..11 {
        let bytes = world.receipt(index).encode().unwrap();
        let receipt = Receipt::verify(&bytes, &log_identity(), std::slice::from_ref(&witness), 1, NOW).unwrap();
        let record = receipt.record(&domain(), &issuer_keys()).unwrap();
        assert_eq!((receipt.index(), receipt.entry_digest()), (index, record.digest()));
    }
    let bytes = world.receipt(4).encode().unwrap();
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1 << (at % 8);
        let judged = Receipt::verify(&bent, &log_identity(), std::slice::from_ref(&witness), 1, NOW);
        assert!(judged.is_err(), "byte {at} of {}", bytes.len());
    }
}
