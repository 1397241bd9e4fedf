//! A witness with its store, its log and its listener; a log that is only a tree and a key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use audit::checkpoint::{Checkpoint, LogIdentity};
use audit::note::{NoteKey, NoteKeyKind};
use audit::tlog::{CompactRange, NodeId, ProofPlan, TreeHash, empty_root, leaf_hash};
use audit::witness::AddCheckpoint;
use evidence::cose::SigningKey;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use verifier::log::Opened;
use verifier::online_keys::{ActiveKey, Issuer};
use verifier::store::StoreError;
use verifier::witness::{Fork, Keeper, KeeperParts, WitnessAt, WitnessPeer, WitnessedLog, serve};

use crate::bed::Bed;

pub(crate) const ORIGIN: &str = "p.example/log";
pub(crate) const START: u64 = 1_800_000_000;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub(crate) fn name(name: &str) -> DomainName {
    DomainName::new(name).unwrap()
}

/// A partner's log: entries are numbers, written by `hand`.
pub(crate) struct Partner {
    nodes: HashMap<NodeId, TreeHash>,
    roots: Vec<TreeHash>,
}

impl Partner {
    pub(crate) fn of(hand: u8, size: u64) -> Self {
        let (mut range, mut nodes, mut roots) = (CompactRange::empty(), HashMap::new(), vec![empty_root()]);
        for entry in 0..size {
            nodes.extend(range.append(leaf_hash(&[&[hand], &entry.to_be_bytes()[..]].concat())).unwrap());
            roots.push(range.root());
        }
        Self { nodes, roots }
    }

    pub(crate) fn note(&self, size: u64, signer: u8) -> String {
        let root = self.roots[size as usize];
        Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key(signer)).unwrap()
    }

    pub(crate) fn request(&self, old: u64, size: u64) -> Vec<u8> {
        let proof = match old {
            0 => Vec::new(),
            old if old >= size => Vec::new(),
            old => ProofPlan::consistency(old, size).unwrap().build(&self.nodes).unwrap(),
        };
        AddCheckpoint { old, proof, note: self.note(size, 77) }.encode().into_bytes()
    }
}

/// One witness, `w1.example`, say.
pub(crate) struct Witness {
    pub(crate) domain: DomainName,
    pub(crate) bed: Bed,
    pub(crate) opened: Opened,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) forks: Arc<Mutex<Vec<Fork>>>,
    pub(crate) now: Arc<AtomicU64>,
    seed: u8,
    watched: WitnessedLog,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Kept across restarts, so that who knows the witness finds it again.
    port: u16,
}

impl Witness {
    /// A witness of the log whose checkpoints `signer` signs.
    pub(crate) async fn of(seed: u8, origin: &str, signer: &SigningKey) -> Self {
        let log = LogIdentity::new(origin, [signer.public()]).unwrap();
        let watched = WitnessedLog { domain: name("p.example"), log };
        Self::on(Bed::sqlite().await, seed, watched, Arc::new(AtomicU64::new(START)), 0).await.unwrap()
    }

    pub(crate) async fn partners() -> Self {
        Self::of(1, ORIGIN, &key(77)).await
    }

    async fn on(bed: Bed, seed: u8, watched: WitnessedLog, now: Arc<AtomicU64>, port: u16) -> Result<Self, StoreError> {
        let opened = bed.open().await;
        let (domain, forks) = (name(&format!("w{seed}.example")), Arc::new(Mutex::new(Vec::new())));
        let (clock, heard) = (now.clone(), forks.clone());
        let parts = KeeperParts {
            domain: domain.clone(),
            key: ActiveKey::new(key(seed)),
            issuer: Issuer::new(key(100)),
            store: opened.store.clone(),
            log: opened.log.clone(),
            watched: watch::channel(Arc::new(vec![watched.clone()])).1,
            now: Arc::new(move || Ok(UnixSeconds(clock.load(Ordering::Relaxed)))),
            forked: Arc::new(move |fork| heard.lock().unwrap().push(fork.clone())),
        };
        match Keeper::open(parts).await {
            Ok(keeper) => Ok(Self { domain, bed, opened, keeper, forks, now, seed, watched, serving: None, port }),
            Err(fault) => {
                opened.close().await;
                Err(fault)
            }
        }
    }

    /// Stops it as a killed process is stopped, but for what its store has to finish.
    pub(crate) async fn stop(mut self) -> (Bed, u8, WitnessedLog, Arc<AtomicU64>, u16) {
        self.hang_up().await;
        let Self { bed, opened, keeper, now, seed, watched, port, .. } = self;
        drop(keeper);
        opened.close().await;
        (bed, seed, watched, now, port)
    }

    pub(crate) async fn start((bed, seed, watched, now, port): (Bed, u8, WitnessedLog, Arc<AtomicU64>, u16)) -> Self {
        Self::on(bed, seed, watched, now, port).await.unwrap_or_else(|fault| panic!("{fault}"))
    }

    pub(crate) async fn refuses_to_start(
        (bed, seed, watched, now, port): (Bed, u8, WitnessedLog, Arc<AtomicU64>, u16),
    ) -> StoreError {
        match Self::on(bed, seed, watched, now, port).await {
            Ok(_) => panic!("it started"),
            Err(fault) => fault,
        }
    }

    /// Listens, and says how it is known.
    pub(crate) async fn listen(&mut self) -> WitnessPeer {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = serve::routes(self.keeper.clone());
        let served = tokio::spawn(async move {
            let until = async move { drop(stopped.await) };
            axum::serve(listener, routes).with_graceful_shutdown(until).await.unwrap();
        });
        self.serving = Some((stop, served));
        self.peer()
    }

    pub(crate) fn peer(&self) -> WitnessPeer {
        WitnessPeer { domain: self.domain.clone(), keys: vec![self.vkey()], at: WitnessAt::Plain(self.prefix()) }
    }

    pub(crate) fn prefix(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, serve::PREFIX)
    }

    /// Ends every connection and listens no more.
    pub(crate) async fn hang_up(&mut self) {
        if let Some((_, served)) = self.serving.take() {
            served.abort();
            drop(served.await);
        }
    }

    pub(crate) fn vkey(&self) -> NoteKey {
        NoteKey::new(self.keeper.name(), NoteKeyKind::Cosignature, key(self.seed).public()).unwrap()
    }

    /// The answer's code, or "cosigned".
    pub(crate) async fn code(&self, body: &[u8]) -> &'static str {
        match self.keeper.add(body).await {
            Ok(_) => "cosigned",
            Err(not) => not.code(),
        }
    }
}
