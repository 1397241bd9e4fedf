//! A node: the real lease machine and a supervisor.

use evidence::{digest::Sha256Digest, names::DomainName};
use governance::{
    artifact::{ArtifactId, LEASE_CAP_MS, LeaseTerms},
    halt::HaltReason,
    intent::Domains,
    lease::{Grant, Lease, LeaseAction, LeaseEvent, LeaseState},
    text::Text,
};

use super::{DOMAINS, LEASE_MS, Message, NEEDED, Place, RENEW_AFTER_MS, Rule, STEP_MS, Simulation, Verdict, name};

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) lease: Lease,
    /// Per domain: number of the newest request, and when it was sent while it is open.
    pub(crate) attempts: [(u64, Option<u64>); DOMAINS],
    pub(crate) held: [Option<Verdict>; DOMAINS],
    pub(crate) running: bool,
    pub(crate) deadline_ms: u64,
    pub(crate) halted: Option<(HaltReason, u64)>,
    pub(crate) must_not_run: bool,
    pub(crate) tampered: bool,
    /// Something happened since it was last readmitted for which domains may well refuse it.
    pub(crate) suspect: bool,
    /// How often a workload ended because a partner of the verifier did not stand.
    pub(crate) withdrawn: u64,
    pub(crate) paused_until_ms: u64,
    pub(crate) slept_ms: u64,
    pub(crate) ever_ran: bool,
}

/// How long an answer is waited for.
const ANSWER_WITHIN_MS: u64 = 5_000;
/// After how long an operator takes a halted node back.
const READMITTED_AFTER_MS: u64 = 40_000;

fn domains() -> Domains {
    Domains::Quorum { k: NEEDED, of: (0..DOMAINS).map(name).collect() }
}

pub(crate) fn index(domain: &DomainName) -> usize {
    (0..DOMAINS).find(|index| name(*index) == *domain).expect("a domain of the run")
}

impl Node {
    pub(crate) fn new() -> Self {
        Self {
            lease: Lease::new(domains(), LEASE_CAP_MS),
            attempts: [(0, None); DOMAINS],
            held: [None; DOMAINS],
            running: false,
            deadline_ms: 0,
            halted: None,
            must_not_run: false,
            tampered: false,
            suspect: false,
            withdrawn: 0,
            paused_until_ms: 0,
            slept_ms: 0,
            ever_ran: false,
        }
    }

    /// Whether its machine goes on since this step.
    pub(crate) const fn just_resumed(&self, now_ms: u64) -> bool {
        now_ms < self.paused_until_ms + STEP_MS
    }
}

impl Simulation {
    fn clock_ms(&self, node: usize) -> u64 {
        let slept_ms = if self.rule == Some(Rule::SuspendCounts) { self.nodes[node].slept_ms } else { 0 };
        self.now_ms - slept_ms
    }

