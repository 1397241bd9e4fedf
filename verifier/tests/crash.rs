//! What a crash, a full disk and a lost database leave behind: every entry that
//! was acknowledged, and nothing that was not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "store_suite/bed.rs"]
mod bed;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bed::{Bed, Postgres};
use evidence::digest::Sha256Digest;
use verifier::evidence_store::{self, BlobKind};
use verifier::log::Opened;
use verifier::store::{Health, NewEntry, StateLock, StoreError, Transaction};

const APPENDS: u64 = 1_000;
const WRITERS: u64 = 16;
const FOLDER: &str = "CRASH_TEST_FOLDER";
const ROUND: &str = "CRASH_TEST_ROUND";

/// Not a test: the process that is killed. It says "ack INDEX DIGEST" for every
/// append that was acknowledged to it, and "done" at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests below"]
async fn appender() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else { return };
    let _lock = StateLock::take(Path::new(&folder)).unwrap();
    let bed = Bed::existing(Path::new(&folder));
    let opened = bed.open().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, round) = (opened.store.clone(), round.clone());
            tokio::spawn(async move {
                for n in 0..APPENDS / WRITERS {
                    let bytes = format!("round {round} writer {writer} entry {n}").into_bytes();
                    let digest = Sha256Digest::of(&bytes);
                    let committed = store.write(move |transaction: &mut Transaction<'_>| {
                        Box::pin(async move {
                            evidence_store::put(transaction, BlobKind::Evidence, &bytes).await?;
                            transaction.append(NewEntry::new(bytes))
                        })
                    });
                    let index = committed.await.unwrap().value;
                    // One write per line: a line is there whole or not at all.
                    let line = format!("ack {index} {digest}\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    println!("done");
}

fn start_appender(folder: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "appender", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_no_acknowledged_entry_is_lost() {
    let bed = Bed::sqlite().await;
    let mut acknowledged: Vec<(u64, Sha256Digest)> = Vec::new();
    for round in 0..20_u64 {
        let mut child = start_appender(bed.folder.path(), round);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Another moment in every round: from the first commits to nearly all.
        let enough = usize::try_from(1 + round * round * 2).unwrap();
        let mut heard = 0;
        let mut finished = false;
        while heard < enough {
            match lines.next() {
                Some(Ok(line)) => heard += usize::from(take(&line, &mut acknowledged)),
                Some(Err(_)) | None => {
                    finished = true;
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died counts as well.
        for line in lines.map_while(Result::ok) {
            take(&line, &mut acknowledged);
        }
        assert!(!finished, "round {round} ended before it was killed");

        let opened = bed.open().await;
        assert_all_there(&opened, &acknowledged).await;
        opened.close().await;
        let report = bed.audit().await;
        assert!(report.is_clean(), "round {round}: {:?}", report.findings);
        assert_eq!(report.checkpoint_size, report.entries);
    }
    eprintln!("{} entries acknowledged over 20 kills, none lost", acknowledged.len());
}

fn take(line: &str, acknowledged: &mut Vec<(u64, Sha256Digest)>) -> bool {
    // The test harness prints its own words before the first line.
    let Some((_, rest)) = line.split_once("ack ") else { return false };
    let Some((index, digest)) = rest.split_once(' ') else { return false };
    let (Ok(index), Ok(digest)) = (index.parse(), digest.parse()) else { return false };
    acknowledged.push((index, digest));
    true
}

async fn assert_all_there(opened: &Opened, acknowledged: &[(u64, Sha256Digest)]) {
    for (index, digest) in acknowledged {
        let entry = opened.log.entry(*index).await.unwrap().expect("an acknowledged entry is lost");
        assert_eq!(entry.digest(), *digest, "entry {index} is another one");
        assert!(evidence_store::get(&opened.store, digest).await.unwrap().is_some(), "its evidence is lost");
        opened.log.prove(&entry).unwrap();
    }
}

/// Appends until it fails: what was acknowledged, and the fault.
async fn append_until_it_fails(opened: &Opened) -> (Vec<(u64, Sha256Digest)>, StoreError) {
    let mut acknowledged = Vec::new();
    for n in 0..10_000_u64 {
        let bytes = format!("{n} {}", "x".repeat(2_000)).into_bytes();
        let digest = Sha256Digest::of(&bytes);
        let committed = opened.store.write(move |transaction: &mut Transaction<'_>| {
            Box::pin(async move {
                evidence_store::put(transaction, BlobKind::Evidence, &bytes).await?;
                transaction.append(NewEntry::new(bytes))
            })
        });
        match committed.await {
            Ok(committed) => acknowledged.push((committed.value, digest)),
            Err(fault) => return (acknowledged, fault),
        }
    }
    panic!("the disk never filled up");
}

#[tokio::test]
async fn a_full_database_acknowledges_nothing_and_says_so() {
    let bed = Bed::sqlite().await;
    let mut options = bed.options("instance-1");
    options.database = options.database.with_max_pages(123);
    let opened = verifier::log::open(options).await.unwrap();
    let (mut acknowledged, fault) = append_until_it_fails(&opened).await;
    assert_eq!(fault.code(), "fault.disk_full", "{fault}");
    assert!(!acknowledged.is_empty());
    assert!(matches!(*opened.store.health().borrow(), Health::Failing(StoreError::DiskFull { .. })));
    // The rest of the last page may take one more; then it is full again.
    let (more, again) = append_until_it_fails(&opened).await;
    assert!(more.len() <= 2, "{} more", more.len());
    assert_eq!(again.code(), "fault.disk_full", "{again}");
    acknowledged.extend(more);
    opened.close().await;
    let opened = bed.open().await;
    assert_all_there(&opened, &acknowledged).await;
    assert_eq!(opened.log.size(), u64::try_from(acknowledged.len()).unwrap());
    opened.log.append(vec![NewEntry::new(b"room again".to_vec())]).await.unwrap();
    opened.close().await;
    assert!(bed.audit().await.is_clean());
}

/// SQLite ends the whole transaction when it is full, the savepoint with it: whoever met that is told that, and so are
/// those who were to be committed with him.
#[tokio::test]
async fn a_database_that_is_full_within_a_savepoint_says_so_too() {
    let bed = Bed::sqlite().await;
    let mut options = bed.options("instance-1");
    options.database = options.database.with_max_pages(123);
    let opened = verifier::log::open(options).await.unwrap();
    let put = |bytes: Vec<u8>| {
        opened.store.write(move |transaction: &mut Transaction<'_>| {
            Box::pin(async move { evidence_store::put(transaction, BlobKind::Evidence, &bytes).await })
        })
    };
    let fault = put(vec![7; 1 << 20]).await.unwrap_err();
    assert_eq!(fault.code(), "fault.disk_full", "{fault}");
    let health = opened.store.health().borrow().clone();
    assert!(matches!(health, Health::Failing(StoreError::DiskFull { .. })), "{health:?}");
    // There is room for what is smaller.
    put(vec![8; 64]).await.unwrap();
    assert_eq!(*opened.store.health().borrow(), Health::Serving);
    opened.close().await;
    assert!(bed.audit().await.is_clean());
}

/// A file system of its own, so small that database, tiles and checkpoint run
/// out of room at different moments. Needs root; without it, the test above.
#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_says_so() {
    for kib in [720, 780, 840, 900] {
        let Some(disk) = SmallDisk::mount(kib) else {
            eprintln!("cannot mount a small tmpfs here: only the database's own cap is tested");
            return;
        };
        let bed = Bed::sqlite_in(disk.folder.path()).await;
        let opened = bed.open().await;
        let (acknowledged, fault) = append_until_it_fails(&opened).await;
        let code = fault.code();
        assert!(matches!(code, "fault.disk_full" | "fault.store_unavailable"), "{kib} KiB: {fault}");
        opened.close().await;
        disk.grow();
        let opened = bed.open().await;
        assert_all_there(&opened, &acknowledged).await;
        opened.log.append(vec![NewEntry::new(b"room again".to_vec())]).await.unwrap();
        opened.close().await;
        let report = bed.audit().await;
        assert!(report.is_clean(), "{kib} KiB: {:?}", report.findings);
    }
}

struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(kib: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        mounted.ok().filter(|output| output.status.success()).map(|_| Self { folder })
    }

    fn grow(&self) {
        let output = Command::new("mount").args(["-o", "remount,size=64m"]).arg(self.folder.path()).output().unwrap();
        assert!(output.status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.folder.path()).output());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_database_is_a_fault_and_nothing_acknowledged_is_lost_when_it_returns() {
    let Some(server) = Postgres::start() else {
        eprintln!("PostgreSQL is not installed: losing a database is not tested");
        return;
    };
    let bed = Bed::postgres(&server, "lost").await;
    let opened = bed.open().await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let appending = {
            let store = opened.store.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0..100_000_u64 {
                    let bytes = format!("round {round} entry {n}").into_bytes();
                    let digest = Sha256Digest::of(&bytes);
                    let committed = store.write(move |transaction: &mut Transaction<'_>| {
                        Box::pin(async move {
                            evidence_store::put(transaction, BlobKind::Evidence, &bytes).await?;
                            transaction.append(NewEntry::new(bytes))
                        })
                    });
                    match committed.await {
                        Ok(committed) => acknowledged.push((committed.value, digest)),
                        Err(fault) => return (acknowledged, fault),
                    }
                }
                panic!("the database was never lost");
            })
        };
        while opened.log.size() < (round + 1) * 20 {
            opened.log.clone().grown().await.unwrap();
        }
        server.stop();
        let (more, fault): (Vec<_>, StoreError) = appending.await.unwrap();
        assert_eq!(fault.code(), "fault.store_unavailable", "{fault}");
        acknowledged.extend(more);
        server.go_on();
        // The same process carries on; the outcome of its last commit, whatever
        // it was, is read back and not guessed.
        let mut attempts = 0;
        while let Err(fault) = opened.log.append(vec![NewEntry::new(format!("back {round}").into_bytes())]).await {
            attempts += 1;
            assert!(attempts < 5, "{fault}");
        }
        assert_all_there(&opened, &acknowledged).await;
    }
    opened.close().await;
    assert!(bed.audit().await.is_clean());
}
