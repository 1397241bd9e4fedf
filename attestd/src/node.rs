//! The daemon's core: what this node holds, and what it does about it.
//!
//! `execution` drives one execution by the lease machine, `conversation` speaks with one verifier, `domain` judges what a
//! verifier says, `halting` ends everything. Nothing here decides whether a workload may run: `governance` does.

mod conversation;
mod domain;
mod execution;
mod following;
mod governed;
mod halting;
mod intents;
mod jwt_svid;
mod keys;
mod link;
mod narration;
mod parent;
mod passport;
mod pause;
mod refused;
mod seen;
mod service;
mod svid;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::cose::SigningKey;
use evidence::digest::{Digest, Sha256Digest};
use evidence::names::{DomainName, NodeId};
use evidence::threshold::Authority;
use governance::artifact::VerifiedArtifact;
use governance::end::{END_VERSION, EndRecord};
use governance::halt::{HaltReason, Trigger};
use governance::trust_bundle::VerifiedBundle;
use serde_bytes::ByteBuf;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::AbortHandle;
use wire::bounded::verifier::{HpkeSuite, WrappedKey};
use wire::protocol::{EXECUTION_KEY_INFO, execution_key_aad, key_share_aad};

use self::domain::{AcceptDenial, Domain};
use self::execution::Order;
pub(crate) use self::governed::{Governed, Standing};
pub(crate) use self::jwt_svid::{GivenJwt, NoJwt};
use self::keys::Opened;
use self::link::Link;
pub(crate) use self::refused::Refused;
use self::seen::SeenMarks;
use crate::clock::unix_now;
use crate::collect::{Collected, Collector, HeldKey};
use crate::config::{Config, DomainConfig};
use crate::gateway::{Gateway, Running};
use crate::halt_store::HaltStore;
use crate::journal::Journal;
use crate::local_api::Process;
use crate::outbox::{Outbox, RecordKind, Unsent};
use crate::state::{StateDir, StateError};
use crate::tpm::hpke::SealedMessage;
use crate::watch::Watch;

/// What enrolment gave for one domain.
pub struct DomainIdentity {
    /// Where its verifier is.
    pub config: DomainConfig,
    /// This node's TLS client certificate there, PEM.
    pub certificate_pem: Vec<u8>,
    /// Its keys, as they were when this daemon started; newer ones are followed.
    pub bundle: VerifiedBundle,
    /// Who may readmit this node, and say whose cosignatures count.
    pub authority: Authority,
    /// Whether it called itself a lab when this node enrolled.
    pub lab: bool,
}

impl DomainIdentity {
    fn domain(&self, node: &NodeId) -> Domain {
        let (authority, bundle) = (self.authority.clone(), self.bundle.clone());
        Domain::new(self.config.name.clone(), node.clone(), authority, bundle, self.lab)
    }
}

/// Everything a node is made of.
pub struct Parts {
    /// Its configuration.
    pub config: Config,
    /// Its state directory, locked.
    pub state: Arc<StateDir>,
    /// Signs its intents, halt and end records.
    pub record_key: SigningKey,
    /// Collects its evidence.
    pub collector: Collector,
    /// Starts its workloads.
    pub gateway: Gateway,
    /// Its domains, the home domain first.
    pub domains: Vec<DomainIdentity>,
    /// Looks at its TPM between renewals.
    pub watch: Watch,
}

