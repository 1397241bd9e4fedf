//! One domain cosigns the other's log over its public surface, until that log shows two histories.

use std::sync::Arc;
use std::time::Duration;

use audit::checkpoint::Checkpoint;
use audit::receipt::Receipt;
use audit::tlog::leaf_hash;
use audit::witness::AddCheckpoint;
use governance::partner::Standing;
use tokio::sync::watch;
use verifier::online_keys::{ActiveKey, Issuer};
use verifier::state::KeyFile;
use verifier::store::NewEntry;
use verifier::witness::{
    Cosigners, Derived, GatherParts, Keeper, KeeperParts, Quorum, follow, fork_teller, gather, serve,
};

use crate::member::Member;
use crate::{A, B};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_cosigns_until_the_log_forks_and_then_marks_its_domain() {
    let (a, mut b) = tokio::join!(Member::founded(A), Member::founded(B));
    a.trust(&b).await;
    b.trust(&a).await;
    a.until("fresh", |a| a.standing(B) == Standing::Fresh).await;
    let now = a.clock();

    // B watches the logs of its partners, and answers on its public surface.
    let (logs, watched) = watch::channel(Arc::default());
    let derived = Derived { peers: watch::channel(Arc::default()).0, logs };
    let follows =
        tokio::spawn(follow(b.governor.clone(), now.clone(), Arc::default(), derived, std::future::pending()));
    let opened = b.tables();
    let keeper = Keeper::open(KeeperParts {
        domain: b.domain.clone(),
        key: ActiveKey::new(b.state().key(KeyFile::Witness).unwrap()),
        issuer: Issuer::new(b.state().key(KeyFile::Issuer).unwrap()),
        store: opened.store.clone(),
        log: opened.log.clone(),
        watched,
        now: now.clone(),
        forked: fork_teller(b.governor.clone(), now.clone()),
    });
    let keeper = keeper.await.unwrap();
    b.unreachable().await;
    let routes = serve::routes(keeper.clone());
    b.serve(|genuine| genuine.merge(routes)).await;

    // A asks it, since its grant says that B's cosignatures count.
    let (peers, asked) = watch::channel(Arc::default());
    let derived = Derived { peers, logs: watch::channel(Arc::default()).0 };
    let asks = tokio::spawn(follow(a.governor.clone(), now.clone(), Arc::default(), derived, std::future::pending()));
    let (cosigned, newest) = watch::channel(None);
    let (store, log) = (a.tables().store.clone(), a.tables().log.clone());
    let parts =
        GatherParts { store, log: log.clone(), peers: asked, quorum: 1.into(), cosigners: Cosigners::default(), now };
    let gathers = tokio::spawn(gather(parts, cosigned, std::future::pending()));
    let quorum = Quorum::of(1, LONG, newest);
    let logged = log.append(vec![NewEntry::new(b"entry".to_vec())]).await.unwrap().remove(0);
    let receipt = quorum.receipt(&log, &logged).await.unwrap().receipt.encode().unwrap();
    let witnesses = quorum.newest().unwrap().witnesses().to_vec();
    assert_eq!(witnesses[0].name(), "b.example/witness");
    Receipt::verify(&receipt, &log.identity(), &witnesses, 1, a.now()).unwrap();

    // Another tree of the same size, under A's own key: B has the proof, and A's word counts for nothing more.
    let size = quorum.newest().unwrap().size();
    let other = Checkpoint { origin: log.identity().origin().to_owned(), size, root: leaf_hash(b"another history") };
    let note = other.sign(&a.state().key(KeyFile::Log).unwrap()).unwrap();
    let body = AddCheckpoint { old: size, proof: Vec::new(), note }.encode();
    assert_eq!(keeper.add(body.as_bytes()).await.unwrap_err().code(), "witness.log_forked");
    b.until("forked", |b| b.standing(A) == Standing::Forked).await;
    assert_eq!(b.denial(A).code(), "governance.partner_forked");
    for task in [follows, asks, gathers] {
        task.abort();
    }
}
