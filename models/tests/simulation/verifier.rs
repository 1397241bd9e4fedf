//! A domain's verifier: its authorizations, its partners by the real machine, and its part as a witness.

use std::{collections::BTreeSet, sync::Arc};

use audit::witness::{AddCheckpoint, judge};
use evidence::{digest::Sha256Digest, time::UnixSeconds};
use governance::partner::{Growth, Partner, PartnerAction, PartnerEvent, Standing};

use super::{
    DOMAINS, HORIZON_CAP, LEASE_MS, Message, Place, Rule, Simulation, Verdict, name,
    universe::{Branch, STALENESS_UNITS, Served, UNIT_S, Universe, at},
};

/// When a domain publishes its second, third and fourth step.
const PUBLISHED_MS: [u64; 3] = [70_000, 150_000, 220_000];
const PULLED_EVERY_MS: u64 = 15_000;
const BACKED_UP_EVERY_MS: u64 = 20_000;
/// A decision whose entry nobody witnessed by then is a fault.
const WITNESSED_WITHIN_MS: u64 = 3_000;

#[derive(Clone, Copy, Debug)]
struct Row {
    node: usize,
    seq: u64,
    ended: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    rows: Vec<Row>,
    pub(crate) quarantined: [bool; DOMAINS],
    log: u64,
}

#[derive(Clone, Copy, Debug)]
struct Decision {
    node: usize,
    attempt: u64,
    verdict: Verdict,
    entry: u64,
}

/// A partner as it is followed.
struct Followed {
    universe: Arc<Universe>,
    partner: Partner,
    memory: (Vec<u8>, Sha256Digest),
    /// What this domain's witness holds of the partner's log.
    witnessed: Option<Served>,
    /// What the judge of the run remembers.
    seen_ms: Option<u64>,
    relied: (u64, u64),
    branches: BTreeSet<Branch>,
}

pub(crate) struct Verifier {
    pub(crate) database: Database,
    backups: Vec<Database>,
    /// Length of its log as its checkpoint file says, and as others cosigned it.
    published: u64,
    witnessed: u64,
    decisions: Vec<Decision>,
    partners: Vec<Option<Followed>>,
    pub(crate) twin_for: Option<usize>,
    down_until_ms: u64,
    pub(crate) refused_to_start: bool,
    next_pull_ms: u64,
    next_backup_ms: u64,
}

fn remembered(partner: &Partner) -> (Vec<u8>, Sha256Digest) {
    partner.memory().and_then(|memory| memory.encode()).expect("memory")
}

impl Followed {
    fn new(universe: &Arc<Universe>) -> Self {
        let partner = universe.begun(universe.pinned(), at(0));
        let (memory, universe) = (remembered(&partner), universe.clone());
        let (relied, branches) = ((0, 0), BTreeSet::new());
        Self { universe, partner, memory, witnessed: None, seen_ms: None, relied, branches }
    }

    /// False: refused.
    fn feed(&mut self, event: PartnerEvent, served: Served, now: UnixSeconds) -> bool {
        let (partner, actions) = self.partner.clone().on(event.clone(), now);
        for action in &actions {
            if let (PartnerAction::Fetch { from, to }, PartnerEvent::State { newest, between }) = (action, &event)
                && between.is_empty()
            {
                let (newest, between) = (newest.clone(), self.universe.between(served, *from, *to));
                return self.feed(PartnerEvent::State { newest, between }, served, now);
            }
        }
        self.partner = partner;
        if actions.contains(&PartnerAction::Remember) {
            self.memory = remembered(&self.partner);
        }
        !actions.iter().any(|action| matches!(action, PartnerAction::Refused(_)))
    }

    /// This domain cosigns what it follows.
    fn cosigns(&mut self, shown: Served) -> bool {
        let held = self.witnessed.map(|held| self.universe.checkpoint(held));
        let old = held.map_or(0, |held| held.size);
        let proof = if old == 0 { Vec::new() } else { self.universe.proof(old, shown) };
        let request = AddCheckpoint { old, proof, note: String::new() };
        let judged = judge(&request, self.universe.checkpoint(shown), held);
        if judged.is_ok() {
            self.witnessed = Some(shown);
        }
        judged.is_ok()
    }

