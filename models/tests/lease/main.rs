//! Model A: the lease of one execution, its halt and its sequence numbers.
//!
//! A node (perhaps cloned, paused, restarted), the verifiers of one to three domains, the operator, and a relying party.
//! Time is whole units; a lease is three of them and renewed after one, as the service's leases are renewed at a third.

mod clean;
mod domain;
mod node;
mod readmission;
mod relying_party;
mod seeded;
mod world;

use evidence::names::DomainName;
use governance::{
    halt::HaltReason,
    intent::Domains,
    lease::{LeaseEvent, LeaseState, RETRY_AFTER_MS},
};
use stateright::{Model, Property};

use readmission::{Readmissions, THRESHOLD};
use world::{Breach, Database, Domain, Message, Misfortunes, RelyingParty, View, World};

/// One unit of time, in milliseconds.
pub(crate) const UNIT_MS: u64 = RETRY_AFTER_MS;
/// Length of a lease, in units.
pub(crate) const LEASE_UNITS: u8 = 3;
/// How long a relying party goes on without word of a domain, in units.
pub(crate) const STALE_AFTER_UNITS: u8 = 2;

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A lease is counted from the answer, not from the request.
    CountedFromReceipt,
    /// Leases run on a clock that stops in suspend (CLOCK_MONOTONIC).
    ClockStopsInSuspend,
    /// The answer to an earlier request is taken for one to the newest.
    AnswerToAnotherRequest,
    /// An artifact counts for whichever domain was asked.
    IssuerNotCompared,
    /// A verifier that could not judge is taken to have renewed.
    FaultTakenForGrant,
    /// The supervisor is told later deadlines only.
    SupervisorKeepsOldDeadline,
    /// A halt is not on disk.
    HaltForgottenAtRestart,
    /// One signature is enough for a readmission.
    OneSignatureReadmits,
    /// A readmission may be used again.
    ReadmissionReplayed,
    /// What was revoked or ended is renewed.
    RenewalAfterRevocation,
    /// The answer leaves before the decision is committed.
    AnswerBeforeCommit,
    /// The answer leaves before its log entry is witnessed.
    AnswerBeforeWitness,
    /// A decision is committed without looking at the epoch again.
    EpochNotReadAgain,
    /// A database from before the newest witnessed log head is served from.
    OldDatabaseServes,
    /// A relying party does not compare the window with its clock.
    WindowIgnored,
    /// A relying party takes one seq from two holders.
    EqualSeqOfAnother,
    /// A relying party forgets the highest seq it has seen.
    HighWaterForgotten,
    /// A relying party goes on without word of the domain.
    StaleViewServes,
}

/// One size of the model.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) domains: usize,
    pub(crate) needed: u8,
    /// Last unit of time that is looked at.
    pub(crate) horizon: u8,
    /// Requests to one domain from one copy.
    pub(crate) attempts: u8,
    /// Judgement, commit, witness and answer are steps of their own.
    pub(crate) stepwise: bool,
    pub(crate) misfortunes: Misfortunes,
    /// Error of each verifier's clock, in units.
    pub(crate) verifier_skew: Vec<i32>,
    /// Error of the relying party's clock, in units.
    pub(crate) relying_party_skew: i32,
    /// Whether anybody relies on the artifacts, and whether they hear of the domains.
    pub(crate) effects: bool,
    pub(crate) views: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct LeaseModel {
    pub(crate) config: Config,
    pub(crate) bug: Option<Bug>,
    pub(crate) names: Vec<DomainName>,
    pub(crate) domains: Domains,
    pub(crate) readmissions: Readmissions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Elapse,
    Start(usize),
    Tick(usize),
    Deliver(Message),
    DeliverAndKeep(Message),
    GiveUpWaiting(usize, usize),
    Proceed(usize),
    Effect(usize, usize),
    Refresh(usize),
    Tamper,
    Trip(usize),
    OrderHalt(usize),
    Pause(usize),
    Resume(usize),
    Clone,
    RestartNode(usize),
    RestartVerifier(usize),
    BackUp(usize),
    Restore(usize),
    RestartRelyingParty,
    Revoke(usize),
    Publish(usize),
    Readmit(usize, u8),
}

