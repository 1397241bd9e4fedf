//! What a store must do, whatever engine is below it.

use std::collections::BTreeSet;
use std::time::Duration;

use audit::receipt::Receipt;
use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use evidence::names::{ItemName, NodeId};
use evidence::tee::PlatformId;
use evidence::time::UnixSeconds;
use governance::artifact::ArtifactId;
use verifier::evidence_store::{self, BlobKind};
use verifier::governance_state::{self, StateInForce};
use verifier::keys::{self, KeyEncryptionKey, KeyFault};
use verifier::leases::{self, LeaseEnd, LeaseRefusal};
use verifier::nodes::{
    self, BootSeen, ClockSeen, Continuity, Machine, NodeIdentity, NodeRefusal, NodeStatus, TpmIdentity,
};
use verifier::store::{Health, NewEntry, StoreError};

use crate::bed::Bed;
pub(crate) use crate::endorsing::*;

fn entry(n: u64) -> NewEntry {
    NewEntry::new(format!("entry {n}").into_bytes()).about(format!("subject {}", n % 2))
}

async fn fill(bed: &Bed, entries: u64) {
    let opened = bed.open().await;
    opened.log.append((0..entries).map(entry).collect()).await.unwrap();
    opened.close().await;
}

pub(crate) async fn entries_are_numbered_proven_and_found(bed: &Bed) {
    let opened = bed.open().await;
    let logged = opened.log.append((0..5).map(entry).collect()).await.unwrap();
    assert_eq!(logged.iter().map(|l| l.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let third = opened.log.entry(3).await.unwrap().unwrap();
    assert_eq!(third.bytes, b"entry 3");
    assert_eq!(opened.log.prove(&third).unwrap(), logged[3]);
    let receipt = logged[3].receipt.encode().unwrap();
    let verified = Receipt::verify(&receipt, &crate::bed::signer().identity(), &[], 0, UnixSeconds(0)).unwrap();
    assert_eq!((verified.index(), verified.entry_digest()), (3, third.digest()));
    assert_eq!(opened.log.entry_by_digest(&third.digest()).await.unwrap(), Some(third));
    let about: Vec<_> = opened.log.entries_about("subject 0").await.unwrap().iter().map(|e| e.index).collect();
    assert_eq!(about, [0, 2, 4]);
    assert_eq!(opened.log.entry(5).await.unwrap(), None);
    let huge = NewEntry::new(vec![0; 65_536]);
    let refused = opened.log.append(vec![huge]).await;
    assert_eq!(refused.unwrap_err(), StoreError::EntryTooLarge { bytes: 65_536 });
}

pub(crate) async fn refused_work_leaves_nothing_behind(bed: &Bed) {
    let opened = bed.open().await;
    let accepted = opened.store.write(|tx| {
        Box::pin(async move {
            let index = tx.append(entry(1))?;
            let digest = evidence_store::put(tx, BlobKind::Evidence, b"kept").await?;
            Ok::<_, StoreError>((index, digest))
        })
    });
    let refused = opened.store.write(|tx| {
        Box::pin(async move {
            tx.append(entry(2))?;
            evidence_store::put(tx, BlobKind::Evidence, b"undone").await?;
            Err::<(), _>(StoreError::Conflict { doing: "testing" })
        })
    });
    let (accepted, refused) = tokio::join!(accepted, refused);
    let accepted = accepted.unwrap();
    assert_eq!(refused.unwrap_err(), StoreError::Conflict { doing: "testing" });
    assert_eq!(accepted.value.0, accepted.logged[0].index);
    assert_eq!(opened.log.size(), 1);
    let kept = evidence_store::get(&opened.store, &accepted.value.1).await.unwrap();
    assert_eq!(kept.as_deref(), Some(b"kept".as_slice()));
    assert_eq!(evidence_store::get(&opened.store, &Sha256Digest::of(b"undone")).await.unwrap(), None);
}

pub(crate) async fn sixty_four_writers_lose_nothing(bed: &Bed) {
    let opened = bed.open().await;
    let writers: Vec<_> = (0..64_u64)
        .map(|writer| {
            let log = opened.log.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for n in 0..12 {
                    let bytes = format!("writer {writer} entry {n}").into_bytes();
                    let logged = log.append(vec![NewEntry::new(bytes.clone())]).await.unwrap();
                    seen.push((logged[0].index, bytes));
                }
                seen
            })
        })
        .collect();
    let mut indices = BTreeSet::new();
    for writer in writers {
        for (index, bytes) in writer.await.unwrap() {
            assert!(indices.insert(index), "index {index} given twice");
            let entry = opened.log.entry(index).await.unwrap().unwrap();
            assert_eq!(entry.bytes, bytes);
            opened.log.prove(&entry).unwrap();
        }
    }
    assert_eq!(indices, (0..768).collect());
    // Files follow behind the signed head; they are whole once the log is closed.
    opened.close().await;
    let report = bed.audit().await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.entries, report.checkpoint_size), (768, 768));
}