    /// One pull; true once it went through.
    fn pull(&mut self, served: Served, unit: u8, now: UnixSeconds) -> bool {
        let Some(bundle) = self.universe.bundle(served, unit) else { return false };
        if !self.feed(PartnerEvent::Bundle(Box::new(bundle)), served, now) {
            return false;
        }
        let extends = self.partner.head().is_some_and(|held| self.universe.extends(held, served));
        let growth = if extends { Growth::Proven } else { Growth::Contradicted };
        let head = self.universe.head(served);
        if !self.feed(PartnerEvent::Head { head, growth }, served, now) || !self.cosigns(served) {
            return false;
        }
        let Some(newest) = self.universe.state(served, self.partner.bundle(), unit, false) else { return false };
        let (newest, state) = (Box::new(newest), self.universe.state_digest(served));
        let revocations = self.universe.revocations(served);
        self.feed(PartnerEvent::State { newest, between: Vec::new() }, served, now)
            && self.feed(PartnerEvent::Proven { state, head, revocations }, served, now)
    }
}

impl Verifier {
    pub(crate) fn new(domain: usize, universes: &[Arc<Universe>]) -> Self {
        let follow = |partner: usize| (partner != domain).then(|| Followed::new(&universes[partner]));
        Self {
            database: Database::default(),
            backups: Vec::new(),
            published: 0,
            witnessed: 0,
            decisions: Vec::new(),
            partners: (0..DOMAINS).map(follow).collect(),
            twin_for: None,
            down_until_ms: 0,
            refused_to_start: false,
            next_pull_ms: 0,
            next_backup_ms: BACKED_UP_EVERY_MS,
        }
    }

    fn up(&self, now_ms: u64) -> bool {
        now_ms >= self.down_until_ms && !self.refused_to_start
    }

    pub(crate) fn condemned(&self) -> bool {
        self.partners.iter().flatten().any(|followed| {
            matches!(followed.partner.standing(UnixSeconds(0)), Standing::Forked | Standing::RolledBack)
        })
    }

    fn serves(&self, to: usize, now_ms: u64) -> Served {
        let step = PUBLISHED_MS.iter().filter(|at_ms| now_ms >= **at_ms).count();
        let step = u8::try_from(step).expect("small");
        let branch = if self.twin_for == Some(to) && step >= 2 { Branch::Twin } else { Branch::Honest };
        Served { branch, step }
    }
}

impl Simulation {
    /// The domain's own clock, in seconds of the partners' time; none before it begins.
    fn clock(&self, domain: usize) -> Option<(UnixSeconds, Option<u8>)> {
        let elapsed_s = i64::try_from(self.now_ms / 1_000).expect("small") + self.plan.skew_s[domain];
        let unit = u64::try_from(elapsed_s).ok()? / UNIT_S;
        let now = at(0).plus(u64::try_from(elapsed_s).ok()?);
        Some((now, u8::try_from(unit).ok().filter(|unit| *unit <= HORIZON_CAP)))
    }

    /// A request: refused, on its way to an answer, or as if it was lost.
    pub(crate) fn judge(&mut self, domain: usize, node: usize, attempt: u64, renews: Option<u64>, good: bool) {
        let now_ms = self.now_ms;
        if !self.verifiers[domain].up(now_ms) {
            return;
        }
        let row =
            renews.map(|id| self.verifiers[domain].database.rows.get(usize::try_from(id).expect("small")).copied());
        let over = matches!(row, Some(None)) || row.flatten().is_some_and(|row| row.ended || row.node != node);
        let over = over && self.rule != Some(Rule::RevokedIsOver);
        let quarantined = self.verifiers[domain].database.quarantined[node];
        if quarantined || !good || over {
            return self.refuse(domain, node, attempt, renews);
        }
        if node != domain && self.rule != Some(Rule::PartnersAreFresh) {
            let Some((now, _)) = self.clock(domain) else { return };
            let followed = self.verifiers[domain].partners[node].as_ref().expect("a partner");
            let spiffe_id = format!("spiffe://{}/node/n{node}", followed.universe.domain);
            let admitted = followed.partner.fresh(now).and_then(|fresh| {
                fresh.grant().admits_name(fresh.domain(), &spiffe_id)?;
                fresh.grant().admits_lease(fresh.domain(), LEASE_MS)
            });
            if admitted.is_err() && self.rule == Some(Rule::PartnersAccuseNoNode) {
                return self.refuse(domain, node, attempt, renews);
            }
            if admitted.is_err() {
                // Nothing ends here: the node ends what it runs, or asks again once the partner stands.
                let answer = Message::Withdrawn { attempt, domain };
                return self.send(Place::Verifier(domain), Place::Node(node), answer);
            }
        }
        let database = &mut self.verifiers[domain].database;
        let (id, seq) = match renews {
            Some(id) => {
                let row = &mut database.rows[usize::try_from(id).expect("small")];
                row.seq += 1;
                (id, row.seq)
            }
            None => {
                database.rows.push(Row { node, seq: 1, ended: false });
                (u64::try_from(database.rows.len() - 1).expect("small"), 1)
            }
        };
        database.log += 1;
        let entry = database.log;
        let verdict = Verdict { domain, id, seq, issued_ms: now_ms };
        self.verifiers[domain].decisions.push(Decision { node, attempt, verdict, entry });
    }