impl LeaseModel {
    pub(crate) fn new(config: Config, bug: Option<Bug>) -> Self {
        let names: Vec<_> =
            ["a", "b", "c"][..config.domains].iter().map(|name| DomainName::new(*name).expect("name")).collect();
        let domains = Domains::Quorum { k: config.needed, of: names.iter().cloned().collect() };
        Self { config, bug, names, domains, readmissions: Readmissions::judged() }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn actions_of(&self, world: &World, copy: usize, out: &mut Vec<Action>) {
        let c = &world.copies[copy];
        let left = &world.left;
        if c.paused {
            out.push(Action::Resume(copy));
            return;
        }
        if c.lease.state() == &LeaseState::Idle && c.attempts.iter().all(|(number, _)| *number < self.config.attempts) {
            out.push(Action::Start(copy));
        }
        let now_ms = self.clock_ms(world, copy);
        let due = c.lease.wake_at_ms().is_some_and(|at_ms| at_ms <= now_ms);
        let may_ask = c.attempts.iter().all(|(number, _)| *number < self.config.attempts);
        if due && (may_ask || self.over(world, copy)) {
            out.push(Action::Tick(copy));
        }
        for domain in 0..self.config.domains {
            if c.attempts[domain].1 {
                out.push(Action::GiveUpWaiting(copy, domain));
            }
            if self.config.effects && c.running && c.held[domain].is_some() {
                out.push(Action::Effect(copy, domain));
            }
        }
        if left.pauses > 0 && c.running {
            out.push(Action::Pause(copy));
        }
        if left.node_restarts > 0 && c.lease.state() != &LeaseState::Idle {
            out.push(Action::RestartNode(copy));
        }
        if world.tampered && c.lease.runs() {
            out.push(Action::Trip(copy));
        }
        if left.operator_halts > 0 && c.lease.runs() {
            out.push(Action::OrderHalt(copy));
        }
    }

    fn over(&self, world: &World, copy: usize) -> bool {
        world.copies[copy].lease.ends_at_ms().is_none_or(|at_ms| at_ms <= self.clock_ms(world, copy))
    }

    fn actions_of_domain(&self, world: &World, domain: usize, out: &mut Vec<Action>) {
        let (d, left) = (&world.domains[domain], &world.left);
        if d.down {
            return;
        }
        if d.decision.is_some() {
            out.push(Action::Proceed(domain));
            if left.verifier_restarts > 0 {
                out.push(Action::RestartVerifier(domain));
            }
        }
        if self.config.effects && self.config.views && world.relying_party.views[domain].at != Some(world.now) {
            out.push(Action::Refresh(domain));
        }
        if left.restores > 0 && d.backup.is_none() && !d.database.rows.is_empty() {
            out.push(Action::BackUp(domain));
        }
        if d.backup.is_some() {
            out.push(Action::Restore(domain));
        }
        if left.revocations > 0 && d.database.rows.last().is_some_and(|row| !row.ended) {
            out.push(Action::Revoke(domain));
        }
        if left.publications > 0 {
            out.push(Action::Publish(domain));
        }
    }

    fn deliver(&self, world: &mut World, message: Message) {
        match message {
            Message::Ask { .. } => self.judge(world, message),
            Message::Granted { copy, attempt, verdict, head } => self.granted(world, copy, attempt, verdict, head),
            Message::Refused { domain, copy, attempt } => {
                if world.copies[copy].attempts[domain] == (attempt, true) {
                    self.withdrawn(world, copy, domain, false);
                }
            }
            Message::Revoked { domain, copy, id } => {
                if world.copies[copy].held[domain].is_some_and(|verdict| verdict.id == id) {
                    self.withdrawn(world, copy, domain, true);
                }
            }
            Message::Halted { domain } => self.halt_reported(world, domain),
            Message::Readmitted { copy, statement } => self.readmitted(world, copy, statement),
        }
    }

    fn misfortune(&self, world: &mut World, action: Action) {
        let left = &mut world.left;
        match action {
            Action::Tamper => {
                left.tampers -= 1;
                world.tampered = true;
            }
            Action::OrderHalt(copy) => {
                left.operator_halts -= 1;
                let reason = governance::text::Text::new("stop").expect("text");
                self.feed(world, copy, LeaseEvent::Trip(HaltReason::Operator { reason }));
            }
            Action::Pause(copy) => {
                left.pauses -= 1;
                world.copies[copy].paused = true;
            }
            Action::Resume(copy) => {
                world.copies[copy].paused = false;
                world.copies[copy].just_resumed = true;
            }
            Action::Clone => {
                left.clones -= 1;
                let mut copy = world.copies[0].clone();
                copy.paused = false;
                world.copies.push(copy);
            }
            Action::RestartNode(copy) => {
                left.node_restarts -= 1;
                self.restart_node(world, copy);
            }
            Action::RestartVerifier(domain) => {
                left.verifier_restarts -= 1;
                self.restart_verifier(world, domain);
            }
            Action::BackUp(domain) => {
                left.restores -= 1;
                let d = &mut world.domains[domain];
                d.backup = Some(Box::new(d.database.clone()));
            }
            Action::RestartRelyingParty => {
                left.relying_party_restarts -= 1;
                self.restart_relying_party(world);
            }
            Action::Revoke(domain) => {
                left.revocations -= 1;
                self.revoke(world, domain);
            }
            Action::Publish(domain) => {
                left.publications -= 1;
                world.domains[domain].database.epoch += 1;
            }
            Action::Readmit(copy, signers) => {
                left.readmissions -= 1;
                self.readmit(world, copy, signers);
            }
            other => unreachable!("{other:?} is no misfortune"),
        }
    }

    /// I1: whoever has a usable key has unexpired verdicts of enough different domains.
    fn key_has_verdicts(&self, world: &World) -> bool {
        world.copies.iter().filter(|c| c.running && !c.paused && !c.just_resumed).all(|c| {
            let unexpired = c.held.iter().flatten().filter(|verdict| world.now < verdict.issued + LEASE_UNITS);
            let domains: std::collections::BTreeSet<_> = unexpired.map(|verdict| &self.names[verdict.domain]).collect();
            self.domains.met_by(domains).is_ok()
        })
    }
}

impl Model for LeaseModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let domain = Domain {
            database: Database { epoch: 1, sequence_min: 1, ..Database::default() },
            backup: None,
            witnessed: 0,
            decision: None,
            down: false,
            denied: Default::default(),
            committed: Default::default(),
            answered: Default::default(),
        };
        let n = self.config.domains;
        let relying_party = RelyingParty { views: vec![View::default(); n], ..RelyingParty::default() };
        vec![World {
            now: 0,
            copies: vec![self.new_copy()],
            domains: vec![domain; n],
            relying_party,
            network: Default::default(),
            tampered: false,
            left: self.config.misfortunes,
            breaches: Default::default(),
        }]
    }

    fn actions(&self, world: &World, out: &mut Vec<Action>) {
        let left = &world.left;
        if world.now < self.config.horizon {
            out.push(Action::Elapse);
        }
        (0..world.copies.len()).for_each(|copy| self.actions_of(world, copy, out));
        (0..self.config.domains).for_each(|domain| self.actions_of_domain(world, domain, out));
        for message in &world.network {
            out.push(Action::Deliver(*message));
            if left.duplicates > 0 {
                out.push(Action::DeliverAndKeep(*message));
            }
        }
        if left.tampers > 0 && world.copies.iter().any(|c| c.running) {
            out.push(Action::Tamper);
        }
        if left.clones > 0 && world.copies[0].running && !world.copies[0].paused {
            out.push(Action::Clone);
        }
        if left.relying_party_restarts > 0 && !world.relying_party.seen.is_empty() {
            out.push(Action::RestartRelyingParty);
        }
        for copy in (0..world.copies.len()).filter(|copy| left.readmissions > 0 && world.copies[*copy].must_not_run) {
            out.extend((1..=THRESHOLD).map(|signers| Action::Readmit(copy, signers)));
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Elapse => self.elapse(&mut world),
            Action::Start(copy) => self.feed(&mut world, copy, LeaseEvent::Start),
            Action::Tick(copy) => self.feed(&mut world, copy, LeaseEvent::Tick),
            Action::Trip(copy) => self.feed(&mut world, copy, LeaseEvent::Trip(HaltReason::PcrChanged { pcr: 4 })),
            Action::Deliver(message) => {
                world.network.remove(&message);
                if let Message::Granted { copy, .. }
                | Message::Refused { copy, .. }
                | Message::Revoked { copy, .. }
                | Message::Readmitted { copy, .. } = message
                    && world.copies[copy].paused
                {
                    return None;
                }
                self.deliver(&mut world, message);
            }
            Action::DeliverAndKeep(message) => {
                let without = self.next_state(before, Action::Deliver(message))?;
                world = without;
                world.network.insert(message);
                world.left.duplicates -= 1;
            }
            Action::GiveUpWaiting(copy, domain) => self.unanswered(&mut world, copy, domain),
            Action::Proceed(domain) => self.proceed(&mut world, domain),
            Action::Effect(copy, slot) => self.effect(&mut world, copy, slot),
            Action::Refresh(domain) => self.refresh(&mut world, domain),
            Action::Restore(domain) => self.restore(&mut world, domain),
            misfortune => self.misfortune(&mut world, misfortune),
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn never<const B: u8>(_: &LeaseModel, world: &World) -> bool {
            !world.breaches.iter().any(|breach| *breach as u8 == B)
        }
        let mut properties = vec![
            Property::always(I1_VERDICTS, |model: &Self, world: &World| model.key_has_verdicts(world)),
            Property::always(I1_EPOCH, never::<{ Breach::VerdictOfAnotherEpoch as u8 }>),
            Property::always(I2, never::<{ Breach::EffectAfterDenial as u8 }>),
            Property::always(I1_LEASE, never::<{ Breach::EffectAfterLease as u8 }>),
            Property::always(I3, never::<{ Breach::AnswerBeforeRecord as u8 }>),
            Property::always(I4, never::<{ Breach::SequenceWentBack as u8 }>),
            Property::always(HOLDERS, never::<{ Breach::TwoHolders as u8 }>),
            Property::always(I6, |_: &Self, world: &World| {
                !world.copies.iter().any(|c| c.must_not_run && (c.running || c.lease.runs()))
            }),
            Property::always(I7, never::<{ Breach::UnknownAccepted as u8 }>),
        ];
        if self.bug.is_none() {
            properties.extend(self.possible());
        }
        properties
    }
}