pub(crate) async fn a_reopened_log_goes_on(bed: &Bed) {
    for round in 0..3_u64 {
        let opened = bed.open().await;
        assert_eq!(opened.log.size(), round * 300);
        let logged = opened.log.append((0..300).map(entry).collect()).await.unwrap();
        assert_eq!(logged[0].index, round * 300);
        let first = opened.log.entry(0).await.unwrap().unwrap();
        opened.log.prove(&first).unwrap();
        if round > 0 {
            assert!(!opened.log.prove_growth(300 * round).unwrap().is_empty());
        }
        opened.close().await;
    }
    assert!(bed.audit().await.is_clean());
}

pub(crate) async fn another_instance_is_refused_until_the_lease_is_let_go(bed: &Bed) {
    let opened = bed.open().await;
    let refused = bed.try_open("instance-2").await.unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    assert_eq!(refused.code(), "fault.store_in_use");
    opened.log.append(vec![entry(1)]).await.unwrap();
    // A new process of the same instance holds the lock file: it takes over, and
    // the old one, were it still alive, can no longer write.
    let again = bed.open().await;
    assert_eq!(opened.log.append(vec![entry(2)]).await.unwrap_err(), StoreError::LeaseLost);
    assert_eq!(opened.log.append(vec![entry(3)]).await.unwrap_err(), StoreError::Stopped);
    again.log.append(vec![entry(4)]).await.unwrap();
    assert_eq!(again.log.size(), 2);
}

pub(crate) async fn a_newer_schema_and_a_missing_one_are_refused(bed: &Bed) {
    bed.tamper("INSERT INTO schema_version (version) VALUES (99)").await;
    let refused = bed.try_open("instance-1").await.unwrap_err();
    assert!(matches!(refused, StoreError::SchemaNewer { found: 99, known } if known < 99), "{refused}");
    bed.tamper("DROP TABLE schema_version").await;
    assert_eq!(bed.try_open("instance-1").await.unwrap_err(), StoreError::Uninitialised);
}

pub(crate) async fn an_audit_whose_checkpoint_was_overtaken_reads_the_full_tile(bed: &Bed) {
    fill(bed, 250).await;
    let checkpoint = bed.tiles().join("checkpoint");
    let read_first = std::fs::read(&checkpoint).unwrap();
    fill(bed, 20).await;
    // As an auditor sees it who read the checkpoint just before the partial tile went.
    std::fs::write(&checkpoint, read_first).unwrap();
    let report = bed.audit().await;
    assert!(report.is_clean() && report.checkpoint_size == 250, "{report:?}");
    let full = bed.tiles().join("tile/entries/000");
    let mut bytes = std::fs::read(&full).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&full, bytes).unwrap();
    assert_eq!(bed.audit().await.findings, ["tile/entries/000.p/250 differs from the entries"]);
    std::fs::remove_file(&full).unwrap();
    assert_eq!(bed.audit().await.findings, ["tile/entries/000.p/250 is missing"]);
}

