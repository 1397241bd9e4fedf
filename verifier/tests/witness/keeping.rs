//! What a witness cosigns, what it refuses, and what it remembers.

use std::sync::atomic::Ordering;

use audit::witness::read_answer;
use evidence::time::UnixSeconds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stand::{ORIGIN, Partner, START, Witness, key};

#[tokio::test]
async fn a_growing_log_is_cosigned_and_one_that_goes_back_is_not() {
    let (witness, partner) = (Witness::partners().await, Partner::of(0, 40));
    for (old, new) in [(0, 1), (1, 5), (5, 5), (5, 32), (32, 40)] {
        let line = witness.keeper.add(&partner.request(old, new)).await.unwrap();
        read_answer(&partner.note(new, 77), line.as_bytes(), &[witness.vkey()], UnixSeconds(START)).unwrap();
    }
    assert_eq!(witness.code(&partner.request(5, 32)).await, "witness.size_conflict");
    assert_eq!(witness.code(&partner.request(41, 40)).await, "witness.old_size_beyond");
}

#[tokio::test]
async fn a_log_that_shows_two_histories_gets_one_of_them_cosigned_and_the_proof_is_kept() {
    let (witness, partner, forked) = (Witness::partners().await, Partner::of(0, 9), Partner::of(1, 12));
    witness.keeper.add(&partner.request(0, 9)).await.unwrap();
    for old in [0, 9, 9] {
        assert_eq!(witness.code(&forked.request(old, 9)).await, "witness.log_forked");
    }
    assert_eq!(witness.code(&forked.request(9, 12)).await, "witness.proof_wrong");
    let forks = witness.forks.lock().unwrap().clone();
    assert_eq!((forks.len(), forks[0].size, forks[0].shown.as_str()), (3, 9, forked.note(9, 77).as_str()));
    let records = witness.opened.log.entries_about(&format!("forked:{ORIGIN}")).await.unwrap();
    assert_eq!(records.len(), 1, "once on the record");
    assert_eq!(witness.code(&partner.request(9, 9)).await, "cosigned", "the history it knows still counts");
}

#[tokio::test]
async fn of_many_requests_at_once_that_start_at_one_size_one_is_cosigned() {
    let (witness, partner) = (Witness::partners().await, Partner::of(0, 40));
    witness.keeper.add(&partner.request(0, 8)).await.unwrap();
    let requests = (9..=40).map(|size| {
        let (keeper, body) = (witness.keeper.clone(), partner.request(8, size));
        tokio::spawn(async move { keeper.add(&body).await.map_err(|not| not.code()) })
    });
    let mut cosigned = 0;
    for answer in futures_util::future::join_all(requests.collect::<Vec<_>>()).await {
        match answer.unwrap() {
            Ok(_) => cosigned += 1,
            Err(code) => assert_eq!(code, "witness.size_conflict"),
        }
    }
    assert_eq!(cosigned, 1);
}

#[tokio::test]
async fn what_was_persisted_before_a_kill_is_cosigned_when_asked_again() {
    let (witness, partner) = (Witness::partners().await, Partner::of(0, 20));
    witness.keeper.add(&partner.request(0, 7)).await.unwrap();
    // The row moves on; the process dies before it signs, so the log never hears of it.
    drop(witness.keeper.add(&partner.request(7, 11)).await);
    let witness = Witness::start(witness.stop().await).await;
    let refused = witness.keeper.add(&partner.request(7, 20)).await.unwrap_err();
    assert_eq!(refused.code(), "witness.size_conflict");
    assert_eq!(witness.code(&partner.request(11, 11)).await, "cosigned");
    assert_eq!(witness.code(&partner.request(11, 20)).await, "cosigned");
}

