//! A log that gathers the cosignatures of witnesses, and what waits for them.

use std::sync::Arc;
use std::time::Duration;

use audit::checkpoint::VerifiedCheckpoint;
use audit::receipt::Receipt;
use evidence::time::UnixSeconds;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use verifier::log::{Logged, Opened};
use verifier::store::NewEntry;
use verifier::witness::{self, CosignedHead, Cosigners, GatherParts, Quorum, WitnessPeer, gather};

use crate::bed::{Bed, signer};
use crate::stand::{START, Witness, key};

/// Longer than any answer takes; a test that waits this long has failed.
const LONG: Duration = Duration::from_secs(30);

/// A domain whose log is cosigned.
struct Log {
    bed: Bed,
    opened: Opened,
    peers: watch::Sender<Arc<Vec<WitnessPeer>>>,
    newest: watch::Receiver<Option<Arc<CosignedHead>>>,
    cosigners: Cosigners,
    gathering: (oneshot::Sender<()>, JoinHandle<()>),
}

impl Log {
    async fn gathering(bed: Bed, peers: Vec<WitnessPeer>, quorum: usize) -> Self {
        let opened = bed.open().await;
        let before = witness::stored(&opened.store, &opened.log).await.unwrap();
        let (cosigned, newest) = watch::channel(before.map(Arc::new));
        let (peers, known) = watch::channel(Arc::new(peers));
        let cosigners = Cosigners::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let parts = GatherParts {
            store: opened.store.clone(),
            log: opened.log.clone(),
            peers: known,
            quorum: quorum.into(),
            cosigners: cosigners.clone(),
            now: Arc::new(|| Ok(UnixSeconds(START))),
        };
        let task = tokio::spawn(gather(parts, cosigned, async move { drop(stopped.await) }));
        Self { bed, opened, peers, newest, cosigners, gathering: (stop, task) }
    }

    async fn append(&self, text: &str) -> Logged {
        self.opened.log.append(vec![NewEntry::new(text.as_bytes().to_vec())]).await.unwrap().remove(0)
    }

    fn quorum(&self, needed: usize, within: Duration) -> Quorum {
        Quorum::of(needed, within, self.newest.clone()).among(self.cosigners.clone())
    }

    async fn stop(self) -> Bed {
        let Self { bed, opened, peers, newest, gathering: (stop, task), .. } = self;
        drop((stop, peers, newest));
        task.await.unwrap();
        opened.close().await;
        bed
    }
}

async fn two_witnesses() -> [Witness; 2] {
    let mut both = [Witness::of(1, "log.a.example", &key(7)).await, Witness::of(2, "log.a.example", &key(7)).await];
    for witness in &mut both {
        witness.listen().await;
    }
    both
}

#[tokio::test]
async fn every_entry_gets_a_receipt_under_a_head_that_both_witnesses_cosigned() {
    let witnesses = two_witnesses().await;
    let keys: Vec<_> = witnesses.iter().map(Witness::vkey).collect();
    let log = Log::gathering(Bed::sqlite().await, witnesses.iter().map(Witness::peer).collect(), 2).await;
    let quorum = log.quorum(2, LONG);
    let waiting = (0..40).map(|entry| {
        let (quorum, opened, store) = (quorum.clone(), log.opened.log.clone(), log.opened.store.clone());
        tokio::spawn(async move {
            let entry = NewEntry::new(format!("entry {entry}").into_bytes());
            let logged = store.append(vec![entry]).await.unwrap().remove(0);
            quorum.receipt(&opened, &logged).await.unwrap()
        })
    });
    for receipt in futures_util::future::join_all(waiting.collect::<Vec<_>>()).await {
        let receipt = receipt.unwrap().receipt.encode().unwrap();
        Receipt::verify(&receipt, &signer().identity(), &keys, 2, UnixSeconds(START)).unwrap();
    }
    // What is published says so too, and a stranger counts it.
    let newest = quorum.newest().unwrap();
    assert_eq!((newest.size(), newest.witnesses()), (40, keys.as_slice()));
    let verified =
        VerifiedCheckpoint::verify(newest.note().as_bytes(), &signer().identity(), &keys, UnixSeconds(START));
    verified.unwrap().quorum(2).unwrap();
    log.stop().await;
}

