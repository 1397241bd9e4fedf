//! What the processes of a running execution may know of it, and how one of them is told from any other process.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::artifact::ArtifactId;
use governance::trust_bundle::KeyRecord;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use wire::bounded::verifier::DomainKeys;

use super::execution::SignedIntent;
use super::jwt_svid::KeptJwts;
use super::svid::{Svid, SvidKey};
use super::{Node, lock};
use crate::gateway::Running;
use crate::local_api::{Caller, Place, Process};

/// A running execution, as its own processes see it.
#[derive(Debug)]
pub(crate) struct Governed {
    /// Its number on this node.
    pub(crate) number: u64,
    pub(crate) intent: Arc<SignedIntent>,
    /// Wiped when it is over.
    svid_key: Mutex<Option<SvidKey>>,
    pub(super) jwt_svids: KeptJwts,
    /// The node's home domain: what it gives comes first.
    pub(crate) home: DomainName,
    standing: watch::Sender<Standing>,
}

/// How it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// What each domain gave last, where that is in force.
    pub(crate) in_force: BTreeMap<DomainName, InForce>,
    /// When its supervisor ends it, CLOCK_BOOTTIME.
    pub(crate) ends_at_ms: u64,
    /// Why it is over, as a code; none while it goes on.
    pub(crate) over: Option<&'static str>,
}

/// What a domain gave.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    /// The artifact as signed.
    pub(crate) artifact: Arc<[u8]>,
    pub(crate) artifact_id: ArtifactId,
    /// When the artifact ends, by the domain's clock.
    pub(crate) expires_at: UnixSeconds,
    pub(crate) svid: Svid,
    /// CA certificates of the domain, DER, one after the other.
    pub(crate) authorities: Arc<[u8]>,
    /// The domain's keys of JWT-SVIDs.
    pub(crate) jwt: Arc<[KeyRecord]>,
    pub(crate) partners: Arc<[DomainKeys]>,
}

impl Governed {
    pub(super) fn new(number: u64, intent: &Arc<SignedIntent>, svid_key: SvidKey, home: DomainName) -> Self {
        let (svid_key, standing) = (Mutex::new(Some(svid_key)), watch::Sender::default());
        Self { number, intent: Arc::clone(intent), svid_key, jwt_svids: KeptJwts::default(), home, standing }
    }

    /// Lends the private key of its SVIDs; none once it is over.
    pub(crate) fn with_svid_key<T>(&self, of: impl FnOnce(&SvidKey) -> T) -> Option<T> {
        lock(&self.svid_key).as_ref().map(of)
    }

    /// What is in force, the home domain's first.
    pub(crate) fn ordered<'a>(&self, standing: &'a Standing) -> impl Iterator<Item = (&'a DomainName, &'a InForce)> {
        let home = standing.in_force.get_key_value(&self.home);
        let others = standing.in_force.iter().filter(move |(domain, _)| home.is_none_or(|(home, _)| home != *domain));
        home.into_iter().chain(others)
    }

    /// Those whom its domains trust. Who is a partner of several domains is known as the first of them knows it, and who
    /// authorizes the execution himself by his own bundle.
    pub(crate) fn partners<'a>(&self, standing: &'a Standing) -> BTreeMap<&'a DomainName, &'a DomainKeys> {
        let mut known = BTreeMap::new();
        for partner in self.ordered(standing).flat_map(|(_, given)| given.partners.iter()) {
            if !standing.in_force.contains_key(&partner.domain) {
                known.entry(&partner.domain).or_insert(partner);
            }
        }
        known
    }

    /// How it stands once that holds, or once it is over; nothing if neither comes soon.
    pub(super) async fn stands_with(&self, holds: impl Fn(&Standing) -> bool) -> Option<Standing> {
        let mut standing = self.standing();
        let held = standing.wait_for(|standing| standing.over.is_some() || holds(standing));
        let held = timeout(KNOWN_WITHIN, held).await.ok()?.ok()?;
        Some(held.clone())
    }

    /// How it stands, now and whenever that changes; the last change says that it is over.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(super) fn stands(&self, standing: Standing) {
        if standing.over.is_some() {
            lock(&self.svid_key).take();
        }
        // What is over stays so.
        self.standing.send_if_modified(|now| {
            let goes_on = now.over.is_none();
            if goes_on {
                *now = standing;
            }
            goes_on
        });
    }

    pub(super) fn is_over(&self, code: &'static str) {
        lock(&self.svid_key).take();
        self.standing.send_if_modified(|now| now.over.is_none() && now.over.replace(code).is_none());
    }
}

/// The caller is no process of an execution that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only a process of an execution that this daemon runs may ask this")]
pub(crate) struct NotGoverned;

impl Node {
    /// Makes an execution known by its supervisor, from which all its processes descend.
    pub(super) fn govern(&self, governed: Governed, running: &Running) -> io::Result<Arc<Governed>> {
        let supervisor = Process::from(running.supervisor()?);
        let governed = Arc::new(governed);
        lock(&self.executions).governed.insert(governed.number, (supervisor, Arc::clone(&governed)));
        Ok(governed)
    }

    /// The execution that a local client is a process of.
    ///
    /// # Errors
    /// [`NotGoverned`].
    pub(crate) async fn governed(&self, caller: &Caller) -> Result<Arc<Governed>, NotGoverned> {
        let process = caller.process().ok_or(NotGoverned)?;
        let until = Instant::now().checked_add(KNOWN_WITHIN);
        loop {
            match self.place(process) {
                Place::Below(execution) => {
                    let found =
                        lock(&self.executions).governed.get(&execution).map(|(_, governed)| Arc::clone(governed));
                    return found.ok_or(NotGoverned);
                }
                // A workload may ask before its supervisor's report of its start was read.
                Place::Ours if until.is_some_and(|until| Instant::now() < until) => sleep(LOOK_AGAIN_AFTER).await,
                Place::Ours | Place::Elsewhere => return Err(NotGoverned),
            }
        }
    }

    /// Whether it was this daemon that started a local client, as a workload or one of its processes.
    pub(crate) fn is_ours(&self, caller: &Caller) -> bool {
        caller.process().is_some_and(|process| match self.place(process) {
            Place::Below(_) | Place::Ours => true,
            Place::Elsewhere => false,
        })
    }

    fn place(&self, process: &Process) -> Place<u64> {
        let roots = lock(&self.executions).governed.iter().map(|(number, (root, _))| root.named(*number)).collect();
        process.place(&roots)
    }
}

/// A report that is on its way is read by then.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);