#[tokio::test]
async fn a_witness_whose_memory_was_lost_or_put_back_does_not_start() {
    let partner = Partner::of(0, 40);
    for tamper in [
        "DELETE FROM witnessed",
        "UPDATE witnessed SET size = 8, root = (SELECT root FROM kept), note = (SELECT note FROM kept)",
        "UPDATE witnessed SET size = 8",
        "DELETE FROM blobs WHERE kind = 'checkpoint'",
    ] {
        let witness = Witness::partners().await;
        witness.keeper.add(&partner.request(0, 8)).await.unwrap();
        witness.bed.tamper("CREATE TABLE kept AS SELECT * FROM witnessed").await;
        witness.keeper.add(&partner.request(8, 9)).await.unwrap();
        witness.now.store(START + 600, Ordering::Relaxed);
        witness.keeper.add(&partner.request(9, 40)).await.unwrap();
        let entries = witness.opened.log.entries_about(&format!("witnessed:{ORIGIN}")).await.unwrap();
        assert_eq!(entries.len(), 2, "anchored at once, and after ten minutes");
        let stopped = witness.stop().await;
        stopped.0.tamper(tamper).await;
        let fault = Witness::refuses_to_start(stopped).await;
        let expected = if tamper.contains("size = 8") && !tamper.contains("kept") || tamper.contains("blobs") {
            "fault.store_corrupt"
        } else {
            "fault.store_rolled_back"
        };
        assert_eq!(fault.code(), expected, "{tamper}: {fault}");
    }
}

/// Status, content type and body of an answer.
async fn post(at: &str, body: &[u8]) -> (u16, String, String) {
    let mut tcp = tokio::net::TcpStream::connect(at).await.unwrap();
    let head = format!(
        "POST /witness/add-checkpoint HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    // One that is refused for its length is not read to its end.
    drop(tcp.write_all(body).await);
    let mut answer = String::new();
    drop(tcp.read_to_string(&mut answer).await);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
    (head[9..12].parse().unwrap(), kind.to_owned(), body.to_owned())
}

#[tokio::test]
async fn every_answer_has_the_status_that_the_specification_gives_it() {
    let (mut witness, partner, forked) = (Witness::partners().await, Partner::of(0, 12), Partner::of(1, 12));
    let peer = witness.listen().await;
    let at = witness.prefix().strip_prefix("http://").unwrap().strip_suffix("/witness").unwrap().to_owned();
    let (status, _, line) = post(&at, &partner.request(0, 9)).await;
    assert_eq!(status, 200);
    read_answer(&partner.note(9, 77), line.as_bytes(), &peer.keys, UnixSeconds(START)).unwrap();

    let size = |size: &str| (409, "text/x.tlog.size".to_owned(), size.to_owned());
    assert_eq!(post(&at, &partner.request(0, 12)).await, size("9\n"));
    assert_eq!(post(&at, &forked.request(9, 9)).await, size("9\n"));
    let text = |status, code: &str| (status, "text/plain; charset=utf-8".to_owned(), format!("{code}\n"));
    assert_eq!(post(&at, &forked.request(9, 12)).await, text(422, "witness.proof_wrong"));
    let by = |origin: &str, seed| {
        let note = partner.note(12, 77).replacen(ORIGIN, origin, 1);
        let checkpoint = audit::checkpoint::Checkpoint::claimed(note.as_bytes()).unwrap();
        format!("old 9\n\n{}", checkpoint.sign(&key(seed)).unwrap())
    };
    assert_eq!(post(&at, by("q.example/log", 77).as_bytes()).await, text(404, "witness.log_unknown"));
    assert_eq!(post(&at, by(ORIGIN, 78).as_bytes()).await, text(403, "witness.not_signed"));
    assert_eq!(post(&at, &partner.request(13, 12)).await, text(400, "witness.old_size_beyond"));
    for malformed in [&b""[..], b"old 9\n", b"old 09\n\nnote", b"\xff\n\n"] {
        assert_eq!(post(&at, malformed).await, text(400, "witness.request_malformed"));
    }
    let (status, ..) = post(&at, &vec![b'a'; audit::witness::REQUEST_CAP_BYTES + 1]).await;
    assert_eq!(status, 413);
    assert_eq!(witness.code(&partner.request(9, 12)).await, "cosigned", "nothing of this moved it");
}
