//! Model B: a partner's bundles, states, key rotation and log, as verifiers follow them, and the witness of that log.
//!
//! The partner publishes four steps, over which its issuer key rotates: prepared, active, the old one retired. Its word
//! may be replayed, rolled back, forked or signed by a thief; verifiers crash, and start on older databases.

mod clean;
mod seeded;
mod universe;
mod verifier;
mod witness;
mod world;

use std::sync::Arc;

use governance::partner::Standing;
use stateright::{Model, Property};

use universe::{Branch, LAST_STEP, NEW_KEY_FROM, Served, Universe, at};
use world::{Breach, Cosigning, Machine, Misfortunes, Relied, Shown, Stage, Store, Verifier, Witness, World};

/// Last unit of time that any size looks at.
pub(crate) const HORIZON_CAP: u8 = 8;
/// A name that the partner may speak of.
pub(crate) const OWN_NAME: &str = "spiffe://p.example/node/n1";
/// Names that it may not.
pub(crate) const FOREIGN_NAMES: [&str; 4] = [
    "spiffe://q.example/node/n1",
    "spiffe://p.example.q/node/n1",
    "spiffe://p.example/verifier",
    "spiffe://p.examples/node/n1",
];

/// One rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// What was refused as a rollback is pinned anew.
    TrustedAnewWhenRefused,
    /// A restart begins with the first pinned bundle.
    MarksForgottenAtRestart,
    /// What was seen is relied on before it is stored.
    UsedBeforeStored,
    /// That a partner was condemned or untrusted is not stored.
    VerdictNotStored,
    /// A database from before the newest witnessed head of our own log is served from.
    OldStoreServes,
    /// A row is believed without the digest that our own log names.
    RowsTrusted,
    /// A partner that was not seen for too long serves on.
    StaleServes,
    /// A partner whose state and bundle contradict each other serves on by what was held before.
    ContradictionServes,
    /// A log head is taken without proof that the log goes on.
    ConsistencyNotProven,
    /// Keys count before and after their windows.
    RetiredKeysCount,
    /// Heads count without a witness.
    QuorumNotNeeded,
    /// Names beyond the partner's own are admitted.
    NamesNotCompared,
    /// A witness signs before what it signs is durable.
    WitnessSignsFirst,
    /// A witness starts from nothing after a crash, under the same key.
    WitnessForgets,
    /// A witness needs no proof.
    WitnessProvesNothing,
    /// A witness stores without comparing what is held by then.
    WitnessSwapsBlindly,
}

/// One size of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) verifiers: usize,
    /// Steps published, and units passed, when it begins.
    pub(crate) begins: u8,
    pub(crate) horizon: u8,
    /// Heads count once the witness cosigned them; without, there is no witness.
    pub(crate) quorum: bool,
    pub(crate) misfortunes: Misfortunes,
}

