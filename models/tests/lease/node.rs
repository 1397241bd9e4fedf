//! A node: the real lease machine, and the least that the shell around it does (`attestd/src/node/execution.rs`).

use evidence::names::DomainName;
use governance::{
    artifact::{ArtifactId, LeaseTerms},
    halt::HaltReason,
    lease::{Grant, Lease, LeaseAction, LeaseEvent, RETRY_AFTER_MS},
    text::Text,
};

use super::{
    Bug, LEASE_UNITS, LeaseModel, UNIT_MS,
    world::{Copy, Message, ReadmissionStatement, Verdict, World},
};

impl LeaseModel {
    pub(crate) fn new_copy(&self) -> Copy {
        let n = self.names.len();
        Copy {
            lease: self.new_lease(None),
            attempts: vec![(0, false); n],
            held: vec![None; n],
            epochs: vec![1; n],
            heads: vec![0; n],
            halted: None,
            halts: 0,
            sequence_min: 1,
            running: false,
            deadline_ms: 0,
            paused: false,
            just_resumed: false,
            slept: 0,
            must_not_run: false,
        }
    }

    fn new_lease(&self, halted: Option<HaltReason>) -> Lease {
        let (domains, cap_ms) = (self.domains.clone(), governance::artifact::LEASE_CAP_MS);
        match halted {
            Some(reason) => Lease::halted(domains, cap_ms, reason),
            None => Lease::new(domains, cap_ms),
        }
    }

    /// CLOCK_BOOTTIME of a copy: it goes on while the machine stands still.
    pub(crate) fn clock_ms(&self, world: &World, copy: usize) -> u64 {
        let slept = if self.has(Bug::ClockStopsInSuspend) { world.copies[copy].slept } else { 0 };
        u64::from(world.now - slept) * UNIT_MS
    }

