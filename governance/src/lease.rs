//! The lease of one execution, as a pure state machine: `Idle → Attesting → Held → Renewing → Halted`.
//!
//! Time is milliseconds since boot, suspend included (CLOCK_BOOTTIME). A lease is counted from the moment its request was
//! sent, so that no delay on the way lengthens it, and the node's own cap can only shorten it. The execution is held
//! while enough domains' leases live; it ends at the instant fewer do, whether or not anybody says so. `Halted` absorbs
//! everything but a readmission.

use std::collections::BTreeMap;

use evidence::{digest::Sha256Digest, names::DomainName};

use crate::{
    artifact::{ArtifactId, LeaseTerms, VerifiedArtifact},
    halt::{HaltReason, Trigger},
    intent::Domains,
    text::Text,
};

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;

/// How long to wait after a renewal went unanswered, in milliseconds.
pub const RETRY_AFTER_MS: u64 = 1_000;
/// How long to wait before a domain whose lease is over, or that never granted, is asked anew beside those that suffice, in
/// milliseconds.
pub const ANEW_AFTER_MS: u64 = 5_000;
/// How a workload ends that too few domains authorize any more, none of them for its node's fault: 128 + SIGKILL.
pub const WITHDRAWN_EXIT_CODE: i32 = 137;

/// Where the machine is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseState {
    /// Nothing runs, nothing was asked.
    Idle,
    /// Domains were asked; not enough have answered.
    Attesting,
    /// Enough leases live; the workload runs.
    Held,
    /// As held, and at least one renewal is under way.
    Renewing,
    /// Ended by the mesh or by what the node saw; needs readmission.
    Halted {
        /// Why.
        reason: HaltReason,
    },
}

/// One domain's authorization in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Artifact id.
    pub id: ArtifactId,
    /// Digest of the artifact.
    pub artifact: Sha256Digest,
    /// Epoch it was issued in.
    pub epoch: u64,
    /// Its terms.
    pub terms: LeaseTerms,
}

impl From<&VerifiedArtifact> for Grant {
    fn from(artifact: &VerifiedArtifact) -> Self {
        let terms = artifact.terms();
        Self { id: terms.id, artifact: artifact.digest(), epoch: terms.governance.epoch, terms: terms.lease }
    }
}

/// A grant on this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    /// What was granted.
    pub grant: Grant,
    /// When to renew, milliseconds since boot.
    pub renew_at_ms: u64,
    /// When it is over, milliseconds since boot.
    pub ends_at_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// An execution is wanted.
    Start,
    /// The request that [`LeaseAction::Ask`] wanted left the node now.
    Sent(DomainName),
    /// A domain's artifact was verified.
    Granted(DomainName, Grant),
    /// A domain judged and said no.
    Refused(DomainName, Text),
    /// A domain no longer authorizes, for a reason that is not this node's: another domain does not stand with it.
    Withdrawn(DomainName),
    /// A domain could not judge, or did not answer.
    Unanswered(DomainName),
    /// A domain pushed a revocation or a halt.
    Revoked(DomainName, Text),
    /// The node saw something that ends everything at once.
    Trip(HaltReason),
    /// The node saw something that only a verifier can judge: ask at once, with evidence collected from now on.
    AttestNow(Trigger),
    /// Time passed.
    Tick,
    /// The workload ended by itself.
    WorkloadEnded(i32),
    /// The authority took the node back.
    Readmitted,
}

/// What to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAction {
    /// Ask this domain, with fresh evidence: for a renewal while its lease lives, else for a first artifact.
    Ask(DomainName),
    /// Start the workload.
    StartWorkload,
    /// Tell whoever supervises the workload when it must be dead, milliseconds since boot.
    Deadline(u64),
    /// Kill everything that runs under this lease.
    Kill,
    /// Wipe its execution keys.
    WipeKeys,
    /// Store, sign and send a halt record.
    RecordHalt(HaltReason),
    /// Sign and send an end record.
    RecordEnd(i32),
    /// The execution was never started.
    GiveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Request {
    /// Wanted, not yet sent.
    Wanted,
    /// Sent at this time.
    Sent(u64),
    /// Not before this time.
    NotBefore(u64),
    /// Not in this execution: it judged and said no.
    Over,
}

/// A domain has yet to judge what the node saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Unjudged {
    trigger: Trigger,
    /// The request under way may carry evidence from before: another one must follow its answer.
    after_answer: bool,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    domains: Domains,
    cap_ms: u64,
    state: LeaseState,
    live: BTreeMap<DomainName, Live>,
    requests: BTreeMap<DomainName, Request>,
    unjudged: BTreeMap<DomainName, Unjudged>,
    /// Newest grant of each domain in this execution; it stays when its lease ends, so that no older one follows it.
    granted: BTreeMap<DomainName, Grant>,
    newest_ms: u64,
}