#[derive(Clone)]
pub(crate) struct FederationModel {
    pub(crate) config: Config,
    pub(crate) bug: Option<Bug>,
    pub(crate) universe: Arc<Universe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Elapse,
    Publish,
    RollBack,
    Pull(usize, Served),
    PullOn(usize),
    Store(usize),
    Crash(usize),
    BackUp(usize),
    Restore(usize),
    RestoreRow(usize),
    Distrust(usize),
    Assert(usize, &'static str),
    Offer(Served),
    Cosign(Cosigning),
    CrashWitness,
}

impl FederationModel {
    pub(crate) fn new(config: Config, bug: Option<Bug>) -> Self {
        Self { config, bug, universe: Arc::new(Universe::of("p.example")) }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn new_verifier(&self) -> Verifier {
        let machine = Machine::of(self.universe.begun(self.universe.pinned(), at(0)));
        let store = Store { memory: machine.memory.clone(), logged: machine.memory.digest, head: None, log: 1 };
        Verifier {
            machine,
            store,
            backup: None,
            witnessed: 1,
            pull: None,
            down: false,
            relied: Relied::default(),
            seen: None,
            condemned: false,
            untrusted: false,
            shown: Shown::default(),
            head: None,
        }
    }

    /// What a pull could be answered with.
    fn answers(&self, world: &World) -> Vec<Served> {
        let serves = Served { branch: Branch::Honest, step: world.serves };
        let mut answers = vec![serves];
        let left = &world.left;
        if left.replays > 0 {
            answers.extend((0..world.published).map(|step| Served { branch: Branch::Honest, step }));
        }
        if left.equivocations > 0 && world.published >= 2 {
            answers.push(Served { branch: Branch::Twin, step: world.published });
        }
        if left.thefts > 0 && world.published >= 2 {
            answers.push(Served { branch: Branch::Stolen, step: LAST_STEP });
        }
        if left.tears > 0 && world.serves > 0 {
            answers.push(Served { branch: Branch::Torn, step: world.serves });
        }
        answers
    }

    fn actions_of(&self, world: &World, v: usize, out: &mut Vec<Action>) {
        let (verifier, left) = (&world.verifiers[v], &world.left);
        if verifier.down {
            return;
        }
        match verifier.pull {
            None => out.extend(self.answers(world).into_iter().map(|served| Action::Pull(v, served))),
            Some(_) => out.push(Action::PullOn(v)),
        }
        let unstored = verifier.store.logged != verifier.machine.memory.digest
            || verifier.store.head != verifier.machine.partner.head();
        if unstored && self.has(Bug::UsedBeforeStored) {
            out.push(Action::Store(v));
        }
        if left.crashes > 0 {
            out.push(Action::Crash(v));
        }
        if left.restores + left.rows_restored > 0 && verifier.backup.is_none() {
            out.push(Action::BackUp(v));
        }
        if verifier.backup.is_some() {
            if left.restores > 0 {
                out.push(Action::Restore(v));
            }
            if left.rows_restored > 0 {
                out.push(Action::RestoreRow(v));
            }
        }
        if left.distrusts > 0 && !verifier.untrusted {
            out.push(Action::Distrust(v));
        }
        out.extend(FOREIGN_NAMES.into_iter().chain([OWN_NAME]).map(|name| Action::Assert(v, name)));
    }

    fn actions_of_witness(&self, world: &World, out: &mut Vec<Action>) {
        if !self.config.quorum {
            return;
        }
        let mut shown = vec![Served { branch: Branch::Honest, step: world.serves }];
        if self.config.misfortunes.equivocations > 0 && world.published >= 2 {
            shown.push(Served { branch: Branch::Twin, step: world.published });
        }
        out.extend(shown.into_iter().filter(|served| !world.witness.cosigned.contains(served)).map(Action::Offer));
        out.extend(world.witness.under_way.iter().copied().map(Action::Cosign));
        if world.left.witness_crashes > 0 {
            out.push(Action::CrashWitness);
        }
    }

    fn begin_pull(&self, world: &mut World, v: usize, served: Served) {
        let serves = Served { branch: Branch::Honest, step: world.serves };
        world.verifiers[v].pull = Some((served, Stage::Bundle));
        if served != serves {
            world.honest = false;
            match served.branch {
                Branch::Honest => world.left.replays -= 1,
                Branch::Twin => world.left.equivocations -= 1,
                Branch::Stolen => world.left.thefts -= 1,
                Branch::Torn => world.left.tears -= 1,
            }
        }
    }

    fn elapse(&self, world: &mut World) {
        world.now += 1;
        // A pull lasts seconds; one that is not through by now has failed.
        world.verifiers.iter_mut().for_each(|verifier| verifier.pull = None);
    }
}

impl Model for FederationModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: self.config.begins,
            published: self.config.begins,
            serves: self.config.begins,
            verifiers: vec![self.new_verifier(); self.config.verifiers],
            witness: Witness::default(),
            left: self.config.misfortunes,
            breaches: Default::default(),
            honest: true,
        }]
    }

    fn actions(&self, world: &World, out: &mut Vec<Action>) {
        if world.now < self.config.horizon {
            out.push(Action::Elapse);
        }
        // From step 2 on states are signed by the new key, which is not used before its time.
        if world.published < LAST_STEP && (world.published < 1 || world.now >= NEW_KEY_FROM) {
            out.push(Action::Publish);
        }
        if world.left.rollbacks > 0 && world.serves > 0 {
            out.push(Action::RollBack);
        }
        (0..world.verifiers.len()).for_each(|v| self.actions_of(world, v, out));
        self.actions_of_witness(world, out);
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        let left = &mut world.left;
        match action {
            Action::Elapse => self.elapse(&mut world),
            Action::Publish => {
                world.published += 1;
                world.serves = world.published;
            }
            Action::RollBack => {
                left.rollbacks -= 1;
                world.serves -= 1;
                world.honest = false;
            }
            Action::Pull(v, served) => self.begin_pull(&mut world, v, served),
            Action::PullOn(v) => self.pull_on(&mut world, v),
            Action::Store(v) => self.store(&mut world, v),
            Action::Crash(v) => {
                left.crashes -= 1;
                self.crash(&mut world, v);
            }
            Action::BackUp(v) => {
                let verifier = &mut world.verifiers[v];
                verifier.backup = Some(Box::new(verifier.store.clone()));
            }
            Action::Restore(v) => {
                left.restores -= 1;
                self.restore(&mut world, v, true);
            }
            Action::RestoreRow(v) => {
                left.rows_restored -= 1;
                self.restore(&mut world, v, false);
            }
            Action::Distrust(v) => {
                left.distrusts -= 1;
                self.distrust(&mut world, v);
            }
            Action::Assert(v, name) => self.asserted(&mut world, v, name),
            Action::Offer(served) => self.offer(&mut world, served),
            Action::Cosign(cosigning) => self.cosign(&mut world, cosigning),
            Action::CrashWitness => {
                left.witness_crashes -= 1;
                self.crash_witness(&mut world);
            }
        }
        self.look(&mut world);
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn never<const B: u8>(_: &FederationModel, world: &World) -> bool {
            !world.breaches.iter().any(|breach| *breach as u8 == B)
        }
        let honest = |_: &Self, world: &World| !world.honest || !world.verifiers.iter().any(|v| v.condemned);
        let mut properties = vec![
            Property::always(I4, never::<{ Breach::WentBack as u8 }>),
            Property::always(HEADS, never::<{ Breach::HeadForked as u8 }>),
            Property::always(HISTORIES, never::<{ Breach::TwoHistories as u8 }>),
            Property::always(I7, never::<{ Breach::Unseen as u8 }>),
            Property::always(KEYS, never::<{ Breach::RetiredKey as u8 }>),
            Property::always(I5, never::<{ Breach::ForeignName as u8 }>),
            Property::always(CONTRADICTED, never::<{ Breach::Contradicted as u8 }>),
            Property::always(CONDEMNED, never::<{ Breach::Condemned as u8 }>),
            Property::always(COSIGNED, |model: &Self, world: &World| model.cosigned_one_history(world)),
            Property::always(HONEST, honest),
        ];
        if self.config.quorum {
            properties.push(Property::always(SPLIT, |model: &Self, world: &World| model.one_log(world)));
        }
        if self.bug.is_none() {
            properties.extend(self.possible());
        }
        properties
    }
}

