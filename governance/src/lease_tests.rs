use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;

use super::*;

const UNIT_MS: u64 = RETRY_AFTER_MS;
const CAP_MS: u64 = 4 * UNIT_MS;

fn domain(name: &str) -> DomainName {
    DomainName::new(name).unwrap()
}

fn text(text: &str) -> Text {
    Text::new(text).unwrap()
}

fn quorum(k: u8, of: &[&str]) -> Domains {
    Domains::Quorum { k, of: of.iter().map(|name| domain(name)).collect() }
}

fn grant(id: u8, seq: u64, duration_ms: u64) -> Grant {
    Grant {
        id: ArtifactId([id; 16]),
        artifact: Sha256Digest([u8::try_from(seq).unwrap(); 32]),
        epoch: 1,
        terms: LeaseTerms { seq, duration_ms, renew_after_ms: duration_ms / 3 },
    }
}

/// What surrounds the machine: a supervisor that obeys, and kills at the deadline it was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Surroundings {
    running: bool,
    deadline_ms: u64,
    keys: bool,
    sent_ms: BTreeMap<DomainName, u64>,
    halts: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    lease: Lease,
    now_ms: u64,
    around: Surroundings,
}

impl World {
    fn new(domains: Domains) -> Self {
        Self { lease: Lease::new(domains, CAP_MS), now_ms: 0, around: Surroundings::default() }
    }

    /// Lets time pass, then the event happen, and checks every invariant.
    fn step(&self, event: &LeaseEvent, now_ms: u64) -> Self {
        let before = self.clone();
        let (lease, actions) = self.lease.clone().on(event.clone(), now_ms);
        let mut world = Self { lease, now_ms: self.now_ms.max(now_ms), around: self.around.clone() };
        world.observe(event);
        let mut deadline_told = before.around.running;
        for action in &actions {
            match action {
                LeaseAction::Deadline(ends_at_ms) => {
                    world.around.deadline_ms = *ends_at_ms;
                    deadline_told = true;
                }
                LeaseAction::StartWorkload => {
                    assert!(deadline_told, "started without a deadline");
                    assert!(!world.around.running, "started twice");
                    world.around.running = true;
                }
                LeaseAction::Kill => world.around.running = false,
                LeaseAction::WipeKeys => world.around.keys = false,
                LeaseAction::RecordHalt(_) => world.around.halts = world.around.halts.saturating_add(1).min(2),
                LeaseAction::Ask(_) | LeaseAction::RecordEnd(_) | LeaseAction::GiveUp => {}
            }
        }
        world.invariants(&before, event, &actions);
        world
    }

    fn observe(&mut self, event: &LeaseEvent) {
        if let LeaseEvent::Sent(domain) = event
            && self.lease.requests.get(domain) == Some(&Request::Sent(self.now_ms))
        {
            self.around.sent_ms.insert(domain.clone(), self.now_ms);
        }
        if let LeaseEvent::Granted(domain, grant) = event
            && self.lease.live.get(domain).is_some_and(|live| live.grant == *grant)
        {
            self.around.keys = true;
        }
    }

