//! A verifier that follows its partner: the real machine, and the least that the service around it does.

use governance::partner::{Growth, Partner, PartnerAction, PartnerEvent, Standing};

use super::{
    Bug, FederationModel,
    universe::{Branch, STALENESS_UNITS, Served, at},
    world::{Breach, Machine, Stage, Store, World},
};

impl FederationModel {
    /// The next stage of a pull.
    pub(crate) fn pull_on(&self, world: &mut World, v: usize) {
        let Some((served, stage)) = world.verifiers[v].pull else { return };
        let next = match stage {
            Stage::Bundle => Stage::Head,
            Stage::Head => Stage::State,
            Stage::State => Stage::Proofs,
            Stage::Proofs => Stage::Bundle,
        };
        world.verifiers[v].pull = (next != Stage::Bundle).then_some((served, next));
        let (of_bundle, served) = (served.bundle(), served.rest());
        let event = match stage {
            Stage::Bundle => {
                self.universe.bundle(of_bundle, world.now).map(|bundle| PartnerEvent::Bundle(Box::new(bundle)))
            }
            Stage::Head => self.sees_head(world, v, served),
            Stage::State => {
                let held = world.verifiers[v].machine.partner.bundle();
                let newest = self.universe.state(served, held, world.now, self.has(Bug::RetiredKeysCount));
                newest.map(|newest| PartnerEvent::State { newest: Box::new(newest), between: Vec::new() })
            }
            Stage::Proofs => Some(PartnerEvent::Proven {
                state: self.universe.state_digest(served),
                head: self.universe.head(served),
                revocations: self.universe.revocations(served),
            }),
        };
        let Some(event) = event else {
            // Not signed as it must be, or not in force: nothing was seen.
            world.verifiers[v].pull = None;
            return;
        };
        match &event {
            PartnerEvent::Bundle(bundle) => world.verifiers[v].shown.bundle = Some(bundle.digest()),
            PartnerEvent::State { .. } => world.verifiers[v].shown.state = Some(served),
            _ => {}
        }
        if !self.feed(world, v, event, served) {
            world.verifiers[v].pull = None;
        }
    }

    fn sees_head(&self, world: &World, v: usize, served: Served) -> Option<PartnerEvent> {
        let cosigned =
            world.witness.cosigned.contains(&served) || !self.config.quorum || self.has(Bug::QuorumNotNeeded);
        let held = world.verifiers[v].machine.partner.head();
        let extends = held.is_some_and(|held| self.universe.extends(held, served));
        let extends = extends || self.has(Bug::ConsistencyNotProven);
        let growth = if extends { Growth::Proven } else { Growth::Contradicted };
        cosigned.then(|| PartnerEvent::Head { head: self.universe.head(served), growth })
    }

    /// Gives the machine what was seen and does what it answers. False: refused.
    fn feed(&self, world: &mut World, v: usize, event: PartnerEvent, served: Served) -> bool {
        let now = at(world.now);
        let state_or_proof = matches!(event, PartnerEvent::State { .. } | PartnerEvent::Proven { .. });
        let before = world.verifiers[v].machine.partner.clone();
        let (partner, actions) = Partner::clone(&before).on(event.clone(), now);
        for action in &actions {
            if let PartnerAction::Fetch { from, to } = action
                && let PartnerEvent::State { newest, between } = &event
                && between.is_empty()
            {
                let event =
                    PartnerEvent::State { newest: newest.clone(), between: self.universe.between(served, *from, *to) };
                return self.feed(world, v, event, served);
            }
        }
        let refused = actions.iter().any(|action| matches!(action, PartnerAction::Refused(_)));
        if refused && self.has(Bug::TrustedAnewWhenRefused) && partner.standing(now) == Standing::RolledBack {
            if let Some(bundle) = self.universe.bundle(served, world.now) {
                self.keep(world, v, self.universe.begun(bundle, now));
            }
            return true;
        }
        let verifier = &mut world.verifiers[v];
        if matches!(partner.standing(now), Standing::Forked | Standing::RolledBack) {
            verifier.condemned = true;
        }
        if partner.head() != before.head() {
            if verifier.head.is_some_and(|held| !self.universe.extends(self.universe.head(held), served)) {
                world.breaches.insert(Breach::HeadForked);
            }
            world.verifiers[v].head = Some(served);
        }
        let verifier = &mut world.verifiers[v];
        let stored = actions.iter().any(|a| matches!(a, PartnerAction::Remember | PartnerAction::Mark(_)));
        // The memory is what it was unless the machine says otherwise: a change that it kept quiet would show at a crash.
        verifier.machine = if actions.contains(&PartnerAction::Remember) {
            Machine::of(partner)
        } else {
            Machine { partner: partner.into(), memory: verifier.machine.memory.clone() }
        };
        if stored && !self.has(Bug::UsedBeforeStored) {
            self.store(world, v);
        }
        let verifier = &mut world.verifiers[v];
        let seen = state_or_proof && verifier.machine.partner.seen_at() == Some(now);
        if !refused && seen {
            verifier.seen = Some(world.now);
        }
        !refused
    }

    fn keep(&self, world: &mut World, v: usize, partner: Partner) {
        world.verifiers[v].machine = Machine::of(partner);
        self.store(world, v);
    }

    /// Log and store, before anything relies on it.
    pub(crate) fn store(&self, world: &mut World, v: usize) {
        let verifier = &mut world.verifiers[v];
        let (machine, store) = (&verifier.machine, &mut verifier.store);
        let condemned = machine.partner.standing(at(world.now));
        let lost = self.has(Bug::VerdictNotStored)
            && matches!(condemned, Standing::Forked | Standing::RolledBack | Standing::Untrusted);
        if !lost && store.logged != machine.memory.digest {
            store.memory.clone_from(&machine.memory);
            store.logged = machine.memory.digest;
            store.log += 1;
            verifier.witnessed = store.log;
        }
        store.head = machine.partner.head();
    }