    fn refuse(&mut self, domain: usize, node: usize, attempt: u64, renews: Option<u64>) {
        if let Some(id) = renews {
            self.end(domain, id);
            self.verifiers[domain].database.quarantined[node] = true;
        }
        let answer = Message::Answer { attempt, domain, verdict: None };
        self.send(Place::Verifier(domain), Place::Node(node), answer);
    }

    fn end(&mut self, domain: usize, id: u64) {
        let database = &mut self.verifiers[domain].database;
        if let Some(row) = database.rows.get_mut(usize::try_from(id).expect("small")) {
            row.ended = true;
            database.log += 1;
            self.denied.entry((domain, id)).or_insert(self.now_ms);
        }
    }

    pub(crate) fn revoke(&mut self, domain: usize, node: usize) {
        let rows = &self.verifiers[domain].database.rows;
        let Some(id) = rows.iter().rposition(|row| row.node == node && !row.ended) else { return };
        if !self.verifiers[domain].up(self.now_ms) {
            return;
        }
        self.nodes[node].suspect = true;
        let id = u64::try_from(id).expect("small");
        self.end(domain, id);
        self.send(Place::Verifier(domain), Place::Node(node), Message::Revoked { domain, id });
    }

    pub(crate) fn halt_reported(&mut self, domain: usize, node: usize) {
        if !self.verifiers[domain].up(self.now_ms) || self.nodes[node].halted.is_none() {
            return; // lost, or a copy that came after the readmission, which names its halt
        }
        self.verifiers[domain].database.quarantined[node] = true;
        let rows = self.verifiers[domain].database.rows.iter().enumerate();
        let theirs: Vec<_> = rows.filter(|(_, row)| row.node == node && !row.ended).map(|(id, _)| id).collect();
        theirs.into_iter().for_each(|id| self.end(domain, u64::try_from(id).expect("small")));
    }

    pub(crate) fn crash(&mut self, domain: usize, for_ms: u64) {
        let now = self.clock(domain).map_or(UnixSeconds(0), |(now, _)| now);
        let verifier = &mut self.verifiers[domain];
        verifier.decisions.clear();
        verifier.down_until_ms = self.now_ms + for_ms;
        for followed in verifier.partners.iter_mut().flatten() {
            let (bytes, logged) = &followed.memory;
            let head = followed.partner.head();
            followed.partner = Partner::recall(bytes, *logged, head, now).expect("its own memory");
            followed.seen_ms = None;
        }
    }

    /// Started on an old database, which it compares with the checkpoint that it published.
    pub(crate) fn restore(&mut self, domain: usize) {
        self.crash(domain, 1_000);
        let verifier = &mut self.verifiers[domain];
        let Some(old) = verifier.backups.first().cloned() else { return };
        // It has forgotten leases, and refuses whoever holds one.
        self.nodes.iter_mut().for_each(|node| node.suspect = true);
        verifier.database = old;
        verifier.backups.clear();
        if verifier.database.log < verifier.published && self.rule != Some(Rule::OldDatabasesRefuse) {
            verifier.refused_to_start = true;
        }
    }

    pub(crate) fn turn_of_verifier(&mut self, domain: usize) {
        let now_ms = self.now_ms;
        if !self.verifiers[domain].up(now_ms) {
            return;
        }
        let verifier = &mut self.verifiers[domain];
        verifier.published = verifier.published.max(verifier.database.log);
        if now_ms >= verifier.next_backup_ms {
            verifier.next_backup_ms = now_ms + BACKED_UP_EVERY_MS;
            verifier.backups.push(verifier.database.clone());
        }
        self.answer(domain);
        if now_ms >= self.verifiers[domain].next_pull_ms {
            self.verifiers[domain].next_pull_ms = now_ms + PULLED_EVERY_MS;
            (0..DOMAINS).filter(|partner| *partner != domain).for_each(|partner| self.follow(domain, partner));
        }
    }

