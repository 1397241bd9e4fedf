//! What `serve` needs for witnessing: our witness, and the cosignatures on our own log.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::desk::Desk;
use crate::federation::sync::Now;
use crate::governor::Governor;
use crate::log::Opened;
use crate::open::OpenError;
use crate::store::StoreError;
use crate::witness::{
    self, CosignedHead, Cosigners, Derived, GatherParts, Keeper, KeeperParts, Needed, QUORUM_WITHIN, Quorum,
    WitnessPeer, WitnessedLog,
};

/// Before it runs.
pub(super) struct Witnessing {
    cosigned: watch::Sender<Option<Arc<CosignedHead>>>,
    peers: watch::Receiver<Arc<Vec<WitnessPeer>>>,
    logs: watch::Receiver<Arc<Vec<WitnessedLog>>>,
    derived: Derived,
    cosigners: Cosigners,
}

impl Witnessing {
    /// From what was stored.
    pub(super) async fn restored(opened: &Opened) -> Result<Self, StoreError> {
        let before = witness::stored(&opened.store, &opened.log).await?;
        let (peers, peers_seen) = watch::channel(Arc::default());
        let (logs, logs_seen) = watch::channel(Arc::default());
        let (cosigned, _) = watch::channel(before.map(Arc::new));
        let (derived, cosigners) = (Derived { peers, logs }, Cosigners::default());
        Ok(Self { cosigned, peers: peers_seen, logs: logs_seen, derived, cosigners })
    }

    /// What an answer waits for.
    pub(super) fn quorum(&self, config: &Config, governor: &Governor) -> Quorum {
        let quorum = Quorum::of(needed(config, governor), QUORUM_WITHIN, self.cosigned.subscribe());
        quorum.among(self.cosigners.clone())
    }

    /// Our witness.
    pub(super) async fn keeper(&self, desk: &Arc<Desk>, governor: &Governor) -> Result<Arc<Keeper>, OpenError> {
        let parts = KeeperParts {
            domain: desk.parts.domain.clone(),
            key: governor.keys().witness.clone(),
            issuer: governor.keys().issuer.clone(),
            store: desk.parts.store.clone(),
            log: desk.parts.log.clone(),
            watched: self.logs.clone(),
            now: clock(desk),
            forked: witness::fork_teller(governor.clone(), clock(desk)),
        };
        Ok(Keeper::open(parts).await?)
    }

    /// Gathers, and follows the partners.
    pub(super) fn run<S: Future<Output = ()> + Send + 'static>(
        self,
        config: &Config,
        desk: &Arc<Desk>,
        governor: &Governor,
        web_roots: Vec<Vec<u8>>,
        stopped: impl Fn() -> S,
    ) -> [JoinHandle<()>; 2] {
        let parts = GatherParts {
            store: desk.parts.store.clone(),
            log: desk.parts.log.clone(),
            peers: self.peers,
            quorum: needed(config, governor),
            cosigners: self.cosigners,
            now: clock(desk),
        };
        let following = witness::follow(governor.clone(), clock(desk), Arc::new(web_roots), self.derived, stopped());
        [tokio::spawn(witness::gather(parts, self.cosigned, stopped())), tokio::spawn(following)]
    }
}

fn needed(config: &Config, governor: &Governor) -> Needed {
    Needed::under(config.log.witness_quorum, governor.watch())
}

fn clock(desk: &Arc<Desk>) -> Now {
    let desk = desk.clone();
    Arc::new(move || desk.clock().now())
}