/// The node.
pub struct Node {
    config: Config,
    home: DomainName,
    state: Arc<StateDir>,
    record_key: SigningKey,
    key_pkcs8: zeroize::Zeroizing<Vec<u8>>,
    collector: Collector,
    gateway: Gateway,
    outbox: Outbox,
    journal: Journal,
    domains: BTreeMap<DomainName, DomainIdentity>,
    /// The newest TLS client certificate for each domain, PEM.
    certificates: Mutex<BTreeMap<DomainName, Vec<u8>>>,
    /// The same as judges of what is said in their names; links share their bundles.
    known: BTreeMap<DomainName, Domain>,
    links: BTreeMap<DomainName, Link>,
    seen: Mutex<SeenMarks>,
    /// Newest head of each domain's log that another domain was shown: its size and note.
    elsewhere: Mutex<BTreeMap<DomainName, (u64, Vec<u8>)>>,
    halts: tokio::sync::Mutex<HaltStore>,
    halted: watch::Sender<Option<HaltReason>>,
    /// Number in the outbox of the home domain's copy of the halt record, once there is one.
    halt_record: watch::Sender<Option<u64>>,
    /// Log indexes of the records that were acknowledged, by their number in the outbox.
    acknowledged: broadcast::Sender<(u64, u64)>,
    executions: Mutex<Executions>,
    watching: Watching,
    /// Halted workloads that stand still, or await their lease's end without keys.
    halted_workloads: Mutex<Vec<Running>>,
    last_evidence: Mutex<Option<Sha256Digest>>,
    /// How long the IMA log was when evidence with it was last accepted, in bytes.
    judged_ima_bytes: Mutex<Option<u64>>,
    captured: Mutex<BTreeSet<DomainName>>,
}

/// Executions alive.
#[derive(Default)]
struct Executions {
    orders: BTreeMap<u64, mpsc::Sender<Order>>,
    /// Those that run, or were left standing by a halt, by their supervisors.
    governed: BTreeMap<u64, (Process, Arc<Governed>)>,
    /// Parents on this node, by their children.
    parents: BTreeMap<u64, u64>,
    shown: BTreeMap<u64, serde_json::Value>,
    stopping: bool,
}

/// The watch runs while anything else does.
struct Watching {
    watch: Watch,
    running: Mutex<(BTreeSet<u64>, Option<AbortHandle>)>,
    next: AtomicU64,
}

/// Lineage records by which domains last authorized something.
pub(crate) type Authorizations = BTreeMap<DomainName, Vec<Sha256Digest>>;

/// An execution that ended by itself.
pub(crate) struct Ending {
    pub(crate) intent: Sha256Digest,
    pub(crate) artifacts: Vec<Sha256Digest>,
    pub(crate) authorizations: Authorizations,
    pub(crate) exit_code: i32,
    pub(crate) keys_wiped: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value behind these mutexes is whole between statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// A node from its parts; its links and service are started by [`Node::serve`].
    ///
    /// # Errors
    /// [`StateError`] when the state directory cannot be understood.
    fn new(parts: Parts) -> Result<(Arc<Self>, Vec<link::LinkTask>), StateError> {
        let Parts { config, state, record_key, collector, gateway, domains, watch } = parts;
        let seen = SeenMarks::load(&state)?;
        let halts = HaltStore::open(Arc::clone(&state))?;
        let outbox = Outbox::open(Arc::clone(&state))?;
        let journal = Journal::open(Arc::clone(&state))?;
        let malformed = |why: String| StateError::Malformed { path: state.join("record.key"), why };
        let key_pkcs8 = record_key.to_pkcs8().map_err(|denial| malformed(denial.to_string()))?;
        let home = domains.first().map(|domain| domain.config.name.clone());
        let home = home.ok_or_else(|| malformed("no domain".to_owned()))?;
        let (mut known, mut links, mut tasks) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for identity in &domains {
            let name = identity.config.name.clone();
            let domain = identity.domain(&config.node_id);
            known.insert(name.clone(), domain.clone());
            let (link, task) = link::link(domain, seen.of(&name));
            links.insert(name, link);
            tasks.push(task);
        }
        let certificates = domains.iter().map(|domain| (domain.config.name.clone(), domain.certificate_pem.clone()));
        let certificates = Mutex::new(certificates.collect());
        let halted = watch::Sender::new(halts.current().map(|halt| halt.reason.clone()));
        let node = Self {
            config,
            home,
            state,
            record_key,
            key_pkcs8,
            collector,
            gateway,
            outbox,
            journal,
            domains: domains.into_iter().map(|domain| (domain.config.name.clone(), domain)).collect(),
            certificates,
            known,
            links,
            seen: Mutex::new(seen),
            elsewhere: Mutex::default(),
            halts: tokio::sync::Mutex::new(halts),
            halted,
            halt_record: watch::Sender::new(None),
            acknowledged: broadcast::Sender::new(64),
            executions: Mutex::default(),
            watching: Watching { watch, running: Mutex::default(), next: AtomicU64::new(0) },
            halted_workloads: Mutex::default(),
            last_evidence: Mutex::new(None),
            judged_ima_bytes: Mutex::new(None),
            captured: Mutex::default(),
        };
        Ok((Arc::new(node), tasks))
    }