    fn reaches(&self, one: usize, other: usize) -> bool {
        let (there, back) = (Place::Verifier(one), Place::Verifier(other));
        self.verifiers[other].up(self.now_ms)
            && self.plan.open(there, back, self.now_ms)
            && self.plan.open(back, there, self.now_ms)
    }

    /// Whatever others have witnessed by now leaves.
    fn answer(&mut self, domain: usize) {
        if (0..DOMAINS).any(|other| other != domain && self.reaches(domain, other)) {
            self.verifiers[domain].witnessed = self.verifiers[domain].database.log;
        }
        for decision in std::mem::take(&mut self.verifiers[domain].decisions) {
            let Decision { node, attempt, verdict, entry } = decision;
            let witnessed = self.verifiers[domain].witnessed >= entry;
            if !witnessed && self.rule != Some(Rule::AnswersAreWitnessed) {
                if self.now_ms < verdict.issued_ms + WITNESSED_WITHIN_MS {
                    self.verifiers[domain].decisions.push(decision);
                }
                continue;
            }
            if !witnessed {
                self.breach(format!("I3: {verdict:?} answered before its record was witnessed"));
            }
            if !self.answered.insert((domain, verdict.id, verdict.seq)) {
                self.breach(format!("I4: {verdict:?} takes a sequence that was given before"));
            }
            if node != domain && !self.partner_was_seen(domain, node) {
                self.breach(format!("I7: {verdict:?} for a node of a partner that was not seen"));
            }
            let answer = Message::Answer { attempt, domain, verdict: Some(verdict) };
            self.send(Place::Verifier(domain), Place::Node(node), answer);
        }
    }

    fn partner_was_seen(&self, domain: usize, partner: usize) -> bool {
        let followed = self.verifiers[domain].partners[partner].as_ref().expect("a partner");
        // Seconds are cut off where the domain reads its clock, and an answer leaves a while after it was judged.
        let within_ms = STALENESS_UNITS * UNIT_S * 1_000 + 1_000 + WITNESSED_WITHIN_MS;
        followed.seen_ms.is_some_and(|seen_ms| self.now_ms <= seen_ms + within_ms)
    }

    fn follow(&mut self, domain: usize, partner: usize) {
        let lost = self.random.percent(self.plan.lost_percent);
        let Some((now, Some(unit))) = self.clock(domain) else { return };
        if lost || !self.reaches(domain, partner) {
            return;
        }
        let served = self.verifiers[partner].serves(domain, self.now_ms);
        let now_ms = self.now_ms;
        let followed = self.verifiers[domain].partners[partner].as_mut().expect("a partner");
        let before = followed.partner.standing(now);
        if followed.pull(served, unit, now) {
            followed.seen_ms = Some(now_ms);
        }
        let after = followed.partner.standing(now);
        if before != after {
            self.tell(|| format!("{} holds {} for {after:?}", name(domain), name(partner)));
        }
    }

    pub(crate) fn look_at_partners(&mut self, domain: usize) {
        let Some((now, _)) = self.clock(domain) else { return };
        if !self.verifiers[domain].up(self.now_ms) {
            return;
        }
        for partner in (0..DOMAINS).filter(|partner| *partner != domain) {
            let seen = self.partner_was_seen(domain, partner);
            let equivocates = self.verifiers[partner].twin_for.is_some();
            let followed = self.verifiers[domain].partners[partner].as_mut().expect("a partner");
            let mut broken = Vec::new();
            if let Ok(fresh) = followed.partner.fresh(now) {
                let state = fresh.state().state();
                let relied = (state.epoch, fresh.bundle().bundle().sequence);
                let served = followed.universe.of_state(fresh.state().digest());
                if relied.0 < followed.relied.0 || relied.1 < followed.relied.1 {
                    broken.push("I4: an older epoch or bundle is relied on");
                }
                followed.relied = relied;
                if served.step >= 2 {
                    followed.branches.insert(served.branch);
                }
                if followed.branches.len() > 1 {
                    broken.push("I4: two histories are relied on");
                }
                if !seen {
                    broken.push("I7: a partner is relied on that was not seen");
                }
                let foreign = format!("spiffe://{}/node/n1", name(domain));
                if fresh.grant().admits_name(fresh.domain(), &foreign).is_ok() {
                    broken.push("I5: a partner speaks for a name that is not its own");
                }
            }
            let condemned = matches!(followed.partner.standing(now), Standing::Forked | Standing::RolledBack);
            if condemned && !equivocates {
                broken.push("an honest partner is condemned");
            }
            broken.into_iter().for_each(|what| self.breach(format!("{what} ({} of {})", name(domain), name(partner))));
        }
    }
}