pub(crate) async fn a_changed_row_stops_the_start(bed: &Bed) {
    fill(bed, 300).await;
    bed.tamper("UPDATE log_entries SET digest = (SELECT digest FROM log_entries WHERE idx = 7) WHERE idx = 8").await;
    let refused = bed.try_open("instance-1").await.unwrap_err();
    assert_eq!(refused.code(), "fault.store_corrupt");
    assert!(!bed.audit().await.is_clean());
}

pub(crate) async fn a_log_cut_short_is_refused(bed: &Bed) {
    fill(bed, 20).await;
    // Consistent in itself, but shorter than what was published.
    let shorter = Bed::sqlite().await;
    fill(&shorter, 19).await;
    std::fs::copy(bed.tiles().join("checkpoint"), shorter.tiles().join("checkpoint")).unwrap();
    let refused = shorter.try_open("instance-1").await.unwrap_err();
    let expected = StoreError::RolledBack { what: "log size".to_owned(), found: 19, published: 20 };
    assert_eq!(refused, expected);
    // Without any checkpoint the size cannot be judged: refused as well.
    std::fs::remove_file(bed.tiles().join("checkpoint")).unwrap();
    assert_eq!(bed.try_open("instance-1").await.unwrap_err().code(), "fault.store_corrupt");
}

pub(crate) async fn a_crash_before_the_signature_is_made_good(bed: &Bed) {
    let before = {
        let opened = bed.open().await;
        opened.log.append((0..40).map(entry).collect()).await.unwrap();
        opened.close().await;
        let before = std::fs::read(bed.tiles().join("checkpoint")).unwrap();
        let opened = bed.open().await;
        opened.log.append((40..700).map(entry).collect()).await.unwrap();
        opened.close().await;
        before
    };
    // As if the process had died between commit and publication.
    std::fs::write(bed.tiles().join("checkpoint"), before).unwrap();
    std::fs::remove_dir_all(bed.tiles().join("tile")).unwrap();
    let opened = bed.open().await;
    assert_eq!(opened.log.size(), 700);
    for index in [0, 39, 40, 255, 256, 699] {
        opened.log.prove(&opened.log.entry(index).await.unwrap().unwrap()).unwrap();
    }
    let report = bed.audit().await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.checkpoint_size, 700);
}

pub(crate) async fn nothing_is_answered_while_its_files_cannot_be_written(bed: &Bed) {
    fill(bed, 20).await;
    let opened = bed.open().await;
    let folder = bed.tiles().join("tile");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "a file where the folder was").unwrap();
    let append_until = async |wanted: bool| {
        let tries = async { while opened.log.append(vec![entry(1)]).await.is_ok() != wanted {} };
        tokio::time::timeout(Duration::from_secs(30), tries).await.unwrap();
    };
    append_until(false).await;
    let refused = opened.log.append(vec![entry(2)]).await.unwrap_err();
    assert_eq!(refused.code(), "fault.store_unavailable", "{refused}");
    let health = opened.store.health();
    assert_eq!(*health.borrow(), Health::Failing(refused));
    std::fs::remove_file(&folder).unwrap();
    append_until(true).await;
    assert_eq!(*health.borrow(), Health::Serving);
    let size = opened.log.size();
    opened.close().await;
    let report = bed.audit().await;
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.checkpoint_size, size);
}

fn identity(id: &str, ek: u8, ak: u8) -> NodeIdentity {
    NodeIdentity {
        id: NodeId::new(id).unwrap(),
        machine: Machine::Tpm(TpmIdentity { ek_digest: Sha256Digest([ek; 32]), ak_name: vec![ak; 34] }),
        record_key: SigningKey::from_seed(&[9; 32]).unwrap().public().clone(),
        enrolment: Sha256Digest([3; 32]),
    }
}