    fn invariants(&self, before: &Self, event: &LeaseEvent, actions: &[LeaseAction]) {
        let (lease, around) = (&self.lease, &self.around);
        let live = lease.live.values().filter(|live| self.now_ms < live.ends_at_ms).count();
        assert_eq!(around.running, lease.runs(), "{event:?}: {self:?}");
        if lease.runs() {
            assert!(live >= lease.domains.needed(), "runs without enough leases");
            assert_eq!(Some(around.deadline_ms), lease.ends_at_ms(), "the supervisor holds another deadline");
            assert!(lease.wake_at_ms().is_some_and(|wake| wake <= around.deadline_ms));
        }
        for (domain, live) in &lease.live {
            let sent_ms = around.sent_ms[domain];
            assert!(live.ends_at_ms <= sent_ms + CAP_MS, "longer than the node's cap");
            assert!(live.ends_at_ms <= sent_ms + live.grant.terms.duration_ms, "longer than granted");
            assert!(live.renew_at_ms < live.ends_at_ms);
        }
        match lease.state {
            LeaseState::Idle | LeaseState::Halted { .. } => {
                assert!(!around.keys, "keys outlive the execution: {event:?} {before:?}");
                assert!(lease.live.is_empty() && lease.requests.is_empty());
            }
            LeaseState::Attesting | LeaseState::Held | LeaseState::Renewing => {}
        }
        if let LeaseState::Halted { .. } = before.lease.state {
            let left = !matches!(lease.state, LeaseState::Halted { .. });
            assert_eq!(left, *event == LeaseEvent::Readmitted, "halted absorbs everything but a readmission");
            assert!(actions.is_empty());
        }
        let halted_now = matches!(lease.state, LeaseState::Halted { .. }) && lease.state != before.lease.state;
        let recorded = actions.iter().filter(|action| matches!(action, LeaseAction::RecordHalt(_))).count();
        assert_eq!(recorded, usize::from(halted_now), "each halt is recorded once");
        // What is started was asked for, and nothing new is granted to what ended.
        if actions.contains(&LeaseAction::StartWorkload) {
            assert_eq!(before.lease.state, LeaseState::Attesting);
        }
    }
}

/// All events of these domains; with several domains, fewer kinds of grant, to keep the exploration within seconds.
fn events(names: &[&str]) -> Vec<LeaseEvent> {
    let grants: &[_] =
        if names.len() == 2 { &[(1, 1, 3), (1, 2, 9)] } else { &[(1, 1, 3), (1, 2, 3), (2, 2, 3), (1, 3, 9)] };
    let mut events = vec![
        LeaseEvent::Start,
        LeaseEvent::Tick,
        LeaseEvent::WorkloadEnded(0),
        LeaseEvent::Readmitted,
        LeaseEvent::Trip(HaltReason::PcrChanged { pcr: 4 }),
    ];
    if names.len() != 2 {
        events.push(LeaseEvent::AttestNow(Trigger::Resumed));
    }
    for name in names {
        let d = domain(name);
        events.push(LeaseEvent::Sent(d.clone()));
        events.push(LeaseEvent::Unanswered(d.clone()));
        events.push(LeaseEvent::Refused(d.clone(), text("reference.pcr_unknown")));
        events.push(LeaseEvent::Withdrawn(d.clone()));
        if names.len() != 2 {
            // As a refusal, but for the reason.
            events.push(LeaseEvent::Revoked(d.clone(), text("governance.revoked")));
        }
        for (id, seq, units) in grants {
            events.push(LeaseEvent::Granted(d.clone(), grant(*id, *seq, units * UNIT_MS)));
        }
    }
    events
}

/// Every sequence of events over a few units of time, each event coming at once or after one or two units.
fn explore(domains: Domains, names: &[&str], horizon_ms: u64) -> (usize, BTreeSet<String>) {
    let events = events(names);
    let (mut seen, mut open) = (HashSet::new(), vec![World::new(domains)]);
    let mut reached = BTreeSet::new();
    while let Some(world) = open.pop() {
        let state = format!("{:?}", world.lease.state);
        reached.insert(state.split([' ', '{']).next().unwrap().to_owned());
        for event in &events {
            for units in 0..=2 {
                let now_ms = world.now_ms + units * UNIT_MS;
                if now_ms <= horizon_ms {
                    let next = world.step(event, now_ms);
                    if seen.insert(next.clone()) {
                        open.push(next);
                    }
                }
            }
        }
    }
    (seen.len(), reached)
}

#[test]
fn every_history_of_one_domain_keeps_the_invariants() {
    let (states, reached) = explore(Domains::All([domain("a")].into()), &["a"], 9 * UNIT_MS);
    assert_eq!(reached.len(), 5, "{reached:?}");
    assert!(states > 1_000, "{states}");
}

#[test]
fn every_history_of_two_domains_keeps_the_invariants() {
    for k in [1, 2] {
        let (states, reached) = explore(quorum(k, &["a", "b"]), &["a", "b"], 3 * UNIT_MS);
        assert_eq!(reached.len(), 5, "{reached:?}");
        assert!(states > 2_000, "{states}");
    }
}