impl FederationModel {
    /// What must be possible, so that nothing above holds only because nothing happens.
    fn possible(&self) -> Vec<Property<Self>> {
        fn stands(world: &World, standing: Standing) -> bool {
            world.verifiers.iter().any(|v| !v.down && v.machine.partner.standing(at(world.now)) == standing)
        }
        let rotated = |model: &Self, world: &World| {
            (0..world.verifiers.len()).any(|v| model.relies(world, v) && world.verifiers[v].relied.sequence == 3)
        };
        let stale = |_: &Self, world: &World| {
            stands(world, Standing::Stale) && world.verifiers.iter().any(|v| v.relied.epoch > 0)
        };
        let relied = |model: &Self, world: &World| (0..world.verifiers.len()).any(|v| model.relies(world, v));
        let mut possible = vec![Property::sometimes("relied on", relied)];
        if !self.config.quorum {
            possible.push(Property::sometimes("relied on after both rotations", rotated));
            possible.push(Property::sometimes("stale once it was relied on", stale));
        }
        let misfortunes = self.config.misfortunes;
        if misfortunes.rollbacks + misfortunes.replays > 0 {
            possible.push(Property::sometimes("condemned for a rollback", |_: &Self, world: &World| {
                stands(world, Standing::RolledBack)
            }));
        }
        if misfortunes.tears > 0 {
            possible.push(Property::sometimes("inconsistent once it was relied on", |_: &Self, world: &World| {
                stands(world, Standing::Inconsistent) && world.verifiers.iter().any(|v| v.relied.epoch > 0)
            }));
            let mended = |model: &Self, world: &World| {
                let relied = |v: usize| model.relies(world, v) && world.verifiers[v].relied.sequence == 3;
                world.left.tears == 0 && (0..world.verifiers.len()).any(relied)
            };
            possible.push(Property::sometimes("relied on after both were made to fit", mended));
        }
        if misfortunes.equivocations > 0 && !self.config.quorum {
            possible.push(Property::sometimes("condemned for a fork", |_: &Self, world: &World| {
                stands(world, Standing::Forked)
            }));
        }
        if misfortunes.restores + misfortunes.rows_restored > 0 {
            possible.push(Property::sometimes("an old database is refused", |_: &Self, world: &World| {
                world.verifiers.iter().any(|v| v.down)
            }));
        }
        possible
    }
}

pub(crate) const I4: &str = "I4: epochs and sequences relied on never go back";
pub(crate) const I5: &str = "I5: no name beyond the partner's own is admitted";
pub(crate) const I7: &str = "I7: a partner that was not seen is not relied on";
pub(crate) const HEADS: &str = "I4: each log head goes on from the one before";
pub(crate) const HISTORIES: &str = "one verifier never relies on two histories";
pub(crate) const KEYS: &str = "a retired key's state is never relied on";
pub(crate) const CONDEMNED: &str = "a condemned partner is never relied on again";
pub(crate) const CONTRADICTED: &str = "a partner whose state and bundle contradict each other is not relied on";
pub(crate) const COSIGNED: &str = "no two inconsistent heads are cosigned";
pub(crate) const SPLIT: &str = "no two verifiers rely on two histories of one log";
pub(crate) const HONEST: &str = "an honest partner is never condemned";