    pub(crate) fn crash(&self, world: &mut World, v: usize) {
        world.verifiers[v].pull = None;
        world.verifiers[v].seen = None;
        self.recall(world, v);
    }

    fn recall(&self, world: &mut World, v: usize) {
        let verifier = &mut world.verifiers[v];
        let Store { memory, logged, head, log } = &verifier.store;
        if self.has(Bug::MarksForgottenAtRestart) {
            let partner = self.universe.begun(self.universe.pinned(), at(world.now));
            verifier.machine = Machine::of(partner);
            verifier.head = None;
            return;
        }
        let logged = if self.has(Bug::RowsTrusted) { memory.digest } else { *logged };
        let own_log_is_old = *log < verifier.witnessed && !self.has(Bug::OldStoreServes);
        match Partner::recall(&memory.bytes, logged, *head, at(world.now)) {
            Ok(partner) if !own_log_is_old => {
                verifier.machine = Machine::of(partner);
                verifier.down = false;
            }
            Ok(_) | Err(_) => verifier.down = true, // it refuses to start
        }
    }

    /// Started on yesterday's database, or with yesterday's row in today's.
    pub(crate) fn restore(&self, world: &mut World, v: usize, whole: bool) {
        let verifier = &mut world.verifiers[v];
        let Some(backup) = verifier.backup.take() else { return };
        if whole {
            verifier.store = *backup;
        } else {
            verifier.store.memory = backup.memory;
        }
        self.crash(world, v);
        // A head is stored beside the memory and is in nobody's log: what is known of it goes back with the database.
        let verifier = &mut world.verifiers[v];
        verifier.head = verifier.machine.partner.head().map(|head| self.universe.of_head(head));
    }

    pub(crate) fn distrust(&self, world: &mut World, v: usize) {
        let honest = Served { branch: Branch::Honest, step: 0 };
        world.verifiers[v].untrusted = true;
        world.verifiers[v].pull = None;
        self.feed(world, v, PartnerEvent::Distrusted, honest);
    }

    /// Whether anything of the partner is relied on now.
    pub(crate) fn relies(&self, world: &World, v: usize) -> bool {
        let verifier = &world.verifiers[v];
        if verifier.down {
            return false;
        }
        let partner = &verifier.machine.partner;
        if self.has(Bug::ContradictionServes) && partner.standing(at(world.now)) == Standing::Inconsistent {
            return partner.state().is_some();
        }
        if self.has(Bug::StaleServes) {
            return partner.state().is_some() && partner.standing(at(world.now)) == Standing::Stale;
        }
        partner.fresh(at(world.now)).is_ok()
    }

    /// What each verifier relies on after a step, held against all that it relied on before.
    pub(crate) fn look(&self, world: &mut World) {
        for v in 0..world.verifiers.len() {
            if !self.relies(world, v) {
                continue;
            }
            let verifier = &mut world.verifiers[v];
            let partner = &verifier.machine.partner;
            let Some(state) = partner.state() else { continue };
            let (epoch, sequence) = (state.state().epoch, partner.bundle().bundle().sequence);
            let served = self.universe.of_state(state.digest());
            let relied = &mut verifier.relied;
            if epoch < relied.epoch || sequence < relied.sequence {
                world.breaches.insert(Breach::WentBack);
            }
            relied.epoch = relied.epoch.max(epoch);
            relied.sequence = relied.sequence.max(sequence);
            if served.step >= 2 {
                relied.branches.insert(served.branch);
            }
            if relied.branches.len() > 1 {
                world.breaches.insert(Breach::TwoHistories);
            }
            if served.branch == Branch::Stolen {
                world.breaches.insert(Breach::RetiredKey);
            }
            let in_time = verifier.seen.is_some_and(|seen| u64::from(world.now - seen) < STALENESS_UNITS);
            if !in_time {
                world.breaches.insert(Breach::Unseen);
            }
            // Of what was shown last, the state names another bundle, which is not the one relied on either.
            let named = verifier.shown.state.map(|state| self.universe.named_by(state));
            let known = [verifier.shown.bundle, Some(self.universe.named_by(served))];
            if named.is_some() && !known.contains(&named) {
                world.breaches.insert(Breach::Contradicted);
            }
            if verifier.condemned || verifier.untrusted {
                world.breaches.insert(Breach::Condemned);
            }
        }
    }

    /// A statement of the partner about a name.
    pub(crate) fn asserted(&self, world: &mut World, v: usize, name: &str) {
        let partner = &world.verifiers[v].machine.partner;
        let Ok(fresh) = partner.fresh(at(world.now)) else { return };
        let admitted = fresh.grant().admits_name(fresh.domain(), name).is_ok() || self.has(Bug::NamesNotCompared);
        if admitted && name != super::OWN_NAME {
            world.breaches.insert(Breach::ForeignName);
        }
    }

    /// No two verifiers rely on heads of two histories.
    pub(crate) fn one_log(&self, world: &World) -> bool {
        let heads: Vec<Served> = (0..world.verifiers.len())
            .filter(|v| self.relies(world, *v))
            .filter_map(|v| world.verifiers[v].machine.partner.head())
            .map(|head| self.universe.of_head(head))
            .collect();
        heads.iter().all(|one| heads.iter().all(|other| self.universe.agree(*one, *other)))
    }
}