proptest! {
    #[test]
    fn random_histories_with_clocks_that_jump_keep_the_invariants(
        k in 1_u8..=3,
        steps in proptest::collection::vec((any::<prop::sample::Index>(), 0_u64..6_000, any::<bool>()), 1..80),
    ) {
        let names = ["a", "b", "c"];
        let events = events(&names);
        let mut world = World::new(quorum(k, &names));
        let mut now_ms = 0_u64;
        for (at, jump_ms, back) in steps {
            now_ms = if back { now_ms.saturating_sub(jump_ms) } else { now_ms + jump_ms / 4 };
            world = world.step(at.get(&events), now_ms);
        }
    }
}

fn run(lease: Lease, steps: &[(u64, LeaseEvent)]) -> (Lease, Vec<LeaseAction>) {
    let mut last = Vec::new();
    let mut lease = lease;
    for (now_ms, event) in steps {
        (lease, last) = lease.on(event.clone(), *now_ms);
    }
    (lease, last)
}

fn held(k: u8, names: &[&str]) -> Lease {
    let mut steps = vec![(0, LeaseEvent::Start)];
    for name in names {
        steps.push((100, LeaseEvent::Sent(domain(name))));
        steps.push((200, LeaseEvent::Granted(domain(name), grant(1, 1, 3_000))));
    }
    run(Lease::new(quorum(k, names), CAP_MS), &steps).0
}

#[test]
fn a_lease_is_counted_from_the_request_and_renewed_at_a_third() {
    let lease = held(1, &["a"]);
    assert_eq!(lease.state(), &LeaseState::Held);
    assert_eq!((lease.ends_at_ms(), lease.wake_at_ms()), (Some(3_100), Some(1_100)));
    let (lease, asked) = run(lease, &[(1_100, LeaseEvent::Tick)]);
    assert_eq!(asked, [LeaseAction::Ask(domain("a"))]);
    assert_eq!(lease.state(), &LeaseState::Renewing);
    let steps = [(1_150, LeaseEvent::Sent(domain("a"))), (1_900, LeaseEvent::Granted(domain("a"), grant(1, 2, 3_000)))];
    let (lease, told) = run(lease, &steps);
    assert_eq!(told, [LeaseAction::Deadline(4_150)]);
    assert_eq!(lease.state(), &LeaseState::Held);
}

#[test]
fn the_node_only_shortens() {
    let (lease, _) = run(
        Lease::new(quorum(1, &["a"]), 2_000),
        &[
            (0, LeaseEvent::Start),
            (100, LeaseEvent::Sent(domain("a"))),
            (200, LeaseEvent::Granted(domain("a"), grant(1, 1, 900_000))),
        ],
    );
    assert_eq!(lease.ends_at_ms(), Some(2_100));
}

#[test]
fn a_renewal_without_answer_is_tried_again_until_the_end_and_then_halts() {
    let steps = [
        (1_100, LeaseEvent::Tick),
        (1_100, LeaseEvent::Sent(domain("a"))),
        (1_200, LeaseEvent::Unanswered(domain("a"))),
    ];
    let (lease, _) = run(held(1, &["a"]), &steps);
    assert_eq!((lease.state(), lease.wake_at_ms()), (&LeaseState::Held, Some(2_200)));
    let (lease, asked) = run(lease, &[(2_200, LeaseEvent::Tick)]);
    assert_eq!(asked, [LeaseAction::Ask(domain("a"))]);
    let (lease, actions) = run(lease, &[(3_100, LeaseEvent::Tick)]);
    assert_eq!(lease.state(), &LeaseState::Halted { reason: HaltReason::LeaseEnded });
    let expected = [LeaseAction::Kill, LeaseAction::WipeKeys, LeaseAction::RecordHalt(HaltReason::LeaseEnded)];
    assert_eq!(actions, expected);
}

#[test]
fn an_answer_that_comes_after_the_end_is_too_late() {
    let steps = [
        (1_100, LeaseEvent::Tick),
        (1_100, LeaseEvent::Sent(domain("a"))),
        (3_100, LeaseEvent::Granted(domain("a"), grant(1, 2, 3_000))),
    ];
    let (lease, _) = run(held(1, &["a"]), &steps);
    assert_eq!(lease.state(), &LeaseState::Halted { reason: HaltReason::LeaseEnded });
}

