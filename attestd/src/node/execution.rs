//! One execution, from its intent to its end: runs the lease machine and does what it says.
//!
//! The machine decides (`governance::lease`); here is only how each of its actions is done on this node. One task per
//! execution; it never waits for a client or a verifier while a lease runs.

mod begin;
mod heard;
mod interrupt;
mod shown;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use evidence::digest::{Digest, Sha256Digest};
use evidence::names::DomainName;
use governance::GovernanceDenial;
use governance::artifact::ArtifactId;
use governance::halt::{HaltReason, Killed, KilledBy, Trigger};
use governance::intent::Intent;
use governance::lease::{Lease, LeaseAction, LeaseEvent, LeaseState};
use governance::on_halt::OnHalt;
use governance::revocation::RevocationList;
use governance::text::Text;
use tokio::sync::{mpsc, oneshot, watch};

use super::domain::Accepted;
use super::governed::Governed;
use super::link::Reply;
use super::narration::Narration;
use super::parent::{self, Parent};
use super::passport::Vouchers;
use super::refused::Refused;
use super::svid::SvidKey;
use super::verdicts::Verdicts;
use super::{Authorizations, Ending, Node};
use crate::clock::boottime_ms;
use crate::collect::HeldKey;
use crate::gateway::{EndCause, Ended, Running, Workload};
use interrupt::Pause;

/// What the node orders one of its executions.
pub(crate) enum Order {
    /// The node halts: do what the intent says of that, or the operator instead; wipe, and say what that was.
    Halt(HaltReason, Option<OnHalt>, oneshot::Sender<Stopped>),
    /// An operator has it stand still; says how many processes do.
    Pause(oneshot::Sender<Option<u32>>),
    /// An operator lets it go on, once it is proven anew that it may.
    Resume(oneshot::Sender<()>),
    /// The daemon stops: end it and record that.
    Stop,
    /// The node saw something that only a verifier can judge.
    Attest(Trigger),
    /// A domain revoked something; the execution looks whether it concerns it, and says when it has done what follows.
    Revoked(DomainName, Arc<RevocationList>, oneshot::Sender<()>),
    /// A domain says that what this artifact descends from is over.
    ParentOver(DomainName, ArtifactId, &'static str),
    /// What it descends from is over, on this node.
    Orphaned,
}

/// What a halt found of one execution.
#[derive(Clone, Debug)]
pub(crate) struct Stopped {
    pub(crate) artifacts: Vec<Sha256Digest>,
    pub(crate) authorizations: Authorizations,
    pub(crate) killed: Killed,
    pub(crate) keys_wiped: u32,
}

/// An intent as signed.
#[derive(Debug)]
pub(crate) struct SignedIntent {
    pub(crate) intent: Intent,
    pub(crate) digest: Sha256Digest,
    /// Signed for each domain that must hear it: what was signed for one never counts at another.
    pub(crate) signed: BTreeMap<DomainName, Vec<u8>>,
}

/// What an execution starts from.
pub(crate) struct Prepared {
    pub(crate) workload: Workload,
    pub(crate) svid_key: SvidKey,
    /// Watched PCRs before any domain was asked.
    pub(crate) pcrs: BTreeMap<u8, Digest>,
}

/// One execution.
pub(crate) struct Execution {
    node: Arc<Node>,
    number: u64,
    intent: Arc<SignedIntent>,
    parent: Parent,
    lease: Lease,
    /// Taken when it starts.
    prepared: Option<Prepared>,
    running: Option<Running>,
    /// What its processes may ask about, from its start.
    governed: Option<Arc<Governed>>,
    ended: Option<Ended>,
    /// What a halt does to it.
    on_halt: OnHalt,
    /// What a halt did, where it is not over by that.
    halted_as: Option<(KilledBy, u32)>,
    /// It was asked to end, and has its grace to do so.
    draining: Option<Running>,
    pause: Pause,
    /// Newest accepted authorization by domain.
    accepted: BTreeMap<DomainName, Accepted>,
    /// The node key that each domain's newest authorization is bound to.
    node_keys: BTreeMap<DomainName, HeldKey>,
    keys_held: u32,
    deadline_ms: u64,
    reply_sender: mpsc::UnboundedSender<(DomainName, Reply)>,
    replies: mpsc::UnboundedReceiver<(DomainName, Reply)>,
    verdicts: Verdicts,
    /// Code of each domain's newest refusal since it last granted.
    told: BTreeMap<DomainName, String>,
    /// What each domain granted, for those that take its word.
    vouchers: watch::Sender<Vouchers>,
    narration: Narration,
    /// Why what it descends from is over, once that ended it.
    orphaned: Option<&'static str>,
    finished: Option<Finish>,
}

/// What the client is told last.
struct Finish {
    exit_code: i32,
    halt_code: &'static str,
}

impl Execution {
    pub(crate) fn new(
        node: Arc<Node>,
        number: u64,
        intent: Arc<SignedIntent>,
        parent: Parent,
        prepared: Prepared,
        narration: Narration,
    ) -> Self {
        let lease = Lease::new(intent.intent.domains.clone(), governance::artifact::LEASE_CAP_MS);
        let on_halt = intent.intent.on_halt;
        let verdicts = Verdicts::of(intent.intent.domains.named());
        let (reply_sender, replies) = mpsc::unbounded_channel();
        Self {
            node,
            number,
            intent,
            parent,
            lease,
            prepared: Some(prepared),
            running: None,
            governed: None,
            ended: None,
            on_halt,
            halted_as: None,
            draining: None,
            pause: Pause::default(),
            accepted: BTreeMap::new(),
            node_keys: BTreeMap::new(),
            keys_held: 0,
            deadline_ms: 0,
            reply_sender,
            replies,
            verdicts,
            told: BTreeMap::new(),
            vouchers: watch::Sender::default(),
            narration,
            orphaned: None,
            finished: None,
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        self.step(LeaseEvent::Start).await;
        while self.finished.is_none() {
            let wakes = self.lease.wake_at_ms().into_iter().chain(self.last_words_at_ms());
            let wake_at_ms = wakes.chain(self.verdicts.wake_at_ms()).min();
            let attended = !matches!(self.lease.state(), LeaseState::Halted { .. });
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => self.ordered(order).await,
                    None => break, // the node is gone; dropping the running workload kills it
                },
                ended = until_ended(self.running.as_ref()) => self.workload_ended(ended).await,
                Some((domain, reply)) = self.replies.recv() => self.replied(domain, reply).await,
                () = self.narration.abandoned(), if attended => self.end_early().await,
                () = until_boottime(wake_at_ms) => self.tick().await,
            }
            self.conclude().await;
            self.tell();
            self.node.show(self.number, self.shown());
        }
        if self.running.is_some() {
            self.kill().await;
        }
        if let Some(governed) = &self.governed {
            governed.is_over(shown::ENDED);
        }
        self.node.end_children(self.number);
        // One that was not ended by its halt is answered what became of it.
        let stays = self.ended.is_none() && self.halted_as.is_some();
        self.node.forget(self.number, stays);
        if let Some(Finish { exit_code, halt_code }) = self.finished {
            self.narration.finish(exit_code, halt_code).await;
        }
    }