    fn id(&self) -> &NodeId {
        &self.config.node_id
    }

    fn is_halted(&self) -> bool {
        self.halted.borrow().is_some()
    }

    fn link(&self, domain: &DomainName) -> Option<&Link> {
        self.links.get(domain)
    }

    const fn kills_by_cgroup(&self) -> bool {
        self.config.halt.cgroup.is_some()
    }

    fn keep_halted(&self, running: Running) {
        lock(&self.halted_workloads).push(running);
    }

    /// Passes a judgement on; a log that shows two histories also halts this node.
    async fn judged<T>(self: &Arc<Self>, domain: &Domain, outcome: Result<T, AcceptDenial>) -> Result<T, Refused> {
        match outcome {
            Ok(accepted) => Ok(accepted),
            Err(denial) => {
                if let AcceptDenial::LogForked { .. } = &denial {
                    self.trip(HaltReason::LogForked { domain: domain.name.clone() });
                }
                Err(denial.into())
            }
        }
    }

    /// The verifier's idea of this node's newest record, for the log: the node goes on from its own, so that a copy of this
    /// node shows.
    fn welcomed(&self, domain: &DomainName, theirs: Sha256Digest) -> Result<(), StateError> {
        let ours = self.state.lineage_head(domain)?;
        if ours != theirs {
            tracing::warn!(%domain, %ours, %theirs, "the verifier's newest record of this node is another");
        }
        Ok(())
    }

    fn advance_lineage(&self, domain: &DomainName, head: Sha256Digest) -> Result<(), StateError> {
        self.state.hear_lineage_head(domain, head)?;
        self.state.keep_lineage_heads()
    }

    fn attested(&self, collected: &Collected) {
        *lock(&self.last_evidence) = Some(collected.evidence.digest());
        let judged = collected.quoted.as_ref().and_then(|quoted| quoted.ima_bytes);
        let mut newest = lock(&self.judged_ima_bytes);
        *newest = judged.max(*newest); // domains ask one by one; the machine is the same
    }

    /// Once in the life of the daemon, so that an operator has the node's present values at hand.
    fn wants_capture(&self, domain: &DomainName) -> bool {
        !self.is_halted() && !lock(&self.captured).contains(domain)
    }

    fn captured(&self, domain: &DomainName) {
        lock(&self.captured).insert(domain.clone());
    }

    /// Opens an execution key where the node key is: in the TPM, which refuses unless the PCRs still are what was quoted.
    async fn open_key(
        &self,
        artifact: &VerifiedArtifact,
        key: &HeldKey,
        wrapped: WrappedKey,
    ) -> Result<Opened, Refused> {
        let (id, name) = (&artifact.terms().id.0, wrapped.name.as_str());
        let aad = match &wrapped.share {
            None => execution_key_aad(id, name),
            Some(header) => key_share_aad(id, name, &header.encode()?),
        };
        let message = SealedMessage {
            encapsulated: wrapped.encapsulated,
            sealed: wrapped.sealed,
            info: EXECUTION_KEY_INFO.to_vec(),
            aad,
        };
        let opened = match (key, wrapped.suite) {
            (HeldKey::Tpm(key), HpkeSuite::P256) => {
                let tpm =
                    self.collector.tpm().ok_or_else(|| Refused::fault("fault.bug", "a TPM's key without a TPM"))?;
                tpm.tpm().hpke_open(key.blob().clone(), key.point().to_vec(), key.bound_to(), message).await?
            }
            (HeldKey::XWing(key), HpkeSuite::XWing) => key.open(&message)?,
            (HeldKey::Tpm(_), HpkeSuite::XWing) | (HeldKey::XWing(_), HpkeSuite::P256) => {
                return Err(Refused::fault("fault.verifier_protocol", "wrapped for another kind of node key"));
            }
        };
        Ok(Opened { name: wrapped.name, share: wrapped.share, material: opened })
    }