#[test]
fn a_refused_renewal_halts_unless_enough_domains_remain() {
    let refused = |lease| run(lease, &[(1_000, LeaseEvent::Refused(domain("a"), text("policy.denied")))]).0;
    let (code, trigger) = (text("policy.denied"), Trigger::Scheduled);
    let reason = HaltReason::RefusedAtRenewal { domain: domain("a"), code, trigger };
    assert_eq!(refused(held(2, &["a", "b"])).state(), &LeaseState::Halted { reason });
    let left = refused(held(1, &["a", "b"]));
    assert_eq!(left.state(), &LeaseState::Held);
    assert_eq!(left.live().keys().collect::<Vec<_>>(), [&domain("b")]);
}

#[test]
fn what_only_a_verifier_can_judge_is_shown_to_every_domain_at_once() {
    let (lease, asked) = run(held(2, &["a", "b"]), &[(300, LeaseEvent::AttestNow(Trigger::ImaAppended))]);
    assert_eq!(asked, [LeaseAction::Ask(domain("a")), LeaseAction::Ask(domain("b"))]);
    let steps = [
        (300, LeaseEvent::Sent(domain("a"))),
        (300, LeaseEvent::Sent(domain("b"))),
        (400, LeaseEvent::Granted(domain("a"), grant(1, 2, 3_000))),
        (500, LeaseEvent::Refused(domain("b"), text("reference.ima_unknown"))),
    ];
    let (lease, _) = run(lease, &steps);
    let LeaseState::Halted { reason } = lease.state() else { panic!("{lease:?}") };
    assert_eq!(reason.code(), "halt.ima_changed");
}

#[test]
fn an_answer_to_evidence_from_before_is_followed_by_another_request() {
    let seen = [
        (1_100, LeaseEvent::Tick),
        (1_100, LeaseEvent::Sent(domain("a"))),
        (1_200, LeaseEvent::AttestNow(Trigger::ImaAppended)),
    ];
    let (lease, asked) = run(held(1, &["a"]), &seen);
    assert_eq!(asked, [], "one request at a time");
    // Refused meanwhile: that was about what went before.
    let (refused, _) = run(lease.clone(), &[(1_300, LeaseEvent::Refused(domain("a"), text("policy.denied")))]);
    let LeaseState::Halted { reason } = refused.state() else { panic!("{refused:?}") };
    assert_eq!(reason.code(), "halt.refused_at_renewal");
    let (lease, _) = run(lease, &[(1_300, LeaseEvent::Granted(domain("a"), grant(1, 2, 3_000)))]);
    assert_eq!(lease.wake_at_ms(), Some(1_300));
    let (lease, asked) = run(lease, &[(1_300, LeaseEvent::Tick)]);
    assert_eq!(asked, [LeaseAction::Ask(domain("a"))]);
    let answered =
        [(1_300, LeaseEvent::Sent(domain("a"))), (1_400, LeaseEvent::Granted(domain("a"), grant(1, 3, 3_000)))];
    assert_eq!(run(lease, &answered).0.wake_at_ms(), Some(2_300), "judged: the next one is due as ever");
}

#[test]
fn a_domain_that_did_not_answer_is_asked_at_once_when_something_was_seen() {
    let seen = [
        (1_100, LeaseEvent::Tick),
        (1_100, LeaseEvent::Sent(domain("a"))),
        (1_200, LeaseEvent::Unanswered(domain("a"))),
        (1_300, LeaseEvent::AttestNow(Trigger::Resumed)),
    ];
    assert_eq!(run(held(1, &["a"]), &seen).1, [LeaseAction::Ask(domain("a"))]);
}

/// A machine that slept past the end of its lease is not given the time to ask.
#[test]
fn a_lease_that_ended_while_the_machine_slept_is_over_before_anybody_is_asked() {
    let (lease, actions) = run(held(1, &["a"]), &[(3_100, LeaseEvent::AttestNow(Trigger::Resumed))]);
    assert_eq!(lease.state(), &LeaseState::Halted { reason: HaltReason::LeaseEnded });
    assert!(!actions.iter().any(|action| matches!(action, LeaseAction::Ask(_))), "{actions:?}");
}