const CLOCK: ClockSeen = ClockSeen { reset_count: 2, restart_count: 1, clock_ms: 5_000 };
const BOOT: BootSeen = BootSeen { clock: CLOCK, report_id: None };

async fn enrol(bed: &verifier::log::Opened, identity: NodeIdentity) -> Result<(), NodeRefusal> {
    enrol_in(bed, identity, BOOT).await
}

async fn enrol_in(bed: &verifier::log::Opened, identity: NodeIdentity, boot: BootSeen) -> Result<(), NodeRefusal> {
    let head = Sha256Digest::of(b"enrolment record");
    let enrolled = bed.store.write(move |tx| {
        Box::pin(async move { nodes::enrol(tx, &identity, boot, NodeStatus::Active, &head, 1).await })
    });
    enrolled.await.map(|committed| committed.value)
}

pub(crate) async fn a_tee_is_its_platform_and_record_key_for_good(bed: &Bed) {
    let opened = bed.open().await;
    let chip = |byte| PlatformId::AmdChip(Box::new([byte; 64]));
    let on = |id, platform, seed: u8| NodeIdentity {
        machine: Machine::Tee(platform),
        record_key: SigningKey::from_seed(&[seed; 32]).unwrap().public().clone(),
        ..identity(id, 0, 0)
    };
    let boot = |byte| BootSeen { clock: ClockSeen::default(), report_id: Some([byte; 32]) };
    enrol_in(&opened, on("n-1", chip(1), 1), boot(1)).await.unwrap();
    enrol_in(&opened, on("n-2", chip(1), 2), boot(2)).await.unwrap();
    let other = NodeRefusal::OtherIdentity(NodeId::new("n-1").unwrap());
    let as_tpm = identity("n-1", 1, 1);
    let Machine::Tpm(tpm) = as_tpm.machine.clone() else { panic!() };
    let as_both = NodeIdentity { machine: Machine::TpmOn(tpm, chip(1)), ..on("n-1", chip(1), 1) };
    for another in [
        on("n-1", chip(2), 1),
        on("n-1", chip(1), 3),
        on("n-1", PlatformId::IntelPpid([1; 16]), 1),
        as_tpm,
        as_both.clone(),
    ] {
        assert_eq!(enrol_in(&opened, another, boot(1)).await.unwrap_err(), other);
    }
    let both = NodeIdentity { id: NodeId::new("n-3").unwrap(), ..as_both };
    enrol_in(&opened, both.clone(), BootSeen { report_id: Some([3; 32]), ..BOOT }).await.unwrap();
    assert_eq!(nodes::find(&opened.store, &both.id).await.unwrap().unwrap().identity, both);
    // Enrolling again after a reboot, it is the same node in another boot.
    enrol_in(&opened, on("n-1", chip(1), 1), boot(9)).await.unwrap();
    let id = NodeId::new("n-1").unwrap();
    let seen = async |report_id, rebooted| {
        let id = id.clone();
        let seen = opened
            .store
            .write(move |tx| Box::pin(async move { nodes::see_report_id(tx, &id, report_id, rebooted).await }));
        seen.await.is_ok()
    };
    assert!(seen([9; 32], false).await);
    assert!(!seen([8; 32], false).await, "another boot is not taken in passing");
    assert!(!seen([9; 32], true).await, "the same boot is no reboot");
    assert!(seen([8; 32], true).await);
    let node = nodes::find(&opened.store, &id).await.unwrap().unwrap();
    assert_eq!((node.identity, node.boot), (on("n-1", chip(1), 1), boot(8)));
}