    async fn ordered(&mut self, order: Order) {
        match order {
            Order::Halt(reason, instead, done) => {
                let code = reason.code();
                self.on_halt = instead.unwrap_or(self.on_halt);
                self.step(LeaseEvent::Trip(reason)).await;
                self.drained().await;
                self.node.show(self.number, self.shown()); // whoever is told of the halt may look at once
                let halted = self.node.halt_recorded();
                if done.send(self.stopped()).is_ok() {
                    // What the client is told is durable by then.
                    let index = halted.await;
                    self.narration.proof_persisted("halt", index);
                }
                let exit_code = self.ended.as_ref().map_or(NOT_STARTED_EXIT_CODE, |ended| ended.outcome.exit_code());
                self.finished = Some(Finish { exit_code, halt_code: code });
            }
            Order::Stop => self.end_early().await,
            Order::Orphaned => self.orphan(parent::NOT_LIVE).await,
            Order::ParentOver(domain, artifact, code) => {
                if self.accepted.get(&domain).is_some_and(|accepted| accepted.artifact.terms().id == artifact) {
                    self.orphan(code).await;
                }
            }
            Order::Pause(done) => drop(done.send(self.pause().await)),
            Order::Resume(done) => {
                self.resume().await;
                let _ = done.send(()); // the client may be gone
            }
            Order::Attest(trigger) => self.step(LeaseEvent::AttestNow(trigger)).await,
            Order::Revoked(domain, list, done) => {
                let concerned =
                    self.accepted.get(&domain).map(|accepted| list.admits_artifact(accepted.artifact.terms()));
                match concerned {
                    // Not this execution was revoked: it ends, and its node goes on.
                    Some(Err(GovernanceDenial::ParentRevoked { .. })) => self.orphan(parent::REVOKED).await,
                    Some(Err(denial)) => {
                        if let Ok(code) = Text::new(denial.code()) {
                            self.step(LeaseEvent::Revoked(domain, code)).await;
                        }
                    }
                    Some(Ok(())) | None => {}
                }
                let _ = done.send(()); // the stream may be gone meanwhile
            }
        }
    }

