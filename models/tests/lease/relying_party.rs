//! Who relies on artifacts: lets an effect through, or not, by the artifact and its own clock.

use super::{
    Bug, LEASE_UNITS, LeaseModel, STALE_AFTER_UNITS,
    world::{Breach, View, World},
};

impl LeaseModel {
    /// It hears from a domain: epoch and revocations of now.
    pub(crate) fn refresh(&self, world: &mut World, domain: usize) {
        let d = &world.domains[domain];
        if d.down {
            return;
        }
        let ended = (0_u8..).zip(&d.database.rows).filter(|(_, row)| row.ended).map(|(id, _)| id);
        let view = View { at: Some(world.now), epoch: d.database.epoch, revoked: ended.collect() };
        world.relying_party.views[domain] = view;
    }

    pub(crate) fn restart_relying_party(&self, world: &mut World) {
        if self.has(Bug::HighWaterForgotten) {
            world.relying_party.seen.clear();
        }
    }

    /// A copy presents the artifact of one domain with what it wants done.
    pub(crate) fn effect(&self, world: &mut World, copy: usize, slot: usize) {
        let Some(verdict) = world.copies[copy].held[slot] else { return };
        let (now, domain) = (world.now, verdict.domain);
        let clock = i32::from(now) + self.config.relying_party_skew;
        let issued = i32::from(verdict.issued) + self.config.verifier_skew[domain];
        let window = issued - 1..issued + i32::from(LEASE_UNITS);
        let party = &mut world.relying_party;
        let view = &party.views[domain];
        let fresh = view.at.is_some_and(|at| now - at <= STALE_AFTER_UNITS);
        let key = (domain, verdict.id);
        let mine = (verdict.seq, copy);
        let sequence = party.seen.get(&key).copied();
        if sequence.is_some_and(|(seq, holder)| seq == verdict.seq && holder != copy) {
            party.alarm = true;
        }
        let newest = match sequence {
            None => true,
            Some((seq, holder)) => {
                verdict.seq > seq || (verdict.seq == seq && (holder == copy || self.has(Bug::EqualSeqOfAnother)))
            }
        };
        // One that hears of nobody knows windows and sequences alone: the lease is the hard bound.
        let fresh = fresh || !self.config.views;
        let accepted = (window.contains(&clock) || self.has(Bug::WindowIgnored))
            && (fresh || self.has(Bug::StaleViewServes))
            && !view.revoked.contains(&verdict.id)
            && view.epoch <= verdict.epoch
            && newest;
        if !accepted {
            return;
        }
        party.seen.insert(key, mine);
        let before = party.accepted.insert(key, mine);
        if before.is_some_and(|(seq, _)| seq > verdict.seq) {
            world.breaches.insert(Breach::SequenceWentBack);
        }
        if before.is_some_and(|(seq, holder)| seq == verdict.seq && holder != copy) {
            world.breaches.insert(Breach::TwoHolders);
        }
        if !fresh {
            world.breaches.insert(Breach::UnknownAccepted);
        }
        let denied = world.domains[domain].denied.get(&verdict.id);
        let error = u8::try_from(self.config.relying_party_skew.unsigned_abs()).expect("small");
        if now > verdict.issued + LEASE_UNITS + error {
            world.breaches.insert(Breach::EffectAfterLease);
        }
        if denied.is_some_and(|at| now > at + LEASE_UNITS + error) {
            world.breaches.insert(Breach::EffectAfterDenial);
        }
    }
}