impl Lease {
    /// A machine for an execution that these domains must authorize; no lease is longer than `cap_ms`.
    #[must_use]
    pub fn new(domains: Domains, cap_ms: u64) -> Self {
        let (live, requests, unjudged, granted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { domains, cap_ms, state: LeaseState::Idle, live, requests, unjudged, granted, newest_ms: 0 }
    }

    /// A machine that starts halted, as after a restart with a durable halt.
    #[must_use]
    pub fn halted(domains: Domains, cap_ms: u64, reason: HaltReason) -> Self {
        Self { state: LeaseState::Halted { reason }, ..Self::new(domains, cap_ms) }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> &LeaseState {
        &self.state
    }

    /// Whether the workload may be running.
    #[must_use]
    pub const fn runs(&self) -> bool {
        matches!(self.state, LeaseState::Held | LeaseState::Renewing)
    }

    /// Live grants, by domain.
    #[must_use]
    pub const fn live(&self) -> &BTreeMap<DomainName, Live> {
        &self.live
    }

    /// When fewer than the needed leases will live, milliseconds since boot; none while already fewer do.
    #[must_use]
    pub fn ends_at_ms(&self) -> Option<u64> {
        let mut ends: Vec<u64> = self.live.values().map(|live| live.ends_at_ms).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(self.domains.needed().checked_sub(1)?).copied()
    }

    /// When to send the next [`LeaseEvent::Tick`] at the latest, milliseconds since boot.
    #[must_use]
    pub fn wake_at_ms(&self) -> Option<u64> {
        if !self.runs() {
            return self.live.values().map(|live| live.ends_at_ms).min();
        }
        self.domains.named().iter().filter_map(|domain| self.due_at_ms(domain)).chain(self.ends_at_ms()).min()
    }

    /// When to ask a domain next while the workload runs, milliseconds since boot; none while it is being asked.
    fn due_at_ms(&self, domain: &DomainName) -> Option<u64> {
        match (self.requests.get(domain), self.live.get(domain)) {
            (None, Some(live)) => Some(live.renew_at_ms),
            // Its lease ended, or its first answer came too late: the others suffice, and it may come back to them.
            (None, None) => Some(self.newest_ms),
            (Some(Request::NotBefore(at_ms)), _) => Some(*at_ms),
            (Some(Request::Wanted | Request::Sent(_) | Request::Over), _) => None,
        }
    }

    /// The one transition function. `now_ms` is milliseconds since boot; one that goes back is read as no time passed.
    #[must_use]
    pub fn on(mut self, event: LeaseEvent, now_ms: u64) -> (Self, Vec<LeaseAction>) {
        self.newest_ms = self.newest_ms.max(now_ms);
        let now_ms = self.newest_ms;
        if matches!(self.state, LeaseState::Halted { .. }) {
            if event == LeaseEvent::Readmitted {
                self.clear(LeaseState::Idle);
            }
            return (self, Vec::new());
        }
        // A lease that ended before this event was noticed has ended all the same.
        self.live.retain(|_, live| now_ms < live.ends_at_ms);
        if self.runs() && self.live.len() < self.domains.needed() {
            return self.halt(HaltReason::LeaseEnded);
        }
        match event {
            LeaseEvent::Start => self.start(),
            LeaseEvent::Sent(domain) => {
                if self.requests.get(&domain) == Some(&Request::Wanted) {
                    self.requests.insert(domain, Request::Sent(now_ms));
                }
                (self, Vec::new())
            }
            LeaseEvent::Granted(domain, grant) => self.granted(domain, grant, now_ms),
            LeaseEvent::Refused(domain, code) => {
                let trigger = self.unjudged.get(&domain).filter(|unjudged| !unjudged.after_answer);
                let trigger = trigger.map_or(Trigger::Scheduled, |unjudged| unjudged.trigger);
                let reason = HaltReason::RefusedAtRenewal { domain: domain.clone(), code, trigger };
                self.lost(&domain, reason)
            }
            LeaseEvent::Withdrawn(domain) => self.withdrawn(domain, now_ms),
            LeaseEvent::Revoked(domain, code) => {
                let reason = HaltReason::Revoked { domain: domain.clone(), code };
                self.lost(&domain, reason)
            }
            LeaseEvent::Unanswered(domain) => self.unanswered(domain, now_ms),
            LeaseEvent::Trip(reason) => self.halt(reason),
            LeaseEvent::AttestNow(trigger) => self.attest_now(trigger, now_ms),
            LeaseEvent::Tick => self.tick(now_ms),
            LeaseEvent::WorkloadEnded(exit_code) => self.ended(exit_code),
            LeaseEvent::Readmitted => (self, Vec::new()),
        }
    }

    fn start(mut self) -> (Self, Vec<LeaseAction>) {
        if self.state != LeaseState::Idle {
            return (self, Vec::new());
        }
        self.clear(LeaseState::Attesting);
        let named = self.domains.named().clone();
        self.requests = named.iter().map(|domain| (domain.clone(), Request::Wanted)).collect();
        (self, named.into_iter().map(LeaseAction::Ask).collect())
    }

    fn granted(mut self, domain: DomainName, grant: Grant, now_ms: u64) -> (Self, Vec<LeaseAction>) {
        let Some(Request::Sent(sent_ms)) = self.requests.get(&domain).copied() else {
            // An answer to nothing: it starts no clock that we could count from.
            return (self, Vec::new());
        };
        let live = self.live.contains_key(&domain);
        let stale = self.granted.get(&domain).is_some_and(|newest| {
            // Another artifact is a first one, of a domain whose lease is over.
            let follows =
                if newest.id == grant.id { newest.terms.seq < grant.terms.seq } else { !live && grant.terms.seq == 1 };
            !follows || newest.epoch > grant.epoch
        });
        let duration_ms = grant.terms.duration_ms.min(self.cap_ms);
        let ends_at_ms = sent_ms.saturating_add(duration_ms);
        if stale || ends_at_ms <= now_ms {
            return self.unanswered(domain, now_ms);
        }
        let renew_after_ms = grant.terms.renew_after_ms.min(duration_ms / 3);
        let mut renew_at_ms = sent_ms.saturating_add(renew_after_ms);
        match self.unjudged.get_mut(&domain) {
            // It may have answered evidence from before what was seen since.
            Some(unjudged) if unjudged.after_answer => {
                unjudged.after_answer = false;
                renew_at_ms = now_ms;
            }
            Some(_) | None => drop(self.unjudged.remove(&domain)),
        }
        self.requests.remove(&domain);
        self.granted.insert(domain.clone(), grant);
        self.live.insert(domain, Live { grant, renew_at_ms, ends_at_ms });
        let mut actions = Vec::new();
        if self.state == LeaseState::Attesting {
            if self.live.len() < self.domains.needed() {
                return (self, actions);
            }
            actions.push(LeaseAction::StartWorkload);
        }
        // The deadline goes first: nothing is ever started without one.
        actions.splice(0..0, self.ends_at_ms().map(LeaseAction::Deadline));
        self.settle();
        (self, actions)
    }

    /// Whatever is under way is followed by another request, everything else is due now.
    fn attest_now(mut self, trigger: Trigger, now_ms: u64) -> (Self, Vec<LeaseAction>) {
        for (domain, request) in &self.requests {
            let after_answer = matches!(request, Request::Wanted | Request::Sent(_));
            if after_answer || self.live.contains_key(domain) {
                self.unjudged.insert(domain.clone(), Unjudged { trigger, after_answer });
            }
        }
        let live = &self.live;
        // Whoever holds no lease of this execution is asked anew in its own time.
        self.requests.retain(|domain, request| !matches!(request, Request::NotBefore(_)) || !live.contains_key(domain));
        for (domain, live) in &mut self.live {
            if !self.requests.contains_key(domain) {
                live.renew_at_ms = live.renew_at_ms.min(now_ms);
                self.unjudged.insert(domain.clone(), Unjudged { trigger, after_answer: false });
            }
        }
        if self.runs() { self.tick(now_ms) } else { (self, Vec::new()) }
    }

    /// A domain no longer authorizes: not in this execution.
    fn lost(mut self, domain: &DomainName, reason: HaltReason) -> (Self, Vec<LeaseAction>) {
        self.unjudged.remove(domain);
        self.live.remove(domain);
        match self.state {
            LeaseState::Idle | LeaseState::Halted { .. } => return (self, Vec::new()),
            LeaseState::Attesting | LeaseState::Held | LeaseState::Renewing => {}
        }
        self.requests.insert(domain.clone(), Request::Over);
        match self.state {
            LeaseState::Attesting => self.give_up_if_hopeless(),
            LeaseState::Held | LeaseState::Renewing if self.live.len() >= self.domains.needed() => self.go_on(),
            LeaseState::Held | LeaseState::Renewing | LeaseState::Idle | LeaseState::Halted { .. } => self.halt(reason),
        }
    }

    /// A domain no longer authorizes, and may again: what needs it ends, and the node may start something else.
    fn withdrawn(mut self, domain: DomainName, now_ms: u64) -> (Self, Vec<LeaseAction>) {
        self.unjudged.remove(&domain);
        self.live.remove(&domain);
        if !self.runs() {
            return self.unanswered(domain, now_ms);
        }
        if self.live.len() < self.domains.needed() {
            self.clear(LeaseState::Idle);
            let end = LeaseAction::RecordEnd(WITHDRAWN_EXIT_CODE);
            return (self, vec![LeaseAction::Kill, LeaseAction::WipeKeys, end]);
        }
        self.requests.insert(domain, Request::NotBefore(now_ms.saturating_add(ANEW_AFTER_MS)));
        self.go_on()
    }

    /// The leases that are left suffice.
    fn go_on(mut self) -> (Self, Vec<LeaseAction>) {
        self.settle();
        let deadline = self.ends_at_ms().map(LeaseAction::Deadline);
        (self, deadline.into_iter().collect())
    }

    fn unanswered(mut self, domain: DomainName, now_ms: u64) -> (Self, Vec<LeaseAction>) {
        let again_after_ms = if self.live.contains_key(&domain) { RETRY_AFTER_MS } else { ANEW_AFTER_MS };
        if let Some(unjudged) = self.unjudged.get_mut(&domain) {
            unjudged.after_answer = false; // the next request carries evidence from after it
        }
        if self.requests.get(&domain).is_some_and(|request| *request != Request::Over) {
            self.requests.insert(domain, Request::NotBefore(now_ms.saturating_add(again_after_ms)));
        }
        match self.state {
            LeaseState::Attesting => self.give_up_if_hopeless(),
            LeaseState::Held | LeaseState::Renewing => {
                self.settle();
                (self, Vec::new())
            }
            LeaseState::Idle | LeaseState::Halted { .. } => (self, Vec::new()),
        }
    }

    fn tick(mut self, now_ms: u64) -> (Self, Vec<LeaseAction>) {
        let due = |domain: &&DomainName| match self.state {
            LeaseState::Idle | LeaseState::Halted { .. } => false,
            LeaseState::Attesting => self.ran_out(domain),
            LeaseState::Held | LeaseState::Renewing => self.due_at_ms(domain).is_some_and(|at_ms| at_ms <= now_ms),
        };
        let asked: Vec<_> = self.domains.named().iter().filter(due).cloned().collect();
        for domain in &asked {
            self.requests.insert(domain.clone(), Request::Wanted);
        }
        if self.state == LeaseState::Attesting && asked.is_empty() {
            return self.give_up_if_hopeless();
        }
        self.settle();
        (self, asked.into_iter().map(LeaseAction::Ask).collect())
    }

    fn ended(mut self, exit_code: i32) -> (Self, Vec<LeaseAction>) {
        if !self.runs() {
            return (self, Vec::new());
        }
        self.clear(LeaseState::Idle);
        // What the workload left behind ends with it.
        (self, vec![LeaseAction::Kill, LeaseAction::WipeKeys, LeaseAction::RecordEnd(exit_code)])
    }

    fn halt(mut self, reason: HaltReason) -> (Self, Vec<LeaseAction>) {
        self.clear(LeaseState::Halted { reason: reason.clone() });
        (self, vec![LeaseAction::Kill, LeaseAction::WipeKeys, LeaseAction::RecordHalt(reason)])
    }

    fn give_up_if_hopeless(mut self) -> (Self, Vec<LeaseAction>) {
        let may = |domain: &&DomainName| match self.requests.get(*domain) {
            Some(Request::Wanted | Request::Sent(_)) => true,
            Some(Request::NotBefore(_) | Request::Over) => false,
            None => self.live.contains_key(*domain) || self.ran_out(domain),
        };
        if self.domains.named().iter().filter(may).count() >= self.domains.needed() {
            return (self, Vec::new());
        }
        self.clear(LeaseState::Idle);
        (self, vec![LeaseAction::WipeKeys, LeaseAction::GiveUp])
    }

    /// Whether a domain granted, and its lease ended before enough others granted; it is asked anew.
    fn ran_out(&self, domain: &DomainName) -> bool {
        self.granted.contains_key(domain) && !self.live.contains_key(domain) && !self.requests.contains_key(domain)
    }

    fn clear(&mut self, state: LeaseState) {
        self.live.clear();
        self.requests.clear();
        self.unjudged.clear();
        self.granted.clear();
        self.state = state;
    }

    /// Held or renewing, by whether a request is under way.
    fn settle(&mut self) {
        if !self.runs() && self.live.len() < self.domains.needed() {
            return;
        }
        let under_way = self.requests.values().any(|r| matches!(r, Request::Wanted | Request::Sent(_)));
        self.state = if under_way { LeaseState::Renewing } else { LeaseState::Held };
    }
}