#[tokio::test]
async fn without_its_quorum_nothing_is_answered_until_the_witness_is_back() {
    let [first, mut second] = two_witnesses().await;
    let log = Log::gathering(Bed::sqlite().await, vec![first.peer(), second.peer()], 2).await;
    let logged = log.append("before").await;
    log.quorum(2, LONG).receipt(&log.opened.log, &logged).await.unwrap();
    second.hang_up().await;
    let logged = log.append("meanwhile").await;
    let fault = log.quorum(2, Duration::from_millis(300)).receipt(&log.opened.log, &logged).await.unwrap_err();
    assert_eq!(fault.code(), "fault.witness_quorum");
    assert_eq!(log.quorum(2, LONG).newest().unwrap().size(), 1, "one cosignature is not published as two");
    assert_eq!(log.quorum(2, LONG).missing(), (2, 1), "and it is told that one is missing");
    let mut second = Witness::start(second.stop().await).await;
    second.listen().await;
    log.quorum(2, LONG).receipt(&log.opened.log, &logged).await.unwrap();
    let logged = log.append("after").await;
    log.quorum(2, LONG).receipt(&log.opened.log, &logged).await.unwrap();
    log.stop().await;
}

#[tokio::test]
async fn one_of_two_is_enough_where_one_is_demanded_and_none_where_none_is() {
    let [first, mut second] = two_witnesses().await;
    second.hang_up().await;
    let log = Log::gathering(Bed::sqlite().await, vec![first.peer(), second.peer()], 1).await;
    for entry in 0..20 {
        let logged = log.append(&format!("entry {entry}")).await;
        log.quorum(1, LONG).receipt(&log.opened.log, &logged).await.unwrap();
    }
    let logged = log.append("unwitnessed").await;
    let answered = log.quorum(0, Duration::ZERO).receipt(&log.opened.log, &logged).await.unwrap();
    assert_eq!(answered, logged, "a lab's receipt is under its own signature alone");
    log.stop().await;
}

#[tokio::test]
async fn nobody_asked_is_nobody_who_cosigned_and_a_witness_may_be_trusted_later() {
    let [first, _second] = two_witnesses().await;
    let log = Log::gathering(Bed::sqlite().await, Vec::new(), 1).await;
    let logged = log.append("alone").await;
    let fault = log.quorum(1, Duration::from_millis(100)).receipt(&log.opened.log, &logged).await.unwrap_err();
    assert_eq!(fault.code(), "fault.witness_quorum");
    log.peers.send_replace(Arc::new(vec![first.peer()]));
    log.quorum(1, LONG).receipt(&log.opened.log, &logged).await.unwrap();
    log.stop().await;
}

#[tokio::test]
async fn an_impostor_at_the_witnesses_address_does_not_count() {
    let [first, second] = two_witnesses().await;
    // The second answers under its own name where the first is expected, and with its own key.
    let posing = WitnessPeer { at: second.peer().at, ..first.peer() };
    let log = Log::gathering(Bed::sqlite().await, vec![posing], 1).await;
    let logged = log.append("entry").await;
    let fault = log.quorum(1, Duration::from_millis(300)).receipt(&log.opened.log, &logged).await.unwrap_err();
    assert_eq!(fault.code(), "fault.witness_quorum");
    log.stop().await;
}

#[tokio::test]
async fn a_restarted_log_goes_on_from_what_its_witnesses_hold() {
    let witnesses = two_witnesses().await;
    let peers: Vec<_> = witnesses.iter().map(Witness::peer).collect();
    let log = Log::gathering(Bed::sqlite().await, peers.clone(), 2).await;
    for entry in 0..300 {
        log.append(&format!("entry {entry}")).await;
    }
    let last = log.append("last").await;
    log.quorum(2, LONG).receipt(&log.opened.log, &last).await.unwrap();
    let bed = log.stop().await;
    let log = Log::gathering(bed, peers, 2).await;
    let logged = log.append("after the restart").await;
    log.quorum(2, LONG).receipt(&log.opened.log, &logged).await.unwrap();
    log.stop().await;
}

#[tokio::test]
async fn a_log_that_was_put_back_gets_no_cosignature_for_its_other_history() {
    let [first, _second] = two_witnesses().await;
    let log = Log::gathering(Bed::sqlite().await, vec![first.peer()], 1).await;
    for entry in ["one", "two", "three"] {
        let logged = log.append(entry).await;
        log.quorum(1, LONG).receipt(&log.opened.log, &logged).await.unwrap();
    }
    log.stop().await;
    // The same key over another history: shorter at first, then of the same size, then longer.
    let log = Log::gathering(Bed::sqlite().await, vec![first.peer()], 1).await;
    for entry in ["four", "five", "six", "seven"] {
        let logged = log.append(entry).await;
        let fault = log.quorum(1, Duration::from_millis(400)).receipt(&log.opened.log, &logged).await.unwrap_err();
        assert_eq!(fault.code(), "fault.witness_quorum", "{entry}");
    }
    log.stop().await;
}