impl LeaseModel {
    /// What must be possible, so that nothing above holds only because nothing happens.
    fn possible(&self) -> Vec<Property<Self>> {
        let renewed = |_: &Self, world: &World| {
            world.copies.iter().any(|c| c.running && c.held.iter().flatten().any(|verdict| verdict.seq > 1))
        };
        let mut possible = vec![
            Property::sometimes("runs", |_, world: &World| world.copies.iter().any(|c| c.running)),
            Property::sometimes("renews", renewed),
            Property::sometimes("halts", |_, world: &World| world.copies.iter().any(|c| c.halted.is_some())),
        ];
        let misfortunes = self.config.misfortunes;
        if self.config.effects {
            possible.push(Property::sometimes("effects are let through", |_, world: &World| {
                !world.relying_party.accepted.is_empty()
            }));
            if misfortunes.clones > 0 {
                possible.push(Property::sometimes("a second holder raises the alarm", |_, world: &World| {
                    world.relying_party.alarm
                }));
            }
        }
        if misfortunes.readmissions > 0 {
            possible.push(Property::sometimes("runs again once readmitted", |_, world: &World| {
                world.copies.iter().any(|c| c.running && c.sequence_min > 1)
            }));
        }
        if misfortunes.restores > 0 {
            possible.push(Property::sometimes("an old database is refused", |_, world: &World| {
                world.domains.iter().any(|d| d.down)
            }));
        }
        possible
    }
}

pub(crate) const I1_VERDICTS: &str = "I1: a usable key has unexpired verdicts of enough domains";
pub(crate) const I1_EPOCH: &str = "I1: a verdict is recorded under the epoch in force";
pub(crate) const I1_LEASE: &str = "I1: no effect after lease and clock error";
pub(crate) const I2: &str = "I2: no effect after denial, lease and clock error";
pub(crate) const I3: &str = "I3: no answer before its record is witnessed";
pub(crate) const I4: &str = "I4: sequences never go back";
pub(crate) const I6: &str = "I6: a halt absorbs all but a readmission by the threshold";
pub(crate) const I7: &str = "I7: unknown is denied";
pub(crate) const HOLDERS: &str = "one seq is never let through for two holders";