pub(crate) async fn a_node_is_its_ek_and_ak_for_good(bed: &Bed) {
    let opened = bed.open().await;
    enrol(&opened, identity("n-1", 1, 1)).await.unwrap();
    enrol(&opened, identity("n-1", 1, 1)).await.unwrap();
    let other = NodeRefusal::OtherIdentity(NodeId::new("n-1").unwrap());
    assert_eq!(enrol(&opened, identity("n-1", 2, 1)).await.unwrap_err(), other);
    assert_eq!(enrol(&opened, identity("n-1", 1, 2)).await.unwrap_err(), other);
    let in_use = NodeRefusal::EkInUse(NodeId::new("n-2").unwrap());
    assert_eq!(enrol(&opened, identity("n-2", 1, 1)).await.unwrap_err(), in_use);
    let node = nodes::find(&opened.store, &NodeId::new("n-1").unwrap()).await.unwrap().unwrap();
    assert_eq!((node.identity, node.boot), (identity("n-1", 1, 1), BOOT));
    assert_eq!(nodes::list(&opened.store).await.unwrap().len(), 1);
}

pub(crate) async fn a_lineage_moves_by_one_and_never_forks(bed: &Bed) {
    let opened = bed.open().await;
    enrol(&opened, identity("n-1", 1, 1)).await.unwrap();
    let id = NodeId::new("n-1").unwrap();
    let advance = async |presented: &Sha256Digest, head: &[u8]| {
        let (id, presented, head) = (id.clone(), *presented, Sha256Digest::of(head));
        let moved =
            opened.store.write(move |tx| Box::pin(async move { nodes::advance(tx, &id, &presented, &head).await }));
        moved.await.map(|committed| committed.value)
    };
    let [enrolled, one, two] = [b"enrolment record".as_slice(), b"1", b"2"].map(Sha256Digest::of);
    assert_eq!(advance(&enrolled, b"1").await.unwrap(), Continuity::Current);
    // The answer with head 1 was lost: the node still knows only its enrolment.
    assert_eq!(advance(&enrolled, b"2").await.unwrap(), Continuity::AnswerLost);
    assert_eq!(advance(&one, b"3").await.unwrap_err(), NodeRefusal::LineageDiscontinuous(id.clone()));
    assert_eq!(advance(&two, b"3").await.unwrap(), Continuity::Current);
    assert_eq!(advance(&enrolled, b"4").await.unwrap_err(), NodeRefusal::LineageDiscontinuous(id.clone()));
    let three = Sha256Digest::of(b"3");
    for unasked in [b"quarantine".as_slice(), b"readmission"] {
        let (id, head) = (id.clone(), Sha256Digest::of(unasked));
        opened.store.write(move |tx| Box::pin(async move { nodes::note(tx, &id, &head).await })).await.unwrap();
    }
    // What it did not ask for, it need not have heard of.
    assert_eq!(advance(&three, b"5").await.unwrap(), Continuity::AnswerLost);
    assert_eq!(advance(&two, b"6").await.unwrap_err(), NodeRefusal::LineageDiscontinuous(id.clone()));
    let back = ClockSeen { reset_count: 2, restart_count: 0, clock_ms: 9_000 };
    let seen = async |clock: ClockSeen| {
        let id = id.clone();
        opened.store.write(move |tx| Box::pin(async move { nodes::see_clock(tx, &id, clock).await })).await
    };
    assert!(seen(back).await.is_err());
    assert!(seen(ClockSeen { clock_ms: 4_999, ..CLOCK }).await.is_err());
    seen(ClockSeen { clock_ms: 5_001, ..CLOCK }).await.unwrap();
    seen(ClockSeen { reset_count: 3, restart_count: 0, clock_ms: 1 }).await.unwrap();
}