#[test]
fn a_seq_that_was_seen_or_another_artifact_renews_nothing() {
    for bent in [grant(1, 1, 3_000), grant(2, 2, 3_000)] {
        let steps = [
            (1_100, LeaseEvent::Tick),
            (1_100, LeaseEvent::Sent(domain("a"))),
            (1_200, LeaseEvent::Granted(domain("a"), bent)),
        ];
        let (lease, _) = run(held(1, &["a"]), &steps);
        assert_eq!(lease.ends_at_ms(), Some(3_100));
    }
}

#[test]
fn a_seq_that_was_seen_renews_nothing_once_its_lease_has_ended_beside_another_domains() {
    let renewed = [
        (1_200, LeaseEvent::Tick),
        (1_200, LeaseEvent::Sent(domain("a"))),
        (1_200, LeaseEvent::Sent(domain("b"))),
        (1_300, LeaseEvent::Granted(domain("b"), grant(1, 2, 3_000))),
        (3_050, LeaseEvent::Tick),
    ];
    let (lease, _) = run(held(1, &["a", "b"]), &renewed);
    for bent in [grant(1, 1, 9_000), grant(2, 2, 9_000)] {
        let (lease, _) = run(lease.clone(), &[(3_250, LeaseEvent::Granted(domain("a"), bent))]);
        assert_eq!(lease.live().keys().collect::<Vec<_>>(), [&domain("b")]);
    }
    let (lease, _) = run(lease, &[(3_250, LeaseEvent::Granted(domain("a"), grant(1, 2, 9_000)))]);
    assert_eq!(lease.live().len(), 2);
}

#[test]
fn a_domain_whose_lease_ran_out_beside_others_is_asked_anew_and_joins_them() {
    let steps = [
        (0, LeaseEvent::Start),
        (0, LeaseEvent::Sent(domain("a"))),
        (0, LeaseEvent::Sent(domain("b"))),
        (1, LeaseEvent::Granted(domain("a"), grant(1, 1, 3_000))),
        (1, LeaseEvent::Granted(domain("b"), grant(1, 1, 60_000))),
        (1_000, LeaseEvent::Tick),
        (1_000, LeaseEvent::Sent(domain("a"))),
        (3_050, LeaseEvent::Unanswered(domain("a"))),
    ];
    let (lease, _) = run(Lease::new(quorum(1, &["a", "b"]), 60_000), &steps);
    assert_eq!(lease.live().keys().collect::<Vec<_>>(), [&domain("b")]);
    let at_ms = 3_050 + ANEW_AFTER_MS;
    assert_eq!(lease.wake_at_ms(), Some(at_ms));
    let (lease, asked) = run(lease, &[(at_ms, LeaseEvent::Tick)]);
    assert_eq!(asked, [LeaseAction::Ask(domain("a"))]);
    // Nothing to be renewed: only a first artifact counts, and not the one that is over.
    for bent in [grant(1, 1, 9_000), grant(2, 2, 9_000)] {
        let steps = [(at_ms, LeaseEvent::Sent(domain("a"))), (at_ms + 10, LeaseEvent::Granted(domain("a"), bent))];
        let (lease, _) = run(lease.clone(), &steps);
        assert_eq!(lease.live().keys().collect::<Vec<_>>(), [&domain("b")]);
    }
    let steps =
        [(at_ms, LeaseEvent::Sent(domain("a"))), (at_ms + 10, LeaseEvent::Granted(domain("a"), grant(2, 1, 9_000)))];
    assert_eq!(run(lease, &steps).0.live().len(), 2);
}

