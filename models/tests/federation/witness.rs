//! The witness of the partner's log: `audit::witness::judge`, then durable, then signed.

use audit::witness::{AddCheckpoint, judge};

use super::{
    Bug, FederationModel,
    universe::Served,
    world::{Cosigning, World},
};

impl FederationModel {
    /// A request with whatever proof the log can give.
    pub(crate) fn offer(&self, world: &mut World, shown: Served) {
        let held = world.witness.held.map(|held| self.universe.checkpoint(held));
        let old = held.map_or(0, |held| held.size);
        let proof = if old == 0 { Vec::new() } else { self.universe.proof(old, shown) };
        let request = AddCheckpoint { old, proof, note: String::new() };
        let judged = judge(&request, self.universe.checkpoint(shown), held);
        if judged.is_err() && !self.has(Bug::WitnessProvesNothing) {
            return;
        }
        world.witness.under_way.insert(Cosigning { shown, over: world.witness.held, durable: false });
    }

    pub(crate) fn cosign(&self, world: &mut World, cosigning: Cosigning) {
        let witness = &mut world.witness;
        witness.under_way.remove(&cosigning);
        let Cosigning { shown, over, durable } = cosigning;
        if durable || self.has(Bug::WitnessSignsFirst) {
            witness.cosigned.insert(shown);
            if !durable {
                witness.under_way.insert(Cosigning { durable: true, ..cosigning });
            }
            if durable && self.has(Bug::WitnessSignsFirst) {
                witness.held = Some(shown);
            }
            return;
        }
        // Compare-and-swap: what it was judged over is still what is held.
        if witness.held != over && !self.has(Bug::WitnessSwapsBlindly) {
            return;
        }
        witness.held = Some(shown);
        witness.under_way.insert(Cosigning { durable: true, ..cosigning });
    }

    pub(crate) fn crash_witness(&self, world: &mut World) {
        world.witness.under_way.clear();
        if self.has(Bug::WitnessForgets) {
            world.witness.held = None;
        }
    }

    pub(crate) fn cosigned_one_history(&self, world: &World) -> bool {
        let cosigned = &world.witness.cosigned;
        cosigned.iter().all(|one| cosigned.iter().all(|other| self.universe.agree(*one, *other)))
    }
}