pub(crate) async fn a_lease_needs_its_epoch_and_its_sequence(bed: &Bed) {
    let opened = bed.open().await;
    let node = NodeId::new("n-1").unwrap();
    let id = ArtifactId([1; 16]);
    let digest = Sha256Digest([5; 32]);
    let advance = async |epoch: u64| {
        let state = StateInForce { epoch, digest, cose: vec![1], record: digest, log_index: 0 };
        opened.store.write(move |tx| Box::pin(async move { governance_state::advance(tx, &state).await })).await
    };
    advance(1).await.unwrap();
    assert!(advance(1).await.is_err(), "an epoch comes once");
    assert!(advance(3).await.is_err(), "and in order");
    let open = async |epoch: u64| {
        let node = node.clone();
        let opening = opened.store.write(move |tx| {
            Box::pin(async move { leases::open(tx, &id, (&node, &digest), &digest, epoch, 100).await })
        });
        opening.await.map(|_| ())
    };
    assert_eq!(open(2).await.unwrap_err(), LeaseRefusal::EpochMoved { current: 1, judged: 2 });
    open(1).await.unwrap();
    let renew = async |seq: u64, epoch: u64| {
        let renewing = opened
            .store
            .write(move |tx| Box::pin(async move { leases::renew(tx, &id, &digest, seq, epoch, 200).await }));
        renewing.await.map(|_| ())
    };
    renew(2, 1).await.unwrap();
    assert_eq!(renew(2, 1).await.unwrap_err(), LeaseRefusal::Unknown(id), "one holder per sequence");
    advance(2).await.unwrap();
    assert_eq!(renew(3, 1).await.unwrap_err(), LeaseRefusal::EpochMoved { current: 2, judged: 1 });
    let lease = leases::find(&opened.store, &id).await.unwrap().unwrap();
    assert_eq!((lease.seq, lease.epoch, lease.ended), (2, 1, None));
    let ended = {
        let node = node.clone();
        opened.store.write(move |tx| Box::pin(async move { leases::end_all(tx, &node, LeaseEnd::Halted).await }))
    };
    ended.await.unwrap();
    assert!(renew(3, 2).await.is_err());
    assert_eq!(leases::of_node(&opened.store, &node).await.unwrap()[0].ended, Some(LeaseEnd::Halted));
}

pub(crate) async fn a_key_opens_only_under_its_kek_and_name(bed: &Bed) {
    let opened = bed.open().await;
    let kek = KeyEncryptionKey::new(&[1; 32]).unwrap();
    let put = async |name: &str, secret: Option<&[u8]>| {
        let (kek, name) = (kek.clone(), ItemName::new(name).unwrap());
        let (secret, labels) = (secret.map(<[u8]>::to_vec), vec!["env=test".to_owned()]);
        let putting = opened
            .store
            .write(move |tx| Box::pin(async move { keys::put(tx, &kek, &name, secret.as_deref(), &labels).await }));
        putting.await.map(|committed| committed.value)
    };
    let [db, other] = ["db", "other"].map(|name| ItemName::new(name).unwrap());
    assert_eq!(put("db", Some(b"secret")).await.unwrap(), 1);
    assert_eq!(put("other", None).await.unwrap(), 1);
    assert_eq!(keys::unseal(&opened.store, &kek, &db).await.unwrap().as_slice(), b"secret");
    assert_eq!(keys::unseal(&opened.store, &kek, &other).await.unwrap().len(), 32);
    assert_eq!(put("db", Some(b"newer")).await.unwrap(), 2);
    assert_eq!(put("db", Some(b"")).await.unwrap_err(), KeyFault::BadSecret);
    let listed = keys::list(&opened.store).await.unwrap();
    assert_eq!(
        listed.iter().map(|key| (key.name.as_str(), key.version)).collect::<Vec<_>>(),
        [("db", 2), ("other", 1)]
    );
    let wrong = KeyEncryptionKey::new(&[2; 32]).unwrap();
    assert_eq!(keys::unseal(&opened.store, &wrong, &db).await.unwrap_err(), KeyFault::Sealed(db.clone()));
    bed.tamper("UPDATE execution_keys SET sealed = (SELECT sealed FROM execution_keys WHERE name = 'db')").await;
    assert_eq!(keys::unseal(&opened.store, &kek, &other).await.unwrap_err(), KeyFault::Sealed(other.clone()));
}