    pub(crate) fn feed(&mut self, node: usize, event: LeaseEvent) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let now_ms = self.clock_ms(node);
            let (lease, actions) = self.nodes[node].lease.clone().on(event, now_ms);
            self.nodes[node].lease = lease;
            for action in actions {
                match action {
                    LeaseAction::Ask(domain) => {
                        self.ask(node, index(&domain));
                        if self.rule != Some(Rule::CountedFromTheRequest) {
                            events.push(LeaseEvent::Sent(domain));
                        }
                    }
                    LeaseAction::StartWorkload => (self.nodes[node].running, self.nodes[node].ever_ran) = (true, true),
                    LeaseAction::Deadline(at_ms) => self.nodes[node].deadline_ms = at_ms,
                    LeaseAction::Kill => self.nodes[node].running = false,
                    LeaseAction::WipeKeys => self.nodes[node].held = [None; DOMAINS],
                    LeaseAction::RecordHalt(reason) => {
                        if matches!(reason, HaltReason::RefusedAtRenewal { .. }) && !self.nodes[node].suspect {
                            self.breach(format!("I8: node {node} halts by {reason:?} and did nothing"));
                        }
                        self.nodes[node].suspect = true;
                        self.nodes[node].halted = Some((reason, self.now_ms));
                        self.nodes[node].must_not_run = true;
                        for domain in 0..DOMAINS {
                            self.send(Place::Node(node), Place::Verifier(domain), Message::Halted { node });
                        }
                    }
                    LeaseAction::RecordEnd(_) | LeaseAction::GiveUp => {}
                }
            }
        }
    }

    fn ask(&mut self, node: usize, domain: usize) {
        let n = &mut self.nodes[node];
        let attempt = n.attempts[domain].0 + 1;
        n.attempts[domain] = (attempt, Some(self.now_ms));
        let renews = n.held[domain].map(|verdict| verdict.id);
        let good = !n.tampered;
        self.send(Place::Node(node), Place::Verifier(domain), Message::Ask { node, attempt, renews, good });
    }

    /// One turn of whatever runs on the node.
    pub(crate) fn turn_of_node(&mut self, node: usize, elapsed_ms: u64) {
        let n = &mut self.nodes[node];
        if self.now_ms < n.paused_until_ms {
            n.slept_ms += elapsed_ms;
            return;
        }
        if n.just_resumed(self.now_ms) {
            return; // the workload had the first turn
        }
        if n.running && self.clock_ms(node) >= self.nodes[node].deadline_ms {
            self.nodes[node].running = false;
        }
        let n = &self.nodes[node];
        let halted_at_ms = n.halted.as_ref().map(|(_, at_ms)| *at_ms);
        if halted_at_ms.is_some_and(|at_ms| self.now_ms >= at_ms + READMITTED_AFTER_MS) {
            self.readmit(node);
        }
        let n = &self.nodes[node];
        if *n.lease.state() == LeaseState::Idle && (n.halted.is_none() || self.rule == Some(Rule::HaltsAreKept)) {
            self.feed(node, LeaseEvent::Start);
        }
        for domain in 0..DOMAINS {
            let sent_ms = self.nodes[node].attempts[domain].1;
            if sent_ms.is_some_and(|at_ms| self.now_ms >= at_ms + ANSWER_WITHIN_MS) {
                self.nodes[node].attempts[domain].1 = None;
                self.feed(node, LeaseEvent::Unanswered(name(domain)));
            }
        }
        let wake_ms = self.nodes[node].lease.wake_at_ms();
        if wake_ms.is_some_and(|at_ms| at_ms <= self.clock_ms(node)) {
            self.feed(node, LeaseEvent::Tick);
        }
    }

    /// An operator found out why, mended it, and enough keys of the authority signed.
    fn readmit(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        (n.halted, n.must_not_run, n.tampered, n.suspect) = (None, false, false, false);
        self.verifiers.iter_mut().for_each(|verifier| verifier.database.quarantined[node] = false);
        self.feed(node, LeaseEvent::Readmitted);
    }

    pub(crate) fn restart_node(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let halted = n.halted.clone().filter(|_| self.rule != Some(Rule::HaltsAreKept));
        n.lease = match halted {
            Some((reason, _)) => Lease::halted(domains(), LEASE_CAP_MS, reason),
            None => Lease::new(domains(), LEASE_CAP_MS),
        };
        n.attempts.iter_mut().for_each(|(_, open)| *open = None);
        n.held = [None; DOMAINS];
        n.running = false;
    }

    /// The node of the answer to this request, unless that was given up.
    fn heard(&mut self, node: usize, domain: usize, attempt: u64) -> Option<&mut Node> {
        let n = &mut self.nodes[node];
        if n.attempts[domain].0 != attempt || n.attempts[domain].1.is_none() {
            return None;
        }
        n.attempts[domain].1 = None;
        Some(n)
    }

    /// For whoever asks a first time it is a denial like any other.
    pub(crate) fn withdrawn(&mut self, node: usize, domain: usize, attempt: u64) {
        let Some(n) = self.heard(node, domain, attempt) else { return };
        n.held[domain] = None;
        if !n.lease.live().contains_key(&name(domain)) {
            return self.refused(node, domain, "governance.partner_stale");
        }
        let ran = n.lease.runs();
        self.feed(node, LeaseEvent::Withdrawn(name(domain)));
        self.nodes[node].withdrawn += u64::from(ran && !self.nodes[node].lease.runs());
    }

    fn refused(&mut self, node: usize, domain: usize, code: &str) {
        self.feed(node, LeaseEvent::Refused(name(domain), Text::new(code).expect("text")));
    }

    pub(crate) fn answered(&mut self, node: usize, domain: usize, attempt: u64, verdict: Option<Verdict>) {
        let Some(n) = self.heard(node, domain, attempt) else { return };
        let Some(verdict) = verdict else {
            n.held[domain] = None;
            return self.refused(node, domain, "policy.denied");
        };
        if !self.in_force(verdict) {
            return self.feed(node, LeaseEvent::Unanswered(name(domain)));
        }
        if self.rule == Some(Rule::CountedFromTheRequest) {
            self.feed(node, LeaseEvent::Sent(name(domain)));
        }
        let before = self.nodes[node].lease.live().get(&name(domain)).copied();
        self.feed(node, LeaseEvent::Granted(name(domain), grant(verdict)));
        if self.nodes[node].lease.live().get(&name(domain)).copied() != before {
            self.nodes[node].held[domain] = Some(verdict);
        }
    }

    pub(crate) fn revoked(&mut self, node: usize, domain: usize, id: u64) {
        if self.nodes[node].held[domain].is_some_and(|verdict| verdict.id == id) {
            self.nodes[node].held[domain] = None;
            self.nodes[node].attempts[domain].1 = None;
            let code = Text::new("governance.revoked").expect("text");
            self.feed(node, LeaseEvent::Revoked(name(domain), code));
        }
    }
}

fn grant(verdict: Verdict) -> Grant {
    let id = u8::try_from(verdict.id % 256).expect("small");
    Grant {
        id: ArtifactId([id; 16]),
        artifact: Sha256Digest::of(&verdict.seq.to_be_bytes()),
        epoch: 1,
        terms: LeaseTerms { seq: verdict.seq, duration_ms: LEASE_MS, renew_after_ms: RENEW_AFTER_MS },
    }
}