    /// Signs an end record for each domain concerned and waits a little for the first acknowledgement.
    async fn record_end(&self, ending: Ending, domains: &BTreeSet<DomainName>) -> Option<u64> {
        let acknowledged = self.acknowledged.subscribe();
        let mut numbers = Vec::new();
        for domain in domains {
            match self.end_record(&ending, domain) {
                Ok(number) => numbers.push(number),
                Err(refused) => tracing::error!(%domain, %refused, "the end record could not be kept"),
            }
        }
        if numbers.len() == domains.len() {
            self.forget_begun([ending.intent]);
        }
        halting::first_acknowledged(acknowledged, &numbers).await
    }

    fn forget_begun(&self, intents: impl IntoIterator<Item = Sha256Digest>) {
        if let Err(error) = self.journal.end(intents) {
            tracing::error!(%error, "an execution's end will be recorded again at the next start");
        }
    }

    fn end_record(&self, ending: &Ending, domain: &DomainName) -> Result<u64, Refused> {
        let record = EndRecord {
            version: END_VERSION,
            domain: domain.clone(),
            node: self.id().clone(),
            intent: ending.intent,
            artifacts: ending.artifacts.clone(),
            authorizations: ending.authorizations.clone(),
            exit_code: ending.exit_code,
            keys_wiped: ending.keys_wiped,
            ended_at: unix_now(),
            lineage_head: self.state.lineage_head(domain)?,
        };
        let cose = record.sign(&self.record_key).map_err(|denial| Refused::fault("fault.bug", denial))?;
        Ok(self.outbox.add(Unsent { domain: domain.clone(), kind: RecordKind::End, cose: ByteBuf::from(cose) })?)
    }

    /// A domain has a record of ours in its log.
    async fn recorded(&self, domain: &DomainName, kind: RecordKind, number: u64, index: u64) -> Result<(), StateError> {
        if kind == RecordKind::Halt {
            self.halts.lock().await.acknowledged(domain)?;
        }
        self.outbox.acknowledged(number)?;
        tracing::info!(%domain, ?kind, log_index = index, "record logged");
        let _ = self.acknowledged.send((number, index)); // nobody may be waiting
        Ok(())
    }

    /// Watches whether this machine's PCRs are these until the last execution has ended.
    fn watch_while_running(self: &Arc<Self>, execution: u64, pcrs: BTreeMap<u8, Digest>) {
        let mut running = lock(&self.watching.running);
        running.0.insert(execution);
        if running.1.is_none() {
            let node = Arc::clone(self);
            let task = tokio::spawn(async move {
                let judged = || *lock(&node.judged_ima_bytes);
                let attest = |trigger| node.attest_now(trigger);
                let reason = node.watching.watch.until_changed(pcrs, judged, attest).await;
                tracing::warn!(code = reason.code(), "the local watch saw a change");
                node.trip(reason);
            });
            running.1 = Some(task.abort_handle());
        }
    }

    /// Shows every domain what this machine is now, without waiting for their answers.
    fn attest_now(&self, trigger: Trigger) {
        let orders: Vec<_> = lock(&self.executions).orders.values().cloned().collect();
        tokio::spawn(async move {
            for order in orders {
                let _ = order.send(Order::Attest(trigger)).await; // it may just have ended
            }
        });
    }

    fn show(&self, execution: u64, shown: serde_json::Value) {
        lock(&self.executions).shown.insert(execution, shown);
    }

    /// An execution is over; its processes may still be there.
    fn forget(&self, execution: u64, stays: bool) {
        let mut executions = lock(&self.executions);
        executions.orders.remove(&execution);
        if !stays {
            executions.governed.remove(&execution);
        }
        executions.parents.remove(&execution);
        executions.shown.remove(&execution);
        drop(executions);
        let mut running = lock(&self.watching.running);
        running.0.remove(&execution);
        if running.0.is_empty()
            && let Some(task) = running.1.take()
        {
            task.abort();
        }
    }

    fn next_execution(&self) -> u64 {
        self.watching.next.fetch_add(1, Ordering::Relaxed)
    }
}
