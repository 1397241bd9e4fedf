//! What the processes of a running execution may know of it, and how one of them is told from any other process.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::artifact::ArtifactId;
use governance::trust_bundle::KeyRecord;
use rustix::process::geteuid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use wire::bounded::verifier::DomainKeys;

use super::execution::SignedIntent;
use super::jwt_svid::KeptJwts;
use super::svid::{Svid, SvidKey};
use super::{Node, lock};
use crate::gateway::{Attached, Running, SealedKey};
use crate::local_api::{Caller, Crowd, Place, Process, UNTOLD};

/// A running execution, as its own processes see it.
#[derive(Debug)]
pub(crate) struct Governed {
    /// Its number on this node.
    pub(crate) number: u64,
    pub(crate) intent: Arc<SignedIntent>,
    /// Wiped when it is over.
    svid_key: Mutex<Option<SvidKey>>,
    /// Let go of when it is over.
    keys: Mutex<Vec<SealedKey>>,
    pub(super) jwt_svids: KeptJwts,
    /// The node's home domain: what it gives comes first.
    pub(crate) home: DomainName,
    /// The cgroup of what runs already: its processes descend from whoever started it.
    attached: Option<Attached>,
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
    /// It is over, and runs until then all the same, without keys that it may use.
    pub(crate) keys_revoked: bool,
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
    pub(super) fn new(
        number: u64,
        intent: &Arc<SignedIntent>,
        (svid_key, keys): (SvidKey, Vec<SealedKey>),
        home: DomainName,
    ) -> Self {
        let (svid_key, keys, standing) = (Mutex::new(Some(svid_key)), Mutex::new(keys), watch::Sender::default());
        let jwt_svids = KeptJwts::default();
        Self { number, intent: Arc::clone(intent), svid_key, keys, jwt_svids, home, attached: None, standing }
    }

    /// Its execution keys once more, by name; none once it is over.
    pub(crate) fn keys_again(&self) -> io::Result<Option<(Vec<String>, Vec<OwnedFd>)>> {
        // Held meanwhile: what is over has let go of all of them.
        let keys = lock(&self.keys);
        if self.standing.borrow().over.is_some() {
            return Ok(None);
        }
        let again = keys.iter().map(SealedKey::again).collect::<io::Result<_>>()?;
        Ok(Some((keys.iter().map(|key| key.name.clone()).collect(), again)))
    }

    fn let_go_of_keys(&self) {
        lock(&self.svid_key).take();
        lock(&self.keys).clear();
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

    /// Whether anybody waits to hear of a change.
    pub(super) fn is_watched(&self) -> bool {
        self.standing.receiver_count() > 0
    }

    pub(super) fn stands(&self, standing: Standing) {
        if standing.over.is_some() {
            self.let_go_of_keys();
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
        self.let_go_of_keys();
        self.standing.send_if_modified(|now| now.over.is_none() && now.over.replace(code).is_none());
    }
}

/// Why a caller is not answered as a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotGoverned {
    /// It is no process of an execution that runs.
    #[error("only a process of an execution that this daemon runs may ask this")]
    Other,
    /// Nobody can tell.
    #[error("{UNTOLD}")]
    Untold,
}

impl Node {
    /// Makes an execution known by its supervisor, from which all its processes descend, or by its cgroup.
    pub(super) fn govern(&self, governed: Governed, running: &Running) -> io::Result<Arc<Governed>> {
        let supervisor = Process::from(running.supervisor()?);
        let governed = Arc::new(Governed { attached: running.attached().cloned(), ..governed });
        lock(&self.executions).governed.insert(governed.number, (supervisor, Arc::clone(&governed)));
        Ok(governed)
    }

    /// The execution that a local client is a process of.
    ///
    /// # Errors
    /// [`NotGoverned`].
    pub(crate) async fn governed(&self, caller: &Caller) -> Result<Arc<Governed>, NotGoverned> {
        let process = caller.process().ok_or(NotGoverned::Untold)?;
        let until = Instant::now().checked_add(KNOWN_WITHIN);
        loop {
            match self.place(process) {
                Place::Below(execution) => {
                    let found =
                        lock(&self.executions).governed.get(&execution).map(|(_, governed)| Arc::clone(governed));
                    return found.ok_or(NotGoverned::Other);
                }
                // A workload may ask before its supervisor's report of its start was read.
                Place::Ours(_) if until.is_some_and(|until| Instant::now() < until) => sleep(LOOK_AGAIN_AFTER).await,
                Place::Ours(_) | Place::Elsewhere => return Err(NotGoverned::Other),
            }
        }
    }

    /// Refuses whoever this daemon started, as a workload or one of its processes, and whoever may be one for all that the
    /// kernel tells.
    ///
    /// # Errors
    /// Why, in words.
    pub(crate) fn operator(&self, caller: &Caller) -> Result<(), &'static str> {
        let Some(process) = caller.process() else { return untold_operator(caller, geteuid().as_raw()) };
        match self.place(process) {
            Place::Below(_) | Place::Ours(_) => Err("a workload does not order this node about"),
            Place::Elsewhere => Ok(()),
        }
    }

    /// With whom a local client shares what a local socket has.
    pub(crate) fn crowd_of(&self, caller: &Caller) -> Crowd {
        let Some(process) = caller.process() else { return Crowd::User(caller.uid()) };
        match self.place(process) {
            Place::Below(execution) => lock(&self.executions)
                .governed
                .get(&execution)
                .map_or(Crowd::Process(process.pid()), |(supervisor, _)| Crowd::Below(supervisor.pid())),
            Place::Ours(supervisor) => Crowd::Below(supervisor),
            Place::Elsewhere => Crowd::Process(process.pid()),
        }
    }

    fn place(&self, process: &Process) -> Place<u64> {
        let (mut roots, mut attached) = (BTreeMap::new(), Vec::new());
        for (number, (root, governed)) in &lock(&self.executions).governed {
            roots.extend([root.named(*number)]);
            attached.extend(governed.attached.clone().map(|cgroup| (*number, cgroup)));
        }
        match process.place(&roots) {
            Place::Elsewhere => {
                let holds = |cgroup: &Attached| cgroup.members().is_ok_and(|members| process.is_among(&members));
                let found = attached.iter().find(|(_, cgroup)| holds(cgroup));
                found.map_or(Place::Elsewhere, |(number, _)| Place::Below(*number))
            }
            found @ (Place::Below(_) | Place::Ours(_)) => found,
        }
    }
}

/// Workloads are of the daemon's own user: whoever is root beside another daemon is none.
fn untold_operator(caller: &Caller, ours: u32) -> Result<(), &'static str> {
    if caller.uid() == 0 && ours != 0 { Ok(()) } else { Err(UNTOLD) }
}

/// A report that is on its way is read by then.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_kernel_does_not_tell_processes_apart_nobody_who_may_be_a_workload_gives_orders() {
        let orders = |uid, ours| untold_operator(&Caller::untold(uid), ours);
        assert_eq!(orders(0, 997), Ok(()));
        for (uid, ours) in [(997, 997), (0, 0)] {
            assert!(orders(uid, ours).unwrap_err().contains("SO_PEERPIDFD, Linux 6.5"));
        }
    }
}