    /// Gives the machine an event and does what it answers.
    pub(crate) fn feed(&self, world: &mut World, copy: usize, event: LeaseEvent) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now_ms = self.clock_ms(world, copy);
            let (lease, actions) = world.copies[copy].lease.clone().on(event, now_ms);
            world.copies[copy].lease = lease;
            for action in actions {
                if let LeaseAction::Ask(domain) = action {
                    self.ask(world, copy, self.index(&domain));
                    if !self.has(Bug::CountedFromReceipt) {
                        events.push(LeaseEvent::Sent(domain));
                    }
                } else {
                    self.perform(world, copy, action);
                }
            }
        }
    }

    fn ask(&self, world: &mut World, copy: usize, domain: usize) {
        let good = !world.tampered;
        let c = &mut world.copies[copy];
        let attempt = c.attempts[domain].0 + 1;
        c.attempts[domain] = (attempt, true);
        let renews = c.held[domain].map(|verdict| verdict.id);
        let head = c.heads[domain];
        world.network.insert(Message::Ask { domain, copy, attempt, head, renews, good });
    }

    fn perform(&self, world: &mut World, copy: usize, action: LeaseAction) {
        let n = self.names.len();
        let c = &mut world.copies[copy];
        match action {
            LeaseAction::Ask(_) => unreachable!("done by the caller"),
            LeaseAction::StartWorkload => c.running = true,
            LeaseAction::Deadline(at_ms) => {
                let only_later = self.has(Bug::SupervisorKeepsOldDeadline);
                c.deadline_ms = if only_later { c.deadline_ms.max(at_ms) } else { at_ms };
            }
            LeaseAction::Kill => c.running = false,
            LeaseAction::WipeKeys => {
                c.held = vec![None; n];
                c.deadline_ms = 0;
            }
            LeaseAction::RecordHalt(reason) => {
                c.halted = Some(reason);
                c.halts += 1;
                c.must_not_run = true;
                world.network.extend((0..n).map(|domain| Message::Halted { domain }));
            }
            LeaseAction::RecordEnd(_) | LeaseAction::GiveUp => {}
        }
    }

    /// What `Artifact::verify_offline` and the link hold an answer to, then the machine.
    pub(crate) fn granted(&self, world: &mut World, copy: usize, attempt: u8, verdict: Verdict, head: u8) {
        let issuer = verdict.domain;
        let slots: Vec<usize> = if self.has(Bug::IssuerNotCompared) {
            // Whichever domain it was asked of, the next that waits takes it too.
            (0..self.names.len()).filter(|slot| world.copies[copy].attempts[*slot].1).collect()
        } else {
            vec![issuer]
        };
        for slot in slots {
            let c = &mut world.copies[copy];
            let open = c.attempts[slot] == (attempt, true)
                || (c.attempts[slot].1 && (self.has(Bug::AnswerToAnotherRequest) || self.has(Bug::IssuerNotCompared)));
            let skew = self.config.verifier_skew[issuer];
            let issued = i32::from(verdict.issued) + skew;
            let in_force = (issued - 1..issued + i32::from(LEASE_UNITS)).contains(&i32::from(world.now));
            if !open {
                continue;
            }
            c.attempts[slot].1 = false;
            if !in_force || verdict.epoch < c.epochs[issuer] {
                self.feed(world, copy, LeaseEvent::Unanswered(self.names[slot].clone()));
                continue;
            }
            c.epochs[issuer] = verdict.epoch;
            c.heads[issuer] = head;
            let before = c.lease.live().get(&self.names[slot]).copied();
            if self.has(Bug::CountedFromReceipt) {
                self.feed(world, copy, LeaseEvent::Sent(self.names[slot].clone()));
            }
            self.feed(world, copy, LeaseEvent::Granted(self.names[slot].clone(), grant(verdict)));
            let c = &mut world.copies[copy];
            if c.lease.live().get(&self.names[slot]).copied() != before {
                c.held[slot] = Some(verdict);
            }
        }
    }

    /// Nobody answered in time, or the answer was a fault.
    pub(crate) fn unanswered(&self, world: &mut World, copy: usize, domain: usize) {
        world.copies[copy].attempts[domain].1 = false;
        let name = self.names[domain].clone();
        if self.has(Bug::FaultTakenForGrant)
            && let Some(mut verdict) = world.copies[copy].held[domain]
        {
            verdict.seq += 1;
            return self.feed(world, copy, LeaseEvent::Granted(name, grant(verdict)));
        }
        self.feed(world, copy, LeaseEvent::Unanswered(name));
    }

    /// A domain takes back what it granted.
    pub(crate) fn withdrawn(&self, world: &mut World, copy: usize, domain: usize, pushed: bool) {
        let code = Text::new("governance.revoked").expect("text");
        let name = self.names[domain].clone();
        world.copies[copy].attempts[domain].1 = false;
        world.copies[copy].held[domain] = None;
        let event = if pushed { LeaseEvent::Revoked(name, code) } else { LeaseEvent::Refused(name, code) };
        self.feed(world, copy, event);
    }

    /// The daemon dies and is started again; its supervisor ends what ran.
    pub(crate) fn restart_node(&self, world: &mut World, copy: usize) {
        let n = self.names.len();
        let c = &mut world.copies[copy];
        let halted = if self.has(Bug::HaltForgottenAtRestart) { None } else { c.halted.clone() };
        c.lease = self.new_lease(halted);
        c.attempts.iter_mut().for_each(|(_, open)| *open = false);
        c.held = vec![None; n];
        c.running = false;
        c.deadline_ms = 0;
    }

    pub(crate) fn readmitted(&self, world: &mut World, copy: usize, statement: ReadmissionStatement) {
        let c = &mut world.copies[copy];
        let answered = statement.answers == (copy, c.halts);
        let authentic = answered && self.readmissions.admits(statement, c.sequence_min, None);
        let admitted = self.readmissions.admits(statement, c.sequence_min, self.bug);
        if c.halted.is_none() || !admitted || !(answered || self.has(Bug::ReadmissionReplayed)) {
            return;
        }
        c.sequence_min = statement.sequence + 1;
        c.halted = None;
        if authentic {
            c.must_not_run = false;
        }
        self.feed(world, copy, LeaseEvent::Readmitted);
    }

    /// Time passes: who is awake is killed by its supervisor when the deadline it was told has come.
    pub(crate) fn elapse(&self, world: &mut World) {
        world.now += 1;
        for copy in 0..world.copies.len() {
            let c = &mut world.copies[copy];
            c.just_resumed = false;
            if c.paused {
                c.slept += 1;
                continue;
            }
            if world.copies[copy].running && self.clock_ms(world, copy) >= world.copies[copy].deadline_ms {
                world.copies[copy].running = false;
            }
        }
    }

    fn index(&self, domain: &DomainName) -> usize {
        self.names.iter().position(|name| name == domain).expect("a domain of the model")
    }
}

fn grant(verdict: Verdict) -> Grant {
    let duration_ms = u64::from(LEASE_UNITS) * UNIT_MS;
    Grant {
        id: ArtifactId([verdict.id; 16]),
        artifact: evidence::digest::Sha256Digest([verdict.seq; 32]),
        epoch: u64::from(verdict.epoch),
        terms: LeaseTerms { seq: u64::from(verdict.seq), duration_ms, renew_after_ms: RETRY_AFTER_MS },
    }
}