#[test]
fn a_domain_that_was_away_at_the_beginning_is_asked_again_and_one_that_said_no_is_not() {
    let steps = [
        (0, LeaseEvent::Start),
        (0, LeaseEvent::Sent(domain("a"))),
        (0, LeaseEvent::Sent(domain("b"))),
        (0, LeaseEvent::Sent(domain("c"))),
        (1, LeaseEvent::Unanswered(domain("b"))),
        (1, LeaseEvent::Refused(domain("c"), text("policy.not_permitted"))),
        (2, LeaseEvent::Granted(domain("a"), grant(1, 1, 60_000))),
    ];
    let (mut lease, _) = run(Lease::new(quorum(1, &["a", "b", "c"]), 60_000), &steps);
    assert_eq!((lease.state(), lease.wake_at_ms()), (&LeaseState::Held, Some(1 + ANEW_AFTER_MS)));
    for _ in 0..3 {
        let at_ms = lease.wake_at_ms().unwrap();
        let (next, asked) = run(lease, &[(at_ms, LeaseEvent::Tick)]);
        assert_eq!(asked, [LeaseAction::Ask(domain("b"))]);
        lease = run(next, &[(at_ms, LeaseEvent::Sent(domain("b"))), (at_ms, LeaseEvent::Unanswered(domain("b")))]).0;
    }
}

#[test]
fn a_first_lease_that_ran_out_before_the_others_answered_is_asked_for_again() {
    let steps = [
        (0, LeaseEvent::Start),
        (0, LeaseEvent::Sent(domain("a"))),
        (0, LeaseEvent::Sent(domain("b"))),
        (1, LeaseEvent::Granted(domain("a"), grant(1, 1, 3_000))),
    ];
    let (lease, _) = run(Lease::new(quorum(2, &["a", "b"]), CAP_MS), &steps);
    assert_eq!(lease.wake_at_ms(), Some(3_000));
    let (lease, asked) = run(lease, &[(3_000, LeaseEvent::Tick)]);
    assert_eq!((lease.state(), asked), (&LeaseState::Attesting, vec![LeaseAction::Ask(domain("a"))]));
    let steps = [
        (3_000, LeaseEvent::Sent(domain("a"))),
        (3_100, LeaseEvent::Granted(domain("b"), grant(1, 1, 3_200))),
        (3_150, LeaseEvent::Granted(domain("a"), grant(2, 1, 3_000))),
    ];
    let (lease, actions) = run(lease, &steps);
    assert_eq!((lease.state(), actions.contains(&LeaseAction::StartWorkload)), (&LeaseState::Held, true));
}

#[test]
fn what_is_withdrawn_ends_without_a_halt_and_may_begin_anew() {
    let withdrawn = |lease| run(lease, &[(1_000, LeaseEvent::Withdrawn(domain("a")))]);
    let (lease, actions) = withdrawn(held(2, &["a", "b"]));
    let end = LeaseAction::RecordEnd(WITHDRAWN_EXIT_CODE);
    assert_eq!(actions, [LeaseAction::Kill, LeaseAction::WipeKeys, end]);
    assert_eq!(lease.state(), &LeaseState::Idle);
    let (left, _) = withdrawn(held(1, &["a", "b"]));
    assert_eq!(left.live().keys().collect::<Vec<_>>(), [&domain("b")]);
}

#[test]
fn a_halt_survives_until_readmission() {
    let reason = HaltReason::Operator { reason: text("maintenance") };
    let lease = Lease::halted(quorum(1, &["a"]), CAP_MS, reason.clone());
    let (lease, actions) = run(lease, &[(0, LeaseEvent::Start)]);
    assert_eq!((lease.state(), actions), (&LeaseState::Halted { reason }, vec![]));
    let (lease, actions) = run(lease, &[(0, LeaseEvent::Readmitted), (0, LeaseEvent::Start)]);
    assert_eq!((lease.state(), actions), (&LeaseState::Attesting, vec![LeaseAction::Ask(domain("a"))]));
}

#[test]
fn a_refused_start_gives_up_and_keeps_no_key() {
    let steps = [
        (0, LeaseEvent::Start),
        (0, LeaseEvent::Sent(domain("a"))),
        (1, LeaseEvent::Granted(domain("a"), grant(1, 1, 3_000))),
        (2, LeaseEvent::Refused(domain("b"), text("policy.denied"))),
    ];
    let (lease, actions) = run(Lease::new(quorum(2, &["a", "b"]), CAP_MS), &steps);
    assert_eq!((lease.state(), actions), (&LeaseState::Idle, vec![LeaseAction::WipeKeys, LeaseAction::GiveUp]));
}