    /// Time passed. A lease is given up a moment before its end, at which the supervisor kills: so it is told why.
    async fn tick(&mut self) {
        let now_ms = boottime_ms();
        let ends_at_ms = self.last_words_at_ms().filter(|at_ms| *at_ms <= now_ms).and(self.lease.ends_at_ms());
        self.step_at(LeaseEvent::Tick, ends_at_ms.unwrap_or(now_ms)).await;
    }

    /// When to tell what runs that its lease ends.
    fn last_words_at_ms(&self) -> Option<u64> {
        self.lease.ends_at_ms().filter(|_| self.lease.runs()).map(|ends_at_ms| ends_at_ms.saturating_sub(END_EARLY_MS))
    }

    async fn step(&mut self, event: LeaseEvent) {
        self.step_at(event, 0).await;
    }

    /// Gives the machine one event and does what it answers; it is now, or later.
    async fn step_at(&mut self, event: LeaseEvent, at_least_ms: u64) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let (lease, actions) = self.lease.clone().on(event, boottime_ms().max(at_least_ms));
            self.lease = lease;
            for action in actions {
                events.extend(self.perform(action).await);
            }
        }
    }

    /// Does one thing that the machine wants; what follows from it at once is the next event.
    async fn perform(&mut self, action: LeaseAction) -> Option<LeaseEvent> {
        match action {
            LeaseAction::Ask(domain) => return Some(self.ask(domain)),
            LeaseAction::Deadline(at_ms) => {
                self.deadline_ms = at_ms;
                self.running.iter().for_each(|running| running.prolong(at_ms));
            }
            LeaseAction::StartWorkload => {
                if let Err(refused) = self.start().await {
                    self.narration.refused(&refused);
                    return Some(LeaseEvent::WorkloadEnded(NOT_STARTED_EXIT_CODE));
                }
            }
            LeaseAction::Kill => match self.lease.state() {
                LeaseState::Halted { .. } => self.interrupt().await,
                LeaseState::Idle | LeaseState::Attesting | LeaseState::Held | LeaseState::Renewing => self.kill().await,
            },
            // Wrapped keys never left this process unopened; the opened ones ended with the workload's memory.
            LeaseAction::WipeKeys => self.accepted.values_mut().for_each(|accepted| accepted.keys.clear()),
            LeaseAction::RecordHalt(reason) => {
                // The node halts as a whole; it orders this execution, too, and is told then what was stopped.
                let node = Arc::clone(&self.node);
                tokio::spawn(async move { node.halt(reason).await });
            }
            LeaseAction::RecordEnd(exit_code) => {
                let ending = Ending {
                    intent: self.intent.digest,
                    artifacts: self.artifacts(),
                    authorizations: self.authorizations(),
                    exit_code,
                    keys_wiped: self.keys_held,
                };
                let index = self.node.record_end(ending, self.intent.intent.domains.named()).await;
                self.narration.proof_persisted("end", index);
                self.finished = Some(Finish { exit_code, halt_code: self.orphaned.unwrap_or_default() });
            }
            LeaseAction::GiveUp => self.give_up_unauthorized().await,
        }
        None
    }

    /// Once everybody was heard: what they said, together.
    async fn conclude(&mut self) {
        let Some(heard) = self.verdicts.conclude(boottime_ms()) else { return };
        if let Some(conflict) = self.verdicts.conflict() {
            self.narration.refused(&conflict.refusal());
            self.give_up().await;
            return;
        }
        for event in heard {
            self.step(event).await;
        }
    }

    async fn kill(&mut self) {
        self.node.end_children(self.number);
        if let Some(running) = self.running.take() {
            self.tell();
            if self.governed.as_ref().is_some_and(|governed| governed.is_watched()) {
                tokio::time::sleep(LAST_WORDS).await; // never longer, whether or not anybody listens
            }
            let ended = running.kill().await;
            tracing::info!(?ended, "the workload was ended");
            self.ended = Some(ended);
        }
    }

    async fn workload_ended(&mut self, ended: Ended) {
        self.running = None;
        self.node.end_children(self.number);
        let (cause, exit_code) = (ended.cause, ended.outcome.exit_code());
        tracing::info!(?ended, "the workload ended");
        self.ended = Some(ended);
        match cause {
            EndCause::WorkloadExited | EndCause::Killed => self.step(LeaseEvent::WorkloadEnded(exit_code)).await,
            // Its supervisor saw the lease's end first; the machine comes to the same conclusion by its own clock.
            EndCause::DeadlineReached => self.step(LeaseEvent::Tick).await,
            // Somebody interfered with the one process that guards the workload, or the machine is out of order.
            EndCause::SupervisorLost | EndCause::DaemonLost => self.step(LeaseEvent::WorkloadEnded(exit_code)).await,
        }
    }

    /// What it descends from is over: so is this, at once, and the node goes on.
    async fn orphan(&mut self, code: &'static str) {
        if self.finished.is_none() && self.orphaned.is_none() {
            self.orphaned = Some(code);
            self.narration.refused(&Refused::denied(code, "what it descends from is over"));
            self.end_early().await;
        }
    }

    /// The client is gone, or the daemon stops: an ordinary end, not a halt.
    async fn end_early(&mut self) {
        if self.lease.runs() {
            self.step(LeaseEvent::WorkloadEnded(TERMINATED_EXIT_CODE)).await;
        } else {
            let halt_code = self.orphaned.unwrap_or_default();
            self.finished = Some(Finish { exit_code: TERMINATED_EXIT_CODE, halt_code });
        }
    }

    fn stopped(&self) -> Stopped {
        let ended = self.ended.as_ref();
        if let Some((by, processes)) = self.halted_as {
            let killed = Killed { intent: self.intent.digest, by, processes };
            let (artifacts, authorizations) = (self.artifacts(), self.authorizations());
            // What it has read stays with it; only of what has ended it is known that no key is left.
            let keys_wiped = if ended.is_some() { self.keys_held } else { 0 };
            return Stopped { artifacts, authorizations, killed, keys_wiped };
        }
        let by = match (ended.map(|ended| ended.cause), self.node.kills_by_cgroup()) {
            (None | Some(EndCause::WorkloadExited), _) => KilledBy::AlreadyEnded,
            (Some(_), true) => KilledBy::Cgroup,
            (Some(_), false) => KilledBy::Signal,
        };
        let killed = Killed { intent: self.intent.digest, by, processes: ended.map_or(0, |ended| ended.killed) };
        let (artifacts, authorizations) = (self.artifacts(), self.authorizations());
        Stopped { artifacts, authorizations, killed, keys_wiped: self.keys_held }
    }

    fn artifacts(&self) -> Vec<Sha256Digest> {
        self.accepted.values().map(|accepted| accepted.artifact.digest()).collect()
    }

    /// By which records each domain last authorized it.
    fn authorizations(&self) -> Authorizations {
        let by =
            self.accepted.iter().map(|(domain, accepted)| (domain.clone(), vec![accepted.artifact.receipt().entry]));
        by.collect()
    }
}

async fn until_ended(running: Option<&Running>) -> Ended {
    match running {
        Some(running) => running.ended().await,
        None => pending().await,
    }
}

/// Sleeps towards a time on CLOCK_BOOTTIME. The runtime's timer stands still in a suspended machine, so it never sleeps long.
async fn until_boottime(at_ms: Option<u64>) {
    let wait_ms = at_ms.map_or(LOOK_AGAIN_MS, |at_ms| at_ms.saturating_sub(boottime_ms()).min(LOOK_AGAIN_MS));
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
}

const LOOK_AGAIN_MS: u64 = 1_000;
/// For whoever watches its standing: from hearing that it is over to being killed.
const LAST_WORDS: Duration = Duration::from_millis(10);
/// From the end that a lease is given up at to the one at which its supervisor kills: enough for that, and for a late timer.
const END_EARLY_MS: u64 = 20;
/// As a shell reports a command that was found and could not be run.
const NOT_STARTED_EXIT_CODE: i32 = 126;
/// 128 + SIGTERM.
const TERMINATED_EXIT_CODE: i32 = 143;
